/**
 * What cache maintenance, copies, interrupts and registers cost from JavaScript, beside what else does their work or none.
 *
 *     node library.js PEERS maintenance|calls|copies|small|interrupts|registers TURNS SHARE
 *
 * Each part is a process of its own: none finds code that was compiled for another's objects. PEERS is the addon made of
 * peers.cc. The sides take turns; a figure is the lower quartile of the turns', for all that disturbs one adds to it;
 * of events, which are counted, it is the median. A turn does everything SHARE times as often as measuring takes: less than
 * one where it has only to work.
 */
import { read } from 'node:fs';
import { createRequire } from 'node:module';
import { clean, copyFrom, copyTo, flush } from 'iospace/cache';
import { median, show } from '../measure.js';

interface Peers {
  empty(...values: unknown[]): undefined;
  /** Take their arguments, and do nothing. */
  emptyRead(offset: number): number;
  emptyWrite(offset: number, value: number): undefined;
  memcpy(target: Uint8Array, source: Uint8Array): undefined;
  /** Nanoseconds of this thread for each of so many. */
  memcpyTimes(target: Uint8Array, source: Uint8Array, times: number): number;
  /** Writes to every line. */
  dirty(bytes: Uint8Array): undefined;
  /** Dirties, and then tells how many nanoseconds the bare loop takes, so many bytes at a time. */
  clean(bytes: Uint8Array, length: number): number;
  flush(bytes: Uint8Array, length: number): number;
  cleanTimes(bytes: Uint8Array, times: number): number;
  flushTimes(bytes: Uint8Array, times: number): number;
  now(): number;
  threadTime(): number;
  interrupt(fd: number, acknowledgement: number): undefined;
  acknowledge(fd: number): undefined;
  end(fd: number): undefined;
}

const [addon = '', part = '', turnsArgument = '', shareArgument = ''] = process.argv.slice(2);
const peers = createRequire(import.meta.url)(addon) as Peers;
const turns = Number(turnsArgument);
const share = Number(shareArgument);

/** How often, where measuring takes so many. */
const often = (times: number): number => Math.ceil(times * share);

/** Of the library, what it does not export. */
const inner = (path: string): Promise<unknown> =>
  import(new URL(`../../../dist/${path}`, import.meta.url).href);

const KIB = 1024;
const MIB = KIB * KIB;

/** Nanoseconds of this thread for each of so many. */
function cost(times: number, work: (times: number) => void): number {
  const begin = peers.threadTime();
  work(times);
  return (peers.threadTime() - begin) / times;
}

/** Each of some sides in turns. */
function inTurns(what: string, sides: Readonly<Record<string, () => number>>, warmUp = 2): void {
  const figures = Object.entries(sides).map(([side, measure]) => ({ side, measure, values: [] as number[] }));
  // The first turns compile them.
  for (let turn = -warmUp; turn < turns; turn++) {
    for (const { measure, values } of figures) {
      const value = measure();
      if (turn >= 0) {
        values.push(value);
      }
    }
  }
  for (const { side, values } of figures) {
    const nanoseconds = values.sort((a, b) => a - b)[Math.floor(values.length / 4)] ?? Number.NaN;
    show(side, what, { nanoseconds });
  }
}

/** Lines that have just been written: those of 1 MiB, and those of 512 KiB by 64 KiB, so that the clock is read less. */
function maintenance(): void {
  const TIMES = often(40);
  // A turn is few calls.
  const WARM_UP = often(100);
  for (const [size, length, name] of [
    [512 * KIB, 64 * KIB, '64 KiB'],
    [MIB, MIB, '1 MiB'],
  ] as const) {
    const bytes = new Uint8Array(size);
    const parts = Array.from({ length: size / length }, (_, part) =>
      bytes.subarray(part * length, (part + 1) * length),
    );
    const medianOf = (measure: () => number) => (): number =>
      median(Array.from({ length: TIMES }, measure)) / parts.length;
    inTurns(
      `clean ${name}`,
      {
        iospace: medianOf(() => {
          peers.dirty(bytes);
          const begin = peers.now();
          for (const part of parts) {
            clean(part);
          }
          return peers.now() - begin;
        }),
        'bare loop': medianOf(() => peers.clean(bytes, length)),
      },
      WARM_UP,
    );
    inTurns(
      `flush ${name}`,
      {
        iospace: medianOf(() => {
          peers.dirty(bytes);
          const begin = peers.now();
          for (const part of parts) {
            flush(part);
          }
          return peers.now() - begin;
        }),
        'bare loop': medianOf(() => peers.flush(bytes, length)),
      },
      WARM_UP,
    );
  }
}

/** One line, written before each. */
function calls(): void {
  const TIMES = often(100_000);
  const memory = new Uint8Array(4096);
  const line = memory.subarray(64, 128);
  const range = { offset: 64, length: 64 };
  inTurns('clean(line)', {
    iospace: () =>
      cost(TIMES, (times) => {
        for (let time = 0; time < times; time++) {
          line[0] = time;
          clean(line);
        }
      }),
    'empty call': () =>
      cost(TIMES, (times) => {
        for (let time = 0; time < times; time++) {
          line[0] = time;
          peers.empty(line);
        }
      }),
    'bare instruction': () => peers.cleanTimes(line, TIMES),
  });
  inTurns('clean(memory, range)', {
    iospace: () =>
      cost(TIMES, (times) => {
        for (let time = 0; time < times; time++) {
          memory[64] = time;
          clean(memory, range);
        }
      }),
    'empty call': () =>
      cost(TIMES, (times) => {
        for (let time = 0; time < times; time++) {
          memory[64] = time;
          peers.empty(memory, range);
        }
      }),
    'bare instruction': () => peers.cleanTimes(line, TIMES),
  });
  inTurns('flush(line)', {
    iospace: () =>
      cost(TIMES, (times) => {
        for (let time = 0; time < times; time++) {
          line[0] = time;
          flush(line);
        }
      }),
    'empty call': () =>
      cost(TIMES, (times) => {
        for (let time = 0; time < times; time++) {
          line[0] = time;
          peers.empty(line);
        }
      }),
    'bare instruction': () => peers.flushTimes(line, TIMES),
  });
}

function bothWays(target: Uint8Array, source: Uint8Array, times: number): Record<string, () => number> {
  return {
    copyFrom: () =>
      cost(times, (count) => {
        for (let time = 0; time < count; time++) {
          copyFrom(source, target);
        }
      }),
    copyTo: () =>
      cost(times, (count) => {
        for (let time = 0; time < count; time++) {
          copyTo(source, target);
        }
      }),
  };
}

/** From 64 KiB on. */
function copies(): void {
  for (const [size, name] of [
    [64 * KIB, '64 KiB'],
    [256 * KIB, '256 KiB'],
    [MIB, '1 MiB'],
    [4 * MIB, '4 MiB'],
    [64 * MIB, '64 MiB'],
  ] as const) {
    const source = new Uint8Array(size).fill(1);
    const target = new Uint8Array(size).fill(2);
    const times = often((16 * MIB) / size);
    inTurns(`copy ${name}`, {
      ...bothWays(target, source, times),
      memcpy: () => peers.memcpyTimes(target, source, times),
    });
  }
}

/** Below 64 KiB. */
function small(): void {
  for (const size of [64, 256, KIB, 4 * KIB, 16 * KIB, 48 * KIB]) {
    const source = new Uint8Array(size).fill(1);
    const target = new Uint8Array(size).fill(2);
    const times = often(Math.min(200_000, (64 * MIB) / size));
    inTurns(`copy ${size < KIB ? `${size} bytes` : `${size / KIB} KiB`}`, {
      ...bothWays(target, source, times),
      'native call': () =>
        cost(times, (count) => {
          for (let time = 0; time < count; time++) {
            peers.memcpy(target, source);
          }
        }),
      set: () =>
        cost(times, (count) => {
          for (let time = 0; time < count; time++) {
            target.set(source);
          }
        }),
    });
  }
}

/** Events that come as soon as the one before was acknowledged, for so many milliseconds; how many a second. */
async function interrupts(): Promise<void> {
  const MILLISECONDS = often(200);
  const { binding } = (await inner('binding.js')) as typeof import('../../lib/binding.js');
  const { Interrupts } = (await inner(
    'device/interrupts.js',
  )) as typeof import('../../lib/device/interrupts.js');
  const native = binding();
  const { EFD_NONBLOCK = 0 } = native.constants;

  async function perSecond(
    flags: number,
    listen: (fd: number, told: () => boolean) => Promise<void>,
  ): Promise<number> {
    const [interrupt, acknowledgement] = [native.eventfd(0, flags), native.eventfd(0, 0)];
    peers.interrupt(interrupt, acknowledgement);
    let events = 0;
    const begin = peers.now();
    const end = begin + MILLISECONDS * 1e6;
    const listening = listen(interrupt, () => {
      events++;
      if (peers.now() > end) {
        return false;
      }
      peers.acknowledge(acknowledgement);
      return true;
    });
    peers.acknowledge(acknowledgement);
    await listening;
    const figure = events / ((peers.now() - begin) / 1e9);
    peers.end(acknowledgement);
    native.close(interrupt);
    return figure;
  }

  /** A counter stands in for a device, whose counts go on where a counter's begin anew. */
  async function byLibrary(fd: number, told: () => boolean): Promise<void> {
    const since = new BigUint64Array(1);
    const device = {
      Poller: native.Poller,
      deviceInterrupt: () => ({ flags: 0, count: 0n, name: '' }),
      deviceReadCounts: (file: number, counts: BigUint64Array) => {
        if (!native.deviceReadCounts(file, since)) {
          return false;
        }
        counts[0] = (counts[0] ?? 0n) + (since[0] ?? 0n);
        return true;
      },
    };
    const events = new Interrupts(device as unknown as typeof native, fd, 1);
    for await (const _event of events.iterate()) {
      if (!told()) {
        break;
      }
    }
    events.close();
  }

  function byRead(fd: number, told: () => boolean): Promise<void> {
    const count = Buffer.alloc(8);
    return new Promise((resolve, reject) => {
      const next = (): void =>
        read(fd, count, 0, 8, null, (error) => {
          if (error !== null) {
            reject(error);
          } else if (told()) {
            next();
          } else {
            resolve();
          }
        });
      next();
    });
  }

  const figures: { iospace: number; read: number }[] = [];
  for (let turn = -1; turn < Math.max(3, turns / 2); turn++) {
    const iospace = await perSecond(EFD_NONBLOCK, byLibrary);
    const other = await perSecond(0, byRead);
    if (turn >= 0) {
      figures.push({ iospace, read: other });
    }
  }
  show('iospace', 'interrupts', { perSecond: median(figures.map(({ iospace }) => iospace)) });
  show('fs.read', 'interrupts', { perSecond: median(figures.map((figure) => figure.read)) });
}

async function registers(): Promise<void> {
  const TIMES = often(500_000);
  const { binding } = (await inner('binding.js')) as typeof import('../../lib/binding.js');
  const { Registers } = (await inner(
    'device/registers.js',
  )) as typeof import('../../lib/device/registers.js');
  const native = binding();
  const page = native.pageSize;
  const fd = native.memfdCreate('registers', 0);
  native.ftruncate(fd, 2 * page);
  // Its first page stands for the page that says whether the device is there.
  const info = { flags: 1, byteLength: page, mmapOffset: BigInt(page), pageOffset: 0, name: '' };
  const window = new Registers(new native.Registers(fd, 0, info), info);
  let seen = 0;
  inTurns('read32(offset)', {
    iospace: () =>
      cost(TIMES, (times) => {
        for (let time = 0; time < times; time++) {
          seen += window.read32(8);
        }
      }),
    'empty call': () =>
      cost(TIMES, (times) => {
        for (let time = 0; time < times; time++) {
          seen += peers.emptyRead(8);
        }
      }),
  });
  inTurns('write32(offset, value)', {
    iospace: () =>
      cost(TIMES, (times) => {
        for (let time = 0; time < times; time++) {
          window.write32(8, time);
        }
      }),
    'empty call': () =>
      cost(TIMES, (times) => {
        for (let time = 0; time < times; time++) {
          peers.emptyWrite(8, time);
        }
      }),
  });
  if (seen === -1) {
    throw new Error('no register was read');
  }
}

const parts: Readonly<Record<string, () => void | Promise<void>>> = {
  maintenance,
  calls,
  copies,
  small,
  interrupts,
  registers,
};
const run = parts[part];
if (run === undefined || !(turns > 0 && share > 0)) {
  throw new Error(`expected one of ${Object.keys(parts).join(', ')}, a number of turns, and a share`);
}
await run();
