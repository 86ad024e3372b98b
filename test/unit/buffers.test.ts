/** Buffers of the memfd provider: real memory of the real addon, on any machine. */
import { existsSync } from 'node:fs';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type DmaBuffer, DmaDevice, DmaSlice, listDevices } from '../../lib/index.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

let device: DmaDevice;
beforeEach(() => {
  device = DmaDevice.open({ provider: 'memfd' });
});
afterEach(() => {
  device.close();
});

test('a buffer is zeroed memory of the length asked for', () => {
  const buffer = device.alloc(5000);
  expect(buffer.bytes).toHaveLength(5000);
  expect(buffer.buffer.byteLength).toBe(5000);
  expect(buffer.bytes.every((byte) => byte === 0)).toBe(true);
  buffer.bytes.fill(7);
  expect(buffer.view(Uint8Array, 4999)[0]).toBe(7);
  expect(buffer.memory).toEqual({ requested: 'cached', effective: 'cached' });
});

test('what memfd cannot do is EOPNOTSUPP', async () => {
  const buffer = device.alloc(4096);
  expect(buffer.segments).toEqual([]);
  expect(() => buffer.dmaAddress).toThrow(code('EOPNOTSUPP'));
  expect(() => buffer.subarray(1).dmaAddress).toThrow(code('EOPNOTSUPP'));
  expect(() => device.registers(0)).toThrow(code('EOPNOTSUPP'));
  expect(() => device.registers('control')).toThrow(code('EOPNOTSUPP'));
  expect(() => device.interrupts()).toThrow(code('EOPNOTSUPP'));
  expect(() => device.fd).toThrow(code('EOPNOTSUPP'));
  await expect(device.waitForInterrupt()).rejects.toEqual(code('EOPNOTSUPP'));
  expect(() => device.alloc(4096, { memory: 'coherent' })).toThrow(code('EOPNOTSUPP'));
  expect(device.alloc(4096, { memory: 'coherent', fallback: true }).memory).toEqual({
    requested: 'coherent',
    effective: 'cached',
  });
});

test.each([
  { align: 4096 },
  { boundary: 65_536 },
  { zone: 'dma' },
  { addressBits: 32 },
  { memory: 'writethrough' },
  { memory: 'uncached', contiguous: true },
] as const)('memfd has no %o', (options) => {
  expect(() => device.alloc(4096, options)).toThrow(code('EOPNOTSUPP'));
});

test('memfd is never in pieces, and its pools have no addresses', () => {
  expect(device.alloc(10_000, { contiguous: true }).byteLength).toBe(10_000);
  using pool = device.pool(64, { align: 64, boundary: 4096 });
  const block = pool.alloc();
  block.bytes.fill(1);
  expect(() => block.dmaAddress).toThrow(code('EOPNOTSUPP'));
});

test('memfd says what it is', () => {
  expect(device).toMatchObject({ provider: 'memfd', closed: false, info: { name: 'memfd', bus: 'none' } });
  expect(device.info).toMatchObject({
    memoryTypes: ['cached'],
    zones: [],
    pool: { kind: 'none' },
    arenas: 0,
    vectors: 0,
    registers: 0,
  });
  expect(device.arenas).toEqual([]);
});

test('more than the machine has is ENOMEM, and more than an ArrayBuffer can have ERR_OUT_OF_RANGE', () => {
  expect(() => device.alloc(Number.MAX_SAFE_INTEGER)).toThrow();
  if (process.versions.node.startsWith('20.')) {
    expect(() => device.alloc(2 ** 32 + 1)).toThrow(code('ERR_OUT_OF_RANGE'));
  }
});

describe.skipIf(existsSync('/sys/module/iospace'))('without the module', () => {
  test('open() is ENOENT, and says how to load it', () => {
    expect(() => DmaDevice.open()).toThrow(
      "ENOENT: no such file or directory, open '/dev/iospace0': is the kernel module loaded? sudo modprobe iospace",
    );
    expect(() => DmaDevice.open('0000:00:04.0')).toThrow(/^ENOENT: .*modprobe iospace$/);
    expect(listDevices()).toEqual([]);
  });

  test("'auto' takes memfd, but not in the place of a device that was named", () => {
    using auto = DmaDevice.open({ provider: 'auto' });
    expect(auto.provider).toBe('memfd');
    expect(() => DmaDevice.open({ provider: 'auto', device: 'iospace0' })).toThrow(code('ENOENT'));
  });
});

describe('views', () => {
  const views = [
    Uint8Array,
    Uint8ClampedArray,
    Int8Array,
    Uint16Array,
    Int16Array,
    Uint32Array,
    Int32Array,
    Float32Array,
    Float64Array,
    BigUint64Array,
    BigInt64Array,
    DataView,
  ];
  test.each(views)('%o shares the memory', (Type) => {
    const buffer = device.alloc(67);
    const view = buffer.view<ArrayBufferView>(Type, 16);
    const size = 'BYTES_PER_ELEMENT' in Type ? Type.BYTES_PER_ELEMENT : 1;
    expect(view).toBeInstanceOf(Type);
    expect(view.buffer).toBe(buffer.buffer);
    expect(view).toMatchObject({ byteOffset: 16, byteLength: Math.floor(51 / size) * size });
  });

  test('lie inside, and on their own boundaries', () => {
    const buffer = device.alloc(64);
    expect(buffer.view(Uint32Array, 60, 1)).toHaveLength(1);
    expect(buffer.view(Uint32Array, 64)).toHaveLength(0);
    for (const [offset, length] of [
      [2, 1],
      [60, 2],
      [0, 17],
      [68, 0],
      [-4, 1],
      [0, -1],
      [0, 0.5],
    ] as const) {
      expect(() => buffer.view(Uint32Array, offset, length)).toThrow(code('ERR_OUT_OF_RANGE'));
    }
    expect(() => buffer.view('Uint8Array' as unknown as typeof Uint8Array)).toThrow(
      code('ERR_INVALID_ARG_TYPE'),
    );
  });

  test('of a slice are aligned by where they lie in the buffer', () => {
    const buffer = device.alloc(64);
    const slice = buffer.subarray(2, 34);
    expect(() => slice.view(Uint32Array)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(slice.view(Uint32Array, 2)).toMatchObject({ byteOffset: 4, length: 7 });
  });
});

describe('a slice', () => {
  test('shares the memory of its buffer', () => {
    const buffer = device.alloc(100);
    const slice = buffer.subarray(10, 20).subarray(2);
    expect(slice).toBeInstanceOf(DmaSlice);
    expect(slice).toMatchObject({ byteOffset: 12, byteLength: 8 });
    slice.bytes.fill(9);
    expect(buffer.bytes.indexOf(9)).toBe(12);
    expect(buffer.bytes.lastIndexOf(9)).toBe(19);
    expect(slice.buffer).toBe(buffer.buffer);
  });

  test.each([
    [-1, 10],
    [10, 10],
    [11, 10],
    [0, 101],
    [100, 100],
    [0.5, 10],
  ])('from %d to %d is refused', (begin, end) => {
    expect(() => device.alloc(100).subarray(begin, end)).toThrow(code('ERR_OUT_OF_RANGE'));
  });
});

describe('after free()', () => {
  const uses: [string, (buffer: DmaBuffer) => unknown][] = [
    ['buffer', (buffer) => buffer.buffer],
    ['bytes', (buffer) => buffer.bytes],
    ['view', (buffer) => buffer.view(Uint8Array)],
    ['subarray', (buffer) => buffer.subarray(0, 1)],
    ['segments', (buffer) => buffer.segments],
    ['dmaAddress', (buffer) => buffer.dmaAddress],
    ['syncForDevice', (buffer) => buffer.syncForDevice()],
    ['syncForCpu', (buffer) => buffer.syncForCpu()],
  ];

  test.each(uses)('%s throws ERR_INVALID_STATE', (_name, use) => {
    const [buffer, untouched] = [device.alloc(4096), device.alloc(4096)];
    buffer.bytes.fill(1);
    buffer.free();
    untouched.free();
    expect(() => use(buffer)).toThrow(code('ERR_INVALID_STATE'));
    expect(() => use(untouched)).toThrow(code('ERR_INVALID_STATE'));
  });

  test('slices throw too, and what it was can still be asked', () => {
    const buffer = device.alloc(4096);
    const slice = buffer.subarray(1, 3);
    expect(slice.bytes).toHaveLength(2);
    buffer.free();
    expect(() => slice.bytes).toThrow(code('ERR_INVALID_STATE'));
    expect(buffer).toMatchObject({ freed: true, byteLength: 4096, memory: { effective: 'cached' } });
  });
});

test('inspecting and enumerating touch no memory', () => {
  const buffer = device.alloc(4096);
  expect(inspect(buffer)).toBe('DmaBuffer { byteLength: 4096, memory: cached, freed: false }');
  expect(inspect(buffer.subarray(1, 3))).toBe('DmaSlice { byteOffset: 1, byteLength: 2, freed: false }');
  expect(inspect(device)).toBe('DmaDevice { name: memfd, provider: memfd, closed: false }');
  expect(Object.keys(buffer)).not.toContain('bytes');
  expect(JSON.stringify(buffer)).not.toContain('buffer');
  buffer.free();
  expect(inspect(buffer)).toBe('DmaBuffer { byteLength: 4096, memory: cached, freed: true }');
});
