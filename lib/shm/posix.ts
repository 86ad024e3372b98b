/**
 * POSIX shared memory: objects with a name, which live until they are unlinked.
 *
 * @module
 */
import { constants, fstatSync, readdirSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { binding, type NativeOwnedFile } from '../binding.js';
import { checkBoolean, checkInteger, checkOptions, checkString } from '../check.js';
import { errno, explained, isSystemError, systemError, wrongValue } from '../errors.js';
import { MAX_BYTE_LENGTH, type Mapping } from '../mapping.js';
import { removeAtExit } from './exit-names.js';
import { extend, FileMemory, type MemoryFile, mapFile, mappable } from './file-memory.js';

/** How to open a shared memory object. */
export interface OpenOptions {
  /** Bytes. Needed for a new object; absent: all that the object has. */
  size?: number;
  /** Whether to make it if there is none. @defaultValue false */
  create?: boolean;
  /** With `create`: whether it is an error (EEXIST) if there is one. @defaultValue false */
  exclusive?: boolean;
  /** Permissions of a new object, before the umask. @defaultValue 0o600 */
  mode?: number;
  /** Whether to map it for reading only. @defaultValue false */
  readOnly?: boolean;
  /**
   * Whether all pages of what is made here are taken at once, by `open` and by `resize()`. Otherwise they are taken when
   * they are touched first, and a full `/dev/shm` ends the process then (SIGBUS). @defaultValue true
   */
  allocate?: boolean;
  /**
   * Whether the name is removed when this process ends, unless it has become another object's: at its regular end, by an
   * uncaught exception, and by SIGHUP, SIGINT and SIGTERM, which end the process as they would have done, with the same
   * status. Where the program listens to such a signal it does not end the process; its `process.exit()` does. SIGKILL and
   * crashes leave the name behind, in {@link posix.list}: open it with `create` at the next start, or use a memfd, which
   * has no name to leave. For the main thread. @defaultValue false
   */
  unlinkAtExit?: boolean;
}

/** Where Linux keeps the objects. */
const DIRECTORY = '/dev/shm';

/** Longest name that a file of that directory can have. */
const NAME_MAX = 255;

/**
 * A POSIX shared memory object, made by {@link posix.open}. The object itself lives until it is unlinked and nobody has it
 * mapped or open.
 *
 * Whoever may write to the object may also shrink it: touching what is no longer there kills the process (SIGBUS), as in
 * every language. Share with processes that you trust, or use {@link memfd}, whose seals forbid it.
 *
 * @example
 * using memory = posix.open('/frames', { create: true, size: 4096 });
 * Atomics.add(memory.view(Int32Array), 0, 1);
 */
export class PosixMemory extends FileMemory {
  /** Its name, with the leading slash. */
  readonly name: string;
  /** Whether this open made it: exactly one process finds true, and initializes it. */
  readonly created: boolean;

  /** @internal */
  constructor(mapping: Mapping, readOnly: boolean, file: MemoryFile, created: boolean) {
    super(mapping, readOnly, file);
    this.name = file.path;
    this.created = created;
  }

  /**
   * Removes its name, so that nobody can open it any more. Those who have it keep it.
   *
   * @throws ENOENT if the name is gone already; EACCES, EPERM if it is not this user's
   */
  unlink(): void {
    unlink(this.name);
  }

  protected override describe(): string {
    return `name: '${this.name}'`;
  }
}

/**
 * Opens, makes and maps a shared memory object.
 *
 * The memory of a new object is allocated here, so that a full `/dev/shm` is ENOSPC now and not the end of the process
 * later. That costs a third of a millisecond per MiB; `allocate: false` leaves it to the first touch.
 *
 * @param name - at most 255 bytes; a leading slash is added if it is missing; no other slash
 * @throws ENOENT if there is none and `create` is not given; EEXIST with `exclusive`; EACCES; ENOSPC; EFBIG beyond
 *   `ulimit -f`; ENOMEM beyond `ulimit -v`; EMFILE beyond `ulimit -n`; ERR_OUT_OF_RANGE if `size` is more than the object
 *   has; EINVAL if the object is empty and no `size` is given, or is no file; ERR_INVALID_ARG_VALUE for another name, and for
 *   options that do not go together. Nothing is left behind then.
 * @example
 * using memory = posix.open('/frames', { create: true, size: 1 << 20 });
 */
function open(name: string, options?: OpenOptions): PosixMemory {
  const path = objectName(name);
  const { size, create, exclusive, mode, readOnly, allocate, unlinkAtExit } = checkOpen(options);
  const native = binding();
  const owned = new native.OwnedFile();
  const { fd, created } = create
    ? openOrCreate(owned, path, exclusive, mode)
    : {
        fd: owned.shmOpen(path, readOnly ? constants.O_RDONLY : constants.O_RDWR, 0),
        created: false,
      };
  try {
    // At once: allocating a large object takes long enough for a signal to come.
    if (unlinkAtExit && created) {
      removeAtExit(native, objectPath(path), fd);
    }
    const file = { native, owned, fd, path, allocate };
    // What was made here is empty, as far as anybody may count on.
    const available = created ? 0 : availableOf(file);
    const mapping = mapFile(file, prepare(file, available, size, create), readOnly);
    if (unlinkAtExit && !created) {
      removeAtExit(native, objectPath(path), fd);
    }
    return new PosixMemory(mapping, readOnly, file, created);
  } catch (error) {
    owned.close();
    if (created) {
      unlink(path);
    }
    throw error;
  }
}

function checkOpen(options: OpenOptions | undefined) {
  const known = checkOptions(options, [
    'size',
    'create',
    'exclusive',
    'mode',
    'readOnly',
    'allocate',
    'unlinkAtExit',
  ]);
  const { size, create = false, exclusive = false, mode = 0o600, readOnly = false } = known;
  const { allocate = true, unlinkAtExit = false } = known;
  if (size !== undefined) {
    checkInteger('size', size, 1, MAX_BYTE_LENGTH);
  }
  checkBoolean('create', create);
  checkBoolean('exclusive', exclusive);
  checkInteger('mode', mode, 0, 0o777);
  checkBoolean('readOnly', readOnly);
  checkBoolean('allocate', allocate);
  checkBoolean('unlinkAtExit', unlinkAtExit);
  if (exclusive && !create) {
    throw wrongValue('exclusive', 'true only together with create', exclusive);
  }
  if (create && readOnly) {
    throw wrongValue('readOnly', 'false together with create', readOnly);
  }
  if (create && size === undefined) {
    throw wrongValue('size', 'a number of bytes together with create', size);
  }
  if (unlinkAtExit && !isMainThread) {
    throw wrongValue('unlinkAtExit', 'false in a worker thread', unlinkAtExit);
  }
  return { size, create, exclusive, mode, readOnly, allocate, unlinkAtExit };
}

/** Makes the object or opens the one there is, so that exactly one of those who race for it knows that it made it. */
function openOrCreate(
  owned: NativeOwnedFile,
  path: string,
  exclusive: boolean,
  mode: number,
): { fd: number; created: boolean } {
  for (;;) {
    try {
      const fd = owned.shmOpen(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, mode);
      return { fd, created: true };
    } catch (error) {
      if (exclusive || !isSystemError(error, 'EEXIST')) {
        throw error;
      }
    }
    try {
      return { fd: owned.shmOpen(path, constants.O_RDWR, 0), created: false };
    } catch (error) {
      // Unlinked in between: it is to be made again.
      if (!isSystemError(error, 'ENOENT')) {
        throw error;
      }
    }
  }
}

/** The bytes of an object that there was. */
function availableOf({ fd, path }: MemoryFile): number {
  const status = fstatSync(fd);
  if (!status.isFile()) {
    throw systemError(errno.EINVAL, 'shm_open', { path, hint: "the name is no object's" });
  }
  return status.size;
}

/** Sees to it that `size` bytes are there, `available` of which are, and says how many to map. */
function prepare(file: MemoryFile, available: number, size: number | undefined, create: boolean): number {
  // Also where its maker has not come to this point yet, or never will.
  if (create && size !== undefined && available === 0) {
    extend(file, 0, size);
    return size;
  }
  return mappable(file.path, available, size);
}

/**
 * Removes the name of an object. Those who have it mapped keep it.
 *
 * @throws ENOENT if there is none; EACCES, EPERM if it is not this user's; ERR_INVALID_ARG_VALUE as {@link open}
 */
function unlink(name: string): void {
  const path = objectName(name);
  const native = binding();
  native.shmUnlink(path);
  native.forgetExitName(objectPath(path));
}

/**
 * The names of all objects that there are, sorted; those of other users too. Semaphores, which live in the same place, are
 * left out.
 *
 * @throws ENOENT if the system has no /dev/shm
 */
function list(): string[] {
  const hints = { ENOENT: 'POSIX shared memory takes a file system there: mount -t tmpfs tmpfs /dev/shm' };
  return explained({ path: DIRECTORY }, hints, () => readdirSync(DIRECTORY, { withFileTypes: true }))
    .filter((entry) => entry.isFile() && !entry.name.startsWith('sem.'))
    .map(({ name }) => `/${name}`)
    .sort();
}

/** Where the file of an object is. @internal */
export function objectPath(name: string): string {
  return DIRECTORY + objectName(name);
}

function objectName(name: string): string {
  checkString('name', name);
  const bare = name.startsWith('/') ? name.slice(1) : name;
  if (bare === '' || bare.includes('/') || Buffer.byteLength(bare) > NAME_MAX) {
    throw wrongValue('name', `1 to ${NAME_MAX} bytes after one leading slash, without a further slash`, name);
  }
  if (bare === '.' || bare === '..') {
    throw wrongValue('name', "another name than '.' and '..', which are directories", name);
  }
  return `/${bare}`;
}

/** POSIX shared memory (`shm_open`). */
export const posix = { open, unlink, list } as const;
