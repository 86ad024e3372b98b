/**
 * What the tests of the addon share. They need the addon (`npx iospace build`) and nothing else: memfd stands
 * in for a device's memory and eventfd for its interrupts.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { vi } from 'vitest';
import { binding, type NativeBinding, type NativeMapping } from '../../lib/binding.js';

// Most programs below run in processes of their own, which take their time on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

export const native = binding();

export const { PROT_READ, PROT_WRITE, MAP_SHARED } = native.constants as Record<
  'PROT_READ' | 'PROT_WRITE' | 'MAP_SHARED',
  number
>;

export const nodeMajor = Number.parseInt(process.versions.node, 10);

/** A memfd of whole pages; the caller closes it. */
export function memfd(byteLength: number): number {
  const fd = native.memfdCreate('iospace-test', 0);
  native.ftruncate(fd, byteLength);
  return fd;
}

/** A mapping of memory of its own. */
export function map(byteLength: number): NativeMapping {
  const fd = memfd(byteLength);
  try {
    return native.mmap(fd, byteLength, PROT_READ | PROT_WRITE, MAP_SHARED, 0n);
  } finally {
    native.close(fd);
  }
}

/** Whole turns of the event loop, in which finalizers run. */
export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** The same in a child process or a worker, which cannot load TypeScript: `native`, `map`, `turns`, `collect`. */
export const prelude = `
const native = require(${JSON.stringify((native as NativeBinding & { path: string }).path)});
native.initialize({
  systemError: (errno, syscall) => Object.assign(new Error(syscall), { errno: -errno, syscall }),
  leaked: (description, byteLength) => console.log('leaked', description.replace(/0x.*/, 'ADDRESS'), byteLength),
});
function map(byteLength = 8192) {
  const fd = native.memfdCreate('iospace-test', 0);
  try {
    native.ftruncate(fd, byteLength);
    return native.mmap(fd, byteLength, 3, 1, 0n);
  } finally {
    native.close(fd);
  }
}
async function turns(count) {
  for (let turn = 0; turn < count; turn++) await new Promise(setImmediate);
}
async function collect() {
  for (let round = 0; round < 6; round++) { gc(); await turns(3); }
}
`;

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Runs a program that begins with {@link prelude} in a process of its own. */
export async function run(program: string): Promise<Ended> {
  const child = spawn(process.execPath, ['--expose-gc', '-e', `${prelude}\n${program}`], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
  const [stdout, stderr, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>,
  ]);
  return { code, signal, stdout, stderr };
}

/** What {@link run} gives for a program that ended well and said `stdout`. */
export function said(stdout: string): Ended {
  return { code: 0, signal: null, stdout, stderr: '' };
}
