/**
 * Memory that is shared with other processes, mapped into this one: what all three kinds of it have.
 *
 * @module
 */
import { inspect } from 'node:util';
import { checkRange } from '../check.js';
import { errno, invalidState, systemError } from '../errors.js';
import { MappedBytes } from '../mapped-bytes.js';
import type { Mapping } from '../mapping.js';
import { MemoryReader } from './reader.js';

/**
 * Memory shared with other processes: a {@link PosixMemory}, {@link Segment} or {@link Memfd}. It is in this process until
 * {@link SharedMemory.close}; what becomes of it for others is up to its kind.
 *
 * `buffer`, `bytes`, `sharedBuffer` and `view()` throw EACCES if it was opened `readOnly`, for nothing keeps JavaScript from writing to an
 * ArrayBuffer, and such a write would end the process: read it by {@link SharedMemory.read} or
 * {@link SharedMemory.reader}. After `close()` they throw ERR_INVALID_STATE.
 */
export abstract class SharedMemory extends MappedBytes {
  #mapping: Mapping;
  #readOnly: boolean;

  /** @internal */
  constructor(mapping: Mapping, readOnly: boolean) {
    super(0, mapping.byteLength);
    this.#mapping = mapping;
    this.#readOnly = readOnly;
  }

  /** Whether it can only be read. */
  get readOnly(): boolean {
    return this.#readOnly;
  }

  override get buffer(): ArrayBuffer {
    return this.#writable('buffer').buffer;
  }

  /**
   * The same memory as a SharedArrayBuffer, one for each mapping, made at the first use. Other threads get it by
   * `postMessage()`; `Atomics.wait` and `notify` work on it between threads of this process (between processes there is
   * `futex`); and for it the language itself promises the order of what goes through `Atomics`.
   *
   * Nothing can take a SharedArrayBuffer from anyone. After `close()`, `resize()`, `seal('write')`, or the end of the thread
   * that opened the memory, its views have the length that they had, in all threads, and are zero memory of this process's
   * own: reads give what only this process has written since, and nobody else sees it. Close the memory when its threads have
   * ended, or have each open it for itself. The address range stays until all threads have let go of the SharedArrayBuffer.
   *
   * @throws EOPNOTSUPP where Node cannot make one: Node 20, and 22 before 22.23, 24 before 24.21; EACCES if the memory is
   *   read-only; ERR_INVALID_STATE after `close()`
   * @example
   * new Worker('./worker.js', { workerData: new Int32Array(memory.sharedBuffer) });
   */
  get sharedBuffer(): SharedArrayBuffer {
    return this.#writable('sharedBuffer').sharedBuffer;
  }

  get closed(): boolean {
    return this.#mapping.released;
  }

  /**
   * A copy of a part of it; also where it is read-only.
   *
   * @param offset - first byte
   * @param length - bytes; absent: all that follow
   * @throws ERR_OUT_OF_RANGE if the range does not lie inside; ERR_INVALID_STATE after `close()`
   */
  read(offset = 0, length?: number): Uint8Array {
    const { bytes } = this.#open();
    return bytes.slice(offset, offset + checkRange(offset, length, this.byteLength));
  }

  /** What reads it in place and cannot write; also where it is read-only. @throws ERR_INVALID_STATE after `close()` */
  reader(): MemoryReader {
    this.#open();
    return new MemoryReader(() => this.#open().buffer);
  }

  /** Ends the mapping now: every view has length 0 afterwards, but those of `sharedBuffer`. A second call does nothing. */
  close(): void {
    this.#mapping.release();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Puts another mapping in the place of the one that there is, whose views have length 0 afterwards. */
  protected replace(mapping: Mapping, readOnly: boolean): void {
    this.#mapping.release();
    this.#mapping = mapping;
    this.#readOnly = readOnly;
    // Nobody but the memory itself may change it.
    (this as { byteLength: number }).byteLength = mapping.byteLength;
  }

  /** Throws if closed. */
  protected checkOpen(): void {
    this.#open();
  }

  #writable(operation: string): Mapping {
    const mapping = this.#open();
    if (this.#readOnly) {
      throw systemError(errno.EACCES, operation, {
        hint: 'the memory is read-only; read() copies, reader() reads in place',
      });
    }
    return mapping;
  }

  #open(): Mapping {
    if (this.#mapping.released) {
      throw invalidState('the shared memory is closed');
    }
    return this.#mapping;
  }

  /** What tells it from others of its kind: `id: 5`. */
  protected abstract describe(): string;

  /** Shows what it is. Touches no memory. */
  [inspect.custom](): string {
    return `${this.constructor.name} { ${this.describe()}, byteLength: ${this.byteLength}, readOnly: ${this.readOnly}, closed: ${this.closed} }`;
  }
}
