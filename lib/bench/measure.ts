/**
 * Measures one thing: warms it up, repeats it until the median is steady or the time is over, and says which of the two.
 *
 * @module
 */
import { setImmediate } from 'node:timers/promises';
import { type Summary, summarize, uncertainty } from './statistics.js';

/** Something that can be repeated. */
export interface Work {
  /** Does it so many times; returns the nanoseconds that it took, without what only prepares it. */
  sample(runs: number): number | Promise<number>;
  /** What the time of one run is multiplied by, where a run does only a part of what the figure is of: a step of a buffer. */
  readonly scale: number;
  /** Runs in one sample; absent: as many as take {@link Effort.sample}. */
  readonly runs?: number;
  close?(): void | Promise<void>;
}

/** How long, and how exact. Times are in milliseconds of the clock that measures. */
export interface Effort {
  readonly warmUp: number;
  /** What one sample takes at least. */
  readonly sample: number;
  /** All samples together, unless the median is steady before. */
  readonly most: number;
  /** How uncertain the median may be, as a share of it. */
  readonly uncertainty: number;
}

/** Below it quartiles say little. */
const LEAST_SAMPLES = 7;
const MOST_SAMPLES = 200;
const MOST_RUNS = 1_000_000;

/** Nanoseconds, from a start of this thread's own. */
export function now(): number {
  return performance.now() * 1e6;
}

/** Enough for the clock's own code to be compiled. */
const CLOCK_READINGS = 20_000;

/** What reading the clock twice takes at least: never more is subtracted than was measured. */
const clockCost = (() => {
  let cost: number | undefined;
  return (): number => {
    if (cost === undefined) {
      cost = Number.POSITIVE_INFINITY;
      for (let index = 0; index < CLOCK_READINGS; index++) {
        const begin = now();
        cost = Math.min(cost, now() - begin);
      }
    }
    return cost;
  };
})();

/** Work that needs nothing between two runs. */
export function repeated(run: () => void, scale = 1): Work {
  return {
    scale,
    sample(runs) {
      const begin = now();
      for (let index = 0; index < runs; index++) {
        run();
      }
      return now() - begin;
    },
  };
}

/** Work of which each run is timed by itself, for something untimed comes before and after it. */
export function prepared<T>(
  prepare: () => T,
  run: (prepared: T) => void,
  after?: (prepared: T) => void,
): Work {
  return {
    scale: 1,
    sample(runs) {
      let total = 0;
      for (let index = 0; index < runs; index++) {
        const subject = prepare();
        const begin = now();
        run(subject);
        total += Math.max(now() - begin - clockCost(), 0);
        after?.(subject);
      }
      return total;
    },
  };
}

/** Runs it until it is compiled and its memory is where it stays. */
async function warmUp(work: Work, effort: Effort): Promise<{ fitting: number; once: number }> {
  const end = now() + effort.warmUp * 1e6;
  let runs = work.runs ?? 1;
  for (;;) {
    const begin = now();
    const once = (await work.sample(runs)) / runs;
    // With what prepares it: that takes time too, however little of it is measured.
    const taken = Math.max(now() - begin, 1);
    const fitting = Math.min(Math.max(Math.floor((effort.sample * 1e6 * runs) / taken), 1), MOST_RUNS);
    if (now() >= end && (work.runs !== undefined || fitting <= 2 * runs)) {
      return { fitting: work.runs ?? fitting, once };
    }
    runs = work.runs ?? Math.min(fitting, 8 * runs);
  }
}

/** What was measured. */
export interface Measured extends Summary {
  /** Whether more samples would hardly have changed the median. */
  readonly stable: boolean;
}

/**
 * Measures it. The event loop turns between samples, so that a signal is heard.
 *
 * @returns undefined where the signal came before there was a sample
 */
export async function measure(
  work: Work,
  effort: Effort,
  signal: AbortSignal,
): Promise<Measured | undefined> {
  const { fitting: runs, once } = await warmUp(work, effort);
  if (once > effort.most * 1e6) {
    // One takes longer than all of them may: that was it, and there is no other.
    return { ...summarize([once * work.scale]), stable: false };
  }
  const samples: number[] = [];
  const end = now() + effort.most * 1e6;
  for (;;) {
    await setImmediate();
    if (signal.aborted) {
      return undefined;
    }
    samples.push(((await work.sample(runs)) / runs) * work.scale);
    const isEnough = samples.length >= LEAST_SAMPLES;
    const summary = isEnough ? summarize(samples) : undefined;
    const stable = summary !== undefined && uncertainty(summary) <= effort.uncertainty;
    if (stable || now() >= end || samples.length >= MOST_SAMPLES) {
      return { ...summarize(samples), stable };
    }
  }
}
