/** The books of an arena, by a C++ program of their own: against a plain array of booleans, and stopped at every write. */
import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const build = `${root}build/arena`;

/** Where a run was random, its seed; `IOSPACE_SEED=N` repeats it. */
const seed = process.env['IOSPACE_SEED'] ?? String(Math.floor(Math.random() * 1_000_000));

beforeAll(async () => {
  mkdirSync(build, { recursive: true });
  const cmake = ['build', '--directory', `${root}native`, '--out', build, '--target', 'arena-test'];
  await promisify(execFile)('npx', ['cmake-js', ...cmake], { cwd: root });
}, 300_000);

test.each([
  ['of an arena of 16 MiB to 64 GiB take less than 0.02 % of it', 'size', '1'],
  ['do as an array of booleans does', 'model', '1'],
  [`do as an array of booleans does, seed ${seed}`, 'model', seed],
  ['are filled to the last granule, emptied, and as before', 'exhaustion', '1'],
  ['of 64 GiB, in granules of 4096 and of 64 bytes', 'sparse', '1'],
  ['stopped at any write of a call or of a repair are as before it or after it', 'stops', '1'],
  [`stopped at any write of a call or of a repair are as before it or after it, seed ${seed}`, 'stops', seed],
  ['that are damaged are refused, and repaired behind the header', 'damage', seed],
])('books %s', { timeout: 120_000 }, async (_name, suite, number) => {
  const { stderr } = await promisify(execFile)(`${build}/arena-test`, [suite, number]);
  expect(stderr).toBe('');
});
