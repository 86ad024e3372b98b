/**
 * What has to be known to read figures: the machine that they are of, and what speaks against them.
 *
 * @module
 */
import { sizeText } from '../size-text.js';
import type { MachineDescription } from './machine.js';
import type { BenchResult, Skipped } from './result.js';

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
      'cache maintenance',
      machine.cacheMaintenance.length === 0 ? 'none by range' : `by ${machine.cacheMaintenance.join(', ')}`,
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
            'Instructions can be counted: npx iospace lab run --icount -- node node_modules/.bin/iospace bench --counts',
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

/** What was not measured; all that have the same reason together, whatever their sizes. */
export function skippedByReason(skipped: readonly Skipped[]): { names: string[]; reason: string }[] {
  const byReason = new Map<string, Set<string>>();
  for (const { operation, memory, reason } of skipped) {
    const names = byReason.get(reason) ?? new Set();
    byReason.set(reason, names.add(memory === null ? operation : `${operation} ${memory}`));
  }
  return [...byReason].map(([reason, names]) => ({ names: [...names], reason }));
}
