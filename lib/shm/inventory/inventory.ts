/**
 * What shared memory there is on this machine, of all three kinds, who has it, and what nobody has any more.
 *
 * @module
 */
import { statSync } from 'node:fs';
import { binding } from '../../binding.js';
import { isSystemError } from '../../errors.js';
import { type SealName, sealsOf } from '../memfd.js';
import { objectPath, posix } from '../posix.js';
import { type ListedSegment, sysv } from '../sysv.js';
import { type Contents, openMemfd, openPosix, openSegment } from './contents.js';
import { fileKey, type Holders, type MemfdPlace } from './holders.js';

/**
 * What becomes of it.
 *
 * - `used`: somebody has it
 * - `removed`: it ends when those who have it are gone
 * - `unused`: nobody has it, but the process that made it is there
 * - `leaked`: nobody has it, and nobody will give it back
 * - `unknown`: whether somebody has it cannot be said, for not all processes may be looked at
 */
export type SharedState = 'used' | 'removed' | 'unused' | 'leaked' | 'unknown';

interface Described {
  /** By which it can be named: `/frames`, `sysv:5`, `memfd:1234/7`. */
  readonly name: string;
  readonly byteLength: number;
  /** What of it takes memory, or room on a swap device. */
  readonly allocatedBytes: number;
  readonly uid: number;
  /** Permissions. */
  readonly mode: number;
  /** How many have it: attachments of a segment, otherwise processes that could be seen. */
  readonly attached: number;
  readonly state: SharedState;
  /** What it begins with, at most {@link HEAD_BYTES}; undefined if that may not be read. */
  readonly head: Uint8Array | undefined;
}

export interface PosixObject extends Described {
  readonly kind: 'posix';
  /** The processes that have it, as far as they could be seen. */
  readonly pids: readonly number[];
}

export interface SysvObject extends Described {
  readonly kind: 'sysv';
  readonly id: number;
  /** Signed; 0 for none. */
  readonly key: number;
  /** Its maker, who may remove it as the owner may. */
  readonly creatorUid: number;
  /** 0 for a process that this namespace does not have. */
  readonly creatorPid: number;
  readonly creatorAlive: boolean;
}

export interface MemfdObject extends Described {
  readonly kind: 'memfd';
  /** What it was made with, for people. */
  readonly label: string;
  readonly pids: readonly number[];
  /** Undefined if it may not be opened. */
  readonly seals: readonly SealName[] | undefined;
}

export type SharedObject = PosixObject | SysvObject | MemfdObject;

/** Enough of the beginning to tell what it is. */
const HEAD_BYTES = 64;

function headOf(contents: Contents): Uint8Array {
  const head = new Uint8Array(HEAD_BYTES);
  return head.subarray(0, contents.read(head, 0));
}

/** What `call` gives; undefined where it is not permitted, or what it is about has gone. */
function permitted<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (
      isSystemError(error, 'EACCES', 'EPERM', 'ENOENT', 'ESRCH', 'EINVAL', 'EIDRM', 'ENOMEM', 'EIO', 'EAGAIN')
    ) {
      return undefined;
    }
    throw error;
  }
}

/**
 * Looks at a POSIX object.
 *
 * @param name - with the leading slash
 * @throws ENOENT
 */
export function lookAtPosix(name: string, { byFile, unseen }: Holders): PosixObject {
  const stat = statSync(objectPath(name), { bigint: true });
  const pids = [...(byFile.get(fileKey(stat)) ?? [])].sort((a, b) => a - b);
  const seen = permitted(() => {
    using contents = openPosix(name);
    // The kernel knows also of those that /proc does not show, and says so to the object's owner.
    const isFree =
      pids.length > 0
        ? false
        : (permitted(() => binding().isSoleOpener(contents.fd)) ?? (unseen === 0 || undefined));
    return { isFree, head: headOf(contents) };
  });
  const state = pids.length > 0 || seen?.isFree === false ? 'used' : seen?.isFree ? 'leaked' : 'unknown';
  return {
    kind: 'posix',
    name,
    ...ofFile(stat),
    attached: pids.length,
    pids,
    state,
    head: seen?.head,
  };
}

function ofFile({ size, blocks, uid, mode }: { size: bigint; blocks: bigint; uid: bigint; mode: bigint }) {
  return {
    byteLength: Number(size),
    allocatedBytes: Number(blocks * 512n),
    uid: Number(uid),
    mode: Number(mode & 0o7777n),
  };
}

/** Looks at a segment. Attaches it for reading, if `sysv.list()` says that there is something to read. */
export function lookAtSegment(segment: ListedSegment): SysvObject {
  const { id, key, size, uid, mode, attached, creatorPid, creatorUid } = segment;
  const creatorAlive = isAlive(creatorPid);
  const head = permitted(() => {
    using contents = openSegment(id);
    return headOf(contents);
  });
  return {
    kind: 'sysv',
    name: `sysv:${id}`,
    id,
    key,
    byteLength: size,
    allocatedBytes: segment.residentBytes + segment.swappedBytes,
    uid,
    creatorUid,
    mode,
    attached,
    creatorPid,
    creatorAlive,
    state: stateOf(segment, creatorAlive),
    head,
  };
}

function stateOf({ removed, attached, creatorPid }: ListedSegment, creatorAlive: boolean): SharedState {
  if (removed) {
    return 'removed';
  }
  if (attached > 0) {
    return 'used';
  }
  return creatorAlive ? 'unused' : creatorPid === 0 ? 'unknown' : 'leaked';
}

function isAlive(pid: number): boolean {
  if (pid === 0) {
    return false;
  }
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return !isSystemError(error, 'ESRCH');
  }
}

/** Looks at the memfd of a descriptor. @throws ENOENT if that has been closed */
export function lookAtMemfd({ pid, fd, label, key }: MemfdPlace, { byFile }: Holders): MemfdObject {
  const pids = [...(byFile.get(key) ?? [])].sort((a, b) => a - b);
  const seen = permitted(() => {
    using contents = openMemfd(pid, fd);
    return { seals: sealsOf({ native: binding(), fd: contents.fd, path: label }), head: headOf(contents) };
  });
  return {
    kind: 'memfd',
    name: `memfd:${pid}/${fd}`,
    label,
    ...ofFile(statSync(`/proc/${pid}/fd/${fd}`, { bigint: true })),
    attached: pids.length,
    pids,
    seals: seen?.seals,
    state: 'used',
    head: seen?.head,
  };
}

/** What there is, and of which kinds that cannot be said. */
export interface Inventory {
  /** POSIX objects, then segments, then memfds of processes that one may look at. */
  readonly objects: readonly SharedObject[];
  /** Why there is nothing of a kind: the machine does not have it. */
  readonly errors: readonly Error[];
}

/** Looks at all that there is. */
export function takeInventory(holders: Holders): Inventory {
  const errors: Error[] = [];
  const all = <T, U>(list: () => readonly T[], look: (one: T) => U): U[] => {
    try {
      return list().flatMap((one) => {
        const found = permitted(() => look(one));
        // Gone in the meantime.
        return found === undefined ? [] : [found];
      });
    } catch (error) {
      if (!isSystemError(error, 'ENOENT', 'EACCES')) {
        throw error;
      }
      errors.push(error);
      return [];
    }
  };
  const objects = [
    ...all<string, SharedObject>(posix.list, (name) => lookAtPosix(name, holders)),
    ...all<ListedSegment, SharedObject>(sysv.list, lookAtSegment),
    ...all<MemfdPlace, SharedObject>(
      () => oneOfEach(holders.memfds),
      (place) => lookAtMemfd(place, holders),
    ),
  ];
  return { objects, errors };
}

/** Of each memfd the descriptor of the process that has the lowest number. */
function oneOfEach(places: readonly MemfdPlace[]): MemfdPlace[] {
  const first = new Map<string, MemfdPlace>();
  for (const place of [...places].sort((a, b) => a.pid - b.pid || a.fd - b.fd)) {
    if (!first.has(place.key)) {
      first.set(place.key, place);
    }
  }
  return [...first.values()];
}
