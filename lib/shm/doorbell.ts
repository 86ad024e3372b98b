/**
 * A doorbell between processes: an eventfd that one rings, and whose rings come to the event loop of another.
 *
 * The kernel counts, and keeps the count until somebody waits. No memory is shared, and no thread waits.
 *
 * @module
 */
import { readlinkSync, readSync, writeSync } from 'node:fs';
import { binding, type NativeBinding, type NativeOwnedFile, type NativePoller } from '../binding.js';
import { checkDescriptor, checkInteger, checkOptions, checkSignal, checkTimeout } from '../check.js';
import { abortError, errno, explained, invalidState, isSystemError, systemError } from '../errors.js';
import type { WaitOptions } from './futex.js';

/** What the link of such a descriptor in /proc says. */
const EVENTFD = 'anon_inode:[eventfd]';

const hints = {
  EAGAIN: 'its counter is full: nobody has waited for 2^64 - 2 rings',
};

/**
 * A doorbell. Who has it rings it by a system call; who waits for it does so in the event loop, beside sockets and timers,
 * and holds no thread. No ring is lost between two waits, and those that came together are counted.
 *
 * Rings are taken: of several processes that wait for the same doorbell each ring wakes one. Within one object all waits are
 * told, and so is each iteration. Where all processes are to know, take a {@link CountingEvent}, or a doorbell for each.
 *
 * The event loop is kept alive only while somebody waits. What a process has rung stays rung when it dies, as long as anybody
 * has the doorbell; rings that a process had read when it died are gone.
 *
 * @example
 * using bell = Doorbell.create();
 * await fds.send('/run/user/1000/bell', [bell.fd]);
 * for await (const count of bell) console.log(`rang ${count} times`);
 */
export class Doorbell {
  /** Closes the descriptor, at the latest with this object or its thread. */
  readonly #owned: NativeOwnedFile;
  readonly #fd: number;
  readonly #poller: NativePoller;
  /** What looks whether it has rung, for each who waits. */
  readonly #waits = new Set<() => void>();
  /** What is read, and what is written. */
  readonly #counter = new BigUint64Array(1);
  /** How many rings this object has taken. */
  #taken = 0n;
  /** It is about to be seen whether anybody waits. */
  #resting = false;
  #closed = false;

  private constructor(native: NativeBinding, open: (owned: NativeOwnedFile) => number) {
    this.#owned = new native.OwnedFile();
    try {
      this.#fd = open(this.#owned);
      // Knows who waits and not this object, so that one that is merely forgotten can be collected.
      const waits = this.#waits;
      // From here it is non-blocking, whoever made it.
      this.#poller = new native.Poller(this.#fd, () => {
        for (const look of waits) {
          look();
        }
      });
    } catch (error) {
      this.#owned.close();
      throw error;
    }
  }

  /**
   * Makes a doorbell that has not rung.
   *
   * @throws EMFILE, ENFILE: it takes two descriptors here
   */
  static create(): Doorbell {
    const native = binding();
    return new Doorbell(native, (owned) => owned.eventfd(0, 0));
  }

  /**
   * Opens the doorbell of another process, or of another thread of this one.
   *
   * It becomes non-blocking for all who have it: a program in C that reads it gets EAGAIN where it has not rung.
   *
   * @param fd - of an eventfd, by `fds.receive` or inherited; it stays the caller's, and may be closed afterwards. (An eventfd
   *   has no file that could be opened, so `/proc/PID/fd` does not lead to it.)
   * @throws EBADF; EINVAL if it is no eventfd; EMFILE, ENFILE: it takes two descriptors here
   * @example
   * const [fd] = await fds.receive('/run/user/1000/bell');
   * using bell = Doorbell.open(fd);
   * closeSync(fd);
   */
  static open(fd: number): Doorbell {
    checkDescriptor(fd);
    const native = binding();
    return new Doorbell(native, (owned) => {
      const own = owned.duplicate(fd);
      if (readlinkSync(`/proc/self/fd/${own}`) !== EVENTFD) {
        throw systemError(errno.EINVAL, 'Doorbell.open', { hint: `the descriptor ${fd} is no eventfd` });
      }
      return own;
    });
  }

  /**
   * The descriptor, to be passed on (`fds.send`). It stays this object's, which must be kept meanwhile.
   *
   * @throws ERR_INVALID_STATE after {@link close}
   */
  get fd(): number {
    this.#check();
    return this.#fd;
  }

  /**
   * Rings: wakes who waits, or who waits next. Never blocks.
   *
   * @param count - how often, from 1 to 2^53 - 1; still one system call
   * @throws EAGAIN if the counter is full, and it has not rung then; ERR_INVALID_STATE after {@link close}
   */
  ring(count = 1): void {
    checkInteger('count', count, 1, Number.MAX_SAFE_INTEGER);
    this.#check();
    this.#counter[0] = BigInt(count);
    explained({ syscall: 'Doorbell.ring' }, hints, () => writeSync(this.#fd, this.#counter));
  }

  /**
   * Waits until it rings, while the event loop is free; settles on the next turn if it has rung since the last wait. Calls
   * that wait at the same time are all told.
   *
   * A ring that comes together with an abort or the end of the time is not lost: the next wait has it.
   *
   * @returns how often it has rung since this object was told last, at least 1; beyond 2^53, which only foreign programs reach, rounded
   * @throws as a rejection: ETIMEDOUT; an AbortError (ABORT_ERR) whose `cause` is the signal's reason; ECANCELED if it is closed
   *   meanwhile; ERR_INVALID_STATE after {@link close}
   */
  async wait(options?: WaitOptions): Promise<number> {
    const { signal, timeout } = checkOptions(options, ['timeout', 'signal']);
    checkTimeout(timeout);
    if (signal !== undefined && checkSignal(signal).aborted) {
      throw abortError(signal);
    }
    this.#check();
    const seen = this.#taken;
    const taken = await this.#beyond(seen, timeout, signal);
    if (taken === undefined) {
      throw systemError(errno.ECANCELED, 'Doorbell.wait', { hint: 'the doorbell was closed' });
    }
    return Number(taken - seen);
  }

  /**
   * The counts, one wait after the other, until it is closed. Each iteration is told of all that rings while it goes on.
   *
   * @throws ERR_INVALID_STATE, as a rejection, if it is closed already
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<number, void, void> {
    this.#check();
    for (let seen = this.#taken; !this.#closed; ) {
      const taken = await this.#beyond(seen);
      if (taken === undefined) {
        return;
      }
      yield Number(taken - seen);
      seen = taken;
    }
  }

  /** Ends it here: those who wait are told so, and iterations end. Others keep it. A second call does nothing. */
  close(): void {
    this.#closed = true;
    for (const look of this.#waits) {
      look();
    }
    this.#poller.close();
    this.#owned.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #check(): void {
    if (this.#closed) {
      throw invalidState('the doorbell is closed');
    }
  }

  /** Waits until more than `seen` were taken. Settles with how many were, or with nothing once it is closed. */
  #beyond(seen: bigint, timeout?: number, signal?: AbortSignal): Promise<bigint | undefined> {
    if (this.#taken > seen) {
      return Promise.resolve(this.#taken);
    }
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const end = (settle: () => void): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        this.#waits.delete(look);
        settle();
        this.#rest();
      };
      const look = (): void => {
        if (this.#closed) {
          end(() => resolve(undefined));
          return;
        }
        try {
          // The first of those who wait takes what there is, for all of them.
          if (this.#taken === seen) {
            this.#take();
          }
        } catch (error) {
          end(() => reject(error));
          return;
        }
        if (this.#taken > seen) {
          end(() => resolve(this.#taken));
        }
      };
      const onAbort = (): void => end(() => reject(abortError(signal as AbortSignal)));
      signal?.addEventListener('abort', onAbort);
      if (timeout !== undefined) {
        timer = setTimeout(() => {
          // Timers come before descriptors: where the event loop was busy it may have rung long ago.
          for (const other of this.#waits) {
            other();
          }
          if (this.#waits.has(look)) {
            const hint = `not rung within ${timeout} ms`;
            end(() => reject(systemError(errno.ETIMEDOUT, 'Doorbell.wait', { hint })));
          }
        }, timeout);
      }
      this.#waits.add(look);
      this.#poller.start();
    });
  }

  /**
   * Stops watching if nobody waits any more: on the next turn, for most who were told wait again at once, and beginning and
   * ending to watch cost a system call each.
   */
  #rest(): void {
    if (this.#waits.size > 0 || this.#resting) {
      return;
    }
    this.#resting = true;
    setImmediate(() => {
      this.#resting = false;
      if (this.#waits.size === 0 && !this.#closed) {
        this.#poller.stop();
      }
    });
  }

  /** Takes what has rung. */
  #take(): void {
    try {
      readSync(this.#fd, this.#counter);
    } catch (error) {
      // Another process was faster.
      if (isSystemError(error, 'EAGAIN')) {
        return;
      }
      throw error;
    }
    this.#taken += this.#counter[0] ?? 0n;
  }
}
