/**
 * Builds the kernel module against each kernel with every warning on (W=1) and under sparse: not a line may come.
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
import { type Arch, fetchKernel, type KernelName } from '../../lib/lab/kernels.js';

const run = promisify(execFile);
const sources = fileURLToPath(new URL('../../kernel-module', import.meta.url));

const kernels: [KernelName, Arch][] = [
  ['5.10', 'amd64'],
  ['6.1', 'amd64'],
  ['6.12', 'amd64'],
  ['6.1', 'arm64'],
];

test.each(kernels)('%s %s: no warning', async (name, arch) => {
  const { headers } = await fetchKernel(name, arch);
  const copy = await mkdtemp(join(tmpdir(), 'iospace-module-'));
  try {
    await cp(sources, copy, { recursive: true });
    const [kbuildArch, prefix] = arch === 'arm64' ? ['arm64', 'aarch64-linux-gnu-'] : ['x86', ''];
    const compiler = [`ARCH=${kbuildArch}`, `CROSS_COMPILE=${prefix}`, `CC=${prefix}gcc`];
    // BTF would need the kernel's own vmlinux, and says so.
    const checks = ['W=1', 'C=2', 'CF=-Wsparse-error', 'CONFIG_DEBUG_INFO_BTF_MODULES='];
    const { stdout, stderr } = await run('make', [
      '-s',
      '-C',
      headers,
      `M=${copy}`,
      ...compiler,
      ...checks,
      'modules',
    ]);
    expect(stdout + stderr).toBe('');
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
});
