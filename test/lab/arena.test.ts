/**
 * The arena of the kernel module as a program would start with it, and by the random calls that arenas of plain memory stand
 * on the host; so do arenas over a device's buffers.
 */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Machine } from '../../lib/lab/index.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

let machine: Machine;

beforeAll(async () => {
  machine = await Machine.boot({
    machine: 'pc',
    memory: '2G',
    append: 'memmap=16M$0x40000000',
    moduleParameters: 'arena=16M@0x40000000',
    mounts: [root],
  });
});
afterAll(() => machine?.close());

async function passes(program: string, ...args: string[]): Promise<string> {
  const argv = ['node', `${root}build/${program}`, ...args];
  const { code, stdout, stderr } = await machine.run(argv, { timeout: 120, cwd: root });
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  return stdout;
}

test('examples/arena.ts', async () => {
  expect(await passes('examples/arena.js', 'module:0')).toMatch(/^swept: \d+ blocks/m);
});

test("arenas over the module's memory, and over buffers, do as an array of booleans does", async () => {
  const stdout = await passes('test/lab/arena-model.js');
  expect(stdout).toBe('the arena of the module does\na coherent buffer does\n');
});
