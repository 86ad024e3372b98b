/**
 * The consumer of a ring: its comfortable half, and what the fast half of each kind has to offer.
 *
 * @module
 */
import { Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { inspect } from 'node:util';
import { errno, systemError } from '../../errors.js';
import type { BlockOptions, WaitOptions } from '../futex.js';
import type { Attachment, PeerState } from './attachment.js';
import { CONSUMER_SLEEPS, type Layout, load } from './layout.js';
import { RingWait } from './wait.js';

/** Messages that an iteration gives before the event loop has its turn. */
const MESSAGES_A_TURN = 1000;

/**
 * Who takes messages out of a ring. Made by `Ring.consumer`.
 *
 * A message is in the ring until `release()`: a consumer that dies before has the next one get it again.
 *
 * @example
 * for (let offset = consumer.peek(); offset !== -1; offset = consumer.peek()) {
 *   sum += consumer.u32[offset >>> 2];
 * }
 * consumer.release();
 */
export abstract class RingConsumer {
  readonly #attachment: Attachment;
  readonly #words: Int32Array;

  /** The ring's messages, and what is between them. */
  readonly bytes: Uint8Array;
  /** The same memory. */
  readonly u32: Uint32Array;
  /** Bytes of the message that `peek()` gave last. */
  length = 0;

  /** @internal */
  constructor(layout: Layout, attachment: Attachment) {
    const { buffer, byteOffset, byteLength } = layout.bytes;
    this.#attachment = attachment;
    this.#words = layout.words;
    this.bytes = layout.bytes;
    this.u32 = new Uint32Array(buffer, byteOffset, byteLength / 4);
    attachment.endWithMemory(this);
  }

  /**
   * The next message: each call goes on by one. Allocates nothing.
   *
   * @returns where in `bytes` it begins, a multiple of 8; `length` says how long it is; -1 if there is none
   * @throws EBADMSG if the ring is damaged; ERR_INVALID_STATE after `close()`
   */
  abstract peek(): number;

  /** Gives the room of all messages that `peek()` gave back to the producer. They are gone. */
  abstract release(): void;

  /** Forgets that `peek()` gave what was not released: it gives it again. */
  abstract rewind(): void;

  /** The number of the word that changes when there may be a message. @internal */
  protected abstract get awaited(): number;

  /** Looks at what takes longer than a look, while there is no message: whether there will be one. @internal */
  protected abstract idle(): 'open' | 'closed' | 'dead';

  /**
   * The next message as a view, without a copy: good until {@link RingConsumer.release}.
   *
   * @returns undefined if there is none
   * @throws as {@link RingConsumer.peek}
   */
  peekView(): Uint8Array | undefined {
    const offset = this.peek();
    return offset === -1 ? undefined : this.bytes.subarray(offset, offset + this.length);
  }

  /**
   * Takes a copy of the next message out of the ring, and releases it with all that `peek()` gave.
   *
   * @returns undefined if there is none
   * @throws as {@link RingConsumer.peek}
   */
  tryReceive(): Uint8Array | undefined {
    const offset = this.peek();
    if (offset === -1) {
      return undefined;
    }
    const message = this.bytes.slice(offset, offset + this.length);
    this.release();
    return message;
  }

  /**
   * The same, but blocks the thread until there is a message.
   *
   * @returns undefined once the producer has closed and nothing is left; never in a ring of many, where senders come and go
   * @throws as {@link RingConsumer.peek}; ETIMEDOUT; EOWNERDEAD if the producer has died and nothing is left
   */
  receiveSync(options?: BlockOptions): Uint8Array | undefined {
    const wait = new RingWait('Ring.receiveSync', options, ['timeout']);
    for (;;) {
      const seen = load(this.#words, this.awaited);
      const message = this.tryReceive();
      if (message !== undefined) {
        return message;
      }
      if (wait.block(this.#words, this.awaited, seen, CONSUMER_SLEEPS)) {
        const producer = this.idle();
        if (producer !== 'open') {
          return this.#last(producer, 'Ring.receiveSync');
        }
      }
    }
  }

  /**
   * The same, but leaves the event loop free meanwhile.
   *
   * @throws as {@link RingConsumer.receiveSync}; an AbortError (ABORT_ERR) whose `cause` is the signal's reason
   */
  async receive(options?: WaitOptions): Promise<Uint8Array | undefined> {
    const wait = new RingWait('Ring.receive', options, ['timeout', 'signal']);
    for (;;) {
      const seen = load(this.#words, this.awaited);
      const message = this.tryReceive();
      if (message !== undefined) {
        return message;
      }
      const producer = this.idle();
      if (producer !== 'open') {
        return this.#last(producer, 'Ring.receive');
      }
      await wait.pause(this.#words, this.awaited, seen, CONSUMER_SLEEPS);
    }
  }

  /**
   * Copies of all messages, to the producer's end.
   *
   * @param options - `timeout` is that of each message
   * @throws as {@link RingConsumer.receive}
   * @example
   * for await (const message of consumer) {
   *   console.log(message.length);
   * }
   */
  async *messages(options?: WaitOptions): AsyncGenerator<Uint8Array, void, void> {
    for (let count = 1; ; count++) {
      const message = await this.receive(options);
      if (message === undefined) {
        return;
      }
      yield message;
      if (count % MESSAGES_A_TURN === 0) {
        await nextTurn();
      }
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    return this.messages();
  }

  /** A stream of the messages' bytes, to the producer's end. Its end closes this side of the ring. */
  readable(): Readable {
    const ending = new AbortController();
    const consumer = this;
    return new Readable({
      read() {
        consumer.receive({ signal: ending.signal }).then(
          (message) => this.push(message ?? null),
          (error: Error) => this.destroy(error),
        );
      },
      destroy(error, done) {
        ending.abort();
        consumer.close();
        done(error);
      },
    });
  }

  /** How the producer is. In a ring of many: `open` if any sender is, else how the last one ended. Up to 64 system calls. */
  abstract get peer(): PeerState;

  get closed(): boolean {
    return this.#attachment.closed;
  }

  /** Leaves the ring: what was not released stays in it. The memory stays the caller's. A second call does nothing. */
  close(): void {
    this.#attachment.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Shows what it is. Touches no memory. */
  [inspect.custom](): string {
    return `RingConsumer { byteLength: ${this.bytes.byteLength}, closed: ${this.closed} }`;
  }

  /** What the producer may have sent between the last look and its end. */
  #last(producer: 'closed' | 'dead', operation: string): Uint8Array | undefined {
    const message = this.tryReceive();
    if (message === undefined && producer === 'dead') {
      throw systemError(errno.EOWNERDEAD, operation, {
        hint: 'the ring is empty, and its producer has died',
      });
    }
    return message;
  }
}
