/**
 * How long it takes from an interrupt to JavaScript, by each of the ways there are.
 *
 * An eventfd stands in for the device: what makes it readable is another thread, and not a line of hardware. Everything after
 * that is the same, and is what is compared.
 *
 * @module
 */
import { closeSync, read, readSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { binding, type NativePoller } from '../binding.js';
import { notSupported } from '../errors.js';
import type { Work } from './measure.js';

/** What an eventfd is written and read by. */
const EVENT_BYTES = 8;
const one = new Uint8Array(BigUint64Array.of(1n).buffer);

/** The words that the two threads share. */
const word = { asked: 0, pause: 1 } as const;
const END = 2;

/** Raises an event each time it is asked to, once the other thread sleeps; says when. In a thread of its own. */
const source = `
const { writeSync } = require('node:fs');
const { parentPort, workerData: { fd, shared, one, pause } } = require('node:worker_threads');
const words = new Int32Array(shared, 0, 2);
const raisedAt = new BigInt64Array(shared, 8, 1);
parentPort.postMessage('ready');
for (;;) {
  Atomics.wait(words, ${word.asked}, 0);
  if (Atomics.exchange(words, ${word.asked}, 0) === ${END}) break;
  Atomics.wait(words, ${word.pause}, 0, pause);
  Atomics.store(raisedAt, 0, process.hrtime.bigint());
  writeSync(fd, one);
}
`;

/** Microseconds: the longest that a wait may. */
const SPIN = 1000;

/** Milliseconds from the question to the event: long enough for the other thread to sleep. */
const PAUSE = 0.2;

/** An eventfd and the thread that raises it. */
class EventSource {
  readonly #words: Int32Array;
  readonly #raisedAt: BigInt64Array;
  readonly #worker: Worker;

  /**
   * Starts the thread.
   *
   * @param closeEvent - closes the eventfd where that fails
   * @throws EOPNOTSUPP where it may not, or does not, run
   */
  static async start(fd: number, closeEvent: () => void): Promise<EventSource> {
    try {
      const made = new EventSource(fd);
      await made.#ready();
      return made;
    } catch (error) {
      closeEvent();
      throw notSupported('bench', `no other thread can raise events: ${(error as Error).message}`);
    }
  }

  private constructor(fd: number) {
    const shared = new SharedArrayBuffer(16);
    this.#words = new Int32Array(shared, 0, 2);
    this.#raisedAt = new BigInt64Array(shared, 8, 1);
    this.#worker = new Worker(source, { eval: true, workerData: { fd, shared, one, pause: PAUSE } });
  }

  /** A thread that ends before would never raise what is waited for. */
  #ready(): Promise<void> {
    const worker = this.#worker;
    return new Promise((resolve, reject) => {
      const ended = (): void => reject(new Error('it has ended'));
      worker.once('error', reject).once('exit', ended);
      worker.once('message', () => {
        worker.off('error', reject).off('exit', ended);
        resolve();
      });
    });
  }

  /** Has an event raised soon. */
  ask(): void {
    this.#tell(1);
  }

  /** Nanoseconds since the last event was raised. */
  elapsed(): number {
    return Number(process.hrtime.bigint() - Atomics.load(this.#raisedAt, 0));
  }

  async close(): Promise<void> {
    this.#tell(END);
    await new Promise((resolve) => this.#worker.once('exit', resolve));
  }

  #tell(what: number): void {
    Atomics.store(this.#words, word.asked, what);
    Atomics.notify(this.#words, word.asked);
  }
}

function makeEvent(nonblocking: boolean): number {
  const native = binding();
  return native.eventfd(0, nonblocking ? (native.constants['EFD_NONBLOCK'] ?? 0) : 0);
}

/** Tells of events by uv_poll, as the interrupts of a device are told of. */
class PolledEvent {
  readonly fd = makeEvent(true);
  readonly #bytes = new Uint8Array(EVENT_BYTES);
  readonly #poller: NativePoller;
  #heard: () => void = () => undefined;

  constructor() {
    this.#poller = new (binding().Poller)(this.fd, () => {
      readSync(this.fd, this.#bytes);
      this.#heard();
    });
    this.#poller.start();
  }

  /** What is called at each event. */
  hear(heard: () => void): void {
    this.#heard = heard;
  }

  close(): void {
    this.#poller.close();
    closeSync(this.fd);
  }
}

/** Of latencies the spread matters as much as the middle: each is a sample of its own. */
function latencyWork(thread: EventSource, latency: () => number | Promise<number>, end: () => void): Work {
  return {
    scale: 1,
    runs: 1,
    sample: latency,
    async close() {
      await thread.close();
      end();
    },
  };
}

async function latencyByPoll(): Promise<Work> {
  const event = new PolledEvent();
  const thread = await EventSource.start(event.fd, () => event.close());
  const latency = (): Promise<number> =>
    new Promise((resolve) => {
      event.hear(() => resolve(thread.elapsed()));
      thread.ask();
    });
  return latencyWork(thread, latency, () => event.close());
}

async function latencyByRead(): Promise<Work> {
  const fd = makeEvent(false);
  const thread = await EventSource.start(fd, () => closeSync(fd));
  const bytes = new Uint8Array(EVENT_BYTES);
  const latency = (): Promise<number> =>
    new Promise((resolve, reject) => {
      read(fd, bytes, 0, EVENT_BYTES, null, (error) =>
        error === null ? resolve(thread.elapsed()) : reject(error),
      );
      thread.ask();
    });
  return latencyWork(thread, latency, () => closeSync(fd));
}

/** As a wait with `spin`, that many microseconds at a time. */
async function latencyBySpinning(): Promise<Work> {
  const native = binding();
  const fd = makeEvent(true);
  const thread = await EventSource.start(fd, () => closeSync(fd));
  const counts = new BigUint64Array(1);
  const latency = (): number => {
    thread.ask();
    while (!native.deviceReadCounts(fd, counts, SPIN)) {
      // Until there is one.
    }
    return thread.elapsed();
  };
  return latencyWork(thread, latency, () => closeSync(fd));
}

function rateByPoll(): Work {
  const event = new PolledEvent();
  return {
    scale: 1,
    sample: (runs) =>
      new Promise((resolve) => {
        const begin = process.hrtime.bigint();
        let left = runs;
        event.hear(() => {
          left--;
          if (left > 0) {
            writeSync(event.fd, one);
          } else {
            resolve(Number(process.hrtime.bigint() - begin));
          }
        });
        writeSync(event.fd, one);
      }),
    close: () => event.close(),
  };
}

function rateByRead(): Work {
  const fd = makeEvent(false);
  const bytes = new Uint8Array(EVENT_BYTES);
  return {
    scale: 1,
    sample: (runs) =>
      new Promise((resolve, reject) => {
        const begin = process.hrtime.bigint();
        let left = runs;
        const raise = (): void => {
          read(fd, bytes, 0, EVENT_BYTES, null, heard);
          writeSync(fd, one);
        };
        const heard = (error: Error | null): void => {
          left--;
          if (error !== null) {
            reject(error);
          } else if (left > 0) {
            raise();
          } else {
            resolve(Number(process.hrtime.bigint() - begin));
          }
        };
        raise();
      }),
    close: () => closeSync(fd),
  };
}

/** How each is done. */
export const interruptWorks = {
  'interrupt-poll': latencyByPoll,
  'interrupt-read': latencyByRead,
  'interrupt-spin': latencyBySpinning,
  'interrupt-rate-poll': rateByPoll,
  'interrupt-rate-read': rateByRead,
} as const satisfies Readonly<Record<string, () => Work | Promise<Work>>>;
