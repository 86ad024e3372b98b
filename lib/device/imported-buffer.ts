/**
 * Memory of another driver, process or device, which came as the descriptor of a dma-buf.
 *
 * @module
 */
import { inspect } from 'node:util';
import { checkRange } from '../check.js';
import { errno, invalidState, notSupported, systemError } from '../errors.js';
import { MappedBytes } from '../mapped-bytes.js';
import { Mapping } from '../mapping.js';
import type { Direction } from './memory.js';
import type { ProvidedImport } from './provider.js';
import { type DmaSegment, describePlace, onlyAddress } from './segments.js';
import { beginTurn, type Turn } from './turn.js';

/** How to import a dma-buf. */
export interface ImportOptions {
  /** Who writes it. `'toDevice'` for a descriptor that is read-only. @defaultValue `'bidirectional'` */
  direction?: Direction;
}

/**
 * A dma-buf that a device reaches, made by {@link DmaDevice.importDmaBuf}: where the device finds it, and, where the driver
 * that exported it allows, the CPU's view of it.
 *
 * It lives until {@link ImportedBuffer.release}, or until its device is closed. One that is collected without either stays
 * mapped for the device until that is closed.
 *
 * `buffer`, `bytes` and `view()` throw EOPNOTSUPP if the driver that exported it lets nobody map it; EACCES if the
 * descriptor was read-only, for nothing keeps JavaScript from writing to an ArrayBuffer: `read()` copies; and
 * ERR_INVALID_STATE after `release()`.
 *
 * @example
 * using frame = device.importDmaBuf(fd, { direction: 'toDevice' });
 * registers.writeAddress(0x80, frame.dmaAddress);
 */
export class ImportedBuffer extends MappedBytes {
  readonly #provided: ProvidedImport;
  readonly #onRelease: () => void;

  /** Who writes it. */
  readonly direction: Direction;
  /** Whether the CPU can only read it: then by {@link ImportedBuffer.read}. */
  readonly readOnly: boolean;

  /** @internal */
  constructor(provided: ProvidedImport, direction: Direction, onRelease: () => void) {
    super(0, provided.byteLength);
    this.#provided = provided;
    this.#onRelease = onRelease;
    this.direction = direction;
    this.readOnly = provided.readOnly;
  }

  override get buffer(): ArrayBuffer {
    const mapping = this.#mapping('buffer');
    if (this.readOnly) {
      throw systemError(errno.EACCES, 'buffer', { hint: 'the descriptor was read-only; read() copies' });
    }
    return mapping.buffer;
  }

  get released(): boolean {
    return this.#provided.content.released;
  }

  /**
   * What the device must be told, in order. Valid for the device that it was imported for, and for no other.
   *
   * @throws ERR_INVALID_STATE after `release()`
   */
  get segments(): readonly DmaSegment[] {
    return this.#live().segments;
  }

  /**
   * The address of the first byte as the device sees it.
   *
   * @throws EOPNOTSUPP where there is no single one: `segments` has them all; ERR_INVALID_STATE after `release()`
   */
  get dmaAddress(): bigint {
    return onlyAddress(this.segments);
  }

  /**
   * A copy of a part of it; also where the descriptor was read-only.
   *
   * @param offset - first byte
   * @param length - bytes; absent: all that follow
   * @throws ERR_OUT_OF_RANGE if the range does not lie inside; EOPNOTSUPP if it cannot be mapped; ERR_INVALID_STATE after
   *   `release()`
   */
  read(offset = 0, length?: number): Uint8Array {
    const { bytes } = this.#mapping('read');
    return bytes.slice(offset, offset + checkRange(offset, length, this.byteLength));
  }

  /**
   * Makes what the CPU wrote visible to the device, whose turn it is then. A system call where that needs one; else a
   * barrier. Always all of it changes hands: a dma-buf knows no ranges.
   *
   * @throws ERR_INVALID_STATE after `release()`; the errors of the driver that exported it
   */
  syncForDevice(): void {
    this.#begin('device');
  }

  /**
   * Makes what the device wrote visible to the CPU, whose turn it is then: all of it, as {@link ImportedBuffer.syncForDevice}.
   *
   * @throws as {@link ImportedBuffer.syncForDevice}
   */
  syncForCpu(): void {
    this.#begin('cpu');
  }

  /**
   * Ends it for this device and in this process: every view has length 0 afterwards. The memory itself is its exporter's. A
   * second call does nothing.
   */
  release(): void {
    if (!this.released) {
      this.#provided.content.release();
      this.#onRelease();
    }
  }

  [Symbol.dispose](): void {
    this.release();
  }

  #begin(turn: Turn): void {
    beginTurn(turn, this.#live().sync, [{ offset: 0, length: this.byteLength }]);
  }

  #live(): ProvidedImport {
    if (this.released) {
      throw invalidState('the imported buffer was released');
    }
    return this.#provided;
  }

  #mapping(operation: string): Mapping {
    const { content } = this.#live();
    if (!(content instanceof Mapping)) {
      throw notSupported(operation, content.reason);
    }
    return content;
  }

  /** Shows where it lies. Touches no memory. */
  [inspect.custom](): string {
    const place = this.released ? '' : describePlace(this.#provided.segments);
    return `ImportedBuffer { byteLength: ${this.byteLength}, direction: ${this.direction}${place}, released: ${this.released} }`;
  }
}
