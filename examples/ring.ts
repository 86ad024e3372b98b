/**
 * A million messages from one Node process to another, through a ring in shared memory.
 *
 * The parent produces: it writes each message in place, and publishes 64 at a time. The child adds them up.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { posix, Ring, type RingConsumer, type RingProducer } from 'iospace/shm';

const MESSAGES = 1_000_000;
const BATCH = 64;

/** Small functions: the loops that have to be fast are compiled for themselves. */
function produce(ring: RingProducer, first: number): number {
  const { u32 } = ring;
  let next = first;
  for (; next < Math.min(first + BATCH, MESSAGES); next++) {
    const offset = ring.reserve(8);
    if (offset === -1) {
      break;
    }
    u32[offset >>> 2] = next;
  }
  if (next !== first) {
    ring.commit();
  }
  return next;
}

function consume(ring: RingConsumer): { count: number; sum: number } {
  const { u32 } = ring;
  let count = 0;
  let sum = 0;
  for (let offset = ring.peek(); offset !== -1; offset = ring.peek()) {
    sum += u32[offset >>> 2] ?? 0;
    count++;
  }
  if (count !== 0) {
    ring.release();
  }
  return { count, sum };
}

const childOf = process.argv[2];
const name = childOf ?? `/iospace-example-${process.pid}`;
using memory = posix.open(
  name,
  childOf === undefined ? { create: true, exclusive: true, size: 1 << 17 } : {},
);

if (childOf === undefined) {
  try {
    Ring.create(memory);
    using ring = Ring.producer(memory);
    const child = fork(new URL(import.meta.url), [name]);
    const exited = once(child, 'exit');
    const start = performance.now();
    for (let next = 0; next < MESSAGES; ) {
      const before = next;
      next = produce(ring, next);
      if (next === before) {
        await nextTurn();
        if (child.exitCode !== null || child.signalCode !== null) {
          throw new Error('the child has ended too early');
        }
      }
    }
    ring.close();
    const [code] = await exited;
    if (code !== 0) {
      throw new Error(`the child ended with ${code}`);
    }
    const seconds = (performance.now() - start) / 1000;
    console.log(`${MESSAGES} messages in ${seconds.toFixed(2)} s, the start of a process among them`);
  } finally {
    posix.unlink(name);
  }
} else {
  using ring = Ring.consumer(memory);
  let total = 0;
  for (let left = MESSAGES; left > 0; ) {
    const { count, sum } = consume(ring);
    left -= count;
    total += sum;
    // Whoever spins has to ask: here, a system call.
    if (count === 0 && ring.peer === 'dead') {
      throw new Error('the parent has died');
    }
  }
  console.log(`their sum: ${total}`);
}
