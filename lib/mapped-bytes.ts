/**
 * Mapped memory as bytes: a range of an ArrayBuffer, and the views of it.
 *
 * @module
 */
import { checkInteger, checkOptionalInteger } from './check.js';
import { outOfRange, wrongType } from './errors.js';

/** The constructor of a typed array, or `DataView`. */
export interface ViewConstructor<T extends ArrayBufferView> {
  new (buffer: ArrayBuffer, byteOffset: number, length: number): T;
  /** Absent where the length of a view is counted in bytes. */
  readonly BYTES_PER_ELEMENT?: number;
}

/**
 * A range of mapped memory: the one ArrayBuffer of the mapping, and views of the range.
 *
 * `bytes` and `view()` throw what `buffer` throws where the memory cannot be had.
 */
export abstract class MappedBytes {
  #bytes: Uint8Array | undefined;

  /** Where in `buffer` it begins, in bytes. */
  readonly byteOffset: number;
  readonly byteLength: number;

  /** @internal */
  constructor(byteOffset: number, byteLength: number) {
    this.byteOffset = byteOffset;
    this.byteLength = byteLength;
  }

  /** The one ArrayBuffer of the whole mapping. */
  abstract get buffer(): ArrayBuffer;

  /** Its memory as bytes. */
  get bytes(): Uint8Array {
    const { buffer } = this;
    // Memory that changes hands has a new ArrayBuffer each time.
    if (this.#bytes?.buffer !== buffer) {
      this.#bytes = new Uint8Array(buffer, this.byteOffset, this.byteLength);
    }
    return this.#bytes;
  }

  /**
   * A typed view of a part of it. Shares the memory, copies nothing; has length 0 once the memory was given back.
   *
   * @param Type - the constructor of a typed array, or `DataView`
   * @param byteOffset - first byte, counted from the start of this range
   * @param length - elements (bytes for `DataView`); absent: all whole ones that follow
   * @throws ERR_OUT_OF_RANGE if the view would not lie inside, or in `buffer` not on a multiple of its element's size;
   *   ERR_INVALID_ARG_TYPE for another `Type`
   * @example
   * const samples = buffer.view(Int16Array, 64, 128);
   */
  view<T extends ArrayBufferView>(Type: ViewConstructor<T>, byteOffset?: number, length?: number): T {
    return viewOf(this.buffer, this.byteOffset, this.byteLength, Type, byteOffset, length);
  }
}

/** Of this realm, or of another one. */
function isViewConstructor(Type: unknown): boolean {
  return (
    typeof Type === 'function' &&
    (Type.name === 'DataView' ||
      typeof (Type as { BYTES_PER_ELEMENT?: unknown }).BYTES_PER_ELEMENT === 'number')
  );
}

/** A view of a part of `available` bytes, which begin at `base` in the buffer. */
function viewOf<T extends ArrayBufferView>(
  buffer: ArrayBuffer,
  base: number,
  available: number,
  Type: ViewConstructor<T>,
  byteOffset: number | undefined,
  length: number | undefined,
): T {
  if (!isViewConstructor(Type)) {
    throw wrongType('Type', 'the constructor of a typed array or DataView', Type);
  }
  const elementSize = Type.BYTES_PER_ELEMENT ?? 1;
  const offset = checkOptionalInteger('byteOffset', byteOffset, 0, available, 0);
  if ((base + offset) % elementSize !== 0) {
    throw outOfRange('byteOffset', `a multiple of ${elementSize}`, byteOffset);
  }
  const most = Math.floor((available - offset) / elementSize);
  return new Type(
    buffer,
    base + offset,
    length === undefined ? most : checkInteger('length', length, 0, most),
  );
}
