/**
 * Small blocks for a device, many to a page: the rules of the kernel's dma_pool, over buffers of this library.
 *
 * @module
 */
import { inspect } from 'node:util';
import { nextPowerOfTwo, roundUp } from '../arithmetic.js';
import { checkBoolean, checkInteger, checkOptions, checkPowerOfTwo } from '../check.js';
import { invalidState, outOfRange } from '../errors.js';
import { MAX_BYTE_LENGTH } from '../mapping.js';
import type { DmaBuffer } from './buffer.js';
import { DmaSlice } from './slice.js';

/** How the blocks of a pool lie. */
export interface PoolOptions {
  /** What each block's bus address is a multiple of: a power of two. @defaultValue 1 */
  align?: number;
  /**
   * No block crosses a multiple of this bus address: a power of two, at least `size`. @defaultValue a page; for blocks
   * longer than that, none
   */
  boundary?: number;
  /** Whether each block is zeroed when it is given out; without it, it holds what its last user left. @defaultValue false */
  zero?: boolean;
}

/** What a pool needs of its device. */
interface PoolDevice {
  readonly pageSize: number;
  /** Throws once it was closed. */
  checkOpen(): void;
  /** Makes a buffer whose bus address is a multiple of `align`. */
  alloc(byteLength: number, align: number): DmaBuffer;
}

/** Where a block lies: one for all blocks that ever lie there. */
interface Place {
  readonly chunk: DmaBuffer;
  readonly byteOffset: number;
}

/**
 * A block of a {@link DmaPool}.
 *
 * All but `byteOffset`, which counts from the start of `buffer`, and `byteLength` throw ERR_INVALID_STATE after
 * {@link PoolBlock.free}. A typed array that was kept from before does not end: it shows what comes to lie there next.
 */
export class PoolBlock extends DmaSlice {
  readonly #place: Place;
  readonly #giveBack: (place: Place) => void;
  #freed = false;

  /** @internal */
  constructor(place: Place, byteLength: number, giveBack: (place: Place) => void) {
    super(place.chunk, place.byteOffset, byteLength);
    this.#place = place;
    this.#giveBack = giveBack;
  }

  override get freed(): boolean {
    return this.#freed || super.freed;
  }

  /**
   * Gives the block back to its pool. The device must no longer use it: that is the caller's word. A second call does
   * nothing, also when another block lies there by then.
   */
  free(): void {
    if (!this.freed) {
      this.#freed = true;
      this.#giveBack(this.#place);
    }
  }

  [Symbol.dispose](): void {
    this.free();
  }

  /** Shows where it lies. Touches no memory. */
  override [inspect.custom](): string {
    return `PoolBlock { byteOffset: ${this.byteOffset}, byteLength: ${this.byteLength}, freed: ${this.freed} }`;
  }
}

/**
 * A pool of blocks of one size, from {@link DmaDevice.pool}: coherent memory, by whole pages, cut into blocks. What a block
 * costs is a JavaScript object; a page more is a buffer more, which stays until the pool is closed.
 *
 * It lives until {@link DmaPool.close}, or until its device is closed.
 *
 * @example
 * using descriptors = device.pool(32, { align: 32, boundary: 4096, zero: true });
 * using first = descriptors.alloc();
 * first.view(BigUint64Array)[0] = buffer.dmaAddress;
 * registers.writeAddress(0x10, first.dmaAddress);
 */
export class DmaPool {
  readonly #chunkLength: number;
  readonly #chunkAlign: number;
  readonly #zero: boolean;
  readonly #device: PoolDevice;
  readonly #chunks: DmaBuffer[] = [];
  /** Last in, first out: what was used last is still in the CPU's caches. */
  readonly #vacant: Place[] = [];
  #closed = false;

  /** Bytes of a block: the size asked for, rounded up to whole `align`. */
  readonly size: number;
  readonly align: number;
  /** `undefined` without. */
  readonly boundary: number | undefined;

  /** @internal */
  constructor(size: number, options: PoolOptions | undefined, device: PoolDevice) {
    checkInteger('size', size, 1, MAX_BYTE_LENGTH);
    const { align = 1, boundary, zero = false } = checkOptions(options, ['align', 'boundary', 'zero']);
    checkPowerOfTwo('align', align, 1);
    checkBoolean('zero', zero);
    this.size = roundUp(size, align);
    this.align = align;
    this.boundary = boundary;
    if (boundary !== undefined && checkPowerOfTwo('boundary', boundary, 1) < this.size) {
      throw outOfRange('boundary', `at least the ${this.size} bytes of a block`, boundary);
    }
    this.#chunkLength = roundUp(this.size, device.pageSize);
    // A chunk on a multiple of its own length, or more, crosses no larger power of two.
    const crossing = Math.min(boundary ?? 1, nextPowerOfTwo(this.#chunkLength));
    this.#chunkAlign = Math.max(align, crossing);
    this.#zero = zero;
    this.#device = device;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Gives a block. A system call or two if a page is needed for it.
   *
   * @throws as {@link DmaDevice.alloc}; ERR_INVALID_STATE after `close()`, its own or its device's
   */
  alloc(): PoolBlock {
    if (this.#closed) {
      throw invalidState('the pool is closed');
    }
    this.#device.checkOpen();
    const place = this.#vacant.pop() ?? this.#grow();
    const block = new PoolBlock(place, this.size, this.#giveBack);
    if (this.#zero) {
      block.bytes.fill(0);
    }
    return block;
  }

  /** Gives all memory back now; the device must no longer use any block. A second call does nothing. */
  close(): void {
    this.#closed = true;
    for (const chunk of this.#chunks) {
      chunk.free();
    }
    this.#chunks.length = 0;
    this.#vacant.length = 0;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  readonly #giveBack = (place: Place): void => {
    this.#vacant.push(place);
  };

  /** Makes a chunk: the first place of it is given out, the others are vacant. */
  #grow(): Place {
    const chunk = this.#device.alloc(this.#chunkLength, this.#chunkAlign);
    this.#chunks.push(chunk);
    const { size, boundary = Number.POSITIVE_INFINITY } = this;
    const places: Place[] = [];
    for (let byteOffset = 0; byteOffset + size <= this.#chunkLength; byteOffset += size) {
      const room = boundary - (byteOffset % boundary);
      if (room < size) {
        byteOffset += room - size;
      } else {
        places.push({ chunk, byteOffset });
      }
    }
    const [first, ...others] = places as [Place, ...Place[]];
    this.#vacant.push(...others.reverse());
    return first;
  }

  [inspect.custom](): string {
    return `DmaPool { size: ${this.size}, chunks: ${this.#chunks.length}, closed: ${this.#closed} }`;
  }
}
