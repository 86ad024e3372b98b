/**
 * What a run has measured, and its form as JSON, which has a version.
 *
 * @module
 */
import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { type MemoryType, memoryTypes } from '../device/memory.js';
import { explained } from '../errors.js';
import { sizeText } from '../size-text.js';
import type { MachineDescription } from './machine.js';
import type { Measured } from './measure.js';
import { isOperationName, type OperationName } from './operation.js';
import type { Unit } from './quantity.js';

/** What the file says that it is. */
const FORMAT = 'iospace-bench';

/** Raised where the meaning of a member changes, or one that had to be there goes. */
const VERSION = 1;

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

/** A file that holds no result that this version can read. */
function unreadable(path: string, expected: string, got: unknown): Error & { code: string } {
  const value = typeof got === 'string' && got.length > 60 ? `${got.slice(0, 60)}...` : got;
  return Object.assign(
    new Error(`${path}: expected ${expected}, got ${inspect(value, { depth: 0, breakLength: Infinity })}`),
    { code: 'ERR_INVALID_ARG_VALUE' },
  );
}

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
  const units: readonly unknown[] = ['ns', 'instructions'];
  if (!units.includes(result.unit)) {
    throw unreadable(path, 'unit: ns or instructions', result.unit);
  }
  for (const member of ['measurements', 'skipped'] as const) {
    if (!Array.isArray(result[member])) {
      throw unreadable(path, `${member}: a list`, result[member]);
    }
  }
  const { machine } = result;
  if (
    typeof machine !== 'object' ||
    machine === null ||
    !Array.isArray(machine.caches) ||
    !Array.isArray(machine.cacheMaintenance)
  ) {
    throw unreadable(path, 'machine: its description', machine);
  }
  // An operation that this version does not have is of a newer one, and left out.
  return {
    ...result,
    measurements: result.measurements.filter((measurement) => isKnown(path, measurement)),
    skipped: result.skipped.filter(({ operation }) => isOperationName(operation)),
  };
}

function isKnown(path: string, measurement: Measurement): boolean {
  const { operation, memory, size, median, low, high, least, most, samples } = measurement;
  const isMemory = memory === null || memoryTypes.includes(memory);
  const isSize = size === null || (Number.isSafeInteger(size) && size > 0);
  const areFigures = [median, low, high, least, most, samples].every(
    (figure) => Number.isFinite(figure) && figure >= 0,
  );
  if (typeof operation !== 'string' || !isMemory || !isSize || !areFigures) {
    throw unreadable(path, 'measurements with operation, memory, size and figures', measurement);
  }
  return isOperationName(operation);
}
