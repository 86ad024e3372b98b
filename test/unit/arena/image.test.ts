/**
 * An arena that an earlier iospace made, as it is stored beside this file: the layout of its books is what it was, or it
 * has a new version. make-image.ts made it.
 */
import { readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Arena } from '../../../lib/index.js';
import { freshName } from './backings.js';

const image = fileURLToPath(new URL('arena.img.gz', import.meta.url));

/** Why an image of x86-64 with glibc, whose lock it has, is nothing here. */
const foreign: string | undefined = (() => {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  if (process.arch !== 'x64') {
    return `the image is of x64, this is ${process.arch}`;
  }
  return header.glibcVersionRuntime === undefined ? 'the image is of glibc' : undefined;
})();

let name: string;
beforeEach(() => {
  name = freshName();
  writeFileSync(`/dev/shm/iospace-arena.${name}`, gunzipSync(readFileSync(image)), { mode: 0o600 });
});
afterEach(() => unlinkSync(`/dev/shm/iospace-arena.${name}`));

const KIB = 1024;

/** What was put into it: offset, length, tag, and which of the two put it there. */
const placed: [offset: number, byteLength: number, tag: string, owner: 1 | 2][] = [
  ...Array.from({ length: 12 }, (_, index): [number, number, string, 1] => [
    index * 8 * KIB,
    4 * KIB,
    'singles',
    1,
  ]),
  [128 * KIB, 16 * KIB, 'frames', 2],
  [144 * KIB, 560 * KIB, '', 2],
  [84 * KIB, 4 * KIB, 'singles', 2],
];

test('the image of an arena has the blocks, tags and owners that were put into it', (context) => {
  if (foreign !== undefined) {
    context.skip(foreign);
  }
  using arena = Arena.attach(name);
  expect(arena).toMatchObject({ byteLength: KIB * KIB, granule: 4 * KIB, backing: 'shm' });
  expect(arena.check()).toEqual([]);
  for (const [offset, byteLength, tag, owner] of placed) {
    expect(arena.blockAt(offset)).toMatchObject({ offset, byteLength, tag, owner });
  }
  // What was written to them, too.
  for (const [offset, byteLength, byte] of [
    [128 * KIB, 12 * KIB + 1, 0xf0],
    [144 * KIB, 560 * KIB, 0xcc],
  ] as const) {
    expect(arena.bytesAt(offset, byteLength).every((found) => found === byte)).toBe(true);
  }
  const used = placed.reduce((sum, [, byteLength]) => sum + byteLength, 0);
  const { byOwner, byTag, ...totals } = arena.stats();
  expect(totals).toMatchObject({ used, blocks: placed.length, mostUsed: used });
  expect(byTag.filter(({ blocks }) => blocks > 0)).toEqual([
    { tag: '', blocks: 1, bytes: 560 * KIB },
    { tag: 'singles', blocks: 13, bytes: 52 * KIB },
    { tag: 'frames', blocks: 1, bytes: 16 * KIB },
  ]);
  expect(byOwner.filter(({ blocks }) => blocks > 0)).toMatchObject([
    { owner: 1, alive: false, blocks: 12 },
    { owner: 2, alive: false, blocks: 3 },
  ]);
});

test('the image of an arena is one to work with', (context) => {
  if (foreign !== undefined) {
    context.skip(foreign);
  }
  using arena = Arena.attach(name);
  // What is free there, to the last granule.
  const { free, longestFree } = arena.stats();
  arena.allocate(longestFree);
  arena.allocateMany((free - longestFree) / arena.granule, arena.granule);
  expect(arena.stats()).toMatchObject({ free: 0, blocks: placed.length + 1 + (free - longestFree) / 4096 });
  expect(arena.check()).toEqual([]);
  expect(arena.sweep()).toMatchObject({ blocks: placed.length, owners: 2 });
  expect(arena.check()).toEqual([]);
});
