/**
 * The machines of the guest tests, one row each: what is varied is the kernel, the architecture, how interrupts arrive,
 * what stands between device and memory.
 */
import { execFileSync } from 'node:child_process';
import type { BootOptions } from '../lib/lab/index.js';
import { type Arch, defaultKernel, type KernelName } from '../lib/lab/kernels.js';
import { findMachine } from '../lib/lab/machines.js';

/** A machine of the matrix. */
export interface Row {
  boot: BootOptions;
  /** Commands that show, in the guest, that the machine is what the row says. */
  shows: string[];
  /** Whether `npm test` has it; `npm run test:matrix` has all of them. */
  core: boolean;
  /** How many times as long as on others everything may take. Default: 1. */
  patience?: number;
}

const edu1 = '/sys/class/misc/iospace1';
const usesMsi = `ls ${edu1}/device/msi_irqs | grep .`;
const translates = `grep -x translating ${edu1}/iommu`;

/** Every row, by its name. */
const machines: Record<string, Row> = {
  'pc 6.1': { boot: { machine: 'pc', kernel: '6.1' }, shows: ['uname -r | grep ^6.1', usesMsi], core: true },
  'pc 5.10': {
    boot: { machine: 'pc', kernel: '5.10' },
    shows: ['uname -r | grep ^5.10', usesMsi],
    core: true,
  },
  'pc 6.12': {
    boot: { machine: 'pc', kernel: '6.12' },
    shows: ['uname -r | grep ^6.12', usesMsi],
    core: true,
  },
  'pc 6.1 with INTx': {
    boot: { machine: 'pc', kernel: '6.1', append: 'pci=nomsi' },
    shows: [`! ${usesMsi}`],
    core: true,
  },
  'pc 6.1 with bounce buffers forced': {
    boot: { machine: 'pc', kernel: '6.1', append: 'swiotlb=force' },
    shows: ['dmesg | grep "software IO TLB"'],
    core: true,
  },
  'pc 6.1 behind an IOMMU': {
    boot: {
      machine: 'pc',
      kernel: '6.1',
      devices: ['intel-iommu,intremap=on', 'edu'],
      append: 'intel_iommu=on iommu.strict=1',
    },
    shows: [translates],
    core: true,
  },
  'virt 6.1': {
    boot: { machine: 'virt', kernel: '6.1' },
    shows: ['uname -m | grep aarch64', usesMsi],
    core: true,
  },
  'virt 6.1 behind an IOMMU': {
    boot: { machine: 'virt', kernel: '6.1', machineOptions: 'iommu=smmuv3' },
    shows: [translates],
    core: true,
  },
  'virt 6.1 with PCI that does not snoop': {
    boot: {
      machine: 'virt',
      kernel: '6.1',
      deviceTree: (file) => {
        execFileSync('fdtput', ['-d', file, '/pcie@10000000', 'dma-coherent']);
      },
    },
    shows: [`grep -x 0 ${edu1}/coherent`],
    core: false,
  },
  'pc 7': {
    boot: { machine: 'pc', kernel: '7' },
    shows: ['uname -r | grep ^7', usesMsi],
    core: false,
  },
  'virt 6.12': {
    boot: { machine: 'virt', kernel: '6.12' },
    shows: ['uname -r | grep ^6.12', usesMsi],
    core: false,
  },
  'virt 7': {
    boot: { machine: 'virt', kernel: '7' },
    shows: ['uname -r | grep ^7', usesMsi],
    core: false,
  },
  'virt 6.12 with pages of 16 KiB': {
    boot: { machine: 'virt', kernel: '6.12-16k' },
    shows: ['grep -m1 "^KernelPageSize: *16 kB" /proc/self/smaps', usesMsi],
    core: false,
  },
  'virt 6.12 on riscv64': {
    boot: { machine: 'virt', arch: 'riscv64', kernel: '6.12' },
    shows: ['uname -m | grep riscv64'],
    core: false,
    patience: 2,
  },
  'pc debug': {
    boot: { machine: 'pc', kernel: 'debug' },
    shows: ['uname -r | grep debug', usesMsi],
    core: false,
    patience: 6,
  },
  'pc debug behind an IOMMU': {
    boot: {
      machine: 'pc',
      kernel: 'debug',
      devices: ['intel-iommu,intremap=on', 'edu'],
      append: 'intel_iommu=on iommu.strict=1',
    },
    shows: ['uname -r | grep debug', translates],
    core: false,
    patience: 6,
  },
};

/** What IOSPACE_MACHINES may say, and which rows that means. */
const choices: Record<string, (row: Row) => boolean> = {
  core: ({ core }) => core,
  debug: ({ boot }) => boot.kernel === 'debug',
  all: () => true,
};

const choice = process.env['IOSPACE_MACHINES'] ?? 'core';
const isChosen = choices[choice];
if (isChosen === undefined) {
  throw new Error(`IOSPACE_MACHINES: expected one of ${Object.keys(choices).join(', ')}, got ${choice}`);
}

/** The rows to run: the core, unless IOSPACE_MACHINES says `all` or `debug`. */
export const chosenMachines = Object.entries(machines).filter(([_name, row]) => isChosen(row));

/** The kernel of a machine, its name and architecture. */
export function kernelOf({ machine = 'pc', arch, kernel }: BootOptions): { name: KernelName; arch: Arch } {
  const model = findMachine(machine, arch);
  return { name: kernel ?? defaultKernel(model.arch), arch: model.arch };
}
