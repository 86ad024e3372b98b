/**
 * `iospace/bits`: the next bit of a bitmap, and how many bits are set or differ, 32 at a time.
 *
 * A bitmap is any typed array, Buffer or DataView. Its bit n is bit n % 8 of its byte n / 8; on a little-endian machine,
 * as all that iospace supports are, that is also bit n % 32 of element n / 32 of a Uint32Array, and bit n of a bitmap of the
 * kernel's. A view whose ArrayBuffer was detached has no bits.
 *
 * Uint32Array and Uint8Array (Buffer too) are read where they are; a view of any other type costs another view for each
 * call. Nothing is locked: where others write to the bitmap meanwhile, an answer is about what was read.
 *
 * @module
 */
import { checkInteger, checkOptionalInteger, checkUint64 } from './check.js';
import { wrongType, wrongValue } from './errors.js';

export type { CodedError } from './errors.js';

/** What is read without another view. */
type Words = Uint32Array | Uint8Array;

const INT32_MIN = -(2 ** 31);
const UINT32_MAX = 2 ** 32 - 1;

/**
 * Finds the first bit that is set, at `offset` or after it.
 *
 * @param size - bits that are looked at, from 0 to all of the bitmap, which is the default
 * @param offset - where the search begins; one at or after `size` finds nothing. @defaultValue 0
 * @returns its number; `size` if there is none, as the kernel's find_next_bit does
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @example
 * const bitmap = Uint8Array.of(0b0000_0000, 0b0001_0100);
 * findNextBit(bitmap, 16, 0); // 10
 * findNextBit(bitmap, 16, 11); // 12
 * findNextBit(bitmap, 16, 13); // 16: there is none
 */
export function findNextBit(bitmap: ArrayBufferView, size?: number, offset?: number): number {
  return findNext(bitmap, size, offset, 0);
}

/**
 * Finds the first bit that is not set, at `offset` or after it.
 *
 * @param size - bits that are looked at, from 0 to all of the bitmap, which is the default
 * @param offset - where the search begins; one at or after `size` finds nothing. @defaultValue 0
 * @returns its number; `size` if there is none, as the kernel's find_next_zero_bit does
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @example
 * const bitmap = Uint32Array.of(0xffff_ffff, 0x0000_00ff);
 * const free = findNextZeroBit(bitmap, 64, 0); // 40
 * const run = findNextBit(bitmap, 64, free) - free; // 24 free bits in a row
 */
export function findNextZeroBit(bitmap: ArrayBufferView, size?: number, offset?: number): number {
  return findNext(bitmap, size, offset, -1);
}

/**
 * Counts the bits that are set in an integer from 0 to 255.
 *
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @example
 * hammingWeight8(0b11101); // 4
 */
export function hammingWeight8(value: number): number {
  return weight(checkInteger('value', value, 0, 0xff));
}

/**
 * Counts the bits that are set in an integer from 0 to 65535.
 *
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @example
 * hammingWeight16(0xf00f); // 8
 */
export function hammingWeight16(value: number): number {
  return weight(checkInteger('value', value, 0, 0xffff));
}

/**
 * Counts the bits that are set in an integer of 32 bits, from -2^31 to 2^32 - 1: JavaScript's bit operators give signed
 * ones.
 *
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @example
 * hammingWeight32(0x8000_0001); // 2
 * hammingWeight32(~0); // 32
 */
export function hammingWeight32(value: number): number {
  return weight(checkInteger('value', value, INT32_MIN, UINT32_MAX));
}

/**
 * Counts the bits that are set in an integer from 0 to 2^64 - 1; a `number` must be exact, to 2^53 - 1.
 *
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @example
 * hammingWeight64(0xffff_0000_0000_0001n); // 17
 */
export function hammingWeight64(value: bigint | number): number {
  return weight64(checkUint64('value', value));
}

/**
 * Counts the bits in which two integers differ, each from 0 to 2^64 - 1, exact if it is a `number`. Two of 32 bits may be
 * negative, as JavaScript's bit operators give them.
 *
 * It is the bits that count, not the digits: for those, compare strings.
 *
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
 * @example
 * hammingDistance(0b1011101, 0b1001001); // 2
 * hammingDistance(1n << 63n, 0); // 1
 */
export function hammingDistance(a: number | bigint, b: number | bigint): number;
/**
 * Counts the places in which two strings of equal length have different characters: Unicode's code points, as they are,
 * so that a letter with its accent beside it is two.
 *
 * @throws ERR_INVALID_ARG_TYPE; ERR_INVALID_ARG_VALUE for strings of different lengths
 * @example
 * hammingDistance('toned', 'roses'); // 3
 * hammingDistance('2143896', '2233796'); // 3
 */
export function hammingDistance(a: string, b: string): number;
/**
 * Counts the bits in which two bitmaps differ; against one of zeros, the bits that are set.
 *
 * @param size - bits that are compared, from 0 to all of the shorter; absent: all, of bitmaps of equal length
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE; ERR_INVALID_ARG_VALUE for different lengths without `size`
 * @example
 * hammingDistance(Uint8Array.of(0xff, 0x00), Uint8Array.of(0x0f, 0x01)); // 5
 * hammingDistance(Uint8Array.of(0xff, 0x00), Uint8Array.of(0x0f, 0x01), 8); // 4
 */
export function hammingDistance(a: ArrayBufferView, b: ArrayBufferView, size?: number): number;
export function hammingDistance(a: unknown, b: unknown, size?: unknown): number {
  if (ArrayBuffer.isView(a)) {
    return distanceOfBitmaps(a, b, size);
  }
  if (size !== undefined) {
    throw wrongType('size', 'undefined (only bitmaps have a size)', size);
  }
  if (typeof a === 'string') {
    return distanceOfStrings(a, b);
  }
  if (typeof a !== 'number' && typeof a !== 'bigint') {
    throw wrongType('a', 'a number, a bigint, a string, a typed array or a DataView', a);
  }
  // The numbers of most calls; by way of bigint it takes ten times as long.
  return is32Bit(a) && is32Bit(b) ? weight(a ^ b) : weight64(checkUint64('a', a) ^ checkUint64('b', b));
}

function is32Bit(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= INT32_MIN && (value as number) <= UINT32_MAX;
}

/** @param flip - what makes the bits that are sought ones: 0, or -1 for zeros */
function findNext(bitmap: unknown, size: unknown, offset: unknown, flip: 0 | -1): number {
  const words = wordsOf('bitmap', bitmap);
  const bits = 8 * words.byteLength;
  const end = checkOptionalInteger('size', size, 0, bits, bits);
  const start = checkOptionalInteger('offset', offset, 0, Number.MAX_SAFE_INTEGER, 0);
  // A shift goes by the last five bits of its count, whatever comes before them.
  let mask = -1 << start;
  for (let first = start - (start & 31); first < end; first += 32) {
    const word = (wordAt(words, first / 32) ^ flip) & mask;
    if (word !== 0) {
      return Math.min(first + trailingZeros(word), end);
    }
    mask = -1;
  }
  return end;
}

function distanceOfBitmaps(a: unknown, b: unknown, size: unknown): number {
  const [ours, theirs] = [wordsOf('a', a), wordsOf('b', b)];
  if (size === undefined && ours.byteLength !== theirs.byteLength) {
    throw wrongValue('the bytes of b', `${ours.byteLength}, as a has (or give a size),`, theirs.byteLength);
  }
  const bits = 8 * Math.min(ours.byteLength, theirs.byteLength);
  const end = checkOptionalInteger('size', size, 0, bits, bits);
  const whole = (end - (end & 31)) / 32;
  let distance = 0;
  for (let index = 0; index < whole; index++) {
    distance += weight(wordAt(ours, index) ^ wordAt(theirs, index));
  }
  const rest = ~(-1 << end);
  return distance + weight((wordAt(ours, whole) ^ wordAt(theirs, whole)) & rest);
}

function distanceOfStrings(a: string, b: unknown): number {
  if (typeof b !== 'string') {
    throw wrongType('b', 'a string, as a is', b);
  }
  const [ours, theirs] = [[...a], [...b]];
  if (ours.length !== theirs.length) {
    throw wrongValue('the characters of b', `${ours.length}, as a has,`, theirs.length);
  }
  return ours.filter((character, at) => character !== theirs[at]).length;
}

function wordsOf(name: string, bitmap: unknown): Words {
  if (bitmap instanceof Uint32Array || bitmap instanceof Uint8Array) {
    return bitmap;
  }
  if (!ArrayBuffer.isView(bitmap)) {
    throw wrongType(name, 'a typed array, Buffer or DataView', bitmap);
  }
  const { buffer } = bitmap;
  // First, because a DataView whose buffer is detached throws when it is asked.
  return buffer.byteLength === 0
    ? new Uint8Array(0)
    : new Uint8Array(buffer, bitmap.byteOffset, bitmap.byteLength);
}

/** 32 bits of a bitmap; zeros for those after its end. */
function wordAt(words: Words, index: number): number {
  if (words instanceof Uint32Array) {
    return words[index] ?? 0;
  }
  const at = 4 * index;
  return (
    (words[at] ?? 0) |
    ((words[at + 1] ?? 0) << 8) |
    ((words[at + 2] ?? 0) << 16) |
    ((words[at + 3] ?? 0) << 24)
  );
}

/** The place of the lowest bit that is set in 32, one of which is. */
function trailingZeros(word: number): number {
  return 31 - Math.clz32(word & -word);
}

/** Adds up neighbours: pairs, fours, eights, and by the multiplication all four eights. Warren, "Hacker's Delight", 5-1. */
function weight(word: number): number {
  const pairs = word - ((word >>> 1) & 0x5555_5555);
  const fours = (pairs & 0x3333_3333) + ((pairs >>> 2) & 0x3333_3333);
  const eights = (fours + (fours >>> 4)) & 0x0f0f_0f0f;
  return Math.imul(eights, 0x0101_0101) >>> 24;
}

function weight64(value: bigint): number {
  return weight(Number(value & 0xffff_ffffn)) + weight(Number(value >> 32n));
}
