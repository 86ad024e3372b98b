/**
 * One side of litmus shapes and of rings: a process that shares memory with others, runs one after the other, and exits with 1
 * if it saw what must not be. Run by `litmus.ts`; `node litmus-side.js SIDE NAME VIEW SHAPE=COUNT=SIDES...`.
 *
 * The loops are small functions of their own, which V8 optimises. In the shapes each variable only grows, by one a round, so
 * that what a round may see is known whatever the other side does meanwhile. Of two sides that have to meet, neither begins a
 * round before the other has ended the one before.
 */
import { posix, Ring, type RingConsumer, type RingProducer, type RingSender } from 'iospace/shm';

/** Places of words: far enough from each other for no two to share a cache line. */
const X = 0;
const Y = 32;
/** How many sides there are. */
const READY = 64;
/** Whether the second side has ended. */
const DONE = 96;
/** Words that are written without `Atomics`. */
const DATA = 128;
const DATA_END = 192;
/** Where the second side of two that meet leaves what it saw. */
const LOG = 256;

const [sideText = '', name = '', view = '', ...plan] = process.argv.slice(2);
const side = Number(sideText);

const nobody = new Int32Array(new SharedArrayBuffer(4));

/** Leaves the processor to the other sides for a while, if this was the last look of many in vain. */
function look(looks: number): void {
  if (looks % 10_000 === 0) {
    Atomics.wait(nobody, 0, 0, 1);
  }
}

/** Waits until a word is at least `value`. */
function reach(words: Int32Array, index: number, value: number): void {
  for (let looks = 1; Atomics.load(words, index) < value; looks++) {
    look(looks);
  }
}

/** Waits until all sides are there, asleep. */
function meet(words: Int32Array, sides: number): void {
  Atomics.add(words, READY, 1);
  while (Atomics.load(words, READY) < sides) {
    Atomics.wait(nobody, 0, 0, 1);
  }
}

/** How many rounds a side that only writes may be ahead of the one that only reads. */
const AHEAD = 1000;

// Message passing: what was written before the flag is there once the flag is.

function passOn(words: Int32Array, count: number): void {
  for (let round = 1; round <= count; round++) {
    reach(words, Y, round - AHEAD);
    for (let word = DATA; word < DATA_END; word++) {
      words[word] = round;
    }
    Atomics.store(words, X, round);
  }
}

function takeOver(words: Int32Array, count: number): number {
  for (let flag = 0; flag < count; ) {
    flag = Atomics.load(words, X);
    // What was written last would be missing first.
    for (let word = DATA_END - 1; word >= DATA; word--) {
      if ((words[word] as number) < flag) {
        return flag;
      }
    }
    Atomics.store(words, Y, flag);
  }
  return 0;
}

// Coherence: a word that grows is never seen to shrink, whichever way it is read.

function grow(words: Int32Array, count: number): void {
  for (let round = 1; round <= count; round++) {
    reach(words, Y, round - AHEAD);
    Atomics.store(words, X, round);
  }
}

function watch(words: Int32Array, count: number): number {
  for (let last = 0; last < count; ) {
    const first = Atomics.load(words, X);
    const second = words[X] as number;
    const third = Atomics.load(words, X);
    if (first < last || second < first || third < second) {
      return first;
    }
    last = third;
    Atomics.store(words, Y, last);
  }
  return 0;
}

// Store buffering: of two that write their own word and then read the other's, one sees what the other wrote.

function storeThenLoad(
  words: Int32Array,
  own: number,
  other: number,
  seen: Int32Array,
  base: number,
  count: number,
): void {
  for (let round = 1; round <= count; round++) {
    reach(words, other, round - 1);
    Atomics.store(words, own, round);
    seen[base + round] = Atomics.load(words, other);
  }
}

// Load buffering: of two that read the other's word and then write their own, one does not see what the other wrote.

function loadThenStore(
  words: Int32Array,
  own: number,
  other: number,
  seen: Int32Array,
  base: number,
  count: number,
): void {
  for (let round = 1; round <= count; round++) {
    reach(words, other, round - 1);
    seen[base + round] = Atomics.load(words, other);
    Atomics.store(words, own, round);
  }
}

/** The first side judges, when the second has said that its log is whole. */
function runMeeting(
  run: typeof storeThenLoad,
  words: Int32Array,
  count: number,
  isForbidden: (first: boolean, second: boolean) => boolean,
): void {
  if (side === 1) {
    run(words, Y, X, words, LOG, count);
    Atomics.store(words, DONE, 1);
    return;
  }
  const seen = new Int32Array(count + 1);
  run(words, X, Y, seen, 0, count);
  reach(words, DONE, 1);
  for (let round = 1; round <= count; round++) {
    const first = (seen[round] as number) >= round;
    const second = (words[LOG + round] as number) >= round;
    if (isForbidden(first, second)) {
      throw new Error(`round ${round}: saw ${seen[round]} and ${words[LOG + round]}`);
    }
  }
}

// Rings: each message has its sender's number, its place among those, a checksum over both and its length, and as many words
// as that says, each of which says whose it is.

const MOST_WORDS = 8;
const BATCH = 64;

function wordsOf(serial: number): number {
  return 3 + (serial % (MOST_WORDS - 2));
}

function check(sender: number, serial: number, length: number): number {
  return Math.imul(Math.imul(serial ^ (sender << 24), 0x9e37_79b1) ^ length, 0x85eb_ca6b) | 0;
}

function write(into: Uint32Array, at: number, sender: number, serial: number, length: number): void {
  into[at] = sender;
  into[at + 1] = serial;
  into[at + 2] = check(sender, serial, length);
  for (let word = 3; word < length; word++) {
    into[at + word] = serial ^ Math.imul(word, 0x0101_0101);
  }
}

function isWhole(from: Uint32Array, at: number, sender: number, serial: number, length: number): boolean {
  if (from[at] !== sender || from[at + 1] !== serial) {
    return false;
  }
  if (((from[at + 2] as number) | 0) !== check(sender, serial, length)) {
    return false;
  }
  for (let word = 3; word < length; word++) {
    if (from[at + word] !== (serial ^ Math.imul(word, 0x0101_0101)) >>> 0) {
      return false;
    }
  }
  return true;
}

/** In batches: one store publishes many messages. */
function produce(producer: RingProducer, count: number): void {
  const { u32 } = producer;
  for (let serial = 0, looks = 1; serial < count; ) {
    const end = Math.min(serial + BATCH, count);
    for (; serial < end; serial++) {
      const length = wordsOf(serial);
      const offset = producer.reserve(4 * length);
      if (offset === -1) {
        look(looks++);
        break;
      }
      write(u32, offset >>> 2, 0, serial, length);
    }
    producer.commit();
  }
}

function send(sender: RingSender, number: number, count: number): void {
  const message = new Uint32Array(MOST_WORDS);
  const bytes = new Uint8Array(message.buffer);
  for (let serial = 0; serial < count; serial++) {
    const length = wordsOf(serial);
    write(message, 0, number, serial, length);
    const part = bytes.subarray(0, 4 * length);
    for (let looks = 1; !sender.trySend(part); looks++) {
      look(looks);
    }
  }
}

/** The messages of each sender, in their order; `next` has as many as there are. */
function consume(consumer: RingConsumer, next: Int32Array, count: number): void {
  const { u32 } = consumer;
  for (let left = next.length * count, looks = 1; left > 0; ) {
    let taken = 0;
    for (let offset = consumer.peek(); offset !== -1; offset = consumer.peek()) {
      const at = offset >>> 2;
      const sender = u32[at] as number;
      const serial = next[sender] as number;
      if (!isWhole(u32, at, sender, serial, wordsOf(serial)) || consumer.length !== 4 * wordsOf(serial)) {
        throw new Error(`message ${serial} of sender ${sender}: ${[...u32.subarray(at, at + 8)]}`);
      }
      next[sender] = serial + 1;
      if (++taken === BATCH) {
        break;
      }
    }
    if (taken > 0) {
      consumer.release();
      left -= taken;
    } else {
      look(looks++);
    }
  }
}

/** What the view is of, and what a ring needs to know who lives. */
interface Place {
  buffer: ArrayBufferLike;
  words: Int32Array;
  fd: number;
}

const shapes: Record<string, (place: Place, count: number) => void> = {
  passing({ words }, count) {
    if (side === 0) {
      passOn(words, count);
      return;
    }
    const flag = takeOver(words, count);
    if (flag !== 0) {
      throw new Error(`flag ${flag} came before what was written before it`);
    }
  },
  coherence({ words }, count) {
    if (side === 0) {
      grow(words, count);
      return;
    }
    const seen = watch(words, count);
    if (seen !== 0) {
      throw new Error(`a word went back from ${seen}`);
    }
  },
  'store-buffering'({ words }, count) {
    runMeeting(storeThenLoad, words, count, (first, second) => !first && !second);
  },
  'load-buffering'({ words }, count) {
    runMeeting(loadThenStore, words, count, (first, second) => first && second);
  },
  single({ buffer, fd }, count) {
    if (side === 0) {
      consume(Ring.consumer(buffer, { fd }), new Int32Array(1), count);
    } else {
      produce(Ring.producer(buffer, { fd }), count);
    }
  },
  many({ buffer, fd }, count) {
    if (side === 0) {
      consume(Ring.consumer(buffer, { fd }), new Int32Array(2), count);
    } else {
      send(Ring.sender(buffer, { fd }), side - 1, count);
    }
  },
};

for (const item of plan) {
  const [shape = '', count, sides] = item.split('=');
  const memory = posix.open(`${name}-${shape}`);
  const buffer = view === 'shared' ? memory.sharedBuffer : memory.buffer;
  const meeting = posix.open(`${name}-${shape}-meeting`).view(Int32Array);
  meet(meeting, Number(sides));
  try {
    shapes[shape]?.({ buffer, words: new Int32Array(buffer), fd: memory.fd }, Number(count));
  } catch (error) {
    console.error(`${shape}, side ${side}:`, error);
    process.exit(1);
  }
}
