/**
 * `dmaMalloc()` and `dmaFree()`: blocks of the default arena, which is the best that the machine has.
 *
 * @module
 */
import { checkBoolean } from '../check.js';
import { DmaDevice } from '../device/device.js';
import { explained, isSystemError, notSupported, wrongType } from '../errors.js';
import { Arena, type ArenaOptions } from './arena.js';
import { DEFAULT_GRANULE } from './backing.js';
import { checkBlock, DmaBlock } from './block.js';
import { BufferBacking } from './buffer-backing.js';
import type { AllocateOptions } from './request.js';

/** How a block of {@link dmaMalloc} is to be. */
export interface MallocOptions extends AllocateOptions {
  /** What to allocate from. @defaultValue the default arena */
  arena?: Arena;
  /** Whether nothing but the module's reserved memory will do. @defaultValue false */
  strict?: boolean;
}

/** A buffer that stands for an arena which nobody made, at most and at least. */
const MOST_BUFFER_LENGTH = 64 * 2 ** 20;
const LEAST_BUFFER_LENGTH = 2 ** 20;

/** Of this environment: the default arena, once there is one. */
let standing: Arena | undefined;

/** Those that were made here, and may have blocks: they end with the environment. */
const made = new Set<Arena>();

/**
 * Allocates a block of the default arena, or of `arena`.
 *
 * The default arena is found at the first call: what {@link configureArena} said; else what the environment variable
 * `IOSPACE_ARENA` names, as {@link Arena.attach} takes it; else the module's first arena; else a coherent buffer of
 * `iospace0`, of up to 64 MiB; else a memfd of 64 MiB, of this thread. `block.arena.backing` says which it was.
 *
 * @param byteLength - from 1; the block takes whole granules
 * @throws as {@link Arena.allocate}; EOPNOTSUPP with `strict` where there is but another arena: the message says which;
 *   as {@link Arena.attach} if `IOSPACE_ARENA` is no arena
 * @example
 * using block = dmaMalloc(4096);
 * block.bytes.set(samples);
 */
export function dmaMalloc(byteLength: number, options?: MallocOptions): DmaBlock {
  if (options === undefined) {
    return (standing ?? defaultArena()).allocate(byteLength);
  }
  const { arena, rest } = split(options);
  return arena.allocate(byteLength, rest);
}

/**
 * Allocates as many blocks of one length by one call, or none.
 *
 * @throws as {@link dmaMalloc}
 */
export function dmaMallocMany(count: number, byteLength: number, options?: MallocOptions): DmaBlock[] {
  const { arena, rest } = split(options ?? {});
  return arena.allocateMany(count, byteLength, rest);
}

/**
 * Frees a block: {@link DmaBlock.free}.
 *
 * @throws ERR_INVALID_ARG_TYPE for what is no block; ERR_INVALID_STATE for one that was freed
 */
export function dmaFree(block: DmaBlock): void {
  checkBlock(block).free();
}

/**
 * Frees many blocks, those of one arena by one call: all of them, or none. Of several arenas one after the other.
 *
 * @throws as {@link Arena.freeMany}
 */
export function dmaFreeMany(blocks: readonly DmaBlock[]): void {
  DmaBlock.freeAll(blocks);
}

/**
 * Says what {@link dmaMalloc} allocates from in this thread, from now on. Blocks of the former arena stay as they are.
 *
 * @param arena - one that the caller closes; or how to make one, which lives as long as the thread; or undefined, for what
 *   is found anew at the next call
 * @throws as {@link Arena.create}
 * @example
 * configureArena({ name: 'frames', byteLength: 256 << 20 });
 */
export function configureArena(arena: Arena | ArenaOptions | undefined): void {
  standing = arena === undefined || arena instanceof Arena ? arena : kept(Arena.create(arena));
}

/** The arena, and what it is asked for. */
function split(options: MallocOptions): { arena: Arena; rest: AllocateOptions } {
  if (typeof options !== 'object' || options === null) {
    throw wrongType('options', 'an object', options);
  }
  const { arena = standing ?? defaultArena(), strict = false } = options;
  if (!(arena instanceof Arena)) {
    throw wrongType('arena', 'an Arena', arena);
  }
  if (checkBoolean('strict', strict) && arena.backing !== 'module') {
    throw notSupported(
      'dmaMalloc',
      `there is no reserved arena of the module, only '${arena.name}' (${arena.backing}, ${arena.byteLength} bytes): modprobe iospace arena=SIZE@ADDRESS, or leave out strict`,
    );
  }
  return { arena, rest: withoutOwn(options) };
}

/** Copied only where it has to be: that takes longer than the allocation. */
function withoutOwn(options: MallocOptions): AllocateOptions {
  if (!('arena' in options || 'strict' in options)) {
    return options;
  }
  const { arena: _, strict: __, ...rest } = options;
  return rest;
}

function defaultArena(): Arena {
  const { IOSPACE_ARENA: named } = process.env;
  standing = kept(
    named === undefined || named === '' ? (ofModule() ?? ofBuffer() ?? ofMemfd()) : ofEnvironment(named),
  );
  return standing;
}

function kept(arena: Arena): Arena {
  made.add(arena);
  return arena;
}

/** What says that this machine, or this user, has no such arena. */
const absent = ['ENOENT', 'EACCES', 'EPERM', 'ENODEV', 'ENXIO', 'ENOTTY', 'EOPNOTSUPP'];

/** Who reads of an arena that nobody asked for in the program is told who did. */
function ofEnvironment(name: string): Arena {
  return explained(
    { path: name },
    {
      ENOENT:
        'the environment variable IOSPACE_ARENA names an arena that there is not: iospace arena shows those that there are',
      EACCES: 'the environment variable IOSPACE_ARENA names an arena that this user may not open',
      EINVAL: 'the environment variable IOSPACE_ARENA names what is no arena of iospace',
    },
    () => Arena.attach(name),
  );
}

function ofModule(): Arena | undefined {
  try {
    return Arena.attach('module:0');
  } catch (error) {
    if (isSystemError(error, ...absent)) {
      return undefined;
    }
    throw error;
  }
}

function ofBuffer(): Arena | undefined {
  let device: DmaDevice;
  try {
    device = DmaDevice.open();
  } catch (error) {
    if (isSystemError(error, ...absent)) {
      return undefined;
    }
    throw error;
  }
  for (let byteLength = MOST_BUFFER_LENGTH; byteLength >= LEAST_BUFFER_LENGTH; byteLength /= 2) {
    try {
      const buffer = device.alloc(byteLength, { memory: 'coherent' });
      return new Arena(
        BufferBacking.create(buffer, 'iospace0', DEFAULT_GRANULE, byteLength, () => device.close()),
      );
    } catch (error) {
      if (!isSystemError(error, 'ENOMEM', 'ENOSPC', 'EDQUOT', 'EOPNOTSUPP')) {
        device.close();
        throw error;
      }
    }
  }
  device.close();
  return undefined;
}

/** Its pages come as they are touched: this is what a program gets that said nothing. */
function ofMemfd(): Arena {
  return Arena.create({ name: 'default', backing: 'memfd', allocate: false });
}
