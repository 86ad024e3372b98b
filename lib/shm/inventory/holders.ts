/**
 * Who has files open or mapped: what /proc says of the processes that one may look at.
 *
 * @module
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { explained, isSystemError } from '../../errors.js';

/** A descriptor of a memfd, in some process. */
export interface MemfdPlace {
  readonly pid: number;
  readonly fd: number;
  /** What the memfd was made with, for people. */
  readonly label: string;
  /** Of the memfd: the same for all its descriptors. */
  readonly key: string;
}

/** The processes that have each file. */
export interface Holders {
  /** By {@link fileKey}. */
  readonly byFile: ReadonlyMap<string, ReadonlySet<number>>;
  /** Of each process and memfd the lowest descriptor. */
  readonly memfds: readonly MemfdPlace[];
  /** How many processes may not be looked at. Infinite if /proc does not even show them (`hidepid`). */
  readonly unseen: number;
}

/** What a file is known by, in stat() and in /proc/PID/maps: `0:1b:1234`. */
export function fileKey({ dev, ino }: { dev: bigint; ino: bigint }): string {
  const major = ((dev >> 32n) & 0xffff_f000n) | ((dev >> 8n) & 0xfffn);
  const minor = ((dev >> 12n) & 0xffff_ff00n) | (dev & 0xffn);
  return `${major.toString(16)}:${minor.toString(16)}:${ino}`;
}

/** What a descriptor of a memfd leads to. */
const MEMFD_LINK = /^\/memfd:(.*) \(deleted\)$/s;

/** What a memfd was made with; undefined if the descriptor is of something else. @throws ENOENT, EACCES */
export function memfdLabel(pid: number, fd: number): string | undefined {
  return MEMFD_LINK.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
}

/** A line of /proc/PID/maps with a file: its device and its inode. */
const MAPPED_FILE = /^\S+ \S+ \S+ ([0-9a-f]+):([0-9a-f]+) ([1-9]\d*)/gm;

/** Of a process that /proc shows and nobody may look at: a thread of the kernel has no files. */
const PF_KTHREAD = 0x0020_0000;

/** Looks at all processes. @throws ENOENT if /proc is not there */
export function findHolders(): Holders {
  const byFile = new Map<string, Set<number>>();
  const memfds: MemfdPlace[] = [];
  let unseen = 0;
  let isFirstThere = false;
  const hints = { ENOENT: 'who has what is read there: mount -t proc proc /proc' };
  for (const entry of explained({ path: '/proc' }, hints, () => readdirSync('/proc'))) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) {
      continue;
    }
    isFirstThere ||= pid === 1;
    const note = (key: string): void => {
      const pids = byFile.get(key);
      if (pids === undefined) {
        byFile.set(key, new Set([pid]));
      } else {
        pids.add(pid);
      }
    };
    try {
      lookAtDescriptors(pid, note, memfds);
      lookAtMappings(pid, note);
    } catch (error) {
      if (isSystemError(error, 'EACCES', 'EPERM')) {
        unseen += hasFiles(pid) ? 1 : 0;
      } else if (!hasEnded(error)) {
        throw error;
      }
    }
  }
  // Every namespace of processes has a first one.
  return { byFile, memfds, unseen: isFirstThere ? unseen : Number.POSITIVE_INFINITY };
}

function lookAtDescriptors(pid: number, note: (key: string) => void, memfds: MemfdPlace[]): void {
  const seen = new Set<string>();
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    const path = `/proc/${pid}/fd/${name}`;
    try {
      const link = readlinkSync(path);
      // Sockets and pipes are something else's.
      if (!link.startsWith('/')) {
        continue;
      }
      const key = fileKey(statSync(path, { bigint: true }));
      note(key);
      const [, label] = MEMFD_LINK.exec(link) ?? [];
      if (label !== undefined && !seen.has(key)) {
        seen.add(key);
        memfds.push({ pid, fd: Number(name), label, key });
      }
    } catch (error) {
      if (!hasEnded(error)) {
        throw error;
      }
    }
  }
}

function lookAtMappings(pid: number, note: (key: string) => void): void {
  for (const [, major, minor, inode] of readFileSync(`/proc/${pid}/maps`, 'latin1').matchAll(MAPPED_FILE)) {
    // Devices have leading zeros here.
    note(
      `${Number.parseInt(major ?? '', 16).toString(16)}:${Number.parseInt(minor ?? '', 16).toString(16)}:${inode}`,
    );
  }
}

/** A process, or a descriptor of it, that has gone while it was looked at. */
function hasEnded(error: unknown): boolean {
  return isSystemError(error, 'ENOENT', 'ESRCH');
}

function hasFiles(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The program's name may have anything in it, also parentheses.
    const [state, , , , , , flags] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state !== 'Z' && state !== 'X' && (Number(flags) & PF_KTHREAD) === 0;
  } catch (error) {
    if (hasEnded(error)) {
      return false;
    }
    throw error;
  }
}
