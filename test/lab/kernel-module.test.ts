/**
 * The kernel module as it is built and loaded. Builds it against each kernel with every warning on (W=1) and, where it
 * can, under sparse: not a line may come. Loads it with each parameter that is wrong.
 *
 * Needs the lab's Debian packages and sparse; `node lib/lab/setup.mjs test` installs them.
 */
import { execFile } from 'node:child_process';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { applyOverlay, Machine } from '../../lib/lab/index.js';
import { fetchKernel } from '../../lib/lab/kernels.js';
import { kbuildArguments } from '../../lib/lab/module.js';
import { chosenMachines, kernelOf } from '../machines.js';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const sources = `${root}kernel-module`;

/** Neither for 7.x, whose `__typeof_unqual__` sparse 0.6.4 does not know, nor for riscv64, whose `-march` it refuses. */
const sparse = ['C=2', 'CF=-Wsparse-error'];

const kernels = new Map(
  chosenMachines.map(([_name, { boot }]) => {
    const { name, arch } = kernelOf(boot);
    return [`${name} ${arch}`, { name, arch }] as const;
  }),
);

test.each([...kernels])('%s: no warning', async (_name, { name, arch }) => {
  const kernel = await fetchKernel(name, arch);
  const copy = await mkdtemp(join(tmpdir(), 'iospace-module-'));
  try {
    await cp(sources, copy, { recursive: true });
    const checks = ['W=1', ...(name === '7' || arch === 'riscv64' ? [] : sparse)];
    const { stdout, stderr } = await run('make', [
      '-s',
      ...kbuildArguments(kernel, copy),
      ...checks,
      'modules',
    ]);
    expect(stdout + stderr).toBe('');
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
});

describe('pc: parameters at load', () => {
  /** Memory that the kernel is told to leave alone; the machine has 1 GiB. */
  const start = 0x2000_0000;
  const size = 32 << 20;
  let machine: Machine;

  const sh = (command: string) => machine.run(['sh', '-c', command], { timeout: 60 });
  const inReserved = (offset: number) => `0x${(start + offset).toString(16)}`;

  /** A list of so many ranges of 64 KiB, from an offset in the reserved memory on. */
  const ranges = (count: number, offset = 0) =>
    Array.from({ length: count }, (_, n) => `64K@${inReserved(offset + n * 0x1_0000)}`).join(',');

  /** Loads the module: the errno, which insmod exits with, and what the kernel's log says. */
  async function load(parameters: string): Promise<{ errno: number | null; log: string }> {
    await sh('dmesg -c > /dev/null');
    const { code } = await sh(`insmod /lab/iospace.ko ${parameters}`);
    const { stdout } = await sh('dmesg');
    return { errno: code, log: stdout };
  }

  beforeAll(async () => {
    machine = await Machine.boot({
      devices: ['edu'],
      memory: '1G',
      append: `memmap=${size >> 20}M$0x${start.toString(16)}`,
      mounts: [root],
    });
    expect(await sh('rmmod iospace')).toMatchObject({ code: 0 });
  });
  afterAll(() => machine?.close());

  const { EINVAL, ERANGE } = constants.errno;

  test.each([
    ['arena=1M', EINVAL, 'arena: expected SIZE@ADDRESS[,SIZE@ADDRESS...], got "1M"'],
    ['arena=1M@', EINVAL, 'arena: expected SIZE@ADDRESS'],
    ['arena=@0x20000000', EINVAL, 'arena: expected SIZE@ADDRESS'],
    ['arena=1M@0x20000000,', EINVAL, 'arena: expected SIZE@ADDRESS'],
    ['arena=1M@0x20000000;1M@0x20100000', EINVAL, 'arena: expected SIZE@ADDRESS'],
    ['arena=0@0x20000000', EINVAL, 'is empty'],
    ['arena=1M@0x20000800', EINVAL, 'is not whole pages'],
    ['arena=1000@0x20000000', EINVAL, 'is not whole pages'],
    ['arena=2M@0xfffffffffff00000', EINVAL, 'wraps around the end of all addresses'],
    ['arena=1M@0xfffffffffff00000', EINVAL, 'lies beyond what this CPU can address'],
    ['arena=1M@0x10000000000000', EINVAL, 'lies beyond what this CPU can address'],
    ['arena=1M@0x1000000', EINVAL, 'lies over memory that the system uses'],
    [`arena=1M@${inReserved(size - 0x8_0000)}`, EINVAL, 'lies over memory that the system uses'],
    ['arena=1M@0x20000000,1M@0x20080000', EINVAL, '0x100000@0x20080000 overlaps another arena'],
    ['arena=4K@0xfec00000', EINVAL, 'belongs to another driver'],
    ['arena=1M@0x300000000', EINVAL, 'is no memory'],
    ['allow=1M', EINVAL, 'allow: expected SIZE@ADDRESS'],
    ['allow=1M@0x1000000', EINVAL, 'lies over memory that the system uses'],
    ['allow=1M@0x20000000,1M@0x200ff000', EINVAL, 'overlaps another range of the parameter'],
    ['arena=1M@0x20000000 allow=1M@0x200ff000', EINVAL, 'overlaps an arena'],
    ['arena=1M@0x20000000 arena_reserve=1048577', EINVAL, 'more than the 1048576 bytes of the arenas'],
    ['arena_reserve=-1', EINVAL, 'arena_reserve'],
    ['arena_reserve=18446744073709551616', ERANGE, 'arena_reserve'],
    ['arena_max_blocks=4294967296', ERANGE, 'arena_max_blocks'],
    ['arena_max_blocks=few', EINVAL, 'arena_max_blocks'],
    ['max_file_bytes=-1', EINVAL, 'max_file_bytes'],
    ['max_total_bytes=18446744073709551616', ERANGE, 'max_total_bytes'],
    ['max_converted_bytes=1M', EINVAL, 'max_converted_bytes'],
  ])('%s', async (parameters, errno, sentence) => {
    const loaded = await load(`'${parameters.replaceAll(' ', "' '")}'`);
    expect(loaded).toMatchObject({ errno });
    expect(loaded.log).toContain(sentence);
    const { stdout } = await sh('ls /sys/module; cat /proc/iomem');
    expect(stdout).not.toContain('iospace');
  });

  test.each([
    ['arena', 'is one arena too many'],
    ['allow', 'is one range too many'],
  ])('%s: 17 ranges', async (parameter, sentence) => {
    const loaded = await load(`${parameter}=${ranges(17)}`);
    expect(loaded).toMatchObject({ errno: EINVAL });
    expect(loaded.log).toContain(sentence);
  });

  test("an arena over a device's registers, which nobody has claimed", async () => {
    const { stdout } = await sh('cat /sys/bus/pci/devices/0000:00:01.0/resource');
    const bar = /^0x0*([1-9a-f][0-9a-f]+) /m.exec(stdout)?.[1];
    const loaded = await load(`arena=4K@0x${bar}`);
    expect(loaded).toMatchObject({ errno: EINVAL });
    expect(loaded.log).toContain('lies over registers of a device');
  });

  test('what is right: as many as there may be, and all is kept', async () => {
    const parameters = `arena=${ranges(16)} arena_reserve=${16 * 0x1_0000} allow=${ranges(16, 0x10_0000)}`;
    expect(await load(parameters)).toMatchObject({ errno: 0 });
    expect((await sh('cat /sys/class/misc/iospace0/arenas')).stdout).toBe('16\n');
    expect(await sh('rmmod iospace')).toMatchObject({ code: 0 });
    expect((await sh('cat /proc/iomem')).stdout).not.toContain('iospace');
  });

  test('the books of an arena are its own, and end with the module', async () => {
    const parameters = `arena=${ranges(2)}`;
    // Writes a byte to the books of each arena, after it has read those that are there.
    const program = `import { openSync, readSync, writeSync } from 'node:fs';
      import { ioctl } from 'iospace/raw';
      const device = openSync('/dev/iospace0', 'r+');
      for (const index of [0, 1]) {
        const books = new Int32Array([16, 0, index, -1]);
        ioctl(device, 0xd50e, books);
        const byte = new Uint8Array(1);
        readSync(books[3], byte, 0, 1, 0);
        console.log(byte[0]);
        writeSync(books[3], new Uint8Array([0x41 + index]), 0, 1, 0);
      }`;
    const readAndWrite = async (): Promise<string> => {
      const argv = ['node', '--input-type=module', '-e', program];
      const { code, stdout, stderr } = await machine.run(argv, { cwd: root, timeout: 60 });
      expect(code, stderr).toBe(0);
      return stdout;
    };
    expect(await load(parameters)).toMatchObject({ errno: 0 });
    expect(await readAndWrite()).toBe('0\n0\n');
    expect(await readAndWrite()).toBe('65\n66\n');
    expect(await sh('rmmod iospace')).toMatchObject({ code: 0 });
    expect(await load(parameters)).toMatchObject({ errno: 0 });
    expect(await readAndWrite()).toBe('0\n0\n');
    expect(await sh('rmmod iospace')).toMatchObject({ code: 0 });
  });

  test('max_converted_bytes=0: no memory type that takes a conversion', async () => {
    expect(await load('max_converted_bytes=0')).toMatchObject({ errno: 0 });
    expect((await sh('cat /sys/class/misc/iospace0/memory_types')).stdout).toBe('cached coherent\n');
    expect(await sh('rmmod iospace')).toMatchObject({ code: 0 });
  });

  test('an arena is zeroed when the module is loaded', async () => {
    const parameters = `arena=1M@0x${start.toString(16)}`;
    const node = async (expression: string): Promise<string> => {
      const program = `import { DmaDevice } from 'iospace';
        const { bytes } = DmaDevice.open().arenas[0].window('cached');
        console.log(${expression});`;
      const argv = ['node', '--input-type=module', '-e', program];
      const { code, stdout, stderr } = await machine.run(argv, { cwd: root, timeout: 60 });
      expect(code, stderr).toBe(0);
      return stdout.trim();
    };
    const isAll = (byte: number) => `Buffer.alloc(bytes.length, ${byte}).equals(bytes)`;
    expect(await load(parameters)).toMatchObject({ errno: 0 });
    expect(await node(`bytes.fill(0x5a).length`)).toBe(`${1 << 20}`);
    // It stays until then: what is read next was not zero for another reason.
    expect(await node(isAll(0x5a))).toBe('true');
    expect(await sh('rmmod iospace')).toMatchObject({ code: 0 });
    expect(await load(parameters)).toMatchObject({ errno: 0 });
    expect(await node(isAll(0))).toBe('true');
    expect(await sh('rmmod iospace')).toMatchObject({ code: 0 });
  });
});

test('virt: no arena over a pool of the device tree, whose device need not be bound', async () => {
  await using machine = await Machine.boot({
    machine: 'virt',
    deviceTree: (file) => applyOverlay(file, `${root}test/guest/pools.dts`),
    mounts: [],
  });
  const pool = 'ls /proc/device-tree/reserved-memory | sed -n "s/^pool@/0x/p" | head -1';
  const command = `rmmod iospace; insmod /lab/iospace.ko arena=64K@$(${pool})`;
  const { code } = await machine.run(['sh', '-c', command], { timeout: 60 });
  expect(code).toBe(constants.errno.EINVAL);
  const { stdout } = await machine.run(['dmesg'], { timeout: 60 });
  expect(stdout).toContain('is reserved by the device tree for something else');
});
