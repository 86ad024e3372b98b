/**
 * A buffer that a device reaches: the memory, what the device is told, and when it ends.
 *
 * @module
 */
import { inspect } from 'node:util';
import type { MemoryType } from './memory.js';
import type { ProvidedMemory } from './provider.js';
import { DmaSlice } from './slice.js';

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
  readonly #memory: ProvidedMemory;
  readonly #onFree: () => void;

  /** The memory type that was asked for, and the one in effect; they differ only after `fallback: true`. */
  readonly memory: { readonly requested: MemoryType; readonly effective: MemoryType };

  /** @internal */
  constructor(memory: ProvidedMemory, requested: MemoryType, onFree: () => void) {
    super(memory, 0, memory.mapping.byteLength);
    this.#memory = memory;
    this.#onFree = onFree;
    this.memory = Object.freeze({ requested, effective: memory.memory });
  }

  /**
   * Gives the memory back now. The device must no longer use it: that is the caller's word.
   *
   * Every view has length 0 afterwards. An `fs.read` into it that is still running writes into nothing, or ends with
   * EFAULT. A second call does nothing.
   */
  free(): void {
    if (!this.freed) {
      this.#memory.mapping.release();
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
    const { segments } = this.#memory;
    const address = `dmaAddress: 0x${segments[0]?.dmaAddress.toString(16)}`;
    const place = segments.length === 1 ? address : `segments: ${segments.length}`;
    const where = this.freed || segments.length === 0 ? '' : `, ${place}`;
    return `DmaBuffer { byteLength: ${this.byteLength}, memory: ${memory}${where}, freed: ${this.freed} }`;
  }
}
