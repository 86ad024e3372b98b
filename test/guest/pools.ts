/**
 * Devices with pools of their own, those of `test/guest/pools.dts`: where their memory really lies, and of what type it
 * is. `test/lab/pools.test.ts` makes that machine, and answers what this program asks.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DmaDevice, listDevices, type MemoryType } from 'iospace';
import { mapped, witness, words } from './witness.js';

const REGIONS = '/proc/device-tree/reserved-memory';

/** The regions for the DMA API, as the device tree has them. */
const regions = readdirSync(REGIONS)
  .filter((name) => name.startsWith('pool@'))
  .map((name) => {
    const reg = readFileSync(`${REGIONS}/${name}/reg`);
    return { start: reg.readBigUInt64BE(0), byteLength: Number(reg.readBigUInt64BE(8)) };
  });

function regionAt(start: bigint, byteLength: number) {
  return regions.find(
    (region) => start < region.start + BigInt(region.byteLength) && start + BigInt(byteLength) > region.start,
  );
}

function deviceOf(device: string) {
  const info = listDevices().find((found) => found.device === device);
  assert(info !== undefined, `${device} is bound`);
  return info;
}

/** What the page tables say of buffers of several sizes. */
function seen(device: DmaDevice, memory: MemoryType) {
  const ranges = [1, 4096, 12288, 65536, 200_000].map((byteLength) => {
    const { made, range } = mapped(device.info.name, () => device.alloc(byteLength, { memory }));
    made.bytes.fill(0xa5);
    return range;
  });
  return witness(ranges).flat();
}

/** The devices that can have memory, with the kind of their pools and what memory that agrees with them is to the CPU. */
const pooled = [
  { name: 'pool-own', kind: 'coherent', coherent: words.writecombine },
  { name: 'pool-second', kind: 'coherent', coherent: words.writecombine },
  { name: 'pool-reusable', kind: 'cma', coherent: words.writecombine },
  { name: 'pool-reusable-snooped', kind: 'cma', coherent: words.cached },
] as const;

for (const { name, kind, coherent } of pooled) {
  const info = deviceOf(name);

  test(`${name}: its pool is one of the device tree`, () => {
    assert.equal(info.pool.kind, kind);
    assert.deepEqual(regionAt(info.pool.start, 1), {
      start: info.pool.start,
      byteLength: info.pool.byteLength,
    });
    assert(!info.memoryTypes.includes('cached'));
  });

  for (const memory of info.memoryTypes) {
    test(`${name}: ${memory} memory lies inside of it`, () => {
      using device = DmaDevice.open(info.name);
      const type = memory === 'coherent' ? coherent : words.writecombine;
      for (const piece of seen(device, memory)) {
        assert.equal(piece.type, type);
        assert.equal(regionAt(piece.physical ?? 0n, piece.byteLength)?.start, info.pool.start);
      }
    });
  }

  test(`${name}: more than the pool is ENOSPC`, () => {
    using device = DmaDevice.open(info.name);
    assert.throws(() => device.alloc(info.pool.byteLength + 1), { code: 'ENOSPC' });
  });
}

test('pool-none: its memory is in nobody\'s pool, that of "linux,dma-default" included', () => {
  const info = deviceOf('pool-none');
  assert.deepEqual(info.pool, { kind: 'none', start: 0n, byteLength: 0 });
  using device = DmaDevice.open(info.name);
  for (const memory of info.memoryTypes) {
    for (const piece of seen(device, memory)) {
      assert(piece.physical !== undefined);
      assert.equal(regionAt(piece.physical, piece.byteLength), undefined);
    }
  }
});

test('pool-snooped: a device that snoops gets nothing of a pool around the cache', () => {
  const info = deviceOf('pool-snooped');
  assert(info.coherent);
  assert.deepEqual(info.memoryTypes, []);
  using device = DmaDevice.open(info.name);
  assert.throws(() => device.alloc(4096), { code: 'EOPNOTSUPP' });
});
