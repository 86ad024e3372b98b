/**
 * The consumer of a ring of many: reads the slots that `slots.ts` describes, and passes over those of dead senders.
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
  MOST_SENDERS,
  RECORD_BYTES,
  SENDERS_SLEEP,
} from './layout.js';
import { ABANDONED, CLAIMED, FREE, kindOf, ownerOf, READY, roundOf, Slots } from './slots.js';
import { wakeSleepers } from './wait.js';

/** Looks at a slot that is not ready, before its owner is asked after: a system call. */
const LOOKS = 64;

/** @internal */
export class SlotConsumer extends RingConsumer {
  readonly #words: Int32Array;
  readonly #slots: Slots;
  readonly #most: number;
  readonly #attachment: Attachment;
  /** Of the next slot. */
  #position: number;
  /** The first that was not given back. */
  #released: number;
  /** Looks in vain at the same claimed slot. */
  #vain = 0;

  constructor(layout: Layout, fd: number | undefined) {
    const attachment = Attachment.sole(layout, CONSUMER, fd, 'Ring.consumer');
    super(layout, attachment);
    this.#attachment = attachment;
    this.#words = layout.words;
    this.#slots = new Slots(layout);
    this.#most = layout.slot - RECORD_BYTES;
    // One that died gave slots back before it said so.
    let head = Atomics.load(layout.words, HEAD);
    for (let step = 0; step < this.#slots.count && this.#isGivenBack(head); step++) {
      head = (head + 1) | 0;
    }
    Atomics.store(layout.words, HEAD, head);
    this.#position = head;
    this.#released = head;
  }

  override peek(): number {
    // More slots than there are cannot be abandoned, however the words change.
    for (let slot = 0; slot < this.#slots.count; slot++) {
      const position = this.#position;
      if (this.#attachment.closed || this.#words.length === 0) {
        throw gone();
      }
      if (((position - this.#released) | 0) === this.#slots.count) {
        return -1;
      }
      const word = this.#slots.word(position);
      const found = Atomics.load(this.#words, word);
      if (roundOf(found) !== this.#slots.free(position)) {
        throw damaged('Ring.peek', `slot ${position >>> 0} has the state 0x${(found >>> 0).toString(16)}`);
      }
      const kind = kindOf(found);
      if (kind === READY) {
        const length = this.#words[word + 1] as number;
        if (!(length >= 0 && length <= this.#most)) {
          throw damaged('Ring.peek', `a message of ${length} bytes`);
        }
        this.length = length;
        this.#vain = 0;
        this.#position = (position + 1) | 0;
        return (word - HEADER_WORDS) * 4 + RECORD_BYTES;
      }
      if (kind === FREE || (kind === CLAIMED && !this.#isLost(word, found))) {
        return -1;
      }
      this.#pass();
    }
    return -1;
  }

  override release(): void {
    if (this.#attachment.closed || this.#words.length === 0) {
      throw gone();
    }
    const { count } = this.#slots;
    for (; this.#released !== this.#position; this.#released = (this.#released + 1) | 0) {
      const next = this.#slots.free((this.#released + count) | 0);
      Atomics.store(this.#words, this.#slots.word(this.#released), next | FREE);
    }
    Atomics.store(this.#words, HEAD, this.#released);
    wakeSleepers(this.#words, SENDERS_SLEEP);
  }

  override rewind(): void {
    this.#position = this.#released;
  }

  override get peer(): PeerState {
    let last: PeerState = 'none';
    for (let side = 1; side <= MOST_SENDERS; side++) {
      const peer = this.#attachment.peer(side);
      if (peer === 'open') {
        return peer;
      }
      last = peer === 'none' ? last : peer;
    }
    return last;
  }

  protected override get awaited(): number {
    return this.#slots.word(this.#position);
  }

  protected override idle(): 'open' {
    this.#vain = LOOKS;
    return 'open';
  }

  /** Goes on by a slot that has no message. Gives it back, unless there are messages before it that were not. */
  #pass(): void {
    const isFirst = this.#position === this.#released;
    this.#vain = 0;
    this.#position = (this.#position + 1) | 0;
    if (isFirst) {
      this.release();
    }
  }

  /** Whether the owner of a claimed slot is dead, and the slot abandoned: not if it got ready meanwhile. */
  #isLost(word: number, found: number): boolean {
    if (++this.#vain < LOOKS) {
      return false;
    }
    this.#vain = 0;
    const owner = ownerOf(found);
    if (this.#attachment.peer(owner) === 'open') {
      return false;
    }
    return Atomics.compareExchange(this.#words, word, found, roundOf(found) | ABANDONED) === found;
  }

  /** Whether a slot is in the round after that of a position. */
  #isGivenBack(position: number): boolean {
    const next = this.#slots.free((position + this.#slots.count) | 0);
    return roundOf(Atomics.load(this.#words, this.#slots.word(position))) === next;
  }
}
