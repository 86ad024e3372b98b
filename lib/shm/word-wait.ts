/**
 * Waiting for what a word of shared memory stands for, a mutex or a count: a try, and a sleep on the word, by turns.
 *
 * @module
 */
import { performance } from 'node:perf_hooks';
import { checkOptions, checkSignal, checkTimeout } from '../check.js';
import { abortError, errno, systemError } from '../errors.js';
import { type BlockOptions, deadlineOf, futex, remaining, type WaitOptions, type Words } from './futex.js';

/** What is waited for. */
export interface Waitable<T> {
  readonly words: Words;
  /** Of the word. */
  readonly index: number;
  /** Takes it, if it can be had now. */
  take(): T | undefined;
  /** After a try in vain: the value of the word to sleep on, and how many milliseconds at most. */
  sleep(): { value: number; most: number };
}

/**
 * Blocks the thread until it is had.
 *
 * @param operation - what errors call it
 * @throws ETIMEDOUT; what `take` and `sleep` throw
 */
export function block<T>(operation: string, waitable: Waitable<T>, options: BlockOptions | undefined): T {
  const { timeout } = checkOptions(options, ['timeout']);
  const deadline = deadlineOf(checkTimeout(timeout));
  const { words, index } = waitable;
  for (;;) {
    const taken = waitable.take();
    if (taken !== undefined) {
      return taken;
    }
    const { value, sleep } = nextSleep(operation, waitable, deadline);
    futex.wait(words, index, value, { timeout: sleep });
  }
}

/**
 * The same, while the event loop is free.
 *
 * @throws as {@link block}; an AbortError (ABORT_ERR); EAGAIN as {@link futex.waitAsync}
 */
export async function wait<T>(
  operation: string,
  waitable: Waitable<T>,
  options: WaitOptions | undefined,
): Promise<T> {
  const { signal, timeout } = checkOptions(options, ['timeout', 'signal']);
  const deadline = deadlineOf(checkTimeout(timeout));
  if (signal !== undefined && checkSignal(signal).aborted) {
    throw abortError(signal);
  }
  const abort = signal === undefined ? {} : { signal };
  const { words, index } = waitable;
  for (;;) {
    const taken = waitable.take();
    if (taken !== undefined) {
      return taken;
    }
    const { value, sleep } = nextSleep(operation, waitable, deadline, signal);
    await futex.waitAsync(words, index, value, { timeout: sleep, ...abort });
  }
}

/** The value to sleep on, and for how many milliseconds. @throws ETIMEDOUT; an AbortError */
function nextSleep(
  operation: string,
  waitable: Waitable<unknown>,
  deadline: number,
  signal?: AbortSignal,
): { value: number; sleep: number } {
  // Also for one that gives up: if it was woken, the others that sleep were not, and the next wake is theirs.
  const { value, most } = waitable.sleep();
  // Not before the try: a wake that came with the abort is not lost.
  if (signal?.aborted === true) {
    throw abortError(signal);
  }
  if (performance.now() >= deadline) {
    throw systemError(errno.ETIMEDOUT, operation);
  }
  return { value, sleep: Math.ceil(remaining(deadline, most)) };
}
