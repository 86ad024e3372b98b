/** The benchmark of the arena, once and with few pairs: that all of it works. Its times mean nothing here. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

interface Measure {
  says: string;
  value: number;
  most?: number;
  unit: string;
}

test('the benchmark of the arena measures all of it', { timeout: 300_000 }, async () => {
  const program = fileURLToPath(new URL('../../build/bench/arena.js', import.meta.url));
  const args = [program, '--quick', '--rounds', '1', '--json'];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 24 });
  const { measures } = JSON.parse(stdout) as { measures: Measure[] };
  expect(measures).toHaveLength(24);
  expect(measures.filter(({ value }) => !Number.isFinite(value))).toEqual([]);
  // What takes no time is the same as ever.
  const books = measures.filter(({ unit }) => unit === 'bytes');
  expect(books).toHaveLength(2);
  for (const { says, value, most } of books) {
    expect(value, says).toBeGreaterThan(0);
    expect(value, says).toBeLessThanOrEqual(most as number);
  }
  expect(stderr).toContain('round 1 of 1: library: processes');
});
