/**
 * Kernels and machines that take more than to be unpacked: each boots, and runs Node. `npm test` has the first of
 * them, `npm run test:matrix` all. That their modules build and work is for `kernel-module.test.ts` and the guest tests.
 */
import { describe, expect, test } from 'vitest';
import { type BootOptions, fetchKernel, Machine } from '../../lib/lab/index.js';

interface Row {
  boot: BootOptions;
  release: RegExp;
  nodeArch: string;
  pageSize: string;
}

const rows: Record<string, Row> = {
  'pc 7': {
    boot: { machine: 'pc', kernel: '7' },
    release: /^7\.\d+\.\d+\+deb13-amd64$/,
    nodeArch: 'x64',
    pageSize: '4 kB',
  },
  'virt 7': {
    boot: { machine: 'virt', kernel: '7' },
    release: /^7\.\d+\.\d+\+deb13-arm64$/,
    nodeArch: 'arm64',
    pageSize: '4 kB',
  },
  'virt 6.12 with pages of 16 KiB': {
    boot: { machine: 'virt', kernel: '6.12-16k' },
    release: /^6\.12\.\d+\+deb13-arm64-16k$/,
    nodeArch: 'arm64',
    pageSize: '16 kB',
  },
  'virt riscv64': {
    boot: { machine: 'virt', arch: 'riscv64' },
    release: /^6\.12\.\d+\+deb13-riscv64$/,
    nodeArch: 'riscv64',
    pageSize: '4 kB',
  },
};

const chosen = Object.entries(rows).slice(0, process.env['IOSPACE_MACHINES'] === 'all' ? undefined : 1);

test.each(chosen)('%s boots and runs Node', async (_name, { boot, release, nodeArch, pageSize }) => {
  await using machine = await Machine.boot({ ...boot, loadModule: false, mounts: [] });
  expect(machine.kernelRelease).toMatch(release);
  const { stdout } = await machine.run(['node', '-p', 'process.arch']);
  expect(stdout).toBe(`${nodeArch}\n`);
  const smaps = await machine.run(['grep', '-m1', '^KernelPageSize:', '/proc/self/smaps']);
  expect(smaps.stdout).toMatch(new RegExp(`: +${pageSize}\n`));
});

describe('what there is not, is refused', () => {
  test.each<[string, BootOptions, RegExp]>([
    ['a machine', { machine: 'apple1' as 'pc' }, /pc, virt, raspi3b .* 'apple1'/],
    ['an architecture', { machine: 'pc', arch: 'riscv64' }, /amd64 for the arch of pc, got 'riscv64'/],
    ['a kernel', { machine: 'pc', kernel: '6.12-16k' }, /5\.10, 6\.1, 6\.12, 7, debug .*'6\.12-16k'/],
  ])('%s', async (_name, boot, message) => {
    await expect(Machine.boot(boot)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE', message });
  });

  test('a kernel for an architecture', async () => {
    await expect(fetchKernel('6.1', 'riscv64')).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
      message: /one of 6\.12 for the kernel of riscv64, got '6\.1'/,
    });
  });
});

test('parameters that the module does not have are refused', async () => {
  const boot = (moduleParameters: string) => Machine.boot({ mounts: [], moduleParameters });
  await expect(boot('no_such=1')).rejects.toMatchObject({
    code: 'ERR_INVALID_ARG_VALUE',
    message: /dyndbg for a module parameter, got 'no_such'/,
  });
});
