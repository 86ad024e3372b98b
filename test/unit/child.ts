/** Programs in processes of their own, against what is published: `dist/` and the built addon. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/**
 * Starts a program, which is killed after 10 seconds.
 *
 * @param program - an ES module; relative imports start at the repository's root
 */
export function startChild(
  program: string,
  flags: string[] = [],
): ChildProcessByStdio<null, Readable, Readable> {
  if (!existsSync(`${root}dist/index.js`)) {
    throw new Error('dist/ is missing: npm run build');
  }
  return spawn(process.execPath, [...flags, '--input-type=module', '--eval', program], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 10_000,
    killSignal: 'SIGKILL',
  });
}

/** Runs a program to its end. */
export function runChild(program: string, flags?: string[]): Promise<Outcome> {
  const child = startChild(program, flags);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}
