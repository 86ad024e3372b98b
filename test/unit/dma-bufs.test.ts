/** Dma-bufs both ways, against a fake device. */
import { inspect } from 'node:util';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { systemError } from '../../lib/errors.js';
import { DmaDevice } from '../../lib/index.js';
import { FakeDevice } from './fake-device.js';

let fake: FakeDevice;
vi.mock('../../lib/binding.js', () => ({ binding: () => fake.native }));

const code = (expected: string): unknown => expect.objectContaining({ code: expected });
const open = (): DmaDevice => DmaDevice.open('/dev/null');

const CACHED = 1 << 1;
const COHERENT = 1 << 5;

beforeEach(() => {
  fake = new FakeDevice({ info: { memoryTypes: CACHED | COHERENT } });
});

describe('exportDmaBuf()', () => {
  test('exports whole pages', () => {
    using device = open();
    const buffer = device.alloc(10_000, { memory: 'cached' });
    expect(buffer.exportDmaBuf()).toBe(1001);
    buffer.exportDmaBuf({ offset: 4096, readOnly: true });
    buffer.exportDmaBuf({ offset: 4096, length: 4096 });
    buffer.exportDmaBuf({ length: 10_000, readOnly: false });
    buffer.exportDmaBuf({ length: 12_288 });
    expect(fake.exports).toEqual([
      '0x0 0x3000 0',
      '0x1000 0x2000 1',
      '0x1000 0x1000 0',
      '0x0 0x3000 0',
      '0x0 0x3000 0',
    ]);
  });

  test.each([
    [{ offset: 1 }, 'ERR_OUT_OF_RANGE'],
    [{ offset: 12_288 }, 'ERR_OUT_OF_RANGE'],
    [{ offset: -4096 }, 'ERR_OUT_OF_RANGE'],
    [{ offset: '0' }, 'ERR_INVALID_ARG_TYPE'],
    [{ length: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ length: 100 }, 'ERR_OUT_OF_RANGE'],
    [{ length: 16_384 }, 'ERR_OUT_OF_RANGE'],
    [{ offset: 4096, length: 10_000 }, 'ERR_OUT_OF_RANGE'],
    [{ readOnly: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ readonly: true }, 'ERR_INVALID_ARG_VALUE'],
  ])('of %o is %s', (options, expected) => {
    using device = open();
    const buffer = device.alloc(10_000, { memory: 'cached' });
    expect(() => buffer.exportDmaBuf(options as object)).toThrow(code(expected));
    expect(fake.exports).toEqual([]);
  });

  test('of other memory than cached is EOPNOTSUPP, and says why', () => {
    using device = open();
    expect(() => device.alloc(4096).exportDmaBuf()).toThrow(
      "EOPNOTSUPP: operation not supported, exportDmaBuf: only cached memory has pages of its own: alloc with memory: 'cached', not 'coherent'",
    );
    const buffer = device.alloc(4096, { memory: 'cached' });
    fake.error = systemError(95, 'ioctl');
    expect(() => buffer.exportDmaBuf()).toThrow(/^EOPNOTSUPP: .*this kernel has no dma-buf$/);
    buffer.free();
    expect(() => buffer.exportDmaBuf()).toThrow(code('ERR_INVALID_STATE'));
  });
});

describe('importDmaBuf()', () => {
  test('gives what the device is told, and the view of the CPU', () => {
    using device = open();
    fake.dmaBufs.set(7, { byteLength: 8192 });
    const buffer = device.importDmaBuf(7);
    expect(fake.imports).toEqual([[7, 3]]);
    expect(buffer).toMatchObject({
      byteLength: 8192,
      direction: 'bidirectional',
      readOnly: false,
      released: false,
    });
    expect(buffer.segments.map(({ length }) => length)).toEqual([4096, 4096]);
    expect(() => buffer.dmaAddress).toThrow(code('EOPNOTSUPP'));
    expect(buffer.bytes).toHaveLength(8192);
    expect(buffer.view(Uint32Array, 4096)).toHaveLength(1024);
    expect(buffer.read(1, 2)).toEqual(new Uint8Array(2));
  });

  test('changes hands as a whole', () => {
    using device = open();
    fake.dmaBufs.set(7, { byteLength: 8192 });
    const buffer = device.importDmaBuf(7, { direction: 'fromDevice' });
    buffer.syncForCpu();
    buffer.syncForDevice();
    expect(fake.syncs).toEqual(['2 0x0 0x2000', '1 0x0 0x2000']);
    expect(fake.barriers).toBe(2);
  });

  test('of a read-only descriptor is for reading: by copies', () => {
    using device = open();
    fake.dmaBufs.set(7, { byteLength: 8192, readOnly: true });
    expect(() => device.importDmaBuf(7)).toThrow(/^EACCES: .*direction: 'toDevice'$/);
    const buffer = device.importDmaBuf(7, { direction: 'toDevice' });
    expect(buffer.readOnly).toBe(true);
    expect(() => buffer.bytes).toThrow(/^EACCES: .*read\(\) copies$/);
    expect(buffer.read()).toHaveLength(8192);
    expect(() => buffer.read(8000, 200)).toThrow(code('ERR_OUT_OF_RANGE'));
  });

  test('of what cannot be mapped has addresses, and says why it has no bytes', () => {
    using device = open();
    fake.dmaBufs.set(7, { byteLength: 4096, mmapError: systemError(22, 'mmap') });
    const buffer = device.importDmaBuf(7);
    expect(buffer.dmaAddress).toBe(1n << 32n);
    for (const use of [() => buffer.bytes, () => buffer.buffer, () => buffer.read()]) {
      expect(use).toThrow(/^EOPNOTSUPP: .*the driver that exported it does not let it be mapped \(EINVAL\)$/);
    }
    buffer.syncForCpu();
    buffer.release();
    expect(buffer.released).toBe(true);
    expect(fake.handles.size).toBe(0);
  });

  test('leaves nothing where this process has no room for it', () => {
    using device = open();
    fake.dmaBufs.set(7, { byteLength: 4096, mmapError: systemError(12, 'mmap') });
    expect(() => device.importDmaBuf(7)).toThrow(code('ENOMEM'));
    expect(fake.handles.size).toBe(0);
  });

  test.each<[unknown, unknown, string]>([
    [-1, undefined, 'ERR_OUT_OF_RANGE'],
    [2 ** 31, undefined, 'ERR_OUT_OF_RANGE'],
    ['7', undefined, 'ERR_INVALID_ARG_TYPE'],
    [7, { direction: 'up' }, 'ERR_INVALID_ARG_VALUE'],
    [7, { directions: 'toDevice' }, 'ERR_INVALID_ARG_VALUE'],
    [7, null, 'ERR_INVALID_ARG_TYPE'],
  ])('of %o with %o is %s', (fd, options, expected) => {
    using device = open();
    expect(() => device.importDmaBuf(fd as number, options as object)).toThrow(code(expected));
    expect(fake.imports).toEqual([]);
  });

  test.each([
    [9, /^EBADF: .*7 is not an open descriptor$/],
    [22, /^EINVAL: .*descriptor 7 is no dma-buf$/],
    [95, /^EOPNOTSUPP: .*no dma-buf/],
    [122, /^EDQUOT: .*each import takes a page$/],
  ])('errno %i says what was wrong', (errno, sentence) => {
    using device = open();
    fake.dmaBufs.set(7, { byteLength: 4096 });
    fake.error = systemError(errno, 'ioctl');
    expect(() => device.importDmaBuf(7)).toThrow(sentence);
  });

  test('ends by release(), twice if need be, dispose, or with the device', () => {
    const device = open();
    fake.dmaBufs.set(7, { byteLength: 4096 });
    const [first, second, third] = [device.importDmaBuf(7), device.importDmaBuf(7), device.importDmaBuf(7)];
    const { bytes } = first;
    first.release();
    first.release();
    second[Symbol.dispose]();
    expect([first.released, second.released, third.released, bytes.length]).toEqual([true, true, false, 0]);
    expect(fake.handles.size).toBe(1);
    for (const use of [
      () => first.bytes,
      () => first.segments,
      () => first.dmaAddress,
      () => first.read(),
      () => first.syncForCpu(),
      () => first.syncForDevice(),
    ]) {
      expect(use).toThrow(code('ERR_INVALID_STATE'));
    }
    device.close();
    expect(third.released).toBe(true);
    third.release();
  });
});

test('memfd has no device to import for', () => {
  using device = DmaDevice.open({ provider: 'memfd' });
  expect(() => device.importDmaBuf(0)).toThrow(code('EOPNOTSUPP'));
});

test('inspecting touches no memory', () => {
  using device = open();
  fake.dmaBufs.set(7, { byteLength: 8192 });
  const buffer = device.importDmaBuf(7);
  expect(inspect(buffer)).toBe(
    'ImportedBuffer { byteLength: 8192, direction: bidirectional, segments: 2, released: false }',
  );
  expect(Object.keys(buffer)).not.toContain('bytes');
  buffer.release();
  expect(inspect(buffer)).toBe(
    'ImportedBuffer { byteLength: 8192, direction: bidirectional, released: true }',
  );
});
