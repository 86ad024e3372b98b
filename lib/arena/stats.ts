/**
 * What an arena says of itself, in bytes.
 *
 * @module
 */
import type { NativeArena } from '../binding.js';
import type { ArenaBacking } from './backing.js';

/** What blocks of one tag take. */
export interface ArenaTagStats {
  /** Empty for those without. */
  readonly tag: string;
  readonly blocks: number;
  readonly bytes: number;
}

/** An owner: one attachment, of a process or of a worker thread. What it is called is what it said of itself. */
export interface ArenaOwnerStats {
  /** Its number; another's, once it is dead and without blocks. */
  readonly owner: number;
  /** In its own namespace. */
  readonly pid: number;
  readonly threadId: number;
  readonly program: string;
  /** Blocks of dead owners go back by {@link Arena.sweep}. */
  readonly alive: boolean;
  readonly blocks: number;
  readonly bytes: number;
}

/** What an arena holds, in bytes where it does not say otherwise. Blocks count as what they take: whole granules. */
export interface ArenaStats {
  readonly byteLength: number;
  readonly used: number;
  readonly free: number;
  /** The longest run: what one block can have at most. */
  readonly longestFree: number;
  /** The share, 0 to 1, of what is free that lies outside of the longest run. */
  readonly fragmentation: number;
  /** How many. */
  readonly blocks: number;
  /** Most that was ever used at one time. */
  readonly mostUsed: number;
  /** Those that have blocks. */
  readonly byTag: readonly ArenaTagStats[];
  /** Those that are alive or have blocks. */
  readonly byOwner: readonly ArenaOwnerStats[];
}

/** An arena that there is, from {@link Arena.list}. */
export interface ArenaInfo {
  /** What {@link Arena.attach} takes. */
  readonly name: string;
  readonly backing: ArenaBacking;
  /** 0 where it cannot be told. */
  readonly byteLength: number;
  /** 0 where it cannot be told, and of an arena of the module that nobody has used yet. */
  readonly granule: number;
  /** Why nothing can be told: it is somebody else's, damaged, or of another version. */
  readonly error?: Error;
}

/** A block, as {@link Arena.blockAt} finds it, whoever has it. */
export interface ArenaBlockInfo {
  /** Of its first byte, as {@link Arena.blockAt} takes addresses. */
  readonly address: bigint;
  /** Of its first byte, counted from the start of the arena. */
  readonly offset: number;
  /** What it takes: whole granules. */
  readonly byteLength: number;
  /** As in `stats().byOwner`. */
  readonly owner: number;
  readonly tag: string;
  /** Bytes from the address that was asked for to the end of the block. */
  readonly left: number;
}

/** A block in an {@link ArenaDump}. */
export interface ArenaDumpedBlock {
  readonly offset: number;
  readonly byteLength: number;
  readonly owner: number;
  readonly tag: string;
}

/** All of an arena, for JSON. */
export interface ArenaDump {
  readonly name: string;
  readonly backing: ArenaBacking;
  readonly granule: number;
  readonly stats: ArenaStats;
  /** In the order of their places. */
  readonly blocks: readonly ArenaDumpedBlock[];
}

/** A part of the books that is not what it should be. */
export interface ArenaDifference {
  /** Which: `'levels'`, `'tree'`, `'bins'`, `'counts'`, `'entries'`... */
  readonly part: string;
  /** In how many places. */
  readonly count: number;
  /** The first of them: a granule, or a place in that part. */
  readonly index: number;
  readonly expected: bigint;
  readonly found: bigint;
}

/** What a sweep gave back. */
export interface ArenaSwept {
  readonly blocks: number;
  readonly bytes: number;
  /** Dead owners that had them. */
  readonly owners: number;
}

export function statsOf(native: NativeArena): ArenaStats {
  const { granule, granules } = native.description;
  const measured = native.measure();
  const names = native.tags();
  return {
    byteLength: granules * granule,
    used: measured.used * granule,
    free: measured.free * granule,
    longestFree: measured.longest * granule,
    fragmentation: measured.fragmentation,
    blocks: measured.blocks,
    mostUsed: measured.mostUsed * granule,
    byTag: measured.byTag.flatMap(({ blocks, granules: taken }, tag) =>
      blocks === 0 ? [] : [{ tag: names[tag] ?? '', blocks, bytes: taken * granule }],
    ),
    byOwner: native.owners().map((owner) => {
      const { blocks, granules: taken } = measured.byOwner[owner.owner] ?? { blocks: 0, granules: 0 };
      return { ...owner, blocks, bytes: taken * granule };
    }),
  };
}

/** Members of a block in the list of native code. */
const MEMBERS = 5;

export function dumpedBlocks(native: NativeArena): ArenaDumpedBlock[] {
  const { granule } = native.description;
  const members = native.blocks();
  const names = native.tags();
  return Array.from({ length: members.length / MEMBERS }, (_, index) => {
    const [start = 0, length = 0, , owner = 0, tag = 0] = members.subarray(index * MEMBERS);
    return { offset: start * granule, byteLength: length * granule, owner, tag: names[tag] ?? '' };
  });
}
