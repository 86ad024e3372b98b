/**
 * Runs a plan on a device, case by case, and keeps what was measured whatever happens to the rest.
 *
 * @module
 */
import { setTimeout } from 'node:timers/promises';
import type { DmaDevice } from '../device/device.js';
import type { CodedError } from '../errors.js';
import { interruptWorks } from './interrupt-work.js';
import { type Effort, type Measured, measure, type Work } from './measure.js';
import { memoryWorks, Subject, warmLoops } from './memory-work.js';
import type { OperationName } from './operation.js';
import type { Pinning } from './pinning.js';
import type { Case, Measurement, Skipped } from './result.js';

/** Of a whole run. */
const fullEffort: Effort = { warmUp: 40, sample: 2, most: 400, uncertainty: 0.01 };
/**
 * Where instructions are counted, the clock's milliseconds are a million of them, and nearly all runs alike: seven samples are
 * mostly enough. Those of other threads are counted too, so that a sample beside the compiler is ten times the others; there
 * is time for those that outweigh it.
 */
const countingEffort: Effort = { warmUp: 30, sample: 1, most: 50, uncertainty: 0.01 };

/** Milliseconds for the compiler, after what it compiles has run. */
const COMPILING = 50;

/** What a quick run may take altogether, in milliseconds, so that all of the command stays below 30 s. */
const QUICK_TIME = 24_000;
/** What one case of it may take, however few there are. */
const QUICK_MOST = 400;

export interface RunOptions {
  readonly device: DmaDevice;
  readonly plan: readonly Case[];
  /** Its signal ends the run; what was measured until then stays. */
  readonly signal: AbortSignal;
  readonly pinning: Pinning | undefined;
  readonly quick: boolean;
  readonly counting: boolean;
  onCase?(one: Case, done: number): void;
}

export interface Outcome {
  readonly measurements: readonly Measurement[];
  readonly skipped: readonly Skipped[];
  readonly complete: boolean;
}

/** An equal share of the time that is left: a quarter to warm up, half for eight samples, the rest for what prepares them. */
function quickEffort(timeLeft: number, casesLeft: number): Effort {
  const share = Math.min(timeLeft / casesLeft, QUICK_MOST);
  return { warmUp: share / 4, sample: Math.min(share / 16, 2), most: share / 2, uncertainty: 0.02 };
}

/** The work of a case; `subject` is of its memory and size. */
function workOf(name: OperationName, subject: Subject | undefined): Work | Promise<Work> {
  if (name in interruptWorks) {
    return interruptWorks[name as keyof typeof interruptWorks]();
  }
  if (subject === undefined) {
    throw new Error(`${name} is measured on memory`);
  }
  return memoryWorks[name as keyof typeof memoryWorks](subject);
}

/** What this machine or device cannot do is left out, and said; a mistake of this program is none of that. */
function reasonOf(error: unknown): string {
  const { code, message, name } = error as CodedError;
  // An ArrayBuffer that does not fit is a RangeError without a code.
  if (code === undefined && name !== 'RangeError') {
    throw error;
  }
  return message;
}

/** A run that is going on. */
class Run {
  readonly #options: RunOptions;
  readonly #began = performance.now();
  readonly measurements: Measurement[] = [];
  readonly skipped: Skipped[] = [];
  #subject: Subject | undefined;

  constructor(options: RunOptions) {
    this.#options = options;
  }

  async all(): Promise<boolean> {
    const { plan, signal, onCase } = this.#options;
    try {
      warmLoops();
      await setTimeout(COMPILING);
      for (const [done, one] of plan.entries()) {
        if (signal.aborted) {
          return false;
        }
        onCase?.(one, done);
        await this.#one(one, plan.length - done);
      }
      return !signal.aborted;
    } finally {
      this.#subject?.[Symbol.dispose]();
    }
  }

  async #one(one: Case, casesLeft: number): Promise<void> {
    const effort = this.#effort(casesLeft);
    if (effort === undefined) {
      this.skipped.push({ ...one, reason: 'no time was left in a quick run' });
      return;
    }
    try {
      const measured = await this.#measure(one, effort);
      if (measured !== undefined) {
        this.measurements.push({ ...one, ...measured });
      }
    } catch (error) {
      this.skipped.push({ ...one, reason: reasonOf(error) });
    }
  }

  async #measure(one: Case, effort: Effort): Promise<Measured | undefined> {
    const subject = this.#subjectOf(one);
    if (subject === undefined) {
      this.#options.pinning?.release();
    }
    const work = await workOf(one.operation, subject);
    try {
      return await measure(work, effort, this.#options.signal);
    } finally {
      await work.close?.();
    }
  }

  /** How much a case may take; undefined where nothing is left. */
  #effort(casesLeft: number): Effort | undefined {
    const { quick, counting } = this.#options;
    if (counting) {
      return countingEffort;
    }
    if (!quick) {
      return fullEffort;
    }
    const timeLeft = QUICK_TIME - (performance.now() - this.#began);
    return timeLeft <= 0 ? undefined : quickEffort(timeLeft, casesLeft);
  }

  #subjectOf({ memory, size }: Case): Subject | undefined {
    if (memory === null || size === null) {
      return undefined;
    }
    if (this.#subject?.memory !== memory || this.#subject.size !== size) {
      this.#subject?.[Symbol.dispose]();
      this.#subject = new Subject(this.#options.device, memory, size);
    }
    return this.#subject;
  }
}

export async function runPlan(options: RunOptions): Promise<Outcome> {
  const run = new Run(options);
  const complete = await run.all();
  return { measurements: run.measurements, skipped: run.skipped, complete };
}
