/** Pools of small blocks: where the blocks lie, and what becomes of them. */
import { inspect } from 'node:util';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { DmaDevice, type PoolBlock, type PoolOptions } from '../../lib/index.js';
import { FakeDevice } from './fake-device.js';

let fake: FakeDevice;
vi.mock('../../lib/binding.js', () => ({ binding: () => fake.native }));

const code = (expected: string): unknown => expect.objectContaining({ code: expected });
const open = (): DmaDevice => DmaDevice.open('/dev/null');

beforeEach(() => {
  fake = new FakeDevice();
});

/** Blocks enough for several chunks. */
const take = (device: DmaDevice, size: number, options?: PoolOptions): PoolBlock[] => {
  const pool = device.pool(size, options);
  return Array.from({ length: 70 }, () => pool.alloc());
};

describe('blocks', () => {
  const sizes = [1, 3, 8, 24, 100, 1000, 4095, 4096, 4097, 12_289];
  const aligns = [undefined, 1, 2, 64, 4096, 65_536];
  const boundaries = [undefined, 16, 128, 4096, 16_384, 2 ** 32];
  const layouts = aligns.flatMap((align) => boundaries.map((boundary) => ({ align, boundary })));

  test.each(sizes)('of %i bytes lie where they may, however aligned and bounded', (size) => {
    for (const layout of layouts) {
      fake = new FakeDevice();
      checkLayout(size, layout);
    }
  });

  function checkLayout(size: number, layout: (typeof layouts)[number]): void {
    using device = open();
    const { align = 1, boundary } = layout;
    const rounded = Math.ceil(size / align) * align;
    const options = { align, ...(boundary !== undefined && { boundary }) };
    if (boundary !== undefined && boundary < rounded) {
      expect(() => device.pool(size, options)).toThrow(code('ERR_OUT_OF_RANGE'));
      return;
    }
    const blocks = take(device, size, options);

    for (const { dmaAddress, byteLength } of blocks) {
      expect(byteLength).toBe(rounded);
      expect(dmaAddress % BigInt(align)).toBe(0n);
      const limit = BigInt(boundary ?? 2 ** 32);
      expect(dmaAddress / limit).toBe((dmaAddress + BigInt(byteLength) - 1n) / limit);
    }
    const sorted = blocks.map(({ dmaAddress }) => dmaAddress).sort((a, b) => (a < b ? -1 : 1));
    sorted.reduce((previous, next) => {
      expect(next - previous).toBeGreaterThanOrEqual(BigInt(rounded));
      return next;
    });
    // The kernel is told of what whole pages do not keep by themselves.
    const chunk = Math.ceil(rounded / 4096) * 4096;
    const asked = fake.asked[0]?.align ?? 0;
    expect(Math.max(asked, 4096)).toBeGreaterThanOrEqual(align);
    expect(boundary === undefined || Math.max(asked, 4096) >= Math.min(boundary, chunk)).toBe(true);
  }

  test('fill a page before another one is taken', () => {
    using device = open();
    const pool = device.pool(64);
    const blocks = Array.from({ length: 64 }, () => pool.alloc());
    expect(fake.asked).toHaveLength(1);
    expect(blocks.map(({ byteOffset }) => byteOffset)).toEqual(blocks.map((_, n) => n * 64));
    pool.alloc();
    expect(fake.asked).toHaveLength(2);
    expect(fake.asked[0]).toMatchObject({ memory: 5, align: 0 });
  });

  test('share an ArrayBuffer, and nothing else', () => {
    using device = open();
    const pool = device.pool(16);
    const [one, two] = [pool.alloc(), pool.alloc()];
    one.bytes.fill(1);
    two.view(Uint32Array).fill(0x02020202);
    expect(one.buffer).toBe(two.buffer);
    expect([...one.bytes]).toEqual(Array(16).fill(1));
    expect(two.subarray(4, 8).dmaAddress).toBe(one.dmaAddress + 20n);
  });
});

test.each([
  [0, {}, 'ERR_OUT_OF_RANGE'],
  [1.5, {}, 'ERR_OUT_OF_RANGE'],
  ['64', {}, 'ERR_INVALID_ARG_TYPE'],
  [64, { align: 0 }, 'ERR_OUT_OF_RANGE'],
  [64, { align: 48 }, 'ERR_OUT_OF_RANGE'],
  [64, { boundary: 96 }, 'ERR_OUT_OF_RANGE'],
  [64, { boundary: 32 }, 'ERR_OUT_OF_RANGE'],
  [64, { zero: 1 }, 'ERR_INVALID_ARG_TYPE'],
  [64, { alignment: 8 }, 'ERR_INVALID_ARG_VALUE'],
])('a pool of %o with %o is %s', (size, options, expected) => {
  using device = open();
  expect(() => device.pool(size as number, options as PoolOptions)).toThrow(code(expected));
});

describe('free()', () => {
  test('gives the place to the next block, and ends this one', () => {
    using device = open();
    const pool = device.pool(64);
    const block = pool.alloc();
    const slice = block.subarray(8, 16);
    const { byteOffset } = block;
    block.free();
    for (const use of [
      () => block.bytes,
      () => block.dmaAddress,
      () => slice.bytes,
      () => block.syncForCpu(),
    ]) {
      expect(use).toThrow(code('ERR_INVALID_STATE'));
    }
    expect([block.freed, slice.freed]).toEqual([true, true]);
    expect(pool.alloc().byteOffset).toBe(byteOffset);
    expect(fake.asked).toHaveLength(1);
  });

  test('twice does not give the place twice', () => {
    using device = open();
    const pool = device.pool(64);
    const block = pool.alloc();
    block.free();
    const heir = pool.alloc();
    block.free();
    block[Symbol.dispose]();
    expect(heir.freed).toBe(false);
    expect(pool.alloc().byteOffset).not.toBe(heir.byteOffset);
  });

  test('leaves what was written, unless zero is asked for', () => {
    using device = open();
    for (const [zero, first] of [
      [false, 7],
      [true, 0],
    ] as const) {
      const pool = device.pool(64, { zero });
      const block = pool.alloc();
      expect(block.bytes[0]).toBe(0);
      block.bytes.fill(7);
      block.free();
      expect(pool.alloc().bytes[0]).toBe(first);
    }
  });
});

describe('the end', () => {
  test('close() gives all back, once', () => {
    using device = open();
    const pool = device.pool(4096);
    const blocks = [pool.alloc(), pool.alloc()];
    pool.close();
    pool.close();
    pool[Symbol.dispose]();
    expect(pool.closed).toBe(true);
    expect(fake.handles.size).toBe(0);
    expect(blocks.every(({ freed }) => freed)).toBe(true);
    blocks[0]?.free();
    expect(() => blocks[0]?.bytes).toThrow(code('ERR_INVALID_STATE'));
    expect(() => pool.alloc()).toThrow(code('ERR_INVALID_STATE'));
  });

  test('that of the device ends the blocks', () => {
    const device = open();
    const pool = device.pool(4096);
    const block = pool.alloc();
    block.free();
    const again = pool.alloc();
    device.close();
    expect(again.freed).toBe(true);
    expect(() => pool.alloc()).toThrow(code('ERR_INVALID_STATE'));
    expect(() => device.pool(64)).toThrow(code('ERR_INVALID_STATE'));
    pool.close();
  });

  test('a place of an ended device is not given out', () => {
    const device = open();
    const pool = device.pool(64);
    pool.alloc();
    device.close();
    expect(() => pool.alloc()).toThrow(code('ERR_INVALID_STATE'));
  });
});

test('inspecting touches no memory', () => {
  using device = open();
  const pool = device.pool(64);
  expect(inspect(pool)).toBe('DmaPool { size: 64, chunks: 0, closed: false }');
  expect(inspect(pool.alloc())).toBe('PoolBlock { byteOffset: 0, byteLength: 64, freed: false }');
});
