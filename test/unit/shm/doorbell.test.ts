/** Rings of other processes in an event loop. */
import { closeSync, openSync, readdirSync, readlinkSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as raw from '../../../lib/raw.js';
import { Doorbell, fds, type WaitOptions } from '../../../lib/shm/index.js';
import { aborted, type Child, child, code, delay, kill, until, worker } from './futex-support.js';

let bell: Doorbell;
let sockets = 0;

beforeEach(() => {
  bell = Doorbell.create();
});
afterEach(() => bell.close());

/** A process that has the doorbell. */
async function other(program: string): Promise<Child> {
  const path = join(tmpdir(), `iospace-doorbell-${process.pid}-${sockets++}`);
  const before = `
    import { closeSync, readdirSync, readlinkSync, writeSync } from 'node:fs';
    import { setTimeout as delay } from 'node:timers/promises';
    import { Doorbell, fds } from 'iospace/shm';
    const [received] = await fds.receive(${JSON.stringify(path)});
    const bell = Doorbell.open(received);
    closeSync(received);
  `;
  const started = child(program, [], before);
  await fds.send(path, [bell.fd], { timeout: 20_000 });
  return started;
}

const ok = { code: 0, signal: null, stderr: '' };

/** How many eventfds this process has open. */
const eventfds = (): number =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
    } catch {
      return false;
    }
  }).length;

describe('a doorbell', () => {
  test('tells how often it has rung since the last wait', async () => {
    bell.ring();
    bell.ring(5);
    expect(await bell.wait()).toBe(6);
    const waiting = bell.wait();
    await delay(5);
    bell.ring();
    expect(await waiting).toBe(1);
    await expect(bell.wait({ timeout: 5 })).rejects.toThrow(code('ETIMEDOUT'));
  });

  test('wakes who waits in another process, and the other way round', async () => {
    using back = Doorbell.create();
    const path = join(tmpdir(), `iospace-doorbell-${process.pid}-back`);
    const echo = await other(`
      const [descriptor] = await fds.receive(${JSON.stringify(path)});
      const back = Doorbell.open(descriptor);
      for (let round = 0; round < 200; round++) back.ring(await bell.wait());
    `);
    await fds.send(path, [back.fd]);
    let turns = 0;
    const turning = setInterval(() => turns++, 1);
    for (let round = 1; round <= 200; round++) {
      bell.ring(round);
      expect(await back.wait()).toBe(round);
    }
    clearInterval(turning);
    expect(turns).toBeGreaterThan(0);
    expect(await echo.ended).toEqual(ok);
  });

  test('loses nothing between two waits, however fast another process rings', async () => {
    const ringing = await other(`for (let ring = 0; ring < 20_000; ring++) bell.ring(ring % 3 + 1);`);
    let sum = 0;
    let rounds = 0;
    for (const all = 39_999; sum < all; rounds++) {
      sum += await bell.wait();
      if (rounds % 5 === 0) {
        await turn();
      }
    }
    expect(sum).toBe(39_999);
    expect(await ringing.ended).toEqual(ok);
    await expect(bell.wait({ timeout: 0 })).rejects.toThrow(code('ETIMEDOUT'));
  });

  test('keeps what a process has rung that is killed', async () => {
    const dead = await other(`bell.ring(7); process.kill(process.pid, 'SIGKILL');`);
    expect((await dead.ended).signal).toBe('SIGKILL');
    expect(await bell.wait()).toBe(7);
  });

  test('is one beside others that leave or die waiting', async () => {
    const dead = await other(`console.log('ready'); await bell.wait();`);
    await dead.line();
    await delay(20);
    await kill(dead.process);
    const waiting = bell.wait();
    bell.ring();
    expect(await waiting).toBe(1);
  });

  test('of two processes each ring wakes one, and all are told', async () => {
    const rings = 2000;
    const taking = await other(`
      let sum = 0;
      console.log('ready');
      for await (const count of bell) { sum += count; console.log(sum); }
    `);
    await taking.line();
    let here = 0;
    let there = 0;
    void (async () => {
      for (;;) {
        there = Number(await taking.line());
      }
    })().catch(() => {});
    void (async () => {
      for await (const count of bell) {
        here += count;
      }
    })();
    for (let ring = 0; ring < rings; ring++) {
      bell.ring();
      if (ring % 10 === 0) {
        await turn();
      }
    }
    await until(() => here + there === rings, 'all were told');
    await kill(taking.process);
  });

  test('tells all who wait in one object, and each iteration', async () => {
    const told: string[] = [];
    const iterate = async (name: string) => {
      for await (const count of bell) {
        told.push(`${name} ${count}`);
        // The second rings come while the slower one has not come back.
        await delay(name === 'slow' ? 50 : 0);
      }
    };
    const iterations = [iterate('fast'), iterate('slow')];
    const waits = [bell.wait(), bell.wait()];
    bell.ring(3);
    expect(await Promise.all(waits)).toEqual([3, 3]);
    await delay(10);
    bell.ring(4);
    await until(() => told.length === 4, 'both were told twice');
    bell.close();
    await Promise.all(iterations);
    expect(told.sort()).toEqual(['fast 3', 'fast 4', 'slow 3', 'slow 4']);
  });

  test('iterates again where it was left', async () => {
    for (let round = 1; round <= 3; round++) {
      bell.ring(round);
      for await (const count of bell) {
        expect(count).toBe(round);
        bell.ring(10);
        break;
      }
      expect(await bell.wait()).toBe(10);
    }
  });
});

describe('a wait', () => {
  test('ends by its signal, whose reason is the cause, and loses no ring', async () => {
    await expect(bell.wait({ signal: AbortSignal.abort('early') })).rejects.toThrow(aborted('early'));
    const abort = new AbortController();
    const waiting = bell.wait({ signal: abort.signal });
    setTimeout(() => abort.abort('late'), 5);
    await expect(waiting).rejects.toThrow(aborted('late'));

    const together = new AbortController();
    const refused = expect(bell.wait({ signal: together.signal })).rejects.toThrow(aborted('now'));
    bell.ring();
    together.abort('now');
    await refused;
    expect(await bell.wait()).toBe(1);
  });

  test('leaves others waiting when it is aborted', async () => {
    const abort = new AbortController();
    const refused = expect(bell.wait({ signal: abort.signal })).rejects.toThrow(code('ABORT_ERR'));
    const waiting = bell.wait();
    abort.abort();
    await refused;
    await delay(5);
    bell.ring();
    expect(await waiting).toBe(1);
  });

  test('leaves no listener behind', async () => {
    const { signal } = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    Object.assign(signal, {
      addEventListener: (...args: Parameters<typeof addEventListener>) => {
        listeners++;
        addEventListener.apply(signal, args);
      },
      removeEventListener: (...args: Parameters<typeof removeEventListener>) => {
        listeners--;
        removeEventListener.apply(signal, args);
      },
    });
    await expect(bell.wait({ signal, timeout: 1 })).rejects.toThrow(code('ETIMEDOUT'));
    bell.ring();
    await bell.wait({ signal });
    expect(listeners).toBe(0);
  });

  test('has a time', async () => {
    await expect(bell.wait({ timeout: 0 })).rejects.toThrow(
      expect.objectContaining({
        code: 'ETIMEDOUT',
        syscall: 'Doorbell.wait',
        message: 'ETIMEDOUT: operation timed out, Doorbell.wait: not rung within 0 ms',
      }),
    );
    const before = performance.now();
    await expect(bell.wait({ timeout: 30 })).rejects.toThrow(code('ETIMEDOUT'));
    expect(performance.now() - before).toBeGreaterThanOrEqual(29);
  });

  test('is told of what rang in time, also where the event loop comes late', async () => {
    bell.ring();
    expect(await bell.wait({ timeout: 0 })).toBe(1);
    const late = bell.wait({ timeout: 2 });
    const beside = bell.wait();
    bell.ring(2);
    for (const end = performance.now() + 20; performance.now() < end; );
    expect(await Promise.all([late, beside])).toEqual([2, 2]);
  });

  test('goes on where another process was faster', async () => {
    const waiting = bell.wait();
    for (let round = 0; round < 100; round++) {
      bell.ring();
      readSync(bell.fd, new Uint8Array(8));
      await turn();
    }
    bell.ring(2);
    expect(await waiting).toBe(2);
  });
});

describe('the end', () => {
  test('rejects those who wait by ECANCELED, ends iterations, and all else is ERR_INVALID_STATE', async () => {
    const iteration = bell[Symbol.asyncIterator]();
    const next = iteration.next();
    const refused = expect(bell.wait()).rejects.toThrow(
      expect.objectContaining({ code: 'ECANCELED', syscall: 'Doorbell.wait' }),
    );
    const { fd } = bell;
    bell.close();
    bell.close();
    await refused;
    expect(await next).toEqual({ done: true, value: undefined });
    expect(await iteration.next()).toEqual({ done: true, value: undefined });
    await expect(bell.wait()).rejects.toThrow(code('ERR_INVALID_STATE'));
    await expect(bell[Symbol.asyncIterator]().next()).rejects.toThrow(code('ERR_INVALID_STATE'));
    expect(() => bell.ring()).toThrow(code('ERR_INVALID_STATE'));
    expect(() => bell.fd).toThrow(code('ERR_INVALID_STATE'));
    expect(() => Doorbell.open(fd)).toThrow(code('EBADF'));
  });

  test('between two waits of an iteration ends it', async () => {
    bell.ring();
    for await (const count of bell) {
      expect(count).toBe(1);
      bell.close();
    }
  });

  test('of a program waits for the wait, and for nothing else', async () => {
    const waiting = await other(`
      bell.wait().then((count) => console.log(count));
      console.log('ready');
    `);
    await waiting.line();
    await delay(50);
    expect(waiting.process.exitCode).toBeNull();
    bell.ring(3);
    expect(await waiting.line()).toBe('3');
    // The doorbell is open, and nobody waits.
    expect(await waiting.ended).toEqual(ok);
  });

  test.each([
    ['process.exit()', 'process.exit(3);', { code: 3, signal: null, stderr: '' }],
    [
      'SIGTERM',
      `process.kill(process.pid, 'SIGTERM'); await delay(5000);`,
      { code: null, signal: 'SIGTERM', stderr: '' },
    ],
  ])('by %s does not wait for it', async (_name, end, expected) => {
    const ending = await other(`void bell.wait(); bell.ring(); void bell.wait(); ${end}`);
    expect(await ending.ended).toEqual(expected);
  });

  test('of a worker closes its doorbells, in the middle of anything', async () => {
    const before = eventfds();
    for (let round = 0; round < 15; round++) {
      const ending = await worker(`
        const { Doorbell } = await import('file://' + process.cwd() + '/dist/shm/index.js');
        const bell = Doorbell.create();
        const shared = Doorbell.open(${bell.fd});
        void shared.wait();
        say('ready');
        for (;;) {
          bell.ring();
          await bell.wait();
          await bell.wait({ timeout: 1 }).catch(() => {});
        }`);
      await delay(round % 5);
      await ending.terminate();
    }
    // Those of libuv's own loops are closed when a thread has ended.
    await until(() => eventfds() <= before, 'the eventfds are closed');
    bell.ring();
    expect(await bell.wait()).toBe(1);
  });

  test('leaves no descriptor behind, nor does what fails', () => {
    const before = readdirSync('/proc/self/fd').length;
    const file = openSync('/dev/null', 'r');
    for (let round = 0; round < 500; round++) {
      using made = Doorbell.create();
      using _opened = Doorbell.open(made.fd);
      expect(() => Doorbell.open(file)).toThrow(code('EINVAL'));
    }
    closeSync(file);
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  test('of one that is merely forgotten comes by itself, but not while somebody waits', async () => {
    const forgetting = child(
      `
      import { readdirSync } from 'node:fs';
      import { setTimeout as delay } from 'node:timers/promises';
      import { Doorbell } from 'iospace/shm';
      const count = () => readdirSync('/proc/self/fd').length;
      const collected = async () => { for (let round = 0; round < 10; round++) { gc(); await delay(1); } };
      const kept = Doorbell.create();
      const wait = async () => { const bell = Doorbell.create(); bell.ring(); await bell.wait(); };
      await wait();
      await collected();
      const before = count();
      for (let round = 0; round < 20; round++) await wait();
      await collected();
      console.log(count() - before);
      const waiting = (() => Doorbell.open(kept.fd).wait())();
      await collected();
      kept.ring(4);
      console.log(await waiting);`,
      [],
      '',
    );
    expect(await forgetting.line()).toBe('0');
    expect(await forgetting.line()).toBe('4');
    expect(await forgetting.ended).toEqual(ok);
  });
});

describe('foreign programs', () => {
  test('that fill the counter make ring() EAGAIN, and lose nothing', async () => {
    const filling = await other(`writeSync(bell.fd, new BigUint64Array([2n ** 64n - 3n])); bell.ring();`);
    expect(await filling.ended).toEqual(ok);
    expect(() => bell.ring()).toThrow(
      expect.objectContaining({
        code: 'EAGAIN',
        syscall: 'Doorbell.ring',
        message: expect.stringContaining('its counter is full'),
      }),
    );
    expect(await bell.wait()).toBe(2 ** 64);
    // Exact again.
    bell.ring(3);
    expect(await bell.wait()).toBe(3);
    bell.ring(Number.MAX_SAFE_INTEGER);
    expect(await bell.wait()).toBe(Number.MAX_SAFE_INTEGER);
  });

  test('that made the eventfd may have it blocking: ring() and wait() never block', async () => {
    const foreign = raw.eventfd(2, 0);
    using opened = Doorbell.open(foreign);
    expect(await opened.wait()).toBe(2);
    expect(() => readSync(foreign, new Uint8Array(8))).toThrow(code('EAGAIN'));
    writeSync(foreign, new BigUint64Array([2n ** 64n - 2n]));
    expect(() => opened.ring()).toThrow(code('EAGAIN'));
    closeSync(foreign);
    expect(await opened.wait()).toBe(2 ** 64);
  });

  test('that made a semaphore of it tell each ring alone', async () => {
    const foreign = raw.eventfd(0, raw.constants.EFD_SEMAPHORE);
    using opened = Doorbell.open(foreign);
    closeSync(foreign);
    opened.ring(3);
    expect([await opened.wait(), await opened.wait(), await opened.wait()]).toEqual([1, 1, 1]);
    await expect(opened.wait({ timeout: 0 })).rejects.toThrow(code('ETIMEDOUT'));
  });

  test.each<[string, () => number]>([
    ['a file', () => openSync('/dev/null', 'r+')],
    ['a memfd', () => raw.memfdCreate('[eventfd]')],
    ['a file of that name', () => openSync(join(tmpdir(), 'anon_inode:[eventfd]'), 'w')],
  ])('%s is EINVAL', (_name, make) => {
    const fd = make();
    try {
      expect(() => Doorbell.open(fd)).toThrow(
        expect.objectContaining({
          code: 'EINVAL',
          message: `EINVAL: invalid argument, Doorbell.open: the descriptor ${fd} is no eventfd`,
        }),
      );
    } finally {
      closeSync(fd);
      rmSync(join(tmpdir(), 'anon_inode:[eventfd]'), { force: true });
    }
  });
});

test('too many open files is EMFILE, and leaves the rest as it was', async () => {
  const limited = child(
    `
    import { Doorbell } from 'iospace/shm';
    Doorbell.create().close();
    const bells = [];
    let failed;
    try { for (;;) bells.push(Doorbell.create()); } catch (error) { failed = error; }
    console.log(failed.code);
    bells.pop().close();
    const bell = Doorbell.create();
    bell.ring();
    console.log(await bell.wait());`,
    ['prlimit', '--nofile=100', '--'],
    '',
  );
  expect(await limited.line()).toBe('EMFILE');
  expect(await limited.line()).toBe('1');
  expect(await limited.ended).toEqual(ok);
});

test.each<[unknown, string]>([
  [-1, 'ERR_OUT_OF_RANGE'],
  ['4', 'ERR_INVALID_ARG_TYPE'],
  [undefined, 'ERR_INVALID_ARG_TYPE'],
  [2 ** 20, 'EBADF'],
])('Doorbell.open(%o) is %s', (fd, expected) => {
  expect(() => Doorbell.open(fd as number)).toThrow(code(expected));
});

test.each([0, -1, 2 ** 53, 0.5])('%d rings are out of range', (count) => {
  expect(() => bell.ring(count)).toThrow(code('ERR_OUT_OF_RANGE'));
});

test.each<[unknown, string]>([
  [{ timeout: -1 }, 'ERR_OUT_OF_RANGE'],
  [{ signal: 5 }, 'ERR_INVALID_ARG_TYPE'],
  [{ count: 1 }, 'ERR_INVALID_ARG_VALUE'],
])('the options %o are %s', async (options, expected) => {
  await expect(bell.wait(options as WaitOptions)).rejects.toThrow(code(expected));
});
