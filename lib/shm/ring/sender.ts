/**
 * One of many who send into a ring: claims a slot, copies its message there, says that it is ready.
 *
 * A sender that dies between the first and the last of these leaves a slot that nobody can use. The consumer that comes to
 * it finds the owner dead and goes on; so does the next sender that gets the dead one's number. Until then messages behind
 * it wait.
 *
 * @module
 */
import { Attachment } from './attachment.js';
import { CONSUMER_SLEEPS, damaged, gone, HEADER_WORDS, type Layout, RECORD_BYTES, TAIL } from './layout.js';
import { ABANDONED, CLAIMED, claimed, FREE, kindOf, ownerOf, READY, roundOf, Slots } from './slots.js';
import { wakeSleepers } from './wait.js';
import { checkMessage, RingWriter } from './writer.js';

/** Most looks of one call, each of which somebody else's progress made useless. */
const MOST_LOOKS = 10_000;

/** One of up to 64 that send into a ring of many. Made by `Ring.sender`. */
export class RingSender extends RingWriter {
  readonly #layout: Layout;
  readonly #slots: Slots;
  readonly #attachment: Attachment;
  /** That of the slot claimed last. */
  #round = 0;

  /** @internal */
  constructor(layout: Layout, fd: number | undefined) {
    const attachment = Attachment.sender(layout, fd, 'Ring.sender');
    super(layout, attachment, layout.slot - RECORD_BYTES);
    this.#layout = layout;
    this.#slots = new Slots(layout);
    this.#attachment = attachment;
    this.#abandonOld();
  }

  override trySend(message: Uint8Array): boolean {
    const length = checkMessage(message, this.maxLength);
    const { words, bytes } = this.#layout;
    if (this.#attachment.closed || words.length === 0) {
      throw gone();
    }
    const word = this.#claim(words);
    if (word === -1) {
      return false;
    }
    words[word + 1] = length;
    bytes.set(message, (word - HEADER_WORDS) * 4 + RECORD_BYTES);
    Atomics.store(words, word, this.#round | READY);
    wakeSleepers(words, CONSUMER_SLEEPS);
    return true;
  }

  /** Claims the next slot. Returns the number of its word; -1 if there is none, or too many others want it. */
  #claim(words: Int32Array): number {
    const slots = this.#slots;
    for (let look = 0; look < MOST_LOOKS; look++) {
      const position = Atomics.load(words, TAIL);
      const word = slots.word(position);
      const round = slots.free(position);
      const before = Atomics.load(words, word);
      const found = roundOf(before);
      if (before === (round | FREE)) {
        if (Atomics.compareExchange(words, word, before, claimed(round, this.#attachment.side)) === before) {
          Atomics.compareExchange(words, TAIL, position, (position + 1) | 0);
          this.#round = round;
          return word;
        }
      } else if (found === round || found === slots.free((position + slots.count) | 0)) {
        // Claimed by another, who may be dead, and perhaps been through the consumer already.
        Atomics.compareExchange(words, TAIL, position, (position + 1) | 0);
      } else if (Atomics.load(words, TAIL) === position) {
        if (found === slots.free((position - slots.count) | 0) && kindOf(before) !== FREE) {
          return -1;
        }
        throw damaged(
          'Ring.trySend',
          `slot ${position >>> 0} has the state 0x${(before >>> 0).toString(16)}`,
        );
      }
    }
    return -1;
  }

  /** What a dead sender of the same number claimed. */
  #abandonOld(): void {
    const { words, slot } = this.#layout;
    for (let word = HEADER_WORDS; word < words.length; word += slot / 4) {
      const before = Atomics.load(words, word);
      if (kindOf(before) === CLAIMED && ownerOf(before) === this.#attachment.side) {
        Atomics.compareExchange(words, word, before, roundOf(before) | ABANDONED);
      }
    }
    wakeSleepers(words, CONSUMER_SLEEPS);
  }
}
