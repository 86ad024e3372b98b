/**
 * Whose turn it is with memory that a device and the CPU both use: handing it over, whole or in ranges.
 *
 * @module
 */
import { binding } from '../binding.js';
import { checkRange } from '../check.js';
import { wrongType, wrongValue } from '../errors.js';

export type Turn = 'device' | 'cpu';

/** A part of a buffer or mapping, in bytes from its start. */
export interface SyncRange {
  readonly offset: number;
  readonly length: number;
}

/** Hands ranges, at least one and none of them empty, to whose turn begins. Checks all before the first. */
export type HandOver = (turn: Turn, ranges: readonly SyncRange[]) => void;

/**
 * Begins a turn.
 *
 * @param handOver - absent where a barrier is enough
 * @param ranges - from {@link rangesOf}
 */
export function beginTurn(turn: Turn, handOver: HandOver | undefined, ranges: readonly SyncRange[]): void {
  if (turn === 'cpu') {
    // Before the call copies what the device wrote.
    binding().barrier();
  }
  if (handOver !== undefined && ranges.length > 0) {
    handOver(turn, ranges);
  }
  if (turn === 'device') {
    // After what the call may have copied.
    binding().barrier();
  }
}

/**
 * What the arguments of a sync name, empty ranges left out.
 *
 * @param offset - or a list of ranges
 * @param length - absent: all that follow
 * @param base - where the `available` bytes begin, from which offsets count
 */
export function rangesOf(
  offset: number | readonly SyncRange[],
  length: number | undefined,
  base: number,
  available: number,
): SyncRange[] {
  if (!Array.isArray(offset)) {
    const bytes = checkRange(offset, length, available);
    return bytes === 0 ? [] : [{ offset: base + (offset as number), length: bytes }];
  }
  if (length !== undefined) {
    throw wrongValue('length', 'nothing beside a list of ranges', length);
  }
  const ranges: SyncRange[] = [];
  for (const [index, range] of (offset as readonly SyncRange[]).entries()) {
    const name = `ranges[${index}]`;
    if (typeof range !== 'object' || range === null) {
      throw wrongType(name, 'an object with offset and length', range);
    }
    const bytes = checkRange(range.offset, range.length, available, name);
    if (bytes > 0) {
      ranges.push({ offset: base + range.offset, length: bytes });
    }
  }
  return ranges;
}
