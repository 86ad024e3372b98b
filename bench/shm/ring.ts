/**
 * Messages from one process to another, through a ring, and through what else there is. A line of JSON for each.
 *
 *     node ring.js trip COUNT, of which ten times as many are those of the ring
 *     node ring.js bulk KIB, of which four times as many are those of the ring
 *     node ring.js rate COUNT one|batch|line|large, of which COUNT are batches of 64
 *
 * Each part is a process of its own, with another one: neither finds code that was compiled for another's loops.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { memfd, Ring, type RingConsumer, type RingProducer } from 'iospace/shm';
import { costOf, countOf, show } from '../measure.js';
import { FIRST_DESCRIPTOR, type Peer, play, startPeer } from './peer.js';

const KIB = 1024;
const MIB = 2 ** 20;
/** Of a ring's memory, before the messages. */
const HEADER = 1024;
/** A message that takes 64 bytes of a ring. */
const SLOT = 56;
const LINE = 64;
const WORDS = LINE / 4;
const BATCH = 64;

/** What is added up, so that nothing is left out as useless. */
let sum = 0;

// Waiting, by looking again and again.

function next(consumer: RingConsumer): number {
  for (;;) {
    const at = consumer.peek();
    if (at !== -1) {
      return at;
    }
  }
}

/** Looks that a consumer leaves out when there is nothing: some 100 ns. */
const PAUSE = 200;

/** For a consumer that is to keep up, and not to be early: each look takes the producer's cache line away from it. */
function nextInTime(consumer: RingConsumer): number {
  for (;;) {
    const at = consumer.peek();
    if (at !== -1) {
      return at;
    }
    for (let pause = 0; pause < PAUSE; pause++) {}
  }
}

function room(producer: RingProducer, length: number): number {
  for (;;) {
    const at = producer.reserve(length);
    if (at !== -1) {
      return at;
    }
  }
}

// Round trips.

function ping(producer: RingProducer, consumer: RingConsumer, count: number): void {
  const { u32 } = producer;
  for (let trip = 0; trip < count; trip++) {
    u32[room(producer, SLOT) >>> 2] = trip;
    producer.commit();
    sum += consumer.u32[next(consumer) >>> 2] as number;
    consumer.release();
  }
}

function pong(producer: RingProducer, consumer: RingConsumer, count: number): void {
  const { u32 } = producer;
  for (let trip = 0; trip < count; trip++) {
    const word = consumer.u32[next(consumer) >>> 2] as number;
    consumer.release();
    u32[room(producer, SLOT) >>> 2] = word;
    producer.commit();
  }
}

/** Two rings, one for each direction. */
async function tripOfRing(count: number): Promise<void> {
  using there = memfd.create('there', { size: HEADER + 64 * KIB });
  using back = memfd.create('back', { size: HEADER + 64 * KIB });
  Ring.create(there);
  Ring.create(back);
  using producer = Ring.producer(there);
  using consumer = Ring.consumer(back);
  const peer = await start('pong', [count], [there.fd, back.fd]);
  const pair = await costOf(count, peer.pids, (some) => ping(producer, consumer, some));
  await peer.end();
  show('Ring, spinning', 'round trip of a small message', { nanoseconds: pair });
}

function playPong(count: number): void {
  using there = memfd.open(FIRST_DESCRIPTOR);
  using back = memfd.open(FIRST_DESCRIPTOR + 1);
  pong(Ring.producer(back), Ring.consumer(there), countOf(count));
}

async function tripOfSocket(count: number): Promise<void> {
  await overSocket('echo', [], async (socket, peer) => {
    const message = Buffer.alloc(LINE);
    const pair = await costOf(
      count,
      peer.pids,
      (some) =>
        new Promise<void>((done) => {
          let left = some;
          const trip = () => {
            if (left-- > 0) {
              socket.write(message);
            } else {
              socket.off('data', trip);
              done();
            }
          };
          socket.on('data', trip);
          trip();
        }),
    );
    show('Unix socket', 'round trip of a small message', { nanoseconds: pair });
  });
}

async function playEcho(path: string): Promise<void> {
  const socket = connect(path);
  socket.on('data', (bytes) => socket.write(bytes));
  await once(socket, 'close');
}

// Messages a second.

/** Reserves as many messages as a batch has, and publishes them together; before that only where there is no room for more. */
function produceWord(producer: RingProducer, length: number, batch: number, count: number): void {
  const { u32 } = producer;
  for (let sent = 0; sent < count; sent += batch) {
    for (let one = 0; one < batch; one++) {
      let at = producer.reserve(length);
      if (at === -1) {
        producer.commit();
        at = room(producer, length);
      }
      u32[at >>> 2] = one;
    }
    producer.commit();
  }
}

function consumeWord(consumer: RingConsumer, batch: number, count: number): void {
  const { u32 } = consumer;
  for (let received = 0; received < count; ) {
    let at = nextInTime(consumer);
    for (let one = 1; at !== -1; one++) {
      sum += u32[at >>> 2] as number;
      received++;
      at = one < batch ? consumer.peek() : -1;
    }
    consumer.release();
  }
}

function produceLine(producer: RingProducer, count: number): void {
  const { u32 } = producer;
  const line = new Uint32Array(WORDS);
  for (let sent = 0; sent < count; sent += BATCH) {
    for (let one = 0; one < BATCH; one++) {
      let at = producer.reserve(LINE);
      if (at === -1) {
        producer.commit();
        at = room(producer, LINE);
      }
      line[0] = one;
      const first = at >>> 2;
      for (let word = 0; word < WORDS; word++) {
        u32[first + word] = line[word] as number;
      }
    }
    producer.commit();
  }
}

function consumeLine(consumer: RingConsumer, count: number): void {
  const { u32 } = consumer;
  const line = new Uint32Array(WORDS);
  for (let received = 0; received < count; ) {
    let at = nextInTime(consumer);
    for (let one = 1; at !== -1; one++) {
      const first = at >>> 2;
      for (let word = 0; word < WORDS; word++) {
        line[word] = u32[first + word] as number;
      }
      sum += line[0] as number;
      received++;
      at = one < BATCH ? consumer.peek() : -1;
    }
    consumer.release();
  }
}

/** One way of sending messages, and of receiving them. */
interface Way {
  says: string;
  capacity: number;
  produce: (producer: RingProducer, count: number) => void;
  consume: (consumer: RingConsumer, count: number) => void;
  /** How many, for each of the usual. */
  share: number;
}

const ways: Readonly<Record<string, Way>> = {
  one: {
    says: '64-byte slots, one word, one at a time',
    capacity: 64 * KIB,
    produce: (producer, count) => produceWord(producer, SLOT, 1, count),
    consume: (consumer, count) => consumeWord(consumer, 1, count),
    share: 1,
  },
  batch: {
    says: '64-byte slots, one word, batches of 64',
    capacity: 64 * KIB,
    produce: (producer, count) => produceWord(producer, SLOT, BATCH, count),
    consume: (consumer, count) => consumeWord(consumer, BATCH, count),
    share: 4,
  },
  line: {
    says: '64 bytes copied in and out, batches of 64',
    capacity: 64 * KIB,
    produce: produceLine,
    consume: consumeLine,
    share: 1,
  },
  large: {
    says: '1 MiB, in place',
    capacity: 8 * MIB,
    produce: (producer, count) => produceWord(producer, MIB, 1, count),
    consume: (consumer, count) => consumeWord(consumer, 1, count),
    share: 1,
  },
};

function wayOf(name: string): Way {
  const way = ways[name];
  if (way === undefined) {
    throw new Error(`expected one of ${Object.keys(ways).join(', ')}, got ${name}`);
  }
  return way;
}

async function rateOf(name: string, count: number): Promise<void> {
  const way = wayOf(name);
  using memory = memfd.create('rate', { size: HEADER + way.capacity });
  Ring.create(memory);
  using producer = Ring.producer(memory);
  const peer = await start('consume', [name, count], [memory.fd]);
  // Whole batches, so that both sides come to an end.
  const cost = await costOf(way.share * count, peer.pids, (some) => way.produce(producer, some * BATCH));
  await peer.end();
  show('Ring', way.says, { millions: (1000 * BATCH) / cost });
}

function playConsumer(name: string, count: number): void {
  const way = wayOf(name);
  using memory = memfd.open(FIRST_DESCRIPTOR);
  way.consume(Ring.consumer(memory), countOf(way.share * count) * BATCH);
}

// Long messages, copied.

const lengths = { '64 KiB': 64 * KIB, '1 MiB': MIB } as const;

/** Room for some of them, and not more: caches are to hold them. */
const ROOM = 4;

function sendAll(producer: RingProducer, message: Uint8Array, count: number): void {
  for (let sent = 0; sent < count; ) {
    if (producer.trySend(message)) {
      sent++;
    }
  }
}

/** @param received - a word that says how many */
function receiveAll(consumer: RingConsumer, target: Uint8Array, count: number, received: Int32Array): void {
  for (let one = 1; one <= count; one++) {
    const at = next(consumer);
    target.set(consumer.bytes.subarray(at, at + consumer.length));
    consumer.release();
    Atomics.store(received, 0, one);
  }
}

/** Bytes a nanosecond are GB/s. */
function showBulk(of: string, workload: string, length: number, cost: number): void {
  show(of, workload, { gigabytes: length / cost });
}

async function bulkOfRing(workload: string, length: number, count: number): Promise<void> {
  using memory = memfd.create('bulk', { size: HEADER + 2 * ROOM * length });
  using answer = memfd.create('answer', { size: WORDS });
  Ring.create(memory);
  using producer = Ring.producer(memory);
  const received = answer.view(Int32Array);
  const peer = await start('receive', [length, count], [memory.fd, answer.fd]);
  const message = new Uint8Array(length).fill(1);
  let sent = 0;
  const cost = await costOf(count, peer.pids, (some) => {
    sendAll(producer, message, some);
    sent += some;
    // Those in the ring are not copied out yet.
    while (Atomics.load(received, 0) !== sent) {}
  });
  await peer.end();
  showBulk('Ring', workload, length, cost);
}

function playReceiver(length: number, count: number): void {
  using memory = memfd.open(FIRST_DESCRIPTOR);
  using answer = memfd.open(FIRST_DESCRIPTOR + 1);
  receiveAll(Ring.consumer(memory), new Uint8Array(length), countOf(count), answer.view(Int32Array));
}

/** Writes with some of them on their way, so that neither side waits for the other. */
function writeAll(stream: Writable, message: Uint8Array, count: number): Promise<void> {
  return new Promise((done, failed) => {
    let [begun, ended] = [0, 0];
    const write = () => {
      begun++;
      stream.write(message, (error) => {
        if (error) {
          failed(error);
        } else if (++ended === count) {
          done();
        } else if (begun < count) {
          write();
        }
      });
    };
    for (let first = 0; first < Math.min(ROOM, count); first++) {
      write();
    }
  });
}

/** By events, as sockets are used; or into memory that there is already, which is all that Node can do for them. */
const sockets = { 'Unix socket': 'drain', 'Unix socket, onread': 'fill' } as const;

async function bulkOfSocket(
  of: keyof typeof sockets,
  workload: string,
  length: number,
  count: number,
): Promise<void> {
  await overSocket(sockets[of], [length], async (socket, peer) => {
    const message = Buffer.alloc(length, 1);
    showBulk(of, workload, length, await costOf(count, peer.pids, (some) => writeAll(socket, message, some)));
  });
}

async function playDrain(path: string): Promise<void> {
  const socket = connect(path);
  socket.on('data', (bytes: Buffer) => {
    sum += bytes.length;
  });
  await once(socket, 'close');
}

async function playFill(path: string, length: number): Promise<void> {
  const onread = {
    buffer: Buffer.alloc(length),
    callback(read: number) {
      sum += read;
      return true;
    },
  };
  await once(connect({ path, onread }), 'close');
}

/** A pipe, written and read by calls that block: for this the fastest that Node has. */
async function bulkOfPipe(workload: string, length: number, count: number): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'iospace-bench-'));
  try {
    const path = join(directory, 'pipe');
    execFileSync('mkfifo', [path]);
    // With both ends, so that neither open() waits.
    const ends = openSync(path, 'r+');
    const peer = await start('read', [path, length], []);
    const fd = openSync(path, 'w');
    closeSync(ends);
    const message = Buffer.alloc(length, 1);
    const cost = await costOf(count, peer.pids, (some) => {
      for (let sent = 0; sent < some; sent++) {
        for (let from = 0; from < length; ) {
          from += writeSync(fd, message, from);
        }
      }
    });
    closeSync(fd);
    await peer.end();
    showBulk('pipe', workload, length, cost);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function playReader(fd: number, length: number): void {
  const bytes = Buffer.alloc(length);
  for (let read = -1; read !== 0; ) {
    read = readSync(fd, bytes);
    sum += read;
  }
}

/** What `spawn` calls a pipe. */
async function bulkOfStandardInput(workload: string, length: number, count: number): Promise<void> {
  const peer = await start('input', [], []);
  const { stdin } = peer.child;
  if (stdin === null) {
    throw new Error('expected a standard input');
  }
  const message = Buffer.alloc(length, 1);
  const cost = await costOf(count, peer.pids, (some) => writeAll(stdin, message, some));
  await peer.end();
  showBulk('standard input', workload, length, cost);
}

async function playInput(): Promise<void> {
  process.stdin.on('data', (bytes: Buffer) => {
    sum += bytes.length;
  });
  await once(process.stdin, 'end');
}

// The other process.

function start(role: string, args: readonly (string | number)[], fds: readonly number[]): Promise<Peer> {
  return startPeer(import.meta.filename, [role, ...args.map(String)], fds);
}

/** A socket that another process has connected to. */
async function overSocket(
  role: string,
  args: readonly (string | number)[],
  use: (socket: Socket, peer: Peer) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'iospace-bench-'));
  const path = join(directory, 'socket');
  const server = createServer();
  try {
    server.listen(path);
    const connection = once(server, 'connection');
    const peer = await start(role, [path, ...args], []);
    const [socket] = (await connection) as [Socket];
    await use(socket, peer);
    socket.end();
    await peer.end();
  } finally {
    server.close();
    rmSync(directory, { recursive: true });
  }
}

const [part = '', first = '', second = ''] = process.argv.slice(2);
const parts: Readonly<Record<string, () => void | Promise<void>>> = {
  trip: async () => {
    await tripOfRing(10 * Number(first));
    await tripOfSocket(Math.ceil(Number(first) / 10));
  },
  rate: () => rateOf(second, Number(first)),
  bulk: async () => {
    for (const [workload, length] of Object.entries(lengths)) {
      const count = Math.ceil((Number(first) * KIB) / length);
      await bulkOfRing(workload, length, 4 * count);
      await bulkOfSocket('Unix socket', workload, length, count);
      await bulkOfSocket('Unix socket, onread', workload, length, count);
      await bulkOfPipe(workload, length, count);
      await bulkOfStandardInput(workload, length, count);
    }
  },
  // The other process.
  pong: () => play(() => playPong(Number(first))),
  echo: () => play(() => playEcho(first)),
  consume: () => play(() => playConsumer(first, Number(second))),
  receive: () => play(() => playReceiver(Number(first), Number(second))),
  drain: () => play(() => playDrain(first)),
  fill: () => play(() => playFill(first, Number(second))),
  read: () => {
    // While the first process has both ends.
    const fd = openSync(first, 'r');
    return play(() => playReader(fd, Number(second)));
  },
  input: () => play(playInput),
};
const run = parts[part];
if (run === undefined) {
  throw new Error(`expected one of ${Object.keys(parts).join(', ')}, got ${part}`);
}
await run();
if (Number.isNaN(sum)) {
  throw new Error('expected a sum');
}
