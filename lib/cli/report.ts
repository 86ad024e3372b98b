/**
 * How the commands speak: what they do on stderr, what goes wrong in one line or a few, never as a stack.
 *
 * @module
 */
import { fstatSync, writeFileSync } from 'node:fs';
import { isatty } from 'node:tty';
import { explained } from '../errors.js';
import { plainLines } from './text.js';

const STDOUT = 1;
const elsewhere = 'send the output elsewhere';

/**
 * Prints what must not be lost, as that which took minutes. `console.log()` says nothing of a disk that is full.
 *
 * @throws the errors of writing to a file
 */
export function print(text: string): void {
  const kind = fstatSync(STDOUT);
  if (kind.isFIFO() || kind.isSocket() || isatty(STDOUT)) {
    console.log(text);
  } else {
    explained({ path: 'stdout' }, { ENOSPC: elsewhere, EDQUOT: elsewhere, EFBIG: elsewhere }, () =>
      writeFileSync(STDOUT, `${text}\n`),
    );
  }
}

/** Prints what a program is to read: one line. Errors have their message, 64-bit numbers are hexadecimal. */
export function printJson(value: unknown): void {
  console.log(
    JSON.stringify(value, (_, part) => {
      if (part instanceof Error) {
        return { ...part, message: part.message };
      }
      return typeof part === 'bigint' ? `0x${part.toString(16)}` : part;
    }),
  );
}

/** Tells on stderr what is being done. */
export function progress(message: string): void {
  process.stderr.write(`iospace: ${plainLines(message)}\n`);
}

/** An error in words; the stack only where it is a mistake of this program. */
function explain(error: unknown): string {
  if (!(error instanceof Error)) {
    return String(error);
  }
  return 'code' in error || error.name === 'AbortError' ? error.message : (error.stack ?? error.message);
}

/**
 * Runs the body of a command and sets the exit code.
 *
 * @param failed - the exit code where the body rejects
 */
export async function report(failed: number, body: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await body();
  } catch (error) {
    progress(explain(error));
    process.exitCode = failed;
  }
}
