/**
 * One command in a machine: its streams and its end.
 *
 * @module
 */
import { constants } from 'node:os';
import { Readable } from 'node:stream';
import { abortError } from '../errors.js';
import { deferred } from './deferred.js';
import type { LabError, LabErrorCode } from './errors.js';
import { encodeFrame, type Frame, frameType, stdinWindow } from './frames.js';

/** What a command reads: bytes, text as UTF-8, or a stream, which is destroyed when the command ends. */
export type Input = string | Uint8Array | AsyncIterable<Uint8Array | string>;

/** How {@link Machine.run} runs a command. */
export interface RunOptions {
  /** Added to the guest's own environment: PATH, HOME, USER, LANG, TERM. */
  env?: Readonly<Record<string, string>>;
  /** The directory it starts in, absolute, in the guest. Default: `/`, or ours where it is mounted. */
  cwd?: string;
  /** Default: nothing, its stdin ends at once. */
  stdin?: Input | undefined;
  /** Kills the command; the call then rejects with an AbortError. */
  signal?: AbortSignal | undefined;
  /** Seconds until the command is killed and the call rejects with `ERR_IOSPACE_LAB_TIMEOUT`. Default: none. */
  timeout?: number | undefined;
  /** Gets what the command writes to stdout, as it comes; {@link RunResult.stdout} is empty then. */
  onStdout?: ((bytes: Buffer) => void) | undefined;
  /** As `onStdout`, for stderr. */
  onStderr?: ((bytes: Buffer) => void) | undefined;
}

/** How a command ended. */
export interface RunResult {
  /** Its exit code; 128 + n where signal n ended it. */
  code: number;
  /** The signal that ended it, or null. */
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  /** What the kernel logged while it ran. */
  kernelLog: string;
}

/** What is collected of both streams, in bytes. More than that is for `onStdout` and `onStderr`. */
const mostCollected = 64 << 20;
/** What is sent in one frame. */
const chunkLength = 32768;

/** How a command ended, before the kernel's log is known. */
export interface Ending {
  code: number;
  signal: NodeJS.Signals | null;
}

function signalName(number: number): NodeJS.Signals | null {
  const [name = null] = Object.entries(constants.signals).find(([, value]) => value === number) ?? [];
  return name as NodeJS.Signals | null;
}

async function* inputChunks(input: Input): AsyncGenerator<Buffer> {
  const pieces = typeof input === 'string' || input instanceof Uint8Array ? [input] : input;
  for await (const piece of pieces) {
    const bytes = Buffer.from(piece as Uint8Array);
    for (let offset = 0; offset < bytes.length; offset += chunkLength) {
      yield bytes.subarray(offset, offset + chunkLength);
    }
  }
}

/** What a run needs of its machine. */
export interface RunHost {
  /** Sends a frame to the agent. */
  send(frame: Buffer): void;
  /** An error with the kernel's log. */
  error(code: LabErrorCode, message: string): LabError;
}

/** A command that has been started. */
export class Run {
  readonly #id: number;
  readonly #options: RunOptions;
  readonly #host: RunHost;
  readonly #stdout: Buffer[] = [];
  readonly #stderr: Buffer[] = [];
  readonly #ended = deferred<Ending>();
  readonly #logged = deferred<void>();
  readonly #onAbort: () => void;
  #timer: NodeJS.Timeout | undefined;
  #collected = 0;
  #isOver = false;
  /** Bytes of stdin that the command has not taken. */
  #onTheWay = 0;
  #onRoom: (() => void) | undefined;

  /**
   * @param id - its number
   * @param start - the payload that starts it
   */
  constructor(id: number, start: Buffer, options: RunOptions, host: RunHost) {
    this.#id = id;
    this.#options = options;
    this.#host = host;
    const { signal, timeout, stdin } = options;
    this.#onAbort = () => this.#killAndFail(abortError(signal as AbortSignal));
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (timeout !== undefined) {
      const message = `the command took longer than ${timeout} s`;
      this.#timer = setTimeout(
        () => this.#killAndFail(host.error('ERR_IOSPACE_LAB_TIMEOUT', message)),
        timeout * 1000,
      );
    }
    host.send(encodeFrame(frameType.start, id, start));
    this.#feed(stdin ?? '').catch((error) => this.#killAndFail(error));
  }

  /** How it ended; rejects where the lab failed. */
  get ended(): Promise<Ending> {
    return this.#ended.promise;
  }

  /** Resolves when the kernel's log has everything that came before the end. */
  get logged(): Promise<void> {
    return this.#logged.promise;
  }

  get stdout(): string {
    return Buffer.concat(this.#stdout).toString();
  }

  get stderr(): string {
    return Buffer.concat(this.#stderr).toString();
  }

  /** Sends a signal to the command and its children. */
  kill(signal: NodeJS.Signals): void {
    if (!this.#isOver) {
      this.#host.send(encodeFrame(frameType.signal, this.#id, Uint8Array.of(constants.signals[signal])));
    }
  }

  /** Takes a frame that belongs to this run. */
  receive({ type, payload }: Frame): void {
    switch (type) {
      case frameType.stdout:
        this.#output(payload, this.#stdout, this.#options.onStdout);
        break;
      case frameType.stderr:
        this.#output(payload, this.#stderr, this.#options.onStderr);
        break;
      case frameType.taken:
        this.#onTheWay -= payload.readUInt32LE(0);
        this.#onRoom?.();
        break;
      case frameType.exit: {
        const number = payload.readUInt8(1);
        this.#end();
        this.#ended.resolve({
          code: number === 0 ? payload.readUInt8(0) : 128 + number,
          signal: signalName(number),
        });
        break;
      }
    }
  }

  /** The kernel's log has come to the line that the agent writes at the end. */
  sawEndInLog(): void {
    this.#logged.resolve();
  }

  /** Ends the run with an error. */
  fail(error: unknown): void {
    this.#end();
    this.#ended.reject(error);
  }

  #killAndFail(error: unknown): void {
    this.kill('SIGKILL');
    this.fail(error);
  }

  #end(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    this.#onRoom?.();
    if (this.#options.stdin instanceof Readable) {
      this.#options.stdin.destroy();
    }
  }

  #output(bytes: Buffer, collected: Buffer[], listener: ((bytes: Buffer) => void) | undefined): void {
    if (this.#isOver) {
      return;
    }
    if (listener !== undefined) {
      listener(bytes);
      return;
    }
    collected.push(bytes);
    this.#collected += bytes.length;
    if (this.#collected > mostCollected) {
      const message = `the command wrote more than ${mostCollected >> 20} MiB; take it with onStdout and onStderr`;
      this.#killAndFail(this.#host.error('ERR_IOSPACE_LAB_OUTPUT', message));
    }
  }

  /** Sends the command's stdin, never more than the agent stores. */
  async #feed(input: Input): Promise<void> {
    try {
      for await (const chunk of inputChunks(input)) {
        while (!this.#isOver && this.#onTheWay + chunk.length > stdinWindow) {
          await new Promise<void>((resolve) => {
            this.#onRoom = resolve;
          });
        }
        if (this.#isOver) {
          return;
        }
        this.#onTheWay += chunk.length;
        this.#host.send(encodeFrame(frameType.stdin, this.#id, chunk));
      }
    } catch (error) {
      // The end of the command has destroyed the stream.
      if (this.#isOver) {
        return;
      }
      throw error;
    }
    if (!this.#isOver) {
      this.#host.send(encodeFrame(frameType.stdin, this.#id));
    }
  }
}
