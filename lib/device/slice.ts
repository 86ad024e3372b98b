/**
 * A part of a DMA buffer, with the address by which the device finds it.
 *
 * @module
 */
import { inspect } from 'node:util';
import { binding } from '../binding.js';
import { checkInteger, checkRange } from '../check.js';
import { invalidState, notSupported } from '../errors.js';
import { type ViewConstructor, viewOf } from '../mapping.js';
import type { DmaSegment, ProvidedMemory } from './provider.js';

/**
 * A part of a {@link DmaBuffer}: shares its memory and ends with it.
 *
 * All but `byteOffset` and `byteLength` throw ERR_INVALID_STATE once the buffer was freed.
 */
export class DmaSlice {
  readonly #memory: ProvidedMemory;
  #bytes: Uint8Array | undefined;
  #segments: readonly DmaSegment[] | undefined;

  /** Where in the buffer it begins, in bytes. */
  readonly byteOffset: number;
  readonly byteLength: number;

  /** @internal */
  constructor(memory: ProvidedMemory, byteOffset: number, byteLength: number) {
    this.#memory = memory;
    this.byteOffset = byteOffset;
    this.byteLength = byteLength;
  }

  /** The ArrayBuffer of the whole buffer; the same one for all of its slices. */
  get buffer(): ArrayBuffer {
    return this.#live().mapping.buffer;
  }

  /** Its memory as bytes. */
  get bytes(): Uint8Array {
    const { buffer } = this;
    this.#bytes ??= new Uint8Array(buffer, this.byteOffset, this.byteLength);
    return this.#bytes;
  }

  /** What the device must be told, in order; empty where no device reaches the memory (memfd). */
  get segments(): readonly DmaSegment[] {
    const { segments } = this.#live();
    this.#segments ??= Object.freeze(cut(segments, this.byteOffset, this.byteLength));
    return this.#segments;
  }

  /**
   * The address of the first byte as the device sees it. Valid for the device that the memory was allocated for, and
   * for no other.
   *
   * @throws EOPNOTSUPP where there is no address (memfd), or no single one
   */
  get dmaAddress(): bigint {
    const [first, ...others] = this.segments;
    if (first === undefined || others.length > 0) {
      throw notSupported('dmaAddress', `this memory has ${this.segments.length} bus addresses`);
    }
    return first.dmaAddress;
  }

  /**
   * A typed view. Shares the memory, copies nothing; has length 0 once the buffer was freed.
   *
   * @param Type - the constructor of a typed array, or `DataView`
   * @param byteOffset - first byte, counted from the start of this slice
   * @param length - elements (bytes for `DataView`); absent: all whole ones that follow
   * @throws ERR_OUT_OF_RANGE if the view would not lie inside, or not on a multiple of its element's size
   * @example
   * const samples = buffer.view(Int16Array, 64, 128);
   */
  view<T>(Type: ViewConstructor<T>, byteOffset?: number, length?: number): T {
    return viewOf(this.buffer, this.byteOffset, this.byteLength, Type, byteOffset, length);
  }

  /**
   * A part that shares the memory and carries its own `dmaAddress`. Its bounds are checked, not clamped as a typed
   * array's are: a device would be told of less than was meant.
   *
   * @param begin - first byte
   * @param end - the byte after the last one
   * @throws ERR_OUT_OF_RANGE unless 0 <= begin < end <= byteLength
   */
  subarray(begin = 0, end: number = this.byteLength): DmaSlice {
    const memory = this.#live();
    checkInteger('begin', begin, 0, this.byteLength - 1);
    checkInteger('end', end, begin + 1, this.byteLength);
    return new DmaSlice(memory, this.byteOffset + begin, end - begin);
  }

  /**
   * Makes what the CPU wrote visible to the device. For coherent memory that is a barrier and no system call.
   *
   * @param offset - first byte
   * @param length - bytes; absent: all that follow
   * @throws ERR_OUT_OF_RANGE if the range does not lie inside
   */
  syncForDevice(offset = 0, length?: number): void {
    this.#sync(offset, length);
  }

  /**
   * Makes what the device wrote visible to the CPU. For coherent memory that is a barrier and no system call.
   *
   * @param offset - first byte
   * @param length - bytes; absent: all that follow
   * @throws ERR_OUT_OF_RANGE if the range does not lie inside
   */
  syncForCpu(offset = 0, length?: number): void {
    this.#sync(offset, length);
  }

  /** All memory that this version gives needs no more: it is coherent, or there is no device (memfd). */
  #sync(offset: number, length: number | undefined): void {
    this.#live();
    checkRange(offset, length, this.byteLength);
    binding().barrier();
  }

  #live(): ProvidedMemory {
    if (this.#memory.mapping.released) {
      throw invalidState('the buffer was freed');
    }
    return this.#memory;
  }

  /** Shows where it lies. Touches no memory. */
  [inspect.custom](): string {
    return `DmaSlice { byteOffset: ${this.byteOffset}, byteLength: ${this.byteLength}, freed: ${this.#memory.mapping.released} }`;
  }
}

/** The pieces of `segments` that lie in a range of the bytes which they make up together. */
function cut(segments: readonly DmaSegment[], byteOffset: number, byteLength: number): DmaSegment[] {
  const pieces: DmaSegment[] = [];
  let position = 0;
  for (const { dmaAddress, length } of segments) {
    const begin = Math.max(byteOffset, position);
    const end = Math.min(byteOffset + byteLength, position + length);
    if (begin < end) {
      pieces.push({ dmaAddress: dmaAddress + BigInt(begin - position), length: end - begin });
    }
    position += length;
  }
  return pieces;
}
