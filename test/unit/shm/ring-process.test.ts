/** Two real processes, or three; some of them die in the middle. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { memfd, posix, Ring, type RingConsumer, type SharedMemory } from '../../../lib/shm/index.js';
import { startChild } from '../child.js';

let name: string;
let memory: SharedMemory;
let counter = 0;
const children: ReturnType<typeof startChild>[] = [];
beforeEach(() => {
  name = `/iospace-ring-${process.pid}-${counter++}`;
  memory = posix.open(name, { create: true, exclusive: true, size: 1024 + 8192 });
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    await end(child);
  }
  memory.close();
  posix.unlink(name);
});

/** Kills it, and waits for its end. */
async function end(child: ReturnType<typeof startChild>): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const exited = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await exited;
  }
}

/** A process that has the memory, and says `ready` before its loop. */
async function start(entering: string, loop: string): Promise<ReturnType<typeof startChild>> {
  const child = startChild(`
    import { writeSync } from 'node:fs';
    import { memfd, posix, Ring } from 'iospace/shm';
    const memory = posix.open(${JSON.stringify(name)});
    const side = Ring.${entering}(memory);
    function fill(bytes, offset, length, serial) {
      for (let index = 0; index < length; index++) bytes[offset + index] = (serial * 31 + index) & 0xff;
    }
    writeSync(1, 'ready');
    ${loop}`);
  children.push(child);
  child.stderr.pipe(process.stderr);
  await new Promise((resolve, reject) => {
    child.stdout.once('data', resolve);
    child.once('exit', () => reject(new Error('the child has ended')));
  });
  return child;
}

/** The serial of a message, all of whose bytes are what they should be. */
function serialOf(consumer: RingConsumer, offset: number): number {
  const { bytes, u32, length } = consumer;
  const serial = u32[offset >>> 2] ?? -1;
  for (let index = 4; index < length; index++) {
    if (bytes[offset + index] !== ((serial * 31 + index - 4) & 0xff)) {
      throw new Error(`message ${serial} of ${length} bytes differs in byte ${index}`);
    }
  }
  return serial;
}

/** As `expect`, which takes longer than the message. */
function check(found: number, expected: number | undefined): void {
  if (found !== expected) {
    throw new Error(`got message ${found} instead of ${expected}`);
  }
}

const producing = `
  for (let serial = first(); ; serial++) {
    const length = 4 + (serial * 13) % 200;
    let offset = side.reserve(length);
    while (offset === -1) offset = side.reserve(length);
    side.u32[offset >>> 2] = serial;
    fill(side.bytes, offset + 4, length - 4, serial);
    if (serial % 3 === 0) side.commit();
  }`;

test('messages of all lengths come in their order, whole, from a process that spins', async () => {
  Ring.create(memory);
  const child = await start('producer', `const first = () => 0; ${producing}`);
  const consumer = Ring.consumer(memory);
  let expected = 0;
  const until = performance.now() + 8000;
  while (expected < 3000 && performance.now() < until) {
    const offset = consumer.peek();
    if (offset !== -1) {
      check(serialOf(consumer, offset), expected);
      expected++;
      consumer.release();
    }
  }
  expect(expected).toBe(3000);
  expect(consumer.peer).toBe('open');
  await end(child);
  expect(consumer.peer).toBe('dead');
  consumer.close();
}, 20_000);

test('a producer that is killed at any moment has sent whole messages; its successor goes on', async () => {
  Ring.create(memory);
  const consumer = Ring.consumer(memory);
  let total = 0;
  for (let life = 0; life < 3; life++) {
    const child = await start('producer', `const first = () => 0; ${producing}`);
    const exited = new Promise((resolve) => child.once('exit', resolve));
    let expected = 0;
    let isKilled = false;
    const take = (): number => {
      const offset = consumer.peek();
      if (offset !== -1) {
        check(serialOf(consumer, offset), expected);
        expected++;
        consumer.release();
      }
      return offset;
    };
    const until = performance.now() + 60 + 37 * life;
    while (!isKilled) {
      take();
      if (performance.now() > until) {
        child.kill('SIGKILL');
        isKilled = true;
      }
    }
    await exited;
    await expect(
      (async () => {
        for (;;) {
          const message = await consumer.receive({ timeout: 5000 });
          expect(new DataView(message?.buffer ?? new ArrayBuffer(4)).getUint32(0, true)).toBe(expected);
          expected++;
        }
      })(),
    ).rejects.toThrow(expect.objectContaining({ code: 'EOWNERDEAD' }));
    total += expected;
  }
  expect(total).toBeGreaterThan(3);
  consumer.close();
}, 20_000);

test('a consumer that is killed has its successor get the next message it had not released', async () => {
  Ring.create(memory);
  const producer = Ring.producer(memory);
  const child = await start(
    'consumer',
    `for (let expected = 0; ;) {
       const offset = side.peek();
       if (offset === -1) continue;
       if (side.u32[offset >>> 2] !== expected) throw new Error('got ' + side.u32[offset >>> 2] + ', not ' + expected);
       expected++;
       side.release();
     }`,
  );
  let serial = 0;
  const until = performance.now() + 150;
  while (performance.now() < until) {
    const offset = producer.reserve(4 + (serial % 50));
    if (offset !== -1) {
      producer.u32[offset >>> 2] = serial++;
      producer.commit();
    }
  }
  expect(child.exitCode).toBeNull();
  await end(child);
  expect(producer.peer).toBe('dead');
  while (producer.reserve(4) !== -1) {}
  producer.abandon();
  while (producer.trySend(Uint8Array.of(...new Uint8Array(Uint32Array.of(serial).buffer)))) {
    serial++;
  }
  await expect(producer.send(new Uint8Array(4))).rejects.toThrow(
    expect.objectContaining({ code: 'EOWNERDEAD' }),
  );
  expect(() => producer.sendSync(new Uint8Array(4))).toThrow(expect.objectContaining({ code: 'EOWNERDEAD' }));
  const consumer = Ring.consumer(memory);
  let last: number | undefined;
  for (let offset = consumer.peek(); offset !== -1; offset = consumer.peek()) {
    const found: number = consumer.u32[offset >>> 2] ?? -1;
    expect(found).toBe(last === undefined ? found : last + 1);
    last = found;
  }
  expect(last).toBe(serial - 1);
  consumer.close();
  producer.close();
}, 20_000);

test('senders of several processes: each in its order, none torn, and one that is killed stops nobody', async () => {
  Ring.create(memory, { kind: 'many', maxLength: 120 });
  const sending = (who: number): string => `
    const message = new Uint8Array(120);
    const words = new Uint32Array(message.buffer);
    for (let serial = 0; ; serial++) {
      words[0] = serial;
      words[1] = ${who};
      const length = 8 + serial % 112;
      fill(message, 8, length - 8, serial);
      while (!side.trySend(message.subarray(0, length)));
    }`;
  const consumer = Ring.consumer(memory);
  const senders = [await start('sender', sending(0)), await start('sender', sending(1))];
  const expected = [0, 0];
  /** Takes messages until there are so many of a sender, or the time is over. */
  const take = (sender: number, count: number, milliseconds: number): void => {
    const until = performance.now() + milliseconds;
    while ((expected[sender] ?? 0) < count && performance.now() < until) {
      const offset = consumer.peek();
      if (offset === -1) {
        continue;
      }
      const who = consumer.u32[(offset >>> 2) + 1] ?? -1;
      const serial = consumer.u32[offset >>> 2] ?? -1;
      check(serial, expected[who]);
      check(consumer.length, 8 + (serial % 112));
      for (let index = 8; index < consumer.length; index++) {
        if (consumer.bytes[offset + index] !== ((serial * 31 + index - 8) & 0xff)) {
          throw new Error(`message ${serial} of sender ${who} differs in byte ${index}`);
        }
      }
      expected[who] = serial + 1;
      consumer.release();
    }
  };
  take(0, 1000, 4000);
  take(1, 1000, 4000);
  await end(senders[0] as (typeof senders)[0]);
  take(0, Infinity, 50);
  const [dead, living] = [...expected] as [number, number];
  take(1, living + 1000, 4000);
  expect(expected).toEqual([dead, living + 1000]);
  consumer.close();
}, 20_000);

test.each(['single', 'many'] as const)(
  'garbage that a process writes into a ring of kind %s all the time is EBADMSG at the most',
  async (kind) => {
    Ring.create(memory, { kind });
    await start(
      'consumer',
      `const words = memory.view(Int32Array);
     const places = [32, 64, 256, 257, 258, 272, 273];
     for (let round = 0; ; round++) {
       const word = round % 3 === 0 ? Math.floor(Math.random() * words.length) : places[round % places.length];
       Atomics.store(words, word, round % 2 === 0 ? Math.floor(Math.random() * 2 ** 32) : (round % 512) * 8);
     }`,
    );
    // Without a descriptor, for the other process has the consumer's lock.
    const { bytes } = memory;
    let refused = 0;
    let calls = 0;
    const attempt = <T>(call: () => T): T | undefined => {
      calls++;
      try {
        return call();
      } catch (error) {
        // At the entry the header itself may be wrong.
        expect((error as { code?: string }).code).toMatch(/^(EBADMSG|EINVAL|EPROTO)$/);
        refused++;
        return undefined;
      }
    };
    const until = performance.now() + 400;
    while (performance.now() < until) {
      Ring.create(memory, { kind, replace: true });
      const sending = attempt(() => (kind === 'single' ? Ring.producer(bytes) : Ring.sender(bytes)));
      const consumer = attempt(() => Ring.consumer(bytes));
      for (let round = 0; round < 50; round++) {
        attempt(() => sending?.trySend(new Uint8Array(round)));
        const view = attempt(() => consumer?.peekView());
        if (view !== undefined) {
          expect(view.byteOffset + view.byteLength).toBeLessThanOrEqual(memory.byteLength);
        }
        attempt(() => consumer?.release());
      }
      sending?.close();
      consumer?.close();
    }
    expect(refused).toBeGreaterThan(10);
    expect(calls).toBeGreaterThan(refused);
  },
  20_000,
);

test('two processes that sleep in turn wake each other, blocked or not', async () => {
  using answers = memfd.create('ring-answers', { size: 1024 + 256 });
  Ring.create(memory);
  Ring.create(answers);
  await start(
    'consumer',
    `const answers = memfd.open('/proc/${process.pid}/fd/${answers.fd}');
     const back = Ring.producer(answers);
     for (;;) back.sendSync(side.receiveSync());`,
  );
  const producer = Ring.producer(memory);
  const consumer = Ring.consumer(answers);
  const begin = performance.now();
  for (let round = 0; round < 30; round++) {
    await producer.send(Uint8Array.of(round), { timeout: 5000 });
    const options = { timeout: 5000 };
    const answer = round % 2 === 0 ? consumer.receiveSync(options) : await consumer.receive(options);
    expect(answer).toEqual(Uint8Array.of(round));
    // Longer than anybody looks before it sleeps.
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  // Without waking, each would sleep for 100 ms.
  expect(performance.now() - begin).toBeLessThan(2000);
}, 20_000);

test('a side of a worker that was terminated is dead', async () => {
  Ring.create(memory);
  const consumer = Ring.consumer(memory);
  const child = startChild(`
    import { Worker } from 'node:worker_threads';
    const worker = new Worker(\`
      import { parentPort } from 'node:worker_threads';
      import { posix, Ring } from 'iospace/shm';
      const memory = posix.open(${JSON.stringify(name)});
      const producer = Ring.producer(memory);
      producer.trySend(Buffer.from('worker'));
      parentPort.postMessage('sent');
      for (;;) producer.peer;\`, { eval: true });
    worker.once('message', async () => { await worker.terminate(); console.log('terminated'); });
    setInterval(() => {}, 1000);`);
  children.push(child);
  child.stderr.pipe(process.stderr);
  await new Promise((resolve) => child.stdout.once('data', resolve));
  expect(consumer.peer).toBe('dead');
  expect(Buffer.from(consumer.tryReceive() ?? '').toString()).toBe('worker');
  consumer.close();
}, 20_000);
