/** DmaDevice over iospace.ko, with a fake device in the place of kernel and addon. */
import { fstatSync, readFileSync } from 'node:fs';
import { assert, beforeEach, describe, expect, test, vi } from 'vitest';
import { systemError } from '../../lib/errors.js';
import { type AllocOptions, DmaDevice } from '../../lib/index.js';
import { FakeDevice } from './fake-device.js';

let fake: FakeDevice;
vi.mock('../../lib/binding.js', () => ({ binding: () => fake.native }));

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

/** Any file that can be opened stands for the device's. */
const open = (): DmaDevice => DmaDevice.open('/dev/null');

beforeEach(() => {
  fake = new FakeDevice({
    lines: [{ name: 'done' }],
    windows: [{ byteLength: 0x100 }, undefined, { name: 'dma', byteLength: 0x40 }],
  });
});

describe('an open device', () => {
  test('says what it is', () => {
    using device = open();
    expect(device.provider).toBe('iospace');
    expect(device.info).toEqual({
      name: 'null',
      bus: 'pci',
      device: '0000:00:04.0',
      dmaMask: 0xffff_ffffn,
      coherent: true,
      iommu: 'none',
      cacheLine: 64,
      pageSize: 4096,
      memoryTypes: ['coherent'],
      zones: ['dma32'],
      pool: { kind: 'none', start: 0n, byteLength: 0 },
      arenas: 0,
      registers: 3,
      vectors: 1,
      limits: {
        fileBytes: 2 ** 30,
        totalBytes: Number.MAX_SAFE_INTEGER,
        fileMappings: 4,
        convertedBytes: 0,
        segmentBytes: 2 ** 16,
        contiguousBytes: 2 ** 22,
        arenaBlocks: 0,
        arenaReserveBytes: 0,
      },
      version: '0.1.0',
    });
  });

  test('says what memory there is for it', () => {
    fake = new FakeDevice({
      info: {
        memoryTypes: 0b111110,
        zones: 0b1111,
        pool: 2,
        poolStart: 0x4000_0000n,
        poolBytes: 1n << 24n,
        maxConvertedBytes: 1n << 25n,
        arenaMaxBlocks: 512,
        arenaReserveBytes: 1n << 20n,
      },
      arenas: [{ flags: 0, address: 0n, byteLength: 4096, memoryTypes: 0, name: '' }],
    });
    using device = open();
    expect(device.info).toMatchObject({
      memoryTypes: ['cached', 'writecombine', 'uncached', 'writethrough', 'coherent'],
      zones: ['dma', 'dma32', 'normal'],
      pool: { kind: 'cma', start: 0x4000_0000n, byteLength: 1 << 24 },
      arenas: 1,
      limits: { convertedBytes: 1 << 25, arenaBlocks: 512, arenaReserveBytes: 1 << 20 },
    });
  });

  test('says how much contiguous memory is left, when asked', () => {
    using device = open();
    const { info } = device;
    const kilobytes = /^CmaFree: +(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
    expect(info.cmaFree).toBe(kilobytes === undefined ? undefined : Number(kilobytes) * 1024);
    expect(Object.keys(info)).not.toContain('cmaFree');
  });

  test.each([
    ['pool', 3],
    ['iommu', 7],
    ['bus', 9],
  ])('that speaks of a %s which this version does not know is refused', (member, number) => {
    fake = new FakeDevice({ info: { [member]: number } });
    expect(open).toThrow(/this version of iospace knows/);
  });

  test('allocates coherent memory, with its address', () => {
    using device = open();
    const buffer = device.alloc(10_000);
    expect(buffer).toMatchObject({
      byteLength: 10_000,
      memory: { requested: 'coherent', effective: 'coherent' },
      dmaAddress: 1n << 32n,
      segments: [{ dmaAddress: 1n << 32n, length: 10_000 }],
    });
    const slice = buffer.subarray(100, 300);
    expect(slice).toMatchObject({ byteOffset: 100, byteLength: 200, dmaAddress: (1n << 32n) + 100n });
    expect(slice.subarray(50).segments).toEqual([{ dmaAddress: (1n << 32n) + 150n, length: 150 }]);
    slice.view(Uint16Array)[0] = 0x0201;
    expect([...buffer.bytes.subarray(100, 102)]).toEqual([1, 2]);
  });

  test('syncs by a barrier, once the range is known to be inside', () => {
    using device = open();
    const buffer = device.alloc(4096);
    buffer.syncForDevice();
    buffer.syncForCpu(0, 4096);
    buffer.subarray(10, 20).syncForDevice(10, 0);
    expect(fake.barriers).toBe(3);
    for (const [offset, length] of [
      [-1, 1],
      [4097, 0],
      [0, 4097],
      [1, 4096],
      [0.5, 1],
    ] as const) {
      expect(() => buffer.syncForDevice(offset, length)).toThrow(code('ERR_OUT_OF_RANGE'));
    }
    expect(() => buffer.subarray(10, 20).syncForCpu(0, 11)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(fake.barriers).toBe(3);
  });

  test('gives one window for one index, by number or name', () => {
    using device = open();
    expect(device.registers()).toBe(device.registers(0));
    expect(device.registers('dma')).toBe(device.registers(2));
    expect(() => device.registers(1)).toThrow(code('ENOENT'));
    expect(() => device.registers('control')).toThrow(code('ENOENT'));
    expect(() => device.registers(-1)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => device.registers({} as number)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test('waits for its interrupts', async () => {
    using device = open();
    fake.fire();
    expect(await device.waitForInterrupt({ vector: 'done' })).toEqual({ count: 1n, missed: 0n, vector: 0 });
    const wait = device.waitForInterrupt({ timeout: 1000 });
    fake.fire();
    expect(await wait).toMatchObject({ count: 2n });
  });
});

describe('what cannot be had', () => {
  test('is an error, unless another type will do', () => {
    using device = open();
    expect(() => device.alloc(4096, { memory: 'uncached' })).toThrow(code('EOPNOTSUPP'));
    expect(device.alloc(4096, { memory: 'uncached', fallback: true }).memory).toEqual({
      requested: 'uncached',
      effective: 'coherent',
    });
  });

  test('leaves no handle behind when it cannot be mapped', () => {
    using device = open();
    fake.mmapError = new Error('no room');
    expect(() => device.alloc(4096)).toThrow('no room');
    expect(fake.handles.size).toBe(0);
  });

  test.each([
    [0, 'ERR_OUT_OF_RANGE'],
    [-1, 'ERR_OUT_OF_RANGE'],
    [1.5, 'ERR_OUT_OF_RANGE'],
    [Number.NaN, 'ERR_OUT_OF_RANGE'],
    [Infinity, 'ERR_OUT_OF_RANGE'],
    [2 ** 53, 'ERR_OUT_OF_RANGE'],
    ['4096', 'ERR_INVALID_ARG_TYPE'],
    [4096n, 'ERR_INVALID_ARG_TYPE'],
    [undefined, 'ERR_INVALID_ARG_TYPE'],
  ])('a size of %o is %s', (size, expected) => {
    using device = open();
    expect(() => device.alloc(size as number)).toThrow(code(expected));
  });

  test.each([
    [{ memory: 'device' }, 'ERR_INVALID_ARG_VALUE'],
    [{ memory: 5 }, 'ERR_INVALID_ARG_VALUE'],
    [{ fallback: 'yes' }, 'ERR_INVALID_ARG_TYPE'],
    [{ memroy: 'coherent' }, 'ERR_INVALID_ARG_VALUE'],
    ['coherent', 'ERR_INVALID_ARG_TYPE'],
    [null, 'ERR_INVALID_ARG_TYPE'],
  ])('options of %o are %s', (options, expected) => {
    using device = open();
    expect(() => device.alloc(4096, options as AllocOptions)).toThrow(code(expected));
    expect(fake.handles.size).toBe(0);
  });

  test('an unknown memory type is answered with the known ones', () => {
    using device = open();
    expect(() => device.alloc(1, { memory: 'wc' } as unknown as AllocOptions)).toThrow(
      "expected one of 'cached', 'writecombine', 'uncached', 'writethrough', 'coherent' for memory, got 'wc'",
    );
  });

  test.each([
    [{ provider: 'udmabuf' }, 'ERR_INVALID_ARG_VALUE'],
    [{ provider: 'memfd', device: 'iospace0' }, 'ERR_INVALID_ARG_VALUE'],
    [{ device: '' }, 'ERR_INVALID_ARG_VALUE'],
    [{ device: 5 }, 'ERR_INVALID_ARG_TYPE'],
    [{ name: 'iospace0' }, 'ERR_INVALID_ARG_VALUE'],
    ['a\0b', 'ERR_INVALID_ARG_VALUE'],
    [5, 'ERR_INVALID_ARG_TYPE'],
    ['iospace4711', 'ENOENT'],
    ['/dev/iospace4711', 'ENOENT'],
    ['0000:ff:1f.7', 'ENOENT'],
  ])('opening %o is %s', (target, expected) => {
    expect(() => DmaDevice.open(target as string)).toThrow(code(expected));
  });
});

describe('the end', () => {
  test('free() gives mapping and handle back, once', () => {
    using device = open();
    const buffer = device.alloc(4096);
    const { bytes } = buffer;
    buffer.free();
    buffer.free();
    buffer[Symbol.dispose]();
    expect(bytes.length).toBe(0);
    expect(fake.handles.size).toBe(0);
    expect(fake.mappings.map(({ releases }) => releases)).toEqual([1]);
  });

  test('free() after the device has gone is no error', () => {
    using device = open();
    const buffer = device.alloc(4096);
    fake.unbind();
    buffer.free();
    expect(buffer.freed).toBe(true);
    expect(() => device.alloc(4096)).toThrow(code('ENODEV'));
  });

  test('close() ends buffers, windows, waits and the descriptor, once', async () => {
    const device = open();
    const { fd } = device;
    const buffer = device.alloc(4096);
    const { bytes } = buffer;
    const registers = device.registers(0);
    const wait = device.waitForInterrupt();
    const iterator = device.interrupts();
    device.close();
    device.close();
    device[Symbol.dispose]();

    expect(bytes.length).toBe(0);
    expect(() => registers.read32(0)).toThrow(code('ERR_INVALID_STATE'));
    await expect(wait).rejects.toEqual(code('ECANCELED'));
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    expect(() => fstatSync(fd)).toThrow(code('EBADF'));
    expect(fake.pollers.every(({ closed }) => closed)).toBe(true);
    buffer.free(); // the handle went with the descriptor
  });

  test('close() closes the descriptor even if a buffer cannot be unmapped, which can then be freed alone', () => {
    const device = open();
    const { fd } = device;
    const buffer = device.alloc(4096);
    const [mapping] = fake.mappings;
    assert(mapping !== undefined);
    mapping.releaseError = systemError(12, 'mmap');
    expect(() => device.close()).toThrow(code('ENOMEM'));
    expect(device.closed).toBe(true);
    expect(() => fstatSync(fd)).toThrow(code('EBADF'));

    mapping.releaseError = undefined;
    buffer.free();
    expect(buffer.freed).toBe(true);
    expect(fake.handles.size).toBe(1); // nothing was asked of the descriptor
  });

  const uses: [string, (device: DmaDevice) => unknown][] = [
    ['alloc', (device) => device.alloc(4096)],
    ['pool', (device) => device.pool(64)],
    ['arenas', (device) => device.arenas],
    ['registers', (device) => device.registers(0)],
    ['interrupts', (device) => device.interrupts()],
    ['fd', (device) => device.fd],
    ['ref', (device) => device.ref()],
    ['unref', (device) => device.unref()],
  ];
  test.each(uses)('%s after close() is ERR_INVALID_STATE', (_name, use) => {
    const device = open();
    device.close();
    expect(() => use(device)).toThrow(code('ERR_INVALID_STATE'));
  });

  test('waitForInterrupt after close() rejects', async () => {
    const device = open();
    device.close();
    await expect(device.waitForInterrupt()).rejects.toEqual(code('ERR_INVALID_STATE'));
    expect(device).toMatchObject({ closed: true, provider: 'iospace', info: { bus: 'pci' } });
  });
});
