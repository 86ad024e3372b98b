/**
 * Cache maintenance by range: writing back, and invalidating.
 *
 * @module
 */
import { binding, type NativeCacheInstructions, type NativeMaintenance } from '../binding.js';
import { checkOptions, checkRange } from '../check.js';
import { bytesOf, type Memory } from './memory.js';
import { type Maintainer, maintainByModule, maintainer, type Operation } from './module.js';

/** A part of some memory, in bytes. */
export interface CacheRange {
  /** First byte. @defaultValue 0 */
  offset?: number;
  /** Bytes; 0 does nothing. @defaultValue all that follow */
  length?: number;
}

/** Who does it: the processor's own instruction, the kernel module by system calls, or nobody. */
export type MaintainedBy = 'instruction' | 'module' | 'none';

/** What can be done to the caches here, and how copies are made. */
export interface CacheCapabilities {
  /** Bytes of a cache line; 0 if nobody can do anything. */
  readonly lineSize: number;
  readonly clean: MaintainedBy;
  readonly invalidate: MaintainedBy;
  readonly flush: MaintainedBy;
  /** The names of the processor's instructions, as `'clwb'`; absent where another does it. */
  readonly instructions: { readonly [operation in Operation]?: string };
  /**
   * Whether `invalidate` writes back first, as wherever programs can do it: pure invalidation would let them see what
   * others have deleted.
   */
  readonly invalidateIsFlush: boolean;
  /** Why nobody can do it; absent where somebody can. */
  readonly reason?: string;
  /** The kernels of copies that this processor has, the best first: `'avx512'`, `'avx2'`, `'sse4.1'`, `'neon'`, `'portable'`. */
  readonly copies: readonly string[];
}

type Calls = Readonly<Record<'cleanCache' | 'invalidateCache' | 'flushCache', NativeMaintenance>>;

/** Apart from the addon's many exports, among which each call would look for its own. */
let calls: Calls | undefined;

function loadCalls(): Calls {
  if (calls === undefined) {
    const { cleanCache, invalidateCache, flushCache } = binding();
    calls = { cleanCache, invalidateCache, flushCache };
  }
  return calls;
}

/**
 * Writes back what the caches hold of a range that memory does not have yet: the direction to a device. The lines may stay in the
 * caches. All lines that the range touches are written back whole. When it returns it is done, and in order before what
 * the program writes next.
 *
 * It works on any memory, mapped by iospace or not; on memory that no cache holds it has no effect. No system call, where
 * the processor lets programs do it: {@link capabilities} says which.
 *
 * For a buffer of a device use its `syncForDevice()`, which knows whether that device needs it, and what else it does.
 *
 * @throws ERR_OUT_OF_RANGE if the range does not lie inside; ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE;
 *   ERR_INVALID_STATE if it was detached or freed; EOPNOTSUPP, EACCES where it takes the kernel module, which is not
 *   there, or not for this user
 * @example
 * clean(frame, { offset: 0, length: 4096 });
 */
export function clean(memory: Memory, range?: CacheRange): void {
  const { cleanCache } = calls ?? loadCalls();
  if ((range === undefined ? cleanCache(memory) : inRange(cleanCache, memory, range)) === false) {
    maintain('clean', cleanCache, memory, range);
  }
}

/**
 * Discards what the caches hold of a range, so that it is read from memory next: the direction from a device. Where
 * `capabilities().invalidateIsFlush`, which is wherever a program can do it, what the caches hold is written back before:
 * then it must not be newer than what the device has written, which {@link flush} before the device begins takes care of.
 *
 * Else as {@link clean}.
 */
export function invalidate(memory: Memory, range?: CacheRange): void {
  const { invalidateCache } = calls ?? loadCalls();
  if ((range === undefined ? invalidateCache(memory) : inRange(invalidateCache, memory, range)) === false) {
    maintain('invalidate', invalidateCache, memory, range);
  }
}

/** Writes a range back as {@link clean} does, and discards what the caches hold of it. */
export function flush(memory: Memory, range?: CacheRange): void {
  const { flushCache } = calls ?? loadCalls();
  if ((range === undefined ? flushCache(memory) : inRange(flushCache, memory, range)) === false) {
    maintain('flush', flushCache, memory, range);
  }
}

/** What can be done to the caches here. Opens the module's device where it takes that. */
export function capabilities(): CacheCapabilities {
  return describe(binding().cacheInstructions(), maintainer);
}

/**
 * @param find - finds the module's device, or throws
 * @internal
 */
export function describe(instructions: NativeCacheInstructions, find: () => Maintainer): CacheCapabilities {
  const { lineSize, copies, ...names } = instructions;
  const copyNames = Object.freeze(copies);
  if (lineSize > 0) {
    return {
      ...by('instruction', lineSize),
      instructions: Object.freeze(
        Object.fromEntries(Object.entries(names).filter(([, name]) => name !== undefined)),
      ),
      copies: copyNames,
    };
  }
  try {
    const { cacheLine } = find().info;
    return { ...by('module', cacheLine), instructions: {}, copies: copyNames };
  } catch (error) {
    const reason = (error as Error).message;
    return { ...by('none', 0), reason, instructions: {}, copies: copyNames };
  }
}

/** Whoever does one of them does all, and none of them invalidates alone. */
function by(who: MaintainedBy, lineSize: number) {
  return { lineSize, clean: who, invalidate: who, flush: who, invalidateIsFlush: who !== 'none' };
}

/** The usual call, without another object or check than native code makes; false for all that is unusual. */
function inRange(native: NativeMaintenance, memory: Memory, range: CacheRange): false | undefined {
  if (typeof range !== 'object' || range === null) {
    return false;
  }
  for (const name in range) {
    if (name !== 'offset' && name !== 'length') {
      return false;
    }
  }
  const { offset = 0, length } = range;
  return length === undefined ? native(memory, offset) : native(memory, offset, length);
}

/**
 * The same with all checks, for whatever memory, and by whoever can do it.
 *
 * @param find - finds the module's device, or throws
 * @internal
 */
export function maintain(
  operation: Operation,
  native: NativeMaintenance,
  memory: Memory,
  range: CacheRange | undefined,
  find: () => Maintainer = maintainer,
): void {
  const bytes = bytesOf('memory', memory);
  const { offset = 0, length } = checkOptions(range, ['offset', 'length'], 'range');
  const byteLength = checkRange(offset, length, bytes.byteLength);
  if (byteLength > 0 && native(bytes, offset, byteLength) === false) {
    maintainByModule(find(), operation, bytes.subarray(offset, offset + byteLength));
  }
}
