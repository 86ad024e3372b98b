/** Programs in C, which the tests of some suites have as the other side. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect } from 'vitest';

export const hasCompiler = spawnSync('cc', ['--version']).status === 0;

/** A program, and a directory of its own: from before the first test of a suite to after the last. */
export interface Compiled {
  directory: string;
  path: string;
}

/** Compiles a program that is beside this file, for the suite in which this is called. */
export function compiled(source: string): Compiled {
  const program = { directory: '', path: '' };
  beforeAll(() => {
    program.directory = mkdtempSync(join(tmpdir(), 'iospace-c-'));
    program.path = join(program.directory, 'peer');
    const from = fileURLToPath(new URL(source, import.meta.url));
    // The C library before 2.34 has shm_open() in another one.
    const flags = ['-O2', '-Wall', '-Wextra', '-Werror', '-o', program.path, from, '-lrt'];
    const { status, stderr } = spawnSync('cc', flags, { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
  afterAll(() => rmSync(program.directory, { recursive: true }));
  return program;
}
