/** The benchmark of caches, copies, interrupts and registers, once and with few turns: that all of it works. Its times mean nothing here. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

test('the benchmark of caches measures all of it', { timeout: 300_000 }, async () => {
  const program = fileURLToPath(new URL('../../build/bench/cache.js', import.meta.url));
  const args = [program, '--quick', '--rounds', '1', '--json'];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 24 });
  const { measures } = JSON.parse(stdout) as { measures: { says: string; value: number }[] };
  expect(measures).toHaveLength(46);
  expect(measures.filter(({ value }) => !Number.isFinite(value))).toEqual([]);
  expect(measures.find(({ says }) => says.endsWith('loads native code'))?.value).toBe(0);
});
