/**
 * The producer of a ring of one: reserves room, and publishes what was written there.
 *
 * A record is a word with the message's length, one of no meaning, and the message, to a multiple of 8 bytes. It never goes
 * over the end of the ring: where it would, a word that says so sends the consumer to the start.
 *
 * What counts is the tail alone: a producer that dies has sent what lies before it, whole, and nothing else.
 *
 * @module
 */
import { checkInteger } from '../../check.js';
import { Attachment } from './attachment.js';
import {
  CONSUMER_SLEEPS,
  damaged,
  gone,
  HEAD,
  HEADER_WORDS,
  type Layout,
  RECORD_BYTES,
  TAIL,
} from './layout.js';
import { wakeSleepers } from './wait.js';
import { checkMessage, RingWriter } from './writer.js';

/** In the place of a length: the next record is at the start. */
export const TO_THE_START = -1;

/** The producer's number among the sides. */
export const PRODUCER = 1;

/** Bytes of a record. */
export function recordBytes(length: number): number {
  return (length + RECORD_BYTES + 7) & ~7;
}

/** The longest message of which there is room wherever an empty ring stands. */
export function longestMessage(capacity: number): number {
  return capacity / 2 - RECORD_BYTES;
}

/**
 * Who puts messages into a ring. Made by `Ring.producer`.
 *
 * @example
 * const offset = producer.reserve(8);
 * if (offset !== -1) {
 *   producer.u32[offset >>> 2] = 42;
 *   producer.commit();
 * }
 */
export class RingProducer extends RingWriter {
  #words: Int32Array;
  readonly #mask: number;
  #most: number;
  /** Where the next record goes. */
  #position: number;
  /** Before this there is room, as far as is known: the consumer's index, one round on. */
  #limit: number;
  /** The last that this side has published. */
  #published: number;
  readonly #attachment: Attachment;

  /** The ring's messages, and what is between them. */
  readonly bytes: Uint8Array;
  /** The same memory. */
  readonly u32: Uint32Array;

  /** @internal */
  constructor(layout: Layout, fd: number | undefined) {
    const attachment = Attachment.sole(layout, PRODUCER, fd, 'Ring.producer');
    const most = longestMessage(layout.capacity);
    super(layout, attachment, most);
    const { buffer, byteOffset, byteLength } = layout.bytes;
    this.#attachment = attachment;
    this.#words = layout.words;
    this.#mask = layout.capacity - 1;
    this.#most = most;
    this.bytes = layout.bytes;
    this.u32 = new Uint32Array(buffer, byteOffset, byteLength / 4);
    this.#position = Atomics.load(layout.words, TAIL);
    this.#published = this.#position;
    this.#limit = this.#position;
    try {
      this.#refresh('Ring.producer');
    } catch (error) {
      attachment.close();
      throw error;
    }
  }

  /**
   * Makes room for a message behind those that were reserved before. Nothing of it is sent before {@link RingProducer.commit}.
   * Allocates nothing.
   *
   * @param length - bytes, at most `maxLength`
   * @returns where in `bytes` to write it, a multiple of 8; -1 if there is no room now
   * @throws ERR_OUT_OF_RANGE; EBADMSG if the ring is damaged; ERR_INVALID_STATE after `close()`
   */
  reserve(length: number): number {
    if (!(Number.isInteger(length) && length >= 0 && length <= this.#most)) {
      this.#refuse(length);
    }
    const size = (length + (RECORD_BYTES + 7)) & ~7;
    const position = this.#position;
    const mask = this.#mask;
    const at = position & mask;
    const rest = mask + 1 - at;
    const skip = size > rest ? rest : 0;
    if (((this.#limit - position) | 0) < skip + size && this.#room('Ring.reserve') < skip + size) {
      return -1;
    }
    const words = this.#words;
    let start = at;
    if (skip !== 0) {
      words[HEADER_WORDS + (at >> 2)] = TO_THE_START;
      start = 0;
    }
    words[HEADER_WORDS + (start >> 2)] = length;
    this.#position = (position + skip + size) | 0;
    return start + RECORD_BYTES;
  }

  /** Sends all that was reserved, in its order: the consumer sees it at once, or nothing of it. */
  commit(): void {
    const position = this.#position;
    try {
      Atomics.store(this.#words, TAIL, position);
    } catch {
      throw gone();
    }
    this.#published = position;
    wakeSleepers(this.#words, CONSUMER_SLEEPS);
  }

  /** Forgets all that was reserved and not committed. */
  abandon(): void {
    this.#position = this.#published;
  }

  /**
   * {@link RingProducer.reserve} as a view, good until {@link RingProducer.commit}.
   *
   * @returns undefined if there is no room
   */
  reserveView(length: number): Uint8Array | undefined {
    const offset = this.reserve(length);
    return offset === -1 ? undefined : this.bytes.subarray(offset, offset + length);
  }

  /** Also commits what was reserved before. */
  override trySend(message: Uint8Array): boolean {
    const offset = this.reserve(checkMessage(message, this.maxLength));
    if (offset === -1) {
      return false;
    }
    if (this.#words.length === 0) {
      throw gone();
    }
    this.bytes.set(message, offset);
    this.commit();
    return true;
  }

  override close(): void {
    super.close();
    // From here each call comes to refuse(), or finds no memory.
    this.#most = -1;
    this.#words = new Int32Array(0);
  }

  /** Bytes that the consumer has left, which is asked. */
  #room(operation: string): number {
    this.#refresh(operation);
    return (this.#limit - this.#position) | 0;
  }

  #refresh(operation: string): void {
    if (this.#words.length === 0) {
      throw gone();
    }
    const head = Atomics.load(this.#words, HEAD);
    const used = (this.#published - head) | 0;
    if (used < 0 || used > this.#mask + 1 || ((head | this.#published) & 7) !== 0) {
      throw damaged(operation, `its indices are ${head >>> 0} and ${this.#published >>> 0}`);
    }
    this.#limit = (head + this.#mask + 1) | 0;
  }

  #refuse(length: unknown): never {
    if (this.#attachment.closed) {
      throw gone();
    }
    checkInteger('length', length, 0, this.#most);
    throw gone();
  }
}
