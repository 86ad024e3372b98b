/** Readiness of descriptors, told by the event loop. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import type { NativePoller } from '../../lib/binding.js';
import { memfd, native, run, said, turns } from './support.js';

const { EFD_NONBLOCK = 0 } = native.constants;

const one = new Uint8Array(new BigUint64Array([1n]).buffer);

/** An eventfd with a poller that empties it. */
function watched(onReady: () => void = () => {}): { fd: number; poller: NativePoller; drain: () => boolean } {
  const fd = native.eventfd(0, EFD_NONBLOCK);
  const counts = new BigUint64Array(1);
  const drain = () => native.deviceReadCounts(fd, counts);
  const poller = new native.Poller(fd, () => {
    drain();
    onReady();
  });
  return { fd, poller, drain };
}

describe('a poller', () => {
  test('calls back each time the descriptor is readable', async () => {
    const onReady = vi.fn();
    const { fd, poller } = watched(onReady);
    poller.start();
    for (let count = 1; count <= 3; count++) {
      writeSync(fd, one);
      await vi.waitFor(() => expect(onReady).toHaveBeenCalledTimes(count));
    }
    await turns(3);
    expect(onReady).toHaveBeenCalledTimes(3);
    poller.close();
    native.close(fd);
  });

  test('is silent before start(), after stop() and after close()', async () => {
    const onReady = vi.fn();
    const { fd, poller, drain } = watched(onReady);
    writeSync(fd, one);
    await turns(3);
    poller.start();
    poller.stop();
    poller.stop();
    await turns(3);
    poller.start();
    poller.close();
    await turns(3);
    expect(onReady).not.toHaveBeenCalled();
    expect(drain()).toBe(true);
    native.close(fd);
  });

  test('can be stopped and closed from its own callback', async () => {
    const done = vi.fn();
    const { fd, poller } = watched(() => {
      poller.stop();
      poller.close();
      done();
    });
    poller.start();
    writeSync(fd, one);
    await vi.waitFor(() => expect(done).toHaveBeenCalledTimes(1));
    native.close(fd);
  });

  test('calls back when the other end of a pipe hangs up', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'iospace-'));
    const path = join(directory, 'fifo');
    execFileSync('mkfifo', [path]);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const writer = openSync(path, constants.O_WRONLY);
    const read: number[] = [];
    const poller = new native.Poller(reader, () => {
      read.push(readSync(reader, Buffer.alloc(16)));
      if (read.at(-1) === 0) poller.stop();
    });
    poller.start();
    writeSync(writer, 'hello');
    await vi.waitFor(() => expect(read).toEqual([5]));
    closeSync(writer);
    await vi.waitFor(() => expect(read).toEqual([5, 0]));
    poller.close();
    closeSync(reader);
    rmSync(directory, { recursive: true });
  });

  test('lets microtasks run after each call', async () => {
    const order: string[] = [];
    const { fd, poller } = watched(() => {
      Promise.resolve().then(() => order.push('microtask'));
      process.nextTick(() => order.push('tick'));
      setImmediate(() => order.push('immediate'));
    });
    poller.start();
    writeSync(fd, one);
    await vi.waitFor(() => expect(order).toEqual(['tick', 'microtask', 'immediate']));
    poller.close();
    native.close(fd);
  });

  test('does not mind that its descriptor is closed, or watched twice', async () => {
    const first = vi.fn();
    const { fd, poller } = watched(first);
    const second = vi.fn();
    const other = new native.Poller(fd, () => {
      second();
      other.stop();
    });
    poller.start();
    other.start();
    writeSync(fd, one);
    await vi.waitFor(() => expect(first.mock.calls.length + second.mock.calls.length).toBeGreaterThan(0));
    native.close(fd);
    await turns(3);
    poller.close();
    other.close();
    poller.close();
  });

  test.each(['start', 'stop', 'ref', 'unref'] as const)('throws from %s() once closed', (method) => {
    const { fd, poller } = watched();
    poller.close();
    expect(() => poller[method]()).toThrow(expect.objectContaining({ code: 'ERR_INVALID_STATE' }));
    native.close(fd);
  });

  test('cannot watch what does not tell', () => {
    expect(() => new native.Poller(memfd(1), () => {})).toThrow(
      expect.objectContaining({ code: 'EPERM', syscall: 'epoll_ctl' }),
    );
    expect(() => new native.Poller(2 ** 31 - 1, () => {})).toThrow(
      expect.objectContaining({ code: 'EBADF' }),
    );
  });
});

describe('the process of a poller', () => {
  const make = `
    const fd = native.eventfd(0, 0);
    const poller = new native.Poller(fd, () => { console.log('ready'); poller.close(); });
  `;

  test.each([
    ['it is not started', make],
    ['it is not referenced', `${make} poller.start(); poller.unref();`],
    ['it stops', `${make} poller.start(); setTimeout(() => poller.stop(), 20);`],
    ['it closes', `${make} poller.start(); setTimeout(() => poller.close(), 20);`],
  ])('ends if %s', async (_name, program) => {
    expect(await run(program)).toEqual(said(''));
  });

  test('stays while it is started, though nothing else holds it', async () => {
    // A program of its own says when: a timer or a worker here would keep the process itself.
    const program = `
      const { spawn } = require('child_process');
      const fd = native.eventfd(0, 0);
      // The callback does not hold it either.
      new native.Poller(fd, () => { console.log('ready'); process.exit(); }).start();
      await collect();
      spawn('sh', ['-c', 'sleep 0.2; printf "\\\\1\\\\0\\\\0\\\\0\\\\0\\\\0\\\\0\\\\0" >&3'], { stdio: ['ignore', 'ignore', 'ignore', fd] }).unref();
    `;
    expect(await run(`(async () => { ${program} })();`)).toEqual(said('ready\n'));
  });

  test('hears of what its callback throws', async () => {
    const ended = await run(`
      const fd = native.eventfd(1, 0);
      const poller = new native.Poller(fd, () => { throw new Error('from the callback'); });
      process.on('uncaughtException', (error) => { console.log(error.message); poller.close(); });
      poller.start();
    `);
    expect(ended).toEqual(said('from the callback\n'));
  });

  test.each(['null', 'undefined', '1'])('hears of a thrown %s', async (thrown) => {
    const ended = await run(`
      const poller = new native.Poller(native.eventfd(1, 0), () => { throw ${thrown}; });
      process.on('uncaughtException', (error) => { console.log(error); poller.close(); });
      poller.start();
    `);
    expect(ended).toEqual(said(`${thrown}\n`));
  });

  test('may collect one that it has forgotten', async () => {
    const ended = await run(`
      for (let index = 0; index < 100; index++) new native.Poller(native.eventfd(0, 0), () => {});
      collect().then(() => console.log(require('fs').readdirSync('/proc/self/fd').length < 150));
    `);
    expect(ended).toEqual(said('true\n'));
  });
});
