/**
 * Waiting for the other side of a ring: looking at first, then sleeping on a word that says so.
 *
 * Who is about to sleep makes the word odd, looks once more, and sleeps while it has that value. Who has news makes it the
 * next even number and wakes, which costs a system call only where somebody sleeps: who has not come to sleep yet finds
 * another value, also where others that sleep have made it odd again. Whoever dies between the two leaves the sleeper to its
 * own clock.
 *
 * @module
 */
import { setTimeout as later, setImmediate as nextTurn } from 'node:timers/promises';
import { checkOptions, checkSignal, checkTimeout } from '../../check.js';
import { abortError, errno, isSystemError, systemError } from '../../errors.js';
import { deadlineOf, futex, remaining, type WaitOptions } from '../futex.js';

/** Looks that follow each other at once, before the thread sleeps: some 20 µs. */
const SPINS = 1000;

/** Turns of the event loop, before it is left to others. */
const TURNS = 20;

/** Milliseconds of the longest sleep: so much later a death is noticed. */
const LONGEST_SLEEP = 100;

/** Milliseconds between two looks where no more sleepers are allowed. */
const PAUSE = 5;

/** One wait, from its first look to its end. */
export class RingWait {
  readonly #operation: string;
  readonly #signal: AbortSignal | undefined;
  /** By `performance.now()`. */
  readonly #deadline: number;
  #rounds = 0;

  constructor(operation: string, options: WaitOptions | undefined, known: ('timeout' | 'signal')[]) {
    const { timeout, signal } = checkOptions(options, known);
    this.#operation = operation;
    this.#signal = signal === undefined ? undefined : checkSignal(signal);
    this.#deadline = deadlineOf(checkTimeout(timeout));
    this.#check();
  }

  /**
   * Returns once `words[index]` may be other than `seen`; blocks the thread until then, and at most 100 ms.
   *
   * @param sleeps - the number of the word that says so
   * @returns whether it took so long that the other side may be gone
   */
  block(words: Int32Array, index: number, seen: number, sleeps: number): boolean {
    const timeout = this.#check();
    this.#rounds++;
    if (changes(words, index, seen)) {
      return false;
    }
    const asleep = announce(words, sleeps);
    if (Atomics.load(words, index) !== seen) {
      return false;
    }
    futex.wait(words, sleeps, asleep, { timeout });
    return true;
  }

  /** The same for the event loop. */
  async pause(words: Int32Array, index: number, seen: number, sleeps: number): Promise<void> {
    const timeout = this.#check();
    // Others have their turn in any case, however fast the words change.
    if (this.#rounds++ < TURNS || !(await this.#sleep(words, index, seen, sleeps, timeout))) {
      await nextTurn();
    }
    this.#check();
  }

  /** Returns whether it did. */
  async #sleep(
    words: Int32Array,
    index: number,
    seen: number,
    sleeps: number,
    timeout: number,
  ): Promise<boolean> {
    const asleep = announce(words, sleeps);
    if (Atomics.load(words, index) !== seen) {
      return false;
    }
    try {
      const signal = this.#signal === undefined ? {} : { signal: this.#signal };
      return (await futex.waitAsync(words, sleeps, asleep, { timeout, ...signal })) !== 'not-equal';
    } catch (error) {
      if (!isSystemError(error, 'EAGAIN')) {
        throw error;
      }
      await later(Math.min(timeout, PAUSE));
      return true;
    }
  }

  /** Returns once another wait, which comes first, has ended. */
  after(before: Promise<void>): Promise<void> {
    this.#rounds++;
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const finish = (settle: () => void): void => {
        clearTimeout(timer);
        this.#signal?.removeEventListener('abort', look);
        settle();
      };
      const look = (): void => {
        try {
          this.#check();
        } catch (error) {
          finish(() => reject(error));
          return;
        }
        // Timers can be early.
        if (this.#deadline !== Number.POSITIVE_INFINITY) {
          timer = setTimeout(look, this.#deadline - performance.now());
        }
      };
      this.#signal?.addEventListener('abort', look);
      before.then(() => finish(resolve));
      look();
    });
  }

  /** Milliseconds to sleep. */
  #check(): number {
    if (this.#signal?.aborted === true) {
      throw abortError(this.#signal);
    }
    const left = remaining(this.#deadline, LONGEST_SLEEP);
    if (left === 0 && this.#rounds > 0) {
      throw systemError(errno.ETIMEDOUT, this.#operation);
    }
    return Math.ceil(left);
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

/** Says that this thread is about to sleep. Returns the value to sleep on. */
function announce(words: Int32Array, sleeps: number): number {
  return Atomics.or(words, sleeps, 1) | 1;
}

/** Wakes those who said that they sleep, after something has changed. */
export function wakeSleepers(words: Int32Array, sleeps: number): void {
  const word = Atomics.load(words, sleeps);
  if ((word & 1) !== 0) {
    Atomics.compareExchange(words, sleeps, word, (word + 1) | 0);
    futex.wake(words, sleeps);
  }
}
