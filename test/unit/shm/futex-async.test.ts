/** Waits that leave the event loop free. */
import { performance } from 'node:perf_hooks';
import { describe, expect, test } from 'vitest';
import * as raw from '../../../lib/raw.js';
import { futex, type WaitOptions, type Words } from '../../../lib/shm/index.js';
import {
  aborted,
  child,
  code,
  delay,
  fd,
  kill,
  memory,
  sleepers,
  until,
  words,
  worker,
} from './futex-support.js';

const { PROT_READ, PROT_WRITE, MAP_SHARED } = raw.constants;

/** Wakes until as many were woken. */
async function wakeAll(count: number, index = 0): Promise<void> {
  let woken = 0;
  await until(() => {
    woken += futex.wake(words, index, count - woken);
    return woken >= count;
  }, `${count} sleep`);
}

describe('futex.waitAsync', () => {
  test('resolves when another process wakes it, and the event loop runs meanwhile', async () => {
    const waiting = futex.waitAsync(words, 0, 0);
    let turns = 0;
    const turning = setInterval(() => turns++, 1);
    const other = child(`while (futex.wake(words, 0) === 0) await delay(2);`);
    expect(await waiting).toBe('ok');
    clearInterval(turning);
    expect(turns).toBeGreaterThan(3);
    expect((await other.ended).code).toBe(0);
  });

  test('wakes another process that waits so', async () => {
    const other = child(`console.log(await futex.waitAsync(words, 5, 0));`);
    await wakeAll(1, 5);
    expect(await other.line()).toBe('ok');
    expect(await other.ended).toEqual({ code: 0, signal: null, stderr: '' });
  });

  test('does not wait where the word has another value', async () => {
    expect(await futex.waitAsync(words, 0, 1)).toBe('not-equal');
    words[0] = -1;
    expect(await futex.waitAsync(words, 0, 2 ** 32 - 1, { timeout: 1 })).toBe('timed-out');
    expect(await futex.waitAsync(memory.view(Uint32Array), 0, -1, { timeout: 1 })).toBe('timed-out');
  });

  test.each([0, 1, 30, 250])('gives up after %i ms, not before', async (timeout) => {
    const before = performance.now();
    expect(await futex.waitAsync(words, 0, 0, { timeout })).toBe('timed-out');
    const passed = performance.now() - before;
    // A timer of whole milliseconds, and another clock.
    expect(passed).toBeGreaterThanOrEqual(timeout - 1);
    expect(passed).toBeLessThan(timeout + 2000);
  });

  test('of two on the same word one is woken at a time', async () => {
    const outcomes: string[] = [];
    const waits = [0, 1].map(() => futex.waitAsync(words, 0, 0).then((outcome) => outcomes.push(outcome)));
    await delay(20);
    expect(futex.wake(words, 0, 1)).toBe(1);
    await delay(20);
    // The other one may end as well, but never with less than one.
    expect(outcomes.length).toBeGreaterThanOrEqual(1);
    futex.wake(words, 0);
    await Promise.all(waits);
    expect(outcomes).toEqual(['ok', 'ok']);
  });

  test('words that are woken together all end: none is forgotten', async () => {
    for (let round = 0; round < 50; round++) {
      const ended = new Set<number>();
      const waits = Array.from({ length: 20 }, (_, index) =>
        futex.waitAsync(words, index, 0).finally(() => ended.add(index)),
      );
      // Each is woken once; some end for no reason.
      const woken = new Set<number>();
      await until(() => {
        for (let index = 0; index < 20; index++) {
          if (!woken.has(index) && !ended.has(index) && futex.wake(words, index) > 0) {
            woken.add(index);
          }
        }
        return new Set([...woken, ...ended]).size === 20;
      }, 'all sleep');
      expect(new Set(await Promise.all(waits))).toEqual(new Set(['ok']));
    }
  });

  test('has one thread for all waits, and EAGAIN beyond 127', async () => {
    const abort = new AbortController();
    const waits = Array.from({ length: 127 }, (_, index) =>
      futex.waitAsync(words, index, 0, { signal: abort.signal }),
    );
    await expect(futex.waitAsync(words, 127, 0)).rejects.toThrow(code('EAGAIN'));
    expect(sleepers()).toBe(1);
    expect(await Promise.race([...waits, delay(20)])).toBeUndefined();
    abort.abort('enough');
    for (const outcome of await Promise.allSettled(waits)) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: aborted('enough') });
    }
    expect(await futex.waitAsync(words, 0, 0, { timeout: 1 })).toBe('timed-out');
  });

  test('a change of the word without a wake ends it at the next change of the list, at the latest', async () => {
    const waiting = futex.waitAsync(words, 0, 0);
    await delay(20);
    Atomics.store(words, 0, 1);
    await futex.waitAsync(words, 1, 0, { timeout: 1 });
    expect(await waiting).toBe('ok');
  });

  test('a process that is killed while it waits does not keep the wake', async () => {
    const dead = child(`console.log('ready'); await futex.waitAsync(words, 0, 0);`);
    await dead.line();
    await delay(50);
    await kill(dead.process);
    const waiting = futex.waitAsync(words, 0, 0);
    await wakeAll(1);
    expect(await waiting).toBe('ok');
  });

  test('thousands of words handed to and fro by two processes', async () => {
    const rounds = 2000;
    const other = child(`
      for (let turn = 0; turn < ${rounds}; turn++) {
        while (Atomics.load(words, 0) === turn) await futex.waitAsync(words, 0, turn);
        Atomics.store(words, 64, turn + 1);
        futex.wake(words, 64);
      }`);
    for (let turn = 0; turn < rounds; turn++) {
      Atomics.store(words, 0, turn + 1);
      futex.wake(words, 0);
      while (Atomics.load(words, 64) === turn) {
        await futex.waitAsync(words, 64, turn);
      }
    }
    expect((await other.ended).code).toBe(0);
  });
});

describe('a signal', () => {
  test('ends the wait, and its reason is the cause', async () => {
    const abort = new AbortController();
    const waiting = futex.waitAsync(words, 0, 0, { signal: abort.signal });
    setTimeout(() => abort.abort('late'), 20);
    await expect(waiting).rejects.toThrow(aborted('late'));
    expect(futex.wake(words, 0)).toBe(0);
  });

  test('that has aborted already lets nothing begin', async () => {
    await expect(futex.waitAsync(words, 0, 0, { signal: AbortSignal.abort('early') })).rejects.toThrow(
      aborted('early'),
    );
  });

  test('that comes together with a wake does not lose it', async () => {
    for (let round = 0; round < 100; round++) {
      const abort = new AbortController();
      const waiting = futex.waitAsync(words, 0, 0, { signal: abort.signal });
      if (round % 2 === 0) {
        await delay(1);
      }
      abort.abort();
      const woken = futex.wake(words, 0, 1);
      const [outcome] = await Promise.allSettled([waiting]);
      if (woken === 1) {
        expect(outcome).toEqual({ status: 'fulfilled', value: 'ok' });
      }
    }
  });

  test('leaves no listener behind', async () => {
    const abort = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = abort.signal;
    Object.assign(abort.signal, {
      addEventListener: (...args: Parameters<typeof addEventListener>) => {
        listeners++;
        addEventListener.apply(abort.signal, args);
      },
      removeEventListener: (...args: Parameters<typeof removeEventListener>) => {
        listeners--;
        removeEventListener.apply(abort.signal, args);
      },
    });
    await futex.waitAsync(words, 0, 0, { signal: abort.signal, timeout: 1 });
    expect(listeners).toBe(0);
  });
});

describe('memory that ends', () => {
  test('ends its waits', async () => {
    const mapping = raw.mmap(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
    const view = mapping.view(Int32Array);
    const waiting = futex.waitAsync(view, 0, 0);
    const elsewhere = futex.waitAsync(words, 1, 0);
    setTimeout(() => mapping.release(), 20);
    await expect(waiting).rejects.toThrow(code('ERR_INVALID_STATE'));
    await wakeAll(1, 1);
    expect(await elsewhere).toBe('ok');
  });

  test('is kept by a wait that nobody else keeps', async () => {
    const other = child(`
      import * as raw from 'iospace/raw';
      const { PROT_READ, PROT_WRITE, MAP_SHARED } = raw.constants;
      const begin = () => futex.waitAsync(raw.mmap(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED).view(Int32Array), 0, 0);
      const waiting = begin();
      for (let round = 0; round < 5; round++) { gc(); await delay(5); }
      console.log('ready');
      console.log(await waiting);`);
    await other.line();
    await wakeAll(1);
    expect(await other.line()).toBe('ok');
    await kill(other.process);
  });

  test('whose pages cannot be read any more is EFAULT, and the other waits go on', async () => {
    const mapping = raw.mmap(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
    const refused = expect(futex.waitAsync(mapping.view(Int32Array), 0, 0)).rejects.toThrow(code('EFAULT'));
    const elsewhere = futex.waitAsync(words, 1, 0);
    await delay(20);
    raw.mprotect(mapping, raw.constants.PROT_NONE);
    // The list changes, and all words are looked at again.
    await futex.waitAsync(words, 2, 0, { timeout: 1 });
    await refused;
    await wakeAll(1, 1);
    expect(await elsewhere).toBe('ok');
    mapping.release();
  });
});

describe('the end', () => {
  test('of a program waits for the wait, and comes after it', async () => {
    const other = child(
      `futex.waitAsync(words, 0, 0).then(() => console.log('over')); console.log('ready');`,
    );
    await other.line();
    await delay(100);
    expect(other.process.exitCode).toBeNull();
    await wakeAll(1);
    expect(await other.line()).toBe('over');
    expect(await other.ended).toEqual({ code: 0, signal: null, stderr: '' });
  });

  test.each([
    [
      'process.exit() does not',
      `setTimeout(() => process.exit(3), 30);`,
      { code: 3, signal: null, stderr: '' },
    ],
    ['an exit at once does not', `process.exit(3);`, { code: 3, signal: null, stderr: '' }],
    [
      'SIGTERM does not',
      `process.kill(process.pid, 'SIGTERM');`,
      { code: null, signal: 'SIGTERM', stderr: '' },
    ],
  ])('%s wait for it', async (_name, program, expected) => {
    const other = child(
      `for (let index = 0; index < 50; index++) futex.waitAsync(words, index, 0);\n${program}`,
    );
    expect(await other.ended).toEqual(expected);
  });

  test('of a worker ends its waits, and later wakes go to others', async () => {
    const waiting = futex.waitAsync(words, 0, 0);
    const ending = await worker(`
      for (let index = 0; index < 50; index++) futex.waitAsync(words, index, 0);
      say('ready');`);
    await delay(20);
    await ending.terminate();
    await until(() => futex.wake(words, 1) === 0, 'nobody sleeps on the second word');
    await wakeAll(1);
    expect(await waiting).toBe('ok');
  });

  test('of workers that alone have the addon, wherever they are', async () => {
    const program = `
      import { Worker } from 'node:worker_threads';
      const source = \`
        import { parentPort } from 'node:worker_threads';
        const { futex, posix } = await import('file://' + ${JSON.stringify(process.cwd())} + '/dist/shm/index.js');
        const words = posix.open(${JSON.stringify(memory.name)}).view(Int32Array);
        for (let index = 0; index < 20; index++) futex.waitAsync(words, index, 0);
        parentPort.postMessage('ready');\`;
      for (let round = 0; round < 20; round++) {
        const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(source)));
        await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
        await worker.terminate();
      }
      console.log('ended');`;
    // The library is unloaded with each of them.
    const other = child(program, [], '');
    expect(await other.line()).toBe('ended');
    expect(await other.ended).toEqual({ code: 0, signal: null, stderr: '' });
  });

  test('of workers in the middle of anything', async () => {
    for (let round = 0; round < 20; round++) {
      const ending = await worker(`
        say('ready');
        for (;;) {
          await Promise.all([
            futex.waitAsync(words, 0, 0, { timeout: 1 }),
            futex.waitAsync(words, 1, 0, { signal: AbortSignal.timeout(1) }).catch(() => {}),
          ]);
        }`);
      await delay(round % 7);
      await ending.terminate();
    }
    expect(await futex.waitAsync(words, 0, 0, { timeout: 1 })).toBe('timed-out');
  });
});

test.each<[unknown, unknown, unknown, string]>([
  [new Uint8Array(4), 0, undefined, 'ERR_INVALID_ARG_TYPE'],
  [new Int32Array(0), 0, undefined, 'ERR_INVALID_STATE'],
  [new Int32Array(1), 1, undefined, 'ERR_OUT_OF_RANGE'],
  [new Int32Array(1), 0, { timeout: -1 }, 'ERR_OUT_OF_RANGE'],
  [new Int32Array(1), 0, { signal: {} }, 'ERR_INVALID_ARG_TYPE'],
  [new Int32Array(1), 0, { ref: false }, 'ERR_INVALID_ARG_VALUE'],
])('waitAsync(%o, %o, 0, %o) is %s', async (bad, index, options, expected) => {
  await expect(futex.waitAsync(bad as Words, index as number, 0, options as WaitOptions)).rejects.toThrow(
    code(expected),
  );
});
