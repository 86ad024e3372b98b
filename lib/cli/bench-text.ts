/**
 * What `iospace bench` prints: text made of results. Touches no device, terminal or environment.
 *
 * @module
 */
import { type Change, type Comparison, changed, changeText, LEAST_CHANGE } from '../bench/comparison.js';
import { machineFacts, skippedByReason, warnings } from '../bench/facts.js';
import { type OperationName, operationNames } from '../bench/operation.js';
import { figureText, spreadText } from '../bench/quantity.js';
import type { BenchResult, Measurement, Skipped } from '../bench/result.js';
import { quantile, spread } from '../bench/statistics.js';
import type { MemoryType } from '../device/memory.js';
import { sizeText } from '../size-text.js';
import { type Column, plainLines, tableText } from './text.js';

function machineText({ machine }: BenchResult): string {
  const facts = machineFacts(machine);
  const width = Math.max(...facts.map(([name]) => name.length));
  return facts.map(([name, value]) => `${name.padEnd(width)} ${value}`).join('\n');
}

/** A figure with its mark: `*` not steady. */
function steadyText({ operation, size, median, stable }: Measurement, unit: BenchResult['unit']): string {
  return `${figureText(operation, size, median, unit)}${stable ? '' : '*'}`;
}

/** With the other mark, too: `?` without meaning. */
function cellText(result: BenchResult, measurement: Measurement | undefined): string {
  return measurement === undefined
    ? '-'
    : `${steadyText(measurement, result.unit)}${result.meaningless ? '?' : ''}`;
}

/** The figures of an operation on one memory type, by size. */
interface Row {
  readonly operation: OperationName;
  readonly bySize: ReadonlyMap<number | null, Measurement>;
}

/** The middle of the spreads of a row. */
function rowSpread({ bySize }: Row): string {
  const spreads = [...bySize.values()].map(spread).sort((a, b) => a - b);
  return spreadText(quantile(spreads, 0.5));
}

/** The table of one memory type; of interrupts for what has none. */
function ofMemoryText(result: BenchResult, memory: MemoryType | null): string {
  const here = result.measurements.filter((one) => one.memory === memory);
  const sizes = [...new Set(here.map(({ size }) => size))].sort((a, b) => (a ?? 0) - (b ?? 0));
  const rows = operationNames.flatMap((operation): Row[] => {
    const measurements = here.filter((one) => one.operation === operation);
    const bySize = new Map(measurements.map((one) => [one.size, one]));
    return measurements.length === 0 ? [] : [{ operation, bySize }];
  });
  return tableText<Row>(
    [
      { head: memory ?? 'interrupts', cell: ({ operation }) => operation },
      ...sizes.map(
        (size): Column<Row> => ({
          head: size === null ? '' : sizeText(size),
          right: true,
          cell: ({ bySize }) => cellText(result, bySize.get(size)),
        }),
      ),
      { head: 'spread', right: true, cell: rowSpread },
    ],
    rows,
  );
}

function unitText({ unit }: BenchResult): string {
  return unit === 'instructions'
    ? 'Instructions: of one pass over all of it, or of one access, call or event.'
    : 'Medians: bandwidth where it passes over memory, else the time of one access, call or event. ' +
        'Spread: half the distance of the quartiles, of the median; * not steady.';
}

function skippedText(skipped: readonly Skipped[]): string {
  return skippedByReason(skipped)
    .map(({ names, reason }) => `not measured: ${names.join(', ')}: ${reason}`)
    .join('\n');
}

/** All of a result. */
export function resultText(result: BenchResult): string {
  const types = [...new Set(result.measurements.map(({ memory }) => memory))];
  const parts = [
    machineText(result),
    ...(warnings(result).length === 0 ? [] : [warnings(result).join('\n')]),
    ...types.map((memory) => ofMemoryText(result, memory)),
    ...(result.skipped.length === 0 ? [] : [skippedText(result.skipped)]),
    unitText(result),
  ];
  // A result may come from a file: nothing in it reaches the terminal as a command.
  return plainLines(parts.join('\n\n'));
}

function changesText(changes: readonly Change[], unit: BenchResult['unit']): string {
  return tableText<Change>(
    [
      { head: '', cell: ({ operation }) => operation },
      { head: '', cell: ({ memory }) => memory ?? '' },
      { head: '', right: true, cell: ({ size }) => (size === null ? '' : sizeText(size)) },
      {
        head: 'before',
        right: true,
        cell: ({ before }) => steadyText(before, unit),
      },
      {
        head: 'now',
        right: true,
        cell: ({ after }) => steadyText(after, unit),
      },
      { head: '', right: true, cell: changeText },
    ],
    changes,
  );
}

/** What has changed, and how much has not. */
export function comparisonText(comparison: Comparison, { unit }: BenchResult): string {
  const { changes, onlyBefore, onlyAfter, differences } = comparison;
  const found = changed(comparison);
  const lines = [
    ...differences.map(
      ({ what, before, after }) => `another machine, ${what}: ${before} before, ${after} now`,
    ),
    ...(found.length === 0 ? [] : [changesText(found, unit)]),
    `compared: ${found.length} of ${changes.length} have changed (quartiles apart, and by ${LEAST_CHANGE * 100} % or more)` +
      `${onlyBefore.length === 0 ? '' : `; ${onlyBefore.length} only before`}` +
      `${onlyAfter.length === 0 ? '' : `; ${onlyAfter.length} only now`}`,
  ];
  return plainLines(lines.join('\n'));
}
