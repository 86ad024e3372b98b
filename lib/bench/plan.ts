/**
 * What is to be measured: every operation on every memory type in every size, or what of it was asked for.
 *
 * @module
 */
import { type MemoryType, memoryTypes } from '../device/memory.js';
import { wrongValue } from '../errors.js';
import { sizeText } from '../size-text.js';
import { type Group, groups, isOperationName, operation, operationNames } from './operation.js';
import type { Case } from './result.js';

const KiB = 1024;
const MiB = 1024 * KiB;

/** All sizes, in bytes. */
export const sizes: readonly number[] = [
  4 * KiB,
  16 * KiB,
  64 * KiB,
  256 * KiB,
  MiB,
  4 * MiB,
  16 * MiB,
  64 * MiB,
];

/** Of a quick run: one for each cache of most processors, and one that is in none. */
const quickSizes: readonly number[] = [4 * KiB, 64 * KiB, MiB, 64 * MiB];

/** Where instructions are counted: beyond these there are only more of the same. */
const countedSizes: readonly number[] = [4 * KiB, 64 * KiB, MiB];

/** What of all cases is wanted; what is empty leaves nothing out. */
interface Filter {
  readonly names: ReadonlySet<string>;
  readonly groups: ReadonlySet<Group>;
  readonly memory: ReadonlySet<MemoryType>;
  readonly sizes: ReadonlySet<number>;
}

/** `64K`, `64KiB`, `1M` as bytes; undefined for what is no size. */
function bytesOf(word: string): number | undefined {
  const [, digits, unit = ''] = /^(\d+)([KM]?)(?:i?B)?$/i.exec(word) ?? [];
  return digits === undefined
    ? undefined
    : Number(digits) * 1024 ** ['', 'K', 'M'].indexOf(unit.toUpperCase());
}

/**
 * Reads a filter: words, separated by commas or spaces. Of one kind any may match, of each kind one must.
 *
 * @throws ERR_INVALID_ARG_VALUE for a word that is neither operation, group, memory type nor size
 */
function parseFilter(text: string): Filter {
  const filter = {
    names: new Set<string>(),
    groups: new Set<Group>(),
    memory: new Set<MemoryType>(),
    sizes: new Set<number>(),
  };
  const words = text.split(/[\s,]+/).filter((word) => word !== '');
  if (words.length === 0) {
    throw wrongValue('--filter', 'at least one word', text);
  }
  for (const word of words) {
    const bytes = bytesOf(word);
    if (isOperationName(word)) {
      filter.names.add(word);
    } else if ((groups as readonly string[]).includes(word)) {
      filter.groups.add(word as Group);
    } else if ((memoryTypes as readonly string[]).includes(word)) {
      filter.memory.add(word as MemoryType);
    } else if (bytes !== undefined && sizes.includes(bytes)) {
      filter.sizes.add(bytes);
    } else {
      throw wrongValue(
        '--filter',
        `words out of: groups ${groups.join(', ')}; operations ${operationNames.join(', ')}; ` +
          `memory types ${memoryTypes.join(', ')}; sizes ${sizes.map((size) => sizeText(size).replace(' ', '')).join(', ')}`,
        word,
      );
    }
  }
  return filter;
}

function has<T>(wanted: ReadonlySet<T>, value: T): boolean {
  return wanted.size === 0 || wanted.has(value);
}

export interface PlanOptions {
  /** What the device can give. */
  readonly memory: readonly MemoryType[];
  readonly quick?: boolean;
  /** Whether instructions are counted: nothing is measured then that waits for another thread. */
  readonly counting?: boolean;
  /** Words of operations, groups, memory types and sizes. */
  readonly filter?: string;
}

/**
 * The cases in the order in which they are measured: by type, by size, by operation, so that a buffer is made once.
 *
 * @throws ERR_INVALID_ARG_VALUE for a filter that says nothing, or leaves nothing
 */
export function makePlan({ memory, quick = false, counting = false, filter }: PlanOptions): Case[] {
  const wanted = filter === undefined ? undefined : parseFilter(filter);
  const isWanted = (one: Case): boolean => {
    if (wanted === undefined) {
      return true;
    }
    const { names, groups, memory, sizes } = wanted;
    const isNamed = names.has(one.operation) || groups.has(operation(one.operation).group);
    return (
      (isNamed || (names.size === 0 && groups.size === 0)) &&
      (one.memory === null ? memory.size === 0 || isNamed : has(memory, one.memory)) &&
      (one.size === null ? sizes.size === 0 || isNamed : has(sizes, one.size))
    );
  };
  const usual = counting ? countedSizes : quick ? quickSizes : sizes;
  // A size that is asked for is always measured.
  const inSizes = wanted === undefined || wanted.sizes.size === 0 ? usual : sizes;
  const ofMemory = memory.flatMap((type) =>
    inSizes.flatMap((size) =>
      operationNames
        .filter((name) => operation(name).group !== 'interrupt')
        .filter((name) => operation(name).memory?.includes(type) ?? true)
        .map((name): Case => ({ operation: name, memory: type, size })),
    ),
  );
  const ofInterrupts = operationNames
    .filter((name) => operation(name).group === 'interrupt')
    .filter((name) => !counting || name.startsWith('interrupt-rate-'))
    .map((name): Case => ({ operation: name, memory: null, size: null }));
  const plan = [...ofMemory, ...ofInterrupts].filter(isWanted);
  if (plan.length === 0) {
    throw wrongValue(
      '--filter',
      `something that can be measured here (memory: ${memory.join(', ')})`,
      filter,
    );
  }
  return plan;
}
