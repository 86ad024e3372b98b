/**
 * The memory of an arena, as one type: its ArrayBuffers, and the arrays of its blocks on them.
 *
 * @module
 */
import type { MemoryType } from '../device/memory.js';
import type { MappedBytes } from '../mapped-bytes.js';
import { MAX_BYTE_LENGTH } from '../mapping.js';

/** Mapped memory whose ArrayBuffer can be made anew. */
export interface Part extends MappedBytes {
  /** Leaves its ArrayBuffer to whoever carried it off: the next `buffer` is another one over the same memory. */
  rewrap(): void;
}

/** Where the parts come from. */
export interface Parts {
  /** A new mapping of a range of the arena, which begins with a page; over a buffer the one that there is, of all of it. */
  map(memory: MemoryType, offset: number, byteLength: number): Part;
  release(part: Part): void;
}

const UNIT = 2 ** 21;

/**
 * An arena that is longer than an ArrayBuffer can be (4 GiB on Node 20) is mapped in parts, each of which begins in the middle
 * of the one before: every block up to half of a part lies in one.
 */
const STEP = Math.floor(MAX_BYTE_LENGTH / 2 / UNIT) * UNIT;

/** Whoever holds memory of an arena keeps the attachment, for blocks of one that has ended are given to others. */
const keepers = new WeakMap<ArrayBuffer, object>();

export class ArenaViews {
  readonly #parts: Parts;
  readonly #byteLength: number;
  readonly #step: number;
  readonly #keeper: object;
  /** By their numbers, from the start of the arena. */
  readonly #mapped = new Map<number, Part>();
  /** Of part 0, and where in it the arena begins. */
  #buffer: ArrayBuffer | undefined;
  #base = 0;
  #released = false;

  readonly memory: MemoryType;

  constructor(memory: MemoryType, parts: Parts, byteLength: number, keeper: object) {
    this.memory = memory;
    this.#parts = parts;
    this.#byteLength = byteLength;
    this.#step = byteLength <= MAX_BYTE_LENGTH ? byteLength : STEP;
    this.#keeper = keeper;
  }

  get released(): boolean {
    return this.#released;
  }

  /** Whether a part has all of the range. */
  holds(offset: number, byteLength: number): boolean {
    return byteLength <= this.#step || (offset % this.#step) + byteLength <= 2 * this.#step;
  }

  /** A new array of a range that a part has. */
  bytes(offset: number, byteLength: number): Uint8Array {
    if (offset + byteLength <= this.#step) {
      let buffer = this.#buffer;
      // Carried off, or never made.
      if (buffer === undefined || buffer.byteLength === 0) {
        const part = this.#part(0);
        buffer = this.#wrap(part);
        this.#buffer = buffer;
        this.#base = part.byteOffset;
      }
      return new Uint8Array(buffer, this.#base + offset, byteLength);
    }
    const part = this.#part(Math.floor(offset / this.#step));
    return new Uint8Array(this.#wrap(part), part.byteOffset + (offset % this.#step), byteLength);
  }

  /** A new array of all of a part: of one of these, or of a mapping apart from them. */
  whole(part: Part): Uint8Array {
    return new Uint8Array(this.#wrap(part), part.byteOffset, part.byteLength);
  }

  /** The ArrayBuffer of a part, made anew if it was carried off. */
  #wrap(part: Part): ArrayBuffer {
    let { buffer } = part;
    if (buffer.byteLength === 0) {
      part.rewrap();
      ({ buffer } = part);
    }
    keepers.set(buffer, this.#keeper);
    return buffer;
  }

  #part(index: number): Part {
    let part = this.#mapped.get(index);
    if (part === undefined) {
      const offset = index * this.#step;
      part = this.#parts.map(this.memory, offset, Math.min(2 * this.#step, this.#byteLength - offset));
      this.#mapped.set(index, part);
    }
    return part;
  }

  /** Ends all parts: arrays on them have length 0 afterwards, where they are mappings of the arena's. */
  release(): void {
    this.#released = true;
    for (const part of this.#mapped.values()) {
      this.#parts.release(part);
    }
    this.#mapped.clear();
    this.#buffer = undefined;
  }
}
