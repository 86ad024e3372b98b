/** Runs a program of its own process, against what is published: `dist/` and the built addon. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/**
 * @param program - an ES module; relative imports start at the repository's root
 * @param timeout - milliseconds, after which it is killed
 */
export function runChild(program: string, flags: string[] = [], timeout = 10_000): Promise<Outcome> {
  if (!existsSync(`${root}dist/index.js`)) {
    throw new Error('dist/ is missing: npx tsc --build');
  }
  const child = spawn(process.execPath, [...flags, '--input-type=module', '--eval', program], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout,
    killSignal: 'SIGKILL',
  });
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
