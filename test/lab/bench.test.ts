/** `iospace bench --counts` in a machine whose clock counts instructions. */
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { checkResult, keyOf } from '../../lib/bench/result.js';
import { Machine } from '../../lib/lab/index.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

test('counts instructions: nearly the same in each run, and they mean something', async () => {
  await using machine = await Machine.boot({ kernel: '6.12', icount: true, mounts: [root] });
  const filter = 'fill,js-copy-in,js-sum,cached,4K,64K';
  // When a compiler that works beside the program is done, differs from run to run.
  const node = ['node', '--no-concurrent-recompilation'];
  const command = [...node, `${root}dist/cli/main.js`, 'bench', '--counts', '--json', '--filter', filter];
  const runs = [];
  for (let run = 0; run < 2; run++) {
    const { code, stdout, stderr } = await machine.run(command, { timeout: 300 });
    expect({ code, stderr }).toMatchObject({ code: 0 });
    runs.push(checkResult('stdout', JSON.parse(stdout)));
  }
  const [first, second] = runs;
  expect(first).toMatchObject({ unit: 'instructions', meaningless: false, complete: true });
  expect(first?.machine).toMatchObject({ emulated: 'iospace lab', countsInstructions: true });
  const medians = (result = first) => new Map(result?.measurements.map((one) => [keyOf(one), one.median]));
  const before = medians();
  const after = medians(second);
  expect(before.size).toBe(6);
  for (const [key, median] of before) {
    const ratio = (after.get(key) ?? 0) / median;
    expect(ratio, key).toBeGreaterThan(0.8);
    expect(ratio, key).toBeLessThan(1.25);
  }
  // At least an instruction for each byte that is summed, and sixteen times as many bytes.
  const [few = 0, many = 0] = [before.get('js-sum cached 4096'), before.get('js-sum cached 65536')];
  expect(few).toBeGreaterThan(4096);
  expect(many / few).toBeGreaterThan(12);
  expect(many / few).toBeLessThan(20);
});
