/**
 * Buffers whose turns are checked, over real memory of the real addon: in the device's turn nobody has a view of it, and in
 * the next one of the CPU it is what it was.
 */
import { inspect } from 'node:util';
import * as workerThreads from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AllocOptions, type DmaBuffer, DmaDevice } from '../../lib/index.js';
import { runChild } from './child.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

let device: DmaDevice;
const alloc = (byteLength = 5000): DmaBuffer => device.alloc(byteLength, { ownership: 'checked' });
beforeEach(() => {
  device = DmaDevice.open({ provider: 'memfd' });
});
afterEach(() => {
  device.close();
});

test.each<[unknown, string]>([
  ['strict', 'ERR_INVALID_ARG_VALUE'],
  [true, 'ERR_INVALID_ARG_VALUE'],
])('ownership: %o is %s', (ownership, expected) => {
  expect(() => device.alloc(1, { ownership } as AllocOptions)).toThrow(code(expected));
});

test('memory changes hands and keeps its content', () => {
  const buffer = alloc();
  for (let turn = 1; turn < 5; turn++) {
    const [bytes, words, whole] = [buffer.bytes, buffer.view(Uint32Array, 4), buffer.buffer];
    expect(bytes[turn - 1]).toBe(turn - 1);
    bytes[turn] = turn;
    buffer.syncForDevice();
    expect([bytes.length, words.length, whole.byteLength]).toEqual([0, 0, 0]);
    buffer.syncForCpu();
    const next = buffer.bytes;
    // One view for each turn, made once.
    expect([next === bytes, next === buffer.bytes]).toEqual([false, true]);
  }
  expect([...buffer.bytes.subarray(0, 6)]).toEqual([0, 1, 2, 3, 4, 0]);
});

describe("in the device's turn", () => {
  test.each<[string, (buffer: DmaBuffer) => unknown]>([
    ['buffer', (buffer) => buffer.buffer],
    ['bytes', (buffer) => buffer.bytes],
    ['view', (buffer) => buffer.view(Uint8Array)],
    ['bytes of a slice', (buffer) => buffer.subarray(1, 2).bytes],
  ])('%s is ERR_INVALID_STATE, whether it was used before or not', (_name, use) => {
    for (const before of [() => undefined, use]) {
      const buffer = alloc();
      before(buffer);
      buffer.syncForDevice();
      expect(() => use(buffer)).toThrow(code('ERR_INVALID_STATE'));
      expect(() => use(buffer)).toThrow("it is the device's turn: syncForCpu() ends it");
      buffer.syncForCpu();
      use(buffer);
    }
  });

  test('what is no memory can be asked', () => {
    const buffer = alloc();
    buffer.syncForDevice();
    expect(buffer.byteLength).toBe(5000);
    expect(buffer.segments).toEqual([]);
    expect(buffer.subarray(1, 3).byteLength).toBe(2);
    expect(inspect(buffer)).toBe(
      'DmaBuffer { byteLength: 5000, memory: cached, turn: device, freed: false }',
    );
    buffer.free();
    expect(inspect(buffer)).toBe('DmaBuffer { byteLength: 5000, memory: cached, freed: true }');
  });

  test('it can be freed, and its device closed', () => {
    const [freed, left] = [alloc(), alloc()];
    freed.bytes.fill(1);
    left.bytes.fill(1);
    freed.syncForDevice();
    left.syncForDevice();
    freed.free();
    freed.free();
    expect(freed.freed).toBe(true);
    expect(() => freed.syncForCpu()).toThrow(code('ERR_INVALID_STATE'));
    device.close();
    expect(left.freed).toBe(true);
    expect(() => left.syncForCpu()).toThrow('the buffer was freed');
  });
});

test('a turn does not begin twice', () => {
  const buffer = alloc();
  expect(() => buffer.syncForCpu()).toThrow("it is the CPU's turn already");
  expect(() => buffer.syncForCpu()).toThrow(code('ERR_INVALID_STATE'));
  buffer.syncForDevice();
  expect(() => buffer.syncForDevice()).toThrow("it is the device's turn already");
  buffer.syncForCpu();
  buffer.bytes.fill(1);
});

test('it changes hands as a whole', () => {
  const buffer = alloc();
  const refused = /^EOPNOTSUPP: .*changes hands as a whole: no range of it, and no slice$/;
  for (const sync of [
    () => buffer.syncForDevice(0, 1),
    () => buffer.syncForDevice(1),
    () => buffer.syncForDevice(5000),
    () => buffer.syncForDevice([]),
    () =>
      buffer.syncForDevice([
        { offset: 0, length: 2500 },
        { offset: 2500, length: 2500 },
      ]),
    () => buffer.subarray(1).syncForDevice(),
    () => buffer.syncForCpu(0, 1),
  ]) {
    expect(sync).toThrow(refused);
  }
  expect(() => buffer.syncForDevice(0, 6000)).toThrow(code('ERR_OUT_OF_RANGE'));
  expect(buffer.bytes).toHaveLength(5000);
  buffer.syncForDevice(0, 5000);
  buffer.syncForCpu([{ offset: 0, length: 5000 }]);
});

test('one that is not checked keeps its ArrayBuffer', () => {
  const buffer = device.alloc(4096, { ownership: 'unchecked' });
  const { bytes } = buffer;
  buffer.syncForDevice();
  buffer.syncForDevice(1, 2);
  expect(buffer.bytes).toBe(bytes);
  expect(bytes).toHaveLength(4096);
});

test.skipIf(!('transfer' in ArrayBuffer.prototype))(
  'memory that was carried off cannot be taken back',
  () => {
    const buffer = alloc();
    const carried = (buffer.buffer as ArrayBuffer & { transfer(): ArrayBuffer }).transfer();
    expect(() => buffer.syncForDevice()).toThrow(code('ERR_INVALID_STATE'));
    expect(() => buffer.syncForDevice()).toThrow(/was transferred, or marked untransferable/);
    expect(carried.byteLength).toBe(5000);
    new Uint8Array(carried).fill(1);
    buffer.free();
    expect(new Uint8Array(carried).every((byte) => byte === 0)).toBe(true);
  },
);

test('memory that was marked untransferable is taken back where that is possible, and never by force', () => {
  const buffer = alloc();
  const { bytes } = buffer;
  workerThreads.markAsUntransferable(buffer.buffer);
  // It can be detached until Node 24.
  if (Number(process.versions.node.split('.')[0]) < 24) {
    buffer.syncForDevice();
    expect(bytes).toHaveLength(0);
  } else {
    expect(() => buffer.syncForDevice()).toThrow(code('ERR_INVALID_STATE'));
    expect(buffer.bytes).toBe(bytes);
  }
  buffer.free();
});

test('a postMessage between turns copies or is refused', () => {
  const { port1 } = new workerThreads.MessageChannel();
  const buffer = alloc();
  buffer.bytes[0] = 5;
  try {
    port1.postMessage(buffer.buffer, [buffer.buffer]);
  } catch (error) {
    expect((error as Error).name).toBe('DataCloneError');
  }
  buffer.syncForDevice();
  buffer.syncForCpu();
  expect(buffer.bytes[0]).toBe(5);
  port1.close();
});

test('thousands of turns, some of them with nobody looking, leave nothing behind', async () => {
  const { stdout, stderr, code } = await runChild(
    `import { DmaDevice } from 'iospace';
     import { readFileSync } from 'node:fs';
     const device = DmaDevice.open({ provider: 'memfd' });
     const buffer = device.alloc(1 << 20, { ownership: 'checked' });
     const mapped = () => readFileSync('/proc/self/maps', 'utf8').split('/memfd:iospace').length - 1;
     for (let turn = 0; turn < 2000; turn++) {
       if (turn % 3 !== 0) { buffer.bytes[turn] = turn; }
       buffer.syncForDevice();
       buffer.syncForCpu();
       if (turn % 100 === 0) { gc(); await new Promise(setImmediate); }
     }
     console.log(mapped(), buffer.bytes[1999] === 1999 % 256);
     (() => { device.alloc(8192, { ownership: 'checked' }).syncForDevice(); })();
     process.on('warning', ({ name, message }) => console.log(name, /8192 bytes/.test(message)));
     for (let n = 0; n < 10; n++) { gc(); await new Promise((resolve) => setTimeout(resolve, 10)); }
     buffer.free();
     console.log(mapped());`,
    ['--expose-gc', '--no-warnings'],
  );
  expect({ stdout, stderr, code }).toEqual({
    stdout: '1 true\nIospaceLeakWarning true\n0\n',
    stderr: '',
    code: 0,
  });
});
