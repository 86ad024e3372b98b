/**
 * What is made of a benchmark's programs: each runs once a round, their lines become figures of all rounds, and the figures
 * are set beside what is to be reached.
 */
import { execFileSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { median } from './measure.js';

/** One line of a program: what was measured, in which workload, and its figures. */
type Line = { of: string; in: string } & Record<string, string | number>;

/** A program with its arguments, and what it measures. */
export interface Program {
  measures: string;
  command: [string, ...string[]];
}

/** What a figure is to be, beside what it is. */
export interface Measure {
  says: string;
  /** NaN where it could not be measured. */
  value: number;
  /** What is to be reached: at least, or at most, so much. */
  least?: number;
  most?: number;
  aim?: number;
  unit: string;
}

/** What the command line says. */
export interface Options {
  json: boolean;
  check: boolean;
  quick: boolean;
  rounds: number;
}

/** `--json`, `--check`, `--rounds N` (5, or 1 with `--quick`), `--quick`. */
export function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      check: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      rounds: { type: 'string' },
    },
  });
  const { rounds = values.quick ? '1' : '5' } = values;
  if (!/^[1-9]\d{0,3}$/.test(rounds)) {
    throw new Error(`expected --rounds 1 to 9999, got ${rounds}`);
  }
  return { ...values, rounds: Number(rounds) };
}

/** The figures of all rounds. */
export class Figures {
  readonly #lines: readonly Line[];

  private constructor(lines: readonly Line[]) {
    this.#lines = lines;
  }

  /** Runs the programs, one after the other. */
  static measure(rounds: number, programs: (round: number) => readonly Program[]): Figures {
    const lines: Line[] = [];
    for (let round = 1; round <= rounds; round++) {
      for (const { measures, command } of programs(round)) {
        console.error(`round ${round} of ${rounds}: ${measures}`);
        const [program, ...args] = command;
        const output = execFileSync(program, args, {
          encoding: 'utf8',
          stdio: ['ignore', 'pipe', 'inherit'],
          timeout: 300_000,
        });
        for (const line of output.trim().split('\n')) {
          lines.push({ ...(JSON.parse(line) as Line), program: measures });
        }
      }
    }
    return new Figures(lines);
  }

  /** The median of all rounds, or the mean of shares that fail. */
  figure(of: string, workload: string, name = 'pair'): number {
    const value = this.figureIfAny(of, workload, name);
    if (!Number.isFinite(value)) {
      throw new Error(`expected ${name} of ${of} in ${workload}, got ${value}`);
    }
    return value;
  }

  /** The same; NaN where it was not measured. */
  figureIfAny(of: string, workload: string, name: string): number {
    const found = this.#lines
      .filter((line) => line.of === of && line.in === workload)
      .map(({ [name]: v }) => v);
    if (found.length === 0 || !found.every((value) => Number.isFinite(value))) {
      return Number.NaN;
    }
    return (/failures$/i.test(name) ? mean : median)(found as number[]);
  }

  /**
   * Shows the measures, and what they are made of. With `--check` the process fails where one is missed.
   *
   * @param names - of figures, and how many digits they are shown with
   */
  report(options: Options, measures: readonly Measure[], names: Readonly<Record<string, number>>): void {
    if (options.json) {
      console.log(JSON.stringify({ node: process.version, measures, lines: this.#lines }));
    } else {
      for (const [name, digits] of Object.entries(names)) {
        this.#show(name, digits);
      }
      console.table(Object.fromEntries(measures.map(rowOf)));
      if (options.quick) {
        console.log('--quick shows that the programs work. The figures mean nothing.');
      }
    }
    if (options.check) {
      const missed = measures.filter(isMissed);
      for (const measure of missed) {
        console.error(`${measure.says}: ${textOf(measure.value)} ${measure.unit}, ${limitOf(measure)}`);
      }
      process.exitCode = missed.length > 0 ? 1 : 0;
    }
  }

  /** Shows the figures of a name, by workload and by what was measured, a table for each program. */
  #show(name: string, digits: number): void {
    for (const program of new Set(this.#lines.map((line) => line['program']))) {
      const rows: Record<string, Record<string, string>> = {};
      for (const line of this.#lines.filter((one) => name in one && one['program'] === program)) {
        rows[line.in] = { ...rows[line.in], [line.of]: this.figure(line.of, line.in, name).toFixed(digits) };
      }
      if (Object.keys(rows).length > 0) {
        console.log(`\n${name}: ${program}`);
        console.table(rows);
      }
    }
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** What could not be measured has not been reached. */
function isMissed({ value, least, most }: Measure): boolean {
  return (least !== undefined && !(value >= least)) || (most !== undefined && !(value <= most));
}

function textOf(value: number): string {
  return Number.isNaN(value) ? 'not measured' : value.toFixed(2);
}

function limitOf({ least, most }: Measure): string {
  return least !== undefined ? `at least ${least}` : most !== undefined ? `at most ${most}` : '';
}

function rowOf(measure: Measure): [string, Record<string, string | number | undefined>] {
  const { says, value, aim, unit } = measure;
  const missed = isMissed(measure) ? 'missed' : '';
  return [says, { measured: textOf(value), unit, reach: limitOf(measure), aim, missed }];
}
