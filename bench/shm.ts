/**
 * What shared memory between processes costs, beside what else does its work:
 *
 *     npm run bench:shm [-- --json] [-- --check] [-- --rounds N] [-- --quick]
 *
 * The programs are in `bench/shm`: messages through a ring, waking who sleeps, and making segments. Two real processes take
 * part wherever two are meant. Each program runs once a round, one after the other; figures are medians of the rounds, and
 * in a round of the windows of time in which the processes waited least for a processor (`measure.ts`): they need one each.
 * `--check` fails where what is to be reached is not. `--quick` shows that all of it works, with figures that mean nothing.
 */
import { fileURLToPath } from 'node:url';
import { Figures, type Measure, type Program, readOptions } from './report.js';
import { install } from './shm/packages.js';

const programs = fileURLToPath(new URL('shm/', import.meta.url));
const root = fileURLToPath(new URL('../..', import.meta.url));
const options = readOptions();
const scale = options.quick ? 0.01 : 1;
const packages = install(`${root}build/shm-bench`);

function program(name: string, part: string, count: number, ...rest: string[]): Program {
  const number = String(Math.ceil(scale * count));
  return {
    measures: [name, part, ...rest].join(' '),
    command: [process.execPath, `${programs}${name}.js`, part, number, ...rest],
  };
}

const figures = Figures.measure(options.rounds, () => [
  program('ring', 'trip', 40_000),
  ...['one', 'batch', 'line', 'large'].map((way) => program('ring', 'rate', 100_000, way)),
  program('ring', 'bulk', 1_500_000),
  program('wake', 'trip', 8_000),
  program('wake', 'events', 30_000),
  { ...program('open', packages, 4_000), measures: 'open' },
]);

const ring = 'Ring';
const trip = 'round trip of a small message';
const asleep = 'round trip, both asleep';
const events = 'events into JavaScript';
const rate = (workload: string) => figures.figure(ring, workload, 'millions');
const one = rate('64-byte slots, one word, one at a time');

/** What `of` takes of what the other takes; NaN where one of them could not be measured. */
function ratio(name: string, workload: string, of: string, other: string): number {
  return figures.figureIfAny(of, workload, name) / figures.figureIfAny(other, workload, name);
}

const measures: readonly Measure[] = [
  {
    says: 'round trip of a small message, spinning, against a Unix socket',
    value: ratio('nanoseconds', trip, 'Unix socket', 'Ring, spinning'),
    least: 80,
    aim: 150,
    unit: 'times faster',
  },
  {
    says: 'messages a second, 64-byte slots, one word, one at a time',
    value: one,
    least: 12,
    aim: 20,
    unit: 'millions',
  },
  {
    says: 'the same in batches of 64',
    value: rate('64-byte slots, one word, batches of 64'),
    least: 80,
    aim: 150,
    unit: 'millions',
  },
  {
    says: 'the same with 64 bytes copied in and out',
    value: rate('64 bytes copied in and out, batches of 64'),
    least: 15,
    aim: 30,
    unit: 'millions',
  },
  ...['64 KiB', '1 MiB'].flatMap((length) => [
    ...['Unix socket', 'pipe', 'standard input'].map((other) => ({
      says: `messages of ${length}, copied in and out, against ${other}`,
      value: ratio('gigabytes', length, ring, other),
      least: 8,
      aim: 15,
      unit: 'times the bytes',
    })),
    {
      says: `messages of ${length}, against a Unix socket that reads into one buffer`,
      value: ratio('gigabytes', length, ring, 'Unix socket, onread'),
      unit: 'times the bytes',
    },
  ]),
  {
    says: 'messages of 1 MiB a second, in place',
    value: rate('1 MiB, in place'),
    least: 1,
    // What handing over takes, and nothing else.
    aim: Number(one.toFixed(1)),
    unit: 'millions',
  },
  ...['process.send', 'process.send, advanced', 'MessagePort of a worker'].map((other) => ({
    says: `round trip, both asleep: futex, against ${other}`,
    value: ratio('nanoseconds', asleep, 'futex', other),
    most: 0.35,
    aim: 0.25,
    unit: 'times the time',
  })),
  {
    says: 'events into JavaScript a second: eventfd and uv_poll, against fs.read',
    value: ratio('perSecond', events, 'Poller', 'fs.read'),
    least: 3,
    aim: 5,
    unit: 'times as many',
  },
  {
    says: 'the same: Doorbell, a promise for each',
    value: ratio('perSecond', events, 'Doorbell', 'fs.read'),
    unit: 'times as many',
  },
  {
    says: 'the same: futex.waitAsync',
    value: ratio('perSecond', events, 'futex.waitAsync', 'fs.read'),
    unit: 'times as many',
  },
  ...['shm-typed-array, POSIX', 'shm-typed-array, System V', '@riaskov/mmap-io'].map((other) => ({
    says: `open, map, unmap, unlink of 1 MiB, allocate: false, against ${other}`,
    value: ratio('microseconds', '1 MiB', 'posix.open, allocate: false', other),
    most: 1,
    aim: 0.7,
    unit: 'times the time',
  })),
  {
    says: 'the same with allocate: true, against allocate: false',
    value: ratio('microseconds', '1 MiB', 'posix.open, allocate: true', 'posix.open, allocate: false'),
    unit: 'times the time',
  },
];

figures.report(options, measures, {
  nanoseconds: 0,
  millions: 1,
  gigabytes: 1,
  perSecond: 0,
  microseconds: 1,
});
