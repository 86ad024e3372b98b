/**
 * A part of a DMA buffer, with the address by which the device finds it.
 *
 * @module
 */
import { inspect } from 'node:util';
import { checkInteger } from '../check.js';
import { invalidState } from '../errors.js';
import { MappedBytes } from '../mapped-bytes.js';
import type { Ownership } from './ownership.js';
import type { ProvidedMemory } from './provider.js';
import { cut, type DmaSegment, onlyAddress } from './segments.js';
import { beginTurn, rangesOf, type SyncRange, type Turn } from './turn.js';

/** Memory of a buffer, and who has it where that is checked. */
export interface OwnedMemory extends ProvidedMemory {
  readonly ownership?: Ownership;
}

/**
 * A part of a {@link DmaBuffer}: shares its memory and ends with it.
 *
 * All but `byteOffset` and `byteLength` throw ERR_INVALID_STATE once the buffer was freed.
 */
export class DmaSlice extends MappedBytes {
  readonly #memory: OwnedMemory;
  readonly #whole: DmaSlice | undefined;
  #segments: readonly DmaSegment[] | undefined;

  /**
   * @param source - new memory, or what this is a part of, and ends with
   * @param byteOffset - counted from the start of the source
   * @internal
   */
  constructor(source: OwnedMemory | DmaSlice, byteOffset: number, byteLength: number) {
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
    const { mapping, ownership } = this.live();
    ownership?.checkTurnOfCpu();
    return mapping.buffer;
  }

  /** Whether the memory was given back. */
  get freed(): boolean {
    return this.#memory.mapping.released || this.#whole?.freed === true;
  }

  /** What the device must be told, in order; empty where no device reaches the memory (memfd). */
  get segments(): readonly DmaSegment[] {
    const { segments } = this.live();
    this.#segments ??= cut(segments, this.byteOffset, this.byteLength);
    return this.#segments;
  }

  /**
   * The address of the first byte as the device sees it. Valid for the device that the memory was allocated for, and
   * for no other.
   *
   * @throws EOPNOTSUPP where there is no address (memfd), or no single one: `segments` has them all
   */
  get dmaAddress(): bigint {
    return onlyAddress(this.segments, ', or alloc() with contiguous: true');
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
    this.live();
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
   * @throws ERR_OUT_OF_RANGE if the range does not lie inside, or shares a cache line with what lies outside; with
   *   `ownership: 'checked'` also ERR_INVALID_STATE in the device's turn, and EOPNOTSUPP for less than the whole buffer
   */
  syncForDevice(offset?: number, length?: number): void;
  /** The same for many ranges, by one system call. All are checked before the first is handed over. */
  syncForDevice(ranges: readonly SyncRange[]): void;
  syncForDevice(offset: number | readonly SyncRange[] = 0, length?: number): void {
    this.#begin('device', offset, length);
  }

  /**
   * Makes what the device wrote visible to the CPU, whose turn it is then. One system call for cached memory that
   * needs it; for all other a barrier.
   *
   * @param offset - first byte, as for {@link DmaSlice.syncForDevice}
   * @param length - bytes; absent: all that follow
   * @throws as {@link DmaSlice.syncForDevice}; with `ownership: 'checked'` ERR_INVALID_STATE in the CPU's turn
   */
  syncForCpu(offset?: number, length?: number): void;
  /** The same for many ranges, by one system call. All are checked before the first is handed over. */
  syncForCpu(ranges: readonly SyncRange[]): void;
  syncForCpu(offset: number | readonly SyncRange[] = 0, length?: number): void {
    this.#begin('cpu', offset, length);
  }

  #begin(turn: Turn, offset: number | readonly SyncRange[], length: number | undefined): void {
    const { sync, ownership } = this.live();
    const ranges = rangesOf(offset, length, this.byteOffset, this.byteLength);
    ownership?.begin(turn, ranges);
    beginTurn(turn, sync, ranges);
  }

  /** @internal */
  protected live(): OwnedMemory {
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
