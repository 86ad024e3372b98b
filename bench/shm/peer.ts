/**
 * The other process: this program once more, in another role.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/** The first of the descriptors that the other process is given. */
export const FIRST_DESCRIPTOR = 4;

/**
 * Kills this process, which may be in an endless loop, once the other is gone: the parent, or a child that nobody waits for.
 * Looks twice, so that whoever waits comes first.
 */
const watch = `
  const { existsSync, readFileSync } = require('node:fs');
  const { workerData: child } = require('node:worker_threads');
  const { ppid } = process;
  const stat = '/proc/' + child + '/stat';
  let looks = 0;
  setInterval(() => {
    const isGone = child === null
      ? process.ppid !== ppid
      : existsSync(stat) && readFileSync(stat, 'latin1').includes(') Z ');
    looks = isGone ? looks + 1 : 0;
    if (looks > 1) process.kill(process.pid, 'SIGKILL');
  }, 1000);
`;

function watchOver(child: number | null): Worker {
  const worker = new Worker(watch, { eval: true, workerData: child });
  worker.unref();
  return worker;
}

/**
 * Starts the program again, and waits until it is in its role.
 *
 * @param fds - descriptors for it, by {@link FIRST_DESCRIPTOR} and on
 */
export async function startPeer(
  program: string,
  args: readonly string[],
  fds: readonly number[],
  serialization: 'json' | 'advanced' = 'json',
): Promise<Peer> {
  const child = fork(program, args, { stdio: ['pipe', 'inherit', 'inherit', 'ipc', ...fds], serialization });
  await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => {
      throw new Error('a process of the benchmark ended before it was to');
    }),
  ]);
  return new Peer(child);
}

/** What {@link startPeer} has started. */
export class Peer {
  readonly child: ChildProcess;
  readonly #watch: Worker;

  constructor(child: ChildProcess) {
    this.child = child;
    this.#watch = watchOver(child.pid ?? null);
  }

  get pids(): number[] {
    return this.child.pid === undefined ? [] : [this.child.pid];
  }

  /** Waits until it has done what it was to. */
  async end(): Promise<void> {
    const { child } = this;
    child.stdin?.end();
    const code = child.exitCode ?? (await once(child, 'exit'))[0];
    await this.#watch.terminate();
    if (code !== 0) {
      throw new Error(`a process of the benchmark ended with ${code}`);
    }
  }
}

/** Tells the first process that this one is in its role, and runs that. */
export async function play(role: () => void | Promise<void>): Promise<void> {
  watchOver(null);
  await new Promise<void>((told) => process.send?.('ready', undefined, undefined, () => told()));
  await role();
  process.disconnect?.();
}
