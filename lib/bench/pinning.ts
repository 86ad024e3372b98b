/**
 * Keeps the main thread on one processor while memory is measured: caches stay its own, and frequencies one core's.
 *
 * @module
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { SystemFiles } from './machine.js';

/** The numbers of `0-2,5`. */
export function processorsOf(list: string): number[] {
  return list
    .trim()
    .split(',')
    .filter((range) => range !== '')
    .flatMap((range) => {
      const [first = 0, last = first] = range.split('-').map(Number);
      return [...Array(last - first + 1).keys()].map((index) => first + index);
    });
}

/** The strongest, where cores differ; of equals the last, for the first has most interrupts. */
export function bestProcessor(allowed: readonly number[], files = new SystemFiles()): number | undefined {
  const capacity = (processor: number): number =>
    Number(files.read(`sys/devices/system/cpu/cpu${processor}/cpu_capacity`) ?? 0);
  return [...allowed].sort((a, b) => capacity(a) - capacity(b) || a - b).at(-1);
}

/** The processors that the main thread may use. */
function allowedList(): string {
  const status = readFileSync('/proc/self/status', 'utf8');
  return /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? '';
}

/** By `taskset`, of util-linux and busybox alike, for Node has no call for it. */
function setAffinity(list: string): boolean {
  try {
    execFileSync('taskset', ['-pc', list, String(process.pid)], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** The affinity of the main thread; threads that it makes inherit it. */
export class Pinning {
  readonly #before = allowedList();
  /** Those that the thread might use before. */
  readonly allowed = processorsOf(this.#before);
  /** The one that it is kept on; `null` where that could not be done. */
  readonly processor: number | null;

  constructor() {
    const best = bestProcessor(this.allowed);
    this.processor = best !== undefined && setAffinity(String(best)) ? best : null;
  }

  /** Where other threads take part, each needs a processor of its own. */
  release(): void {
    if (this.processor !== null) {
      setAffinity(this.#before);
    }
  }

  [Symbol.dispose](): void {
    this.release();
  }
}
