/**
 * Memory that can be read and not written: numbers out of it, and copies.
 *
 * @module
 */
import { endianness } from 'node:os';
import { checkInteger } from '../check.js';
import { outOfRange, wrongType } from '../errors.js';

const LITTLE_ENDIAN = endianness() === 'LE';

/**
 * Reads a shared memory in place, and has no way to write to it: what {@link SharedMemory.reader} gives. For memory that
 * was opened `readOnly` it stands for the typed arrays that cannot be had, since a write through one would end the process.
 *
 * Offsets are bytes from the memory's start; numbers are in the machine's own byte order, as in a typed array, and need
 * not be aligned. Methods throw ERR_OUT_OF_RANGE for an offset whose number would not lie inside, and ERR_INVALID_STATE
 * once the memory is closed.
 *
 * @example
 * const reader = posix.open('/frames', { readOnly: true }).reader();
 * const width = reader.getUint32(8);
 */
export class MemoryReader {
  readonly #buffer: () => ArrayBuffer;
  #view: DataView | undefined;

  /** @internal */
  constructor(buffer: () => ArrayBuffer) {
    this.#buffer = buffer;
  }

  get byteLength(): number {
    return this.#current().byteLength;
  }

  getInt8(offset: number): number {
    return this.#at(offset, 1).getInt8(offset);
  }

  getUint8(offset: number): number {
    return this.#at(offset, 1).getUint8(offset);
  }

  getInt16(offset: number): number {
    return this.#at(offset, 2).getInt16(offset, LITTLE_ENDIAN);
  }

  getUint16(offset: number): number {
    return this.#at(offset, 2).getUint16(offset, LITTLE_ENDIAN);
  }

  getInt32(offset: number): number {
    return this.#at(offset, 4).getInt32(offset, LITTLE_ENDIAN);
  }

  getUint32(offset: number): number {
    return this.#at(offset, 4).getUint32(offset, LITTLE_ENDIAN);
  }

  getBigInt64(offset: number): bigint {
    return this.#at(offset, 8).getBigInt64(offset, LITTLE_ENDIAN);
  }

  getBigUint64(offset: number): bigint {
    return this.#at(offset, 8).getBigUint64(offset, LITTLE_ENDIAN);
  }

  getFloat32(offset: number): number {
    return this.#at(offset, 4).getFloat32(offset, LITTLE_ENDIAN);
  }

  getFloat64(offset: number): number {
    return this.#at(offset, 8).getFloat64(offset, LITTLE_ENDIAN);
  }

  /**
   * A word that other processes write by `Atomics`: what they wrote before it is seen by what is read after it.
   *
   * @param offset - a multiple of 4
   */
  load(offset: number): number {
    const { buffer } = this.#at(offset, 4);
    if (offset % 4 !== 0) {
      throw outOfRange('offset', 'a multiple of 4', offset);
    }
    return Atomics.load(new Uint32Array(buffer, offset, 1), 0);
  }

  /**
   * Fills `target` with the bytes from `offset` on. Makes no memory of its own.
   *
   * @throws ERR_OUT_OF_RANGE if fewer than `target.byteLength` bytes follow
   */
  copyTo(target: Uint8Array, offset = 0): void {
    if (!(target instanceof Uint8Array)) {
      throw wrongType('target', 'a Uint8Array', target);
    }
    const { buffer } = this.#at(offset, target.byteLength);
    target.set(new Uint8Array(buffer, offset, target.byteLength));
  }

  #current(): DataView {
    const buffer = this.#buffer();
    // Memory that grows has a new ArrayBuffer each time.
    if (this.#view?.buffer !== buffer) {
      this.#view = new DataView(buffer);
    }
    return this.#view;
  }

  /** The memory, in which `byteLength` bytes follow `offset`. */
  #at(offset: number, byteLength: number): DataView & { buffer: ArrayBuffer } {
    const view = this.#current();
    checkInteger('offset', offset, 0, view.byteLength - byteLength);
    return view as DataView & { buffer: ArrayBuffer };
  }
}
