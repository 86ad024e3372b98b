/**
 * A buffer that a device reaches: the memory, what the device is told, and when it ends.
 *
 * @module
 */
import { inspect } from 'node:util';
import { roundUp } from '../arithmetic.js';
import { checkBoolean, checkInteger, checkOptionalInteger, checkOptions } from '../check.js';
import { invalidState, notSupported, outOfRange } from '../errors.js';
import type { MemoryType } from './memory.js';
import { describePlace } from './segments.js';
import { DmaSlice, type OwnedMemory } from './slice.js';

/** What of a buffer to export. */
export interface ExportOptions {
  /** First byte: a multiple of `info.pageSize`. @defaultValue 0 */
  offset?: number;
  /** Bytes: whole pages, or up to the buffer's end. @defaultValue all that follow */
  length?: number;
  /** Whether nobody who has the descriptor may write: neither a CPU nor a device. @defaultValue false */
  readOnly?: boolean;
}

/**
 * Memory for a device's DMA, made by {@link DmaDevice.alloc}. Zeroed when it is made.
 *
 * It lives until {@link DmaBuffer.free}, or until its device is closed. One that is collected without either is reported
 * by a process warning; its memory stays allocated until the device is closed, for the hardware may still hold its
 * address.
 *
 * @example
 * using buffer = device.alloc(4096);
 * buffer.bytes.fill(7);
 * registers.writeAddress(0x80, buffer.dmaAddress);
 */
export class DmaBuffer extends DmaSlice {
  readonly #pageSize: number;
  readonly #onFree: () => void;

  /** The memory type that was asked for, and the one in effect; they differ only after `fallback: true`. */
  readonly memory: { readonly requested: MemoryType; readonly effective: MemoryType };

  /** @internal */
  constructor(memory: OwnedMemory, requested: MemoryType, pageSize: number, onFree: () => void) {
    super(memory, 0, memory.mapping.byteLength);
    this.#pageSize = pageSize;
    this.#onFree = onFree;
    this.memory = Object.freeze({ requested, effective: memory.memory });
  }

  /**
   * Makes a dma-buf of it, or of a part: a descriptor that other drivers and processes take (`VIDIOC_QBUF`, `fds.send()` of
   * `iospace/shm`, {@link DmaDevice.importDmaBuf}). It is close-on-exec, and the caller's, who closes it: by
   * `fs.closeSync()`, or, in a worker, by `close()` of `iospace/raw`, for there `closeSync()` warns of what it has not
   * opened itself. The end of a worker does not close it.
   *
   * The dma-buf keeps its pages, which stay charged to this device's limits, until its last descriptor, mapping and
   * attachment is gone, whatever becomes of the buffer, the process and the device. It is whole pages: where the buffer
   * ends within one, the zeros after it are exported too.
   *
   * @throws EOPNOTSUPP for other memory than cached, and where the kernel has no dma-buf; ERR_OUT_OF_RANGE,
   *   ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; ERR_INVALID_STATE once it was freed
   * @example
   * const fd = buffer.exportDmaBuf({ readOnly: true });
   */
  exportDmaBuf(options?: ExportOptions): number {
    const memory = this.live();
    const known = checkOptions(options, ['offset', 'length', 'readOnly']);
    const { readOnly = false } = known;
    const page = this.#pageSize;
    const pages = roundUp(this.byteLength, page);
    const offset = checkOptionalInteger('offset', known.offset, 0, this.byteLength - 1, 0);
    if (offset % page !== 0) {
      throw outOfRange('offset', `a multiple of ${page}, whole pages`, offset);
    }
    const rest = this.byteLength - offset;
    const length = checkInteger('length', known.length ?? rest, 1, pages - offset);
    if (length % page !== 0 && length !== rest) {
      throw outOfRange(
        'length',
        `a multiple of ${page}, whole pages, or the ${rest} bytes that follow`,
        length,
      );
    }
    checkBoolean('readOnly', readOnly);
    if (this.memory.effective !== 'cached') {
      throw notSupported(
        'exportDmaBuf',
        `only cached memory has pages of its own: alloc with memory: 'cached', not '${this.memory.effective}'`,
      );
    }
    return memory.exportDmaBuf(offset, roundUp(length, page), readOnly);
  }

  /** @internal */
  rewrap(): void {
    const { mapping, ownership } = this.live();
    if (ownership !== undefined) {
      throw invalidState('the ArrayBuffer of this buffer, whose ownership is checked, was carried off');
    }
    mapping.rewrap();
  }

  /**
   * Gives the memory back now. The device must no longer use it: that is the caller's word.
   *
   * Every view has length 0 afterwards. An `fs.read` into it that is still running writes into nothing, or ends with
   * EFAULT. A second call does nothing.
   */
  free(): void {
    if (!this.freed) {
      this.live().mapping.release();
      this.#onFree();
    }
  }

  [Symbol.dispose](): void {
    this.free();
  }

  /** Shows what it is. Touches no memory. */
  override [inspect.custom](): string {
    const { requested, effective } = this.memory;
    const memory = requested === effective ? effective : `${effective} (${requested} was requested)`;
    return `DmaBuffer { byteLength: ${this.byteLength}, memory: ${memory}${this.#describeLive()}, freed: ${this.freed} }`;
  }

  #describeLive(): string {
    if (this.freed) {
      return '';
    }
    const { segments, ownership } = this.live();
    return `${describePlace(segments)}${ownership === undefined ? '' : `, turn: ${ownership.turn}`}`;
  }
}
