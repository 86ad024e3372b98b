/** What `iospace arena` prints. */
import { describe, expect, test } from 'vitest';
import type { ArenaStats } from '../../lib/arena/stats.js';
import {
  type ArenaMap,
  cellsFor,
  cellsWith,
  differencesText,
  isUnicode,
  type ListedArena,
  listText,
  mapText,
  shareText,
  sizeText,
  statsText,
  sweepable,
  sweptText,
} from '../../lib/cli/arena-text.js';

const KiB = 1024;
const MiB = 1024 * KiB;

const frames = { name: 'frames', backing: 'shm' as const, byteLength: 64 * MiB, granule: 4096 };
const stats: ArenaStats = {
  byteLength: 64 * MiB,
  used: 12.5 * MiB,
  free: 51.5 * MiB,
  longestFree: 48 * MiB,
  fragmentation: 3.5 / 51.5,
  blocks: 17,
  mostUsed: 20 * MiB,
  byTag: [
    { tag: 'frames', blocks: 16, bytes: 12 * MiB },
    { tag: '', blocks: 1, bytes: 512 * KiB },
  ],
  byOwner: [
    { owner: 0, pid: 4242, threadId: 4242, program: 'camera.js', alive: true, blocks: 14, bytes: 9 * MiB },
    { owner: 1, pid: 17, threadId: 17, program: 'encoder', alive: false, blocks: 3, bytes: 3.5 * MiB },
    { owner: 2, pid: 18, threadId: 21, program: 'encoder', alive: false, blocks: 0, bytes: 0 },
  ],
};

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1 KiB'],
  [1536, '1.5 KiB'],
  [64 * MiB, '64 MiB'],
  [64 * 1024 * MiB - 4096, '64 GiB'],
  [2 ** 42, '4 TiB'],
  [2 ** 52, '4096 TiB'],
])('%d bytes are %s', (bytes, text) => {
  expect(sizeText(bytes)).toBe(text);
});

test.each([
  [0, '0 %'],
  [1e-9, '0.1 %'],
  [0.195, '19.5 %'],
  [1 - 1e-9, '99.9 %'],
  [1, '100 %'],
])('a share of %d is %s: only none is 0, only all is 100', (share, text) => {
  expect(shareText(share)).toBe(text);
});

describe('list', () => {
  test('no arenas: says how to have one', () => {
    expect(listText([])).toBe(
      'no arenas: none in /dev/shm (iospace arena create NAME --size 64M), and none of a module that you may open',
    );
  });

  test('one a line, the damaged one with its error', () => {
    const list: ListedArena[] = [
      { ...frames, stats },
      { ...frames, name: 'old', byteLength: 0, granule: 0, error: new Error('EBADMSG: bad message') },
      { name: 'module:0', backing: 'module', byteLength: 2 ** 30, granule: 0 },
    ];
    expect(`\n${listText(list)}\n`).toBe(`
name      backing    size      used  blocks  longest free  owners
frames    shm      64 MiB  12.5 MiB      17        48 MiB  1 alive, 2 dead
old       shm                                              EBADMSG: bad message
module:0  module    1 GiB                                  nobody has used it yet
`);
  });
});

describe('stats', () => {
  test('the arena, by tag, by owner', () => {
    expect(`\n${statsText(frames, stats)}\n`).toBe(`
frames: shm, 64 MiB in granules of 4 KiB
  used              12.5 MiB  19.5 %, 17 blocks
  free              51.5 MiB  80.5 %
  longest free run    48 MiB
  fragmentation        6.8 %  of what is free lies outside of the longest run
  most ever used      20 MiB  31.3 %

tag     blocks     size
frames      16   12 MiB
(none)       1  512 KiB

owner   pid  program    state  blocks     size
    0  4242  camera.js  alive      14    9 MiB
    1    17  encoder    dead        3  3.5 MiB
    2    18  encoder    dead        0      0 B
`);
  });

  test('without blocks there is no table of tags', () => {
    const empty = { ...stats, used: 0, free: 64 * MiB, blocks: 0, byTag: [], byOwner: [] };
    expect(statsText(frames, empty).split('\n')).toHaveLength(6);
  });
});

describe('map', () => {
  const small = { ...frames, byteLength: 24 * 4096 };
  const map = (cells: number[], more: Partial<ArenaMap> = {}): ArenaMap => ({ address: 0n, cells, ...more });

  test('rows of cells with their addresses, and a legend', () => {
    const cells = [1, 1, 0.999, 0.67, 0.5, 0.3, 0.001, 0, ...Array(16).fill(0)];
    expect(`\n${mapText(small, map(cells), { columns: 20, ascii: false })}\n`).toBe(`
frames: shm, 96 KiB in granules of 4 KiB; each sign is 4 KiB
0x00000000 ██▓▓▒░░·
0x00008000 ········
0x00010000 ········
· free  ░ up to a third used  ▒ up to two thirds  ▓ more  █ all
`);
  });

  test('in ASCII, from a physical address above 4 GiB', () => {
    const text = mapText(small, map(Array(24).fill(0.5), { address: 0x12_0000_0000n }), {
      columns: 24,
      ascii: true,
    });
    expect(text.split('\n').slice(1, 4)).toEqual([
      '0x1200000000 ++++++++',
      '0x1200008000 ++++++++',
      '0x1200010000 ++++++++',
    ]);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what ASCII is
    expect(text).toMatch(/^[\x00-\x7f]*$/);
  });

  test('no line is longer than the terminal, whatever the arena', () => {
    for (const columns of [24, 79, 80, 81, 132, 211]) {
      for (const byteLength of [4096, 64 * MiB, 64 * 1024 * MiB, 3 * 4096 * 1009]) {
        for (const address of [0n, 0x8_4000_0000n]) {
          const arena = { ...frames, byteLength };
          const cells = cellsFor(arena, address, columns);
          const rows = mapText(arena, map(Array(cells).fill(1), { address }), { columns, ascii: true })
            .split('\n')
            .slice(1, -1);
          expect(rows.length).toBeLessThanOrEqual(16);
          expect(Math.max(...rows.map((row) => row.length))).toBeLessThanOrEqual(columns);
          expect(cells === byteLength / 4096 || rows.length >= 8, `${cells} cells`).toBe(true);
        }
      }
    }
  });

  test('parts that do not come out even begin where they do, and are called about', () => {
    const arena = { ...frames, byteLength: 4096 * 33 };
    const text = mapText(arena, map(Array(11 * 2).fill(1)), { columns: 20, ascii: true }).split('\n');
    expect(text[0]).toMatch(/each sign is about 6 KiB$/);
    expect(text.slice(1, 4).map((row) => row.slice(0, 10))).toEqual([
      '0x00000000',
      '0x0000c000',
      '0x00018000',
    ]);
  });

  test('cells in which a block lies, whole or in part', () => {
    const blocks = [
      { offset: 0, byteLength: 1 },
      { offset: 8191, byteLength: 2 },
      { offset: 12288, byteLength: 4096 },
    ];
    expect(cellsWith(blocks, 6 * 4096, 6)).toEqual([true, true, true, true, false, false]);
    expect(cellsWith(blocks, 6 * 4096, 1)).toEqual([true]);
  });

  test('by owner: what is used is green, red where a block of a dead one lies, and nothing else', () => {
    const text = mapText({ ...small, byteLength: 3 * 4096 }, map([1, 1, 0], { dead: [false, true, true] }), {
      columns: 80,
      ascii: false,
    });
    const [green, red, end] = ['\x1b[32m', '\x1b[31m', '\x1b[39m'];
    expect(text.split('\n')[1]).toBe(`0x00000000 ${green}█${end}${red}█${end}·`);
    expect(text.split('\n').at(-1)).toBe(`${green}of living owners${end}  ${red}some of a dead owner${end}`);
  });
});

test.each([
  [{ LANG: 'de_DE.UTF-8' }, true],
  [{ LANG: 'C.utf8' }, true],
  [{ LANG: 'C' }, false],
  [{ LANG: 'en_GB.UTF-8', LC_CTYPE: 'C' }, false],
  [{ LANG: 'C', LC_ALL: 'C.UTF-8', LC_CTYPE: 'POSIX' }, true],
  [{ LANG: 'C.UTF-8', LC_ALL: '' }, true],
  [{}, false],
])('of the locale %o: Unicode is %s', (environment, expected) => {
  expect(isUnicode(environment)).toBe(expected);
});

test('check: nothing, or each difference', () => {
  expect(differencesText('frames', [])).toBe('frames: sound');
  const differences = [
    { part: 'tree', count: 3, index: 17, expected: 0n, found: 2n ** 63n },
    { part: 'counts', count: 1, index: 0, expected: 5n, found: 4n },
  ];
  expect(differencesText('frames', differences).split('\n')).toEqual([
    'frames: tree: 3 differences, the first at 17: expected 0x0, found 0x8000000000000000',
    'frames: counts: 1 difference, the first at 0: expected 0x5, found 0x4',
  ]);
});

test('sweep: what it would give back, of those who had blocks', () => {
  expect(sweptText(sweepable(stats))).toBe('3 blocks (3.5 MiB) of 1 dead owner');
  expect(sweepable({ ...stats, byOwner: [] })).toEqual({ blocks: 0, bytes: 0, owners: 0 });
});
