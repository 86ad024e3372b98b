/**
 * The guest's kernel log, and what in it means that something is wrong.
 *
 * @module
 */

/** How a line of the kernel begins: its time, and on debug kernels the task or CPU that wrote it. */
const prefix = /^(?:\[[^\]]*\]\s?)+/;

/** What a kernel says when it, or a driver in it, has failed. Matched after the prefix. */
const faults: readonly RegExp[] = [
  // What the lab's own first process could not do.
  /^iospace-lab failed: /,
  /^WARNING: /,
  /^(?:watchdog: )?BUG: /,
  /^kernel BUG at /,
  /^Kernel panic/,
  /^Oops(?:\b|:)/,
  /^Internal error: /,
  /^Unable to handle kernel /,
  /^general protection fault/,
  /^(?:stack segment|double fault|invalid opcode|divide error): /,
  /^Bad mode in /,
  /^SError Interrupt/,
  /^UBSAN: /,
  /^kmemleak: [1-9]\d* new suspected memory leaks/,
  /^DMA-API: .*(?:device driver|cacheline tracking EEXIST|exceeded|sg segment)/,
  // A mapping that is of another type than was asked for, or the books on types are wrong.
  /^x86\/PAT: .*(?:failed|conflicting|freeing invalid|map pfn)/,
  /^rcu: INFO: .*(?:stall|expedited)/,
  /^INFO: (?:rcu_|task .* blocked for more than|trying to register non-static key)/,
  /^=+ ?\[ BUG/,
];

/** Whether a line of a kernel log reports a fault: an oops, a warning, a bug, a stall, a leak or a panic. */
export function isFault(line: string): boolean {
  const message = line.replace(prefix, '');
  return faults.some((pattern) => pattern.test(message));
}

/** The log of one machine, as its lines arrive. Holds the last `capacity` lines. */
export class KernelLog {
  readonly #capacity: number;
  readonly #onLine: (line: string) => void;
  #lines: string[] = [];
  #dropped = 0;
  #partial = '';

  /**
   * @param onLine - called with each complete line
   * @param capacity - how many lines are kept; the log of a test is some hundreds
   */
  constructor(onLine: (line: string) => void, capacity = 20_000) {
    this.#onLine = onLine;
    this.#capacity = capacity;
  }

  /** Takes the next piece of the console's output. */
  push(text: string): void {
    const lines = (this.#partial + text).split('\n');
    // A console line ends with CR LF.
    this.#partial = lines.pop() ?? '';
    for (const raw of lines) {
      const line = raw.replace(/\r/g, '');
      this.#lines.push(line);
      this.#onLine(line);
    }
    const excess = this.#lines.length - this.#capacity;
    if (excess > 0) {
      this.#lines = this.#lines.slice(excess);
      this.#dropped += excess;
    }
  }

  /** The number of lines so far: a position for {@link since}. */
  get position(): number {
    return this.#dropped + this.#lines.length;
  }

  /** The lines after a position, as far as they are still held. */
  since(position: number): string {
    return this.#lines.slice(Math.max(0, position - this.#dropped)).join('\n');
  }

  /** The last lines, the unfinished one included. */
  tail(count: number): string {
    const last = this.#lines.slice(-count);
    return (this.#partial === '' ? last : [...last, this.#partial]).join('\n');
  }

  toString(): string {
    return this.since(0);
  }
}
