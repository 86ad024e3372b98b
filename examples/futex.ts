/**
 * Two processes that wait for each other without spinning, and one that dies while it holds a mutex.
 *
 * The child waits for a word to change (futex), moves money from one account to another (Mutex), and tells of each time
 * (CountingEvent). Then it is killed in the middle of it. The parent is told so by the mutex, and puts the accounts right.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { CountingEvent, futex, Mutex, posix } from 'iospace/shm';

/** The words of the memory. */
const MUTEX = 0;
const MOVED = 1;
const START = 2;
const FROM = 3;
const TO = 4;

const MONEY = 100;
const TIMES = 10;

const childOf = process.argv[2];
const name = childOf ?? `/iospace-example-${process.pid}`;
using memory = posix.open(
  name,
  childOf === undefined ? { create: true, exclusive: true, size: 4096, unlinkAtExit: true } : {},
);
const words = memory.view(Int32Array);
using mutex = new Mutex(words, MUTEX, memory.fd);
const moved = new CountingEvent(words, MOVED);

if (childOf === undefined) {
  words[FROM] = MONEY;
  const child = fork(new URL(import.meta.url), [name]);
  const ended = once(child, 'exit');
  Atomics.store(words, START, 1);
  futex.wake(words, START);

  for (let times = 0; times < TIMES + 1; ) {
    times += await moved.waitAsync({ timeout: 30_000 });
  }
  // Within 100 ms of the child's end.
  const locked = await mutex.lockAsync();
  const [from = 0, to = 0] = words.subarray(FROM, TO + 1);
  console.log(`${locked}: ${from} + ${to} = ${from + to}`);
  if (locked !== 'owner-died' || from + to !== MONEY - 1) {
    throw new Error('the child should have died in the middle of it');
  }
  words[TO] = MONEY - from;
  mutex.unlock();
  console.log(`repaired: ${words[FROM]} + ${words[TO]}, ${mutex.lock()}`);
  mutex.unlock();
  const [, signal] = await ended;
  console.log(`the child ended by ${signal}`);
} else {
  while (Atomics.load(words, START) === 0) {
    futex.wait(words, START, 0, { timeout: 30_000 });
  }
  for (let time = 0; time <= TIMES; time++) {
    mutex.lock();
    words[FROM] = (words[FROM] ?? 0) - 1;
    if (time === TIMES) {
      moved.signal();
      process.kill(process.pid, 'SIGKILL');
    }
    words[TO] = (words[TO] ?? 0) + 1;
    mutex.unlock();
    moved.signal();
  }
}
