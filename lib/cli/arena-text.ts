/**
 * What `iospace arena` prints: text made of numbers. Touches no arena, terminal or environment.
 *
 * @module
 */
import { styleText } from 'node:util';

import type {
  ArenaDifference,
  ArenaInfo,
  ArenaOwnerStats,
  ArenaStats,
  ArenaSwept,
  ArenaTagStats,
} from '../arena/stats.js';
import { sizeText } from '../size-text.js';
import { type Column, countText, tableText } from './text.js';

/** A share as a percentage. Only none is shown as 0 %, only all as 100 %. */
export function shareText(share: number): string {
  const tenths = Math.round(share * 1000);
  const least = share > 0 ? 1 : 0;
  const most = share < 1 ? 999 : 1000;
  return `${Math.min(Math.max(tenths, least), most) / 10} %`;
}

/** An arena of a list, and what it holds; without that, unless there is an error, nobody has used it yet. */
export interface ListedArena extends ArenaInfo {
  stats?: ArenaStats;
}

const listColumns: readonly Column<ListedArena>[] = [
  { head: 'name', cell: ({ name }) => name },
  { head: 'backing', cell: ({ backing }) => backing },
  { head: 'size', right: true, cell: ({ byteLength }) => (byteLength === 0 ? '' : sizeText(byteLength)) },
  { head: 'used', right: true, cell: ({ stats }) => (stats === undefined ? '' : sizeText(stats.used)) },
  { head: 'blocks', right: true, cell: ({ stats }) => String(stats?.blocks ?? '') },
  {
    head: 'longest free',
    right: true,
    cell: ({ stats }) => (stats === undefined ? '' : sizeText(stats.longestFree)),
  },
  { head: 'owners', cell: ({ stats, error }) => error?.message ?? ownersText(stats) },
];

function ownersText(stats: ArenaStats | undefined): string {
  if (stats === undefined) {
    return 'nobody has used it yet';
  }
  const alive = stats.byOwner.filter((owner) => owner.alive).length;
  const dead = stats.byOwner.length - alive;
  return dead === 0 ? `${alive} alive` : `${alive} alive, ${dead} dead`;
}

/** All arenas of a machine, one a line. */
export function listText(arenas: readonly ListedArena[]): string {
  return arenas.length === 0
    ? 'no arenas: none in /dev/shm (iospace arena create NAME --size 64M), and none of a module that you may open'
    : tableText(listColumns, arenas);
}

const tagColumns: readonly Column<ArenaTagStats>[] = [
  { head: 'tag', cell: ({ tag }) => (tag === '' ? '(none)' : tag) },
  { head: 'blocks', right: true, cell: ({ blocks }) => String(blocks) },
  { head: 'size', right: true, cell: ({ bytes }) => sizeText(bytes) },
];

const ownerColumns: readonly Column<ArenaOwnerStats>[] = [
  { head: 'owner', right: true, cell: ({ owner }) => String(owner) },
  { head: 'pid', right: true, cell: ({ pid }) => String(pid) },
  { head: 'program', cell: ({ program }) => program },
  { head: 'state', cell: ({ alive }) => (alive ? 'alive' : 'dead') },
  { head: 'blocks', right: true, cell: ({ blocks }) => String(blocks) },
  { head: 'size', right: true, cell: ({ bytes }) => sizeText(bytes) },
];

/** `frames: shm, 64 MiB in granules of 4 KiB`. */
export function titleText({ name, backing, byteLength, granule }: ArenaInfo): string {
  return `${name}: ${backing}, ${sizeText(byteLength)} in granules of ${sizeText(granule)}`;
}

/** What an arena holds, and for whom. */
export function statsText(arena: ArenaInfo, stats: ArenaStats): string {
  const { byteLength, used, free, blocks } = stats;
  const facts: [string, string, string][] = [
    ['used', sizeText(used), `${shareText(used / byteLength)}, ${countText(blocks, 'block')}`],
    ['free', sizeText(free), shareText(free / byteLength)],
    ['longest free run', sizeText(stats.longestFree), ''],
    ['fragmentation', shareText(stats.fragmentation), 'of what is free lies outside of the longest run'],
    ['most ever used', sizeText(stats.mostUsed), shareText(stats.mostUsed / byteLength)],
  ];
  const width = Math.max(...facts.map(([, value]) => value.length));
  const lines = facts.map(([name, value, note]) =>
    `  ${name.padEnd(18)}${value.padStart(width)}  ${note}`.trimEnd(),
  );
  const tables = [
    ...(stats.byTag.length === 0 ? [] : [tableText(tagColumns, stats.byTag)]),
    ...(stats.byOwner.length === 0 ? [] : [tableText(ownerColumns, stats.byOwner)]),
  ];
  return [[titleText(arena), ...lines].join('\n'), ...tables].join('\n\n');
}

/** What an arena's bitmap looks like from afar. */
export interface ArenaMap {
  /** Of the first byte: physical where the arena has such addresses, else 0. */
  address: bigint;
  /** Of each cell, which are equal parts of the arena, the share that is used: from 0 to 1. */
  cells: readonly number[];
  /** Of each cell whether a dead owner's block lies in it; absent: not asked. */
  dead?: readonly boolean[];
}

/** Whether a terminal of this environment shows signs outside of ASCII. */
export function isUnicode({ LC_ALL, LC_CTYPE, LANG }: Record<string, string | undefined>): boolean {
  return /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || '');
}

/** How a map is drawn. */
interface MapLook {
  /** How many columns there are. */
  columns: number;
  /** Whether no sign may be outside of ASCII. */
  ascii: boolean;
}

/** From nothing to all of it; a cell is first or last only if that is exactly so. */
const shades = { unicode: ['·', '░', '▒', '▓', '█'], ascii: ['.', ':', '+', '%', '#'] } as const;
const meanings = ['free', 'up to a third used', 'up to two thirds', 'more', 'all'] as const;

function shadeOf(share: number): number {
  return share <= 0 ? 0 : share >= 1 ? 4 : Math.min(Math.ceil(share * 3), 3);
}

/** Rows of a map, at most. */
const MAP_ROWS = 16;

function addressDigits(end: bigint): number {
  return Math.max(8, (end - 1n).toString(16).length);
}

/** How many cells a row has beside its address: a multiple of 8. */
function rowLength(end: bigint, columns: number): number {
  const room = columns - '0x'.length - addressDigits(end) - ' '.length;
  return Math.max(Math.floor(room / 8) * 8, 8);
}

/** How many cells the map of an arena has, so that it fits: each of as many granules, a power of two, if that comes out even. */
export function cellsFor({ byteLength, granule }: ArenaInfo, address: bigint, columns: number): number {
  const most = rowLength(address + BigInt(byteLength), columns) * MAP_ROWS;
  let cells = byteLength / granule;
  while (cells > most) {
    cells = Math.ceil(cells / 2);
  }
  return cells;
}

/** Draws the map of an arena: rows of cells, with addresses where they begin, and a legend. */
export function mapText(arena: ArenaInfo, map: ArenaMap, { columns, ascii }: MapLook): string {
  const { byteLength, granule } = arena;
  const { address, cells, dead } = map;
  const end = address + BigInt(byteLength);
  const length = rowLength(end, columns);
  const signs = ascii ? shades.ascii : shades.unicode;
  const granules = byteLength / granule / cells.length;
  const rows = [];
  for (let first = 0; first < cells.length; first += length) {
    const row = cells.slice(first, first + length).map((share, index) => {
      const sign = signs[shadeOf(share)] ?? '';
      return dead === undefined || share === 0 ? sign : coloured(sign, dead[first + index] ?? false);
    });
    const start = address + BigInt(Math.floor(first * granules) * granule);
    rows.push(`0x${start.toString(16).padStart(addressDigits(end), '0')} ${row.join('')}`);
  }
  const about = Number.isInteger(granules) ? '' : 'about ';
  return [
    `${titleText(arena)}; each sign is ${about}${sizeText(granules * granule)}`,
    ...rows,
    signs.map((sign, index) => `${sign} ${meanings[index]}`).join('  '),
    ...(dead === undefined
      ? []
      : [`${coloured('of living owners', false)}  ${coloured('some of a dead owner', true)}`]),
  ].join('\n');
}

/** Of each cell whether some of these blocks lies in it. */
export function cellsWith(
  blocks: readonly { offset: number; byteLength: number }[],
  arenaBytes: number,
  cells: number,
): boolean[] {
  const marked: boolean[] = Array(cells).fill(false);
  for (const { offset, byteLength } of blocks) {
    const first = Math.floor((offset * cells) / arenaBytes);
    const last = Math.floor(((offset + byteLength - 1) * cells) / arenaBytes);
    marked.fill(true, first, last + 1);
  }
  return marked;
}

function coloured(text: string, dead: boolean): string {
  // Whether to colour is decided by who calls.
  return styleText(dead ? 'red' : 'green', text, { validateStream: false });
}

/** `3 blocks (12 KiB) of 1 dead owner`. */
export function sweptText({ blocks, bytes, owners }: ArenaSwept): string {
  return `${countText(blocks, 'block')} (${sizeText(bytes)}) of ${countText(owners, 'dead owner')}`;
}

/** What a sweep would give back now. */
export function sweepable({ byOwner }: ArenaStats): ArenaSwept {
  const dead = byOwner.filter(({ alive, blocks }) => !alive && blocks > 0);
  return {
    blocks: dead.reduce((sum, { blocks }) => sum + blocks, 0),
    bytes: dead.reduce((sum, { bytes }) => sum + bytes, 0),
    owners: dead.length,
  };
}

/** What a check has found. */
export function differencesText(name: string, differences: readonly ArenaDifference[]): string {
  return differences.length === 0
    ? `${name}: sound`
    : differences
        .map(
          ({ part, count, index, expected, found }) =>
            `${name}: ${part}: ${countText(count, 'difference')}, the first at ${index}: expected 0x${expected.toString(16)}, found 0x${found.toString(16)}`,
        )
        .join('\n');
}
