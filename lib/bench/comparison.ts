/**
 * What has become faster or slower between two results.
 *
 * @module
 */
import { wrongValue } from '../errors.js';
import { timesText, type Unit } from './quantity.js';
import { type BenchResult, type Case, keyOf, type Measurement } from './result.js';
import { isApart } from './statistics.js';

/** Less is taken for the same, however steady both figures are: another run of the same program differs by as much. */
export const LEAST_CHANGE = 0.05;

/** A case in both results. */
export interface Change extends Case {
  readonly before: Measurement;
  readonly after: Measurement;
  /** How long it takes now, of what it took: below 1 is faster. */
  readonly ratio: number;
  readonly verdict: 'faster' | 'slower' | 'same';
}

export interface Comparison {
  readonly changes: readonly Change[];
  readonly onlyBefore: readonly Case[];
  readonly onlyAfter: readonly Case[];
  /** In what the machines differ, which may be the reason of a change. */
  readonly differences: readonly { what: string; before: string; after: string }[];
}

function verdictOf(before: Measurement, after: Measurement, ratio: number): Change['verdict'] {
  if (!isApart(before, after) || Math.abs(ratio - 1) < LEAST_CHANGE) {
    return 'same';
  }
  return ratio < 1 ? 'faster' : 'slower';
}

/** What of a machine decides about figures. */
const compared = [
  'cpu',
  'board',
  'kernel',
  'node',
  'provider',
  'device',
  'module',
  'governor',
  'megahertz',
  'emulated',
] as const;

/**
 * Finds out whether what is measured in a unit can be compared with an earlier result.
 *
 * @throws ERR_INVALID_ARG_VALUE where one counts instructions and the other is times
 */
export function checkComparable(before: BenchResult, unit: Unit): void {
  if (before.unit !== unit) {
    throw wrongValue('--compare', `a result in ${unit}, as this one is`, before.unit);
  }
}

/**
 * Compares two results, case by case.
 *
 * @throws as {@link checkComparable}
 */
export function compare(before: BenchResult, after: BenchResult): Comparison {
  checkComparable(before, after.unit);
  const old = new Map(before.measurements.map((measurement) => [keyOf(measurement), measurement]));
  const changes: Change[] = [];
  const onlyAfter: Case[] = [];
  for (const measurement of after.measurements) {
    const { operation, memory, size } = measurement;
    const key = keyOf(measurement);
    const previous = old.get(key);
    old.delete(key);
    if (previous === undefined) {
      onlyAfter.push({ operation, memory, size });
    } else {
      const ratio = measurement.median / previous.median;
      const verdict = verdictOf(previous, measurement, ratio);
      changes.push({ operation, memory, size, before: previous, after: measurement, ratio, verdict });
    }
  }
  const differences = compared
    .map((what) => ({ what, before: String(before.machine[what]), after: String(after.machine[what]) }))
    .filter((difference) => difference.before !== difference.after);
  const onlyBefore = [...old.values()].map(({ operation, memory, size }) => ({ operation, memory, size }));
  return { changes, onlyBefore, onlyAfter, differences };
}

/** Those that have become faster or slower, the greatest change first. */
export function changed({ changes }: Comparison): Change[] {
  return changes
    .filter(({ verdict }) => verdict !== 'same')
    .sort((a, b) => Math.abs(Math.log(b.ratio)) - Math.abs(Math.log(a.ratio)));
}

/** `3.2 times slower`, of what has changed. */
export function changeText({ ratio, verdict }: Change): string {
  return `${timesText(Math.max(ratio, 1 / ratio))} ${verdict}`;
}
