/** The arenas of the kernel module, and of buffers, by the random calls that arenas of plain memory stand on the host. */
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { Machine } from '../../lib/lab/index.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

test("pc: arenas over the module's memory, and over buffers, do as an array of booleans does", async () => {
  await using machine = await Machine.boot({
    machine: 'pc',
    memory: '2G',
    append: 'memmap=16M$0x40000000',
    moduleParameters: 'arena=16M@0x40000000',
    mounts: [root],
  });
  const argv = ['node', `${root}build/test/lab/arena-model.js`];
  const { code, stdout, stderr } = await machine.run(argv, { timeout: 120, cwd: root });
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  expect(stdout).toContain('the arena of the module does\na coherent buffer does\n');
});
