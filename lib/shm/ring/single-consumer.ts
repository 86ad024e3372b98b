/**
 * The consumer of a ring of one producer: reads the records that `producer.ts` describes.
 *
 * @module
 */
import { Attachment, CONSUMER, type PeerState } from './attachment.js';
import { RingConsumer } from './consumer.js';
import {
  damaged,
  gone,
  HEAD,
  HEADER_WORDS,
  type Layout,
  RECORD_BYTES,
  SENDERS_SLEEP,
  TAIL,
} from './layout.js';
import { longestMessage, PRODUCER, recordBytes, TO_THE_START } from './producer.js';
import { wakeSleepers } from './wait.js';

/** @internal */
export class SingleConsumer extends RingConsumer {
  #words: Int32Array;
  readonly #mask: number;
  readonly #most: number;
  /** Of the next record. */
  #position: number;
  /** Before this the producer has published, as far as is known. */
  #limit: number;
  /** The last that this side has given back. */
  #released: number;
  readonly #attachment: Attachment;

  constructor(layout: Layout, fd: number | undefined) {
    const attachment = Attachment.sole(layout, CONSUMER, fd, 'Ring.consumer');
    super(layout, attachment);
    this.#attachment = attachment;
    this.#words = layout.words;
    this.#mask = layout.capacity - 1;
    this.#most = longestMessage(layout.capacity);
    this.#position = Atomics.load(layout.words, HEAD);
    this.#released = this.#position;
    this.#limit = this.#position;
    try {
      this.#refresh('Ring.consumer');
    } catch (error) {
      attachment.close();
      throw error;
    }
  }

  override peek(): number {
    const position = this.#position;
    if (position === this.#limit && !this.#refresh('Ring.peek')) {
      return -1;
    }
    const mask = this.#mask;
    const at = position & mask;
    const length = this.#words[HEADER_WORDS + (at >> 2)] as number;
    // Of one local: the word may change under our hands. Also false where there is no memory any more.
    if (length >= 0 && length <= this.#most) {
      const size = (length + (RECORD_BYTES + 7)) & ~7;
      if (size <= ((this.#limit - position) | 0) && at + size <= mask + 1) {
        this.length = length;
        this.#position = (position + size) | 0;
        return at + RECORD_BYTES;
      }
    }
    return this.#peekAtStart(length);
  }

  override release(): void {
    const position = this.#position;
    try {
      Atomics.store(this.#words, HEAD, position);
    } catch {
      throw gone();
    }
    this.#released = position;
    wakeSleepers(this.#words, SENDERS_SLEEP);
  }

  override rewind(): void {
    this.#position = this.#released;
  }

  override get peer(): PeerState {
    return this.#attachment.peer(PRODUCER);
  }

  override close(): void {
    super.close();
    // From here each call finds no memory.
    this.#words = new Int32Array(0);
    this.#limit = this.#position;
  }

  protected override get awaited(): number {
    return TAIL;
  }

  protected override idle(): 'open' | 'closed' | 'dead' {
    const { peer } = this;
    return peer === 'none' ? 'open' : peer;
  }

  /** Goes to the start, if the word in the place of a length says so and can be right: a record has to follow. */
  #peekAtStart(word: number | undefined): number {
    if (word === undefined) {
      throw gone();
    }
    const rest = this.#mask + 1 - (this.#position & this.#mask);
    const left = ((this.#limit - this.#position) | 0) - rest;
    const length = this.#words[HEADER_WORDS] as number;
    if (word !== TO_THE_START || !(length >= 0 && recordBytes(length) <= left && length <= this.#most)) {
      throw damaged('Ring.peek', `a message of ${word === TO_THE_START ? length : word} bytes`);
    }
    this.length = length;
    this.#position = (this.#position + rest + recordBytes(length)) | 0;
    return RECORD_BYTES;
  }

  /** Asks how far the producer is. Returns whether there is a record. */
  #refresh(operation: string): boolean {
    if (this.#words.length === 0) {
      throw gone();
    }
    const tail = Atomics.load(this.#words, TAIL);
    const used = (tail - this.#released) | 0;
    const ahead = (tail - this.#position) | 0;
    if (used < 0 || used > this.#mask + 1 || ahead < 0 || ((tail | this.#released) & 7) !== 0) {
      throw damaged(operation, `its indices are ${this.#released >>> 0} and ${tail >>> 0}`);
    }
    this.#limit = tail;
    return ahead !== 0;
  }
}
