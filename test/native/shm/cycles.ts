/**
 * Opens and closes everything of `iospace/shm` again and again, and prints what the process holds after a fifth of the cycles,
 * three fifths, and all of them: a line of JSON for each kind.
 *
 *     node --expose-gc cycles.js COUNT [HEAP]
 *
 * HEAP is the addon made of heap.c, without which bytes are not counted.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setImmediate as turn } from 'node:timers/promises';
import { CountingEvent, Doorbell, futex, Mutex, memfd, posix, Ring, sysv } from 'iospace/shm';

/** What is to be the same after each cycle. */
interface Holdings {
  descriptors: number;
  /** Mappings of shared memory. */
  mappings: number;
  segments: number;
  names: number;
  /** Of the process, mapped and in memory: bytes. */
  addressSpace: number;
  resident: number;
  /** Of ArrayBuffers, as V8 has been told. */
  arrayBuffers: number;
  /** Of the C library's heap. */
  heap: number;
}

const [count, heapAddon] = [Number(process.argv[2]), process.argv[3]];
const bytesInUse: () => number =
  heapAddon === undefined ? () => 0 : createRequire(import.meta.url)(heapAddon);

const PAGE = 4096;
const name = `/iospace-cycles-${process.pid}`;

/** Memory for those that need some: it stays. */
const memory = memfd.create('iospace-cycles', { size: 1 << 16 });
const words = memory.view(Int32Array);

/** Whatever fails, fails always. */
function fails(call: () => unknown): void {
  let failed = false;
  try {
    call();
  } catch {
    failed = true;
  }
  if (!failed) {
    throw new Error(`did not fail: ${call}`);
  }
}

const kinds: Readonly<Record<string, () => void | Promise<void>>> = {
  posix: () => {
    const made = posix.open(name, { create: true, exclusive: true, size: 8192, unlinkAtExit: true });
    made.view(Int32Array)[1] = 1;
    const read = posix.open(name, { readOnly: true });
    read.reader().getInt32(4);
    made.resize(16_384);
    made.bytes[16_383] = 1;
    fails(() => posix.open(name, { create: true, exclusive: true, size: 1 }));
    fails(() => posix.open(name, { size: 16_385 }));
    made.close();
    made.unlink();
    read.close();
  },
  sysv: () => {
    const id = sysv.get(sysv.IPC_PRIVATE, 8192);
    const whole = sysv.attach(id);
    whole.bytes[8191] = 1;
    const read = sysv.attach(id, { readOnly: true });
    read.read(0, 16);
    sysv.control.stat(id);
    sysv.control.remove(id);
    whole.detach();
    read.detach();
    fails(() => sysv.attach(id));
  },
  memfd: () => {
    const made = memfd.create('iospace-cycles', { size: 8192 });
    made.bytes[0] = 1;
    const opened = memfd.open(made.fd, { readOnly: true });
    opened.read(0, 1);
    made.seal('write');
    fails(() => made.resize(4096));
    fails(() => memfd.open(made.fd));
    made.close();
    opened.close();
  },
  'ring of one': () => {
    Ring.create(memory, { replace: true });
    const producer = Ring.producer(memory);
    const consumer = Ring.consumer(memory);
    producer.trySend(new Uint8Array(100));
    consumer.tryReceive();
    fails(() => Ring.producer(memory));
    producer.close();
    consumer.close();
  },
  'ring of many': () => {
    Ring.create(memory, { kind: 'many', replace: true });
    const senders = [Ring.sender(memory), Ring.sender(memory)];
    const consumer = Ring.consumer(memory);
    for (const sender of senders) {
      sender.trySend(new Uint8Array(20));
      sender.close();
    }
    consumer.tryReceive();
    consumer.close();
  },
  mutex: () => {
    const mutex = new Mutex(words, 0, memory.fd);
    const second = new Mutex(words, 0, memory.fd);
    mutex.lock();
    second.tryLock();
    mutex.unlock();
    // Dies with it.
    second.lock();
    second.close();
    mutex.close();
    fails(() => mutex.lock());
  },
  event: () => {
    const event = new CountingEvent(words, 1);
    event.signal();
    event.wait();
  },
  doorbell: async () => {
    const bell = Doorbell.create();
    const opened = Doorbell.open(bell.fd);
    const waiting = opened.wait();
    bell.ring();
    await waiting;
    opened.close();
    const cancelled = bell.wait();
    bell.close();
    await Promise.allSettled([cancelled]);
    fails(() => bell.ring());
  },
  'waiting word': async () => {
    const abort = new AbortController();
    const value = Atomics.load(words, 2);
    const waits = [
      futex.waitAsync(words, 2, value, { signal: abort.signal }),
      futex.waitAsync(words, 2, value),
    ];
    abort.abort();
    await Promise.allSettled(waits.slice(0, 1));
    Atomics.add(words, 2, 1);
    futex.wake(words, 2);
    await waits[1];
  },
};

function holdings(): Holdings {
  const lines = (path: string) => readFileSync(path, 'latin1').split('\n');
  const [addressSpace, resident] = lines('/proc/self/statm').join().split(' ').map(Number) as [
    number,
    number,
  ];
  return {
    addressSpace: addressSpace * PAGE,
    resident: resident * PAGE,
    descriptors: readdirSync('/proc/self/fd').length,
    mappings: lines('/proc/self/maps').filter((line) => /iospace-cycles|\/SYSV/.test(line)).length,
    segments: sysv.list().filter(({ creatorPid }) => creatorPid === process.pid).length,
    names: readdirSync('/dev/shm').filter((entry) => name.endsWith(entry)).length,
    arrayBuffers: process.memoryUsage().arrayBuffers,
    heap: bytesInUse(),
  };
}

/** Lets go of what nobody has any more: finalizers run in turns of the event loop of their own. */
async function settle(): Promise<void> {
  for (let round = 0; round < 2; round++) {
    globalThis.gc?.();
    await turn();
  }
}

async function run(cycle: () => void | Promise<void>, cycles: number): Promise<Holdings> {
  for (let done = 0; done < cycles; done++) {
    await cycle();
    if (done % 500 === 499) {
      await settle();
    }
  }
  await settle();
  return holdings();
}

for (const [kind, cycle] of Object.entries(kinds)) {
  const held: Holdings[] = [];
  for (const part of [0.2, 0.4, 0.4]) {
    held.push(await run(cycle, part * count));
  }
  console.log(JSON.stringify({ kind, held }));
}
memory.close();
