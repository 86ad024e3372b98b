/**
 * What it takes to wake a process that sleeps, by what iospace has, and by what Node has. A line of JSON for each.
 *
 *     node wake.js trip|events COUNT
 */
import { once } from 'node:events';
import { closeSync, read, readSync, writeSync } from 'node:fs';
import { MessageChannel, type MessagePort, parentPort, Worker } from 'node:worker_threads';
import { eventfd } from 'iospace/raw';
import { futex, memfd, Ring, type RingConsumer, type RingProducer } from 'iospace/shm';
import { costOf, countOf } from '../measure.js';
import { FIRST_DESCRIPTOR, type Peer, play, startPeer } from './peer.js';

/** What the library has on board and does not export. */
type Library = typeof import('../../lib/binding.js');
const { binding }: Library = await import(new URL('../../../dist/binding.js', import.meta.url).href);

const TRIP = 'round trip, both asleep';
const EVENTS = 'events into JavaScript';

/** Two words, each in cache lines of its own. */
const THERE = 0;
const BACK = 32;
const PAGE = 4096;

function show(of: string, workload: string, figures: Record<string, number>): void {
  console.log(JSON.stringify({ of, in: workload, ...figures }));
}

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

// Events for an event loop, each of which is answered before the next comes.

const COUNTER = 8;

/** One that the event loop is told of, and one by which it answers. */
type Counters = [there: number, back: number];

async function eventsOf(
  of: string,
  count: number,
  listen: (counters: Counters, count: number) => Listening,
): Promise<void> {
  const counters: Counters = [eventfd(), eventfd()];
  const peer = await start('signal', [count], counters);
  const { run, close } = listen(counters, count);
  const cost = await costOf(count, peer.pids, run);
  close();
  await peer.end();
  for (const fd of counters) {
    closeSync(fd);
  }
  show(of, EVENTS, { perSecond: 1e9 / cost });
}

/** Takes part in so many exchanges. */
interface Listening {
  run: (count: number) => Promise<void>;
  close: () => void;
}

const one = new Uint8Array(new BigUint64Array([1n]).buffer);

function byPoller([there, back]: Counters): Listening {
  const counter = new Uint8Array(COUNTER);
  let left = 0;
  let done = () => {};
  const poller = new (binding().Poller)(there, () => {
    readSync(there, counter);
    if (--left === 0) {
      poller.stop();
      done();
    }
    writeSync(back, one);
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

function byThreadPool([there, back]: Counters): Listening {
  const counter = new Uint8Array(COUNTER);
  return {
    run: (count) =>
      new Promise((done, failed) => {
        let left = count;
        const listen = () => {
          read(there, counter, 0, COUNTER, null, (error) => {
            if (error) {
              failed(error);
              return;
            }
            writeSync(back, one);
            if (--left === 0) {
              done();
            } else {
              listen();
            }
          });
        };
        listen();
      }),
    close() {},
  };
}

/** Tells of an event, and blocks until it has its answer. */
function playSignal(count: number): void {
  const [there, back] = [FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + 1];
  const counter = new Uint8Array(COUNTER);
  for (let event = 0; event < countOf(count); event++) {
    writeSync(there, one);
    readSync(back, counter);
  }
}

async function eventsOfFutex(count: number): Promise<void> {
  using memory = memfd.create('words', { size: PAGE });
  const words = memory.view(Int32Array);
  const peer = await start('rouse', [count], [memory.fd]);
  let seen = 0;
  const cost = await costOf(count, peer.pids, async (some) => {
    for (let event = 0; event < some; event++) {
      while (Atomics.load(words, THERE) === seen) {
        await futex.waitAsync(words, THERE, seen);
      }
      seen++;
      tell(words, BACK, seen);
    }
  });
  await peer.end();
  show('futex.waitAsync', EVENTS, { perSecond: 1e9 / cost });
}

function playRouse(count: number): void {
  using memory = memfd.open(FIRST_DESCRIPTOR);
  const words = memory.view(Int32Array);
  for (let event = 1; event <= countOf(count); event++) {
    tell(words, THERE, event);
    sleepUntil(words, BACK, event);
  }
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
    await eventsOf('Poller', count, byPoller);
    await eventsOf('fs.read', count, byThreadPool);
    await eventsOfFutex(count);
  },
  // The other process.
  pong: () => play(() => playPong(count)),
  ring: () => play(() => playRing(count)),
  answer: () => play(playAnswer),
  signal: () => play(() => playSignal(count)),
  rouse: () => play(() => playRouse(count)),
  worker: playWorker,
};
const run = parts[part];
if (run === undefined) {
  throw new Error(`expected one of ${Object.keys(parts).join(', ')}, got ${part}`);
}
await run();
