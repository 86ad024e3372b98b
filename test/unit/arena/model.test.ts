/**
 * Arenas against a plain array of booleans, over each kind of memory that this host has; and those of 64 GiB, and full
 * ones.
 */
import { readSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { DmaBlock } from '../../../lib/index.js';
import { allowHugePages, dmaBuffer, hugepages, memfd, missingHugePages, shm } from './backings.js';
import { doesAsModel, doesAsModelIfSparse } from './calls.js';

vi.setConfig({ testTimeout: 60_000 });

test.each([shm, memfd, dmaBuffer])('an arena over $name does as an array of booleans does', (backing) => {
  doesAsModel(backing, 60);
});

describe('over huge pages', () => {
  const missing = missingHugePages();
  let allowed: Disposable | undefined;
  beforeAll(() => {
    allowed = missing === undefined ? allowHugePages(128) : undefined;
  });
  afterAll(() => allowed?.[Symbol.dispose]());

  test('an arena does as an array of booleans does', (context) => {
    if (missing !== undefined) {
      context.skip(missing);
    }
    doesAsModel(hugepages, 10);
  });
});

/** 64 GiB, of which only those pages are there that somebody wrote to. */
const SPARSE = 2 ** 36;

test.each([
  { backing: shm, granule: 2 ** 20 },
  { backing: memfd, granule: 2 ** 16 },
])('a sparse arena of 64 GiB over $backing.name does as well', ({ backing, granule }) => {
  doesAsModelIfSparse(backing, granule, SPARSE / granule, 4);
});

/** Where the file of an arena has its memory, as its header says. */
function memoryOffset(fd: number): number {
  const header = Buffer.alloc(56);
  readSync(fd, header, 0, header.length, 0);
  return Number(header.readBigUInt64LE(48));
}

test.each([
  ['less than a page', 100],
  ['a quarter of a GiB', 2 ** 28 + 4096],
  ['more than 1 GiB', 2 ** 30 + 4096],
  ['more than 3 GiB', 3 * 2 ** 30 + 4096],
])('blocks of %s lie where they say, all over a sparse arena of 64 GiB', (_what, byteLength) => {
  using made = memfd.make({ byteLength: SPARSE, granule: 4096, allocate: false });
  using other = made.attach();
  const { arena } = made;
  const begin = memoryOffset(arena.fd);
  const blocks: DmaBlock[] = [];
  if (byteLength < 4096) {
    // At both sides of each GiB.
    const fillers = Array.from({ length: 64 }, () => {
      const filler = arena.allocate(2 ** 30 - 8192, { align: 2 ** 30 });
      blocks.push(arena.allocate(byteLength), other.allocate(byteLength));
      return filler;
    });
    arena.freeMany(fillers);
  } else {
    const count = Math.floor(SPARSE / byteLength);
    blocks.push(...Array.from({ length: count }, () => arena.allocate(byteLength)));
    blocks.push(other.allocate(arena.stats().free));
    expect(arena.stats()).toMatchObject({ used: SPARSE, free: 0, longestFree: 0, fragmentation: 0 });
    expect(() => other.allocate(1)).toThrow(/^ENOSPC: /);
  }
  blocks.forEach(({ bytes }, index) => {
    bytes[0] = 1 + (index % 100);
    bytes[bytes.length - 1] = 101 + (index % 100);
  });
  const found = Buffer.alloc(1);
  blocks.forEach(({ bytes, offset, byteLength: length }, index) => {
    expect([bytes[0], bytes[length - 1]]).toEqual([1 + (index % 100), 101 + (index % 100)]);
    // Not by a mapping.
    readSync(arena.fd, found, 0, 1, begin + offset);
    expect(found[0]).toBe(1 + (index % 100));
    readSync(arena.fd, found, 0, 1, begin + offset + length - 1);
    expect(found[0]).toBe(101 + (index % 100));
  });
  for (const block of blocks) {
    block.free();
  }
  expect(other.stats()).toMatchObject({ used: 0, free: SPARSE, longestFree: SPARSE });
});

test.each([shm, memfd, dmaBuffer])(
  'an arena over $name is exhausted to the last granule, and refilled',
  (backing) => {
    using made = backing.make({ byteLength: 1 << 20, granule: 64 });
    const { arena } = made;
    for (let round = 0; round < 3; round++) {
      const singles = arena.allocateMany(8192, 64);
      const pairs = Array.from({ length: 4096 }, () => arena.allocate(128));
      expect(arena.stats()).toMatchObject({ used: 1 << 20, free: 0, longestFree: 0, blocks: 12_288 });
      for (const more of [() => arena.allocate(1), () => arena.allocateMany(1, 1)]) {
        expect(more).toThrow(/^ENOSPC: /);
      }
      expect(new Set([...singles, ...pairs].map(({ offset }) => offset)).size).toBe(12_288);
      // A hole is found wherever it is.
      for (const block of [singles[4711], pairs[815], singles[0], pairs.at(-1)] as DmaBlock[]) {
        const { offset, byteLength } = block;
        block.free();
        expect(() => arena.allocate(byteLength + 1)).toThrow(/^ENOSPC: /);
        const again = arena.allocate(byteLength);
        expect(again.offset).toBe(offset);
        singles.push(again);
      }
      arena.freeMany([...singles, ...pairs].filter(({ freed }) => !freed));
      expect(arena.check()).toEqual([]);
      expect(arena.stats()).toMatchObject({ used: 0, longestFree: 1 << 20, blocks: 0 });
    }
  },
);
