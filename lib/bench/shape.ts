/**
 * Checks of what was read from a file as JSON: of each member what it is to be, and nothing else is kept.
 *
 * @module
 */
import { inspect } from 'node:util';

/** What a value is to be, in words, and whether it is. */
export interface Shape {
  readonly says: string;
  is(value: unknown): boolean;
}

export const text: Shape = { says: 'a string', is: (value) => typeof value === 'string' };

export const truth: Shape = { says: 'true or false', is: (value) => typeof value === 'boolean' };

export const amount: Shape = {
  says: 'a number from 0 on',
  is: (value) => Number.isFinite(value) && (value as number) >= 0,
};

export function oneOf(words: readonly string[]): Shape {
  return { says: words.join(' or '), is: (value) => words.some((word) => word === value) };
}

export function orNull({ says, is }: Shape): Shape {
  return { says: `${says}, or null`, is: (value) => value === null || is(value) };
}

export function listOf(shape: Shape): Shape {
  return { says: `a list, each ${shape.says}`, is: (value) => Array.isArray(value) && value.every(shape.is) };
}

/** A file that holds no result that this version can read. */
export function unreadable(path: string, expected: string, got: unknown): Error & { code: string } {
  const value = typeof got === 'string' && got.length > 60 ? `${got.slice(0, 60)}...` : got;
  return Object.assign(
    new Error(`${path}: expected ${expected}, got ${inspect(value, { depth: 0, breakLength: Infinity })}`),
    { code: 'ERR_INVALID_ARG_VALUE' },
  );
}

/**
 * The members of an object that have a meaning.
 *
 * @param path - of the file
 * @param name - of the object, for messages
 * @throws ERR_INVALID_ARG_VALUE for what is no object, and where a member is not what it is to be
 */
export function pick<Members extends string>(
  path: string,
  name: string,
  value: unknown,
  shapes: Readonly<Record<Members, Shape>>,
): Record<Members, unknown> {
  if (typeof value !== 'object' || value === null) {
    throw unreadable(path, `${name}: an object`, value);
  }
  const found = {} as Record<Members, unknown>;
  for (const member of Object.keys(shapes) as Members[]) {
    const { says, is } = shapes[member];
    const part = (value as Record<Members, unknown>)[member];
    if (!is(part)) {
      throw unreadable(path, `${name}.${member}: ${says}`, part);
    }
    found[member] = part;
  }
  return found;
}
