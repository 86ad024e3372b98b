/**
 * What cache maintenance, copies, interrupts and registers cost, beside what else does their work:
 *
 *     npm run bench:cache [-- --json] [-- --check] [-- --rounds N] [-- --quick]
 *
 * The programs are in `bench/cache`: each part runs once a round, in a process of its own, one after the other. Within a
 * round the sides take turns; times are of the thread, the lower quartile of the turns. Figures are medians of the rounds.
 * `--check` fails where what is to be reached is not. `--quick` shows that all of it works, with figures that mean nothing.
 *
 * Memory is cached here: what copies out of write-combined and uncached memory gain is measured on a board, by
 * `iospace bench`.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** One line of a program: whose figure it is, of what. */
interface Line {
  of: string;
  in: string;
  value: number;
}

/** What a figure is to be, beside what it is. */
interface Measure {
  says: string;
  value: number;
  /** What is to be reached: at least, or at most, so much. */
  least?: number;
  most?: number;
  aim?: number;
  unit: string;
}

const root = fileURLToPath(new URL('../..', import.meta.url));
const build = `${root}build/cache-bench`;

const { values: options } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '5' },
  },
});
if (!/^[1-9]\d{0,3}$/.test(options.rounds)) {
  throw new Error(`expected --rounds 1 to 9999, got ${options.rounds}`);
}
const rounds = Number(options.rounds);

function run(program: string, ...args: string[]): Line[] {
  const output = execFileSync(process.execPath, [`${root}build/bench/cache/${program}.js`, ...args], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 300_000,
  });
  return output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
}

function measure(): Line[] {
  mkdirSync(build, { recursive: true });
  console.error('building cache-peers');
  const cmake = ['build', '--directory', `${root}native`, '--out', build, '--target', 'cache-peers'];
  execFileSync('npx', ['cmake-js', ...cmake], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  const lines: Line[] = [];
  const turns = options.quick ? '2' : '25';
  for (let round = 1; round <= rounds; round++) {
    for (const part of ['maintenance', 'calls', 'copies', 'small', 'interrupts', 'registers']) {
      console.error(`round ${round} of ${rounds}: ${part}`);
      lines.push(...run('library', `${build}/cache-peers.node`, part, turns));
    }
    for (let time = 0; time < (options.quick ? 1 : 5); time++) {
      lines.push(...run('imports'));
    }
  }
  return lines;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

const lines = measure();

/** A figure of all rounds: the median; of the import, which has no turns, the lowest. */
function figure(of: string, what: string): number {
  const found = lines.filter((line) => line.of === of && line.in === what).map(({ value }) => value);
  if (found.length === 0 || !found.every((value) => Number.isFinite(value))) {
    throw new Error(`expected figures of ${of} in ${what}, got ${found.join(', ') || 'none'}`);
  }
  return what === 'import' ? Math.min(...found) : median(found);
}

const speed = (what: string, of: string, other: string) => figure(other, what) / figure(of, what);
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
    value: figure('iospace', call) / (figure('empty call', call) + figure('bare instruction', call)),
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
    value: (figure('set', `copy ${name}`) + 1) / figure(of, `copy ${name}`),
    least: 0.95,
    unit: 'times its bandwidth, but for a nanosecond',
  })),
  {
    says: 'interrupts into JavaScript, sustained, against fs.read',
    value: figure('iospace', 'interrupts') / figure('fs.read', 'interrupts'),
    least: 3,
    aim: 5,
    unit: 'times as many',
  },
  ...['read32(offset)', 'write32(offset, value)'].map((call) => ({
    says: `${call} of a register, against an empty call that takes its arguments`,
    value: figure('iospace', call) / figure('empty call', call),
    most: 1.5,
    unit: 'times the time',
  })),
  { says: "import 'iospace'", value: figure('iospace', 'import'), most: 25, unit: 'ms' },
  {
    says: "import 'iospace' loads native code",
    value: figure('native code', 'import'),
    most: 0,
    unit: 'times',
  },
];

const isMissed = ({ value, least, most }: Measure) =>
  (least !== undefined && value < least) || (most !== undefined && value > most);

if (options.json) {
  console.log(JSON.stringify({ node: process.version, measures, lines }));
} else {
  const figures: Record<string, Record<string, string>> = {};
  for (const { of, in: what } of lines) {
    figures[what] = { ...figures[what], [of]: figure(of, what).toFixed(1) };
  }
  console.log('nanoseconds; of interrupts events a second, of the import milliseconds');
  console.table(figures);
  console.table(
    Object.fromEntries(
      measures.map((measure) => {
        const { says, value, least, most, aim, unit } = measure;
        const reach = least === undefined ? `at most ${most}` : `at least ${least}`;
        return [
          says,
          { measured: value.toFixed(2), unit, reach, aim, missed: isMissed(measure) ? 'missed' : '' },
        ];
      }),
    ),
  );
}
if (options.check) {
  const missed = measures.filter(isMissed);
  for (const { says, value, least, most, unit } of missed) {
    const limit = least === undefined ? `at most ${most}` : `at least ${least}`;
    console.error(`${says}: ${value.toFixed(2)} ${unit}, ${limit}`);
  }
  process.exitCode = missed.length > 0 ? 1 : 0;
}
