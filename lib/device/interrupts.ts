/**
 * The interrupts of one open device: who waits for which, what each was told last, and when the descriptor is watched.
 *
 * The kernel counts; nothing is queued here either, so a slow program sees how far a count moved and none is lost.
 *
 * @module
 */
import type { NativeBinding, NativePoller } from '../binding.js';
import {
  checkInteger,
  checkOptionalInteger,
  checkOptions,
  checkSignal,
  checkString,
  checkTimeout,
} from '../check.js';
import { abortError, errno, notSupported, type SystemError, systemError } from '../errors.js';
import * as uapi from './uapi.js';

/** One or more interrupts of a vector. */
export interface InterruptEvent {
  /** Interrupts of the vector since the device was opened. */
  readonly count: bigint;
  /** How many came since the last event, beside this one. */
  readonly missed: bigint;
  readonly vector: number;
}

/** Which interrupts to iterate over. */
export interface InterruptOptions {
  /** A number, or an entry of the device tree's `interrupt-names`. @defaultValue 0 */
  vector?: number | string;
  /** Ends the wait with an AbortError. */
  signal?: AbortSignal;
  /**
   * Microseconds, at most 1000, for which a wait that finds no interrupt looks for one again and again before it leaves the
   * matter to the event loop. For interrupts that come soon after what causes them: the time that it takes to put a processor
   * to sleep and to wake it is saved. It is paid for with a processor that computes meanwhile, and nothing else happens in this
   * thread: no timer, no signal, no other event. Never longer than `timeout`.
   *
   * @defaultValue 0: it sleeps at once
   */
  spin?: number;
}

/** Which interrupt to wait for, and how long. */
export interface WaitOptions extends InterruptOptions {
  /** Milliseconds, at most 2^31 - 1, after which the wait rejects with ETIMEDOUT. @defaultValue no limit */
  timeout?: number;
}

/** Microseconds. */
const LONGEST_SPIN = 1000;

/** Milliseconds for which waits may end at once, one after the other, before the event loop has its turn. */
const LONGEST_STREAK = 1;

interface Vector {
  readonly index: number;
  readonly name: string;
  readonly level: boolean;
  /** The highest count that anybody was told. */
  delivered: bigint;
  /** Its line is masked since it fired, and somebody was told of it. */
  masked: boolean;
}

/** One wait. It settles once: with an event, with an error, or with nothing when no more can come. */
class Waiter {
  readonly vector: Vector;
  /** The count that it knows already. */
  readonly after: bigint;
  readonly promise: Promise<InterruptEvent | undefined>;
  // Assigned by the executor of the promise, which runs at once.
  #resolve!: (event: InterruptEvent | undefined) => void;
  #reject!: (error: unknown) => void;
  readonly #onSettled: (waiter: Waiter) => void;
  readonly #signal: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(vector: Vector, after: bigint, options: WaitOptions, onSettled: (waiter: Waiter) => void) {
    this.vector = vector;
    this.after = after;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#onSettled = onSettled;
    this.#signal = options.signal;
    this.#signal?.addEventListener('abort', this.#onAbort);
    if (options.timeout !== undefined) {
      // The poller is what keeps the event loop alive: a timer must not, where its device is unreferenced.
      const { timeout } = options;
      this.#timer = setTimeout(() => this.fail(timedOut(timeout)), timeout).unref();
    }
  }

  resolve(event: InterruptEvent | undefined): void {
    this.#end();
    this.#resolve(event);
  }

  fail(error: unknown): void {
    this.#end();
    this.#reject(error);
  }

  readonly #onAbort = (): void => {
    if (this.#signal !== undefined) {
      this.fail(abortError(this.#signal));
    }
  };

  #end(): void {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#onSettled(this);
  }
}

function timedOut(timeout: number): SystemError {
  return systemError(errno.ETIMEDOUT, 'waitForInterrupt', { hint: `no interrupt within ${timeout} ms` });
}

export class Interrupts {
  readonly #native: NativeBinding;
  readonly #fd: number;
  readonly #counts: BigUint64Array;
  readonly #vectors: (Vector | undefined)[] = [];
  readonly #waiters = new Set<Waiter>();
  #poller: NativePoller | undefined;
  #referenced = true;
  #closed = false;
  /** When, since the event loop turned last, a wait first ended at once; undefined if none did. */
  #streakBegin: number | undefined;

  /** @param vectors - how many the device has; with 0 every wait is EOPNOTSUPP */
  constructor(native: NativeBinding, fd: number, vectors: number) {
    this.#native = native;
    this.#fd = fd;
    this.#counts = new BigUint64Array(vectors);
  }

  /** The next event of a vector that nobody was told of yet. */
  async wait(options?: WaitOptions): Promise<InterruptEvent> {
    const known = checkWait(checkOptions(options, ['signal', 'spin', 'timeout', 'vector']));
    const vector = this.#vector(known.vector);
    const event = await this.#after(vector, vector.delivered, known).promise;
    if (event === undefined) {
      throw systemError(errno.ECANCELED, 'waitForInterrupt', { hint: 'the device was closed' });
    }
    return event;
  }

  /** All events of a vector from now on. */
  iterate(options?: InterruptOptions): AsyncIterableIterator<InterruptEvent> {
    const known = checkWait(checkOptions(options, ['signal', 'spin', 'vector']));
    const vector = this.#vector(known.vector);
    return new InterruptIterator(vector.delivered, (after) => this.#after(vector, after, known));
  }

  ref(): void {
    this.#referenced = true;
    this.#poller?.ref();
  }

  unref(): void {
    this.#referenced = false;
    this.#poller?.unref();
  }

  /** Ends all waits. */
  close(): void {
    this.#closed = true;
    this.#poller?.close();
    this.#poller = undefined;
    for (const waiter of [...this.#waiters]) {
      waiter.resolve(undefined);
    }
  }

  /** Waits until the vector's count is beyond `after`. */
  #after(vector: Vector, after: bigint, options: WaitOptions): Waiter {
    const waiter = new Waiter(vector, after, options, this.#forget);
    if (options.signal?.aborted === true) {
      waiter.fail(abortError(options.signal));
      return waiter;
    }
    if (this.#closed) {
      waiter.resolve(undefined);
      return waiter;
    }
    this.#waiters.add(waiter);
    if (this.#streakBegin !== undefined && performance.now() - this.#streakBegin > LONGEST_STREAK) {
      setImmediate(() => this.#begin(waiter, options));
    } else {
      this.#begin(waiter, options);
    }
    return waiter;
  }

  /** Settles the waiter with what has come by now, or has the descriptor watched. */
  #begin(waiter: Waiter, { spin = 0, timeout = Number.POSITIVE_INFINITY }: WaitOptions): void {
    if (!this.#waiters.has(waiter)) {
      return;
    }
    try {
      this.#read();
      if (this.#offer(waiter)) {
        this.#countStreak();
        return;
      }
      this.#unmask(waiter.vector);
      if (this.#spin(waiter, Math.min(spin, timeout * 1000))) {
        this.#countStreak();
      } else {
        this.#watch();
      }
    } catch (error) {
      waiter.fail(error);
    }
  }

  /** Looks for so many microseconds for what settles the waiter; false if nothing did. */
  #spin(waiter: Waiter, microseconds: number): boolean {
    const end = performance.now() + microseconds / 1000;
    // More than once where another vector counts.
    for (let left = microseconds; left > 0; left = Math.floor((end - performance.now()) * 1000)) {
      this.#read(left);
      if (this.#offer(waiter)) {
        return true;
      }
    }
    return false;
  }

  /** Sees to it that interrupts which are always there already do not keep the event loop from all else. */
  #countStreak(): void {
    if (this.#streakBegin === undefined) {
      this.#streakBegin = performance.now();
      setImmediate(() => {
        this.#streakBegin = undefined;
      });
    }
  }

  readonly #forget = (waiter: Waiter): void => {
    if (this.#waiters.delete(waiter) && this.#waiters.size === 0) {
      this.#poller?.stop();
    }
  };

  /** Fetches the counts. What they settle is settled here, for the kernel will not report them again. */
  #read(spin = 0): void {
    if (this.#native.deviceReadCounts(this.#fd, this.#counts, spin)) {
      for (const waiter of [...this.#waiters]) {
        this.#offer(waiter);
      }
    }
  }

  /** Settles a waiter whose vector has counted further; false if it must wait. A settled one is not told again. */
  #offer(waiter: Waiter): boolean {
    if (!this.#waiters.has(waiter)) {
      return true;
    }
    const { vector, after } = waiter;
    const count = this.#counts[vector.index] ?? 0n;
    if (count <= after) {
      return false;
    }
    if (count > vector.delivered) {
      vector.delivered = count;
      vector.masked = vector.level;
    }
    waiter.resolve({ count, missed: count - after - 1n, vector: vector.index });
    return true;
  }

  /** A level-triggered line was masked when it fired; whoever was told has quieted the device by now. */
  #unmask(vector: Vector): void {
    if (vector.masked) {
      this.#native.deviceInterrupt(this.#fd, vector.index, uapi.IOSPACE_INTERRUPT_ENABLE, 0);
      vector.masked = false;
    }
  }

  #watch(): void {
    if (this.#poller === undefined) {
      this.#poller = new this.#native.Poller(this.#fd, () => this.#ready());
      if (!this.#referenced) {
        this.#poller.unref();
      }
    }
    this.#poller.start();
  }

  #ready(): void {
    try {
      this.#read();
    } catch (error) {
      // ENODEV: the device is gone.
      for (const waiter of [...this.#waiters]) {
        waiter.fail(error);
      }
    }
  }

  #vector(which: number | string = 0): Vector {
    if (this.#counts.length === 0) {
      throw notSupported('waitForInterrupt', 'this device has no interrupt');
    }
    if (typeof which === 'number') {
      return this.#load(checkInteger('vector', which, 0, 0xffff_ffff));
    }
    const name = checkString('vector', which);
    const vectors = Array.from(this.#counts, (_, index) => this.#load(index));
    const found = vectors.find((vector) => vector.name === name);
    if (found === undefined) {
      throw systemError(errno.ENOENT, 'waitForInterrupt', {
        hint: `the device has no interrupt named '${name}'`,
      });
    }
    return found;
  }

  #load(index: number): Vector {
    if (index >= this.#counts.length) {
      const hint = `no interrupt vector ${index}; the device has ${this.#counts.length}`;
      throw systemError(errno.ENOENT, 'waitForInterrupt', { hint });
    }
    let vector = this.#vectors[index];
    if (vector === undefined) {
      const { flags, name } = this.#native.deviceInterrupt(this.#fd, index, 0, 0);
      vector = {
        index,
        name,
        level: (flags & uapi.IOSPACE_INTERRUPT_LEVEL) !== 0,
        delivered: 0n,
        masked: false,
      };
      this.#vectors[index] = vector;
    }
    return vector;
  }
}

function checkWait(options: WaitOptions): WaitOptions {
  if (options.signal !== undefined) {
    checkSignal(options.signal);
  }
  checkTimeout(options.timeout);
  checkOptionalInteger('spin', options.spin, 0, LONGEST_SPIN, 0);
  return options;
}

/** Keeps its own count, so that several iterators over one vector each see all of its interrupts. */
class InterruptIterator implements AsyncIterableIterator<InterruptEvent> {
  readonly #wait: (after: bigint) => Waiter;
  #after: bigint;
  #waiter: Waiter | undefined;
  #ended = false;
  /** Settles when the calls of `next()` before have. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(after: bigint, wait: (after: bigint) => Waiter) {
    this.#after = after;
    this.#wait = wait;
  }

  next(): Promise<IteratorResult<InterruptEvent, undefined>> {
    const result = this.#turn.then(() => this.#advance());
    this.#turn = result.catch(() => undefined);
    return result;
  }

  /** Ends it; a `next()` that waits is told so. */
  async return(): Promise<IteratorResult<InterruptEvent, undefined>> {
    this.#ended = true;
    this.#waiter?.resolve(undefined);
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async #advance(): Promise<IteratorResult<InterruptEvent, undefined>> {
    if (this.#ended) {
      return { done: true, value: undefined };
    }
    this.#waiter = this.#wait(this.#after);
    try {
      const event = await this.#waiter.promise;
      if (event !== undefined) {
        this.#after = event.count;
        return { done: false, value: event };
      }
    } catch (error) {
      this.#ended = true;
      throw error;
    }
    this.#ended = true;
    return { done: true, value: undefined };
  }
}
