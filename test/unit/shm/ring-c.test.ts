/** A program in C as the other side of a ring: `ring-peer.c`, written from what docs/ring.md says of the words. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type PosixMemory, posix, Ring, type RingKind } from '../../../lib/shm/index.js';
import { compiled, hasCompiler } from './c-program.js';

const MESSAGES = 20_000;

/** As fill() of ring-peer.c. */
function message(serial: number): Uint8Array {
  const bytes = new Uint8Array(4 + (serial % 40)).fill(serial);
  new Uint32Array(bytes.buffer, 0, 1)[0] = serial;
  return bytes;
}

describe.skipIf(!hasCompiler)('a program in C (needs cc)', () => {
  const program = compiled('ring-peer.c');
  let memory: PosixMemory;
  let counter = 0;
  beforeEach(() => {
    const name = `/iospace-ring-c-${process.pid}-${counter++}`;
    memory = posix.open(name, { create: true, exclusive: true, size: 1024 + 8192 });
  });
  afterEach(() => {
    memory.close();
    memory.unlink();
  });

  function create(kind: RingKind): void {
    Ring.create(memory, { kind });
  }

  /** Starts it. Resolves with how it ended. */
  async function peer(what: string, count = 0) {
    const child = spawn(program.path, [`/dev/shm${memory.name}`, what, `${count}`]);
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk;
    });
    const [code, signal] = await once(child, 'close');
    return { code, signal, said };
  }
  const well = { code: 0, signal: null, said: '' };

  test('takes messages of all lengths out of a ring', async () => {
    create('single');
    using producer = Ring.producer(memory);
    const ended = peer('consume', MESSAGES);
    for (let serial = 0; serial < MESSAGES; serial++) {
      await producer.send(message(serial), { timeout: 20_000 });
    }
    expect(await ended).toEqual(well);
    expect(producer.peer).toBe('closed');
  });

  test('puts messages of all lengths into a ring, and says when it leaves', async () => {
    create('single');
    using consumer = Ring.consumer(memory);
    const ended = peer('produce', MESSAGES);
    let serial = 0;
    for (;;) {
      const received = await consumer.receive({ timeout: 20_000 });
      if (received === undefined) {
        break;
      }
      if (Buffer.compare(received, message(serial)) !== 0) {
        throw new Error(`message ${serial} is ${Buffer.from(received).toString('hex')}`);
      }
      serial++;
    }
    expect(serial).toBe(MESSAGES);
    expect(await ended).toEqual(well);
  });

  test('is one of many senders; a slot that it dies with is passed over', async () => {
    create('many');
    using consumer = Ring.consumer(memory);
    using sender = Ring.sender(memory);
    expect(await peer('die')).toMatchObject({ signal: 'SIGKILL' });
    const ended = peer('send', MESSAGES);
    let ours = 0;
    for (let theirs = 0; theirs < MESSAGES; ) {
      if (ours < 100 && sender.trySend(Uint8Array.of(ours))) {
        ours++;
      }
      const received = (await consumer.receive({ timeout: 20_000 })) ?? new Uint8Array();
      if (received.length !== 1) {
        if (Buffer.compare(received, message(theirs)) !== 0) {
          throw new Error(`message ${theirs} is ${Buffer.from(received).toString('hex')}`);
        }
        theirs++;
      }
    }
    expect(ours).toBe(100);
    expect(await ended).toEqual(well);
  });

  test('is told by the header that this is another kind of ring', async () => {
    create('many');
    expect(await peer('produce', 1)).toMatchObject({ code: 1, said: expect.stringContaining('the header') });
  });
});
