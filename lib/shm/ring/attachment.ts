/**
 * One side of a ring, held by this thread: who is there, and whether the others live.
 *
 * With a descriptor of the memory's file each side holds the lock of a byte of its own, which the system ends with its
 * thread or process however that ends. The bytes are those of the file where the ring begins; locks of others there would
 * be mistaken for ours.
 *
 * @module
 */
import type { NativeByteLocks } from '../../binding.js';
import { errno, systemError } from '../../errors.js';
import { mappingOf } from '../../mapping.js';
import { openByteLocks } from '../byte-locks.js';
import {
  CONSUMER_SLEEPS,
  type Layout,
  load,
  MOST_SENDERS,
  processOf,
  SENDERS_SLEEP,
  state,
  stateOf,
} from './layout.js';
import { wakeSleepers } from './wait.js';

/**
 * Whether another side is there: `none` has been yet, it is `open`, it has `closed`, or it is `dead`: gone without closing.
 * Who attached without a descriptor is `open` until it closes, dead or not; who asks without one cannot tell either.
 */
export type PeerState = 'none' | 'open' | 'closed' | 'dead';

/** The consumer's number. */
export const CONSUMER = 0;

export class Attachment {
  readonly #layout: Layout;
  readonly #locks: NativeByteLocks | undefined;
  /** 0 is the consumer, senders begin at 1. */
  readonly side: number;
  closed = false;
  /** What the memory tells of its end. */
  #onEnd: (() => void) | undefined;

  private constructor(layout: Layout, side: number, locks: NativeByteLocks | undefined) {
    this.#layout = layout;
    this.#locks = locks;
    this.side = side;
  }

  /** Takes the side of which there is one. Without a descriptor it is taken from whoever has it. */
  static sole(layout: Layout, side: number, fd: number | undefined, operation: string): Attachment {
    const locks = locksOf(fd);
    if (locks?.tryLock(byteOf(layout, side)) === false) {
      locks.close();
      const pid = Atomics.load(layout.words, processOf(side));
      throw systemError(errno.EBUSY, operation, { hint: `process ${pid} has this side of the ring` });
    }
    const attachment = new Attachment(layout, side, locks);
    Atomics.store(layout.words, stateOf(side), locks === undefined ? state.open : state.locked);
    Atomics.store(layout.words, processOf(side), process.pid);
    return attachment;
  }

  /** Takes the first sender's side that nobody has. */
  static sender(layout: Layout, fd: number | undefined, operation: string): Attachment {
    const { words } = layout;
    const locks = locksOf(fd);
    for (let side = 1; side <= MOST_SENDERS; side++) {
      const before = Atomics.load(words, stateOf(side));
      // What a sender with a lock left is for the next one with a descriptor: only it can tell whether that is dead.
      if (before === state.open || (before === state.locked && fd === undefined)) {
        continue;
      }
      const byte = byteOf(layout, side);
      if (locks?.tryLock(byte) === false) {
        continue;
      }
      const ours = locks === undefined ? state.open : state.locked;
      if (Atomics.compareExchange(words, stateOf(side), before, ours) === before) {
        Atomics.store(words, processOf(side), process.pid);
        return new Attachment(layout, side, locks);
      }
      locks?.unlock(byte);
    }
    locks?.close();
    throw systemError(errno.EUSERS, operation, { hint: `the ring has ${MOST_SENDERS} senders` });
  }

  /** How another side is. A system call where it can be dead. */
  peer(side: number): PeerState {
    const { words } = this.#layout;
    const word = load(words, stateOf(side));
    if (word !== state.locked) {
      return word === state.none ? 'none' : word === state.closed ? 'closed' : 'open';
    }
    const byte = byteOf(this.#layout, side);
    if (this.#locks === undefined || this.closed || this.#locks.isHeld(byte)) {
      return 'open';
    }
    // It may have closed in between, which it says before it gives up the lock; and another may have come by now.
    if (Atomics.load(words, stateOf(side)) !== state.locked) {
      return 'closed';
    }
    return this.#locks.isHeld(byte) ? 'open' : 'dead';
  }

  /**
   * Closes `side`, this one as its user has it, when the memory is closed: a SharedArrayBuffer keeps its length, so nothing else
   * would tell. Only where this thread has mapped the memory.
   */
  endWithMemory(side: { close(): void }): void {
    const { buffer } = this.#layout.words;
    if (buffer instanceof SharedArrayBuffer) {
      this.#onEnd = () => side.close();
      mappingOf(buffer)?.ended.add(this.#onEnd);
    }
  }

  /** Leaves. A second call does nothing. */
  close(): void {
    if (this.closed) {
      return;
    }
    this.closed = true;
    const { words } = this.#layout;
    const mapping = mappingOf(words.buffer);
    if (this.#onEnd !== undefined) {
      mapping?.ended.delete(this.#onEnd);
    }
    // The memory may be closed already.
    if (words.length > 0 && mapping?.released !== true) {
      Atomics.store(words, stateOf(this.side), state.closed);
      wakeSleepers(words, this.side === CONSUMER ? SENDERS_SLEEP : CONSUMER_SLEEPS);
    }
    this.#locks?.close();
  }
}

/** The byte of the file that stands for a side. */
function byteOf(layout: Layout, side: number): number {
  return layout.byteOffset + side;
}

function locksOf(fd: number | undefined): NativeByteLocks | undefined {
  return fd === undefined ? undefined : openByteLocks(fd);
}
