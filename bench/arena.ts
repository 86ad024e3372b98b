/**
 * What the core of an arena costs, beside a linear first fit of a bitmap and the algorithms of OffsetAllocator and TLSF:
 *
 *     npm run bench:arena [-- --json] [-- --check] [-- --rounds N]
 *
 * The workloads are those of `bench/arena/core.cc`, each with five seeds, the allocators of a seed after each other. The
 * clock is that of the thread. Times are medians, failures the share of all rounds. `--check` fails where a limit of
 * what is to be reached is not held.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** One line of the program. */
interface Line {
  allocator: string;
  workload: string;
  /** Nanoseconds of an allocation and what is freed for it. */
  pair: number;
  failures: number;
  largeFailures: number;
}

type Figures = Pick<Line, 'pair' | 'failures' | 'largeFailures'>;

/** A measure of the issue that asked for this, with what is to be reached and what we mean to. */
interface Measure {
  says: string;
  value: number;
  most: number;
  aim: number;
}

const root = fileURLToPath(new URL('../..', import.meta.url));

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted[Math.floor(sorted.length / 2)];
  if (middle === undefined) {
    throw new Error('expected figures, got none');
  }
  return middle;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function measure(rounds: string): Map<string, Map<string, Figures>> {
  const build = `${root}build/arena`;
  mkdirSync(build, { recursive: true });
  const cmake = ['build', '--directory', `${root}native`, '--out', build, '--target', 'arena-bench'];
  execFileSync('npx', ['cmake-js', ...cmake], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  const output = execFileSync(`${build}/arena-bench`, ['--rounds', rounds], { encoding: 'utf8' });
  const lines = output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
  const results = new Map<string, Map<string, Figures>>();
  for (const { workload, allocator } of lines) {
    const all = lines.filter((line) => line.workload === workload && line.allocator === allocator);
    const row = results.get(workload) ?? new Map<string, Figures>();
    results.set(workload, row);
    row.set(allocator, {
      pair: median(all.map(({ pair }) => pair)),
      failures: mean(all.map(({ failures }) => failures)),
      largeFailures: mean(all.map(({ largeFailures }) => largeFailures)),
    });
  }
  return results;
}

const { values: options } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '5' },
  },
});
if (!/^[1-9]\d{0,3}$/.test(options.rounds)) {
  throw new Error(`expected --rounds 1 to 9999, got ${options.rounds}`);
}
const results = measure(options.rounds);

function figures(workload: string, allocator = 'iospace'): Figures {
  const found = results.get(workload)?.get(allocator);
  if (found === undefined) {
    throw new Error(`expected figures of ${allocator} in ${workload}, got none`);
  }
  return found;
}

const usual = '1 GiB, 70 %, 1..64';
const deciding = '1 GiB, 80 %, mixed';
const ratio = (workload: string, other: string) => figures(workload).pair / figures(workload, other).pair;
const measures: readonly Measure[] = [
  { says: 'pair, times that of linear first fit', value: ratio(usual, 'linear'), most: 1 / 20, aim: 1 / 60 },
  {
    says: "pair, times that of OffsetAllocator's algorithm",
    value: ratio(usual, 'OffsetAllocator'),
    most: 6,
    aim: 1.5,
  },
  { says: "pair, times that of TLSF's algorithm", value: ratio(usual, 'TLSF'), most: 6, aim: 1.5 },
  {
    says: 'large runs that fail at 80 %, percentage points over linear first fit',
    value: 100 * (figures(deciding).largeFailures - figures(deciding, 'linear').largeFailures),
    most: 0.2,
    aim: 0.2,
  },
  {
    says: 'requests that fail at 93 %, in percent',
    value: 100 * figures('1 GiB, 93 %, 1..64').failures,
    most: 1,
    aim: 0,
  },
  {
    says: 'pair in 64 GiB, times that in 16 MiB',
    value: figures('64 GiB, 70 %, 1..64').pair / figures('16 MiB, 70 %, 1..64').pair,
    most: 2,
    aim: 1.3,
  },
];

if (options.json) {
  console.log(
    JSON.stringify({
      measures,
      results: Object.fromEntries([...results].map(([workload, row]) => [workload, Object.fromEntries(row)])),
    }),
  );
} else {
  for (const [what, show] of [
    ['nanoseconds a pair', ({ pair }: Figures) => pair.toFixed(0)],
    ['requests that fail', ({ failures }: Figures) => `${(100 * failures).toFixed(2)} %`],
    ['large requests that fail', ({ largeFailures }: Figures) => `${(100 * largeFailures).toFixed(2)} %`],
  ] as const) {
    console.log(`\n${what}`);
    console.table(
      Object.fromEntries(
        [...results].map(([workload, row]) => [
          workload,
          Object.fromEntries([...row].map(([allocator, of]) => [allocator, show(of)])),
        ]),
      ),
    );
  }
  console.table(
    Object.fromEntries(
      measures.map(({ says, value, most, aim }) => [
        says,
        { is: value.toFixed(3), 'at most': most.toFixed(3), aim: aim.toFixed(3) },
      ]),
    ),
  );
}
if (options.check) {
  const broken = measures.filter(({ value, most }) => value > most);
  for (const { says, value, most } of broken) {
    console.error(`${says}: ${value.toFixed(3)}, at most ${most.toFixed(3)}`);
  }
  process.exitCode = broken.length > 0 ? 1 : 0;
}
