/**
 * Runs the guest tests: the programs of `test/guest` (through the library) and of `test/abi` (through the bare ioctls),
 * inside emulated machines. Needs the lab's Debian packages; `node lib/lab/setup.mjs test` installs them.
 *
 * A machine is booted once and runs them all. A program fails by its exit code, and any warning of the kernel fails it
 * too. What it skips on this machine, and why, is told to the reporter of the matrix. What its memory really is it asks the witness (`test/witness.ts`). How many times as long as usual all may take
 * is in IOSPACE_PATIENCE, for the limits of its own. `npm test` has the core of the machines; IOSPACE_MACHINES=all has
 * them all, IOSPACE_MACHINES=debug those with the debug kernel.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest';
import { type Arch, Machine } from '../lib/lab/index.js';
import { nodeArch, toolPrefix } from '../lib/lab/toolchain.js';
import { chosenBoards } from './boards.js';
import { checksAreOn, nothingLeaked } from './debug-checks.js';
import { chosenMachines, kernelOf } from './machines.js';
import { Witness } from './witness.js';

const root = fileURLToPath(new URL('..', import.meta.url));

const edu = `${root}build/examples/edu.js`;
const acquire = `${root}build/examples/acquire.js`;

const programs = readdirSync(`${root}test/guest`)
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => name.replace(/\.ts$/, '.js'));

/** Programs that do the same on each machine, and take long for it, by the machine that has them. */
const onlyOn: Readonly<Record<string, string>> = { 'bench.test.js': 'pc 6.1' };

/**
 * Switches glibc's restartable sequences off: when the kernel has no page to copy theirs to, after a fork, it kills the
 * process.
 */
const withoutRseq = 'GLIBC_TUNABLES=glibc.pthread.rseq=0';

/** Builds the C programs of a directory of tests for a machine, static, to `out`. */
function buildPrograms(directory: 'abi' | 'guest', arch: Arch, out: string): void {
  const compiler = `CC=${toolPrefix(arch)}gcc`;
  execFileSync('make', ['-s', '-C', `${root}test/${directory}`, compiler, `OUT=${out}`]);
}

describe.each(chosenMachines)('%s', (machineName, { boot, shows, patience = 1 }) => {
  const { arch } = kernelOf(boot);
  const abi = `${root}build/abi/${arch}`;
  const scratch = mkdtempSync(join(tmpdir(), 'iospace-guest-'));
  let machine: Machine;
  let witness: Witness;

  beforeAll(async () => {
    buildPrograms('abi', arch, abi);
    // Where the programs of test/guest look for it.
    buildPrograms('guest', arch, `${root}build/mappings/${nodeArch[arch]}`);
    machine = await Machine.boot({ devices: ['edu'], ...boot, mounts: [root, `${scratch}:/scratch:rw`] });
    witness = await Witness.of(machine);
  });
  afterAll(async () => {
    await witness?.close();
    await machine?.close();
    rmSync(scratch, { recursive: true });
  });

  async function passes({ task }: TestContext, argv: string[], timeout: number): Promise<void> {
    const env = { IOSPACE_PATIENCE: String(patience) };
    const { code, stdout, stderr } = await witness.run(argv, { cwd: root, env, timeout: timeout * patience });
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    task.meta.skips = [...stdout.matchAll(/^ *ok .*# SKIP (.*)$/gm)].map(([, reason = '']) => reason);
  }

  test.for(shows)('is what it is called: %s', (command, context) =>
    passes(context, ['sh', '-c', command], 10),
  );
  test('test/abi', (context) => passes(context, [`${abi}/iospace-abi`], 300));
  test('examples/edu.ts', (context) => passes(context, ['node', edu], 60));
  test('examples/edu.ts fails where one bit of what came back differs', async () => {
    const { code, stderr } = await machine.run(['node', edu, '--damage'], { timeout: 60 * patience });
    expect(code).toBe(1);
    expect(stderr).toContain('first at byte 1234');
  });
  test('examples/acquire.ts', (context) => passes(context, ['node', acquire], 60));
  const own = programs.filter((name) => (onlyOn[name] ?? machineName) === machineName);
  test.for(own)('test/guest/%s', (name, context) =>
    passes(context, ['node', `${root}build/guest/${name}`], 120),
  );
  if (boot.kernel === 'debug') {
    test('the checks of the kernel are still on', (context) =>
      passes(context, ['sh', '-c', checksAreOn], 60));
    // After that: what fails an allocation may fail one of the checks.
    test('test/abi faults', (context) =>
      passes(context, ['env', withoutRseq, `${abi}/iospace-abi`, 'faults'], 300));
    test('nothing has leaked', (context) => passes(context, ['sh', '-c', nothingLeaked], 60));
  }
});

describe.each(chosenBoards)('%s', (_name, { boot, example, says }) => {
  let machine: Machine;
  beforeAll(async () => {
    machine = await Machine.boot({ ...boot, mounts: [] });
  });
  afterAll(() => machine?.close());

  test(`examples/${example}.ts`, async () => {
    const { code, stdout, stderr } = await machine.run(['node', `${root}build/examples/${example}.js`], {
      timeout: 120,
    });
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(says);
  });
  // The boards have four processors.
  test('test/guest/shm-litmus.test.js', async () => {
    const { code, stdout, stderr } = await machine.run(
      ['sh', '-c', `nproc | grep -x 4 && node ${root}build/guest/shm-litmus.test.js`],
      { timeout: 120 },
    );
    expect(code, `${stdout}\n${stderr}`).toBe(0);
  });
});

test('virt: a device-tree node that names iospace', async () => {
  await using machine = await Machine.boot({
    machine: 'virt',
    // The clock, which has registers and an interrupt.
    deviceTree: (file) => {
      execFileSync('fdtput', ['-t', 's', file, '/pl031@9010000', 'compatible', 'iospace,device']);
    },
    mounts: [root],
  });
  const { code, stdout, stderr } = await machine.run(['node', `${root}build/guest/device-tree.js`], {
    timeout: 60,
  });
  expect(code, `${stdout}\n${stderr}`).toBe(0);
});
