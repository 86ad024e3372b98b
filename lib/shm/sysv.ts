/**
 * Shared memory of System V: segments, which are found by a key and stay until they are removed.
 *
 * @module
 */
import { readFileSync } from 'node:fs';
import { binding, type NativeSegmentInfo, type NativeSegmentStatus } from '../binding.js';
import { checkBoolean, checkInteger, checkOptions, checkString } from '../check.js';
import { explained, outOfRange, wrongType } from '../errors.js';
import { attachSegment, MAX_BYTE_LENGTH, type Mapping } from '../mapping.js';
import { SharedMemory } from './shared-memory.js';

/** How to attach a segment. */
export interface AttachOptions {
  /** Whether to attach it for reading only. @defaultValue false */
  readOnly?: boolean;
}

/** What a segment is, and who uses it. */
export interface SegmentStatus {
  readonly id: number;
  /** Signed, as {@link sysv.ftok} gives it; 0 (`IPC_PRIVATE`) for one without a key, or removed. */
  readonly key: number;
  /** Permissions. */
  readonly mode: number;
  /** Whether it has been removed, and ends with its last attachment. */
  readonly removed: boolean;
  /** Whether its pages are kept from being swapped. */
  readonly locked: boolean;
  /** Bytes, as its maker asked for. */
  readonly size: number;
  /** How many times it is attached, in all processes (`nattch`). */
  readonly attached: number;
  readonly creatorPid: number;
  /** Who attached or detached it last; 0 for nobody. */
  readonly lastPid: number;
  readonly uid: number;
  readonly gid: number;
  readonly creatorUid: number;
  readonly creatorGid: number;
  /** Undefined where it never happened. To the second. */
  readonly attachTime: Date | undefined;
  readonly detachTime: Date | undefined;
  /** Of the segment's making, or of its owner and permissions. */
  readonly changeTime: Date | undefined;
}

/** A segment in {@link sysv.list}. */
export interface ListedSegment extends SegmentStatus {
  /** Bytes of it that are in memory, and on a swap device. */
  readonly residentBytes: number;
  readonly swappedBytes: number;
}

/** What the system allows, and has. */
export type SegmentInfo = Readonly<NativeSegmentInfo>;

/** What of a segment can be changed; absent: stays. */
export interface SegmentChange {
  uid?: number;
  gid?: number;
  /** Permissions, 0 to 0o777. */
  mode?: number;
}

// The same numbers on every architecture that iospace supports.
const IPC_PRIVATE = 0;
const IPC_CREAT = 0o1000;
const IPC_EXCL = 0o2000;
const SHM_HUGETLB = 0o4000;
const SHM_NORESERVE = 0o10000;
const SHM_DEST = 0o1000;
const SHM_LOCKED = 0o2000;
const PERMISSIONS = 0o777;

/** Where the logarithm of the size of huge pages stands in the flags. */
const HUGE_SHIFT = 26;
const SHM_HUGE_2MB = 21 << HUGE_SHIFT;
const SHM_HUGE_1GB = 30 << HUGE_SHIFT;
const HUGE_MASK = 0x3f << HUGE_SHIFT;

const KNOWN_FLAGS = IPC_CREAT | IPC_EXCL | SHM_HUGETLB | SHM_NORESERVE | PERMISSIONS | HUGE_MASK;

/** What an owner that stays is to the addon. */
const UNCHANGED = 2 ** 32 - 1;

const SEGMENTS = '/proc/sysvipc/shm';

const absent = (id: number) => `there is no segment ${id}`;
const notOwner = 'it takes the owner or maker of the segment, or root';

/**
 * An attached segment, made by {@link sysv.attach}. The segment itself lives until it is removed and nobody has it
 * attached; a process's end, and a worker's, detach.
 *
 * @example
 * const id = sysv.get(sysv.ftok('/etc/hostname', 1), 4096, sysv.IPC_CREAT | 0o600);
 * using memory = sysv.attach(id);
 * Atomics.add(memory.view(Int32Array), 0, 1);
 */
export class Segment extends SharedMemory {
  /** The system's number of the segment. */
  readonly id: number;

  /** @internal */
  constructor(mapping: Mapping, readOnly: boolean, id: number) {
    super(mapping, readOnly);
    this.id = id;
  }

  /** The same as `close()`: the attachment has ended when it returns. A second call does nothing. */
  detach(): void {
    this.close();
  }

  protected override describe(): string {
    return `id: ${this.id}`;
  }
}

/**
 * The key of a file and a number, exactly as the C library's `ftok()` makes it: 8 bits of the number, 8 of the file's
 * device, 16 of its inode. Two files can have the same; a file that is made anew has another.
 *
 * @param path - of a file that exists
 * @param id - 32 bits, of which the lowest 8 count
 * @returns the key, signed as in C
 * @throws ENOENT, EACCES, ENOTDIR of the path
 */
function ftok(path: string, id: number): number {
  checkString('path', path);
  checkInteger('id', id, -(2 ** 31), 2 ** 32 - 1);
  return binding().ftok(path, id | 0);
}

/**
 * Finds or makes a segment.
 *
 * @param key - signed or unsigned; `IPC_PRIVATE` always makes a new one, which only its id leads to
 * @param size - bytes; 0 for all that an existing segment has
 * @param flags - `IPC_CREAT` makes it where there is none, with `IPC_EXCL` only then; permissions, which a new one gets
 *   and which the caller must have on an existing one; `SHM_HUGETLB`, alone or with `SHM_HUGE_2MB`, `SHM_HUGE_1GB`;
 *   `SHM_NORESERVE`. Absent: 0o600 for `IPC_PRIVATE`, otherwise 0
 * @returns the segment's id
 * @throws ENOENT if there is none and `IPC_CREAT` is not given; EEXIST with `IPC_EXCL`; EACCES; EINVAL if `size` is 0 for
 *   a new segment, beyond SHMMAX, or more than the existing one has; ENOSPC beyond SHMMNI or SHMALL; ENOMEM, also if too
 *   few huge pages are set aside; EPERM if huge pages are not for this user; ERR_OUT_OF_RANGE for an unknown flag
 */
function get(key: number, size = 0, flags?: number): number {
  checkInteger('key', key, -(2 ** 31), 2 ** 32 - 1);
  checkInteger('size', size, 0, Number.MAX_SAFE_INTEGER);
  const chosen = flags ?? (key === IPC_PRIVATE ? 0o600 : 0);
  checkInteger('flags', chosen, -(2 ** 31), 2 ** 32 - 1);
  if ((chosen & ~KNOWN_FLAGS) !== 0) {
    throw outOfRange('flags', 'permissions, IPC_ and SHM_ flags of sysv', chosen);
  }
  const name = `key 0x${(key >>> 0).toString(16)}`;
  const hints = {
    ENOENT: `there is no segment of ${name}`,
    EEXIST: `there is a segment of ${name}`,
    EACCES: `the segment of ${name} does not give these permissions`,
    EINVAL: `size ${size} is less or more than a segment may have, or more than the one of ${name} has`,
    ENOSPC: 'the system has as many segments, or pages in them, as it may (kernel.shmmni, kernel.shmall)',
    ENOMEM: 'there is no memory for it, or, with SHM_HUGETLB, too few huge pages (vm.nr_hugepages)',
    EPERM: 'SHM_HUGETLB takes CAP_IPC_LOCK or the group of vm.hugetlb_shm_group',
  };
  return explained({}, hints, () => binding().shmget(key | 0, size, chosen | 0));
}

/**
 * Attaches a segment, whole.
 *
 * @param id - what {@link sysv.get} or {@link sysv.list} gave
 * @throws EINVAL if there is no such segment; EIDRM if it has just been removed; EACCES; ENOMEM if there is no address
 *   space (`ulimit -v`); ERR_OUT_OF_RANGE if it has more bytes than an ArrayBuffer can
 */
function attach(id: number, options?: AttachOptions): Segment {
  checkId(id);
  const { readOnly = false } = checkOptions(options, ['readOnly']);
  checkBoolean('readOnly', readOnly);
  const hints = { EINVAL: absent(id), EIDRM: absent(id), EACCES: `segment ${id} is not this user's` };
  const mapping = explained({}, hints, () => attachSegment(binding(), id, readOnly ? 'read' : 'write'));
  if (mapping.byteLength > MAX_BYTE_LENGTH) {
    mapping.release();
    throw outOfRange('id', `a segment of at most ${MAX_BYTE_LENGTH} bytes`, id);
  }
  return new Segment(mapping, readOnly, id);
}

/** Ends an attachment, as its `detach()` does. @throws ERR_INVALID_ARG_TYPE for what is none */
function detach(segment: Segment): void {
  if (!(segment instanceof Segment)) {
    throw wrongType('segment', 'a Segment', segment);
  }
  segment.detach();
}

/**
 * All segments of the system, or of this container, in the system's order; those of other users too.
 *
 * @throws ENOENT if /proc is not there, or the kernel has no System V
 */
function list(): ListedSegment[] {
  const hints = { ENOENT: '/proc is not mounted, or the kernel has no System V' };
  const table = explained({ path: SEGMENTS }, hints, () => readFileSync(SEGMENTS, 'latin1'));
  const [head = '', ...lines] = table.trimEnd().split('\n');
  const names = head.trim().split(/\s+/);
  return lines.map((line) => {
    const fields = line.trim().split(/\s+/);
    const text = (name: string) => fields[names.indexOf(name)] ?? '0';
    const number = (name: string) => Number(text(name));
    return {
      ...describe(number('shmid'), {
        key: number('key'),
        mode: Number.parseInt(text('perms'), 8),
        size: number('size'),
        attached: number('nattch'),
        creatorPid: number('cpid'),
        lastPid: number('lpid'),
        uid: number('uid'),
        gid: number('gid'),
        creatorUid: number('cuid'),
        creatorGid: number('cgid'),
        attachTime: number('atime'),
        detachTime: number('dtime'),
        changeTime: number('ctime'),
      }),
      residentBytes: number('rss'),
      swappedBytes: number('swap'),
    };
  });
}

/** What is known of a segment. @throws EINVAL if there is none; EACCES without permission to read it */
function stat(id: number): SegmentStatus {
  return control(id, { EACCES: `segment ${id} is not this user's` }, () => {
    return describe(id, binding().shmStat(id));
  });
}

/** Changes owner, group and permissions. @throws EINVAL if there is none; EPERM, EACCES */
function set(id: number, change: SegmentChange): void {
  checkId(id);
  const { uid, gid, mode } = checkOptions(change, ['uid', 'gid', 'mode']);
  if (uid !== undefined) {
    checkInteger('uid', uid, 0, UNCHANGED - 1);
  }
  if (gid !== undefined) {
    checkInteger('gid', gid, 0, UNCHANGED - 1);
  }
  if (mode !== undefined) {
    checkInteger('mode', mode, 0, PERMISSIONS);
  }
  control(id, { EPERM: notOwner }, () => {
    binding().shmSet(id, uid ?? UNCHANGED, gid ?? UNCHANGED, mode ?? UNCHANGED);
  });
}

/**
 * Removes a segment. Its key is free at once; it ends with its last attachment, and until then its id can still be
 * attached, as Linux has it.
 *
 * @throws EINVAL if there is none; EPERM
 */
function remove(id: number): void {
  control(id, { EPERM: notOwner }, () => binding().shmRemove(id));
}

/** Keeps its pages from being swapped. @throws EINVAL if there is none; EPERM; ENOMEM beyond `ulimit -l` */
function lock(id: number): void {
  const hints = { EPERM: `${notOwner}, and some room to lock (ulimit -l)`, ENOMEM: 'ulimit -l' };
  control(id, hints, () => binding().shmLock(id));
}

/** Lets its pages be swapped. @throws EINVAL if there is none; EPERM */
function unlock(id: number): void {
  control(id, { EPERM: notOwner }, () => binding().shmUnlock(id));
}

/** The limits of the system and what is in use: `ipcs -lm` and `ipcs -um`. Pages are of the usual size. */
function info(): SegmentInfo {
  return binding().shmInfo();
}

function control<T>(id: number, hints: Readonly<Record<string, string>>, call: () => T): T {
  checkId(id);
  return explained({}, { EINVAL: absent(id), EIDRM: absent(id), ...hints }, call);
}

function checkId(id: number): void {
  checkInteger('id', id, 0, 2 ** 31 - 1);
}

function describe(id: number, status: NativeSegmentStatus): SegmentStatus {
  const { mode, attachTime, detachTime, changeTime } = status;
  return {
    id,
    ...status,
    mode: mode & PERMISSIONS,
    removed: (mode & SHM_DEST) !== 0,
    locked: (mode & SHM_LOCKED) !== 0,
    attachTime: time(attachTime),
    detachTime: time(detachTime),
    changeTime: time(changeTime),
  };
}

function time(seconds: number): Date | undefined {
  return seconds === 0 ? undefined : new Date(seconds * 1000);
}

/** Shared memory of System V (`shmget`), under the C library's names. */
export const sysv = {
  ftok,
  get,
  attach,
  detach,
  list,
  control: { stat, set, remove, lock, unlock, info },
  IPC_PRIVATE,
  IPC_CREAT,
  IPC_EXCL,
  SHM_HUGETLB,
  SHM_HUGE_2MB,
  SHM_HUGE_1GB,
  SHM_NORESERVE,
} as const;
