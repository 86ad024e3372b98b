/**
 * What is asked of an arena: the options of an allocation, checked and filled in.
 *
 * @module
 */
import { checkBoolean, checkOneOf, checkOptions, checkPowerOfTwo, checkString } from '../check.js';
import { type MemoryType, memoryTypes } from '../device/memory.js';
import { notSupported, wrongValue } from '../errors.js';

/** How a block is to be. */
export interface AllocateOptions {
  /**
   * What the bus address of the block is a multiple of: a power of two. Before the arena is attached to a device it
   * counts from the physical address, or, without one, from the start of the arena. A block begins on a granule in any case. @defaultValue 1
   */
  align?: number;
  /** No block crosses a multiple of this bus address: a power of two, at least what the block takes. @defaultValue none */
  boundary?: number;
  /** What `bytes` is to the CPU: one of the arena's `memoryTypes`. @defaultValue `arena.memory` */
  memory?: MemoryType;
  /** Whether the block is zeroed; without it, it holds what its last user left. @defaultValue false */
  zero?: boolean;
  /** What it is for: counted in `stats().byTag`. At most 47 bytes of UTF-8; an arena has at most 4095. @defaultValue none */
  tag?: string;
  /**
   * Gives the block pages and a mapping of its own, which end when it is freed: an array that was kept has length 0 then, and
   * does not alias the next block. Costs a system call or two; for debugging. @defaultValue false
   */
  guard?: boolean;
}

/** An allocation, every option checked and filled in. */
export interface Allocation {
  readonly align: number;
  /** 0 for none. */
  readonly boundary: number;
  readonly memory: MemoryType;
  readonly zero: boolean;
  /** Empty for none. */
  readonly tag: string;
  readonly guard: boolean;
}

const MAX_TAG_LENGTH = 47;

const names = ['align', 'boundary', 'memory', 'zero', 'tag', 'guard'] as const;

/** The options, for an arena that can be of these types. */
export function checkAllocation(
  options: AllocateOptions | undefined,
  own: MemoryType,
  types: readonly MemoryType[],
): Allocation {
  const known = checkOptions(options, names);
  const { align = 1, boundary, memory = own, zero = false, tag = '', guard = false } = known;
  checkPowerOfTwo('align', align, 1);
  if (boundary !== undefined) {
    checkPowerOfTwo('boundary', boundary, 1);
  }
  if (memory !== own && !types.includes(checkOneOf('memory', memory, memoryTypes))) {
    throw notSupported('allocate', `this arena can be ${types.join(', ')}, not ${memory}`);
  }
  checkBoolean('zero', zero);
  if (tag !== '' && Buffer.byteLength(checkString('tag', tag)) > MAX_TAG_LENGTH) {
    throw wrongValue('tag', `a string of at most ${MAX_TAG_LENGTH} bytes`, tag);
  }
  checkBoolean('guard', guard);
  return { align, boundary: boundary ?? 0, memory, zero, tag, guard };
}
