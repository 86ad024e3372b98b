/**
 * A window on physical memory: an arena, a range that the module was told of, a device's registers.
 *
 * @module
 */
import { inspect } from 'node:util';
import { invalidState, notSupported } from '../errors.js';
import { MappedBytes } from '../mapped-bytes.js';
import { Mapping } from '../mapping.js';
import type { WindowType } from './memory.js';
import type { ProvidedWindow } from './provider.js';
import { Registers } from './registers.js';

/**
 * Physical memory, mapped into this process by {@link mmapIospace} or {@link ReservedArena.window}. It lives until
 * {@link IospaceMapping.unmap}, or until the device that it was opened over is closed.
 *
 * A window of type `device` is registers, and shows them by {@link IospaceMapping.registers} alone: `buffer`, `bytes` and
 * `view()` throw EOPNOTSUPP, because typed arrays read twice, merge and widen. All of them throw ERR_INVALID_STATE after
 * `unmap()`.
 *
 * @example
 * using frame = mmapIospace(0x1800_0000, 1 << 20, { memory: 'writecombine' });
 * frame.bytes.fill(0);
 */
export class IospaceMapping extends MappedBytes {
  readonly #content: Mapping | Registers;
  readonly #onUnmap: () => void;

  /** Of its first byte. Means nothing to a device: see {@link ArenaAttachment}. */
  readonly physicalAddress: bigint;
  /** The type that was asked for, and the one in effect. */
  readonly memory: { readonly requested: WindowType; readonly effective: WindowType };

  /** @internal */
  constructor(
    { content, byteOffset, memory }: ProvidedWindow,
    requested: WindowType,
    physicalAddress: bigint,
    byteLength: number,
    onUnmap: () => void,
  ) {
    super(byteOffset, byteLength);
    this.#content = content;
    this.#onUnmap = onUnmap;
    this.physicalAddress = physicalAddress;
    this.memory = Object.freeze({ requested, effective: memory });
  }

  override get buffer(): ArrayBuffer {
    const content = this.#live();
    if (!(content instanceof Mapping)) {
      throw notSupported('buffer', 'registers are never an ArrayBuffer: use the registers of this window');
    }
    return content.buffer;
  }

  /**
   * What is mapped, as registers. Offsets count from `physicalAddress`.
   *
   * @throws EOPNOTSUPP unless its type is `device`; ERR_INVALID_STATE after `unmap()`
   */
  get registers(): Registers {
    const content = this.#live();
    if (!(content instanceof Registers)) {
      throw notSupported(
        'registers',
        `this is ${this.memory.effective} memory: only windows of type device are registers`,
      );
    }
    return content;
  }

  /** @internal */
  rewrap(): void {
    const content = this.#live();
    if (content instanceof Mapping) {
      content.rewrap();
    }
  }

  get unmapped(): boolean {
    return this.#content.released;
  }

  /** Ends the window now: every view has length 0 afterwards. A second call does nothing. */
  unmap(): void {
    if (!this.unmapped) {
      this.#content.release();
      this.#onUnmap();
    }
  }

  [Symbol.dispose](): void {
    this.unmap();
  }

  #live(): Mapping | Registers {
    if (this.unmapped) {
      throw invalidState('the window was unmapped');
    }
    return this.#content;
  }

  /** Shows where it lies. Touches no memory. */
  [inspect.custom](): string {
    const address = `0x${this.physicalAddress.toString(16)}`;
    return `IospaceMapping { physicalAddress: ${address}, byteLength: ${this.byteLength}, memory: ${this.memory.effective}, unmapped: ${this.unmapped} }`;
  }
}
