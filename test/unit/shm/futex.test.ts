/** Sleeping and waking on words, with threads that block. */
import { once } from 'node:events';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import * as raw from '../../../lib/raw.js';
import { futex, type Words } from '../../../lib/shm/index.js';
import { child, code, delay, fd, kill, memory, until, words, worker } from './futex-support.js';

const { PROT_READ, PROT_WRITE, MAP_SHARED } = raw.constants;

/** Wakes until somebody was woken. */
async function wakeOne(index = 0): Promise<void> {
  let woken = 0;
  await until(() => {
    woken += futex.wake(words, index, 1);
    return woken > 0;
  }, 'somebody sleeps');
  expect(woken).toBe(1);
}

describe('futex.wait', () => {
  test('sleeps until another process wakes it', async () => {
    const other = child(`console.log(futex.wait(words, 0, 0));`);
    await wakeOne();
    expect(await other.line()).toBe('ok');
    expect(await other.ended).toEqual({ code: 0, signal: null, stderr: '' });
  });

  test('is woken by another process', async () => {
    const other = child(`
      while (futex.wake(words, 0) === 0) await delay(2);
      console.log('woken');`);
    expect(futex.wait(words, 0, 0, { timeout: 20_000 })).toBe('ok');
    expect(await other.line()).toBe('woken');
  });

  test('does not sleep where the word has another value, signed or unsigned', () => {
    expect(futex.wait(words, 0, 1)).toBe('not-equal');
    words[0] = -1;
    expect(futex.wait(words, 0, 0)).toBe('not-equal');
    expect(futex.wait(words, 0, -1, { timeout: 0 })).toBe('timed-out');
    expect(futex.wait(words, 0, 2 ** 32 - 1, { timeout: 0 })).toBe('timed-out');
    expect(futex.wait(memory.view(Uint32Array), 0, -1, { timeout: 0 })).toBe('timed-out');
  });

  test.each([0, 1, 30, 250])('gives up after %i ms, not before', (timeout) => {
    const before = performance.now();
    expect(futex.wait(words, 0, 0, { timeout })).toBe('timed-out');
    const passed = performance.now() - before;
    expect(passed).toBeGreaterThanOrEqual(timeout);
    expect(passed).toBeLessThan(timeout + 2000);
  });

  test('is about one word, and not about its neighbours', async () => {
    const other = child(`console.log('ready'); console.log(futex.wait(words, 8, 0));`);
    await other.line();
    await delay(50);
    expect(futex.wake(words, 7) + futex.wake(words, 9)).toBe(0);
    await wakeOne(8);
    expect(await other.line()).toBe('ok');
  });

  test('a process that is killed asleep leaves nothing: its wake goes to the next', async () => {
    const program = `console.log('ready'); console.log(futex.wait(words, 0, 0));`;
    const dead = child(program);
    await dead.line();
    await delay(50);
    await kill(dead.process);
    const other = child(program);
    await other.line();
    await wakeOne();
    expect(await other.line()).toBe('ok');
  });

  test('a stopped and continued process sleeps on', async () => {
    const other = child(`console.log('ready'); console.log(futex.wait(words, 0, 0));`);
    await other.line();
    await delay(50);
    other.process.kill('SIGSTOP');
    await delay(20);
    other.process.kill('SIGCONT');
    await delay(20);
    await wakeOne();
    expect(await other.line()).toBe('ok');
  });

  test('ends within 100 ms where its worker is terminated', async () => {
    const sleeper = await worker(`say('ready'); futex.wait(words, 0, 0);`);
    await delay(30);
    const before = performance.now();
    await sleeper.terminate();
    expect(performance.now() - before).toBeLessThan(1000);
  });

  test('a word of a SharedArrayBuffer, and one of memory that nobody shares', () => {
    expect(futex.wait(new Int32Array(new SharedArrayBuffer(64)), 3, 0, { timeout: 1 })).toBe('timed-out');
    expect(futex.wait(new Int32Array(2), 1, 0, { timeout: 1 })).toBe('timed-out');
  });
});

describe('futex.wake', () => {
  test('wakes as many as asked for', async () => {
    const others = [1, 2, 3].map(() => child(`console.log('ready'); console.log(futex.wait(words, 0, 0));`));
    await Promise.all(others.map((other) => other.line()));
    await delay(100);
    expect(futex.wake(words, 0, 0)).toBe(0);
    // One of them may be awake for a moment, as each is every 100 ms.
    let woken = 0;
    await until(() => {
      woken += futex.wake(words, 0, 2 - woken);
      return woken === 2;
    }, 'two were woken');
    await wakeOne();
    expect(await Promise.all(others.map((other) => other.line()))).toEqual(['ok', 'ok', 'ok']);
  });
});

describe('Atomics', () => {
  /** A thread that sleeps on the first word of `shared`. What it says then is its only message. */
  const sleeper = (shared: Int32Array, sleep: string) => {
    const thread = new Worker(
      `const { parentPort, workerData: words } = require('node:worker_threads');
       const { futex } = require(${JSON.stringify(fileURLToPath(import.meta.resolve('iospace/shm')))});
       parentPort.postMessage(${sleep});`,
      { eval: true, workerData: shared },
    );
    return once(thread, 'message');
  };

  test.each([
    ['futex.wait(words, 0, 0)', Atomics.notify, futex.wake],
    ['Atomics.wait(words, 0, 0)', futex.wake, Atomics.notify],
  ])('and futexes do not wake each other: %s', async (sleep, other, own) => {
    const shared = new Int32Array(new SharedArrayBuffer(4));
    const woken = sleeper(shared, sleep);
    for (let look = 0; look < 50; look++) {
      expect(other(shared, 0)).toBe(0);
      await delay(2);
    }
    await until(() => own(shared, 0) === 1, 'the thread was woken');
    expect(await woken).toEqual(['ok']);
  });

  test('does not cross processes over SharedArrayBuffers of the same memory', async ({ skip }) => {
    let shared = words;
    try {
      shared = new Int32Array(memory.sharedBuffer);
    } catch (error) {
      expect(error).toEqual(code('EOPNOTSUPP'));
      skip('this Node can make no SharedArrayBuffer of it');
    }
    const other = child(`
      const shared = new Int32Array(memory.sharedBuffer);
      console.log('ready');
      console.log(Atomics.wait(shared, 0, 0, 300));`);
    await other.line();
    for (let look = 0; look < 50; look++) {
      expect(Atomics.notify(shared, 0) + futex.wake(shared, 0)).toBe(0);
      await delay(2);
    }
    expect(await other.line()).toBe('timed-out');
  });

  test('neither waits nor wakes in an ArrayBuffer of shared memory', () => {
    expect(() => Atomics.wait(words, 0, 0, 1)).toThrow(TypeError);
    expect(Atomics.notify(words, 0)).toBe(0);
  });
});

describe('what is no word', () => {
  const calls: [string, (words: Words, index: number) => unknown][] = [
    ['wait', (words, index) => futex.wait(words, index, 0, { timeout: 0 })],
    ['wake', (words, index) => futex.wake(words, index)],
  ];

  test.each(calls)('%s refuses arrays of other elements', (_name, call) => {
    for (const bad of [undefined, null, {}, [0], new Uint8Array(4), new DataView(new ArrayBuffer(4))]) {
      expect(() => call(bad as Words, 0)).toThrow(code('ERR_INVALID_ARG_TYPE'));
    }
    expect(() => call(new BigInt64Array(1) as unknown as Words, 0)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test.each(calls)('%s refuses an index outside', (_name, call) => {
    for (const bad of [-1, 1024, 0.5, Number.NaN, 2 ** 40]) {
      expect(() => call(words, bad)).toThrow(code('ERR_OUT_OF_RANGE'));
    }
    expect(() => call(words, '0' as unknown as number)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test.each(calls)('%s refuses memory that was given back', (_name, call) => {
    const mapping = raw.mmap(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
    const gone = mapping.view(Int32Array);
    mapping.release();
    expect(() => call(gone, 0)).toThrow(code('ERR_INVALID_STATE'));
    const moved = new Int32Array(4);
    structuredClone(moved.buffer, { transfer: [moved.buffer] });
    expect(() => call(moved, 0)).toThrow(code('ERR_INVALID_STATE'));
    expect(() => call(new Int32Array(0), 0)).toThrow(code('ERR_INVALID_STATE'));
  });

  test('a misaligned word cannot be had', () => {
    expect(() => memory.view(Int32Array, 2)).toThrow(code('ERR_OUT_OF_RANGE'));
  });

  test.each(calls)('%s says EFAULT where the page cannot be read', (name, call) => {
    const mapping = raw.mmap(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
    const view = mapping.view(Int32Array);
    raw.mprotect(mapping, raw.constants.PROT_NONE);
    expect(() => call(view, 1)).toThrow(
      expect.objectContaining({ code: 'EFAULT', syscall: 'futex', address: mapping.address + 4n }),
    );
    raw.mprotect(mapping, PROT_READ);
    expect(call(view, 1)).toBe(name === 'wait' ? 'timed-out' : 0);
    mapping.release();
  });

  test('EFAULT, and no death, where the file was shrunk', () => {
    const file = raw.memfdCreate('iospace-futex');
    raw.ftruncate(file, 4096);
    const mapping = raw.mmap(file, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
    const view = mapping.view(Int32Array);
    raw.ftruncate(file, 0);
    expect(() => futex.wait(view, 0, 0)).toThrow(code('EFAULT'));
    mapping.release();
    raw.close(file);
  });
});

test.each<[unknown, string]>([
  [{ timeout: -1 }, 'ERR_OUT_OF_RANGE'],
  [{ timeout: 2 ** 31 }, 'ERR_OUT_OF_RANGE'],
  [{ timeout: 1n }, 'ERR_INVALID_ARG_TYPE'],
  [{ signal: AbortSignal.abort() }, 'ERR_INVALID_ARG_VALUE'],
  [5, 'ERR_INVALID_ARG_TYPE'],
])('the options %o of wait are %s', (options, expected) => {
  expect(() => futex.wait(words, 0, 0, options as object)).toThrow(code(expected));
});

test.each([2 ** 32, -(2 ** 31) - 1, 0.5])('the value %d is out of range', (value) => {
  expect(() => futex.wait(words, 0, value)).toThrow(code('ERR_OUT_OF_RANGE'));
});

test.each([-1, 2 ** 31, 1.5])('the count %d is out of range', (count) => {
  expect(() => futex.wake(words, 0, count)).toThrow(code('ERR_OUT_OF_RANGE'));
});
