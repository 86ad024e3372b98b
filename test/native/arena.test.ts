/**
 * The books of an arena and the arena that processes share, by C++ programs of their own: against a model, stopped at
 * every write, killed, damaged, full.
 */
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
  for (const target of ['arena-test', 'arena-shared-test']) {
    const cmake = ['build', '--directory', `${root}native`, '--out', build, '--target', target];
    await promisify(execFile)('npx', ['cmake-js', ...cmake], { cwd: root });
  }
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

test.for<[string, string, string]>([
  ['does as a map does, whoever of its owners asks', 'model', '1'],
  [`does as a map does, whoever of its owners asks, seed ${seed}`, 'model', seed],
  ['is as before a call or as after it, whichever write or repair is stopped', 'stops', '1'],
  [`is as before a call or as after it, whichever write or repair is stopped, seed ${seed}`, 'stops', seed],
  ['is repaired by the next caller when the holder of its lock is killed before any write', 'holder', '1'],
  ['has one holder, though who waits dies whose thread has its number elsewhere', 'namespaces', '1'],
  [`loses nothing of a survivor in 100 runs of killed processes, seed ${seed}`, 'kills', seed],
  ['is refused with a damaged header, and never crashes behind it', 'damage', '1'],
  [`is refused with a damaged header, and never crashes behind it, seed ${seed}`, 'damage', seed],
  ['has 1023 owners, 4095 tags and as many blocks as are allowed', 'limits', '1'],
  ['is as before where the file system has no room for a record', 'full', '1'],
])('a shared arena %s', { timeout: 120_000 }, async ([, suite, number], context) => {
  const run = promisify(execFile)(`${build}/arena-shared-test`, [suite, number]);
  const { stderr } = await run.catch((error: { code: number; stderr: string }) => {
    if (error.code === 3) {
      return context.skip(error.stderr);
    }
    throw error;
  });
  expect(stderr).toBe('');
});
