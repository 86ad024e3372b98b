/**
 * A part of a DMA buffer, with the address by which the device finds it.
 *
 * @module
 */
import { inspect } from 'node:util';
import { binding } from '../binding.js';
import { checkInteger, checkRange } from '../check.js';
import { invalidState, notSupported } from '../errors.js';
import { MappedBytes } from '../mapped-bytes.js';
import type { DmaSegment, ProvidedMemory } from './provider.js';

/**
 * A part of a {@link DmaBuffer}: shares its memory and ends with it.
 *
 * All but `byteOffset` and `byteLength` throw ERR_INVALID_STATE once the buffer was freed.
 */
export class DmaSlice extends MappedBytes {
  readonly #memory: ProvidedMemory;
  readonly #whole: DmaSlice | undefined;
  #segments: readonly DmaSegment[] | undefined;

  /**
   * @param source - new memory, or what this is a part of, and ends with
   * @param byteOffset - counted from the start of the source
   * @internal
   */
  constructor(source: ProvidedMemory | DmaSlice, byteOffset: number, byteLength: number) {
    if (source instanceof DmaSlice) {
      super(source.byteOffset + byteOffset, byteLength);
      this.#memory = source.#memory;
      this.#whole = source;
    } else {
      super(byteOffset, byteLength);
      this.#memory = source;
    }
  }

  override get buffer(): ArrayBuffer {
    return this.#live().mapping.buffer;
  }

  /** Whether the memory was given back. */
  get freed(): boolean {
    return this.#memory.mapping.released || this.#whole?.freed === true;
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
   * @throws EOPNOTSUPP where there is no address (memfd), or no single one: `segments` has them all
   */
  get dmaAddress(): bigint {
    const { segments } = this;
    const [first] = segments;
    if (first === undefined) {
      throw notSupported('dmaAddress', 'no device reaches this memory');
    }
    if (segments.length > 1) {
      throw notSupported(
        'dmaAddress',
        `this memory is in ${segments.length} pieces: tell the device its segments, or alloc() with contiguous: true`,
      );
    }
    return first.dmaAddress;
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
    this.#live();
    checkInteger('begin', begin, 0, this.byteLength - 1);
    checkInteger('end', end, begin + 1, this.byteLength);
    return new DmaSlice(this, begin, end - begin);
  }

  /**
   * Makes what the CPU wrote visible to the device, whose turn it is then. One system call for cached memory that
   * needs it; for all other a barrier.
   *
   * For a device that does not snoop, the range of a cached buffer begins and ends on a multiple of `info.cacheLine`,
   * counted from the start of the buffer, or ends with it: whatever else is in its first and last line would be lost.
   *
   * @param offset - first byte
   * @param length - bytes; absent: all that follow
   * @throws ERR_OUT_OF_RANGE if the range does not lie inside, or shares a cache line with what lies outside
   */
  syncForDevice(offset = 0, length?: number): void {
    const { sync } = this.#live();
    const bytes = checkRange(offset, length, this.byteLength);
    if (sync !== undefined && bytes > 0) {
      sync('device', this.byteOffset + offset, bytes);
    }
    // After what the call may have copied.
    binding().barrier();
  }

  /**
   * Makes what the device wrote visible to the CPU, whose turn it is then. One system call for cached memory that
   * needs it; for all other a barrier.
   *
   * @param offset - first byte, as for {@link DmaSlice.syncForDevice}
   * @param length - bytes; absent: all that follow
   * @throws ERR_OUT_OF_RANGE as {@link DmaSlice.syncForDevice}
   */
  syncForCpu(offset = 0, length?: number): void {
    const { sync } = this.#live();
    const bytes = checkRange(offset, length, this.byteLength);
    // Before the call copies what the device wrote.
    binding().barrier();
    if (sync !== undefined && bytes > 0) {
      sync('cpu', this.byteOffset + offset, bytes);
    }
  }

  #live(): ProvidedMemory {
    if (this.freed) {
      throw invalidState('the buffer was freed');
    }
    return this.#memory;
  }

  /** Shows where it lies. Touches no memory. */
  [inspect.custom](): string {
    return `DmaSlice { byteOffset: ${this.byteOffset}, byteLength: ${this.byteLength}, freed: ${this.freed} }`;
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
