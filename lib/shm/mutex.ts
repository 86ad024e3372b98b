/**
 * A mutex of several processes, which outlives those who hold it.
 *
 * The lock is one of the kernel's, of a byte of a file (an OFD lock). It ends with whoever holds it, even where a worker is
 * terminated between two statements, and no number of a process or thread is involved, which another pid namespace may have
 * again. A robust mutex of the C library has neither: it belongs to a thread, keeps a list through shared memory that
 * whoever writes there can lead astray, and that is left dangling where memory is unmapped. The word says only whether somebody
 * sleeps, and whether the last holder came to its end.
 *
 * @module
 */
import { inspect } from 'node:util';
import type { NativeByteLocks, Words } from '../binding.js';
import { checkDescriptor } from '../check.js';
import { errno, invalidState, systemError } from '../errors.js';
import { openByteLocks } from './byte-locks.js';
import { type BlockOptions, checkIndex, checkWords, futex, type WaitOptions } from './futex.js';
import { block, type Waitable, wait } from './word-wait.js';

/** How a mutex was had: `'owner-died'` if the last holder did not give it back. */
export type Locked = 'locked' | 'owner-died';

// The lowest bits of the word; the others are the mutex's number.
const FREE = 0;
const HELD = 1;
/** Held, and somebody sleeps. */
const WAITED = 2;
const STATE = 3;
const STATE_BITS = 2;

const MOST_NUMBERS = 2 ** 30;

/** The locks lie behind every file's end, and behind those of an arena (native/arena_shared.cc). */
const FIRST_BYTE = 2 ** 43;

/** Milliseconds between two looks whether the holder lives. */
const LOOK = 100;

/** Milliseconds to sleep where the holder is just coming or going. */
const NAP = 1;

/** Those that have their mutex: the kernel's lock of one that was collected would end, as if its holder had died. */
const holders = new Set<Mutex>();

/**
 * A mutex over a word of shared memory, for processes and for the threads of one.
 *
 * **When a holder dies,** is killed, ends its worker, or closes the mutex while it holds it, the next to lock has the mutex within
 * 100 ms, and is told `'owner-died'`: what the mutex protects may be half done. It repairs that and unlocks, which counts as
 * whole again. One that dies while it waits leaves nothing behind.
 *
 * Locking and unlocking cost a system call each. Who comes first is not always served first. `resize()` of the memory takes
 * the word away: make the mutex anew.
 *
 * @example
 * using mutex = new Mutex(memory.view(Int32Array), 0, memory.fd);
 * if (mutex.lock() === 'owner-died') repair();
 * try { work(); } finally { mutex.unlock(); }
 */
export class Mutex {
  readonly #words: Words;
  readonly #index: number;
  readonly #locks: NativeByteLocks;
  /** The mutex's number, in the bits that the word has it in. */
  readonly #number: number;
  /** That of the file whose lock is the mutex. */
  readonly #byte: number;
  #held = false;
  #closed = false;

  /**
   * @param index - of the word, in elements; a word that is 0 becomes a mutex here
   * @param fd - of the file whose memory it is, or of any other one, the same in all processes, that may be opened for reading
   *   and writing. It is opened anew, and may be closed afterwards.
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE for the arguments; EBADMSG if the word is no mutex; EACCES, EBADF of the
   *   file; EMFILE
   */
  constructor(words: Words, index: number, fd: number) {
    this.#words = checkWords(words);
    this.#index = checkIndex(words, index);
    checkDescriptor(fd);
    // First: a word stays as it was where that fails.
    this.#locks = openByteLocks(fd);
    // Random, so that the mutexes of a file have different ones, wherever in it they are mapped.
    const random = (1 + Math.floor(Math.random() * (MOST_NUMBERS - 1))) << STATE_BITS;
    const before = Atomics.compareExchange(words, index, 0, random);
    const word = before === 0 ? random : before;
    this.#number = (word & ~STATE) >>> 0;
    this.#byte = FIRST_BYTE + this.#number / (STATE + 1);
    try {
      this.#state(word);
    } catch (error) {
      this.#locks.close();
      throw error;
    }
  }

  /** Whether this object has the mutex. */
  get held(): boolean {
    return this.#held;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Takes the mutex if nobody has it.
   *
   * @returns undefined if somebody has it
   * @throws ERR_INVALID_STATE after {@link close}, or if the memory was given back; EBADMSG if the word was overwritten
   */
  tryLock(): Locked | undefined {
    this.#check();
    return this.#take(HELD);
  }

  /**
   * Takes the mutex, and blocks the thread until it has it: nothing else runs meanwhile. In a worker, `terminate()` ends it
   * within 100 ms.
   *
   * @throws as {@link tryLock}; ETIMEDOUT; ERR_INVALID_STATE, too, if this object has it already
   */
  lock(options?: BlockOptions): Locked {
    if (this.#held) {
      throw invalidState('this object has the mutex already');
    }
    return block('Mutex.lock', this.#waitable(), options);
  }

  /**
   * Takes the mutex when nobody has it any more, while the event loop is free. Calls on the same object wait for each
   * other, too.
   *
   * @throws as {@link tryLock}, as a rejection; ETIMEDOUT; an AbortError (ABORT_ERR) whose `cause` is the signal's reason; EAGAIN
   *   as {@link futex.waitAsync}
   */
  async lockAsync(options?: WaitOptions): Promise<Locked> {
    return await wait('Mutex.lockAsync', this.#waitable(), options);
  }

  /**
   * Gives the mutex back, and wakes one who waits.
   *
   * @throws ERR_INVALID_STATE if this object does not have it
   */
  unlock(): void {
    this.#check();
    if (!this.#held) {
      throw invalidState('this object does not have the mutex');
    }
    this.#held = false;
    holders.delete(this);
    const before = Atomics.exchange(this.#words, this.#index, this.#number | FREE);
    this.#locks.unlock(this.#byte);
    if ((before & STATE) === WAITED) {
      futex.wake(this.#words, this.#index, 1);
    }
  }

  /** Ends this object's part. One that has the mutex dies with it: the next is told. A second call does nothing. */
  close(): void {
    this.#closed = true;
    this.#held = false;
    holders.delete(this);
    this.#locks.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #check(): void {
    if (this.#closed) {
      throw invalidState('the mutex is closed');
    }
    checkWords(this.#words);
  }

  /** The state that a value of the word has. */
  #state(word: number): number {
    const state = word & STATE;
    if ((word & ~STATE) >>> 0 !== this.#number || this.#number === 0 || state === STATE) {
      throw systemError(errno.EBADMSG, 'Mutex', { hint: 'the word is no mutex, or was overwritten' });
    }
    return state;
  }

  /** @param next - WAITED where others may sleep, too */
  #take(next: number): Locked | undefined {
    this.#state(Atomics.load(this.#words, this.#index));
    // The kernel's lock does not keep this object from itself.
    if (this.#held || !this.#locks.tryLock(this.#byte)) {
      return undefined;
    }
    // From here on others write to it only that they sleep.
    const before = Atomics.exchange(this.#words, this.#index, this.#number | next);
    if ((before & STATE) === WAITED) {
      Atomics.store(this.#words, this.#index, this.#number | WAITED);
    }
    this.#held = true;
    holders.add(this);
    return (before & STATE) === FREE ? 'locked' : 'owner-died';
  }

  #waitable(): Waitable<Locked> {
    let next = HELD;
    return {
      words: this.#words,
      index: this.#index,
      take: () => {
        this.#check();
        const locked = this.#take(next);
        next = WAITED;
        return locked;
      },
      sleep: () => this.#announce(),
    };
  }

  /** Writes that somebody sleeps. @returns the value to sleep on, and how long at most */
  #announce(): { value: number; most: number } {
    const held = this.#number | HELD;
    const waited = this.#number | WAITED;
    const before = Atomics.compareExchange(this.#words, this.#index, held, waited);
    return this.#state(before) === FREE ? { value: before, most: NAP } : { value: waited, most: LOOK };
  }

  /** Shows what it is. Touches no memory. */
  [inspect.custom](): string {
    return `Mutex { held: ${this.#held}, closed: ${this.#closed} }`;
  }
}
