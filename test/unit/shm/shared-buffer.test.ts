/** SharedArrayBuffers over shared memory: other threads, other processes, and what is left of one after the end. */
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test } from 'vitest';
import { futex, memfd, posix, Ring, type SharedMemory, sysv } from '../../../lib/shm/index.js';
import { type Plan, run } from '../../guest/litmus.js';
import { runChild } from '../child.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
const least: Readonly<Record<number, number>> = { 20: Infinity, 22: 23, 24: 21 };
/** Whether this Node has what it takes. */
const isThere = minor >= (least[major] ?? 0);

let counter = 0;
const kinds: Record<string, () => SharedMemory> = {
  'a POSIX object'() {
    const name = `/iospace-shared-${process.pid}-${counter++}`;
    const memory = posix.open(name, { create: true, exclusive: true, size: 8192 });
    memory.unlink();
    return memory;
  },
  'a segment'() {
    const id = sysv.get(sysv.IPC_PRIVATE, 8192);
    const memory = sysv.attach(id);
    sysv.control.remove(id);
    return memory;
  },
  'a memfd': () => memfd.create('iospace-shared', { size: 8192 }),
};

test.skipIf(isThere)('where Node cannot make one it is EOPNOTSUPP, which says which Node can', () => {
  using memory = memfd.create('iospace-shared', { size: 4096 });
  expect(() => memory.sharedBuffer).toThrow(
    expect.objectContaining({
      code: 'EOPNOTSUPP',
      message: expect.stringMatching(/22\.23, 24\.21 and 26 can$/),
    }),
  );
});

describe.skipIf(!isThere).each(Object.entries(kinds))('of %s', (_kind, make) => {
  test('it is one, of the same memory', () => {
    using memory = make();
    const { sharedBuffer } = memory;
    expect(sharedBuffer).toBeInstanceOf(SharedArrayBuffer);
    expect(sharedBuffer.byteLength).toBe(8192);
    expect(memory.sharedBuffer).toBe(sharedBuffer);
    memory.bytes[8191] = 7;
    expect(new Uint8Array(sharedBuffer)[8191]).toBe(7);
  });

  test('after close() it is zero memory that nobody else sees', () => {
    using memory = make();
    const words = new Int32Array(memory.sharedBuffer);
    words.fill(5);
    memory.close();
    expect(() => memory.sharedBuffer).toThrow(code('ERR_INVALID_STATE'));
    expect(words).toHaveLength(2048);
    expect(words.every((word) => word === 0)).toBe(true);
    words.fill(6);
    expect(Atomics.add(words, 2047, 1)).toBe(6);
  });
});

describe.skipIf(!isThere)('a SharedArrayBuffer of shared memory', () => {
  const workers: Worker[] = [];
  afterEach(async () => {
    await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
  });

  /** A thread that has `words`. Resolves to its first message. */
  function start(program: string, words?: Int32Array): Promise<{ worker: Worker; first: unknown }> {
    const source = `const { parentPort, workerData: words } = require('node:worker_threads'); (async () => {
      const shm = await import(${JSON.stringify(new URL('../../../dist/shm/index.js', import.meta.url).href)});
      ${program} })();`;
    const worker = new Worker(source, { eval: true, workerData: words });
    workers.push(worker);
    return new Promise((resolve, reject) => {
      worker.once('message', (first) => resolve({ worker, first }));
      worker.once('error', reject);
    });
  }

  test('is not to be had of memory that is read-only', () => {
    using memory = memfd.create('iospace-shared', { size: 4096 });
    using reader = memfd.open(memory.fd, { readOnly: true });
    expect(() => reader.sharedBuffer).toThrow(code('EACCES'));
    const { sharedBuffer } = memory;
    memory.seal('write');
    expect(() => memory.sharedBuffer).toThrow(code('EACCES'));
    new Uint8Array(sharedBuffer)[0] = 1;
    expect(memory.read(0, 1)[0]).toBe(0);
  });

  test('is another one after resize()', () => {
    using memory = memfd.create('iospace-shared', { size: 4096 });
    const before = memory.sharedBuffer;
    memory.resize(8192);
    expect(memory.sharedBuffer.byteLength).toBe(8192);
    new Uint8Array(memory.sharedBuffer)[0] = 1;
    expect(new Uint8Array(before)[0]).toBe(0);
  });

  test('lets threads wait for each other, and processes see it', async () => {
    using memory = memfd.create('iospace-shared', { size: 4096 });
    const words = new Int32Array(memory.sharedBuffer);
    await start(
      `parentPort.postMessage('there');
       Atomics.wait(words, 0, 0);
       Atomics.add(words, 1, words[0]);
       Atomics.notify(words, 1);`,
      words,
    );
    Atomics.store(words, 0, 41);
    Atomics.notify(words, 0);
    Atomics.wait(words, 1, 0, 10_000);
    const child = await runChild(`
      import { memfd } from 'iospace/shm';
      const memory = memfd.open('/proc/${process.pid}/fd/${memory.fd}');
      console.log(Atomics.add(new Int32Array(memory.sharedBuffer), 1, 1));
      memory.close();`);
    expect(child).toMatchObject({ code: 0, stdout: '41\n', stderr: '' });
    expect(memory.view(Int32Array)[1]).toBe(42);
  });

  test('may be closed under threads that use it all the time, and outlives one that was terminated', async () => {
    const memory = memfd.create('iospace-shared', { size: 1 << 16 });
    const words = new Int32Array(memory.sharedBuffer);
    const hammer = `
      function turn(words, count) {
        for (let round = 0; round < count; round++) {
          Atomics.add(words, 0, 1);
          for (let word = 1; word < words.length; word += 512) words[word] = words[word] + 1;
        }
      }
      turn(words, 10000);
      parentPort.postMessage('there');
      for (;;) turn(words, 1000);`;
    const [first] = await Promise.all([start(hammer, words), start(hammer, words)]);
    await first.worker.terminate();
    const before = Atomics.load(words, 0);
    expect(before).toBeGreaterThan(0);
    memory.close();
    // The other one goes on, in zero memory.
    while (Atomics.load(words, 0) === 0 || words[words.length - 511] === 0) {}
    expect(words).toHaveLength(1 << 14);
  });

  test('does not keep a segment attached after close()', () => {
    const id = sysv.get(sysv.IPC_PRIVATE, 4096);
    try {
      const memory = sysv.attach(id);
      const words = new Int32Array(memory.sharedBuffer);
      words[0] = 1;
      expect(sysv.control.stat(id).attached).toBe(1);
      memory.close();
      expect(sysv.control.stat(id).attached).toBe(0);
      expect(words[0]).toBe(0);
    } finally {
      sysv.control.remove(id);
    }
  });

  test.each(['terminated', 'at its end'])('of a thread that is %s is zero memory elsewhere', async (how) => {
    const id = sysv.get(sysv.IPC_PRIVATE, 4096);
    try {
      const { worker, first } = await start(`
        const memory = shm.sysv.attach(${id});
        const words = new Int32Array(memory.sharedBuffer);
        words[0] = 9;
        parentPort.postMessage(words);
        ${how === 'terminated' ? 'setInterval(() => memory, 1000);' : 'setTimeout(() => memory, 50);'}`);
      const words = first as Int32Array;
      const ended = new Promise((resolve) => worker.once('exit', resolve));
      expect(words[0]).toBe(9);
      if (how === 'terminated') {
        worker.terminate();
      }
      await ended;
      expect(sysv.control.stat(id).attached).toBe(0);
      expect(words[0]).toBe(0);
      words.fill(1);
    } finally {
      sysv.control.remove(id);
    }
  });

  test('gives its address range back when nobody has it any more, in no thread', async () => {
    const child = await runChild(
      `
      import { readFileSync } from 'node:fs';
      import { setImmediate as turn } from 'node:timers/promises';
      import { memfd } from 'iospace/shm';
      const mapped = () => readFileSync('/proc/self/maps', 'latin1').split('memfd:iospace-kept').length - 1;
      const carryOff = () => structuredClone(memfd.create('iospace-kept', { size: 4096 }).sharedBuffer);
      let kept = Array.from({ length: 100 }, carryOff);
      const collect = async () => {
        for (let round = 0; round < 5; round++) { gc(); await turn(); }
      };
      await collect();
      // Its object was collected, and closed its file; the mapping is the copy's.
      console.log(mapped());
      new Uint8Array(kept[99])[0] = 1;
      kept = [];
      await collect();
      console.log(mapped());
      const use = () => {
        const memory = memfd.create('iospace-kept', { size: 1 << 20, allocate: false });
        memory.sharedBuffer;
        memory.close();
      };
      for (let count = 0; count < 5000; count++) {
        use();
        if (count % 500 === 0) await collect();
      }
      await collect();
      const ranges = readFileSync('/proc/self/maps', 'latin1').split('\\n').length;
      console.log(mapped(), ranges < 3000);`,
      ['--expose-gc'],
    );
    expect(child).toMatchObject({ code: 0, stdout: '100\n0\n0 true\n', stderr: '' });
  });

  test('tells those who sleep on it that it was given back', async () => {
    const memory = memfd.create('iospace-shared', { size: 4096 });
    const words = new Int32Array(memory.sharedBuffer);
    const waiting = futex.waitAsync(words, 0, 0);
    memory.close();
    await expect(waiting).rejects.toThrow(code('ERR_INVALID_STATE'));
    expect(() => futex.wait(words, 0, 0)).toThrow(code('ERR_INVALID_STATE'));
    expect(() => futex.wake(words, 0)).toThrow(code('ERR_INVALID_STATE'));
  });

  test('may be the memory of a ring', () => {
    using memory = memfd.create('iospace-shared', { size: 8192 });
    const { sharedBuffer, fd } = memory;
    Ring.create(sharedBuffer);
    const producer = Ring.producer(sharedBuffer, { fd });
    const consumer = Ring.consumer(memory);
    producer.trySend(Buffer.from('shared'));
    expect(Buffer.from(consumer.tryReceive() ?? '').toString()).toBe('shared');
    expect(producer.bytes.buffer).toBe(sharedBuffer);
    producer.close();
    expect(consumer.peer).toBe('closed');
    consumer.close();
  });

  test.each(['single', 'many'] as const)(
    'ends the sides of a ring of kind %s with the memory',
    async (kind) => {
      const memory = memfd.create('iospace-shared', { size: 8192 });
      const { sharedBuffer, fd } = memory;
      Ring.create(sharedBuffer, { kind });
      const sending = (kind === 'single' ? Ring.producer : Ring.sender)(sharedBuffer, { fd });
      const consumer = Ring.consumer(sharedBuffer, { fd });
      sending.trySend(new Uint8Array(8));
      const waiting = consumer
        .messages()
        .next()
        .then(() => consumer.receive());
      await new Promise((resolve) => setTimeout(resolve, 20));
      memory.close();
      await expect(waiting).rejects.toThrow(code('ERR_INVALID_STATE'));
      expect([sending.closed, consumer.closed]).toEqual([true, true]);
      expect(() => sending.trySend(new Uint8Array(8))).toThrow(code('ERR_INVALID_STATE'));
      expect(() => consumer.peek()).toThrow(code('ERR_INVALID_STATE'));
      sending.close();
      consumer.close();
    },
  );
});

/** Rounds that take a fraction of a second, nearly all of it in optimised code. */
const plan: Plan = {
  passing: 1_000_000,
  coherence: 1_000_000,
  'store-buffering': 50_000,
  'load-buffering': 50_000,
  single: 1_000_000,
  many: 50_000,
};

test.each(
  isThere
    ? ([
        ['mapped', 'mapped'],
        ['shared', 'shared'],
        ['mapped', 'shared'],
      ] as const)
    : ([['mapped', 'mapped']] as const),
)(
  'processes with views %s and %s see each other in the order of the language',
  (...views) => run(plan, views),
  120_000,
);
