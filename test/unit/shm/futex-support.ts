/** What the tests of futexes share: memory of their own, and processes that have it, too. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, expect } from 'vitest';
import { type PosixMemory, posix } from '../../../lib/shm/index.js';

export { delay };

export const code = (expected: string): unknown => expect.objectContaining({ code: expected });

export const aborted = (cause: unknown): unknown =>
  expect.objectContaining({ name: 'AbortError', code: 'ABORT_ERR', cause });

const root = fileURLToPath(new URL('../../..', import.meta.url));

/** Of the test that runs. */
export let memory: PosixMemory;
export let words: Int32Array;
/** A descriptor of the memory's file. */
export let fd: number;

const children = new Set<ChildProcess>();
const workers = new Set<Worker>();
let counter = 0;

beforeEach(() => {
  memory = posix.open(`/iospace-futex-${process.pid}-${counter++}`, { create: true, size: 4096 });
  words = memory.view(Int32Array);
  fd = openSync(`/dev/shm${memory.name}`, 'r+');
});

afterEach(async () => {
  await Promise.all([...children].map(kill));
  await Promise.all([...workers].map((worker) => worker.terminate()));
  workers.clear();
  closeSync(fd);
  memory.close();
  memory.unlink();
});

/** Runs before what {@link child} and {@link worker} are given: `words`, `fd`, and all of `iospace/shm`. */
const prelude = (): string => `
  import { openSync, closeSync } from 'node:fs';
  import { setTimeout as delay } from 'node:timers/promises';
  import { workerData } from 'node:worker_threads';
  import { CountingEvent, futex, Mutex, posix } from 'iospace/shm';
  const memory = posix.open(${JSON.stringify(memory.name)});
  // Memory that is collected and not closed is reported.
  globalThis.kept = memory;
  const words = memory.view(Int32Array);
  const fd = openSync('/dev/shm' + memory.name, 'r+');
`;

export interface Child {
  process: ChildProcess;
  /** What it prints next. */
  line(): Promise<string>;
  /** How it ends. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null; stderr: string }>;
}

/**
 * A process that has the memory. It is killed at the end of the test.
 *
 * @param launcher - the command that starts it, if it is not Node
 * @param before - what runs before the program
 */
export function child(program: string, launcher: readonly string[] = [], before: string = prelude()): Child {
  if (!existsSync(`${root}dist/shm/index.js`)) {
    throw new Error('dist/ is missing: npm run build');
  }
  const [command = '', ...parameters] = [
    ...launcher,
    process.execPath,
    '--expose-gc',
    '--input-type=module',
    '--eval',
    before + program,
  ];
  const started = spawn(command, parameters, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  children.add(started);
  let stderr = '';
  started.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const lines: string[] = [];
  let rest = '';
  const ended = once(started, 'close').then(([code, signal]) => {
    children.delete(started);
    return { code, signal, stderr };
  });
  let wake = (): void => {};
  started.stdout.on('data', (chunk) => {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts);
    wake();
  });
  const line = async (): Promise<string> => {
    for (;;) {
      const next = lines.shift();
      if (next !== undefined) {
        return next;
      }
      const news = new Promise<void>((resolve) => {
        wake = resolve;
      });
      const end = await Promise.race([news, ended]);
      if (end !== undefined && lines.length === 0) {
        throw new Error(`the child ended: ${JSON.stringify(end)}`);
      }
    }
  };
  return { process: started, line, ended };
}

/** Kills a process, and waits until it has ended. */
export async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }
}

/** A thread of this process that has the memory; resolves when it prints its first message. */
export async function worker(program: string): Promise<Worker> {
  const source = `import { parentPort } from 'node:worker_threads';
    const say = (what) => parentPort.postMessage(what);
    ${prelude().replace("'iospace/shm'", `'file://${root}dist/shm/index.js'`)}
    ${program}`;
  const started = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`));
  workers.add(started);
  started.once('exit', () => workers.delete(started));
  await Promise.race([
    once(started, 'message'),
    once(started, 'error').then(([error]) => {
      throw error;
    }),
  ]);
  return started;
}

/** Looks until it is so. */
export async function until(is: () => boolean, what: string): Promise<void> {
  for (let look = 0; !is(); look++) {
    if (look > 5000) {
      throw new Error(`waited in vain until ${what}`);
    }
    await delay(2);
  }
}

/** The threads of a process that sleep for waits. */
export function sleepers(pid = process.pid): number {
  return readdirSync(`/proc/${pid}/task`).filter((task) => {
    try {
      return readFileSync(`/proc/${pid}/task/${task}/comm`, 'utf8') === 'iospace-futex\n';
    } catch {
      return false;
    }
  }).length;
}
