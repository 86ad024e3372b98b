/** What memory a buffer is: types and their refusals, places, pieces, and whose turn it is. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { systemError } from '../../lib/errors.js';
import { type AllocOptions, DmaDevice, type MemoryType } from '../../lib/index.js';
import { mappingOf } from '../../lib/mapping.js';
import { FakeDevice } from './fake-device.js';

let fake: FakeDevice;
vi.mock('../../lib/binding.js', () => ({ binding: () => fake.native }));

const code = (expected: string): unknown => expect.objectContaining({ code: expected });
const open = (): DmaDevice => DmaDevice.open('/dev/null');

const bits: Readonly<Record<MemoryType, number>> = {
  cached: 1 << 1,
  writecombine: 1 << 2,
  uncached: 1 << 3,
  writethrough: 1 << 4,
  coherent: 1 << 5,
};
const maskOf = (...types: MemoryType[]): number => types.reduce((mask, type) => mask | bits[type], 0);
const all = maskOf('cached', 'writecombine', 'uncached', 'coherent');

const { arch } = process;
const onMachine = (name: string): void => void Object.defineProperty(process, 'arch', { value: name });
afterEach(() => onMachine(arch));

beforeEach(() => {
  fake = new FakeDevice({ info: { memoryTypes: all } });
});

describe('what is asked for', () => {
  test('reaches the kernel as it is', () => {
    using device = open();
    device.alloc(1);
    device.alloc(1, { memory: 'cached', contiguous: true, align: 1 << 21, boundary: 2 ** 32 });
    device.alloc(1, { memory: 'writecombine', zone: 'dma32', addressBits: 30 });
    device.alloc(1, { zone: 'dma', align: 1, addressBits: 64 });
    device.alloc(1, { zone: 'normal' });
    const nothing = { flags: 0, align: 0, boundary: 0, zone: 0, addressBits: 0 };
    expect(fake.asked).toEqual([
      { ...nothing, memory: 5 },
      { ...nothing, memory: 1, flags: 1, align: 1 << 21, boundary: 2 ** 32 },
      { ...nothing, memory: 2, zone: 2, addressBits: 30 },
      { ...nothing, memory: 5, zone: 1, align: 1, addressBits: 64 },
      { ...nothing, memory: 5, zone: 3 },
    ]);
  });

  test.each([
    [{ align: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ align: 3 }, 'ERR_OUT_OF_RANGE'],
    [{ align: -4096 }, 'ERR_OUT_OF_RANGE'],
    [{ align: 2 ** 49 - 1 }, 'ERR_OUT_OF_RANGE'],
    [{ align: 2 ** 53 }, 'ERR_OUT_OF_RANGE'],
    [{ align: 4096n }, 'ERR_INVALID_ARG_TYPE'],
    [{ boundary: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ boundary: 2048 }, 'ERR_OUT_OF_RANGE'],
    [{ boundary: 12288, memory: 'cached' }, 'ERR_OUT_OF_RANGE'],
    [{ boundary: 8192 }, 'ERR_OUT_OF_RANGE'],
    [{ boundary: 8192, memory: 'cached', contiguous: true }, 'ERR_OUT_OF_RANGE'],
    [{ zone: 'any' }, 'ERR_INVALID_ARG_VALUE'],
    [{ zone: 1 }, 'ERR_INVALID_ARG_VALUE'],
    [{ addressBits: 7 }, 'ERR_OUT_OF_RANGE'],
    [{ addressBits: 65 }, 'ERR_OUT_OF_RANGE'],
    [{ addressBits: 31.5 }, 'ERR_OUT_OF_RANGE'],
    [{ contiguous: 1 }, 'ERR_INVALID_ARG_TYPE'],
  ])('%o for 10000 bytes is %s, and reaches nobody', (options, expected) => {
    using device = open();
    expect(() => device.alloc(10_000, options as AllocOptions)).toThrow(code(expected));
    expect(fake.asked).toEqual([]);
  });

  test('a boundary shorter than a buffer is fine where that may be in pieces', () => {
    using device = open();
    expect(device.alloc(10_000, { memory: 'cached', boundary: 8192 }).byteLength).toBe(10_000);
  });
});

describe('a refusal says why, and what to use instead', () => {
  test.each<[string, string, object, AllocOptions, string]>([
    [
      'a device that snoops',
      'arm64',
      { memoryTypes: maskOf('cached', 'coherent'), coherent: true },
      { memory: 'uncached' },
      'this device snoops: use coherent or cached',
    ],
    [
      'write-through on x86',
      'x64',
      { memoryTypes: all },
      { memory: 'writethrough' },
      'only windows of an arena can be write-through: use cached or coherent or writecombine or uncached',
    ],
    [
      'write-through elsewhere',
      'arm64',
      { memoryTypes: maskOf('coherent') },
      { memory: 'writethrough' },
      'write-through memory exists on x86 only: use coherent',
    ],
    [
      'riscv64 without Svpbmt',
      'riscv64',
      { memoryTypes: maskOf('cached', 'coherent'), coherent: false },
      { memory: 'writecombine' },
      'writecombine memory needs a processor with Svpbmt: use coherent or cached',
    ],
    [
      'a pool',
      'arm64',
      { memoryTypes: maskOf('coherent'), coherent: false, pool: 2, poolBytes: 1n << 20n },
      { memory: 'cached' },
      'this device has a pool of its own, which gives coherent: use coherent',
    ],
    [
      'none of the known reasons',
      'x64',
      { memoryTypes: maskOf('coherent') },
      { memory: 'uncached' },
      'this device has no uncached memory: use coherent',
    ],
    [
      'nothing at all',
      'x64',
      { memoryTypes: 0 },
      {},
      'this device has no coherent memory: there is no other',
    ],
    [
      'a zone that the machine has not',
      'x64',
      { memoryTypes: all, zones: 0b1101 },
      { zone: 'dma', addressBits: 8 },
      'this machine has no zone dma, only dma32, normal',
    ],
    [
      'a place',
      'x64',
      { memoryTypes: all },
      { zone: 'dma32', addressBits: 8 },
      'this device can have no coherent memory in the zone dma32 and below 0x100',
    ],
  ])('%s', (_what, machine, info, options, sentence) => {
    fake = new FakeDevice({ info });
    onMachine(machine);
    using device = open();
    expect(() => device.alloc(4096, options)).toThrow(
      `EOPNOTSUPP: operation not supported, ioctl '/dev/null': ${sentence}`,
    );
    expect(fake.handles.size).toBe(0);
  });

  test.each([
    [122, { memory: 'coherent' }, '4096 bytes; max_file_bytes allows 1073741824 here, max_total_bytes'],
    [122, { memory: 'uncached' }, ', and 65536 of uncached memory'],
    [12, { memory: 'cached' }, "no 4096 bytes within the device's reach, 0xffffffff"],
    [12, { memory: 'coherent' }, "no 4096 bytes in one piece within the device's reach, 0xffffffff"],
    [12, { memory: 'cached', contiguous: true }, 'in one piece'],
    [12, { zone: 'dma', addressBits: 20 }, 'no 4096 bytes in one piece in the zone dma and below 0x100000'],
    [122, { align: 1 << 20 }, '4096 bytes, aligned to 1048576; max_file_bytes'],
    [122, {}, 'what is held already counts'],
    [95, { memory: 'cached', align: 8192, boundary: 4096 }, 'use an align of at most the boundary'],
    [28, {}, 'this device has as many buffers open as it can'],
  ] as const)('errno %i for %o', (errno, options, sentence) => {
    fake = new FakeDevice({ info: { memoryTypes: all, maxConvertedBytes: 65536n } });
    fake.error = systemError(errno, 'ioctl');
    using device = open();
    expect(() => device.alloc(4096, options)).toThrow(sentence);
  });

  test('more than there ever is in one piece says where it can be had', () => {
    fake = new FakeDevice({ info: { memoryTypes: all, maxContiguousBytes: 4096n } });
    fake.error = systemError(12, 'ioctl');
    using device = open();
    expect(() => device.alloc(8192)).toThrow('more than 4096 in one piece are rare');
    expect(() => device.alloc(8192, { memory: 'cached' })).toThrow(
      /no 8192 bytes within the device's reach, 0xffffffff$/,
    );
  });

  test('a full pool is named', () => {
    fake = new FakeDevice({ info: { memoryTypes: all, pool: 1, poolBytes: 65536n } });
    fake.error = systemError(28, 'ioctl');
    using device = open();
    expect(() => device.alloc(4096)).toThrow(
      "ENOSPC: no space left on device, ioctl '/dev/null': the device's own pool of 65536 bytes has no room for 4096",
    );
  });
});

describe('fallback', () => {
  test.each<[MemoryType, MemoryType[], MemoryType]>([
    ['uncached', ['writecombine', 'coherent', 'cached'], 'writecombine'],
    ['uncached', ['coherent', 'cached'], 'coherent'],
    ['uncached', ['cached'], 'cached'],
    ['writecombine', ['uncached', 'coherent', 'cached'], 'coherent'],
    ['writecombine', ['uncached', 'cached'], 'uncached'],
    ['writethrough', ['cached', 'writecombine', 'uncached', 'coherent'], 'cached'],
    ['cached', ['coherent', 'uncached'], 'coherent'],
    ['coherent', ['cached', 'uncached', 'writecombine'], 'writecombine'],
    ['coherent', ['cached'], 'cached'],
  ])('from %s, where there are %o, is %s', (memory, types, effective) => {
    fake = new FakeDevice({ info: { memoryTypes: maskOf(...types) } });
    using device = open();
    expect(() => device.alloc(4096, { memory })).toThrow(code('EOPNOTSUPP'));
    const buffer = device.alloc(10_000, { memory, fallback: true });
    expect(buffer.memory).toEqual({ requested: memory, effective });
  });

  test('is never taken where the type can be had', () => {
    using device = open();
    for (const memory of ['cached', 'writecombine', 'uncached', 'coherent'] as const) {
      expect(device.alloc(1, { memory, fallback: true }).memory).toEqual({
        requested: memory,
        effective: memory,
      });
    }
  });

  test('from coherent has one address, as that has', () => {
    fake = new FakeDevice({ info: { memoryTypes: maskOf('cached') } });
    using device = open();
    expect(device.alloc(10_000, { fallback: true }).segments).toHaveLength(1);
    expect(fake.asked.at(-1)).toMatchObject({ memory: 1, flags: 1 });
  });

  test('keeps the rest of what was asked for, and where nothing fits the refusal is of what was asked for', () => {
    using device = open();
    device.alloc(1, { memory: 'writethrough', zone: 'dma32', align: 8192, fallback: true });
    expect(fake.asked.at(-1)).toMatchObject({ memory: 1, zone: 2, align: 8192 });
    expect(() => device.alloc(1, { memory: 'writethrough', addressBits: 8, fallback: true })).toThrow(
      /^EOPNOTSUPP: .*write-through/,
    );
  });

  test('does not take coherent memory across a boundary', () => {
    fake = new FakeDevice({ info: { memoryTypes: maskOf('coherent', 'cached') } });
    using device = open();
    const buffer = device.alloc(10_000, { memory: 'uncached', boundary: 8192, fallback: true });
    expect(buffer.memory.effective).toBe('cached');
  });

  test('is for what cannot be had, not for what is used up', () => {
    using device = open();
    fake.error = systemError(12, 'ioctl');
    expect(() => device.alloc(1, { memory: 'uncached', fallback: true })).toThrow(code('ENOMEM'));
    expect(fake.asked).toHaveLength(1);
  });
});

describe('memory in pieces', () => {
  test('has a segment for each, and no one address', () => {
    fake = new FakeDevice({ info: { memoryTypes: all }, segmentBytes: 8192 });
    using device = open();
    const buffer = device.alloc(20_000, { memory: 'cached' });
    expect(buffer.segments).toEqual([
      { dmaAddress: 1n << 32n, length: 8192 },
      { dmaAddress: (1n << 32n) + 16384n, length: 8192 },
      { dmaAddress: (1n << 32n) + 32768n, length: 20_000 - 16384 },
    ]);
    expect(() => buffer.dmaAddress).toThrow(/in 3 pieces: .*contiguous: true$/);
    expect(Object.isFrozen(buffer.segments)).toBe(true);
  });

  test('a slice has the segments that it touches, and an address where that is one', () => {
    fake = new FakeDevice({ info: { memoryTypes: all }, segmentBytes: 8192 });
    using device = open();
    const buffer = device.alloc(20_000, { memory: 'cached' });
    expect(buffer.subarray(8000, 8200).segments).toEqual([
      { dmaAddress: (1n << 32n) + 8000n, length: 192 },
      { dmaAddress: (1n << 32n) + 16384n, length: 8 },
    ]);
    expect(buffer.subarray(8192).subarray(100, 200).dmaAddress).toBe((1n << 32n) + 16384n + 100n);
  });

  test('thousands are read in batches, each byte once', () => {
    using device = open();
    const buffer = device.alloc(4096 * 5000, { memory: 'cached' });
    expect(buffer.segments).toHaveLength(5000);
    buffer.segments.forEach(({ dmaAddress, length }, n) => {
      expect([dmaAddress, length]).toEqual([(1n << 32n) + BigInt(n * 8192), 4096]);
    });
    expect(fake.segmentCalls).toBe(5);
  });

  test('one piece asks for no segments', () => {
    using device = open();
    const buffer = device.alloc(20_000, { memory: 'cached', contiguous: true });
    expect(buffer.dmaAddress).toBe(1n << 32n);
    expect(fake.segmentCalls).toBe(0);
  });
});

describe('sync', () => {
  test('of cached memory hands the range over, with a barrier', () => {
    using device = open();
    const buffer = device.alloc(20_000, { memory: 'cached' });
    buffer.syncForDevice();
    buffer.syncForCpu(64, 128);
    buffer.subarray(4096).syncForDevice(64, 64);
    expect(fake.syncs).toEqual(['1 0x0 0x4e20', '2 0x40 0x80', '1 0x1040 0x40']);
    expect(fake.barriers).toBe(3);
  });

  test('of cached memory that needs none is a barrier alone', () => {
    fake = new FakeDevice({ info: { memoryTypes: all }, needsSync: false });
    using device = open();
    const buffer = device.alloc(4096, { memory: 'cached' });
    buffer.syncForDevice();
    buffer.syncForCpu(1, 2);
    expect(fake).toMatchObject({ syncs: [], barriers: 2 });
  });

  test.each(['coherent', 'writecombine', 'uncached'] as const)(
    'of %s memory is a barrier alone',
    (memory) => {
      using device = open();
      const buffer = device.alloc(4096, { memory });
      buffer.syncForDevice(1, 2);
      buffer.syncForCpu(1, 2);
      expect(fake).toMatchObject({ syncs: [], barriers: 2 });
    },
  );

  test('of nothing asks nobody', () => {
    using device = open();
    device.alloc(4096, { memory: 'cached' }).syncForDevice(4096, 0);
    expect(fake.syncs).toEqual([]);
  });

  test('shares no cache line with the rest, where the device does not snoop', () => {
    fake = new FakeDevice({ info: { memoryTypes: all, coherent: false } });
    using device = open();
    const buffer = device.alloc(5000, { memory: 'cached' });
    buffer.syncForDevice(64, 64);
    buffer.syncForCpu(4992);
    buffer.subarray(32).syncForDevice(32, 64);
    // The line of the last byte: what follows is the buffer's own page.
    expect(fake.syncs).toEqual(['1 0x40 0x40', '2 0x1380 0x40', '1 0x40 0x40']);
    for (const [offset, length] of [
      [1, 63],
      [0, 63],
      [4992, 7],
    ] as const) {
      expect(() => buffer.syncForCpu(offset, length)).toThrow(code('ERR_OUT_OF_RANGE'));
    }
    expect(() => buffer.subarray(32).syncForDevice()).toThrow(
      "expected whole cache lines of 64 bytes, counted from the start of the buffer, because this device does not snoop for the range to sync, got 'bytes 32 to 5056'",
    );
    expect(fake.syncs).toHaveLength(3);
  });

  test('after free() asks nobody', () => {
    using device = open();
    const buffer = device.alloc(4096, { memory: 'cached' });
    buffer.free();
    expect(() => buffer.syncForDevice()).toThrow(code('ERR_INVALID_STATE'));
    expect(fake.syncs).toEqual([]);
  });
});

test.each([
  ['cached', true, 'cached'],
  ['writecombine', true, 'uncached'],
  ['uncached', true, 'uncached'],
  ['coherent', true, 'cached'],
  ['coherent', false, 'uncached'],
] as const)('%s memory of a device that snoops (%o) is known to copies as %s', (memory, coherent, known) => {
  fake = new FakeDevice({ info: { memoryTypes: all, coherent } });
  using device = open();
  expect(mappingOf(device.alloc(64, { memory }).buffer)?.memory).toBe(known);
});
