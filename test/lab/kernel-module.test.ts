/**
 * Builds the kernel module against each kernel with every warning on (W=1) and, where it can, under sparse: not a line
 * may come.
 *
 * Needs the lab's Debian packages and sparse; `node lib/lab/setup.mjs test` installs them.
 */
import { execFile } from 'node:child_process';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { fetchKernel } from '../../lib/lab/kernels.js';
import { kbuildArguments } from '../../lib/lab/module.js';
import { chosenMachines, kernelOf } from '../machines.js';

const run = promisify(execFile);
const sources = fileURLToPath(new URL('../../kernel-module', import.meta.url));

/** Neither for 7.x, whose `__typeof_unqual__` sparse 0.6.4 does not know, nor for riscv64, whose `-march` it refuses. */
const sparse = ['C=2', 'CF=-Wsparse-error'];

const kernels = new Map(
  chosenMachines.map(([_name, { boot }]) => {
    const { name, arch } = kernelOf(boot);
    return [`${name} ${arch}`, { name, arch }] as const;
  }),
);

test.each([...kernels])('%s: no warning', async (_name, { name, arch }) => {
  const kernel = await fetchKernel(name, arch);
  const copy = await mkdtemp(join(tmpdir(), 'iospace-module-'));
  try {
    await cp(sources, copy, { recursive: true });
    const checks = ['W=1', ...(name === '7' || arch === 'riscv64' ? [] : sparse)];
    const { stdout, stderr } = await run('make', [
      '-s',
      ...kbuildArguments(kernel, copy),
      ...checks,
      'modules',
    ]);
    expect(stdout + stderr).toBe('');
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
});
