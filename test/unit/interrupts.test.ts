import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { Interrupts } from '../../lib/device/interrupts.js';
import { FakeDevice, type FakeOptions } from './fake-device.js';

function start(options?: FakeOptions): { device: FakeDevice; interrupts: Interrupts } {
  const device = new FakeDevice(options);
  return { device, interrupts: new Interrupts(device.native, 7, device.lines.length) };
}

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

/** `'pending'`, or what a promise has come to. */
async function state(promise: Promise<unknown>): Promise<unknown> {
  await turn();
  await turn();
  return Promise.race([promise, Promise.resolve('pending')]);
}

/** A clock that stands still unless it is told to go on, by so many milliseconds. */
function stopClock(): Disposable & { advance(milliseconds: number): void } {
  vi.useFakeTimers({ toFake: ['performance'] });
  return {
    advance: (milliseconds) => vi.advanceTimersByTime(milliseconds),
    [Symbol.dispose]: () => vi.useRealTimers(),
  };
}

describe('a wait', () => {
  test('resolves when the device interrupts', async () => {
    const { device, interrupts } = start();
    const event = interrupts.wait();
    expect(await state(event)).toBe('pending');
    device.fire();
    await expect(event).resolves.toEqual({ count: 1n, missed: 0n, vector: 0 });
  });

  test('resolves at once with what came before it', async () => {
    const { device, interrupts } = start();
    device.fire();
    await expect(interrupts.wait()).resolves.toEqual({ count: 1n, missed: 0n, vector: 0 });
    expect(device.pollers).toHaveLength(0);
  });

  test('loses nothing between two calls, and counts what came together', async () => {
    const { device, interrupts } = start();
    let seen = 0n;
    let events = 0;
    for (let round = 0; round < 100; round++) {
      for (let n = 0; n <= round % 4; n++) {
        device.fire();
      }
      const { count, missed } = await interrupts.wait();
      seen += 1n + missed;
      events += 1;
      expect(count).toBe(seen);
    }
    expect(seen).toBe(250n);
    expect(events).toBe(100);
  });

  test('is told of an event once', async () => {
    const { device, interrupts } = start();
    device.fire();
    await interrupts.wait();
    expect(await state(interrupts.wait())).toBe('pending');
  });

  test('resolves together with all others', async () => {
    const { device, interrupts } = start();
    const waits = [interrupts.wait(), interrupts.wait(), interrupts.wait()];
    await turn();
    device.fire();
    expect(await Promise.all(waits)).toEqual(Array(3).fill({ count: 1n, missed: 0n, vector: 0 }));
  });

  test('knows its vector, by number and by name', async () => {
    const { device, interrupts } = start({ lines: [{ name: 'tx' }, { name: 'rx' }] });
    const first = interrupts.wait({ vector: 0 });
    const byNumber = interrupts.wait({ vector: 1 });
    const byName = interrupts.wait({ vector: 'rx' });
    device.fire(1);
    expect(await byNumber).toEqual({ count: 1n, missed: 0n, vector: 1 });
    expect(await byName).toEqual({ count: 1n, missed: 0n, vector: 1 });
    expect(await state(first)).toBe('pending');
    device.fire(0);
    expect(await first).toEqual({ count: 1n, missed: 0n, vector: 0 });
  });

  test('is settled by counts that another call has read', async () => {
    const { device, interrupts } = start({ lines: [{}, {}] });
    const first = interrupts.wait({ vector: 0 });
    await turn();
    device.fire(0);
    void interrupts.wait({ vector: 1 }).catch(() => undefined);
    expect(await state(first)).toEqual({ count: 1n, missed: 0n, vector: 0 });
    interrupts.close();
  });

  test('watches the descriptor only while somebody waits', async () => {
    const { device, interrupts } = start();
    const event = interrupts.wait();
    expect(device.watching).toBe(true);
    device.fire();
    await event;
    expect(device.watching).toBe(false);
    expect(device.pollers).toHaveLength(1);
  });

  test('is referenced unless its device is not', async () => {
    const { device, interrupts } = start();
    interrupts.unref();
    void interrupts.wait().catch(() => undefined);
    expect(device.pollers[0]?.referenced).toBe(false);
    interrupts.ref();
    expect(device.pollers[0]?.referenced).toBe(true);
    interrupts.close();
  });
});

describe('a wait ends with', () => {
  test('ETIMEDOUT', async () => {
    const { device, interrupts } = start();
    // The timer does not keep the process; the poller, which does, is a fake here.
    const [result] = await Promise.allSettled([interrupts.wait({ timeout: 5 }), delay(50)]);
    expect(result).toMatchObject({ reason: { code: 'ETIMEDOUT', syscall: 'waitForInterrupt', errno: -110 } });
    expect(device.watching).toBe(false);
  });

  test('an AbortError that carries the reason', async () => {
    const { device, interrupts } = start();
    const controller = new AbortController();
    const wait = interrupts.wait({ signal: controller.signal });
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(wait).rejects.toMatchObject({ name: 'AbortError', code: 'ABORT_ERR', cause: reason });
    expect(device.watching).toBe(false);
  });

  test('an AbortError where the signal has aborted before, even if an interrupt is there', async () => {
    const { device, interrupts } = start();
    device.fire();
    await expect(interrupts.wait({ signal: AbortSignal.abort() })).rejects.toEqual(code('ABORT_ERR'));
    expect(await interrupts.wait()).toMatchObject({ count: 1n });
  });

  test('ECANCELED when the device is closed', async () => {
    const { interrupts } = start();
    const waits = Promise.allSettled([interrupts.wait(), interrupts.wait({ timeout: 1000 })]);
    interrupts.close();
    expect(await waits).toMatchObject([{ reason: { code: 'ECANCELED' } }, { reason: { code: 'ECANCELED' } }]);
  });

  test('ENODEV when the device is gone, and so does the next', async () => {
    const { device, interrupts } = start();
    const waits = Promise.allSettled([interrupts.wait(), interrupts.wait()]);
    await turn();
    device.unbind();
    expect(await waits).toMatchObject([{ reason: { code: 'ENODEV' } }, { reason: { code: 'ENODEV' } }]);
    expect(device.watching).toBe(false);
    await expect(interrupts.wait()).rejects.toEqual(code('ENODEV'));
  });

  test('EOPNOTSUPP where the device has no interrupt', async () => {
    const { interrupts } = start({ lines: [] });
    await expect(interrupts.wait()).rejects.toEqual(code('EOPNOTSUPP'));
    expect(() => interrupts.iterate()).toThrow(code('EOPNOTSUPP'));
  });

  test('ENOENT for a vector that the device does not have', async () => {
    const { interrupts } = start({ lines: [{ name: 'tx' }] });
    await expect(interrupts.wait({ vector: 1 })).rejects.toEqual(code('ENOENT'));
    await expect(interrupts.wait({ vector: 'rx' })).rejects.toEqual(code('ENOENT'));
  });

  test.each([
    [{ timeout: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ timeout: 0.5 }, 'ERR_OUT_OF_RANGE'],
    [{ timeout: Infinity }, 'ERR_OUT_OF_RANGE'],
    [{ timeout: '5' }, 'ERR_INVALID_ARG_TYPE'],
    [{ vector: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ vector: {} }, 'ERR_INVALID_ARG_TYPE'],
    [{ signal: {} }, 'ERR_INVALID_ARG_TYPE'],
    [{ spin: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ spin: 0.5 }, 'ERR_OUT_OF_RANGE'],
    [{ spin: 1001 }, 'ERR_OUT_OF_RANGE'],
    [{ spin: '50' }, 'ERR_INVALID_ARG_TYPE'],
    [{ spin: true }, 'ERR_INVALID_ARG_TYPE'],
    [{ timeOut: 5 }, 'ERR_INVALID_ARG_VALUE'],
    [5, 'ERR_INVALID_ARG_TYPE'],
  ])('bad options: %o is %s', async (options, expected) => {
    const { interrupts } = start();
    await expect(interrupts.wait(options as object)).rejects.toEqual(code(expected));
  });
});

describe('a wait that spins', () => {
  test('is told without a turn of the event loop', async () => {
    const { device, interrupts } = start();
    device.onSpin = () => device.fire();
    await expect(interrupts.wait({ spin: 50 })).resolves.toEqual({ count: 1n, missed: 0n, vector: 0 });
    expect(device.pollers).toHaveLength(0);
  });

  test('sleeps where nothing comes meanwhile', async () => {
    const { device, interrupts } = start();
    const spins: number[] = [];
    device.onSpin = (spin) => spins.push(spin);
    const event = interrupts.wait({ spin: 1 });
    expect(spins[0]).toBe(1);
    expect(device.watching).toBe(true);
    device.fire();
    expect(await event).toMatchObject({ count: 1n });
  });

  test('does not where an interrupt is there already, nor unless it is told to', async () => {
    const { device, interrupts } = start();
    device.onSpin = () => {
      throw new Error('expected no wait to spin');
    };
    device.fire();
    await interrupts.wait({ spin: 1000 });
    expect(await state(interrupts.wait())).toBe('pending');
    expect(await state(interrupts.wait({ spin: 0 }))).toBe('pending');
    interrupts.close();
  });

  test('does so no longer than its timeout', () => {
    const { device, interrupts } = start();
    device.onSpin = () => device.fire();
    void interrupts.wait({ spin: 1000, timeout: 0 }).catch(() => undefined);
    expect(device.watching).toBe(true);
    interrupts.close();
  });

  test('goes on where another vector counts, for which others are told', async () => {
    using _clock = stopClock();
    const { device, interrupts } = start({ lines: [{}, {}] });
    const other = interrupts.wait({ vector: 1 });
    const lines = [1, 0];
    device.onSpin = () => device.fire(lines.shift());
    expect(await interrupts.wait({ vector: 0, spin: 1000 })).toEqual({ count: 1n, missed: 0n, vector: 0 });
    expect(await other).toEqual({ count: 1n, missed: 0n, vector: 1 });
    expect(lines).toEqual([]);
  });

  test('enables a level-triggered line before', async () => {
    const { device, interrupts } = start({ lines: [{ level: true }] });
    device.fire();
    await interrupts.wait();
    const [line] = device.lines;
    if (line !== undefined) {
      line.asserted = false; // acknowledged
    }
    device.onSpin = () => device.fire(); // which counts only if it is enabled
    expect(await interrupts.wait({ spin: 1000 })).toMatchObject({ count: 2n });
  });

  test('ends with its signal, its device and its close() as any', async () => {
    const { device, interrupts } = start();
    const spins: number[] = [];
    device.onSpin = (spin) => {
      spins.push(spin);
      device.unbind();
    };
    await expect(interrupts.wait({ spin: 50, signal: AbortSignal.abort() })).rejects.toEqual(
      code('ABORT_ERR'),
    );
    expect(spins).toEqual([]);
    await expect(interrupts.wait({ spin: 50 })).rejects.toEqual(code('ENODEV'));
    expect(spins).toEqual([50]);
    interrupts.close();
    await expect(interrupts.wait({ spin: 50 })).rejects.toEqual(code('ECANCELED'));
    expect(spins).toEqual([50]);
  });

  test('is what an iterator makes, if it is told to', async () => {
    const { device, interrupts } = start();
    device.onSpin = () => device.fire();
    const counts: bigint[] = [];
    for await (const { count } of interrupts.iterate({ spin: 50 })) {
      counts.push(count);
      if (count === 3n) {
        break;
      }
    }
    expect(counts).toEqual([1n, 2n, 3n]);
    expect(device.pollers).toHaveLength(0);
    expect(() => interrupts.iterate({ spin: 1001 })).toThrow(code('ERR_OUT_OF_RANGE'));
  });
});

describe('interrupts that never cease', () => {
  test('leave the event loop its turn', async () => {
    const { device, interrupts } = start();
    let turned = false;
    setImmediate(() => {
      turned = true;
    });
    device.fire();
    for await (const { count } of interrupts.iterate()) {
      if (turned || count === 1_000_000n) {
        break;
      }
      device.fire();
    }
    expect(turned).toBe(true);
  });

  test('can be ended in that turn', async () => {
    for (const [end, expected] of [
      [(interrupts: Interrupts, _: AbortController) => interrupts.close(), 'ECANCELED'],
      [(_: Interrupts, controller: AbortController) => controller.abort(), 'ABORT_ERR'],
    ] as const) {
      using clock = stopClock();
      const device = new FakeDevice();
      const { native } = device;
      const read = vi.spyOn(native, 'deviceReadCounts');
      const interrupts = new Interrupts(native, 7, 1);
      device.fire();
      await interrupts.wait();
      clock.advance(2);
      device.fire();
      const controller = new AbortController();
      const wait = interrupts.wait({ signal: controller.signal });
      end(interrupts, controller);
      await expect(wait).rejects.toEqual(code(expected));
      await turn();
      expect(device.watching).toBe(false);
      expect(read).toHaveBeenCalledOnce(); // for the first: the descriptor may be another's by now
    }
  });
});

describe('a level-triggered line', () => {
  test('is enabled by the wait after its event, and not before', async () => {
    const { device, interrupts } = start({ lines: [{ level: true }] });
    const [line] = device.lines;
    device.fire();
    expect(await interrupts.wait()).toMatchObject({ count: 1n });
    expect(device.enabled).toEqual([]);
    expect(line).toMatchObject({ masked: true });

    if (line !== undefined) {
      line.asserted = false; // acknowledged
    }
    const next = interrupts.wait();
    expect(device.enabled).toEqual([0]);
    expect(await state(next)).toBe('pending');
    device.fire();
    expect(await next).toMatchObject({ count: 2n, missed: 0n });
  });

  test('is enabled by next()', async () => {
    const { device, interrupts } = start({ lines: [{ level: true }] });
    const iterator = interrupts.iterate();
    device.fire();
    await iterator.next();
    expect(device.enabled).toEqual([]);
    const next = iterator.next();
    await turn();
    expect(device.enabled).toEqual([0]);
    expect(await next).toMatchObject({ value: { count: 2n } }); // never acknowledged, so it fires again
  });

  test('is not enabled by the first wait, nor an edge-triggered one by any', async () => {
    const level = start({ lines: [{ level: true }] });
    void level.interrupts.wait().catch(() => undefined);
    expect(level.device.enabled).toEqual([]);
    level.interrupts.close();

    const edge = start();
    edge.device.fire();
    await edge.interrupts.wait();
    void edge.interrupts.wait().catch(() => undefined);
    expect(edge.device.enabled).toEqual([]);
    edge.interrupts.close();
  });
});

describe('an iterator', () => {
  test('yields every interrupt since it was made', async () => {
    const { device, interrupts } = start();
    const iterator = interrupts.iterate();
    device.fire();
    device.fire();
    expect(await iterator.next()).toEqual({ done: false, value: { count: 2n, missed: 1n, vector: 0 } });
    device.fire();
    expect(await iterator.next()).toEqual({ done: false, value: { count: 3n, missed: 0n, vector: 0 } });
  });

  test('loses nothing to another, nor to a wait', async () => {
    const { device, interrupts } = start();
    const [first, second] = [interrupts.iterate(), interrupts.iterate()];
    device.fire();
    await first.next();
    device.fire();
    await interrupts.wait();
    expect(await first.next()).toMatchObject({ value: { count: 2n, missed: 0n } });
    expect(await second.next()).toMatchObject({ value: { count: 2n, missed: 1n } });
    expect(await state(interrupts.wait())).toBe('pending');
    interrupts.close();
  });

  test('answers several next() in turn', async () => {
    const { device, interrupts } = start();
    const iterator = interrupts.iterate();
    const both = Promise.all([iterator.next(), iterator.next()]);
    await turn();
    device.fire();
    await turn();
    await turn();
    device.fire();
    expect(await both).toMatchObject([{ value: { count: 1n } }, { value: { count: 2n } }]);
  });

  test('ends when the device is closed, before and while it waits', async () => {
    const { interrupts } = start();
    const [waiting, idle] = [interrupts.iterate(), interrupts.iterate()];
    const next = waiting.next();
    await turn();
    interrupts.close();
    expect(await next).toEqual({ done: true, value: undefined });
    expect(await waiting.next()).toEqual({ done: true, value: undefined });
    expect(await idle.next()).toEqual({ done: true, value: undefined });
  });

  test('ends a next() that waits when return() is called', async () => {
    const { device, interrupts } = start();
    const iterator = interrupts.iterate();
    const next = iterator.next();
    await turn();
    await iterator.return?.();
    expect(await next).toEqual({ done: true, value: undefined });
    expect(device.watching).toBe(false);
  });

  test('ends for good when return() comes right after an event', async () => {
    const { device, interrupts } = start();
    device.fire();
    const iterator = interrupts.iterate();
    const next = iterator.next();
    await iterator.return?.();
    await next;
    device.fire();
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  test('ends with break, and leaves what follows to others', async () => {
    const { device, interrupts } = start();
    device.fire();
    for await (const { count } of interrupts.iterate()) {
      expect(count).toBe(1n);
      break;
    }
    expect(device.watching).toBe(false);
    device.fire();
    expect(await interrupts.wait()).toMatchObject({ count: 2n, missed: 0n });
  });

  test('throws an AbortError once, then is done', async () => {
    const { interrupts } = start();
    const controller = new AbortController();
    const iterator = interrupts.iterate({ signal: controller.signal });
    const next = iterator.next();
    await turn();
    controller.abort();
    await expect(next).rejects.toEqual(code('ABORT_ERR'));
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  test('throws ENODEV when the device is gone', async () => {
    const { device, interrupts } = start();
    const next = interrupts.iterate().next();
    await turn();
    device.unbind();
    await expect(next).rejects.toEqual(code('ENODEV'));
  });
});
