/**
 * What an arena is made of: where its memory and its books are.
 *
 * @module
 */
import type { NativeArena, NativeArenaCreation, NativeBinding } from '../binding.js';
import type { MemoryType } from '../device/memory.js';
import type { ReservedArena } from '../device/reserved-arena.js';
import { refusedFile } from './refusal.js';
import type { Parts } from './views.js';

/**
 * What an arena's memory is.
 *
 * - `shm`: an object in `/dev/shm`, which any process finds by its name; it stays until it is unlinked
 * - `memfd`: memory without a name in the system, for whoever has its descriptor
 * - `hugepages`: the same, of huge pages, which the machine must have set aside (`vm.nr_hugepages`)
 * - `module`: a reserved arena of the kernel module; its books live as long as the module
 * - `buffer`: a {@link DmaBuffer}, for its own thread alone
 */
export type ArenaBacking = 'shm' | 'memfd' | 'hugepages' | 'module' | 'buffer';

/** What an arena's blocks are made of, if nobody said otherwise: bytes. */
export const DEFAULT_GRANULE = 4096;

/** Their numbers in the header of an arena: `Kind` of native/arena_shared.h. */
const kinds: Readonly<Record<ArenaBacking, number>> = {
  shm: 1,
  memfd: 2,
  hugepages: 3,
  module: 4,
  buffer: 5,
};

export function backingOfKind(kind: number): ArenaBacking {
  const names = Object.keys(kinds) as ArenaBacking[];
  const found = names.find((name) => kinds[name] === kind);
  if (found === undefined) {
    throw new Error(`the addon speaks of an arena of kind ${kind}, which this version does not know`);
  }
  return found;
}

/** A new arena in a file without one; the words are those of the native creation, but for the kind. */
export function makeArena(
  native: NativeBinding,
  fd: number,
  path: string,
  creation: Omit<NativeArenaCreation, 'kind'> & { kind: ArenaBacking },
): NativeArena {
  const made = native.createArena(fd, { ...creation, kind: kinds[creation.kind] });
  if ('fault' in made) {
    throw refusedFile(made, 'create', path);
  }
  return made;
}

/** An arena's memory and its attachment. */
export interface Backing extends Parts {
  readonly kind: ArenaBacking;
  readonly name: string;
  readonly native: NativeArena;
  /** What `bytes` is, unless something else is asked for. */
  readonly memory: MemoryType;
  readonly memoryTypes: readonly MemoryType[];
  /** What a mapping of a block's own is made of, in bytes. */
  readonly page: number;
  /** Of the first byte. Absent where nothing is known of it. */
  readonly physicalAddress?: bigint;
  /** What a device can attach. */
  readonly reserved?: ReservedArena;
  /** The bus address of the first byte; absent where it takes an attachment. Throws once the memory was freed. */
  readonly dmaAddress?: () => bigint;
  /** Removes the name. */
  unlink(): void;
  /** Ends what is its own, after all of its parts. */
  close(): void;
}
