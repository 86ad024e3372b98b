/**
 * The comfortable half of whoever sends into a ring: messages are copied in, and it waits where there is no room.
 *
 * @module
 */
import { Writable } from 'node:stream';
import { inspect } from 'node:util';
import { checkInteger } from '../../check.js';
import { errno, systemError, wrongType } from '../../errors.js';
import type { BlockOptions, WaitOptions } from '../futex.js';
import { type Attachment, CONSUMER, type PeerState } from './attachment.js';
import { HEAD, type Layout, load, SENDERS_SLEEP } from './layout.js';
import { RingWait } from './wait.js';

/** What a producer and a sender have in common. Made by `Ring.producer` and `Ring.sender`. */
export abstract class RingWriter {
  readonly #words: Int32Array;
  readonly #attachment: Attachment;
  /** What of {@link RingWriter.send} is waiting for room, in its order. */
  #queue: Promise<void> = Promise.resolve();
  #queued = 0;

  /** Bytes of the longest message. */
  readonly maxLength: number;

  /** @internal */
  constructor(layout: Layout, attachment: Attachment, maxLength: number) {
    this.#words = layout.words;
    this.#attachment = attachment;
    this.maxLength = maxLength;
    attachment.endWithMemory(this);
  }

  /**
   * Sends a copy of a message, if there is room now. Allocates nothing.
   *
   * @returns whether there was room
   * @throws ERR_OUT_OF_RANGE if it is longer than `maxLength`; EBADMSG if the ring is damaged; ERR_INVALID_STATE after
   *   `close()`
   */
  abstract trySend(message: Uint8Array): boolean;

  /**
   * Sends a copy of a message, and blocks the thread until there is room.
   *
   * @throws as {@link RingWriter.trySend}; ETIMEDOUT; EPIPE if the consumer has closed; EOWNERDEAD if it has died
   */
  sendSync(message: Uint8Array, options?: BlockOptions): void {
    const wait = new RingWait('Ring.sendSync', options, ['timeout']);
    for (;;) {
      const seen = load(this.#words, HEAD);
      if (this.trySend(message)) {
        return;
      }
      if (wait.block(this.#words, HEAD, seen, SENDERS_SLEEP)) {
        this.#checkConsumer('Ring.sendSync');
      }
    }
  }

  /**
   * Sends a copy of a message, once there is room. The message must stay as it is until this has settled. Messages go in
   * the order of the calls, of which any number may wait; `trySend` and `sendSync` may overtake them.
   *
   * @throws as {@link RingWriter.sendSync}; an AbortError (ABORT_ERR) whose `cause` is the signal's reason
   * @example
   * await producer.send(Buffer.from('hello'), { timeout: 1000 });
   */
  async send(message: Uint8Array, options?: WaitOptions): Promise<void> {
    const wait = new RingWait('Ring.send', options, ['timeout', 'signal']);
    checkMessage(message, this.maxLength);
    if (this.#queued === 0 && this.trySend(message)) {
      return;
    }
    const before = this.#queue;
    let done = (): void => {};
    const end = new Promise<void>((resolve) => {
      done = resolve;
    });
    // One that gives up before its turn lets nobody pass those before it.
    this.#queue = before.then(() => end);
    this.#queued++;
    try {
      await wait.after(before);
      for (;;) {
        const seen = load(this.#words, HEAD);
        if (this.trySend(message)) {
          return;
        }
        this.#checkConsumer('Ring.send');
        await wait.pause(this.#words, HEAD, seen, SENDERS_SLEEP);
      }
    } finally {
      this.#queued--;
      done();
    }
  }

  /**
   * A stream of bytes into the ring: chunks become messages, long ones several. Its end closes this side of the ring.
   *
   * @example
   * createReadStream('frames.raw').pipe(producer.writable());
   */
  writable(): Writable {
    const ending = new AbortController();
    const options = { signal: ending.signal };
    const sendAll = async (chunk: Uint8Array): Promise<void> => {
      for (let start = 0; start < chunk.length; start += this.maxLength) {
        await this.send(chunk.subarray(start, start + this.maxLength), options);
      }
    };
    return new Writable({
      write: (chunk: Uint8Array, _encoding, done) => {
        sendAll(chunk).then(() => done(), done);
      },
      destroy: (error, done) => {
        ending.abort();
        this.close();
        done(error);
      },
    });
  }

  /** How the consumer is. A system call, unless it has closed. */
  get peer(): PeerState {
    return this.#attachment.peer(CONSUMER);
  }

  get closed(): boolean {
    return this.#attachment.closed;
  }

  /** Leaves the ring: what was sent stays for the consumer. The memory stays the caller's. A second call does nothing. */
  close(): void {
    this.#attachment.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Shows what it is. Touches no memory. */
  [inspect.custom](): string {
    return `${this.constructor.name} { maxLength: ${this.maxLength}, closed: ${this.closed} }`;
  }

  #checkConsumer(operation: string): void {
    const { peer } = this;
    if (peer === 'closed') {
      throw systemError(errno.EPIPE, operation, { hint: 'the ring is full, and its consumer has closed' });
    }
    if (peer === 'dead') {
      throw systemError(errno.EOWNERDEAD, operation, { hint: 'the ring is full, and its consumer has died' });
    }
  }
}

/** A message that is not too long. */
export function checkMessage(message: Uint8Array, maxLength: number): number {
  if (!(message instanceof Uint8Array)) {
    throw wrongType('message', 'a Uint8Array', message);
  }
  return checkInteger('message.length', message.length, 0, maxLength);
}
