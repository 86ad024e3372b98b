/**
 * Memory that is shared with other processes, mapped into this one.
 *
 * @module
 */
import { inspect } from 'node:util';
import { checkRange } from '../check.js';
import { errno, invalidState, systemError } from '../errors.js';
import { MappedBytes } from '../mapped-bytes.js';
import type { Mapping } from '../mapping.js';

/** What a shared memory is, beside its mapping. */
export interface SharedMemoryDescription {
  readonly name: string;
  readonly created: boolean;
  readonly readOnly: boolean;
  /** Removes the name. */
  unlink(): void;
}

/**
 * Memory shared with other processes, made by {@link posix.open}. It lives in this process until
 * {@link SharedMemory.close}; the object itself until it is unlinked and nobody has it mapped.
 *
 * `buffer`, `bytes` and `view()` throw EACCES if it was opened `readOnly`, for nothing keeps JavaScript from writing to an
 * ArrayBuffer, and ERR_INVALID_STATE after `close()`.
 *
 * Whoever may write to the object may also shrink it: touching what is no longer there kills the process, as in every
 * language. Share with processes that you trust.
 *
 * @example
 * using memory = posix.open('/frames', { create: true, size: 4096 });
 * Atomics.add(memory.view(Int32Array), 0, 1);
 */
export class SharedMemory extends MappedBytes {
  readonly #mapping: Mapping;
  readonly #description: SharedMemoryDescription;

  /** @internal */
  constructor(mapping: Mapping, description: SharedMemoryDescription) {
    super(0, mapping.byteLength);
    this.#mapping = mapping;
    this.#description = description;
  }

  /** Its name, with the leading slash. */
  get name(): string {
    return this.#description.name;
  }

  /** Whether this open made it: exactly one process finds true, and initializes it. */
  get created(): boolean {
    return this.#description.created;
  }

  /** Whether it can only be read: then by {@link SharedMemory.read}. */
  get readOnly(): boolean {
    return this.#description.readOnly;
  }

  override get buffer(): ArrayBuffer {
    const mapping = this.#open();
    if (this.readOnly) {
      throw systemError(errno.EACCES, 'buffer', { path: this.name, hint: 'opened readOnly; read() copies' });
    }
    return mapping.buffer;
  }

  get closed(): boolean {
    return this.#mapping.released;
  }

  /**
   * A copy of a part of it; also where it was opened `readOnly`.
   *
   * @param offset - first byte
   * @param length - bytes; absent: all that follow
   * @throws ERR_OUT_OF_RANGE if the range does not lie inside; ERR_INVALID_STATE after `close()`
   */
  read(offset = 0, length?: number): Uint8Array {
    const { bytes } = this.#open();
    return bytes.slice(offset, offset + checkRange(offset, length, this.byteLength));
  }

  /**
   * Removes its name, so that nobody can open it any more. Those who have it keep it.
   *
   * @throws ENOENT if the name is gone already
   */
  unlink(): void {
    this.#description.unlink();
  }

  /** Ends the mapping now: every view has length 0 afterwards. The name stays. A second call does nothing. */
  close(): void {
    this.#mapping.release();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #open(): Mapping {
    if (this.#mapping.released) {
      throw invalidState('the shared memory is closed');
    }
    return this.#mapping;
  }

  /** Shows what it is. Touches no memory. */
  [inspect.custom](): string {
    return `SharedMemory { name: '${this.name}', byteLength: ${this.byteLength}, readOnly: ${this.readOnly}, closed: ${this.closed} }`;
  }
}
