/**
 * What it takes to wake a process that sleeps, by what iospace has, and by what Node has. A line of JSON for each.
 *
 *     node wake.js trip|events COUNT
 */
import { once } from 'node:events';
import { closeSync, read, readSync, writeSync } from 'node:fs';
import { MessageChannel, type MessagePort, parentPort, Worker } from 'node:worker_threads';
import { eventfd } from 'iospace/raw';
import { Doorbell, futex, memfd, Ring, type RingConsumer, type RingProducer } from 'iospace/shm';
import { binding } from '../../lib/binding.js';
import { costOf, countOf, show } from '../measure.js';
import { FIRST_DESCRIPTOR, type Peer, play, startPeer } from './peer.js';

const TRIP = 'round trip, both asleep';
const EVENTS = 'events into JavaScript';

/** Two words, each in cache lines of its own. */
const THERE = 0;
const BACK = 32;
const PAGE = 4096;

// Round trips of two threads that both block.

/** Sleeps until a word has a value, which it had not before. */
function sleepUntil(words: Int32Array, index: number, value: number): void {
  for (let seen = Atomics.load(words, index); seen !== value; seen = Atomics.load(words, index)) {
    futex.wait(words, index, seen);
  }
}

function tell(words: Int32Array, index: number, value: number): void {
  Atomics.store(words, index, value);
  futex.wake(words, index, 1);
}

async function tripOfFutex(count: number): Promise<void> {
  using memory = memfd.create('words', { size: PAGE });
  const words = memory.view(Int32Array);
  const peer = await start('pong', [count], [memory.fd]);
  let trip = 0;
  const cost = await costOf(count, peer.pids, (some) => {
    for (const last = trip + some; trip < last; ) {
      trip++;
      tell(words, THERE, trip);
      sleepUntil(words, BACK, trip);
    }
  });
  await peer.end();
  show('futex', TRIP, { nanoseconds: cost });
}

function playPong(count: number): void {
  using memory = memfd.open(FIRST_DESCRIPTOR);
  const words = memory.view(Int32Array);
  for (let trip = 1; trip <= countOf(count); trip++) {
    sleepUntil(words, THERE, trip);
    tell(words, BACK, trip);
  }
}

/** Two rings, whose sides look for a while before they sleep. */
async function tripOfRing(count: number): Promise<void> {
  const size = PAGE;
  using there = memfd.create('there', { size });
  using back = memfd.create('back', { size });
  Ring.create(there);
  Ring.create(back);
  using producer = Ring.producer(there);
  using consumer = Ring.consumer(back);
  const peer = await start('ring', [count], [there.fd, back.fd]);
  const message = new Uint8Array(64);
  const cost = await costOf(count, peer.pids, (some) => {
    for (let trip = 0; trip < some; trip++) {
      producer.sendSync(message);
      consumer.receiveSync();
    }
  });
  await peer.end();
  show('Ring: sendSync, receiveSync', TRIP, { nanoseconds: cost });
}

function playRing(count: number): void {
  using there = memfd.open(FIRST_DESCRIPTOR);
  using back = memfd.open(FIRST_DESCRIPTOR + 1);
  echo(Ring.consumer(there), Ring.producer(back), countOf(count));
}

function echo(consumer: RingConsumer, producer: RingProducer, count: number): void {
  for (let trip = 0; trip < count; trip++) {
    producer.sendSync(consumer.receiveSync() as Uint8Array);
  }
}

/** So many round trips of whatever has `send`, and tells of an answer by the event 'message'. */
function exchange(
  port: MessagePort | Peer['child'],
  send: (trip: number) => void,
  count: number,
): Promise<void> {
  return new Promise((done) => {
    let left = count;
    const trip = () => {
      if (left-- > 0) {
        send(left);
      } else {
        port.off('message', trip);
        done();
      }
    };
    port.on('message', trip);
    trip();
  });
}

async function tripOfProcess(serialization: 'json' | 'advanced', count: number): Promise<void> {
  const peer = await start('answer', [], [], serialization);
  const { child } = peer;
  const cost = await costOf(count, peer.pids, (some) => exchange(child, (trip) => child.send(trip), some));
  child.send('end');
  await peer.end();
  show(serialization === 'json' ? 'process.send' : 'process.send, advanced', TRIP, { nanoseconds: cost });
}

async function playAnswer(): Promise<void> {
  await new Promise<void>((done) => {
    process.on('message', (message) => {
      if (message === 'end') {
        done();
      } else {
        process.send?.(message);
      }
    });
  });
}

async function tripOfPort(count: number): Promise<void> {
  const worker = new Worker(import.meta.filename, { argv: ['worker'] });
  const { port1, port2 } = new MessageChannel();
  worker.postMessage(port2, [port2]);
  const cost = await costOf(count, [], (some) => exchange(port1, (trip) => port1.postMessage(trip), some));
  port1.close();
  await worker.terminate();
  show('MessagePort of a worker', TRIP, { nanoseconds: cost });
}

async function playWorker(): Promise<void> {
  const [port] = (await once(parentPort as MessagePort, 'message')) as [MessagePort];
  port.on('message', (message) => port.postMessage(message));
}

// Events for an event loop. The next comes when the last was answered, by a word that the other process does not sleep on:
// what counts is this side.

const COUNTER = 8;

/** What is told of an event. */
interface Listener {
  /** Starts with an event, answers each, and settles with the last of `count`. */
  run(count: number): Promise<void>;
  close?(): void;
}

/** Answers events, of which there are as many as `THERE` says, by `BACK`. */
class Answers {
  readonly words: Int32Array;
  #answered = 0;

  constructor(words: Int32Array) {
    this.words = words;
  }

  get next(): number {
    return this.#answered + 1;
  }

  answer(): void {
    this.#answered++;
    Atomics.store(this.words, BACK, this.#answered);
  }
}

async function eventsOf(
  of: string,
  role: string,
  count: number,
  listen: (answers: Answers, fd: number) => Listener,
): Promise<void> {
  using memory = memfd.create('words', { size: PAGE });
  const fd = eventfd();
  const peer = await start(role, [count], [memory.fd, fd]);
  const listener = listen(new Answers(memory.view(Int32Array)), fd);
  const cost = await costOf(count, peer.pids, (some) => listener.run(some));
  listener.close?.();
  await peer.end();
  closeSync(fd);
  show(of, EVENTS, { perSecond: 1e9 / cost });
}

function byPoller(answers: Answers, fd: number): Listener {
  const counter = new Uint8Array(COUNTER);
  let left = 0;
  let done = () => {};
  const poller = new (binding().Poller)(fd, () => {
    readSync(fd, counter);
    if (--left === 0) {
      poller.stop();
      done();
    }
    answers.answer();
  });
  return {
    run: (count) =>
      new Promise((resolve) => {
        left = count;
        done = resolve;
        poller.start();
      }),
    close: () => poller.close(),
  };
}

function byDoorbell(answers: Answers, fd: number): Listener {
  const bell = Doorbell.open(fd);
  return {
    async run(count) {
      for (let event = 0; event < count; event++) {
        await bell.wait();
        answers.answer();
      }
    },
    close: () => bell.close(),
  };
}

function byThreadPool(answers: Answers, fd: number): Listener {
  const counter = new Uint8Array(COUNTER);
  return {
    run: (count) =>
      new Promise((done, failed) => {
        let left = count;
        const listen = () => {
          read(fd, counter, 0, COUNTER, null, (error) => {
            if (error) {
              failed(error);
              return;
            }
            answers.answer();
            if (--left === 0) {
              done();
            } else {
              listen();
            }
          });
        };
        listen();
      }),
  };
}

function byFutex(answers: Answers): Listener {
  const { words } = answers;
  return {
    async run(count) {
      for (let event = 0; event < count; event++) {
        while (Atomics.load(words, THERE) !== answers.next) {
          await futex.waitAsync(words, THERE, answers.next - 1);
        }
        answers.answer();
      }
    },
  };
}

/** Tells of each event, and looks until it is answered. */
function playSignal(count: number, signal: (words: Int32Array, event: number) => void): void {
  using memory = memfd.open(FIRST_DESCRIPTOR);
  const words = memory.view(Int32Array);
  for (let event = 1; event <= countOf(count); event++) {
    signal(words, event);
    while (Atomics.load(words, BACK) !== event) {}
  }
}

const one = new Uint8Array(new BigUint64Array([1n]).buffer);

function byCounter(): void {
  writeSync(FIRST_DESCRIPTOR + 1, one);
}

function byWord(words: Int32Array, event: number): void {
  tell(words, THERE, event);
}

function start(
  role: string,
  args: readonly number[],
  fds: readonly number[],
  serialization: 'json' | 'advanced' = 'json',
): Promise<Peer> {
  return startPeer(import.meta.filename, [role, ...args.map(String)], fds, serialization);
}

const [part = '', number = ''] = process.argv.slice(2);
const count = Number(number);
const parts: Readonly<Record<string, () => void | Promise<void>>> = {
  trip: async () => {
    await tripOfFutex(count);
    await tripOfRing(count);
    await tripOfProcess('json', count);
    await tripOfProcess('advanced', count);
    await tripOfPort(count);
  },
  events: async () => {
    await eventsOf('Poller', 'signal', count, byPoller);
    await eventsOf('Doorbell', 'signal', count, byDoorbell);
    await eventsOf('fs.read', 'signal', count, byThreadPool);
    await eventsOf('futex.waitAsync', 'rouse', count, byFutex);
  },
  // The other process.
  pong: () => play(() => playPong(count)),
  ring: () => play(() => playRing(count)),
  answer: () => play(playAnswer),
  signal: () => play(() => playSignal(count, byCounter)),
  rouse: () => play(() => playSignal(count, byWord)),
  worker: playWorker,
};
const run = parts[part];
if (run === undefined) {
  throw new Error(`expected one of ${Object.keys(parts).join(', ')}, got ${part}`);
}
await run();
