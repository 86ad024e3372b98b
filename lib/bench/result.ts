/**
 * What a run has measured, and its form as JSON, which has a version.
 *
 * @module
 */
import { readFileSync } from 'node:fs';
import { type MemoryType, memoryTypes } from '../device/memory.js';
import { explained } from '../errors.js';
import { sizeText } from '../size-text.js';
import type { CacheDescription, MachineDescription } from './machine.js';
import type { Measured } from './measure.js';
import { isOperationName, type OperationName, operation } from './operation.js';
import type { Unit } from './quantity.js';
import { amount, listOf, oneOf, orNull, pick, type Shape, text, truth, unreadable } from './shape.js';

/** What the file says that it is. */
const FORMAT = 'iospace-bench';

/** Raised where the meaning of a member changes, or one that had to be there goes. */
const VERSION = 1;

/** More than any run has. */
const MOST_CASES = 10_000;

/** What is measured at a time. */
export interface Case {
  readonly operation: OperationName;
  /** `null` where no memory of a device is concerned. */
  readonly memory: MemoryType | null;
  /** In bytes; `null` where it has none. */
  readonly size: number | null;
}

/** Figures are of one pass over all of the size, one access, one call or one event: what the operation says. */
export interface Measurement extends Case, Measured {}

/** What was not measured, and why. */
export interface Skipped extends Case {
  readonly reason: string;
}

export interface BenchResult {
  readonly format: typeof FORMAT;
  readonly version: typeof VERSION;
  /** The version of the library. */
  readonly iospace: string;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly seconds: number;
  /** Whether it came to its end. */
  readonly complete: boolean;
  readonly quick: boolean;
  /** The unit of all figures. */
  readonly unit: Unit;
  /** Whether figures are times of an emulated machine, which say nothing of memory. */
  readonly meaningless: boolean;
  readonly machine: MachineDescription;
  readonly measurements: readonly Measurement[];
  readonly skipped: readonly Skipped[];
}

/** Fills in what every result says of itself. */
export function makeResult(content: Omit<BenchResult, 'format' | 'version' | 'meaningless'>): BenchResult {
  return {
    format: FORMAT,
    version: VERSION,
    meaningless: content.machine.emulated !== null && content.unit === 'ns',
    ...content,
  };
}

/** What tells one case from another. */
export function keyOf({ operation, memory, size }: Case): string {
  return `${operation} ${memory ?? '-'} ${size ?? '-'}`;
}

/** A case in words: `js-read cached 64 KiB`. */
export function caseText({ operation, memory, size }: Case): string {
  return [operation, memory, size === null ? null : sizeText(size)].filter((word) => word !== null).join(' ');
}

const resultShapes: Readonly<
  Record<Exclude<keyof BenchResult, 'format' | 'version' | 'machine' | 'measurements' | 'skipped'>, Shape>
> = {
  iospace: text,
  startedAt: text,
  seconds: amount,
  complete: truth,
  quick: truth,
  unit: oneOf(['ns', 'instructions']),
  meaningless: truth,
};

const machineShapes: Readonly<Record<Exclude<keyof MachineDescription, 'caches'>, Shape>> = {
  cpu: text,
  arch: text,
  processors: amount,
  board: orNull(text),
  memory: amount,
  cacheMaintenance: listOf(text),
  copies: text,
  governor: orNull(text),
  megahertz: orNull(amount),
  kernel: text,
  node: text,
  provider: text,
  device: text,
  module: text,
  coherent: truth,
  iommu: text,
  pinned: orNull(amount),
  emulated: orNull(text),
  countsInstructions: truth,
};

const cacheShapes: Readonly<Record<keyof CacheDescription, Shape>> = {
  level: amount,
  type: text,
  size: amount,
  line: amount,
};

const caseShapes: Readonly<Record<keyof Case, Shape>> = {
  operation: text,
  memory: orNull(oneOf(memoryTypes)),
  size: orNull({
    says: 'an integer from 1 on',
    is: (value) => Number.isSafeInteger(value) && (value as number) > 0,
  }),
};

const measurementShapes: Readonly<Record<keyof Measurement, Shape>> = {
  ...caseShapes,
  median: amount,
  low: amount,
  high: amount,
  least: amount,
  most: amount,
  samples: amount,
  stable: truth,
};

const skippedShapes: Readonly<Record<keyof Skipped, Shape>> = { ...caseShapes, reason: text };

/**
 * Reads what `iospace bench --json` has written.
 *
 * @throws the errors of reading a file; ERR_INVALID_ARG_VALUE for what is no result, or one of another version
 */
export function readResult(path: string): BenchResult {
  const text = explained({ path }, { EISDIR: 'name the file in it' }, () => readFileSync(path, 'utf8'));
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw unreadable(path, 'what iospace bench --json has written', text);
  }
  return checkResult(path, value);
}

/** @param path - where it comes from, for messages */
export function checkResult(path: string, value: unknown): BenchResult {
  if (typeof value !== 'object' || value === null || !('format' in value) || value.format !== FORMAT) {
    throw unreadable(path, 'what iospace bench --json has written', value);
  }
  const result = value as BenchResult;
  if (result.version !== VERSION) {
    throw unreadable(
      path,
      `version ${VERSION} of the format (measure again with this iospace)`,
      result.version,
    );
  }
  for (const member of ['measurements', 'skipped'] as const) {
    const list: unknown = result[member];
    if (!Array.isArray(list) || list.length > MOST_CASES) {
      throw unreadable(path, `${member}: a list of at most ${MOST_CASES}`, list);
    }
  }
  const { caches } = pick(path, 'machine', result.machine, { caches: { says: 'a list', is: Array.isArray } });
  return {
    format: FORMAT,
    version: VERSION,
    ...pick(path, 'result', result, resultShapes),
    machine: {
      ...pick(path, 'machine', result.machine, machineShapes),
      caches: (caches as unknown[]).map((cache) => pick(path, 'caches', cache, cacheShapes)),
    },
    measurements: known(path, 'measurements', result.measurements, measurementShapes),
    skipped: known(path, 'skipped', result.skipped, skippedShapes),
  } as unknown as BenchResult;
}

/** Cases of operations that this version has: others are of a newer one, and left out. */
function known(
  path: string,
  name: string,
  cases: readonly unknown[],
  shapes: Readonly<Record<string, Shape>>,
): unknown[] {
  return cases.flatMap((one) => {
    const { operation: of } = pick(path, name, one, { operation: text }) as { operation: string };
    if (!isOperationName(of)) {
      return [];
    }
    const picked = pick(path, name, one, shapes);
    const hasMemory = operation(of).group !== 'interrupt';
    if ((picked['memory'] !== null) !== hasMemory || (picked['size'] !== null) !== hasMemory) {
      throw unreadable(path, `${name} of ${of} ${hasMemory ? 'with' : 'without'} memory and size`, one);
    }
    return [picked];
  });
}
