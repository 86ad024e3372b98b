/**
 * Devices with pools of their own, on machines whose device trees give them such: by the bare ioctls, through the
 * library and as the page tables show it from outside (`test/guest/pools.ts`), and as a device with DMA sees it.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { applyOverlay, Machine } from '../../lib/lab/index.js';
import { Witness } from '../witness.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

describe.each(['6.1', '6.12'] as const)('virt %s', (kernel) => {
  let machine: Machine;

  beforeAll(async () => {
    machine = await Machine.boot({
      machine: 'virt',
      kernel,
      devices: ['edu'],
      deviceTree: (file) => applyOverlay(file, `${root}test/guest/pools.dts`),
      mounts: [root],
    });
  });
  afterAll(() => machine?.close());

  test('test/abi pool', async () => {
    const out = `${root}build/abi/arm64`;
    execFileSync('make', ['-s', '-C', `${root}test/abi`, 'CC=aarch64-linux-gnu-gcc', `OUT=${out}`]);
    const { code, stdout } = await machine.run([`${out}/iospace-abi`, 'pool'], { timeout: 120 });
    expect(code, stdout).toBe(0);
    expect(stdout).not.toContain('SKIP');
  });

  test('test/guest/pools.ts', async () => {
    const witness = await Witness.of(machine);
    try {
      const argv = ['node', `${root}build/guest/pools.js`];
      const { code, stdout, stderr } = await witness.run(argv, { timeout: 120 });
      expect(code, `${stdout}\n${stderr}`).toBe(0);
    } finally {
      await witness.close();
    }
  });
});

test('virt: an arena and a pool by the overlay of the examples', async () => {
  await using machine = await Machine.boot({
    machine: 'virt',
    deviceTree: (file) => applyOverlay(file, `${root}examples/memory.dtso`),
    mounts: [root],
  });
  const argv = ['node', `${root}build/examples/memory-types.js`, 'my-dma'];
  const { code, stdout, stderr } = await machine.run(argv, { timeout: 60 });
  expect(code, stderr).toBe(0);
  expect(stdout).toContain('coherent pool: 1048576 at 0x72000000');
  expect(stdout).toContain('arena arena@70000000: 16777216 at 0x70000000');
});

/** The pool of the Raspberry Pi's DMA controller: below the gibibyte that it sees, from the middle of it. */
const pool = { node: '/reserved-memory/pool@20000000', start: 0x20000000, byteLength: 0x400000 };

/** Where a Raspberry Pi's devices see memory. */
const busOffset = 0xc0000000;

/** Gives the DMA controller of a Raspberry Pi a pool. `how` is the property that says of which kind. */
function givePool(file: string, how: 'no-map' | 'reusable'): void {
  const phandle = '0x1000';
  const put = (...argv: string[]) => execFileSync('fdtput', argv);
  put('-c', file, pool.node);
  put('-t', 's', file, pool.node, 'compatible', 'shared-dma-pool');
  put('-t', 'x', file, pool.node, 'reg', pool.start.toString(16), pool.byteLength.toString(16));
  put('-t', 'x', file, pool.node, 'phandle', phandle);
  put('-t', 'x', file, pool.node, how);
  put('-t', 'x', file, '/soc/dma@7e007000', 'memory-region', phandle);
}

test.each(['no-map', 'reusable'] as const)(
  'raspi3b: the DMA controller copies within its pool, "%s"',
  async (how) => {
    await using machine = await Machine.boot({
      machine: 'raspi3b',
      bind: ['3f007000.dma'],
      deviceTree: (file) => givePool(file, how),
      mounts: [],
    });
    const { code, stdout, stderr } = await machine.run(['node', `${root}build/examples/raspi3b-dma.js`], {
      timeout: 120,
    });
    expect(code, stderr).toBe(0);
    const [source = 0, target = 0] = [...stdout.matchAll(/0x[0-9a-f]+/g)].map(([address]) => Number(address));
    for (const address of [source, target]) {
      const offset = address - busOffset - pool.start;
      expect(offset).toBeGreaterThanOrEqual(0);
      expect(offset).toBeLessThan(pool.byteLength);
    }
  },
);
