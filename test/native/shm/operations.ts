/**
 * Does everything of `iospace/shm` once, among it what ends badly, and prints `done`: for an addon that tells of every wrong
 * access to memory. What comes of the calls is for the tests of each of them to look at.
 */
import { closeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import {
  CountingEvent,
  Doorbell,
  fds,
  futex,
  Mutex,
  memfd,
  posix,
  Ring,
  type SharedMemory,
  sysv,
} from 'iospace/shm';

const name = `/iospace-operations-${process.pid}`;
const socket = join(tmpdir(), `iospace-operations-${process.pid}`);

async function fails(call: () => unknown): Promise<void> {
  let failed = false;
  try {
    await call();
  } catch {
    failed = true;
  }
  if (!failed) {
    throw new Error(`did not fail: ${call}`);
  }
}

async function collect(): Promise<void> {
  for (let round = 0; round < 4; round++) {
    globalThis.gc?.();
    await turn();
  }
}

/** Reads, writes, carries off, closes, and uses what is closed. */
async function use(memory: SharedMemory): Promise<void> {
  const { bytes } = memory;
  bytes.fill(1);
  memory.view(Uint32Array)[0] = 2 ** 31;
  memory.read(1, 10);
  const reader = memory.reader();
  reader.getFloat64(3);
  reader.load(4);
  reader.copyTo(new Uint8Array(100), 5);
  // Node 20 has no transfer().
  const buffer = memory.buffer as ArrayBuffer & { transfer?: () => ArrayBuffer };
  const carried = buffer.transfer?.() ?? structuredClone(buffer, { transfer: [buffer] });
  memory.close();
  memory.close();
  new Uint8Array(carried).fill(3);
  await fails(() => memory.bytes);
  await fails(() => reader.getInt8(0));
}

const made = posix.open(name, { create: true, size: 5000, unlinkAtExit: true });
made.stat();
made.resize(9000);
posix.list();
await fails(() => posix.open(name, { create: true, exclusive: true, size: 1 }));
await fails(() => posix.open(`${name}-none`));
await fails(() => posix.unlink(`${name}-none`));
await use(posix.open(name));
posix.open(name, { readOnly: true }).close();

const id = sysv.get(sysv.IPC_PRIVATE, 5000);
sysv.ftok('/', 1);
sysv.control.info();
sysv.control.set(id, { mode: 0o600 });
sysv.list();
await use(sysv.attach(id));
sysv.attach(id, { readOnly: true }).detach();
sysv.control.remove(id);
await fails(() => sysv.attach(id));
await fails(() => sysv.control.stat(id));

const sealed = memfd.create('operations', { size: 5000, seal: ['grow'] });
await fails(() => sealed.resize(6000));
await use(memfd.open(sealed.fd));
sealed.seal('write');
await fails(() => memfd.open(sealed.fd));
await fails(() => memfd.open(1000));
const receiving = fds.receive(socket);
await fds.send(socket, [sealed.fd]);
const [received] = (await receiving) as [number];
memfd.open(received, { readOnly: true }).close();
closeSync(received);
await fails(() => fds.receive(socket, { timeout: 5 }));
await fails(() => fds.send(socket, [sealed.fd], { timeout: 5 }));
sealed.close();

const memory = memfd.create('operations', { size: 1 << 16 });
const words = memory.view(Int32Array);
futex.wait(words, 0, 1);
futex.wait(words, 0, 0, { timeout: 1 });
const waits = Array.from({ length: 100 }, (_, index) => futex.waitAsync(words, index % 7, 0));
for (let index = 0; index < 7; index++) {
  Atomics.store(words, index, 1);
  futex.wake(words, index);
}
await Promise.all(waits);
words.fill(0);
await futex.waitAsync(words, 0, 0, { timeout: 1 });
await fails(() => futex.waitAsync(words, 0, 0, { signal: AbortSignal.timeout(5) }));

const mutexes = [0, 1].map(() => new Mutex(words, 0, memory.fd));
const [first, second] = mutexes as [Mutex, Mutex];
first.lock();
await fails(() => second.lock({ timeout: 1 }));
await fails(() => second.lockAsync({ timeout: 1 }));
const locked = second.lockAsync();
first.unlock();
await locked;
second.close();
first.lock();
first.close();
const event = new CountingEvent(words, 1);
const signalled = event.waitAsync();
event.signal(2);
await signalled;

const bell = Doorbell.create();
const waiting = Doorbell.open(bell.fd).wait();
bell.ring(2);
await waiting;
await fails(() => bell.wait({ timeout: 1 }));
await fails(() => Doorbell.open(memory.fd));
const cancelled = bell.wait();
bell.close();
await fails(() => cancelled);
await fails(() => bell.ring());

for (const kind of ['single', 'many'] as const) {
  Ring.create(memory, { kind, replace: true });
  const producer = kind === 'single' ? Ring.producer(memory) : Ring.sender(memory);
  const consumer = Ring.consumer(memory);
  for (let round = 0; round < 100; round++) {
    producer.sendSync(new Uint8Array(round % 50));
    consumer.receiveSync();
    const next = consumer.receive();
    await producer.send(new Uint8Array(5));
    await next;
  }
  producer.close();
  if (kind === 'single') {
    // Of the senders of a ring of many none is the last.
    await consumer.receive();
  }
  consumer.close();
}

// Each is ended while it waits, or has everything open.
const library = import.meta.resolve('iospace/shm');
for (const then of [
  'for (;;) futex.wait(words, 9, 0);',
  'futex.waitAsync(words, 9, 0);',
  'new Mutex(words, 10, memory.fd).lock(); new Mutex(words, 10, memory.fd).lock();',
  'new CountingEvent(words, 11).waitAsync();',
  'Doorbell.create().wait();',
  'Ring.create(memory, { replace: true }); const ring = Ring.consumer(memory); ring.receiveSync();',
  "fds.receive('SOCKET');".replace('SOCKET', socket),
  'process.exit(0);',
  'process.exit(0);',
]) {
  const source = `
    import { parentPort } from 'node:worker_threads';
    import { CountingEvent, Doorbell, fds, futex, memfd, Mutex, posix, Ring, sysv } from '${library}';
    const memory = memfd.create('worker', { size: 1 << 16 });
    const words = memory.view(Int32Array);
    globalThis.kept = [memory, posix.open('${name}'), posix.open('${name}', { readOnly: true })];
    kept[1].bytes[0] = 1;
    parentPort.postMessage('there');
    ${then}`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`));
  const exited = new Promise((resolve) => worker.once('exit', resolve));
  await new Promise((resolve) => worker.once('message', resolve));
  await worker.terminate();
  await exited;
}

// What nobody closes is for the collector, and for the end of the process.
for (let index = 0; index < 20; index++) {
  memfd.create('forgotten', { size: 4096 }).bytes[0] = 1;
}
process.removeAllListeners('warning');
await collect();
const kept = [posix.open(name), memory, made];
futex.waitAsync(words, 20, 0);
console.log(kept.length === 3 ? 'done' : '');
process.exit(0);
