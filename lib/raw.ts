/**
 * System calls, as they are: arguments are checked, failures throw Node's kind of system error, and nothing else is
 * added. Whoever uses these knows what the calls do to a process.
 *
 * @module
 */
import { binding } from './binding.js';
import { checkDescriptor, checkInteger, checkRange, checkString, checkUint64 } from './check.js';
import { wrongType } from './errors.js';
import { MAX_BYTE_LENGTH, Mapping } from './mapping.js';

export type { SystemError } from './errors.js';
export type { ViewConstructor } from './mapped-bytes.js';
export { Mapping };

const INT32_MIN = -(2 ** 31);
const INT32_MAX = 2 ** 31 - 1;
const UINT32_MAX = 2 ** 32 - 1;
const MODE_MAX = 0o7777;

// biome-ignore format: a table
const constantNames = [
  'PROT_NONE', 'PROT_READ', 'PROT_WRITE', 'PROT_EXEC',
  'MAP_SHARED', 'MAP_SHARED_VALIDATE', 'MAP_PRIVATE', 'MAP_ANONYMOUS', 'MAP_LOCKED', 'MAP_NORESERVE',
  'MAP_POPULATE', 'MAP_NONBLOCK', 'MAP_SYNC',
  'MS_ASYNC', 'MS_INVALIDATE', 'MS_SYNC',
  'MADV_NORMAL', 'MADV_RANDOM', 'MADV_SEQUENTIAL', 'MADV_WILLNEED', 'MADV_DONTNEED', 'MADV_FREE',
  'MADV_REMOVE', 'MADV_DONTFORK', 'MADV_DOFORK', 'MADV_MERGEABLE', 'MADV_UNMERGEABLE', 'MADV_HUGEPAGE',
  'MADV_NOHUGEPAGE', 'MADV_DONTDUMP', 'MADV_DODUMP', 'MADV_WIPEONFORK', 'MADV_KEEPONFORK', 'MADV_COLD',
  'MADV_PAGEOUT',
  'POLLIN', 'POLLPRI', 'POLLOUT', 'POLLERR', 'POLLHUP', 'POLLNVAL',
  'O_RDONLY', 'O_WRONLY', 'O_RDWR', 'O_CREAT', 'O_EXCL', 'O_TRUNC', 'O_APPEND', 'O_NONBLOCK', 'O_SYNC',
  'O_DSYNC', 'O_DIRECT', 'O_DIRECTORY', 'O_NOFOLLOW', 'O_NOCTTY', 'O_CLOEXEC', 'O_PATH',
  'MFD_CLOEXEC', 'MFD_ALLOW_SEALING', 'MFD_HUGETLB',
  'EFD_CLOEXEC', 'EFD_NONBLOCK', 'EFD_SEMAPHORE',
] as const;

/** The name of a number of the C library. */
export type ConstantName = (typeof constantNames)[number];

/** The C library's numbers on this machine; the addon is asked for them at the first use. */
export const constants: Readonly<Record<ConstantName, number>> = Object.create(
  null,
  Object.fromEntries(
    constantNames.map((name) => [name, { enumerable: true, get: () => binding().constants[name] }]),
  ),
);

/** Opens a file, close-on-exec. Returns a descriptor that the caller closes. */
export function open(path: string, flags: number, mode = 0o666): number {
  checkString('path', path);
  checkInteger('flags', flags, INT32_MIN, INT32_MAX);
  checkInteger('mode', mode, 0, MODE_MAX);
  return binding().open(path, flags, mode);
}

/** Closes a descriptor. A second call is EBADF, or closes somebody else's. */
export function close(fd: number): void {
  binding().close(checkDescriptor(fd));
}

/**
 * Controls a device.
 *
 * @param request - the number of the call, unsigned; what it says of the argument's size is checked against the view's
 * @param argument - a 32-bit integer, or the memory that the call reads and writes
 * @returns what the call returned
 */
export function ioctl(fd: number, request: number, argument: number | ArrayBufferView = 0): number {
  checkDescriptor(fd);
  checkInteger('request', request, 0, UINT32_MAX);
  if (typeof argument === 'number') {
    checkInteger('argument', argument, INT32_MIN, UINT32_MAX);
  } else if (!ArrayBuffer.isView(argument)) {
    throw wrongType('argument', 'a number, a typed array or a DataView', argument);
  }
  return binding().ioctl(fd, request, argument);
}

/**
 * Maps memory. The address is always the system's choice: flags that fix it are refused.
 *
 * Writing to what is mapped without PROT_WRITE, or beyond the end of the file, kills the process.
 *
 * @param fd - -1 with MAP_ANONYMOUS
 * @param byteLength - at least 1; at most what an ArrayBuffer can have (4 GiB on Node 20)
 * @param offset - a multiple of the page size
 */
export function mmap(
  fd: number,
  byteLength: number,
  protection: number,
  flags: number,
  offset: number | bigint = 0n,
): Mapping {
  checkInteger('fd', fd, -1, INT32_MAX);
  checkInteger('byteLength', byteLength, 1, MAX_BYTE_LENGTH);
  checkInteger('protection', protection, 0, INT32_MAX);
  checkInteger('flags', flags, 0, INT32_MAX);
  return new Mapping(binding().mmap(fd, byteLength, protection, flags, checkUint64('offset', offset)));
}

/** Ends a mapping: {@link Mapping.release}. */
export function munmap(mapping: Mapping): void {
  checkMapping(mapping).release();
}

/** Changes what may be done with a range of a mapping. */
export function mprotect(mapping: Mapping, protection: number, offset = 0, length?: number): void {
  checkInteger('protection', protection, 0, INT32_MAX);
  const bytes = checkRange(offset, length, checkMapping(mapping).byteLength);
  mapping.native.protect(protection, offset, bytes);
}

/** Writes a range of a mapped file back. */
export function msync(mapping: Mapping, flags: number, offset = 0, length?: number): void {
  checkInteger('flags', flags, 0, INT32_MAX);
  const bytes = checkRange(offset, length, checkMapping(mapping).byteLength);
  mapping.native.sync(flags, offset, bytes);
}

/** Tells the system how a range will be used. */
export function madvise(mapping: Mapping, advice: number, offset = 0, length?: number): void {
  checkInteger('advice', advice, 0, INT32_MAX);
  const bytes = checkRange(offset, length, checkMapping(mapping).byteLength);
  mapping.native.advise(advice, offset, bytes);
}

/** Keeps a range in memory. */
export function mlock(mapping: Mapping, offset = 0, length?: number): void {
  const bytes = checkRange(offset, length, checkMapping(mapping).byteLength);
  mapping.native.lock(offset, bytes);
}

/** Undoes {@link mlock}. */
export function munlock(mapping: Mapping, offset = 0, length?: number): void {
  const bytes = checkRange(offset, length, checkMapping(mapping).byteLength);
  mapping.native.unlock(offset, bytes);
}

/** What to wait for on one descriptor. */
export interface PollRequest {
  readonly fd: number;
  /** POLLIN, POLLOUT, POLLPRI. */
  readonly events: number;
}

/** What one descriptor is ready for. */
export interface PollResult {
  readonly fd: number;
  readonly revents: number;
}

/**
 * Waits until a descriptor is ready, and blocks its thread meanwhile; a worker can still be terminated.
 *
 * @param timeout - milliseconds, or -1 for no limit
 * @returns the descriptors that are ready; none after the timeout
 */
export function poll(requests: readonly PollRequest[], timeout = -1): PollResult[] {
  if (!Array.isArray(requests)) {
    throw wrongType('requests', 'an array', requests);
  }
  checkInteger('timeout', timeout, -1, INT32_MAX);
  const fds = Int32Array.from(requests, ({ fd }) => checkInteger('fd', fd, -1, INT32_MAX));
  const events = Int16Array.from(requests, (request) => checkInteger('events', request.events, 0, 0x7fff));
  const revents = new Int16Array(fds.length);
  const end = timeout === -1 ? Infinity : performance.now() + timeout;
  for (;;) {
    const left = Math.max(Math.ceil(end - performance.now()), 0);
    // Waits 100 ms at the most, so that a worker can be ended in between.
    if (binding().poll(fds, events, revents, Math.min(left, INT32_MAX)) > 0 || left === 0) {
      return requests.flatMap(({ fd }, index) => {
        const ready = revents[index] ?? 0;
        return ready === 0 ? [] : [{ fd, revents: ready }];
      });
    }
  }
}

/** Opens a POSIX shared memory object. Returns a descriptor that the caller closes. */
export function shmOpen(name: string, flags: number, mode = 0o600): number {
  checkString('name', name);
  checkInteger('flags', flags, INT32_MIN, INT32_MAX);
  checkInteger('mode', mode, 0, MODE_MAX);
  return binding().shmOpen(name, flags, mode);
}

/** Removes the name of a POSIX shared memory object; its memory lives as long as it is mapped or open. */
export function shmUnlink(name: string): void {
  binding().shmUnlink(checkString('name', name));
}

/** Sets the length of a file. */
export function ftruncate(fd: number, byteLength: number): void {
  checkDescriptor(fd);
  binding().ftruncate(fd, checkInteger('byteLength', byteLength, 0, Number.MAX_SAFE_INTEGER));
}

/** Makes a file that exists only in memory. Returns a descriptor that the caller closes. */
export function memfdCreate(name: string, flags = 0): number {
  checkString('name', name);
  return binding().memfdCreate(name, checkInteger('flags', flags, 0, UINT32_MAX));
}

/** Makes a counter to wait on. Returns a descriptor that the caller closes. */
export function eventfd(initial = 0, flags = 0): number {
  checkInteger('initial', initial, 0, UINT32_MAX);
  return binding().eventfd(initial, checkInteger('flags', flags, 0, INT32_MAX));
}

function checkMapping(mapping: Mapping): Mapping {
  if (!(mapping instanceof Mapping)) {
    throw wrongType('mapping', 'a Mapping', mapping);
  }
  return mapping;
}
