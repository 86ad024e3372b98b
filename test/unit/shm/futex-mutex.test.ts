/** A mutex of several processes, and what becomes of it when they die. */
import { closeSync, openSync, readdirSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { inspect } from 'node:util';
import { describe, expect, test, vi } from 'vitest';
import { binding } from '../../../lib/binding.js';
import * as raw from '../../../lib/raw.js';
import { futex, Mutex, type Words } from '../../../lib/shm/index.js';
import { aborted, child, code, delay, fd, kill, memory, until, words, worker } from './futex-support.js';

const make = (): Mutex => new Mutex(words, 0, fd);

/** A process that has the mutex. */
async function holder(then = ''): Promise<ReturnType<typeof child>> {
  const other = child(`
    const mutex = new Mutex(words, 0, fd);
    mutex.lock();
    console.log('locked');
    ${then || 'setInterval(() => {}, 1000);'}`);
  expect(await other.line()).toBe('locked');
  return other;
}

describe('a mutex', () => {
  test('is had by one at a time', () => {
    using first = make();
    using second = make();
    expect(first.tryLock()).toBe('locked');
    expect([first.held, second.held]).toEqual([true, false]);
    expect(second.tryLock()).toBeUndefined();
    expect(first.tryLock()).toBeUndefined();
    first.unlock();
    expect(second.tryLock()).toBe('locked');
    second.unlock();
  });

  test('one that was woken, came too late and gives up leaves the next wake to the others that sleep', async () => {
    const [first, late, quick] = [make(), make(), make()] as const;
    const ending = new AbortController();
    first.lock();
    const sleep = vi.spyOn(futex, 'waitAsync').mockImplementationOnce(async () => {
      first.unlock();
      quick.lock();
      ending.abort('enough');
      return 'ok';
    });
    await expect(late.lockAsync({ signal: ending.signal })).rejects.toThrow(aborted('enough'));
    sleep.mockRestore();
    const wake = vi.spyOn(binding(), 'futexWake');
    quick.unlock();
    expect(wake).toHaveBeenCalledOnce();
    wake.mockRestore();
    for (const mutex of [first, late, quick]) {
      mutex.close();
    }
  });

  test('that is held stays so, though nothing refers to it any more', async () => {
    const other = child(`
      (() => { new Mutex(words, 0, fd).lock(); })();
      for (let round = 0; round < 5; round++) {
        gc();
        await delay(1);
      }
      console.log('collected');
      setInterval(() => {}, 1000);`);
    expect(await other.line()).toBe('collected');
    using mutex = make();
    expect(mutex.tryLock()).toBeUndefined();
    await kill(other.process);
    expect(mutex.lock()).toBe('owner-died');
    mutex.unlock();
  });

  test('of other memory of the same file is another', () => {
    using first = make();
    using second = new Mutex(memory.view(Uint32Array), 1, fd);
    expect([first.lock(), second.lock()]).toEqual(['locked', 'locked']);
    second.unlock();
    first.unlock();
    expect([second.lock(), first.lock()]).toEqual(['locked', 'locked']);
  });

  test('is the same one wherever its word is mapped', () => {
    const { PROT_READ, PROT_WRITE, MAP_SHARED } = raw.constants;
    // At least one of any machine's.
    const page = 1 << 16;
    const file = raw.memfdCreate('iospace-mutex');
    raw.ftruncate(file, 2 * page);
    const whole = raw.mmap(file, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED);
    const half = raw.mmap(file, page, PROT_READ | PROT_WRITE, MAP_SHARED, page);
    using first = new Mutex(whole.view(Int32Array), page / 4, file);
    using second = new Mutex(half.view(Uint32Array), 0, file);
    raw.close(file);
    expect(first.tryLock()).toBe('locked');
    expect(second.tryLock()).toBeUndefined();
    first.close();
    second.close();
    whole.release();
    half.release();
  });

  test('keeps processes apart, and loses no count', async () => {
    const program = `
      const mutex = new Mutex(words, 0, fd);
      for (let round = 0; round < 500; round++) {
        mutex.lock();
        const count = words[1];
        if (round % 100 === 0) await delay(1);
        words[1] = count + 1;
        mutex.unlock();
      }
      for (let round = 0; round < 200; round++) {
        await mutex.lockAsync();
        words[1]++;
        mutex.unlock();
      }`;
    const others = [child(program), child(program), child(program)];
    for (const other of others) {
      expect(await other.ended).toEqual({ code: 0, signal: null, stderr: '' });
    }
    expect(words[1]).toBe(2100);
    using mutex = make();
    expect(mutex.tryLock()).toBe('locked');
  });

  test('is handed on when it is unlocked, long before a look at its holder', async () => {
    using mutex = make();
    mutex.lock();
    const other = child(`
      const mutex = new Mutex(words, 0, fd);
      for (let round = 0; round < 10; round++) {
        console.log(mutex.lock());
        mutex.unlock();
        while (Atomics.load(words, 2) === round) await delay(1);
      }`);
    const times: number[] = [];
    for (let round = 0; round < 10; round++) {
      await until(() => (Atomics.load(words, 0) & 3) === 2, 'it waits');
      await delay(2);
      const before = performance.now();
      mutex.unlock();
      expect(await other.line()).toBe('locked');
      times.push(performance.now() - before);
      await mutex.lockAsync();
      Atomics.store(words, 2, round + 1);
    }
    expect(times.sort((a, b) => a - b)[2]).toBeLessThan(30);
  });

  test('serves calls of the same object one after another', async () => {
    using mutex = make();
    const order: string[] = [];
    await Promise.all(
      [0, 1, 2].map(async (call) => {
        await mutex.lockAsync();
        order.push(`${call} in`);
        await delay(3);
        order.push(`${call} out`);
        mutex.unlock();
      }),
    );
    expect(order).toHaveLength(6);
    for (let call = 0; call < 6; call += 2) {
      expect(order[call + 1]).toBe(order[call]?.replace('in', 'out'));
    }
  });
});

describe('a holder', () => {
  test('that is killed is noticed by one who blocks', async () => {
    const other = await holder();
    using mutex = make();
    expect(mutex.tryLock()).toBeUndefined();
    const killed = child(`
      process.kill(${other.process.pid}, 'SIGSTOP');
      await delay(100);
      process.kill(${other.process.pid}, 'SIGKILL');`);
    expect(mutex.lock({ timeout: 20_000 })).toBe('owner-died');
    mutex.unlock();
    expect(mutex.lock()).toBe('locked');
    await killed.ended;
  });

  test('that is killed is noticed within 100 ms by one who waits', async () => {
    const other = await holder();
    using mutex = make();
    const waiting = mutex.lockAsync();
    await delay(20);
    await kill(other.process);
    const before = performance.now();
    expect(await waiting).toBe('owner-died');
    expect(performance.now() - before).toBeLessThan(1000);
  });

  test('that was killed long ago is noticed at once', async () => {
    await kill((await holder()).process);
    using mutex = make();
    expect(mutex.tryLock()).toBe('owner-died');
    mutex.unlock();
    expect(mutex.tryLock()).toBe('locked');
  });

  test.each([
    ['exits', 'process.exit(0);'],
    ['throws', `setTimeout(() => { throw new Error('broken'); });`],
    ['aborts', 'process.abort();'],
    ['has it collected', 'setTimeout(() => { gc(); setTimeout(() => {}, 50); });'],
    ['closes it', 'mutex.close(); mutex.close();'],
  ])('that %s is the same', async (_how, then) => {
    const other = await holder(then);
    using mutex = make();
    expect(await mutex.lockAsync({ timeout: 20_000 })).toBe('owner-died');
    await kill(other.process);
  });

  test('that stands still is waited for', async () => {
    const other = await holder(`setTimeout(() => { mutex.unlock(); }, 300);`);
    other.process.kill('SIGSTOP');
    using mutex = make();
    expect(() => mutex.lock({ timeout: 250 })).toThrow(code('ETIMEDOUT'));
    other.process.kill('SIGCONT');
    expect(mutex.lock({ timeout: 20_000 })).toBe('locked');
  });

  test('whose worker is terminated in the middle of anything does not keep it', async () => {
    using mutex = make();
    let deaths = 0;
    for (let round = 0; round < 20; round++) {
      const ending = await worker(`
        const mutex = new Mutex(words, 0, fd);
        say('ready');
        for (;;) { try { mutex.lock(); words[1]++; } finally { mutex.unlock(); } }`);
      await delay(round % 5);
      await ending.terminate();
      deaths += mutex.lock({ timeout: 10_000 }) === 'owner-died' ? 1 : 0;
      mutex.unlock();
    }
    expect(deaths).toBeLessThanOrEqual(20);
  });

  test('that is killed at any point keeps nobody out', async () => {
    using mutex = make();
    const program = `
      const mutex = new Mutex(words, 0, fd);
      console.log('ready');
      for (;;) { mutex.lock(); words[1]++; mutex.unlock(); }`;
    const steady = child(program);
    await steady.line();
    for (let round = 0; round < 10; round++) {
      const other = child(program);
      await other.line();
      await delay(round);
      await kill(other.process);
      mutex.lock({ timeout: 10_000 });
      mutex.unlock();
    }
    const before = Atomics.load(words, 1);
    await until(() => Atomics.load(words, 1) > before, 'the other one goes on');
  });
});

describe('one who waits', () => {
  test('and is killed leaves nothing behind', async () => {
    using mutex = make();
    mutex.lock();
    const dead = child(`console.log('ready'); new Mutex(words, 0, fd).lock();`);
    await dead.line();
    await until(() => (Atomics.load(words, 0) & 3) === 2, 'it waits');
    await kill(dead.process);
    mutex.unlock();
    expect(mutex.lock()).toBe('locked');
  });

  test('in a worker that is terminated lets it end within 100 ms', async () => {
    using mutex = make();
    mutex.lock();
    const waiting = await worker(`say('ready'); new Mutex(words, 0, fd).lock();`);
    await until(() => (Atomics.load(words, 0) & 3) === 2, 'it waits');
    const before = performance.now();
    await waiting.terminate();
    expect(performance.now() - before).toBeLessThan(1000);
  });

  test('has a time and a signal', async () => {
    const other = await holder();
    using mutex = make();
    expect(() => mutex.lock({ timeout: 0 })).toThrow(code('ETIMEDOUT'));
    expect(() => mutex.lock({ timeout: 30 })).toThrow(code('ETIMEDOUT'));
    await expect(mutex.lockAsync({ timeout: 30 })).rejects.toThrow(
      expect.objectContaining({ code: 'ETIMEDOUT', syscall: 'Mutex.lockAsync' }),
    );
    const abort = new AbortController();
    setTimeout(() => abort.abort('late'), 30);
    await expect(mutex.lockAsync({ signal: abort.signal })).rejects.toThrow(aborted('late'));
    await expect(mutex.lockAsync({ signal: abort.signal })).rejects.toThrow(aborted('late'));
    expect(mutex.held).toBe(false);
    await kill(other.process);
  });
});

describe('a file that cannot be had', () => {
  test('of a descriptor that is not open, is EBADF, and leaves the word alone', () => {
    expect(() => new Mutex(words, 0, 2 ** 30)).toThrow(
      expect.objectContaining({ code: 'EBADF', message: expect.stringContaining('1073741824 is not open') }),
    );
    expect(words[0]).toBe(0);
  });
});

describe('what is no mutex', () => {
  test('is EBADMSG', () => {
    for (const bad of [1, 2, 3, -1, 7]) {
      words[0] = bad;
      expect(make).toThrow(code('EBADMSG'));
      expect(words[0]).toBe(bad);
    }
  });

  test('any more is EBADMSG, and nobody hangs', async () => {
    using mutex = make();
    using second = make();
    const number = Atomics.load(words, 0);
    for (const bad of [0, -1, number ^ 0x100, number | 3]) {
      words[0] = bad;
      expect(() => mutex.tryLock()).toThrow(code('EBADMSG'));
      expect(() => mutex.lock()).toThrow(code('EBADMSG'));
      await expect(mutex.lockAsync()).rejects.toThrow(code('EBADMSG'));
    }
    words[0] = number;
    mutex.lock();
    const waiting = expect(second.lockAsync()).rejects.toThrow(code('EBADMSG'));
    await delay(10);
    Atomics.store(words, 0, 12345);
    futex.wake(words, 0);
    await waiting;
  });

  test('because its memory was given back is ERR_INVALID_STATE, and the lock can still be closed', () => {
    const { PROT_READ, PROT_WRITE, MAP_SHARED } = raw.constants;
    const mapping = raw.mmap(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
    const lost = new Mutex(mapping.view(Int32Array), 0, fd);
    lost.lock();
    mapping.release();
    expect(() => lost.unlock()).toThrow(code('ERR_INVALID_STATE'));
    expect(() => lost.tryLock()).toThrow(code('ERR_INVALID_STATE'));
    using mutex = make();
    expect(mutex.tryLock()).toBeUndefined();
    lost.close();
    expect(mutex.tryLock()).toBe('owner-died');
  });

  test('because it was closed is ERR_INVALID_STATE', async () => {
    const mutex = make();
    const open = readdirSync('/proc/self/fd').length;
    mutex.close();
    mutex.close();
    expect(readdirSync('/proc/self/fd')).toHaveLength(open - 1);
    expect(mutex.closed).toBe(true);
    expect(() => mutex.tryLock()).toThrow(code('ERR_INVALID_STATE'));
    expect(() => mutex.lock()).toThrow(code('ERR_INVALID_STATE'));
    expect(() => mutex.unlock()).toThrow(code('ERR_INVALID_STATE'));
    await expect(mutex.lockAsync()).rejects.toThrow(code('ERR_INVALID_STATE'));
  });
});

test('who does not have it cannot unlock it, and who has it cannot block for it', () => {
  using mutex = make();
  expect(() => mutex.unlock()).toThrow(code('ERR_INVALID_STATE'));
  mutex.lock();
  expect(() => mutex.lock({ timeout: 10 })).toThrow(code('ERR_INVALID_STATE'));
  mutex.unlock();
  expect(() => mutex.unlock()).toThrow(code('ERR_INVALID_STATE'));
  expect(inspect(mutex)).toBe('Mutex { held: false, closed: false }');
});

test.each<[unknown, unknown, unknown, string]>([
  [new Uint8Array(4), 0, 0, 'ERR_INVALID_ARG_TYPE'],
  [new Int32Array(0), 0, 0, 'ERR_INVALID_STATE'],
  [new Int32Array(1), 1, 0, 'ERR_OUT_OF_RANGE'],
  [new Int32Array(1), 0, -1, 'ERR_OUT_OF_RANGE'],
  [new Int32Array(1), 0, '/dev/null', 'ERR_INVALID_ARG_TYPE'],
  [new Int32Array(1), 0, 2 ** 31 - 1, 'EBADF'],
])('new Mutex(%o, %o, %o) is %s', (bad, index, file, expected) => {
  expect(() => new Mutex(bad as Words, index as number, file as number)).toThrow(code(expected));
});

test('a file that cannot be written is no place for its lock', () => {
  const directory = openSync('/tmp', 'r');
  try {
    expect(() => new Mutex(words, 0, directory)).toThrow(code('EISDIR'));
  } finally {
    closeSync(directory);
  }
});
