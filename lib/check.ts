/**
 * The argument checks. Each returns what it was given; success comes first and allocates nothing, for some
 * of them run in the inner loops of drivers.
 *
 * @module
 */
import { nextPowerOfTwo } from './arithmetic.js';
import { outOfRange, wrongType, wrongValue } from './errors.js';

/** An integer from `least` to `most`, both within the exact integers of a `number`. */
export function checkInteger(name: string, value: unknown, least: number, most: number): number {
  if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most) {
    return value as number;
  }
  if (typeof value !== 'number') {
    throw wrongType(name, 'a number', value);
  }
  throw outOfRange(name, `an integer from ${least} to ${most}`, value);
}

/** An integer as {@link checkInteger}, or, absent, what stands for it. */
export function checkOptionalInteger(
  name: string,
  value: unknown,
  least: number,
  most: number,
  absent: number,
): number {
  return value === undefined ? absent : checkInteger(name, value, least, most);
}

/** A number that a descriptor can have. */
export function checkDescriptor(value: unknown, name = 'fd'): number {
  return checkInteger(name, value, 0, 2 ** 31 - 1);
}

/** The longest delay of a timer. */
const MAX_TIMEOUT = 2 ** 31 - 1;

/** Milliseconds that a timer can have, or undefined for no limit. */
export function checkTimeout(value: unknown): number | undefined {
  return value === undefined ? undefined : checkInteger('timeout', value, 0, MAX_TIMEOUT);
}

/** The largest power of two among the exact integers of a `number`. */
const MAX_POWER_OF_TWO = 2 ** 52;

/** A power of two from `least`, which is one. */
export function checkPowerOfTwo(name: string, value: unknown, least: number): number {
  const integer = checkInteger(name, value, least, MAX_POWER_OF_TWO);
  if (nextPowerOfTwo(integer) !== integer) {
    throw outOfRange(name, `a power of two from ${least} to ${MAX_POWER_OF_TWO}`, value);
  }
  return integer;
}

/** A 64-bit unsigned quantity, given as `bigint` or as an exact `number`. */
export function checkUint64(name: string, value: unknown): bigint {
  if (typeof value === 'bigint') {
    if (value >= 0n && value <= 0xffff_ffff_ffff_ffffn) {
      return value;
    }
    throw outOfRange(name, 'an integer from 0 to 2^64 - 1', value);
  }
  if (typeof value !== 'number') {
    throw wrongType(name, 'a bigint or a number', value);
  }
  return BigInt(checkInteger(name, value, 0, Number.MAX_SAFE_INTEGER));
}

/**
 * A range of bytes inside `available` bytes; its length, absent, is all that follows `offset`.
 *
 * @param of - what they are members of, if they are no arguments
 * @returns the length
 */
export function checkRange(offset: unknown, length: unknown, available: number, of?: string): number {
  const start = checkInteger(of === undefined ? 'offset' : `${of}.offset`, offset, 0, available);
  const rest = available - start;
  return checkOptionalInteger(of === undefined ? 'length' : `${of}.length`, length, 0, rest, rest);
}

export function checkString(name: string, value: unknown): string {
  if (typeof value !== 'string') {
    throw wrongType(name, 'a string', value);
  }
  if (value.includes('\0')) {
    throw wrongValue(name, 'a string without null bytes', value);
  }
  return value;
}

export function checkBoolean(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') {
    throw wrongType(name, 'true or false', value);
  }
  return value;
}

/** One of the known words. */
export function checkOneOf<T extends string>(name: string, value: unknown, known: readonly T[]): T {
  const found = known.find((word) => word === value);
  if (found !== undefined) {
    return found;
  }
  const words = known.map((word) => `'${word}'`);
  throw wrongValue(name, words.length === 1 ? `${words[0]}` : `one of ${words.join(', ')}`, value);
}

/**
 * An object of options, none of them unknown: a misspelt option must not be ignored.
 *
 * @param name - of the argument that they are
 */
export function checkOptions<T extends object>(
  value: T | undefined,
  known: readonly (keyof T & string)[],
  name = 'options',
): Partial<T> {
  if (value === undefined) {
    return {};
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw wrongType(name, known.length === 0 ? 'an object' : `an object of ${known.join(', ')}`, value);
  }
  for (const key of Object.keys(value)) {
    if (!known.some((word) => word === key)) {
      throw wrongValue(name, known.length === 0 ? 'no option' : `only the options ${known.join(', ')}`, key);
    }
  }
  return value;
}

export function checkSignal(value: unknown): AbortSignal {
  if (!(value instanceof AbortSignal)) {
    throw wrongType('signal', 'an AbortSignal', value);
  }
  return value;
}
