/**
 * Shared memory that is a file: how long it is, and how it grows.
 *
 * @module
 */
import { fstatSync, type Stats } from 'node:fs';
import type { NativeBinding, NativeOwnedFile } from '../binding.js';
import { checkInteger } from '../check.js';
import { errno, explained, invalidState, outOfRange, systemError } from '../errors.js';
import { MAX_BYTE_LENGTH, type Mapping, mapShared } from '../mapping.js';
import { SharedMemory } from './shared-memory.js';

/** An open file of memory. */
export interface MemoryFile {
  readonly native: NativeBinding;
  /** Closes the descriptor, at the latest with this object or its thread. */
  readonly owned: NativeOwnedFile;
  readonly fd: number;
  /** What errors call it. */
  readonly path: string;
  /** Whether all pages are taken when the file grows. */
  readonly allocate: boolean;
}

const hints = {
  ENOSPC: 'there is no room for it: /dev/shm is full, or too few huge pages are set aside (vm.nr_hugepages)',
  EFBIG: 'it is longer than files of this process may be (ulimit -f)',
  ENOMEM: 'there is no memory, address space (ulimit -v) or huge page (vm.nr_hugepages) for it',
  EPERM: 'a seal forbids it',
};

/**
 * Sees to it that a file has `size` bytes, the first `present` of which it has. It never gets shorter, whoever else does
 * the same at the same time, as it could by ftruncate(): the last byte is allocated, and, if asked for, all others.
 */
export function extend({ native, fd, path, allocate }: MemoryFile, present: number, size: number): void {
  const first = allocate ? present : size - 1;
  explained({ path }, hints, () => native.fallocate(fd, first, size - first));
}

/**
 * How many bytes of a file to map.
 *
 * @param size - as asked for; absent: all
 * @throws EINVAL if the file is empty; ERR_OUT_OF_RANGE if it has fewer
 */
export function mappable(path: string, available: number, size: number | undefined): number {
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

/** Maps the first bytes of a file. */
export function mapFile({ native, fd, path }: MemoryFile, byteLength: number, readOnly: boolean): Mapping {
  return explained({ path }, hints, () => mapShared(native, fd, byteLength, 0n, readOnly ? 'read' : 'write'));
}

/** Shared memory that is a file, which stays open until {@link FileMemory.close}. */
export abstract class FileMemory extends SharedMemory {
  readonly #file: MemoryFile;

  /** @internal */
  constructor(mapping: Mapping, readOnly: boolean, file: MemoryFile) {
    super(mapping, readOnly);
    this.#file = file;
  }

  /**
   * The descriptor of its file, to be passed on (`fds.send`). It stays this object's, which must be kept meanwhile.
   *
   * @throws ERR_INVALID_STATE after `close()`
   */
  get fd(): number {
    return this.file.fd;
  }

  /**
   * What the system says of its file: size, owner, permissions, times, and how much of it is allocated
   * (`blocks`, of 512 bytes).
   *
   * @throws ERR_INVALID_STATE after `close()`
   */
  stat(): Stats {
    return fstatSync(this.file.fd);
  }

  /**
   * Makes more of it: the file grows if it has fewer bytes, and is mapped anew. Every view from before has length 0
   * afterwards. Others see the new bytes when they resize, too; `stat().size` says how many there are. It cannot be made
   * smaller, because touching what is gone would end the processes that have it.
   *
   * @param size - bytes, at least the present ones; with the present ones nothing happens
   * @throws ERR_OUT_OF_RANGE for fewer; EACCES if it is read-only and the file has not as many; ENOSPC; EFBIG, ENOMEM beyond
   *   the limits of this process; EPERM if a seal forbids it; ERR_INVALID_STATE after `close()`. No view has ended then.
   */
  resize(size: number): void {
    const { file } = this;
    checkInteger('size', size, this.byteLength, MAX_BYTE_LENGTH);
    if (size === this.byteLength) {
      return;
    }
    if (size > fstatSync(file.fd).size) {
      if (this.readOnly) {
        throw systemError(errno.EACCES, 'resize', {
          path: file.path,
          hint: 'opened readOnly, and it has fewer bytes',
        });
      }
      this.grow(file, size);
    }
    this.replace(this.map(file, size), this.readOnly);
  }

  /** Ends the mapping now: every view has length 0 afterwards. Closes the file. A second call does nothing. */
  override close(): void {
    super.close();
    this.#file.owned.close();
  }

  /** Its file, while it is open. */
  protected get file(): MemoryFile {
    if (this.closed) {
      throw invalidState('the shared memory is closed');
    }
    return this.#file;
  }

  protected map(file: MemoryFile, size: number): Mapping {
    return mapFile(file, size, this.readOnly);
  }

  protected grow(file: MemoryFile, size: number): void {
    extend(file, this.byteLength, size);
  }
}
