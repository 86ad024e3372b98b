/**
 * What shared memory is called on the command line: `/frames`, `sysv:5`, `sysv:0x1234`, `memfd:1234/7`, and shorter where
 * that can mean one thing only.
 *
 * @module
 */
import { lstatSync, readlinkSync } from 'node:fs';
import { errno, isSystemError, systemError, wrongValue } from '../errors.js';
import { objectPath } from '../shm/posix.js';
import { type ListedSegment, sysv } from '../shm/sysv.js';

/** One piece of shared memory that there is, or was when the name was looked up. */
export type Found =
  | { readonly kind: 'posix'; readonly name: string }
  | { readonly kind: 'sysv'; readonly segment: ListedSegment }
  | { readonly kind: 'memfd'; readonly pid: number; readonly fd: number };

/** What a name can mean, whether or not there is such a thing. */
export type Meaning =
  | { readonly kind: 'posix'; readonly name: string }
  | { readonly kind: 'sysv'; readonly id: number }
  | { readonly kind: 'sysv'; readonly key: number }
  | { readonly kind: 'memfd'; readonly pid: number; readonly fd: number };

const forms = '/NAME, sysv:ID, sysv:0xKEY or memfd:PID/FD (iospace shm ls)';

/** What a name can mean: a plain number is a segment, and also an object of that name. */
export function meanings(text: string): Meaning[] {
  const [, prefix, rest = ''] = /^(posix|sysv|memfd):(.*)$/s.exec(text) ?? [];
  if (prefix === 'posix') {
    return [posixMeaning(rest)];
  }
  const bare = prefix === undefined ? text : rest;
  const [, hex, digits] = /^(?:0x([\da-f]{1,8})|(\d{1,10}))$/i.exec(bare) ?? [];
  const [, pid, fd] = /^(\d{1,10})\/(\d{1,10})$/.exec(bare) ?? [];
  const found: Meaning[] = [];
  if (prefix !== 'memfd' && hex !== undefined) {
    found.push({ kind: 'sysv', key: Number.parseInt(hex, 16) | 0 });
  }
  if (prefix !== 'memfd' && digits !== undefined) {
    found.push({ kind: 'sysv', id: Number(digits) });
  }
  if (prefix !== 'sysv' && pid !== undefined) {
    found.push({ kind: 'memfd', pid: Number(pid), fd: Number(fd) });
  } else if (prefix === undefined) {
    found.push(posixMeaning(text));
  }
  if (found.length === 0) {
    throw wrongValue('the name', forms, text);
  }
  return found;
}

function posixMeaning(text: string): Meaning {
  const name = text.startsWith('/') ? text : `/${text}`;
  // Throws for what is none.
  objectPath(name);
  return { kind: 'posix', name };
}

/** What there is under that meaning. */
function lookUp(meaning: Meaning): Found | undefined {
  if (meaning.kind === 'posix') {
    return exists(() => lstatSync(objectPath(meaning.name))) ? meaning : undefined;
  }
  if (meaning.kind === 'memfd') {
    return exists(() => readlinkSync(`/proc/${meaning.pid}/fd/${meaning.fd}`)) ? meaning : undefined;
  }
  const segment = sysv
    .list()
    // One that is removed has lost its key, and many have none.
    .find((one) => ('id' in meaning ? one.id === meaning.id : one.key === meaning.key && one.key !== 0));
  return segment === undefined ? undefined : { kind: 'sysv', segment };
}

/** Whether it is there, or may be: what may not be looked at is said by whoever opens it. */
function exists(look: () => unknown): boolean {
  try {
    look();
    return true;
  } catch (error) {
    return !isSystemError(error, 'ENOENT', 'ESRCH', 'ENOTDIR');
  }
}

/**
 * The one piece of shared memory of that name.
 *
 * @throws ENOENT if there is none; ERR_INVALID_ARG_VALUE if the name is none, or there are two
 */
export function find(text: string): Found {
  const found = meanings(text).flatMap((meaning) => lookUp(meaning) ?? []);
  const [one, other] = found;
  if (one === undefined) {
    throw systemError(errno.ENOENT, 'shm', {
      path: text,
      hint: 'there is no such shared memory: iospace shm ls',
    });
  }
  if (other !== undefined) {
    throw wrongValue('the name', `one of ${found.map(fullName).join(' and ')}, which are both there,`, text);
  }
  return one;
}

function fullName(found: Found): string {
  switch (found.kind) {
    case 'posix':
      return `posix:${found.name}`;
    case 'sysv':
      return `sysv:${found.segment.id}`;
    case 'memfd':
      return `memfd:${found.pid}/${found.fd}`;
  }
}
