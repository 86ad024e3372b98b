/**
 * Copies, fills, comparisons and cache maintenance of arm64, by the program of test/native/copy, on an emulated machine:
 * with its kernels, and access by access. What memory types it has the guest tests show (test/guest/cache.test.ts).
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Machine } from '../../lib/lab/index.js';
import { toolPrefix } from '../../lib/lab/toolchain.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const build = `${root}build/copy-arm64`;

/** Where a run was random, its seed; `IOSPACE_SEED=N` repeats it. */
const seed = process.env['IOSPACE_SEED'] ?? String(Math.floor(Math.random() * 1_000_000));

let machine: Machine;

beforeAll(async () => {
  mkdirSync(build, { recursive: true });
  const own = readdirSync(`${root}native`).filter((name) => /^(cache|copy\w*)\.cc$/.test(name));
  const sources = [
    'test/native/copy/copy.cc',
    'test/native/copy/trace.cc',
    ...own.map((name) => `native/${name}`),
  ];
  const flags = ['-std=c++20', '-O2', '-static', '-Wall', '-Wextra', '-Werror', '-iquote', 'native'];
  execFileSync(`${toolPrefix('arm64')}g++`, [...flags, ...sources, '-o', `${build}/copy-test`], {
    cwd: root,
  });
  machine = await Machine.boot({ machine: 'virt', kernel: '6.1', mounts: [build] });
});
afterAll(() => machine?.close());

test.each([
  ['neon', 'accesses'],
  ['neon', 'copies'],
  ['neon', 'fills'],
  ['neon', 'comparisons'],
  ['neon', 'large'],
  ['neon', 'overlaps'],
  ['portable', 'overlaps'],
])(`%s: %s, seed ${seed}`, async (kernels, suite) => {
  const argv = [`${build}/copy-test`, suite, kernels, seed, '32'];
  const { code, stderr } = await machine.run(argv, { timeout: 300 });
  expect(code, stderr).toBe(0);
});

test('maintenance', async () => {
  const { code, stderr } = await machine.run([`${build}/copy-test`, 'maintenance', 'portable', seed], {
    timeout: 60,
  });
  expect(code, stderr).toBe(0);
});
