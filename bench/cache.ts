/**
 * What cache maintenance, copies, interrupts and registers cost, beside what else does their work:
 *
 *     npm run bench:cache [-- --json] [-- --check] [-- --rounds N] [-- --quick]
 *
 * The programs are in `bench/cache`: each part runs once a round, in a process of its own, one after the other. Within a
 * round the sides take turns; times are of the thread, of the turns that were disturbed least. Figures are medians of the rounds.
 * `--check` fails where what is to be reached is not. `--quick` shows that all of it works, with figures that mean nothing.
 *
 * Memory is cached here: what copies out of write-combined and uncached memory gain is measured on a board, by
 * `iospace bench`.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Figures, type Measure, type Program, readOptions } from './report.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const programs = fileURLToPath(new URL('cache/', import.meta.url));
const build = `${root}build/cache-bench`;
const options = readOptions();

function program(measures: string, name: string, ...args: string[]): Program {
  return { measures, command: [process.execPath, `${programs}${name}.js`, ...args] };
}

mkdirSync(build, { recursive: true });
console.error('building cache-peers');
const cmake = ['build', '--directory', `${root}native`, '--out', build, '--target', 'cache-peers'];
execFileSync('npx', ['cmake-js', ...cmake], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });

const [turns, share] = options.quick ? ['2', '0.01'] : ['25', '1'];
const figures = Figures.measure(options.rounds, () => [
  ...['maintenance', 'calls', 'copies', 'small', 'interrupts', 'registers'].map((part) =>
    program(part, 'library', `${build}/cache-peers.node`, part, turns, share),
  ),
  program('import', 'imports', options.quick ? '1' : '5'),
]);

const time = (of: string, what: string) => figures.figure(of, what, 'nanoseconds');
const speed = (what: string, of: string, other: string) => time(other, what) / time(of, what);
const sizesOf = (...names: string[]) =>
  names.flatMap((name) => (['copyFrom', 'copyTo'] as const).map((of) => ({ of, name })));

const measures: readonly Measure[] = [
  ...['clean', 'flush'].flatMap((operation) =>
    ['64 KiB', '1 MiB'].map((size) => ({
      says: `${operation} of ${size}, all lines dirty, against the bare loop`,
      value: speed(`${operation} ${size}`, 'iospace', 'bare loop'),
      least: 0.95,
      unit: 'times its bandwidth',
    })),
  ),
  ...['clean(line)', 'clean(memory, range)', 'flush(line)'].map((call) => ({
    says: `${call}, one dirty line, against an empty call and the bare instruction`,
    value: time('iospace', call) / (time('empty call', call) + time('bare instruction', call)),
    most: 1.5,
    unit: 'times the time',
  })),
  ...sizesOf('64 KiB', '256 KiB', '1 MiB', '4 MiB').map(({ of, name }) => ({
    says: `${of} of ${name}, against memcpy`,
    value: speed(`copy ${name}`, of, 'memcpy'),
    least: 0.95,
    unit: 'times its bandwidth',
  })),
  ...sizesOf('64 MiB').map(({ of, name }) => ({
    says: `${of} of ${name}, out of the caches, against memcpy`,
    value: speed(`copy ${name}`, of, 'memcpy'),
    least: 1.15,
    unit: 'times its bandwidth',
  })),
  ...sizesOf('64 bytes', '256 bytes', '1 KiB', '4 KiB', '16 KiB', '48 KiB').map(({ of, name }) => ({
    says: `${of} of ${name}, against a native call around memcpy`,
    value: speed(`copy ${name}`, of, 'native call'),
    least: 0.95,
    unit: 'times its bandwidth',
  })),
  // It is set(), after a look at what it is given, which takes a nanosecond.
  ...sizesOf('64 bytes', '256 bytes', '1 KiB', '4 KiB', '16 KiB', '48 KiB').map(({ of, name }) => ({
    says: `${of} of ${name}, against TypedArray.set()`,
    value: (time('set', `copy ${name}`) + 1) / time(of, `copy ${name}`),
    least: 0.95,
    unit: 'times its bandwidth, but for a nanosecond',
  })),
  {
    says: 'interrupts into JavaScript, sustained, against fs.read',
    value:
      figures.figure('iospace', 'interrupts, sustained', 'perSecond') /
      figures.figure('fs.read', 'interrupts, sustained', 'perSecond'),
    least: 3,
    aim: 5,
    unit: 'times as many',
  },
  ...['read32(offset)', 'write32(offset, value)'].map((call) => ({
    says: `${call} of a register, against an empty call that takes its arguments`,
    value: time('iospace', call) / time('empty call', call),
    most: 1.5,
    unit: 'times the time',
  })),
  {
    says: "import 'iospace'",
    value: figures.figure('iospace', 'import', 'milliseconds'),
    most: 25,
    unit: 'ms',
  },
  {
    says: "import 'iospace' loads native code",
    value: figures.figure('native code', 'import', 'loads'),
    most: 0,
    unit: 'times',
  },
];

figures.report(options, measures, { nanoseconds: 1, perSecond: 0, milliseconds: 1 });
