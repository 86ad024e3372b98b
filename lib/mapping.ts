/**
 * One range of memory that is mapped into the process, as JavaScript sees it: its ArrayBuffer, the views of it,
 * and its end.
 *
 * @module
 */
import { constants as limits } from 'node:buffer';
import { inspect } from 'node:util';
import type { NativeBinding, NativeMapping } from './binding.js';
import { checkInteger, checkOptionalInteger } from './check.js';
import { invalidState, outOfRange, wrongType } from './errors.js';

/** Most bytes of one mapping: what an ArrayBuffer can have; 4 GiB on Node 20. */
export const MAX_BYTE_LENGTH: number = limits.MAX_LENGTH;

/** The constructor of a typed array, or `DataView`. */
export interface ViewConstructor<T> {
  new (buffer: ArrayBuffer, byteOffset: number, length: number): T;
  /** Absent where the length of a view is counted in bytes. */
  readonly BYTES_PER_ELEMENT?: number;
}

/** Present from Node 22. */
const { transfer } = ArrayBuffer.prototype as { transfer?: (newByteLength: number) => ArrayBuffer };

/** Whoever holds the memory of a mapping keeps its owner, so that closing a device still finds all of its buffers. */
const owners = new WeakMap<ArrayBuffer, Mapping>();

/** Maps `byteLength` bytes of a file, shared. The descriptor may be closed afterwards. */
export function mapShared(
  native: NativeBinding,
  fd: number,
  byteLength: number,
  offset: bigint,
  access: 'read' | 'write',
): Mapping {
  const { PROT_READ = 0, PROT_WRITE = 0, MAP_SHARED = 0 } = native.constants;
  const protection = access === 'write' ? PROT_READ | PROT_WRITE : PROT_READ;
  return new Mapping(native.mmap(fd, byteLength, protection, MAP_SHARED, offset));
}

/**
 * A mapping. The memory appears in the process when it is made and is gone when {@link Mapping.release} returns.
 */
export class Mapping {
  readonly #native: NativeMapping;
  #buffer: ArrayBuffer | undefined;
  #bytes: Uint8Array | undefined;

  /** @internal */
  constructor(native: NativeMapping) {
    this.#native = native;
  }

  /** Bytes of the mapping. */
  get byteLength(): number {
    return this.#native.byteLength;
  }

  /** Where it lies in this process. Means nothing to a device. */
  get address(): bigint {
    return this.#native.address;
  }

  get released(): boolean {
    return this.#native.released;
  }

  /**
   * The system's own calls on it, while it lasts.
   *
   * @internal
   */
  get native(): NativeMapping {
    if (this.#native.released) {
      throw invalidState('the memory was given back');
    }
    return this.#native;
  }

  /**
   * The one ArrayBuffer over the mapping; made at the first use, which costs about a microsecond.
   *
   * @throws ERR_INVALID_STATE after {@link Mapping.release}
   */
  get buffer(): ArrayBuffer {
    const native = this.native;
    if (this.#buffer === undefined) {
      this.#buffer = native.buffer();
      owners.set(this.#buffer, this);
    }
    return this.#buffer;
  }

  /**
   * All of it as bytes.
   *
   * @throws ERR_INVALID_STATE after {@link Mapping.release}
   */
  get bytes(): Uint8Array {
    const buffer = this.buffer;
    this.#bytes ??= new Uint8Array(buffer);
    return this.#bytes;
  }

  /**
   * A view of a part of it. Shares the memory, copies nothing.
   *
   * @param Type - the constructor of a typed array, or `DataView`
   * @param byteOffset - first byte, a multiple of the element's size
   * @param length - elements (bytes for `DataView`); absent: all whole ones that follow
   * @throws ERR_OUT_OF_RANGE if the view would not lie inside; ERR_INVALID_ARG_TYPE for another `Type`;
   *   ERR_INVALID_STATE after {@link Mapping.release}
   */
  view<T>(Type: ViewConstructor<T>, byteOffset?: number, length?: number): T {
    return viewOf(this.buffer, 0, this.byteLength, Type, byteOffset, length);
  }

  /**
   * Gives the memory back now. Every view of it has length 0 afterwards; what was carried off by
   * `ArrayBuffer.prototype.transfer()` or is being read into reads as zeros and belongs to nobody. A second call does
   * nothing.
   */
  release(): void {
    if (transfer === undefined || this.#buffer === undefined) {
      this.#native.release(true);
    } else {
      this.#native.release(false);
      detach(this.#buffer, transfer);
    }
    this.#buffer = undefined;
    this.#bytes = undefined;
  }

  [Symbol.dispose](): void {
    this.release();
  }

  [inspect.custom](): string {
    return `Mapping { byteLength: ${this.byteLength}, address: 0x${this.address.toString(16)}, released: ${this.released} }`;
  }
}

/**
 * Detaches a buffer, whose memory is zeros by now. Not natively: that aborts Node 24 and 26 where the user has marked it
 * untransferable, and `isMarkedAsUntransferable` does not tell, for it says so of every mapping.
 */
function detach(buffer: ArrayBuffer, transfer: (newByteLength: number) => ArrayBuffer): void {
  try {
    transfer.call(buffer, 0);
  } catch {
    // Marked, or carried off: it stays as it is, and is harmless.
  }
}

/**
 * A range of a mapping, for whoever shows it to users: the one ArrayBuffer, and views of the range.
 *
 * Each of its members throws what {@link MappedBytes.mapped} throws where the memory cannot be had.
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

  /**
   * The mapping, if its memory can be had as an ArrayBuffer.
   *
   * @internal
   */
  protected abstract mapped(): Mapping;

  /** The one ArrayBuffer of the whole mapping. */
  get buffer(): ArrayBuffer {
    return this.mapped().buffer;
  }

  /** Its memory as bytes. */
  get bytes(): Uint8Array {
    const { buffer } = this;
    this.#bytes ??= new Uint8Array(buffer, this.byteOffset, this.byteLength);
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
  view<T>(Type: ViewConstructor<T>, byteOffset?: number, length?: number): T {
    return viewOf(this.buffer, this.byteOffset, this.byteLength, Type, byteOffset, length);
  }
}

/** A view of a part of `available` bytes, which begin at `base` in the buffer. */
function viewOf<T>(
  buffer: ArrayBuffer,
  base: number,
  available: number,
  Type: ViewConstructor<T>,
  byteOffset: number | undefined,
  length: number | undefined,
): T {
  if (typeof Type !== 'function') {
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
