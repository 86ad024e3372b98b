/** An event of several processes that counts. */
import { performance } from 'node:perf_hooks';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import * as raw from '../../../lib/raw.js';
import { CountingEvent, type WaitOptions, type Words } from '../../../lib/shm/index.js';
import { aborted, child, code, delay, fd, kill, words, worker } from './futex-support.js';

const make = (): CountingEvent => new CountingEvent(words, 0);

describe('an event', () => {
  test('tells each object how often it was signalled since its last wait', async () => {
    words[0] = 41;
    const first = make();
    expect(() => first.wait({ timeout: 0 })).toThrow(code('ETIMEDOUT'));
    first.signal();
    const second = make();
    first.signal(5);
    expect([first.pending, second.pending]).toEqual([6, 5]);
    expect(first.wait()).toBe(6);
    expect(await second.waitAsync()).toBe(5);
    expect([first.pending, second.pending]).toEqual([0, 0]);
    expect(() => first.wait({ timeout: 20 })).toThrow(code('ETIMEDOUT'));
  });

  test('counts beyond 32 bits', () => {
    for (const start of [2 ** 31 - 2, -2]) {
      words[0] = start;
      const event = make();
      const unsigned = new CountingEvent(new Uint32Array(words.buffer), 0);
      event.signal(3);
      expect([event.wait(), unsigned.wait()]).toEqual([3, 3]);
      event.signal(2 ** 31 - 1);
      event.signal(2 ** 31 - 1);
      expect([event.wait(), unsigned.wait()]).toEqual([2 ** 32 - 2, 2 ** 32 - 2]);
    }
  });

  test.each(['event.wait()', 'await event.waitAsync()'])(
    'reaches all processes in %s, each time',
    async (wait) => {
      const others = [1, 2, 3].map(() =>
        child(`
        const event = new CountingEvent(words, 0);
        console.log('ready');
        let count = 0;
        while (count < 100) count += ${wait};
        console.log(count);`),
      );
      await Promise.all(others.map((other) => other.line()));
      const event = make();
      for (let round = 0; round < 100; round++) {
        event.signal();
        if (round % 10 === 0) {
          await delay(3);
        }
      }
      expect(await Promise.all(others.map((other) => other.line()))).toEqual(['100', '100', '100']);
    },
  );

  test('wakes one who waits, long before a look at the count', async () => {
    const event = make();
    const other = child(`
      const event = new CountingEvent(words, 0);
      console.log('ready');
      for (;;) console.log(await event.waitAsync());`);
    await other.line();
    const times: number[] = [];
    for (let round = 0; round < 10; round++) {
      await delay(10);
      const before = performance.now();
      event.signal();
      expect(await other.line()).toBe('1');
      times.push(performance.now() - before);
    }
    expect(times.sort((a, b) => a - b)[2]).toBeLessThan(30);
  });

  test('tells each signal to one of the calls on the same object', async () => {
    const event = make();
    const counts: number[] = [];
    const waits = [0, 1].map(async () => counts.push(await event.waitAsync()));
    await delay(10);
    event.signal(3);
    await Promise.race(waits);
    expect(counts).toEqual([3]);
    event.signal();
    await Promise.all(waits);
    expect(counts).toEqual([3, 1]);
  });
});

describe('who dies', () => {
  test('after signalling has signalled', async () => {
    const event = make();
    const other = child(`new CountingEvent(words, 0).signal(7); process.kill(process.pid, 'SIGKILL');`);
    expect((await other.ended).signal).toBe('SIGKILL');
    expect(event.wait()).toBe(7);
  });

  test('between counting and waking is noticed within 100 ms', async () => {
    const event = make();
    const blocked = child(`
      const event = new CountingEvent(words, 0);
      console.log('ready');
      console.log(event.wait());`);
    await blocked.line();
    const waiting = event.waitAsync();
    await delay(30);
    const before = performance.now();
    Atomics.add(words, 0, 1);
    expect(await waiting).toBe(1);
    expect(await blocked.line()).toBe('1');
    expect(performance.now() - before).toBeLessThan(1000);
  });

  test('waiting takes nothing from the others', async () => {
    const event = make();
    const dead = child(`console.log('ready'); new CountingEvent(words, 0).wait();`);
    const ending = await worker(`say('ready'); new CountingEvent(words, 0).wait();`);
    await dead.line();
    await delay(30);
    await kill(dead.process);
    await ending.terminate();
    const waiting = event.waitAsync();
    event.signal();
    expect(await waiting).toBe(1);
  });
});

test('a wait has a time and a signal', async () => {
  const event = make();
  await expect(event.waitAsync({ timeout: 0 })).rejects.toThrow(code('ETIMEDOUT'));
  await expect(event.waitAsync({ timeout: 30 })).rejects.toThrow(
    expect.objectContaining({ code: 'ETIMEDOUT', syscall: 'CountingEvent.waitAsync' }),
  );
  const abort = new AbortController();
  setTimeout(() => abort.abort('late'), 20);
  await expect(event.waitAsync({ signal: abort.signal })).rejects.toThrow(aborted('late'));
  await expect(event.waitAsync({ signal: abort.signal })).rejects.toThrow(aborted('late'));
});

test('memory that was given back is ERR_INVALID_STATE', async () => {
  const { PROT_READ, PROT_WRITE, MAP_SHARED } = raw.constants;
  const mapping = raw.mmap(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
  const event = new CountingEvent(mapping.view(Int32Array), 0);
  const waiting = event.waitAsync();
  setTimeout(() => mapping.release(), 10);
  await expect(waiting).rejects.toThrow(code('ERR_INVALID_STATE'));
  expect(() => event.signal()).toThrow(code('ERR_INVALID_STATE'));
  expect(() => event.wait()).toThrow(code('ERR_INVALID_STATE'));
  expect(() => event.pending).toThrow(code('ERR_INVALID_STATE'));
  expect(inspect(event)).toBe('CountingEvent { seen: 0 }');
});

test.each<[unknown, unknown, string]>([
  [[0], 0, 'ERR_INVALID_ARG_TYPE'],
  [new Int32Array(0), 0, 'ERR_INVALID_STATE'],
  [new Int32Array(1), -1, 'ERR_OUT_OF_RANGE'],
])('new CountingEvent(%o, %o) is %s', (bad, index, expected) => {
  expect(() => new CountingEvent(bad as Words, index as number)).toThrow(code(expected));
});

test.each([0, -1, 2 ** 31, 0.5])('%d signals are out of range', (count) => {
  expect(() => make().signal(count)).toThrow(code('ERR_OUT_OF_RANGE'));
});

test.each<[unknown, string]>([
  [{ timeout: -1 }, 'ERR_OUT_OF_RANGE'],
  [{ signal: 5 }, 'ERR_INVALID_ARG_TYPE'],
  [{ count: 1 }, 'ERR_INVALID_ARG_VALUE'],
])('the options %o are %s', async (options, expected) => {
  await expect(make().waitAsync(options as WaitOptions)).rejects.toThrow(code(expected));
});
