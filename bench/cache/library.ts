/**
 * What cache maintenance, copies, interrupts and registers cost from JavaScript, beside what else does their work or none.
 *
 *     node library.js PEERS maintenance|calls|copies|small|interrupts|registers TURNS SHARE
 *
 * Each part is a process of its own: none finds code that was compiled for another's objects. PEERS is the addon made of
 * peers.cc. The sides take turns. What counts is the quarter of the turns in which all sides together took least, for all
 * that disturbs adds to it, and a machine may be slower in some turns than in others; a figure is the median of those. Of
 * events, which are counted, it is the median of all. A turn does everything SHARE times as often as measuring takes: less
 * than one where it has only to work.
 */
import { read } from 'node:fs';
import { createRequire } from 'node:module';
import { clean, copyFrom, copyTo, flush } from 'iospace/cache';
import { binding } from '../../lib/binding.js';
import { Interrupts } from '../../lib/device/interrupts.js';
import { Registers } from '../../lib/device/registers.js';
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
  const measures = Object.values(sides);
  const taken: number[][] = [];
  // The first turns compile them.
  for (let turn = -warmUp; turn < turns; turn++) {
    const values = measures.map((measure) => measure());
    if (turn >= 0) {
      taken.push(values);
    }
  }
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const least = taken.sort((a, b) => sum(a) - sum(b)).slice(0, Math.ceil(taken.length / 4));
  for (const [index, side] of Object.keys(sides).entries()) {
    show(side, what, { nanoseconds: median(least.map((values) => values[index] ?? Number.NaN)) });
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
    // So often that reading the clock, which the side in C does without a call from JavaScript, does not count.
    const times = often((64 * MIB) / size);
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

/** Tells of events of a descriptor, one after the other, as long as `told` says so. */
type Listen = (fd: number, told: () => boolean) => Promise<void>;

/**
 * Events a second, for so many milliseconds, each counted where JavaScript is told of it.
 *
 * Sustained: there is always another event, of which each read takes one. So the path from there to JavaScript is compared,
 * and not how long a processor takes to wake. One at a time: a thread that sleeps raises the next when it is told that the
 * one before was handled; nearly all of that is the time in which the two wake each other.
 */
async function interrupts(): Promise<void> {
  const MILLISECONDS = often(100);
  const ALWAYS = 2 ** 31;
  const native = binding();
  const { EFD_NONBLOCK = 0, EFD_SEMAPHORE = 0 } = native.constants;

  async function perSecond(listen: Listen, fd: number, handled: () => void): Promise<number> {
    let events = 0;
    const begin = peers.now();
    const end = begin + MILLISECONDS * 1e6;
    await listen(fd, () => {
      events++;
      if (peers.now() > end) {
        return false;
      }
      handled();
      return true;
    });
    return events / ((peers.now() - begin) / 1e9);
  }

  async function sustained(flags: number, listen: Listen): Promise<number> {
    const fd = native.eventfd(ALWAYS, flags | EFD_SEMAPHORE);
    const figure = await perSecond(listen, fd, () => undefined);
    native.close(fd);
    return figure;
  }

  async function oneAtATime(flags: number, listen: Listen): Promise<number> {
    const [fd, acknowledgement] = [native.eventfd(0, flags), native.eventfd(0, 0)];
    peers.interrupt(fd, acknowledgement);
    peers.acknowledge(acknowledgement);
    const figure = await perSecond(listen, fd, () => peers.acknowledge(acknowledgement));
    peers.end(acknowledgement);
    native.close(fd);
    return figure;
  }

  /** A counter stands in for a device, whose counts go on where a counter's begin anew. */
  const byLibrary =
    (spin: number): Listen =>
    async (fd, told) => {
      const since = new BigUint64Array(1);
      const device = {
        Poller: native.Poller,
        deviceInterrupt: () => ({ flags: 0, count: 0n, name: '' }),
        deviceReadCounts: (file: number, counts: BigUint64Array, microseconds: number) => {
          if (!native.deviceReadCounts(file, since, microseconds)) {
            return false;
          }
          counts[0] = (counts[0] ?? 0n) + (since[0] ?? 0n);
          return true;
        },
      };
      const events = new Interrupts(device as unknown as typeof native, fd, 1);
      for await (const _event of events.iterate({ spin })) {
        if (!told()) {
          break;
        }
      }
      events.close();
    };

  /** The event loop alone: a turn of it for each event, and nothing of the library but its poller. */
  const byPoller: Listen = (fd, told) => {
    const counts = new BigUint64Array(1);
    return new Promise((resolve) => {
      const poller = new native.Poller(fd, () => {
        native.deviceReadCounts(fd, counts);
        if (!told()) {
          poller.close();
          resolve();
        }
      });
      poller.start();
    });
  };

  const byRead: Listen = (fd, told) => {
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
  };

  for (const [what, measure, sides] of [
    [
      'interrupts, sustained',
      sustained,
      { iospace: byLibrary(0), 'uv_poll alone': byPoller, 'fs.read': byRead },
    ],
    [
      'interrupts, one at a time',
      oneAtATime,
      { iospace: byLibrary(0), 'iospace, spin: 1000': byLibrary(1000), 'fs.read': byRead },
    ],
  ] as const) {
    const figures = new Map(Object.keys(sides).map((side) => [side, [] as number[]]));
    for (let turn = -1; turn < Math.max(1, turns / 4); turn++) {
      for (const [side, listen] of Object.entries(sides)) {
        const figure = await measure(side === 'fs.read' ? 0 : EFD_NONBLOCK, listen);
        if (turn >= 0) {
          figures.get(side)?.push(figure);
        }
      }
    }
    for (const [side, values] of figures) {
      show(side, what, { perSecond: median(values) });
    }
  }
}

async function registers(): Promise<void> {
  const TIMES = often(500_000);
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
