/**
 * What the tests of the standard's assertions share. The assertions are those of POSIX.1-2017, in its words as far as a test's
 * name has room; what iospace adds or forbids by design stands behind them in parentheses.
 */
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect } from 'vitest';
import { posix, sysv } from '../../../../lib/shm/index.js';

const root = fileURLToPath(new URL('../../../..', import.meta.url));

export const isRoot = process.getuid?.() === 0;

/** Whether there can be a namespace of that kind here. */
const canUnshare = (kind: string) => isRoot && spawnSync('unshare', [kind, 'true']).status === 0;
export const hasMounts = canUnshare('--mount');
export const hasIpc = canUnshare('--ipc');
export const hasLimits = spawnSync('prlimit', ['--version']).status === 0;

/** A user that has no rights. */
export const NOBODY = 65_534;

/** Objects and segments whose name or key begins with these are removed at the end of the test. */
export let name: string;
export let key: number;

beforeEach(() => {
  name = `/iospace-standard-${process.pid}-${randomInt(2 ** 40)}`;
  key = randomInt(1, 2 ** 31 - 1);
});

afterEach(() => {
  for (const object of posix.list().filter((object) => object.startsWith(name))) {
    posix.unlink(object);
  }
  for (const segment of sysv.list().filter(({ id, key: its }) => its === key || made.has(id))) {
    sysv.control.remove(segment.id);
  }
  made.clear();
});

const made = new Set<number>();

/** A segment with no key, removed at the end of the test. */
export function segment(size = 4096, flags?: number): number {
  const id = sysv.get(sysv.IPC_PRIVATE, size, flags);
  made.add(id);
  return id;
}

export const code = (expected: string): unknown => expect.objectContaining({ code: expected });

/** What the system says of a descriptor: how it was opened, and where its next read begins. */
export function descriptor(fd: number): { access: number; closedOnExec: boolean; position: number } {
  const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1');
  const field = (label: string) => new RegExp(`^${label}:\\s*(\\d+)`, 'm').exec(info)?.[1] ?? '';
  const flags = Number.parseInt(field('flags'), 8);
  return { access: flags & 3, closedOnExec: (flags & 0o2000000) !== 0, position: Number(field('pos')) };
}

/** The mappings of this process that are called so. */
export function mappings(called: string): string[] {
  return readFileSync('/proc/self/maps', 'latin1')
    .split('\n')
    .filter((line) => line.includes(called));
}

/**
 * Runs a program in a process of its own, in which everything of `iospace/shm`, `raw` and `node:fs` is there, and
 * `attempt(call)` prints the code of the call's error, or `none`; `keep(memory)` is for what nobody closes.
 *
 * @param launcher - the command that starts it, if it is not Node
 * @param ends - the signal that ends it
 * @returns the lines that it printed
 */
export function program(
  source: string,
  launcher: readonly string[] = [],
  ends: NodeJS.Signals | null = null,
): string[] {
  const whole = `
    import fs from 'node:fs';
    import { execFileSync } from 'node:child_process';
    import { futex, memfd, posix, sysv } from 'iospace/shm';
    import * as raw from 'iospace/raw';
    // Memory that is collected and not closed is reported.
    globalThis.kept = [];
    const keep = (memory) => { kept.push(memory); return memory; };
    function attempt(call) {
      try { keep(call()); console.log('none'); } catch (error) { console.log(error.code); }
    }
    ${source}`;
  const [command = '', ...args] = [
    ...launcher,
    ...[process.execPath, '--expose-gc', '--input-type=module', '--eval', whole],
  ];
  const { stdout, stderr, signal } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    timeout: 20_000,
    killSignal: 'SIGKILL',
  });
  expect({ stderr, signal }).toEqual({ stderr: '', signal: ends });
  return stdout.split('\n').slice(0, -1);
}

/** The codes of what calls throw for a user without rights, or `none`. */
export function asNobody(...calls: string[]): string[] {
  return program(`
    // Loads the addon, which that user may not be able to.
    raw.constants.PROT_READ;
    process.setgroups([]);
    process.setgid(${NOBODY});
    process.setuid(${NOBODY});
    ${calls.map((call) => `attempt(() => ${call});`).join('\n')}`);
}

/** Starts a program with no more address space than 512 MiB on top of what it has by then. */
export const SHORT_OF_ADDRESSES = `
  const { 1: used } = /VmSize:\\s+(\\d+)/.exec(fs.readFileSync('/proc/self/status', 'latin1'));
  execFileSync('prlimit', ['--pid', process.pid, '--as=' + (used * 1024 + (512 << 20))]);`;
