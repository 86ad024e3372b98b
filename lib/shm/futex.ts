/**
 * Futexes: sleeping until another process wakes whoever sleeps on a word of shared memory, without spinning.
 *
 * @module
 */
import { performance } from 'node:perf_hooks';
import { types } from 'node:util';
import { binding, type NativeFutexWaits, type Words } from '../binding.js';
import { checkInteger, checkOptions, checkSignal, checkTimeout } from '../check.js';
import { abortError, explained, invalidState, systemError, wrongType } from '../errors.js';
import { mappingOf } from '../mapping.js';

export type { Words };

/** How a wait ended; the words are those of `Atomics.wait`. */
export type FutexOutcome = 'ok' | 'not-equal' | 'timed-out';

/** How long to block. */
export interface BlockOptions {
  /** Milliseconds, at most 2^31 - 1, of a clock that nobody sets. @defaultValue no limit */
  timeout?: number;
}

/** How long to wait. */
export interface WaitOptions extends BlockOptions {
  /** Ends the wait with an AbortError. */
  signal?: AbortSignal;
}

const INT32_MIN = -(2 ** 31);
const INT32_MAX = 2 ** 31 - 1;
const UINT32_MAX = 2 ** 32 - 1;

const NANOSECONDS = 1e6;

/** The longest time that native code sleeps. */
const LONGEST_SLEEP = 100;

// What native code says; the system's errors are negative.
const NOT_EQUAL = 1;
const TIMED_OUT = 2;
const CANCELLED = 3;

const hints = {
  EAGAIN:
    'this process waits on as many words as it can: 127, or 16 where Linux is older than 5.16 or futex_waitv is forbidden',
};

/** An array of 32-bit integers that has memory. */
export function checkWords(words: unknown): Words {
  if (!types.isInt32Array(words) && !types.isUint32Array(words)) {
    throw wrongType('words', 'an Int32Array or a Uint32Array', words);
  }
  // A SharedArrayBuffer keeps its length.
  if (words.length === 0 || mappingOf(words.buffer)?.released === true) {
    throw invalidState('the array has no words: it is empty, or its memory was given back');
  }
  return words;
}

/** The place of a word in its array. */
export function checkIndex(words: Words, index: unknown): number {
  return checkInteger('index', index, 0, words.length - 1);
}

/** When a wait that begins now is over, by {@link performance.now}. */
export function deadlineOf(timeout: number | undefined): number {
  return timeout === undefined ? Number.POSITIVE_INFINITY : performance.now() + timeout;
}

/** Milliseconds until then, at most `most`; 0 afterwards. */
export function remaining(deadline: number, most: number): number {
  return Math.max(0, Math.min(most, deadline - performance.now()));
}

/**
 * Sleeps while a word has a value, until somebody wakes this thread. Nothing else runs meanwhile in this thread: no timer,
 * no handler of a signal. In a worker, `terminate()` ends the sleep within 100 ms.
 *
 * The word is any in memory that is mapped shared, in this process or another; also one of a SharedArrayBuffer. Unlike
 * `Atomics.wait` it need not be in a SharedArrayBuffer, may be used in every thread, and crosses processes: `Atomics.wait`,
 * `waitAsync` and `notify` know their own process only, and neither wakes the other.
 *
 * `'ok'` may come for no reason: read the word, and wait again. Whoever wakes changes the word first, by `Atomics`.
 *
 * @param index - of the word, in elements
 * @param value - what the word has while it is worth sleeping; signed or unsigned, whatever `words` is
 * @returns `'ok'` if it was woken, `'not-equal'` if the word has another value, `'timed-out'`
 * @throws ERR_INVALID_ARG_TYPE for another array; ERR_OUT_OF_RANGE for an index outside of it; ERR_INVALID_STATE if its
 *   memory was given back; EFAULT if what was mapped there is gone
 * @example
 * while (Atomics.load(words, 0) === 0) futex.wait(words, 0, 0);
 */
function wait(words: Words, index: number, value: number, options?: BlockOptions): FutexOutcome {
  checkIndex(checkWords(words), index);
  checkInteger('value', value, INT32_MIN, UINT32_MAX);
  const { timeout } = checkOptions(options, ['timeout']);
  const deadline = deadlineOf(checkTimeout(timeout));
  const native = binding();
  for (;;) {
    const sleep = Math.ceil(remaining(deadline, LONGEST_SLEEP) * NANOSECONDS);
    const outcome = native.futexWait(words, index, value >>> 0, sleep);
    if (outcome !== TIMED_OUT) {
      return outcome === NOT_EQUAL ? 'not-equal' : 'ok';
    }
    if (performance.now() >= deadline) {
      return 'timed-out';
    }
  }
}

/**
 * Wakes those who sleep on a word, in this process and in others, whether they block or not. Costs a system call, also where
 * nobody sleeps.
 *
 * @param count - most of them, the longest asleep first; absent: all
 * @returns how many were woken
 * @throws as {@link wait}
 * @example
 * Atomics.store(words, 0, 1);
 * futex.wake(words, 0);
 */
function wake(words: Words, index: number, count?: number): number {
  checkIndex(checkWords(words), index);
  const most = count === undefined ? INT32_MAX : checkInteger('count', count, 0, INT32_MAX);
  // The kernel would wake one.
  return most === 0 ? 0 : binding().futexWake(words, index, most);
}

/** The waits of this environment that do not block it. */
class Waits {
  readonly #native: NativeFutexWaits;
  /** Keeps the arrays, and so their memory. */
  readonly #pending = new Map<number, { words: Words; ended: (outcome: number) => void }>();
  #next = 0;

  constructor() {
    this.#native = new (binding().FutexWaits)((id, outcome) => {
      const wait = this.#pending.get(id);
      this.#pending.delete(id);
      wait?.ended(outcome);
    });
  }

  /** @returns what cancels it */
  begin(
    words: Words,
    index: number,
    value: number,
    timeout: number,
    ended: (outcome: number) => void,
  ): () => void {
    // After 2^32 waits the first number comes again, which an old wait may have.
    do {
      this.#next = (this.#next + 1) >>> 0;
    } while (this.#pending.has(this.#next));
    const id = this.#next;
    explained({ syscall: 'futex.waitAsync' }, hints, () =>
      this.#native.add(id, words, index, value, timeout),
    );
    this.#pending.set(id, { words, ended });
    return () => this.#native.cancel(id);
  }
}

/** A module has one instance in each environment, and so has this. */
let waits: Waits | undefined;

/**
 * The same as {@link wait}, while the event loop is free: no thread of libuv's pool waits. One thread of this process sleeps for
 * all waits together, at most 127; where Linux is older than 5.16 each wait has a thread, at most 16. A pending wait keeps the
 * event loop alive, and the array.
 *
 * An abort or timeout that comes together with a wake gives `'ok'`, so that the wake is not lost; before Linux 5.16 an abort
 * takes up to 100 ms. A wake that comes for a worker or process just when that ends is lost: where others sleep on the same
 * word, look at it from time to time (`timeout`), as `Mutex` and `CountingEvent` do.
 *
 * @returns as {@link wait}
 * @throws as {@link wait}, as a rejection; also an AbortError (ABORT_ERR) whose `cause` is the signal's reason; EAGAIN if there
 *   are too many; ERR_INVALID_STATE if the memory is given back meanwhile
 * @example
 * while (Atomics.load(words, 0) === 0) await futex.waitAsync(words, 0, 0, { signal });
 */
async function waitAsync(
  words: Words,
  index: number,
  value: number,
  options?: WaitOptions,
): Promise<FutexOutcome> {
  checkIndex(checkWords(words), index);
  checkInteger('value', value, INT32_MIN, UINT32_MAX);
  const { signal, timeout } = checkOptions(options, ['timeout', 'signal']);
  checkTimeout(timeout);
  if (signal !== undefined && checkSignal(signal).aborted) {
    throw abortError(signal);
  }
  if (Atomics.load(words, index) >>> 0 !== value >>> 0) {
    return 'not-equal';
  }
  if (timeout === 0) {
    return 'timed-out';
  }
  waits ??= new Waits();
  const all = waits;
  const mapping = mappingOf(words.buffer);
  let given = false;
  let cancel = () => {};
  const onRelease = () => {
    given = true;
    cancel();
  };
  const onAbort = () => cancel();
  try {
    const outcome = await new Promise<number>((resolve) => {
      cancel = all.begin(words, index, value >>> 0, timeout ?? -1, resolve);
      signal?.addEventListener('abort', onAbort);
      mapping?.ended.add(onRelease);
    });
    return outcomeOf(outcome, given, signal);
  } finally {
    signal?.removeEventListener('abort', onAbort);
    mapping?.ended.delete(onRelease);
  }
}

function outcomeOf(outcome: number, given: boolean, signal: AbortSignal | undefined): FutexOutcome {
  if (given) {
    throw invalidState('the memory was given back');
  }
  if (outcome < 0) {
    throw systemError(-outcome, 'futex.waitAsync');
  }
  if (outcome === CANCELLED && signal !== undefined) {
    throw abortError(signal);
  }
  return outcome === TIMED_OUT ? 'timed-out' : 'ok';
}

/** Sleeping and waking on any 32-bit word of shared memory, across processes. */
export const futex = { wait, waitAsync, wake } as const;
