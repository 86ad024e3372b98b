/** Results as if they were measured: of a machine, with figures that a test chooses. */
import type { MachineDescription } from '../../../lib/bench/machine.js';
import type { OperationName } from '../../../lib/bench/operation.js';
import { type BenchResult, type Measurement, makeResult } from '../../../lib/bench/result.js';
import type { MemoryType } from '../../../lib/device/memory.js';

export const KiB = 1024;
export const MiB = 1024 * KiB;

export const board: MachineDescription = {
  cpu: 'Cortex-A9',
  arch: 'arm',
  processors: 2,
  board: 'Zynq <ZYBO> & "Z7"',
  memory: 512 * MiB,
  caches: [
    { level: 1, type: 'Data', size: 32 * KiB, line: 32 },
    { level: 2, type: 'Unified', size: 512 * KiB, line: 32 },
  ],
  cacheMaintenance: ['module'],
  copies: 'portable',
  governor: 'performance',
  megahertz: 667,
  kernel: '6.12.1',
  node: 'v22.0.0',
  provider: 'iospace',
  device: 'iospace0',
  module: '0.1.0',
  coherent: false,
  iommu: 'none',
  pinned: 1,
  emulated: null,
  countsInstructions: false,
};

/** A figure whose quartiles are 1 % away, or as far as is said. */
export function figure(
  operation: OperationName,
  memory: MemoryType | null,
  size: number | null,
  median: number,
  spread = 0.01,
): Measurement {
  const [low, high] = [median * (1 - spread), median * (1 + spread)];
  return {
    operation,
    memory,
    size,
    median,
    low,
    high,
    least: low,
    most: high,
    samples: 20,
    stable: spread < 0.05,
  };
}

export function resultOf(
  measurements: readonly Measurement[],
  more: Partial<Omit<BenchResult, 'measurements'>> = {},
): BenchResult {
  return makeResult({
    iospace: '0.1.0',
    startedAt: '2026-11-22T02:00:00.000Z',
    seconds: 60,
    complete: true,
    quick: false,
    unit: 'ns',
    machine: board,
    measurements,
    skipped: [],
    ...more,
  });
}

/** Nanoseconds that a size takes at so many megabytes a second. */
export const at = (megabytes: number, size: number): number => (size / (megabytes * 1e6)) * 1e9;

/** A board on which reading what is not cached is slow, and writing it is not: as others have published it. */
export const boardResult = resultOf(
  [4 * KiB, 64 * KiB, MiB, 64 * MiB]
    .flatMap((size) => [
      figure('js-read', 'cached', size, at(349, size)),
      figure('js-read', 'writecombine', size, at(70, size)),
      figure('js-copy-out', 'cached', size, at(349, size)),
      figure('js-copy-out', 'writecombine', size, at(70, size)),
      figure('js-write', 'cached', size, at(1000, size)),
      figure('js-write', 'writecombine', size, at(1137, size)),
      figure('random-read', 'cached', size, 60),
      figure('random-read', 'writecombine', size, 240),
      figure('sync-for-cpu', 'cached', size, 1000 + size / 2),
      figure('sync-for-device', 'cached', size, 1000 + size / 2),
      figure('interrupt-rate-poll', null, null, 20_000),
      figure('interrupt-rate-read', null, null, 80_000),
    ])
    .filter(
      // Interrupts have no size, and are there once.
      ({ operation }, index, all) =>
        operation.startsWith('interrupt') === false ||
        all.findIndex((one) => one.operation === operation) === index,
    ),
);
