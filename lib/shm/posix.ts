/**
 * POSIX shared memory: objects with a name, which live until they are unlinked.
 *
 * @module
 */
import { constants, fstatSync, readdirSync } from 'node:fs';
import { binding, type NativeBinding } from '../binding.js';
import { checkBoolean, checkInteger, checkOptions, checkString } from '../check.js';
import { errno, isSystemError, outOfRange, systemError, wrongValue } from '../errors.js';
import { MAX_BYTE_LENGTH, mapShared } from '../mapping.js';
import { SharedMemory } from './shared-memory.js';

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
}

/** Where Linux keeps the objects. */
const DIRECTORY = '/dev/shm';

/** Longest name that a file of that directory can have. */
const NAME_MAX = 255;

/**
 * Opens, makes and maps a shared memory object.
 *
 * The memory of a new object is allocated here, so that a full `/dev/shm` is ENOSPC now and not the end of the process
 * later. That costs a third of a millisecond per MiB.
 *
 * @param name - at most 255 bytes; a leading slash is added if it is missing; no other slash
 * @throws ENOENT if there is none and `create` is not given; EEXIST with `exclusive`; EACCES; ENOSPC; ERR_OUT_OF_RANGE
 *   if `size` is more than the object has; EINVAL if the object is empty and no `size` is given
 * @example
 * using memory = posix.open('/frames', { create: true, size: 1 << 20 });
 */
function open(name: string, options?: OpenOptions): SharedMemory {
  const path = objectName(name);
  const known = checkOptions(options, ['size', 'create', 'exclusive', 'mode', 'readOnly']);
  const { size, create = false, exclusive = false, mode = 0o600, readOnly = false } = known;
  if (size !== undefined) {
    checkInteger('size', size, 1, MAX_BYTE_LENGTH);
  }
  checkBoolean('create', create);
  checkBoolean('exclusive', exclusive);
  checkInteger('mode', mode, 0, 0o777);
  checkBoolean('readOnly', readOnly);
  if (exclusive && !create) {
    throw wrongValue('exclusive', 'true only together with create', exclusive);
  }
  if (create && readOnly) {
    throw wrongValue('readOnly', 'false together with create', readOnly);
  }
  if (create && size === undefined) {
    throw wrongValue('size', 'a number of bytes together with create', size);
  }

  const native = binding();
  const flags = readOnly ? constants.O_RDONLY : constants.O_RDWR;
  const { fd, created } = create
    ? openOrCreate(native, path, exclusive, mode)
    : { fd: native.shmOpen(path, flags, 0), created: false };
  try {
    const byteLength = prepare(native, fd, path, size, create);
    const mapping = mapShared(native, fd, byteLength, 0n, readOnly ? 'read' : 'write');
    return new SharedMemory(mapping, { name: path, created, readOnly, unlink: () => native.shmUnlink(path) });
  } catch (error) {
    if (created) {
      native.shmUnlink(path);
    }
    throw error;
  } finally {
    native.close(fd);
  }
}

/** Makes the object or opens the one there is, so that exactly one of those who race for it knows that it made it. */
function openOrCreate(
  native: NativeBinding,
  path: string,
  exclusive: boolean,
  mode: number,
): { fd: number; created: boolean } {
  for (;;) {
    try {
      const fd = native.shmOpen(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, mode);
      return { fd, created: true };
    } catch (error) {
      if (exclusive || !isSystemError(error, 'EEXIST')) {
        throw error;
      }
    }
    try {
      return { fd: native.shmOpen(path, constants.O_RDWR, 0), created: false };
    } catch (error) {
      // Unlinked in between: it is to be made again.
      if (!isSystemError(error, 'ENOENT')) {
        throw error;
      }
    }
  }
}

/** Sees to it that `size` bytes are there, and says how many to map. */
function prepare(
  native: NativeBinding,
  fd: number,
  path: string,
  size: number | undefined,
  create: boolean,
): number {
  const available = fstatSync(fd).size;
  // Also where its maker has not come to this point yet, or never will.
  if (create && size !== undefined && available === 0) {
    native.fallocate(fd, 0, size);
    return size;
  }
  if (available === 0) {
    throw systemError(errno.EINVAL, 'mmap', {
      path,
      hint: 'the object is empty; its maker may not be done yet',
    });
  }
  if (size !== undefined && size > available) {
    throw outOfRange('size', `at most the ${available} bytes of ${path}`, size);
  }
  return checkInteger('size', size ?? available, 1, MAX_BYTE_LENGTH);
}

/**
 * Removes the name of an object. Those who have it mapped keep it.
 *
 * @throws ENOENT if there is none; EACCES
 */
function unlink(name: string): void {
  binding().shmUnlink(objectName(name));
}

/** The names of all objects that there are, sorted. Semaphores, which live in the same place, are left out. */
function list(): string[] {
  return readdirSync(DIRECTORY, { withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.startsWith('sem.'))
    .map(({ name }) => `/${name}`)
    .sort();
}

function objectName(name: string): string {
  checkString('name', name);
  const bare = name.startsWith('/') ? name.slice(1) : name;
  if (
    bare === '' ||
    bare === '.' ||
    bare === '..' ||
    bare.includes('/') ||
    Buffer.byteLength(bare) > NAME_MAX
  ) {
    throw wrongValue('name', `1 to ${NAME_MAX} bytes after one leading slash, without a further slash`, name);
  }
  return `/${bare}`;
}

/** POSIX shared memory (`shm_open`). */
export const posix = { open, unlink, list } as const;
