/**
 * The slots of a ring of many: how one word says whose a slot is, so that a dead owner can be found at any time.
 *
 * A slot is its state, the message's length, and the message. The state has the round of the ring (24 bits), the sender
 * that claimed it (6 bits) and what it is (2 bits):
 *
 * | from | to | by |
 * |---|---|---|
 * | free in round n | claimed in n | a sender, by compare-and-exchange: the one word says slot and owner |
 * | claimed in n | ready in n | that sender, once the message is there |
 * | claimed in n | abandoned in n | if that sender is dead: the consumer that comes to the slot, or the sender that next has its number |
 * | ready or abandoned in n | free in n + 1 | the consumer |
 *
 * The tail is where senders begin to look. Whoever finds it behind moves it on, so nobody has to survive for that.
 *
 * @module
 */
import { HEADER_WORDS, type Layout } from './layout.js';

/** What a slot is. */
export const FREE = 0;
export const CLAIMED = 1;
export const READY = 2;
export const ABANDONED = 3;

/** Places and rounds of one ring's slots. Positions count slots from the start, modulo 2^32. */
export class Slots {
  readonly count: number;
  readonly #words: number;
  readonly #shift: number;

  constructor({ capacity, slot }: Layout) {
    this.count = capacity / slot;
    this.#words = slot / 4;
    this.#shift = Math.log2(this.count);
  }

  /** The number of the word with the state of the slot at a position. */
  word(position: number): number {
    return HEADER_WORDS + (position & (this.count - 1)) * this.#words;
  }

  /** The state of a position's slot that is free in the position's round: the round alone. */
  free(position: number): number {
    return (position >>> this.#shift) << 8;
  }
}

/** A state without its round. */
export function kindOf(word: number): number {
  return word & 3;
}

/** The round of a state, as {@link Slots.free} has it. */
export function roundOf(word: number): number {
  return word & ~0xff;
}

/** Who claimed it: a side's number, from 1. */
export function ownerOf(word: number): number {
  return ((word >>> 2) & 0x3f) + 1;
}

export function claimed(round: number, owner: number): number {
  return round | ((owner - 1) << 2) | CLAIMED;
}
