/**
 * Waiting for the other side of a ring to change a word. By looking, at first often, then seldom.
 *
 * @module
 */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { checkOptions, checkSignal, checkTimeout } from '../check.js';
import { abortError, errno, systemError } from '../errors.js';

/** How long to wait where that blocks the thread. */
export interface RingBlockOptions {
  /** Milliseconds, at most 2^31 - 1, after which it throws ETIMEDOUT. @defaultValue no limit */
  timeout?: number;
}

/** How long to wait for the other side. */
export interface RingWaitOptions extends RingBlockOptions {
  /** Ends the wait with an AbortError. */
  signal?: AbortSignal;
}

/** Looks that follow each other at once, before the thread sleeps or the event loop has its turn: some 20 µs. */
const SPINS = 1000;

/** Turns of the event loop, before a timer. */
const TURNS = 20;

/** Milliseconds of a sleep of the thread: doubled each time. */
const FIRST_SLEEP = 0.05;
const LONGEST_SLEEP = 5;

/** Milliseconds of the longest timer: so much later an abort may be noticed. */
const LONGEST_TIMER = 8;

/** Nobody changes it: waiting for it is sleeping. */
const bed = new Int32Array(new SharedArrayBuffer(4));

/** One wait, from its first look to its end. */
export class RingWait {
  readonly #operation: string;
  readonly #signal: AbortSignal | undefined;
  readonly #end: number;
  #rounds = 0;

  constructor(operation: string, options: RingWaitOptions | undefined, known: ('timeout' | 'signal')[]) {
    const { timeout, signal } = checkOptions(options, known);
    this.#operation = operation;
    this.#signal = signal === undefined ? undefined : checkSignal(signal);
    this.#end = performance.now() + (checkTimeout(timeout) ?? Infinity);
    this.#check();
  }

  /**
   * Returns once `words[index]` may be other than `seen`; blocks the thread until then, and longer by at most 5 ms.
   *
   * @returns whether it took so long that the other side may be gone
   */
  block(words: Int32Array, index: number, seen: number): boolean {
    if (changes(words, index, seen)) {
      return false;
    }
    const left = this.#check();
    Atomics.wait(bed, 0, 0, Math.min(FIRST_SLEEP * 2 ** Math.min(this.#rounds++, 20), LONGEST_SLEEP, left));
    return true;
  }

  /** The same for the event loop. */
  async pause(words: Int32Array, index: number, seen: number): Promise<void> {
    const left = this.#check();
    const round = this.#rounds++;
    if (round < TURNS) {
      await nextTurn();
    } else if (Atomics.load(words, index) === seen) {
      await sleep(Math.min(1 + (round - TURNS) / 8, LONGEST_TIMER, left));
    }
    this.#check();
  }

  /** Milliseconds that are left. */
  #check(): number {
    if (this.#signal?.aborted === true) {
      throw abortError(this.#signal);
    }
    const left = this.#end - performance.now();
    if (left <= 0 && this.#rounds > 0) {
      throw systemError(errno.ETIMEDOUT, this.#operation);
    }
    return Math.max(left, 0);
  }
}

function changes(words: Int32Array, index: number, seen: number): boolean {
  for (let spin = 0; spin < SPINS; spin++) {
    if (Atomics.load(words, index) !== seen) {
      return true;
    }
  }
  return false;
}
