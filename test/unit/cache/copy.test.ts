/** Copies, fills and comparisons from JavaScript: ranges, kinds of memory, refusals. test/native/copy has the kernels. */
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type CopyMemory,
  capabilities,
  compare,
  copyFrom,
  copyTo,
  fill,
  type Memory,
} from '../../../lib/cache/index.js';
import { DmaDevice } from '../../../lib/index.js';
import { memfd } from '../../../lib/shm/index.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });
const counting = (length: number) => Uint8Array.from({ length }, (_, index) => index * 7 + (index >> 8));

const memories: CopyMemory[] = ['cached', 'writecombine', 'uncached', 'writethrough', 'device'];
const ways = capabilities().copies.flatMap((kernels) => memories.map((memory) => ({ kernels, memory })));

let device: DmaDevice;
beforeEach(() => {
  device = DmaDevice.open({ provider: 'memfd' });
});
afterEach(() => {
  device.close();
});

describe.each([{}, ...ways])('with %o', (way) => {
  test('a range is copied out, in, filled and compared, and nothing beside it', () => {
    const buffer = device.alloc(70_000);
    const source = counting(66_000);
    copyTo(source, buffer, { ...way, offset: 13 });
    expect(buffer.bytes.subarray(0, 13)).toEqual(new Uint8Array(13));
    expect(Buffer.compare(buffer.bytes.subarray(13, 66_013), source)).toBe(0);
    expect(buffer.bytes.subarray(66_013).every((byte) => byte === 0)).toBe(true);

    const target = new Uint8Array(5000).fill(0xee);
    copyFrom(buffer, target, { ...way, offset: 113, targetOffset: 7, length: 4000 });
    expect(Buffer.compare(target.subarray(7, 4007), source.subarray(100, 4100))).toBe(0);
    expect(target.subarray(0, 7).every((byte) => byte === 0xee)).toBe(true);
    expect(target.subarray(4007).every((byte) => byte === 0xee)).toBe(true);

    expect(compare(buffer, source, { ...way, offset: 13 })).toBe(-1);
    fill(buffer, 0x5a, { ...way, offset: 1013, length: 1 });
    expect(compare(buffer, source, { ...way, offset: 13 })).toBe(1000);
    expect(compare(buffer, source, { ...way, offset: 14, otherOffset: 1, length: 999 })).toBe(-1);
  });
});

describe('without options', () => {
  test.each([0, 1, 64, 4096, 2 ** 20, 3 * 2 ** 20 + 5])('%i bytes', (length) => {
    const source = counting(length);
    const target = new Uint8Array(length);
    copyFrom(source, target);
    expect(Buffer.compare(source, target)).toBe(0);
    target.fill(0);
    copyTo(source, target);
    expect(Buffer.compare(source, target)).toBe(0);
    expect(compare(source, target)).toBe(-1);
    fill(target, 3);
    expect(target.every((byte) => byte === 3)).toBe(true);
  });

  test('the target is filled, however long the buffer is; all of the source is written', () => {
    const source = counting(100);
    const target = new Uint8Array(60);
    copyFrom(source, target);
    expect(target).toEqual(source.subarray(0, 60));
    const long = new Uint8Array(200);
    copyTo(source, long);
    expect(long.subarray(0, 100)).toEqual(source);
    expect(long.subarray(100)).toEqual(new Uint8Array(100));
  });
});

test.each<[string, (bytes: Uint8Array<ArrayBuffer>) => Memory]>([
  ['a Float64Array', ({ buffer }) => new Float64Array(buffer)],
  ['a DataView', ({ buffer }) => new DataView(buffer)],
  ['an ArrayBuffer', ({ buffer }) => buffer],
  ['bytes', (bytes) => ({ bytes })],
])('from %s into one', (_what, show) => {
  const source = counting(800);
  const target = new Uint8Array(800);
  copyFrom(show(source), show(target));
  expect(target).toEqual(source);
  target.fill(0);
  copyTo(show(source), show(target), { offset: 0 });
  expect(target).toEqual(source);
});

test('a SharedArrayBuffer, and memory of another process', () => {
  const source = counting(4096);
  const shared = new SharedArrayBuffer(4096);
  copyTo(source, shared);
  using memory = memfd.create('iospace', { size: 4096 });
  copyFrom(shared, memory);
  expect(compare(memory, source)).toBe(-1);
});

test.each(memories)('ranges of %s memory that overlap are copied as if elsewhere first', (memory) => {
  for (const [from, to] of [
    [100, 0],
    [0, 100],
    [1, 0],
    [0, 1],
    [5000, 4000],
    [4000, 5000],
  ] as const) {
    const bytes = counting(20_000);
    const expected = Uint8Array.from(bytes);
    expected.copyWithin(to, from, from + 12_345);
    copyFrom(bytes, bytes, { memory, offset: from, targetOffset: to, length: 12_345 });
    expect(Buffer.compare(bytes, expected)).toBe(0);
    copyTo(bytes, bytes, { memory, offset: to, sourceOffset: from, length: 0 });
    expect(Buffer.compare(bytes, expected)).toBe(0);
  }
});

describe('refused are', () => {
  const bytes = new Uint8Array(100);
  const other = new Uint8Array(100);

  test.each<[string, () => unknown, string]>([
    ['a target longer than the buffer', () => copyFrom(bytes.subarray(1), other), 'ERR_OUT_OF_RANGE'],
    ['a source longer than the buffer', () => copyTo(bytes, other.subarray(1)), 'ERR_OUT_OF_RANGE'],
    ['a buffer too short to compare', () => compare(bytes.subarray(1), other), 'ERR_OUT_OF_RANGE'],
    ['an offset', () => copyFrom(bytes, other, { offset: 101, length: 0 }), 'ERR_OUT_OF_RANGE'],
    ['a target offset', () => copyFrom(bytes, other, { targetOffset: 101 }), 'ERR_OUT_OF_RANGE'],
    ['a source offset', () => copyTo(bytes, other, { sourceOffset: -1 }), 'ERR_OUT_OF_RANGE'],
    ['another offset', () => compare(bytes, other, { otherOffset: 1.5 }), 'ERR_OUT_OF_RANGE'],
    ['a length', () => copyFrom(bytes, other, { length: 101 }), 'ERR_OUT_OF_RANGE'],
    ['a range to fill', () => fill(bytes, 0, { offset: 50, length: 51 }), 'ERR_OUT_OF_RANGE'],
    ['a value', () => fill(bytes, 256), 'ERR_OUT_OF_RANGE'],
    ['a text', () => fill(bytes, '0' as unknown as number), 'ERR_INVALID_ARG_TYPE'],
    ['no buffer', () => copyFrom(undefined as unknown as Memory, other), 'ERR_INVALID_ARG_TYPE'],
    ['no target', () => copyFrom(bytes, [] as unknown as Memory), 'ERR_INVALID_ARG_TYPE'],
    ['a memory', () => copyFrom(bytes, other, { memory: 'warm' as 'cached' }), 'ERR_INVALID_ARG_VALUE'],
    ['kernels', () => copyTo(bytes, other, { kernels: 'avx1024' }), 'ERR_INVALID_ARG_VALUE'],
    ['an option', () => copyTo(bytes, other, { from: 1 } as object), 'ERR_INVALID_ARG_VALUE'],
    ['options of another call', () => fill(bytes, 0, { otherOffset: 1 } as object), 'ERR_INVALID_ARG_VALUE'],
  ])('%s', (_what, call, expected) => {
    expect(call).toThrow(code(expected));
  });

  test('what is detached or freed', () => {
    const gone = new Uint8Array(100);
    structuredClone(gone, { transfer: [gone.buffer] });
    const buffer = device.alloc(100);
    const { bytes: freed } = buffer;
    buffer.free();
    for (const memory of [gone, buffer, freed]) {
      expect(() => copyFrom(memory, other)).toThrow(code('ERR_INVALID_STATE'));
      expect(() => copyFrom(other, memory)).toThrow(code('ERR_INVALID_STATE'));
      expect(() => copyTo(other, memory)).toThrow(code('ERR_INVALID_STATE'));
      expect(() => copyTo(memory, other)).toThrow(code('ERR_INVALID_STATE'));
      expect(() => fill(memory, 0)).toThrow(code('ERR_INVALID_STATE'));
      expect(() => compare(memory, other)).toThrow(code('ERR_INVALID_STATE'));
    }
  });
});

describe('memory that changes while options are read', () => {
  const detaching = (bytes: Uint8Array) => ({
    get memory() {
      structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] });
      return 'cached' as const;
    },
  });

  test.each<[string, (bytes: Uint8Array) => unknown]>([
    ['copyFrom', (bytes) => copyFrom(bytes, new Uint8Array(100), detaching(bytes))],
    ['copyTo', (bytes) => copyTo(new Uint8Array(100), bytes, detaching(bytes))],
    ['fill', (bytes) => fill(bytes, 1, detaching(bytes))],
    ['compare', (bytes) => compare(bytes, new Uint8Array(100), detaching(bytes))],
  ])('%s touches nothing, and says so', (_, call) => {
    expect(() => call(new Uint8Array(100))).toThrow(code('ERR_INVALID_STATE'));
  });
});

test('memory of another context is memory', () => {
  const { shared, own, view, bytes } = runInNewContext(
    '({ shared: new SharedArrayBuffer(8), own: new ArrayBuffer(8), view: new DataView(new ArrayBuffer(8)), bytes: new Uint8Array(8) })',
  );
  for (const memory of [shared, own, view, bytes, { bytes }]) {
    fill(memory, 7);
    expect(compare(memory, new Uint8Array(8).fill(7))).toBe(-1);
  }
});

test('a DataView that its buffer has become too short for is refused', () => {
  // TypeScript's library for ES2022 has none that can be resized.
  const { buffer, view } = runInNewContext(
    'const buffer = new ArrayBuffer(64, { maxByteLength: 64 }); ({ buffer, view: new DataView(buffer, 32, 32) })',
  );
  buffer.resize(16);
  expect(() => fill(view, 1)).toThrow(code('ERR_INVALID_STATE'));
});
