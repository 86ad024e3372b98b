/** Starts and ends processes that hold a device. */
import { type ChildProcess, type ForkOptions, fork } from 'node:child_process';
import { once } from 'node:events';
import { SOON } from './edu.js';

/** Why this Node does not change its user, if it does not: one built for io_uring, as Debian 13's is, refuses to. */
export const keepsItsUser: string | false = (() => {
  try {
    process.seteuid?.(process.geteuid?.() ?? 0);
    return false;
  } catch {
    return 'this Node refuses to change its user';
  }
})();

/** Starts a program of this directory; resolves with the first thing that it says. */
export async function start(
  program: string,
  args: readonly (string | number)[],
  options: ForkOptions = {},
): Promise<{ child: ChildProcess; said: unknown }> {
  const child = fork(new URL(program, import.meta.url), args.map(String), options);
  const said = await new Promise((resolve) => {
    child.once('message', resolve);
    child.once('exit', (code) => resolve(`ended with ${code} and said nothing`));
  });
  return { child, said };
}

/** Starts `holder.js`; resolves with the first thing that it says. */
export function hold(
  device: string,
  count: number | 'each',
  bytes: number,
  user?: number,
): Promise<{ child: ChildProcess; said: unknown }> {
  return start('holder.js', [device, count, bytes, ...(user === undefined ? [] : [user])]);
}

/** Kills a process as nothing else does, and waits until it is gone. */
export async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }
}

/** Waits until `condition` holds: a file is released on the way out of its last process, not before its parent knows. */
export async function eventually(condition: () => boolean, timeout = SOON): Promise<boolean> {
  for (const end = performance.now() + timeout; performance.now() < end; ) {
    if (condition()) {
      return true;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return condition();
}
