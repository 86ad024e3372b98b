/**
 * Copies, fills, comparisons and cache maintenance, by a C++ program of their own: every offset and length up to 1 KiB, at
 * random above, and access by access, with each set of kernels that this processor has.
 */
import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const build = `${root}build/copy`;

/** Where a run was random, its seed; `IOSPACE_SEED=N` repeats it. */
const seed = process.env['IOSPACE_SEED'] ?? String(Math.floor(Math.random() * 1_000_000));

const kernels =
  process.arch === 'x64' ? ['avx512', 'avx2', 'sse4.1'] : process.arch === 'arm64' ? ['neon'] : [];

beforeAll(async () => {
  mkdirSync(build, { recursive: true });
  const cmake = ['build', '--directory', `${root}native`, '--out', build, '--target', 'copy-test'];
  await promisify(execFile)('npx', ['cmake-js', ...cmake], { cwd: root });
}, 300_000);

describe.each([...kernels, 'portable'])(`%s, seed ${seed}`, (name) => {
  test.for([
    ['copies of every offset and length up to 1 KiB are memmove()', 'copies'],
    ['fills of every offset and length up to 1 KiB are memset()', 'fills'],
    ['comparisons of every offset and length up to 1 KiB find the first difference', 'comparisons'],
    ['copies, fills and comparisons of up to 10 MiB', 'large'],
    ['copies of memory onto itself are memmove()', 'overlaps'],
    ['each line is read once, whole, in order; each byte is written once, aligned', 'accesses'],
  ] as const)('%s', { timeout: 120_000 }, async ([, suite], context) => {
    const run = promisify(execFile)(`${build}/copy-test`, [suite, name, seed]);
    const { stderr } = await run.catch((error: { code: number; stderr: string }) => {
      if (error.code === 3) {
        return context.skip(error.stderr);
      }
      throw error;
    });
    expect(stderr).toBe('');
  });
});

test('cache maintenance changes nothing, and touches no line beside the range', async () => {
  const { stderr } = await promisify(execFile)(`${build}/copy-test`, ['maintenance', 'portable', seed]);
  expect(stderr).toBe('');
});
