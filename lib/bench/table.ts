/**
 * Results as text for a terminal.
 *
 * @module
 */
import type { Comparison } from './comparison.js';
import type { MachineDescription } from './machine.js';
import { operationNames } from './operation.js';
import { figureText, sizeText, spreadText, timesText } from './quantity.js';
import type { BenchResult, Case, Measurement, Skipped } from './result.js';
import { quantile, spread } from './statistics.js';

/** Rows of cells as columns; the first stands to the left, all others to the right. */
function grid(rows: readonly (readonly string[])[]): string {
  const columns = Math.max(...rows.map(({ length }) => length));
  const widths = [...Array(columns).keys()].map((column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  );
  return rows
    .map((row) =>
      widths
        .map((width, column) => {
          const cell = row[column] ?? '';
          return column === 0 ? cell.padEnd(width) : cell.padStart(width);
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** A result may come from a file: nothing in it reaches the terminal as a command. */
function plain(text: string): string {
  return text.replace(/\p{Cc}/gu, (control) =>
    control === '\n' ? control : `\\x${control.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}

/** What the machine is: one fact a line. */
export function machineFacts(machine: MachineDescription): [name: string, value: string][] {
  const caches = machine.caches.map(
    ({ level, type, size }) =>
      `L${level}${type === 'Data' ? 'd' : type === 'Instruction' ? 'i' : ''} ${sizeText(size)}`,
  );
  const line = machine.caches[0]?.line;
  const frequency = [
    ...(machine.megahertz === null ? [] : [`up to ${machine.megahertz} MHz`]),
    machine.governor === null ? 'not scaled by the kernel' : `governor ${machine.governor}`,
  ];
  const device = [
    machine.device,
    ...(machine.module === '' ? [] : [`module ${machine.module}`]),
    ...(machine.provider === 'memfd'
      ? [
          machine.module === ''
            ? 'no module: cached memory only'
            : 'the module is there, but was not used: cached memory only',
        ]
      : []),
    ...(machine.provider === 'iospace' ? [machine.coherent ? 'snoops' : 'does not snoop'] : []),
    ...(machine.iommu === 'none' ? [] : [`IOMMU ${machine.iommu}`]),
  ];
  return [
    ['processor', `${machine.cpu}, ${machine.processors} of them, ${machine.arch}`],
    ...(machine.board === null ? [] : [['board', machine.board] as [string, string]]),
    ['frequency', frequency.join(', ')],
    [
      'caches',
      caches.length === 0
        ? 'not told'
        : `${caches.join(', ')}${line === undefined ? '' : `; lines of ${line} B`}`,
    ],
    [
      'cache control',
      machine.cacheControl.length === 0 ? 'none by range' : `by ${machine.cacheControl.join(', ')}`,
    ],
    ['copies', machine.copies],
    ['memory', sizeText(machine.memory)],
    ['kernel', machine.kernel],
    ['Node', machine.node],
    ['device', device.join(', ')],
    ['pinned to', machine.pinned === null ? 'no processor' : `processor ${machine.pinned}`],
  ];
}

/** What has to be known before any figure is read. */
export function warnings(result: BenchResult): string[] {
  const { machine, unit } = result;
  return [
    ...(result.meaningless
      ? [
          `EMULATED MACHINE (${machine.emulated}): these times say nothing of memory types, each is marked "?". ` +
            'Instructions can be counted: iospace lab run --icount -- npx iospace bench --counts',
        ]
      : []),
    ...(unit === 'instructions' ? ['Counts of instructions: they know no caches and no buses.'] : []),
    ...(result.complete ? [] : ['Interrupted: not all that was planned is here.']),
    ...(unit === 'ns' && machine.governor !== null && machine.governor !== 'performance'
      ? [`The governor "${machine.governor}" changes the frequency meanwhile: performance would be steadier.`]
      : []),
    ...(unit === 'ns' && machine.emulated === null && machine.pinned === null
      ? ['Not kept on one processor (taskset is missing, or not allowed).']
      : []),
  ];
}

function machineText(result: BenchResult): string {
  return machineFacts(result.machine)
    .map(([name, value]) => `${name.padEnd('cache control'.length)} ${value}`)
    .join('\n');
}

/** A figure with its marks: `*` not steady, `?` without meaning. */
function cellText(result: BenchResult, measurement: Measurement | undefined): string {
  if (measurement === undefined) {
    return '-';
  }
  const figure = figureText(measurement.operation, measurement.size, measurement.median, result.unit);
  return `${figure}${measurement.stable ? '' : '*'}${result.meaningless ? '?' : ''}`;
}

/** The middle of the spreads of a row. */
function rowSpread(row: readonly (Measurement | undefined)[]): string {
  const spreads = row.flatMap((one) => (one === undefined ? [] : [spread(one)])).sort((a, b) => a - b);
  return spreads.length === 0 ? '' : spreadText(quantile(spreads, 0.5));
}

/** What is shown in the head of a table of one memory type. */
function ofMemoryText(result: BenchResult, memory: Measurement['memory']): string {
  const here = result.measurements.filter((one) => one.memory === memory);
  const sizes = [...new Set(here.map(({ size }) => size))].sort((a, b) => (a ?? 0) - (b ?? 0));
  const rows = operationNames.flatMap((name) => {
    const ofName = here.filter((one) => one.operation === name);
    if (ofName.length === 0) {
      return [];
    }
    const row = sizes.map((size) => ofName.find((one) => one.size === size));
    return [[name, ...row.map((one) => cellText(result, one)), rowSpread(row)]];
  });
  const head =
    memory === null
      ? ['interrupts', '', 'spread']
      : [memory, ...sizes.map((size) => sizeText(size ?? 0)), 'spread'];
  return grid([head, ...rows]);
}

function unitText({ unit }: BenchResult): string {
  return unit === 'instructions'
    ? 'Instructions: of one pass over all of it, or of one access, call or event.'
    : 'Medians: bandwidth where it passes over memory, else the time of one access, call or event. ' +
        'Spread: half the distance of the quartiles, of the median; * not steady.';
}

/** Cases with the same reason in one line. */
function skippedText(skipped: readonly Skipped[]): string {
  const byReason = new Map<string, Skipped[]>();
  for (const one of skipped) {
    byReason.set(one.reason, [...(byReason.get(one.reason) ?? []), one]);
  }
  return [...byReason]
    .map(([reason, cases]) => {
      const names = [
        ...new Set(
          cases.map(({ operation, memory }) => (memory === null ? operation : `${operation} ${memory}`)),
        ),
      ];
      return `not measured: ${names.join(', ')}: ${reason}`;
    })
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
  return plain(parts.join('\n\n'));
}

function caseText({ operation, memory, size }: Case): string[] {
  return [operation, memory ?? '', size === null ? '' : sizeText(size)];
}

/** `3.2 times faster`. */
function changeText(ratio: number, verdict: string): string {
  return verdict === 'same' ? '' : `${timesText(Math.max(ratio, 1 / ratio))} ${verdict}`;
}

/** What has changed, the greatest changes first; how much has not. */
export function comparisonText(
  { changes, onlyBefore, onlyAfter, differences }: Comparison,
  { unit }: BenchResult,
): string {
  const changed = changes
    .filter(({ verdict }) => verdict !== 'same')
    .sort((a, b) => Math.abs(Math.log(b.ratio)) - Math.abs(Math.log(a.ratio)));
  const rows = changed.map(({ before, after, ratio, verdict }) => [
    ...caseText(after),
    figureText(before.operation, before.size, before.median, unit),
    figureText(after.operation, after.size, after.median, unit),
    changeText(ratio, verdict),
  ]);
  const lines = [
    ...differences.map(
      ({ what, before, after }) => `another machine, ${what}: ${before} before, ${after} now`,
    ),
    ...(rows.length === 0 ? [] : [grid([['', '', '', 'before', 'now', ''], ...rows])]),
    `compared: ${changed.length} of ${changes.length} have changed (quartiles apart, and by 5 % or more)` +
      `${onlyBefore.length === 0 ? '' : `; ${onlyBefore.length} only before`}` +
      `${onlyAfter.length === 0 ? '' : `; ${onlyAfter.length} only now`}`,
  ];
  return plain(lines.join('\n'));
}
