/**
 * What the benchmarks in JavaScript measure with: clocks, and what the kernel knows of who had to wait for a processor.
 */
import { readdirSync, readFileSync } from 'node:fs';

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
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

/** Nanoseconds for which all threads of these processes waited for a processor. */
export function waitedBy(pids: readonly number[]): number {
  let waited = 0;
  for (const pid of pids) {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      waited += scheduleOf(`/proc/${pid}/task/${thread}/schedstat`).waited;
    }
  }
  return waited;
}

function scheduleOf(path: string): Schedule {
  const [ran, waited] = readFileSync(path, 'utf8').split(' ').map(Number);
  return { ran: ran ?? Number.NaN, waited: waited ?? Number.NaN };
}

/** How often something is measured, each time for so long. */
const WINDOWS = 40;

/**
 * Nanoseconds for each of `count` things that `work` does: the median of those windows of time, out of 40, in which the
 * processes waited least for a processor: a quarter of them.
 *
 * @param others - processes that take part, besides this one
 */
export async function costOf(
  count: number,
  others: readonly number[],
  work: (count: number) => void | Promise<void>,
): Promise<number> {
  const pids = [process.pid, ...others];
  const windows: { cost: number; waited: number }[] = [];
  const each = Math.ceil(count / WINDOWS);
  // Until it is compiled.
  await work(each);
  for (let window = 0; window < WINDOWS; window++) {
    const before = waitedBy(pids);
    const begin = now();
    await work(each);
    const time = now() - begin;
    windows.push({ cost: time / each, waited: (waitedBy(pids) - before) / time });
  }
  windows.sort((a, b) => a.waited - b.waited);
  return median(windows.slice(0, WINDOWS / 4).map(({ cost }) => cost));
}

/** How many things {@link costOf} has done by then. */
export function countOf(count: number): number {
  return Math.ceil(count / WINDOWS) * (WINDOWS + 1);
}
