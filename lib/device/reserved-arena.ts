/**
 * Reserved arenas: physical memory that the system does not use, set aside when the module was loaded. What is placed in
 * one, and where, is its users' business.
 *
 * @module
 */
import { inspect } from 'node:util';
import { checkInteger, checkOneOf, checkOptionalInteger, checkOptions } from '../check.js';
import { explained, invalidState, outOfRange, wrongType } from '../errors.js';
import { MAX_BYTE_LENGTH } from '../mapping.js';
import { type WindowType, windowTypes } from './memory.js';
import type { ProvidedArena } from './provider.js';
import { IospaceMapping } from './window.js';

/** Which part of an arena to open. */
export interface WindowOptions {
  /** First byte, counted from the start of the arena. @defaultValue 0 */
  offset?: number;
  /** Bytes. @defaultValue all that follow */
  length?: number;
}

/** Asks what lies in an arena where it begins: counted from the start of the arena; undefined if it lies in another. */
export const placeIn = Symbol('placeIn');

/** What lies in a reserved arena beside windows: a block of an {@link Arena} over it, or a part of one. */
export interface Placed {
  readonly byteLength: number;
  /** @internal */
  [placeIn](arena: ReservedArena): number | undefined;
}

/** Hands an attachment to an arena of blocks. */
export const attach = Symbol('attach');

/** What a device can attach beside a reserved arena: an {@link Arena} of blocks. */
export interface Attachable {
  /** @internal */
  [attach](make: (arena: ReservedArena) => ArenaAttachment): ArenaAttachment;
}

/** Opens a window over the device that an arena was found by. */
type OpenWindow = (memory: WindowType, physicalAddress: bigint, byteLength: number) => IospaceMapping;

/**
 * A reserved arena, from {@link DmaDevice.arenas}: one of the module's parameter `arena`, or a `no-map` node of the device
 * tree. It was zeroed when the module was loaded, and is one trust domain: whoever may open a device sees all of it.
 *
 * An offset in the arena means the same byte everywhere: at `physicalAddress + offset`, in every window that has it, and
 * for a device at `attachment.dmaAddress + offset`.
 *
 * @example
 * const [arena] = device.arenas;
 * using window = arena.window('writecombine', { offset: 4096, length: 4096 });
 * registers.writeAddress(0x80, device.attachArena(arena).dmaAddressOf(window));
 */
export class ReservedArena {
  readonly #open: OpenWindow;

  /**
   * Its number among the module's arenas.
   *
   * @internal
   */
  readonly index: number;
  /**
   * What the device was opened by that it came from, to be opened again.
   *
   * @internal
   */
  readonly device: string | undefined;
  /** Name of its node in the device tree; empty without. */
  readonly name: string;
  /** Of its first byte. Means nothing to a device. */
  readonly physicalAddress: bigint;
  readonly byteLength: number;
  /** What its windows can be. */
  readonly memoryTypes: readonly WindowType[];
  /** Whether windows of several types may be open at one time; without it, one of another type is EBUSY. */
  readonly sideBySide: boolean;

  /** @internal */
  constructor(arena: ProvidedArena, device: string | undefined, open: OpenWindow) {
    this.#open = open;
    this.device = device;
    this.index = arena.index;
    this.name = arena.name;
    this.physicalAddress = arena.physicalAddress;
    this.byteLength = arena.byteLength;
    this.memoryTypes = Object.freeze([...arena.memoryTypes]);
    this.sideBySide = arena.sideBySide;
  }

  /**
   * Opens a window on it, over the device that it came from, and as long as that is open.
   *
   * @throws EOPNOTSUPP for a type that is not in `memoryTypes`; EBUSY while a part of the range is open in another type,
   *   unless `sideBySide`; ERR_OUT_OF_RANGE if the range does not lie inside, or is longer than an ArrayBuffer can be
   *   (4 GiB on Node 20)
   */
  window(memory: WindowType, options?: WindowOptions): IospaceMapping {
    checkOneOf('memory', memory, windowTypes);
    const { offset, length } = checkOptions(options, ['offset', 'length']);
    const begin = checkOptionalInteger('offset', offset, 0, this.byteLength - 1, 0);
    const rest = this.byteLength - begin;
    const byteLength = checkInteger('length', length ?? rest, 1, Math.min(rest, MAX_BYTE_LENGTH));
    const address = this.physicalAddress + BigInt(begin);
    const hints = { EOPNOTSUPP: () => `this arena can be ${this.memoryTypes.join(', ')}, not ${memory}` };
    return explained({ syscall: 'mmap_iospace', address }, hints, () =>
      this.#open(memory, address, byteLength),
    );
  }

  /**
   * Where in the arena a window of it begins.
   *
   * @throws ERR_OUT_OF_RANGE if the window is not one of this arena; ERR_INVALID_STATE once it was unmapped
   */
  offsetOf(window: IospaceMapping): number {
    if (!(window instanceof IospaceMapping)) {
      throw wrongType('window', 'an IospaceMapping', window);
    }
    if (window.unmapped) {
      throw invalidState('the window was unmapped');
    }
    const offset = window.physicalAddress - this.physicalAddress;
    if (offset < 0n || offset >= BigInt(this.byteLength)) {
      throw outOfRange('window', 'a window of this arena', window);
    }
    return Number(offset);
  }

  /** Shows where it lies. Touches no memory. */
  [inspect.custom](): string {
    const name = this.name === '' ? '' : ` '${this.name}'`;
    return `ReservedArena${name} { physicalAddress: 0x${this.physicalAddress.toString(16)}, byteLength: ${this.byteLength}, memoryTypes: ${this.memoryTypes.join(' ')}, sideBySide: ${this.sideBySide} }`;
  }
}

/**
 * An arena as one device sees it, from {@link DmaDevice.attachArena}. Another device may see it elsewhere. Valid until the
 * device is closed.
 */
export class ArenaAttachment {
  readonly #dmaAddress: bigint;
  readonly #checkOpen: () => void;

  readonly arena: ReservedArena;

  /** @internal */
  constructor(arena: ReservedArena, dmaAddress: bigint, checkOpen: () => void) {
    this.arena = arena;
    this.#dmaAddress = dmaAddress;
    this.#checkOpen = checkOpen;
  }

  /**
   * The address of the arena's first byte as the device sees it.
   *
   * @throws ERR_INVALID_STATE once the device was closed
   */
  get dmaAddress(): bigint {
    this.#checkOpen();
    return this.#dmaAddress;
  }

  /**
   * The address of a byte of a window or block as the device sees it.
   *
   * @param offset - counted from the start of the window or block
   * @throws ERR_OUT_OF_RANGE if it is not one of this arena, or the byte not in it; ERR_INVALID_STATE once the window was
   *   unmapped, the block freed or the device closed
   */
  dmaAddressOf(part: IospaceMapping | Placed, offset = 0): bigint {
    const begin = placeIn in part ? part[placeIn](this.arena) : this.arena.offsetOf(part);
    if (begin === undefined) {
      throw outOfRange('part', 'a block of this arena', part);
    }
    return this.dmaAddress + BigInt(begin + checkInteger('offset', offset, 0, part.byteLength - 1));
  }

  /**
   * Whether the device is open.
   *
   * @internal
   */
  get live(): boolean {
    try {
      this.#checkOpen();
      return true;
    } catch {
      return false;
    }
  }

  [inspect.custom](): string {
    return `ArenaAttachment { dmaAddress: 0x${this.#dmaAddress.toString(16)}, byteLength: ${this.arena.byteLength} }`;
  }
}
