/**
 * A block of an arena, and parts of it.
 *
 * @module
 */
import { inspect } from 'node:util';
import { checkInteger } from '../check.js';
import type { MemoryType, WindowType } from '../device/memory.js';
import { placeIn, type ReservedArena } from '../device/reserved-arena.js';
import { invalidState, outOfRange, wrongType } from '../errors.js';
import { MappedBytes } from '../mapped-bytes.js';
import { MAX_BYTE_LENGTH } from '../mapping.js';
import type { Arena } from './arena.js';
import type { ArenaViews, Part } from './views.js';

/** How to free. */
export interface FreeOptions {
  /** Whether a block of another owner, too, which may still be using it. @defaultValue false */
  force?: boolean;
}

/**
 * A block of an {@link Arena}, from {@link dmaMalloc} or {@link Arena.allocate}.
 *
 * It lives until it is freed. One that is forgotten stays allocated until its arena is closed here. Once it is freed
 * all but `byteLength`, `offset`, `memory` and `tag` throw ERR_INVALID_STATE, but **a typed array that was kept from before
 * does not end**: it shows what comes to lie there next. With `guard: true` it has length 0.
 *
 * @example
 * using block = dmaMalloc(4096, { align: 4096 });
 * block.bytes.fill(0);
 */
export class DmaBlock {
  readonly #arena: Arena;
  readonly #views: ArenaViews;
  readonly #start: number;
  /** 0 once it is freed. */
  #serial: number;
  #bytes: Uint8Array | undefined;

  /** As it was asked for; the block takes whole granules. */
  readonly byteLength: number;
  /** Empty without. */
  readonly tag: string;

  /** @internal */
  constructor(
    arena: Arena,
    views: ArenaViews,
    start: number,
    serial: number,
    byteLength: number,
    tag: string,
  ) {
    this.#arena = arena;
    this.#views = views;
    this.#start = start;
    this.#serial = serial;
    this.byteLength = byteLength;
    this.tag = tag;
  }

  /** Of its first byte, counted from the start of the arena. */
  get offset(): number {
    return this.#start * this.#arena.granule;
  }

  /** What `bytes` is to the CPU. */
  get memory(): MemoryType {
    return this.#views.memory;
  }

  /** The arena that it is of. */
  get arena(): Arena {
    return this.#arena;
  }

  get freed(): boolean {
    return this.#serial === 0;
  }

  /**
   * Its memory. What it holds is what its last user left, unless it was asked for with `zero`.
   *
   * @throws ERR_INVALID_STATE once the block was freed or the arena closed; EBUSY while the range is open in another memory
   *   type and the machine has but one at a time; ERR_OUT_OF_RANGE for more than an ArrayBuffer can have
   */
  get bytes(): Uint8Array {
    this.#checkLive();
    // Empty where its ArrayBuffer was carried off.
    if (this.#bytes === undefined || this.#bytes.length === 0) {
      this.#bytes = this.map(this.#views, this.offset);
    }
    return this.#bytes;
  }

  /** @internal */
  protected map(views: ArenaViews, offset: number): Uint8Array {
    return views.bytes(offset, this.byteLength);
  }

  /**
   * Where it lies in physical memory. Means nothing to a device.
   *
   * @throws EOPNOTSUPP where nothing is known of that (shm, memfd, huge pages, buffers); ERR_INVALID_STATE once it was freed
   */
  get physicalAddress(): bigint {
    this.#checkLive();
    return this.#arena.physicalAddress + BigInt(this.offset);
  }

  /**
   * Its address as the device sees it that the arena is attached to.
   *
   * @throws ERR_INVALID_STATE unless the arena is attached to an open device, and at one address: otherwise
   *   `attachment.dmaAddressOf(block)`; also once the block was freed. EOPNOTSUPP where no device has one address for the
   *   arena (shm, memfd, huge pages): `device.mapUser(block.bytes)`
   */
  get dmaAddress(): bigint {
    this.#checkLive();
    return this.#arena.dmaAddress + BigInt(this.offset);
  }

  /**
   * The same bytes as memory of another type. A mapping of its own, which the caller unmaps, by `using`; it ends with the
   * arena, not with the block. Of the block's own type it is the block's memory, and ends with it.
   *
   * @throws EOPNOTSUPP for a type that the arena cannot be; EBUSY while the range is open in another type, on machines that
   *   have but one at a time; ERR_INVALID_STATE once the block was freed
   * @example
   * using cached = block.window('cached');
   */
  window(type: WindowType): MappedBytes & Disposable {
    this.#checkLive();
    return type === this.memory
      ? new OwnWindow(this)
      : this.#arena.openWindow(type, this.offset, this.byteLength);
  }

  /**
   * A part that shares the memory and carries its own addresses. Its bounds are checked, not clamped as a typed array's
   * are: a device would be told of less than was meant.
   *
   * @param begin - first byte
   * @param end - the byte after the last one
   * @throws ERR_OUT_OF_RANGE unless 0 <= begin < end <= byteLength; ERR_INVALID_STATE once the block was freed
   */
  subarray(begin = 0, end: number = this.byteLength): DmaBlockPart {
    this.#checkLive();
    checkInteger('begin', begin, 0, this.byteLength - 1);
    checkInteger('end', end, begin + 1, this.byteLength);
    return new DmaBlockPart(this, begin, end - begin);
  }

  /**
   * Gives the block back. No device must use it any more: that is the caller's word.
   *
   * @throws ERR_INVALID_STATE if it was freed before, here or by somebody else, or the arena was closed: nothing is changed
   */
  free(): void {
    this.#checkLive();
    this.#arena.release(this.#start, this.#serial);
    this.end();
  }

  /**
   * Frees all of them, or none; of several arenas one after the other.
   *
   * @param own - the arena that they are to be of; absent: any
   * @param name - what messages call one of them
   * @internal
   */
  static freeAll(blocks: readonly DmaBlock[], own?: Arena): void {
    if (!Array.isArray(blocks)) {
      throw wrongType('blocks', 'an array of blocks', blocks);
    }
    const byArena = new Map<Arena, Set<DmaBlock>>();
    for (const value of blocks) {
      const block = checkBlock(value, 'each of blocks');
      const arena = block.#arena;
      if (own !== undefined) {
        checkOwn(block, own, 'each of blocks');
      }
      block.#checkLive();
      const some = byArena.get(arena) ?? new Set();
      if (some.has(block)) {
        throw invalidState(
          `the block at 0x${block.offset.toString(16)} of ${block.byteLength} bytes is among them twice`,
        );
      }
      byArena.set(arena, some.add(block));
    }
    for (const [arena, set] of byArena) {
      const some = [...set];
      arena.releaseMany(
        Float64Array.from(some, (block) => block.#start),
        Float64Array.from(some, (block) => block.#serial),
      );
      // All of them, before a mapping of one can refuse to end.
      for (const block of some) {
        block.#serial = 0;
      }
      for (const block of some) {
        block.end();
      }
    }
  }

  /** It is free: nothing of it is left here. */
  protected end(): void {
    this.#serial = 0;
    this.#bytes = undefined;
  }

  /** Frees it, unless that was done, or the arena was closed. */
  [Symbol.dispose](): void {
    if (!this.freed && !this.#arena.closed) {
      this.free();
    }
  }

  /** @internal */
  [placeIn](arena: ReservedArena): number | undefined {
    this.#checkLive();
    return this.#arena.reserved?.index === arena.index ? this.offset : undefined;
  }

  #checkLive(): void {
    if (this.#serial === 0) {
      throw invalidState(`the block at 0x${this.offset.toString(16)} of ${this.byteLength} bytes was freed`);
    }
    if (this.#views.released) {
      throw invalidState('the arena is closed');
    }
  }

  /** Shows where it lies. Touches no memory. */
  [inspect.custom](): string {
    const tag = this.tag === '' ? '' : `, tag: '${this.tag}'`;
    return `DmaBlock { arena: ${this.#arena.name}, offset: 0x${this.offset.toString(16)}, byteLength: ${this.byteLength}, memory: ${this.memory}${tag}, freed: ${this.freed} }`;
  }
}

/** A block with a mapping of its own, made when it is needed: one that is guarded, or too long for the arena's. */
export class DmaBlockApart extends DmaBlock {
  #part: Part | undefined;

  protected override map(views: ArenaViews, offset: number): Uint8Array {
    if (this.byteLength > MAX_BYTE_LENGTH) {
      throw outOfRange(
        'byteLength',
        `at most ${MAX_BYTE_LENGTH}, what an ArrayBuffer can have`,
        this.byteLength,
      );
    }
    this.#part ??= this.arena.mapApart(views.memory, offset, this.byteLength);
    return views.whole(this.#part);
  }

  protected override end(): void {
    super.end();
    if (this.#part !== undefined) {
      this.arena.releaseApart(this.#part);
      this.#part = undefined;
    }
  }
}

/** A part of a {@link DmaBlock}: shares its memory and ends with it. All but the lengths throw as the block's do. */
export class DmaBlockPart {
  readonly #block: DmaBlock;
  readonly #begin: number;

  readonly byteLength: number;

  /** @internal */
  constructor(block: DmaBlock, begin: number, byteLength: number) {
    this.#block = block;
    this.#begin = begin;
    this.byteLength = byteLength;
  }

  /** Of its first byte, counted from the start of the arena. */
  get offset(): number {
    return this.#block.offset + this.#begin;
  }

  get bytes(): Uint8Array {
    return this.#block.bytes.subarray(this.#begin, this.#begin + this.byteLength);
  }

  get physicalAddress(): bigint {
    return this.#block.physicalAddress + BigInt(this.#begin);
  }

  get dmaAddress(): bigint {
    return this.#block.dmaAddress + BigInt(this.#begin);
  }

  /** As {@link DmaBlock.subarray}, counted from the start of this part. */
  subarray(begin = 0, end: number = this.byteLength): DmaBlockPart {
    checkInteger('begin', begin, 0, this.byteLength - 1);
    checkInteger('end', end, begin + 1, this.byteLength);
    return this.#block.subarray(this.#begin + begin, this.#begin + end);
  }

  [placeIn](arena: ReservedArena): number | undefined {
    const place = this.#block[placeIn](arena);
    return place === undefined ? undefined : place + this.#begin;
  }

  /** Shows where it lies. Touches no memory. */
  [inspect.custom](): string {
    return `DmaBlockPart { offset: 0x${this.offset.toString(16)}, byteLength: ${this.byteLength}, freed: ${this.#block.freed} }`;
  }
}

/** A block's own memory, where a window of its own type was asked for. */
class OwnWindow extends MappedBytes {
  readonly #block: DmaBlock;

  constructor(block: DmaBlock) {
    super(block.bytes.byteOffset, block.byteLength);
    this.#block = block;
  }

  override get buffer(): ArrayBuffer {
    return this.#block.bytes.buffer as ArrayBuffer;
  }

  /** Nothing of it is its own. */
  [Symbol.dispose](): void {}
}

export function checkBlock(value: unknown, name = 'block'): DmaBlock {
  if (!(value instanceof DmaBlock)) {
    throw wrongType(name, 'a DmaBlock', value);
  }
  return value;
}

/** @throws ERR_INVALID_ARG_TYPE for a block of another attachment */
export function checkOwn(block: DmaBlock, own: Arena, name = 'block'): void {
  if (block.arena !== own) {
    throw wrongType(
      name,
      `a block that this attachment of '${own.name}' (owner ${own.owner}) allocated`,
      block,
    );
  }
}
