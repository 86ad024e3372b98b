/**
 * What an arena refuses: the codes of native code as errors that say what there is, and what to do.
 *
 * @module
 */
import type { NativeArena, NativeArenaRefusal } from '../binding.js';
import {
  type CodedError,
  errno,
  invalidState,
  outOfRange,
  type SystemError,
  systemError,
} from '../errors.js';

/** How a call ended: `Code` of native/arena_shared.h. */
export const DONE = 0;
const INVALID = 1;
const NO_SPACE = 2;
const NO_BOOKS = 3;
const TOO_MANY_BLOCKS = 4;
const NOT_ALLOCATED = 5;
export const INSIDE = 6;
const STALE = 7;
const OTHER_OWNER = 8;
const TOO_MANY_TAGS = 9;
const DAMAGED = 10;

/** Places in `answer`. */
export const START = 0;
export const LENGTH = 1;
export const SERIAL = 2;
export const OWNER = 3;
export const TAG = 4;
const FREE = 5;
const LONGEST = 6;
const ERRNO = 7;
export const INDEX = 8;

/** Why a file is no arena: `Fault` of native/arena_shared.h. */
export const NO_ARENA = 3;
const faults: Readonly<Record<number, (refusal: NativeArenaRefusal) => string>> = {
  1: () => 'no arena can be of this size, granule or name',
  2: () => 'there is an arena already: Arena.attach()',
  [NO_ARENA]: () => 'it is no arena of iospace, or its maker is not done',
  4: ({ expected, found }) => `the arena is of version ${found}, this package knows version ${expected}`,
  5: ({ expected, found }) =>
    `the arena was made for another architecture or C library, 0x${found.toString(16)}; this is 0x${expected.toString(16)}`,
  6: () => "the arena's header is damaged: remove it, and make it anew",
  7: ({ expected, found }) => `the arena is damaged: ${found} bytes where ${expected} should be`,
  8: () => 'as many as can have attached to the arena: close() others, or sweep()',
  9: () => "the arena's lock cannot be used any more: remove it, and make it anew",
};

/** The error of a file that is no arena, or cannot become one. */
export function refusedFile(refusal: NativeArenaRefusal, operation: string, path: string): SystemError {
  const hint = faults[refusal.fault]?.(refusal);
  return systemError(refusal.errno, refusal.syscall || operation, {
    path,
    ...(hint !== undefined && { hint }),
  });
}

/** What the words below are about. */
interface About {
  readonly name: string;
  readonly granule: number;
  readonly native: NativeArena;
}

const hex = (offset: number): string => `0x${offset.toString(16)}`;

/** `bytes 0x1000 to 0x2fff`, of what `answer` has. */
function range({ granule, native: { answer } }: About): string {
  const begin = (answer[START] ?? 0) * granule;
  return `bytes ${hex(begin)} to ${hex(begin + (answer[LENGTH] ?? 0) * granule - 1)}`;
}

/** The error of a call that no argument explains. */
function failed({ name, native: { answer } }: About, status: number, operation: string): SystemError {
  switch (status) {
    case NO_BOOKS:
      return systemError(answer[ERRNO] || errno.ENOSPC, operation, {
        path: name,
        hint: 'no memory for the books of the arena',
      });
    case TOO_MANY_TAGS:
      return systemError(errno.ENOSPC, operation, { path: name, hint: 'the arena has 4095 tags' });
    case DAMAGED:
      return systemError(errno.EBADMSG, operation, {
        path: name,
        hint: 'the books are damaged beyond repair: remove the arena, and make it anew',
      });
    default:
      return systemError(answer[ERRNO] || errno.EINVAL, operation, { path: name, hint: 'its lock failed' });
  }
}

/** What was asked for. */
export interface Asked {
  readonly byteLength: number;
  readonly align: number;
  readonly boundary: number;
  /** How many blocks. */
  readonly count: number;
}

/** The error of an allocation. */
export function refusedBlock(about: About, status: number, asked: Asked): SystemError | CodedError {
  const { name, granule, native } = about;
  const { byteLength, align, boundary, count } = asked;
  switch (status) {
    case INVALID:
      return impossible(granule, asked);
    case NO_SPACE: {
      const free = (native.answer[FREE] ?? 0) * granule;
      const longest = (native.answer[LONGEST] ?? 0) * granule;
      const blocks = count === 1 ? '' : `${count} blocks of `;
      const aligned = align > 1 ? `, aligned to ${align}` : '';
      const bounded = boundary > 0 ? `, within ${boundary}` : '';
      return systemError(errno.ENOSPC, 'allocate', {
        path: name,
        hint: `${blocks}${byteLength} bytes${aligned}${bounded}: ${free} bytes are free, ${longest} in one run`,
      });
    }
    case TOO_MANY_BLOCKS:
      return systemError(errno.EDQUOT, 'allocate', {
        path: name,
        hint: `the arena has ${native.description.maxBlocks} blocks, as many as the module's arena_max_blocks allows: free some`,
      });
    default:
      return failed(about, status, 'allocate');
  }
}

/** The error of what no place can meet. A base that is no multiple of the granule leaves granules few alignments. */
function impossible(granule: number, { byteLength, align, boundary }: Asked): CodedError {
  const taken = Math.ceil(byteLength / granule) * granule;
  if (boundary > 0 && boundary < taken) {
    return outOfRange('boundary', `at least the ${taken} bytes that the block takes`, boundary);
  }
  return boundary > 0 && align === 1
    ? outOfRange(
        'boundary',
        `more than the ${taken} bytes of the block, which begins at no multiple of them`,
        boundary,
      )
    : outOfRange('align', 'one that a granule of this arena has, by its address', align);
}

export function refusedTag(about: About, status: number): SystemError {
  return failed(about, status, 'tag');
}

/** The error of an address at which no block begins, or that is in none. */
export function refusedAddress(
  about: About,
  status: number,
  address: number | bigint,
  operation: 'free' | 'blockAt',
): SystemError | CodedError {
  switch (status) {
    case NOT_ALLOCATED:
      return outOfRange('address', `an address in a block (${range(about)} are free)`, address);
    case INSIDE:
      return outOfRange('address', `the first byte of a block (${range(about)} are one)`, address);
    case OTHER_OWNER:
      return notYours(about);
    default:
      return failed(about, status, operation);
  }
}

/** The error of freeing a block that was given to this attachment. */
export function refusedFree(about: About, status: number, offset: number): SystemError | CodedError {
  switch (status) {
    case NOT_ALLOCATED:
    case INSIDE:
    case STALE:
      return invalidState(
        `the block at ${hex(offset)} of the arena '${about.name}' was freed by somebody else${status === NOT_ALLOCATED ? '' : `; ${range(about)} are another block now`}`,
      );
    case OTHER_OWNER:
      return notYours(about);
    default:
      return failed(about, status, 'free');
  }
}

function notYours(about: About): SystemError {
  const { name, native } = about;
  const number = native.answer[OWNER] ?? 0;
  const text = range(about);
  const owner = native.owners().find((known) => known.owner === number);
  const who =
    owner === undefined ? '' : `, ${owner.program} (${owner.pid})${owner.alive ? '' : ', which is dead'}`;
  return systemError(errno.EPERM, 'free', {
    path: name,
    hint: `${text} are a block of owner ${number}${who}: free it with force: true`,
  });
}
