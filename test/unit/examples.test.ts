/**
 * The examples that need no machine, as programs of their own: on memfd and POSIX shared memory. Needs `tsc --build`.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const run = promisify(execFile);

function example(name: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env) {
  const path = fileURLToPath(new URL(`../../build/examples/${name}.js`, import.meta.url));
  return run(process.execPath, [path, ...args], { env });
}

test('edu: its memory part, over memfd', async () => {
  const { stdout } = await example('edu', ['--provider', 'memfd']);
  expect(stdout).toContain('compared: equal');
});

test('edu: one bit that differs makes it fail', async () => {
  await expect(example('edu', ['--provider', 'memfd', '--damage'])).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringContaining('first at byte 1234'),
  });
});

test('memory-types: over memfd there is one type, and a reason for each other', async () => {
  const { stdout } = await example('memory-types', ['--provider', 'memfd']);
  expect(stdout.match(/EOPNOTSUPP: .*only cached/g)).toHaveLength(4);
  const fallen = await example('memory-types', ['--provider', 'memfd', '--fallback']);
  expect(fallen.stdout.match(/ 'cached' +│ 0 /g)).toHaveLength(5);
});

test('shared-memory', async () => {
  const { stdout } = await example('shared-memory', []);
  expect(stdout).toContain('written by another process');
});

test('ring: a million messages to a child', async () => {
  const { stdout } = await example('ring', []);
  expect(stdout).toContain('499999500000');
});

test('futex: a child that dies with the mutex, and a repair', async () => {
  const { stdout } = await example('futex', []);
  expect(stdout).toContain('owner-died: 89 + 10 = 99\nrepaired: 89 + 11, locked\n');
});

test('arena: a child that is killed, and a sweep', async () => {
  const { stdout } = await example('arena', []);
  expect(stdout).toContain('swept: 2 blocks, 1052672 bytes of 1 dead owner');
});

test('demo: says what is missing, and shows memory over memfd, where no machine can be emulated', async () => {
  const { stdout, stderr } = await example('demo', [], { ...process.env, PATH: '/nonexistent' });
  expect(stderr).toMatch(/demo: .* is missing; on Debian: apt-get install/);
  expect(stdout).toContain('compared: equal');
});
