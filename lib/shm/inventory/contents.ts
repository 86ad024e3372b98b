/**
 * What shared memory holds, copied out of it by the kernel: what another process cuts off meanwhile is missing, or an
 * error, and does not end this one as touching it would (SIGBUS).
 *
 * @module
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { binding } from '../../binding.js';
import { errno, explained, systemError } from '../../errors.js';
import { attachSegment, type Mapping } from '../../mapping.js';
import { objectPath } from '../posix.js';
import { memfdLabel } from './holders.js';

/** Shared memory that is open for reading, until it is closed. */
export interface Contents extends Disposable {
  /** When it was opened. */
  readonly byteLength: number;
  /** Fills `target` with what follows `offset`, and says how many bytes that were: fewer at the end. */
  read(target: Uint8Array, offset: number): number;
}

class FileContents implements Contents {
  readonly fd: number;
  readonly byteLength: number;

  constructor(fd: number) {
    this.fd = fd;
    this.byteLength = fstatSync(fd).size;
  }

  read(target: Uint8Array, offset: number): number {
    return readSync(this.fd, target, 0, target.byteLength, offset);
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

class SegmentContents implements Contents {
  readonly byteLength: number;
  readonly #mapping: Mapping;
  /** This process's own memory as a file: a page that the kernel cannot give is EIO then. */
  readonly #memory = openSync('/proc/self/mem', constants.O_RDONLY);

  constructor(id: number) {
    try {
      this.#mapping = attachSegment(binding(), id, 'read');
    } catch (error) {
      closeSync(this.#memory);
      throw error;
    }
    this.byteLength = this.#mapping.byteLength;
  }

  read(target: Uint8Array, offset: number): number {
    const length = Math.max(Math.min(target.byteLength, this.byteLength - offset), 0);
    return readSync(this.#memory, target, 0, length, this.#mapping.address + BigInt(offset));
  }

  [Symbol.dispose](): void {
    this.#mapping.release();
    closeSync(this.#memory);
  }
}

const permission = 'it takes its owner, its permissions, or root';

/**
 * Opens a POSIX object.
 *
 * @param name - with the leading slash
 * @throws ENOENT; EACCES; EINVAL if it is no file
 */
export function openPosix(name: string): FileContents {
  const path = objectPath(name);
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  const hints = { ENOENT: `there is no object '${name}'`, EACCES: permission, ELOOP: 'it is a link' };
  const fd = explained({ path }, hints, () => openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  if (!fstatSync(fd).isFile()) {
    closeSync(fd);
    throw systemError(errno.EINVAL, 'open', { path, hint: 'it is no file' });
  }
  return new FileContents(fd);
}

/**
 * Opens a memfd of a process.
 *
 * @throws ENOENT; EACCES; EINVAL if the descriptor is of something else
 */
export function openMemfd(pid: number, fd: number): FileContents {
  const path = `/proc/${pid}/fd/${fd}`;
  const hints = { ENOENT: 'there is no such process or descriptor', EACCES: permission };
  return explained({ path }, hints, () => {
    // Before it is opened: that alone can mean something to what is no memory.
    if (memfdLabel(pid, fd) === undefined) {
      throw systemError(errno.EINVAL, 'open', {
        path,
        hint: 'this descriptor is of something else than a memfd',
      });
    }
    return new FileContents(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
  });
}

/**
 * Attaches a segment for reading. The system notes it, as every attachment: when, and by which process.
 *
 * @throws EINVAL, EIDRM if there is none; EACCES; ENOMEM if there is no address space
 */
export function openSegment(id: number): Contents {
  const hints = {
    EINVAL: `there is no segment ${id}`,
    EIDRM: `there is no segment ${id}`,
    EACCES: permission,
  };
  return explained({}, hints, () => new SegmentContents(id));
}
