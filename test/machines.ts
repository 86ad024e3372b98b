/**
 * The machines of the guest tests, one row each: what is varied is the kernel, the architecture, how interrupts arrive,
 * what stands between device and memory. All but one have physical memory that the system does not use: an arena, and
 * some way behind it a range that the module's parameter `allow` declares.
 */
import { execFileSync } from 'node:child_process';
import type { BootOptions } from '../lib/lab/index.js';
import { type Arch, defaultKernel, type KernelName } from '../lib/lab/kernels.js';
import { findMachine } from '../lib/lab/machines.js';

/** A machine of the matrix. */
export interface Row {
  boot: BootOptions;
  /** Whether it has an arena. Default: true. */
  hasArena?: boolean;
  /** Commands that show, in the guest, that the machine is what the row says. */
  shows: string[];
  /** Whether `npm test` has it, or with the debug kernel `npm run test:debug`; `npm run test:matrix` has all of them. */
  core: boolean;
  /** How many times as long as on others everything may take. Default: 1. */
  patience?: number;
}

const edu1 = '/sys/class/misc/iospace1';
const usesMsi = `ls ${edu1}/device/msi_irqs | grep .`;
const translates = `grep -x translating ${edu1}/iommu`;
const snoops = `grep -x 1 ${edu1}/coherent`;
const showsArena = 'grep "iospace arena" /proc/iomem';

/** Takes from the device tree that PCI functions see what the caches hold. */
function withoutSnooping(file: string): void {
  execFileSync('fdtput', ['-d', file, '/pcie@10000000', 'dma-coherent']);
}

/** Every row, by its name. */
const machines: Record<string, Row> = {
  'pc 6.1': { boot: { machine: 'pc', kernel: '6.1' }, shows: ['uname -r | grep ^6.1', usesMsi], core: true },
  // Two processors more than the others, for what processes share.
  'pc 5.10': {
    boot: { machine: 'pc', kernel: '5.10', machineOptions: 'smp.cpus=4' },
    shows: ['uname -r | grep ^5.10', 'nproc | grep -x 4', usesMsi],
    core: true,
  },
  // More than a device of 32 bits reaches; this one has 40.
  'pc 6.12 with 6 GiB': {
    boot: { machine: 'pc', kernel: '6.12', memory: '6G', devices: ['edu,dma_mask=0xffffffffff'] },
    shows: ['uname -r | grep ^6.12', usesMsi, `grep -x 0xffffffffff ${edu1}/dma_mask`],
    core: true,
  },
  // Without PAT the kernel keeps no types of physical memory: windows of several lie side by side.
  'pc 6.1 with INTx, without PAT': {
    boot: { machine: 'pc', kernel: '6.1', append: 'pci=nomsi nopat' },
    shows: [`! ${usesMsi}`, 'dmesg | grep "PAT support disabled"'],
    core: false,
  },
  // Since 6.10 the kernel leaves out what it takes for needless syncs.
  'pc 6.12 with bounce buffers forced and INTx, without an arena': {
    boot: { machine: 'pc', kernel: '6.12', append: 'swiotlb=force pci=nomsi' },
    hasArena: false,
    shows: ['uname -r | grep ^6.12', 'dmesg | grep "software IO TLB"', `! ${usesMsi}`, `! ${showsArena}`],
    core: true,
  },
  'pc 6.1 with bounce buffers forced': {
    boot: { machine: 'pc', kernel: '6.1', append: 'swiotlb=force' },
    shows: ['uname -r | grep ^6.1', 'dmesg | grep "software IO TLB"'],
    core: false,
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
    core: false,
  },
  'virt 6.1 behind an IOMMU': {
    boot: { machine: 'virt', kernel: '6.1', machineOptions: 'iommu=smmuv3' },
    shows: [translates, snoops],
    core: false,
  },
  'virt 6.1 with PCI that does not snoop': {
    boot: { machine: 'virt', kernel: '6.1', deviceTree: withoutSnooping },
    shows: [`! ${translates}`, `! ${snoops}`],
    core: false,
  },
  // What the IOMMU maps, and what the caches hold, has to be looked up page by page.
  'virt 6.1 behind an IOMMU with PCI that does not snoop': {
    boot: {
      machine: 'virt',
      kernel: '6.1',
      machineOptions: 'iommu=smmuv3',
      deviceTree: withoutSnooping,
    },
    shows: [translates, `! ${snoops}`],
    core: true,
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
    core: true,
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

const MIB = 1 << 20;
const ARENA = 8 * MIB;
const DECLARED = MIB;
/** Between them lies memory that nobody declared. */
const GAP = MIB;

/** Where the machines have memory that is kept from the system. */
const setAside: Readonly<Record<Arch, number>> = {
  amd64: 0x3000_0000,
  arm64: 0x7000_0000,
  riscv64: 0xb000_0000,
};

/** A range, as the parameters have it. */
const range = (byteLength: number, address: number): string =>
  `${byteLength / MIB}M@0x${address.toString(16)}`;

/** Adds the arena and the range that is declared to a device tree. */
function reserve(file: string, start: number): void {
  const put = (type: 's' | 'x', node: string, property: string, ...values: string[]) =>
    execFileSync('fdtput', ['-p', '-t', type, file, `/reserved-memory${node}`, property, ...values]);
  put('x', '', '#address-cells', '2');
  put('x', '', '#size-cells', '2');
  put('x', '', 'ranges');
  for (const [name, address, byteLength] of [
    ['arena', start, ARENA],
    ['declared', start + ARENA + GAP, DECLARED],
  ] as const) {
    const [at, size] = [address.toString(16), byteLength.toString(16)];
    put('x', `/${name}@${at}`, 'reg', '0', at, '0', size);
    put('x', `/${name}@${at}`, 'no-map');
  }
  put('s', `/arena@${start.toString(16)}`, 'compatible', 'iospace,arena');
}

/** The machine, with an arena. */
function withArena(boot: BootOptions): BootOptions {
  const start = setAside[kernelOf(boot).arch];
  const allow = `allow=${range(DECLARED, start + ARENA + GAP)}`;
  if (boot.machine === 'virt') {
    const deviceTree = async (file: string): Promise<void> => {
      await boot.deviceTree?.(file);
      reserve(file, start);
    };
    return { ...boot, deviceTree, moduleParameters: allow };
  }
  const memmap = `memmap=${range(ARENA + GAP + DECLARED, start).replace('@', '$')}`;
  return {
    ...boot,
    append: boot.append === undefined ? memmap : `${boot.append} ${memmap}`,
    moduleParameters: `arena=${range(ARENA, start)} ${allow}`,
  };
}

/** What IOSPACE_MACHINES may say, and which rows that means. */
const choices: Record<string, (row: Row) => boolean> = {
  core: ({ core, boot }) => core && boot.kernel !== 'debug',
  debug: ({ core, boot }) => core && boot.kernel === 'debug',
  all: () => true,
};

const choice = process.env['IOSPACE_MACHINES'] ?? 'core';
const isChosen = choices[choice];
if (isChosen === undefined) {
  throw new Error(`IOSPACE_MACHINES: expected one of ${Object.keys(choices).join(', ')}, got ${choice}`);
}

/** The kernel of a machine, its name and architecture. */
export function kernelOf({ machine = 'pc', arch, kernel }: BootOptions): { name: KernelName; arch: Arch } {
  const model = findMachine(machine, arch);
  return { name: kernel ?? defaultKernel(model.arch), arch: model.arch };
}

/** The rows to run: the core, unless IOSPACE_MACHINES says `all` or `debug`. */
export const chosenMachines = Object.entries(machines)
  .filter(([_name, row]) => isChosen(row))
  .map(([name, row]): [string, Row] =>
    row.hasArena === false
      ? [name, row]
      : [name, { ...row, boot: withArena(row.boot), shows: [...row.shows, showsArena] }],
  );
