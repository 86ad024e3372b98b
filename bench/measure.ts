/**
 * What the benchmarks in JavaScript measure with: clocks, what the kernel knows of who had to wait for a processor, and the line
 * that says what was found.
 */
import { readdirSync, readFileSync } from 'node:fs';

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** Prints a line for `report.ts`: what was measured, in which workload, and its figures. */
export function show(of: string, workload: string, figures: Record<string, number>): void {
  console.log(JSON.stringify({ of, in: workload, ...figures }));
}

/** Nanoseconds, by a clock that all processes share. */
export const now = () => Number(process.hrtime.bigint());

/** Nanoseconds for which a thread ran, and for which it waited for a processor. */
export interface Schedule {
  ran: number;
  waited: number;
}

/** What the kernel knows of this thread. */
export function schedule(): Schedule {
  // Brings the kernel's figure up to date.
  process.cpuUsage();
  return scheduleOf('/proc/self/schedstat');
}

/** Nanoseconds for which all threads of these processes waited for a processor. Those that have just ended are left out. */
function waitedBy(pids: readonly number[]): number {
  let waited = 0;
  for (const pid of pids) {
    try {
      for (const thread of readdirSync(`/proc/${pid}/task`)) {
        waited += scheduleOf(`/proc/${pid}/task/${thread}/schedstat`).waited;
      }
    } catch (error) {
      if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) {
        throw error;
      }
    }
  }
  return waited;
}

function scheduleOf(path: string): Schedule {
  const [ran, waited] = readFileSync(path, 'utf8').split(' ').map(Number);
  return { ran: ran ?? Number.NaN, waited: waited ?? Number.NaN };
}

/** How often something is measured: for so short a time, that some of them find a busy machine quiet. */
const WINDOWS = 160;

/** One of so many windows is counted. */
const COUNTED = 8;

/** What something costs in each of many windows of time. */
export class Windows {
  readonly #pids: readonly number[];
  readonly #windows: { cost: number; waited: number }[] = [];

  /** @param others - processes that take part, besides this one */
  constructor(others: readonly number[]) {
    this.#pids = [process.pid, ...others];
  }

  /** Measures `work` in one window, in which it does `count` things. */
  async add(count: number, work: (count: number) => void | Promise<void>): Promise<void> {
    const before = waitedBy(this.#pids);
    const begin = now();
    await work(count);
    const time = now() - begin;
    this.#windows.push({ cost: time / count, waited: (waitedBy(this.#pids) - before) / time });
  }

  /** Nanoseconds for each thing: the median of the eighth of windows in which the processes waited least for a processor. */
  get cost(): number {
    const quiet = [...this.#windows].sort((a, b) => a.waited - b.waited);
    return median(quiet.slice(0, Math.ceil(quiet.length / COUNTED)).map(({ cost }) => cost));
  }
}

/** Nanoseconds for each of `count` things that `work` does, in many {@link Windows}. */
export async function costOf(
  count: number,
  others: readonly number[],
  work: (count: number) => void | Promise<void>,
): Promise<number> {
  const windows = new Windows(others);
  const each = Math.ceil(count / WINDOWS);
  // Until it is compiled.
  await work(each);
  for (let window = 0; window < WINDOWS; window++) {
    await windows.add(each, work);
  }
  return windows.cost;
}

/** How many things {@link costOf} has done by then. */
export function countOf(count: number): number {
  return Math.ceil(count / WINDOWS) * (WINDOWS + 1);
}
