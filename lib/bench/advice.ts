/**
 * Advice in words, computed from what was measured: which memory type to take for which direction and way of access, and by how
 * much it wins here. Nothing is said of an emulated machine, or where figures do not differ.
 *
 * @module
 */
import type { MemoryType } from '../device/memory.js';
import { sizeText } from '../size-text.js';
import { type OperationName, operation } from './operation.js';
import { bandwidth, bandwidthText, timesText, timeText } from './quantity.js';
import type { BenchResult, Measurement } from './result.js';
import { isApart } from './statistics.js';

export interface Advice {
  readonly title: string;
  readonly text: string;
}

/** What it costs to use a memory type in some way, once over a size: with what has to come before or after it. */
interface Cost {
  readonly memory: MemoryType;
  readonly ns: number;
  readonly low: number;
  readonly high: number;
  /** The best way that was measured. */
  readonly way: OperationName;
  /** Whether a sync is in it. */
  readonly synced: boolean;
}

/** A way to use memory, and what of a sync belongs to it. */
interface Use {
  readonly title: string;
  /** In the middle of a sentence. */
  readonly what: string;
  readonly operations: readonly OperationName[];
  readonly sync?: OperationName;
}

const uses: readonly Use[] = [
  {
    title: 'A device writes, the CPU reads all of it',
    what: 'reading with a loop of JavaScript',
    operations: ['js-read'],
    sync: 'sync-for-cpu',
  },
  {
    title: 'A device writes, the CPU copies it out',
    what: 'copying out',
    operations: ['js-copy-out', 'copy-out'],
    sync: 'sync-for-cpu',
  },
  {
    title: 'The CPU writes, a device reads',
    what: 'writing with a loop of JavaScript',
    operations: ['js-write'],
    sync: 'sync-for-device',
  },
  {
    title: 'The CPU copies in, a device reads',
    what: 'copying in',
    operations: ['js-copy-in', 'copy-in'],
    sync: 'sync-for-device',
  },
  { title: 'Single reads here and there', what: 'a random read of 8 bytes', operations: ['random-read'] },
];

class Figures {
  readonly #result: BenchResult;

  constructor(result: BenchResult) {
    this.#result = result;
  }

  find(name: OperationName, memory: MemoryType | null, size: number | null): Measurement | undefined {
    return this.#result.measurements.find(
      (one) => one.operation === name && one.memory === memory && one.size === size,
    );
  }

  get sizes(): number[] {
    const all = this.#result.measurements.flatMap(({ size }) => (size === null ? [] : [size]));
    return [...new Set(all)].sort((a, b) => a - b);
  }

  get memory(): MemoryType[] {
    const all = this.#result.measurements.flatMap(({ memory }) => (memory === null ? [] : [memory]));
    return [...new Set(all)];
  }

  /** What a use costs, the cheapest first: by the best way that was measured. */
  costs({ operations, sync }: Use, size: number): Cost[] {
    return this.memory
      .flatMap((memory): Cost[] => {
        const best = operations
          .flatMap((name) => this.find(name, memory, size) ?? [])
          .sort((a, b) => a.median - b.median)[0];
        const turn = sync === undefined ? undefined : this.find(sync, memory, size);
        return best === undefined
          ? []
          : [
              {
                memory,
                way: best.operation,
                ns: best.median + (turn?.median ?? 0),
                low: best.low + (turn?.low ?? 0),
                high: best.high + (turn?.high ?? 0),
                synced: turn !== undefined,
              },
            ];
      })
      .sort((a, b) => a.ns - b.ns);
  }
}

function namedText({ memory, synced }: Cost): string {
  return synced ? `${memory}, its sync included` : memory;
}

/** Less is no reason to prefer one. */
const LEAST_GAIN = 0.1;

/** Whether nothing can be said of which of the two is better. */
function isTie(best: Cost, other: Cost): boolean {
  return other.ns < best.ns * (1 + LEAST_GAIN) || !isApart(best, other);
}

/** Sizes at which the same types win, from the smallest; with the costs at the largest. */
interface Stretch {
  readonly first: number;
  last: number;
  /** Those that hardly differ from the best, the best first. */
  leaders: readonly Cost[];
  /** The others, the best of them first. */
  rest: readonly Cost[];
}

function wordsOf(memory: readonly string[], conjunction: string): string {
  const last = memory.at(-1) ?? '';
  return memory.length < 2 ? last : `${memory.slice(0, -1).join(', ')} ${conjunction} ${last}`;
}

/** The same for the same types, whichever of them happens to be first. */
function winnersOf({ leaders }: Stretch): string {
  return leaders
    .map(({ memory }) => memory)
    .sort()
    .join(' ');
}

function stretchesOf(figures: Figures, use: Use): Stretch[] {
  const stretches: Stretch[] = [];
  for (const size of figures.sizes) {
    const costs = figures.costs(use, size);
    const [best] = costs;
    if (best === undefined || costs.length < 2) {
      continue;
    }
    const leaders = costs.filter((cost) => isTie(best, cost));
    const stretch = {
      first: size,
      last: size,
      leaders,
      rest: costs.filter((cost) => !leaders.includes(cost)),
    };
    const previous = stretches.at(-1);
    if (previous !== undefined && winnersOf(previous) === winnersOf(stretch)) {
      Object.assign(previous, { ...stretch, first: previous.first });
    } else {
      stretches.push(stretch);
    }
  }
  return stretches;
}

function rangeText({ first, last }: Stretch): string {
  return first === last ? `At ${sizeText(first)}` : `From ${sizeText(first)} to ${sizeText(last)}`;
}

/** What it costs with the best, in parentheses. */
function figureOf({ ns, way, synced }: Cost, size: number, use: Use): string {
  const isAccess = operation(way).per === 'access';
  return [
    isAccess
      ? `${timeText(ns)} in ${sizeText(size)}`
      : `${bandwidthText(bandwidth(size, ns))} at ${sizeText(size)}`,
    ...(use.operations.length > 1 ? [`by ${operation(way).label}`] : []),
    ...(synced ? ['its sync included'] : []),
  ].join(', ');
}

/** One sentence about a stretch of sizes. */
function stretchText(use: Use, stretch: Stretch): string {
  const { leaders, rest, last } = stretch;
  const names = leaders.map(({ memory }) => memory);
  const [best] = leaders;
  const [next] = rest;
  if (best === undefined || next === undefined) {
    return `${rangeText(stretch)} ${wordsOf(names, 'and')} hardly differ.`;
  }
  const worst = rest.length > 1 ? rest.at(-1) : undefined;
  const alike = leaders.length > 1 ? ', which hardly differ' : '';
  const faster = [next, ...(worst === undefined ? [] : [worst])].map(
    (other) => `${timesText(other.ns / best.ns)} as fast as ${namedText(other)}`,
  );
  return `${rangeText(stretch)} take ${wordsOf(names, 'or')}${alike}: ${use.what} is ${faster.join(', and ')} (${figureOf(best, last, use)}).`;
}

function adviceOfUse(figures: Figures, use: Use): Advice[] {
  const stretches = stretchesOf(figures, use);
  return stretches.length === 0
    ? []
    : [{ title: use.title, text: stretches.map((stretch) => stretchText(use, stretch)).join(' ') }];
}

/** Ways to do the same: calls, and the loop that does without. */
const ways: readonly { title: string; calls: readonly OperationName[]; loop: OperationName }[] = [
  { title: 'How to copy out', calls: ['js-copy-out', 'copy-out'], loop: 'js-read' },
  { title: 'How to copy in', calls: ['js-copy-in', 'copy-in'], loop: 'js-write' },
];

/** Of each type, at the smallest and the largest size, the call that is fastest, if it beats the loop. */
function adviceOfWays(figures: Figures): Advice[] {
  const ends = [...new Set([figures.sizes.at(0), figures.sizes.at(-1)])];
  return ways.flatMap(({ title, calls, loop }) => {
    const texts = figures.memory.flatMap((memory) => {
      const wins = ends.flatMap((size = 0) => {
        const [best] = calls
          .flatMap((name) => figures.find(name, memory, size) ?? [])
          .sort((a, b) => a.median - b.median);
        const other = figures.find(loop, memory, size);
        if (
          best === undefined ||
          other === undefined ||
          best.median >= other.median ||
          !isApart(best, other)
        ) {
          return [];
        }
        const { label } = operation(best.operation);
        return [{ label, gain: `${timesText(other.median / best.median)} as fast at ${sizeText(size)}` }];
      });
      const sentence = wins.map(({ label, gain }, index) =>
        label === wins[index - 1]?.label ? gain : `${label} is ${gain}`,
      );
      return wins.length === 0 ? [] : [`${memory}: ${sentence.join(', ')}`];
    });
    return texts.length === 0 ? [] : [{ title, text: `Against a loop over words. ${texts.join('; ')}.` }];
  });
}

/** What maintenance costs where no device is: the only part of handing over that can be known there. */
function adviceWithoutDevice(figures: Figures): Advice[] {
  const costs = [...new Set([figures.sizes.at(0), figures.sizes.at(-1)])].flatMap((size = 0) => {
    const clean = figures.find('clean', 'cached', size);
    const invalidate = figures.find('invalidate', 'cached', size);
    return clean === undefined || invalidate === undefined
      ? []
      : [`${timeText(clean.median)} and ${timeText(invalidate.median)} at ${sizeText(size)}`];
  });
  return costs.length === 0
    ? []
    : [
        {
          title: 'Handing over to a device',
          text:
            'There is no device, so syncForDevice and syncForCpu have nothing to do here. Where one does not snoop, a sync costs about as ' +
            `much as maintenance of the caches, and that can be measured: clean and invalidate take ${costs.join(', ')}.`,
        },
      ];
}

/** When latency is what counts, and when it is not. */
function adviceOfInterrupts(figures: Figures): Advice[] {
  const poll = figures.find('interrupt-rate-poll', null, null);
  const read = figures.find('interrupt-rate-read', null, null);
  if (poll === undefined || read === undefined || !isApart(poll, read)) {
    return [];
  }
  const [better, worse] = poll.median < read.median ? [poll, read] : [read, poll];
  const label = operation(better.operation).label.replace(', sustained', '');
  const perSecond = Math.round(1e9 / better.median / 1000) * 1000;
  const sleeping = figures.find('interrupt-poll', null, null);
  const spinning = figures.find('interrupt-spin', null, null);
  const spin =
    sleeping !== undefined && spinning !== undefined && isApart(sleeping, spinning)
      ? ` Busy polling (the option spin) answers after ${timeText(spinning.median)}, sleeping in uv_poll after ${timeText(sleeping.median)}: ` +
        (spinning.median < sleeping.median
          ? 'it is worth a processor only where those microseconds count.'
          : 'it is worth nothing here.')
      : '';
  return [
    {
      title: 'Interrupts',
      text: `${label} takes ${timesText(worse.median / better.median)} as many events as ${operation(worse.operation).label.replace(', sustained', '')}: about ${perSecond} a second.${spin}`,
    },
  ];
}

/** What to take here. Empty where nothing can be said. */
export function adviceOf(result: BenchResult): Advice[] {
  if (result.meaningless) {
    return [
      {
        title: 'No advice',
        text: 'This machine is emulated: its times say nothing of memory types. Measure on the board itself.',
      },
    ];
  }
  if (result.unit === 'instructions') {
    return [
      {
        title: 'No advice',
        text: 'Instructions say what a path does, and nothing of how long memory takes: no memory type wins or loses by them.',
      },
    ];
  }
  const figures = new Figures(result);
  const types = figures.memory;
  const only: Advice[] =
    types.length === 1
      ? [
          {
            title: 'Which memory type',
            text: `Only ${types[0]} memory was measured, so nothing can be compared with it.${
              result.machine.provider === 'memfd'
                ? ' The others need the kernel module: sudo modprobe iospace, then measure again.'
                : ''
            }`,
          },
        ]
      : uses.flatMap((use) => adviceOfUse(figures, use));
  const withoutDevice = result.machine.provider === 'memfd' ? adviceWithoutDevice(figures) : [];
  return [...only, ...withoutDevice, ...adviceOfWays(figures), ...adviceOfInterrupts(figures)];
}
