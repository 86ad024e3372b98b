import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { LabError } from '../../../lib/lab/errors.js';
import {
  encodeFrame,
  type Frame,
  FrameDecoder,
  frameType,
  readyMark,
  stdinWindow,
} from '../../../lib/lab/frames.js';
import { Run, type RunOptions } from '../../../lib/lab/run.js';

/** A run whose frames go nowhere but into `sent`. */
function startRun(options: RunOptions) {
  const decoder = new FrameDecoder();
  decoder.push(encodeFrame(frameType.ready, readyMark));
  const sent: Frame[] = [];
  const run = new Run(1, Buffer.alloc(0), options, {
    send: (bytes) => sent.push(...decoder.push(bytes)),
    error: (code, message) => new LabError(code, message),
  });
  const receive = (type: number, payload: Uint8Array) =>
    run.receive({ type, run: 1, payload: Buffer.from(payload) });
  return { run, sent, receive };
}

const stdinLength = (sent: readonly Frame[]) =>
  sent.filter(({ type }) => type === frameType.stdin).reduce((sum, { payload }) => sum + payload.length, 0);

/** Lets everything go on that can. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) {
    await turn();
  }
}

describe('a run', () => {
  test('ends with its exit code', async () => {
    const { run, receive } = startRun({});
    receive(frameType.stdout, Buffer.from('out'));
    receive(frameType.stderr, Buffer.from('err'));
    receive(frameType.exit, Uint8Array.of(3, 0));
    await expect(run.ended).resolves.toEqual({ code: 3, signal: null });
    expect([run.stdout, run.stderr]).toEqual(['out', 'err']);
  });

  test('ended by signal n has code 128 + n', async () => {
    const { run, receive } = startRun({});
    receive(frameType.exit, Uint8Array.of(0, 15));
    await expect(run.ended).resolves.toEqual({ code: 143, signal: 'SIGTERM' });
  });

  test('without stdin gets its end at once', async () => {
    const { sent } = startRun({});
    await settle();
    expect(sent.map(({ type }) => type)).toEqual([frameType.start, frameType.stdin]);
  });

  test('is never sent more stdin than the agent stores', async () => {
    const { sent, receive } = startRun({ stdin: Buffer.alloc(200_000) });
    await settle();
    expect(stdinLength(sent)).toBe(stdinWindow);
    const taken = Buffer.alloc(4);
    taken.writeUInt32LE(stdinWindow);
    receive(frameType.taken, taken);
    await settle();
    expect(stdinLength(sent)).toBe(2 * stdinWindow);
  });

  test('destroys the stream that it reads when it ends', async () => {
    const stdin = new Readable({ read() {} });
    const { run, receive } = startRun({ stdin });
    receive(frameType.exit, Uint8Array.of(0, 0));
    await run.ended;
    expect(stdin.destroyed).toBe(true);
  });

  test('fails when its stdin does, and kills the command', async () => {
    const stdin = Readable.from(
      (async function* () {
        yield 'one';
        throw new Error('no more');
      })(),
    );
    const { run, sent } = startRun({ stdin });
    await expect(run.ended).rejects.toThrow('no more');
    expect(sent.at(-1)).toMatchObject({ type: frameType.signal, payload: Buffer.of(9) });
  });

  test('that takes too long is killed', async () => {
    const { run, sent } = startRun({ timeout: 0.01 });
    await expect(run.ended).rejects.toMatchObject({ code: 'ERR_IOSPACE_LAB_TIMEOUT' });
    expect(sent.at(-1)).toMatchObject({ type: frameType.signal, payload: Buffer.of(9) });
  });

  test('that is aborted is killed', async () => {
    const abort = new AbortController();
    const { run, sent } = startRun({ signal: abort.signal });
    abort.abort('enough');
    await expect(run.ended).rejects.toMatchObject({ code: 'ABORT_ERR', cause: 'enough' });
    expect(sent.at(-1)).toMatchObject({ type: frameType.signal, payload: Buffer.of(9) });
  });

  test('hands output to listeners instead of collecting it', async () => {
    const pieces: string[] = [];
    const { run, receive } = startRun({ onStdout: (bytes) => pieces.push(String(bytes)) });
    receive(frameType.stdout, Buffer.from('a'));
    receive(frameType.stdout, Buffer.from('b'));
    expect(pieces).toEqual(['a', 'b']);
    expect(run.stdout).toBe('');
  });

  test('that writes without end is not collected without end', async () => {
    const { run, receive } = startRun({});
    const piece = Buffer.alloc(1 << 20);
    for (let i = 0; i <= 64; i++) {
      receive(frameType.stdout, piece);
    }
    await expect(run.ended).rejects.toMatchObject({ code: 'ERR_IOSPACE_LAB_OUTPUT' });
  });
});
