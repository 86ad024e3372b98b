/**
 * An event of several processes, which counts how often it happened.
 *
 * Nobody holds it, so nobody's death leaves it held: the count in the word is all there is. A semaphore would lose with each
 * process that died what it had taken.
 *
 * @module
 */
import { inspect } from 'node:util';
import type { Words } from '../binding.js';
import { checkInteger } from '../check.js';
import { type BlockOptions, checkIndex, checkWords, futex, type WaitOptions } from './futex.js';
import { block, type Waitable, wait } from './word-wait.js';

const INT32_MAX = 2 ** 31 - 1;

/** Milliseconds between two looks at the count: who signals may die before it has woken anybody. */
const LOOK = 100;

/**
 * An event over a word of shared memory, for processes and for the threads of one. Each object learns how often it was
 * signalled since the object was made: none is lost between two waits, and those that came together are counted.
 *
 * **When a process dies,** what it has signalled stays signalled. One that is killed between counting and waking is noticed within
 * 100 ms by those who wait. One that dies while it waits takes nothing from the others.
 *
 * The count is of 32 bits: after 2^32 signals without a wait it is the same again.
 *
 * @example
 * const event = new CountingEvent(memory.view(Int32Array), 1);
 * for (;;) handle(await event.waitAsync({ signal }));
 */
export class CountingEvent {
  readonly #words: Words;
  readonly #index: number;
  /** The count up to which a wait of this object has told of it. */
  #seen: number;

  /**
   * @param index - of the word, in elements; any value is a count
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE for the arguments; ERR_INVALID_STATE if the memory was given back
   */
  constructor(words: Words, index: number) {
    this.#words = checkWords(words);
    this.#index = checkIndex(words, index);
    this.#seen = Atomics.load(words, index);
  }

  /** How often it was signalled since the last wait of this object. @throws ERR_INVALID_STATE if the memory was given back */
  get pending(): number {
    return (Atomics.load(checkWords(this.#words), this.#index) - this.#seen) >>> 0;
  }

  /**
   * Counts, and wakes all who wait. Costs a system call.
   *
   * @param count - how often it happened, from 1 to 2^31 - 1
   * @throws ERR_INVALID_STATE if the memory was given back
   */
  signal(count = 1): void {
    checkInteger('count', count, 1, INT32_MAX);
    Atomics.add(checkWords(this.#words), this.#index, count);
    futex.wake(this.#words, this.#index);
  }

  /**
   * Blocks the thread until it is signalled; returns at once if it was since the last wait. In a worker, `terminate()` ends it within
   * 100 ms.
   *
   * @returns how often, at least 1
   * @throws ETIMEDOUT; ERR_INVALID_STATE if the memory was given back
   */
  wait(options?: BlockOptions): number {
    return block('CountingEvent.wait', this.#waitable(), options);
  }

  /**
   * The same as {@link wait}, while the event loop is free. Each signal is told to one of the calls on the same object.
   *
   * @throws as {@link wait}, as a rejection; an AbortError (ABORT_ERR) whose `cause` is the signal's reason; EAGAIN as
   *   {@link futex.waitAsync}
   */
  async waitAsync(options?: WaitOptions): Promise<number> {
    return await wait('CountingEvent.waitAsync', this.#waitable(), options);
  }

  #waitable(): Waitable<number> {
    return {
      words: this.#words,
      index: this.#index,
      take: () => {
        const count = this.pending;
        this.#seen = (this.#seen + count) | 0;
        return count > 0 ? count : undefined;
      },
      sleep: () => ({ value: this.#seen, most: LOOK }),
    };
  }

  /** Shows what it is. Touches no memory. */
  [inspect.custom](): string {
    return `CountingEvent { seen: ${this.#seen >>> 0} }`;
  }
}
