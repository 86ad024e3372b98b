/** Cache maintenance: what it takes, what it refuses, and who does it where the processor does not. */
import { describe, expect, test, vi } from 'vitest';
import { binding } from '../../../lib/binding.js';
import {
  capabilities,
  clean,
  dmaCacheInv,
  dmaCacheWback,
  dmaCacheWbackInv,
  flush,
  invalidate,
  type Memory,
} from '../../../lib/cache/index.js';
import * as maintenance from '../../../lib/cache/maintenance.js';
import { type Maintainer, maintainer } from '../../../lib/cache/module.js';
import type { DeviceInfo } from '../../../lib/device/info.js';
import { systemError } from '../../../lib/errors.js';
import { DmaDevice } from '../../../lib/index.js';
import { memfd } from '../../../lib/shm/index.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

const operations = { clean, invalidate, flush };

test('the names of older texts are the same functions', () => {
  expect([dmaCacheWback, dmaCacheInv, dmaCacheWbackInv]).toEqual([clean, invalidate, flush]);
});

test('capabilities say who does it, and by what', () => {
  const found = capabilities();
  expect(['instruction', 'module', 'none']).toContain(found.clean);
  expect(found.copies.at(-1)).toBe('portable');
  if (process.arch === 'x64') {
    expect(found).toMatchObject({ clean: 'instruction', invalidate: 'instruction', flush: 'instruction' });
    expect(found.instructions.clean).toMatch(/^(clwb|clflushopt|clflush)$/);
    expect(found.instructions.flush).toMatch(/^(clflushopt|clflush)$/);
    expect(found.instructions.invalidate).toBe(found.instructions.flush);
    expect(found.invalidateIsFlush).toBe(true);
    expect(found.lineSize).toBe(64);
  }
});

describe.each(Object.entries(operations))('%s', (_name, operation) => {
  const bytes = Uint8Array.from({ length: 10_000 }, (_, index) => index * 7);

  test.each<[string, Memory]>([
    ['a Uint8Array', bytes],
    ['a Buffer', Buffer.from(bytes)],
    ['a small typed array, which V8 moves', Int16Array.of(1, 2, 3)],
    ['a BigInt64Array', new BigInt64Array(100)],
    ['a part of an ArrayBuffer', bytes.subarray(77, 7777)],
    ['a DataView', new DataView(bytes.buffer, 3, 500)],
    ['an ArrayBuffer', bytes.buffer],
    ['a SharedArrayBuffer', new SharedArrayBuffer(4096)],
    ['an array on one', new Int32Array(new SharedArrayBuffer(4096), 64, 8)],
    ['what shows its memory as bytes', { bytes }],
    ['nothing', new Uint8Array(0)],
    ['nothing of a DataView', new DataView(bytes.buffer, 3, 0)],
    ['nothing of an ArrayBuffer', new ArrayBuffer(0)],
  ])('takes %s', (_what, memory) => {
    operation(memory);
    operation(memory, {});
    operation(memory, { offset: 0 });
    operation(memory, { offset: 0, length: 0 });
    expect(bytes.every((byte, index) => byte === ((index * 7) & 0xff))).toBe(true);
  });

  test('takes Float16Array, which older Node-API has no name for', () => {
    const { Float16Array } = globalThis as { Float16Array?: new (length: number) => Float32Array };
    if (Float16Array !== undefined) {
      operation(new Float16Array(100), { offset: 190, length: 10 });
    }
  });

  test('takes memory of a device, of another process, and of each part', () => {
    using device = DmaDevice.open({ provider: 'memfd' });
    const buffer = device.alloc(8192);
    operation(buffer);
    operation(buffer.subarray(100, 200), { offset: 50 });
    using shared = memfd.create('iospace', { size: 4096 });
    operation(shared, { offset: 4000, length: 96 });
  });

  test('takes every range, and no other', () => {
    for (const [offset, length] of [
      [0, 10_000],
      [9_999, 1],
      [10_000, 0],
      [1, undefined],
      [10_000, undefined],
      [undefined, 5],
    ] as const) {
      operation(bytes, {
        ...(offset !== undefined && { offset }),
        ...(length !== undefined && { length }),
      });
    }
    for (const range of [
      { offset: 10_001 },
      { offset: -1 },
      { offset: 0.5 },
      { offset: Number.NaN },
      { offset: 2 ** 53 },
      { length: 10_001 },
      { offset: 1, length: 10_000 },
      { offset: 10_000, length: 1 },
      { length: -1 },
      { length: Number.POSITIVE_INFINITY },
    ]) {
      expect(() => operation(bytes, range)).toThrow(code('ERR_OUT_OF_RANGE'));
    }
  });

  test.each<[unknown, unknown, string]>([
    [undefined, undefined, 'ERR_INVALID_ARG_TYPE'],
    [null, undefined, 'ERR_INVALID_ARG_TYPE'],
    [4096, undefined, 'ERR_INVALID_ARG_TYPE'],
    ['memory', {}, 'ERR_INVALID_ARG_TYPE'],
    [[1, 2, 3], {}, 'ERR_INVALID_ARG_TYPE'],
    [{ bytes: [1, 2, 3] }, {}, 'ERR_INVALID_ARG_TYPE'],
    [bytes, 5, 'ERR_INVALID_ARG_TYPE'],
    [bytes, null, 'ERR_INVALID_ARG_TYPE'],
    [bytes, [0, 5], 'ERR_INVALID_ARG_TYPE'],
    [bytes, { offset: '0' }, 'ERR_INVALID_ARG_TYPE'],
    [bytes, { offset: 0n }, 'ERR_INVALID_ARG_TYPE'],
    [bytes, { length: null }, 'ERR_INVALID_ARG_TYPE'],
    [bytes, { ofset: 0 }, 'ERR_INVALID_ARG_VALUE'],
  ])('refuses %o with %o', (memory, range, expected) => {
    expect(() => operation(memory as Memory, range as object)).toThrow(code(expected));
  });

  test('refuses what is detached or freed, and says so', () => {
    const gone = [new Uint8Array(64), new DataView(new ArrayBuffer(64)), new ArrayBuffer(64)] as const;
    for (const memory of gone) {
      structuredClone(memory, { transfer: [ArrayBuffer.isView(memory) ? memory.buffer : memory] });
      expect(() => operation(memory)).toThrow(/^the ArrayBuffer of memory was detached$/);
      expect(() => operation(memory, { offset: 0 })).toThrow(code('ERR_INVALID_STATE'));
    }
    using device = DmaDevice.open({ provider: 'memfd' });
    const buffer = device.alloc(4096);
    const { bytes } = buffer;
    buffer.free();
    expect(() => operation(buffer)).toThrow(code('ERR_INVALID_STATE'));
    expect(() => operation(bytes)).toThrow(code('ERR_INVALID_STATE'));
  });
});

describe('a processor without the instructions', () => {
  const none = () => false as const;
  const bytes = new Uint8Array(4096);
  const instructions = {
    clean: undefined,
    invalidate: undefined,
    flush: undefined,
    lineSize: 0,
    copies: ['portable'],
  };

  function moduleDevice(coherent: boolean) {
    const free = vi.fn();
    const mapUser = vi.fn((_bytes: Uint8Array, _direction: string) => ({ segments: [], free }));
    const info = { coherent, cacheLine: 32 } as DeviceInfo;
    const find = (): Maintainer => maintainer(() => ({ info, mapUser }));
    return { free, mapUser, find };
  }

  test('has the module do it, which maps the range for a device that does not snoop', () => {
    const { free, mapUser, find } = moduleDevice(false);
    maintenance.maintain('clean', none, bytes, { offset: 64, length: 100 }, find);
    maintenance.maintain('invalidate', none, bytes, undefined, find);
    maintenance.maintain('flush', none, new DataView(bytes.buffer, 8, 8), undefined, find);
    expect(mapUser.mock.calls.map(([range, way]) => [range.byteOffset, range.byteLength, way])).toEqual([
      [64, 100, 'toDevice'],
      [0, 4096, 'bidirectional'],
      [8, 8, 'bidirectional'],
    ]);
    expect(free).toHaveBeenCalledTimes(3);
    expect(maintenance.describe(instructions, find)).toEqual({
      lineSize: 32,
      clean: 'module',
      invalidate: 'module',
      flush: 'module',
      instructions: {},
      invalidateIsFlush: true,
      copies: ['portable'],
    });
  });

  test('opens the device of the module once, and again where it was unbound', async () => {
    const close = vi.fn();
    const mapUser = vi.fn().mockReturnValue({ free: vi.fn() });
    const openIospace = vi.fn(() => ({ info: { coherent: false, cacheLine: 32 }, mapUser, close }));
    vi.resetModules();
    vi.doMock('../../../lib/device/iospace.js', () => ({ DEFAULT_DEVICE: 'iospace0', openIospace }));
    const module = await import('../../../lib/cache/module.js');
    vi.doUnmock('../../../lib/device/iospace.js');
    const flushes = (): void => module.maintainByModule(module.maintainer(), 'flush', bytes);
    flushes();
    flushes();
    expect([openIospace.mock.calls.length, close.mock.calls.length]).toEqual([1, 0]);
    mapUser.mockImplementationOnce(() => {
      throw systemError(19, 'ioctl');
    });
    expect(flushes).toThrow(code('ENODEV'));
    expect(close).toHaveBeenCalledTimes(1);
    flushes();
    expect([openIospace.mock.calls.length, close.mock.calls.length]).toEqual([2, 1]);
  });

  test('does not trouble the module for nothing, or with a wrong range', () => {
    const { mapUser, find } = moduleDevice(false);
    maintenance.maintain('clean', none, bytes, { offset: 4096 }, find);
    maintenance.maintain('clean', none, new Uint8Array(0), undefined, find);
    expect(() => maintenance.maintain('clean', none, bytes, { offset: 4097 }, find)).toThrow(
      code('ERR_OUT_OF_RANGE'),
    );
    expect(mapUser).not.toHaveBeenCalled();
  });

  test.each([
    ['to the kernel all devices snoop', moduleDevice(true).find, 'EOPNOTSUPP', /all devices snoop/],
    [
      'the module is not loaded',
      () =>
        maintainer(() => {
          throw systemError(2, 'open', { path: '/dev/iospace0' });
        }),
      'EOPNOTSUPP',
      /modprobe iospace/,
    ],
    [
      'this user may not use the module',
      () =>
        maintainer(() => {
          throw systemError(13, 'open', { path: '/dev/iospace0', hint: 'run as root' });
        }),
      'EACCES',
      /run as root/,
    ],
  ] as const)('says why nobody does it where %s', (_case, find, expected, why) => {
    expect(() => maintenance.maintain('flush', none, bytes, undefined, find)).toThrow(code(expected));
    const found = maintenance.describe(instructions, find);
    expect(found).toMatchObject({ lineSize: 0, clean: 'none', invalidate: 'none', flush: 'none' });
    expect(found.reason).toMatch(why);
  });
});

test('native code refuses what is no range of any memory, and does nothing', () => {
  const { cleanCache, copyBytes, fillBytes, compareBytes, isDetached } = binding();
  const bytes = new Uint8Array(100);
  const call = (native: unknown, ...values: unknown[]) =>
    (native as (...all: unknown[]) => unknown)(...values);
  for (const values of [
    [],
    [5],
    [null],
    [bytes, 101],
    [bytes, -1],
    [bytes, 0, 101],
    [bytes, 90, 11],
    [bytes, '0'],
  ]) {
    expect(call(cleanCache, ...values)).toBe(false);
  }
  expect(call(copyBytes)).toBe(false);
  expect(call(copyBytes, bytes, 0, 0, bytes, 0, 0, 101, 0)).toBe(false);
  expect(call(copyBytes, bytes, 1, 0, bytes, 0, 0, 100, 0)).toBe(false);
  expect(call(copyBytes, bytes, 0, 3, bytes, 0, 0, 100, 0)).toBe(false);
  expect(call(copyBytes, bytes, 0, 0, bytes, 0, 0, 100, 99)).toBe(false);
  expect(call(copyBytes, bytes, 0, 0, bytes, 0, 0, 2 ** 64, 0)).toBe(false);
  expect(call(fillBytes, bytes, 0, 0, 256, 100, 0)).toBe(false);
  expect(call(fillBytes, bytes, 50, 0, 0, 51, 0)).toBe(false);
  expect(call(compareBytes, bytes, 0, 0, {}, 0, 0, 1, 0)).toBe(false);
  expect(call(isDetached, 5)).toBe(false);
});
