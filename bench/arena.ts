/**
 * What an arena costs, beside what else does its work:
 *
 *     npm run bench:arena [-- --json] [-- --check] [-- --rounds N] [-- --quick]
 *
 * The programs are in `bench/arena`: the core alone beside other allocators, the arena in its file with lock and records, and
 * the library. Each runs once a round, with another seed, one after the other. Figures are medians of the rounds, but the
 * shares that fail, which are means; times are of the thread, but where processes meet. `--check` fails where what is to be
 * reached is not. `--quick` shows that all of it works, with figures that mean nothing.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Figures, type Measure, type Program, readOptions } from './report.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** Not that of the tests, which may be building meanwhile. */
const build = `${root}build/arena-bench`;

const options = readOptions();

function programs(seed: string): Program[] {
  const pairs = options.quick ? '2000' : '300000';
  return [
    { measures: 'core', command: [`${build}/arena-bench`, seed, pairs] },
    {
      measures: 'lock and records',
      command: [`${build}/arena-shared-bench`, seed, pairs, '16', '1024', '16384', '65536'],
    },
    ...['buffers', 'pool', 'workload', 'processes'].map(
      (part): Program => ({
        measures: `library: ${part}`,
        command: [process.execPath, `${root}build/bench/arena/library.js`, part, seed, pairs],
      }),
    ),
  ];
}

mkdirSync(build, { recursive: true });
for (const target of ['arena-bench', 'arena-shared-bench', 'arena-holder']) {
  console.error(`building ${target}`);
  const cmake = ['build', '--directory', `${root}native`, '--out', build, '--target', target];
  execFileSync('npx', ['cmake-js', ...cmake], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
}
const figures = Figures.measure(options.rounds, (round) => programs(String(round)));
const figure = figures.figure.bind(figures);

const usual = '1 GiB, 70 %, 1..64';
const deciding = '1 GiB, 80 %, mixed';
const sizes = [4, 16, 64, 256];
const pooled = '64 MiB, 70 %, 1..16';
const over = (workload: string, of: string, other: string) => figure(of, workload) / figure(other, workload);

/** How much more than 0.02 % of the arena the books take, for each block that is live. */
function beyond(size: string): number {
  const bytes = figure('books', size, 'bytes') - 0.0002 * figure('books', size, 'arena');
  return Math.max(0, bytes) / figure('shared', size, 'blocks');
}

const measures: readonly Measure[] = [
  {
    says: 'pair, core, against linear first fit',
    value: over(usual, 'linear', 'iospace'),
    least: 20,
    aim: 60,
    unit: 'times faster',
  },
  {
    says: "pair, core, against OffsetAllocator's algorithm",
    value: over(usual, 'iospace', 'OffsetAllocator'),
    most: 6,
    aim: 1.5,
    unit: 'times the time',
  },
  {
    says: "pair, core, against TLSF's algorithm",
    value: over(usual, 'iospace', 'TLSF'),
    most: 6,
    aim: 1.5,
    unit: 'times the time',
  },
  {
    says: 'large runs that fail at 80 %, beyond those of linear first fit',
    value: 100 * (figure('iospace', deciding, 'largeFailures') - figure('linear', deciding, 'largeFailures')),
    most: 0.2,
    aim: 0.2,
    unit: 'points',
  },
  {
    says: 'requests that fail at 93 %',
    value: 100 * figure('iospace', '1 GiB, 93 %, 1..64', 'failures'),
    most: 1,
    aim: 0,
    unit: '%',
  },
  {
    says: 'pair, core, 64 GiB against 16 MiB',
    value: figure('iospace', '64 GiB, 70 %, 1..64') / figure('iospace', '16 MiB, 70 %, 1..64'),
    most: 2,
    aim: 1.3,
    unit: 'times the time',
  },
  {
    says: 'the same with lock and records',
    value: figure('shared', '64 GiB') / figure('shared', '16 MiB'),
    most: 2,
    aim: 1.3,
    unit: 'times the time',
  },
  ...['empty', '70 %'].flatMap((fill) =>
    sizes.map((size) => ({
      says: `dmaMalloc + dmaFree of ${size} KiB, arena ${fill}, against Buffer.allocUnsafeSlow`,
      value: over(`${size} KiB, ${fill}`, 'dmaMalloc', 'Buffer.allocUnsafeSlow'),
      most: 0.7,
      aim: 0.35,
      unit: 'times the time',
    })),
  ),
  {
    says: `dmaMalloc + dmaFree, against @thi.ng/malloc with ${figure('dmaMalloc', pooled, 'blocks')} live blocks`,
    value: over(pooled, '@thi.ng/malloc', 'dmaMalloc'),
    least: 30,
    aim: 60,
    unit: 'times faster',
  },
  {
    says: 'two processes, pairs of both against those of one, core',
    value: over('1 GiB', 'one process', 'two processes'),
    least: 0.4,
    aim: 0.9,
    unit: 'times as many',
  },
  {
    says: 'the same from JavaScript',
    value: over(usual, 'JavaScript, one process', 'JavaScript, two processes'),
    least: 0.4,
    aim: 0.9,
    unit: 'times as many',
  },
  ...(['1 GiB', '64 GiB'] as const).flatMap((size) =>
    (['killed', 'killed, attached then'] as const).map((of) => ({
      says: `holder of the lock killed, ${size}: until another ${of === 'killed' ? 'process' : 'that attaches only then'} has a block`,
      value: figure(of, size, 'milliseconds'),
      most: size === '1 GiB' ? 10 : 50,
      aim: size === '1 GiB' ? 1 : 10,
      unit: 'ms',
    })),
  ),
  ...['1 GiB', '64 GiB'].map((size) => ({
    says: `memory of the books beyond 0.02 %, ${size}, for each of ${figure('shared', size, 'blocks')} blocks`,
    value: beyond(size),
    most: 64,
    unit: 'bytes',
  })),
];

figures.report(options, measures, { pair: 0, failures: 4, largeFailures: 4, milliseconds: 2, bytes: 0 });
