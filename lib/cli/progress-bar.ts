/**
 * How far something is, on stderr: a bar on a terminal; elsewhere a line now and then.
 *
 * @module
 */
import { progress } from './report.js';

const WIDTH = 24;
/** Columns below which there is no bar, but words only. */
const NARROW = 72;
/** Milliseconds from one line to the next where there is no terminal. */
const LINE_EVERY = 10_000;

/** `1:05`. */
function clock(seconds: number): string {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;
}

export class ProgressBar {
  readonly #all: number;
  readonly #began = performance.now();
  #lineAt = Number.NEGATIVE_INFINITY;

  constructor(all: number) {
    this.#all = all;
  }

  /** @param what - what comes now */
  show(done: number, what: string): void {
    const time = performance.now();
    const passed = (time - this.#began) / 1000;
    const left = done === 0 ? '' : `, ${clock((passed / done) * (this.#all - done))} left`;
    const text = `${done} of ${this.#all}${left}: ${what}`;
    if (process.stderr.isTTY) {
      // A terminal that does not say how wide it is says 0.
      const columns = process.stderr.columns || 80;
      // In a narrow one the words come first.
      const width = columns < NARROW ? 0 : WIDTH;
      const filled = Math.round((done / this.#all) * width);
      const bar = width === 0 ? '' : `[${'#'.repeat(filled)}${'.'.repeat(width - filled)}] `;
      process.stderr.write(`\r${`${bar}${text}`.slice(0, columns - 1)}\x1b[K`);
    } else if (time - this.#lineAt >= LINE_EVERY) {
      this.#lineAt = time;
      progress(text);
    }
  }

  /** Takes the bar away. */
  end(): void {
    if (process.stderr.isTTY) {
      process.stderr.write('\r\x1b[K');
    }
  }
}
