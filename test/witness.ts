/**
 * The witness: tells a program in the guest what its addresses really are, by reading its page table from outside while
 * the machine stands still. `test/guest/witness.ts` is the guest's side.
 *
 * A question is a line that begins with `witness: `, the answer a line of JSON on the program's stdin. How the program's
 * page table is found: the program spins while it waits, so that a processor uses that page table, and it is known by a
 * page with a secret.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Machine, RunOptions, RunResult } from '../lib/lab/index.js';
import { GdbStub, type StoppedMachine } from './gdb.js';
import { arm64, type PageTables, type PageType, riscv64, type Translate, x86 } from './page-table.js';

/** What a guest asks. Numbers that need more than 53 bits are hexadecimal strings. */
interface Question {
  /** The address of a page of the program, and its first bytes, in hexadecimal. */
  secret: { address: string; bytes: string };
  ranges: { address: string; byteLength: number }[];
  pageSize: number;
}

/** A piece of a range that is of one type and contiguous in physical memory. */
interface Piece {
  type: PageType;
  physical?: string;
  byteLength: number;
}

const PREFIX = 'witness: ';
/** What the guest's programs get of this process's environment: to repeat what was random. */
const { IOSPACE_SEED } = process.env;
/** How often a machine is stopped until the program is found on a processor. */
const ATTEMPTS = 200;

/** The lines of a stream that comes in chunks. */
function lineReader(onLine: (line: string) => void): (chunk: Buffer) => void {
  let partial = '';
  return (chunk) => {
    const lines = (partial + chunk.toString('latin1')).split('\n');
    partial = lines.pop() ?? '';
    lines.forEach(onLine);
  };
}

/** What the guest's program reads: the answers, as they come. */
class Answers implements AsyncIterable<string> {
  readonly #lines: string[] = [];
  #ended = false;
  #wake: () => void = () => {};

  push(line: string): void {
    this.#lines.push(`${line}\n`);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<string> {
    while (!this.#ended) {
      yield* this.#lines.splice(0);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        if (this.#lines.length > 0 || this.#ended) {
          resolve();
        }
      });
    }
  }
}

/** Sees the page tables of one machine. */
export class Witness {
  readonly #machine: Machine;
  readonly #stub: GdbStub;
  readonly #tables: PageTables;

  private constructor(machine: Machine, tables: PageTables) {
    this.#machine = machine;
    this.#stub = new GdbStub(machine);
    this.#tables = tables;
  }

  static async of(machine: Machine): Promise<Witness> {
    const { stdout } = await machine.run(['sh', '-c', 'uname -m; dmesg | grep "PAT: Configuration"']);
    const [architecture, pat = ''] = stdout.split('\n');
    switch (architecture) {
      case 'x86_64':
        return new Witness(
          machine,
          x86(
            pat
              .replace(/^.*\[0-7\]: /, '')
              .trim()
              .split(/ +/) as PageType[],
          ),
        );
      case 'aarch64':
        return new Witness(machine, arm64);
      case 'riscv64':
        return new Witness(machine, riscv64);
      default:
        throw new Error(`no page tables of ${architecture} are known`);
    }
  }

  /** Runs a program, and answers what it asks. */
  async run(argv: readonly string[], options: RunOptions): Promise<RunResult> {
    const answers = new Answers();
    let stdout = '';
    let failure: unknown;
    const controller = new AbortController();
    const onLine = (line: string): void => {
      if (!line.startsWith(PREFIX)) {
        stdout += `${line}\n`;
        return;
      }
      this.#answer(JSON.parse(line.slice(PREFIX.length)) as Question).then(
        (answer) => answers.push(JSON.stringify(answer)),
        (error: unknown) => {
          failure = error;
          controller.abort(error);
        },
      );
    };
    try {
      const result = await this.#machine.run(argv, {
        ...options,
        env: { ...options.env, ...(IOSPACE_SEED !== undefined && { IOSPACE_SEED }) },
        stdin: answers,
        onStdout: lineReader(onLine),
        signal: controller.signal,
      });
      return { ...result, stdout };
    } catch (error) {
      const reason = failure ?? error;
      if (reason instanceof Error) {
        reason.message += `\n${stdout}`;
      }
      throw reason;
    } finally {
      answers.end();
    }
  }

  close(): Promise<void> {
    return this.#stub.close();
  }

  async #answer(question: Question): Promise<Piece[][]> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const answer = await this.#stub.whileStopped((stopped) => this.#look(stopped, question));
      if (answer !== undefined) {
        return answer;
      }
      await delay(5);
    }
    throw new Error(`the program was on no processor, ${ATTEMPTS} times`);
  }

  /** Undefined if the program runs on no processor. */
  async #look(stopped: StoppedMachine, question: Question): Promise<Piece[][] | undefined> {
    const { secret, ranges, pageSize } = question;
    for (const processor of stopped.processors) {
      const translate = await this.#tables(stopped, processor);
      const { physical } = await translate(BigInt(secret.address));
      const expected = Buffer.from(secret.bytes, 'hex');
      if (physical !== undefined && (await stopped.read(physical, expected.length)).equals(expected)) {
        const answer: Piece[][] = [];
        for (const { address, byteLength } of ranges) {
          answer.push(await pieces(translate, BigInt(address), byteLength, pageSize));
        }
        return answer;
      }
    }
    return undefined;
  }
}

async function pieces(
  translate: Translate,
  address: bigint,
  byteLength: number,
  pageSize: number,
): Promise<Piece[]> {
  const found: { type: PageType; physical: bigint | undefined; byteLength: number }[] = [];
  for (let offset = 0; offset < byteLength; offset += pageSize) {
    const { type, physical } = await translate(address + BigInt(offset));
    const last = found.at(-1);
    const continues = last?.physical === undefined ? undefined : last.physical + BigInt(last.byteLength);
    if (last !== undefined && last.type === type && continues === physical) {
      last.byteLength += pageSize;
    } else {
      found.push({ type, physical, byteLength: pageSize });
    }
  }
  return found.map(({ type, physical, byteLength }) => ({
    type,
    ...(physical === undefined ? {} : { physical: `0x${physical.toString(16)}` }),
    byteLength,
  }));
}
