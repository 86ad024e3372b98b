/**
 * The machines that can be emulated, by what they stand for: how QEMU makes each, and how the lab reaches it.
 *
 * @module
 */
import { join } from 'node:path';
import { wrongValue } from '../errors.js';
import type { Arch, Kernel } from './kernels.js';

export type MachineName = 'pc' | 'virt' | 'raspi3b';

/** A kind of machine. */
export interface MachineModel {
  name: MachineName;
  /** What it stands for. */
  summary: string;
  arch: Arch;
  qemu: string;
  /** Memory where none is asked for, as `-m` takes it. */
  memory: string;
  /** The kernel's console: the first serial line of the machine. */
  console: string;
  /** Where the agent listens: on a virtio port, or on a second serial line, the device of which is named. */
  agent: 'virtio' | { serial: string };
  /** Whether firmware describes it to the kernel by a device tree. */
  hasDeviceTree: boolean;
  /** Whether host directories are mounted, or copied into the guest's memory as it boots. */
  files: 'mount' | 'copy';
  /** The arguments that make the machine. */
  arguments(kernel: Kernel): string[];
}

/** The DMA mask that QEMU's edu has where it is told none. */
const eduDefaultMask = 0xfffffff;

/** Where a machine is made for several architectures, the first is what its name alone means. */
const models: readonly MachineModel[] = [
  {
    name: 'pc',
    summary: 'ACPI and PCI',
    arch: 'amd64',
    qemu: 'qemu-system-x86_64',
    memory: '1G',
    console: 'ttyS0',
    agent: 'virtio',
    hasDeviceTree: false,
    files: 'mount',
    // The split interrupt controller is what intel-iommu's interrupt remapping needs.
    arguments: () => ['-M', 'q35,kernel-irqchip=split', '-cpu', 'max', '-smp', '2'],
  },
  {
    name: 'virt',
    summary: 'device tree and PCI',
    arch: 'arm64',
    qemu: 'qemu-system-aarch64',
    memory: '1G',
    console: 'ttyAMA0',
    agent: 'virtio',
    hasDeviceTree: true,
    files: 'mount',
    // One that has pages of 16 KiB, too.
    arguments: () => ['-M', 'virt', '-cpu', 'cortex-a76', '-smp', '2'],
  },
  {
    name: 'virt',
    summary: 'device tree and PCI',
    arch: 'riscv64',
    qemu: 'qemu-system-riscv64',
    memory: '1G',
    console: 'ttyS0',
    agent: 'virtio',
    hasDeviceTree: true,
    files: 'mount',
    // Memory types are an extension of the architecture.
    arguments: () => ['-M', 'virt', '-cpu', 'rv64,svpbmt=on', '-smp', '2'],
  },
  {
    name: 'raspi3b',
    summary: 'Raspberry Pi 3, its own device tree',
    arch: 'arm64',
    qemu: 'qemu-system-aarch64',
    memory: '1G',
    console: 'ttyAMA0,115200',
    agent: { serial: '/dev/ttyS1' },
    hasDeviceTree: true,
    files: 'copy',
    arguments: (kernel) => {
      const deviceTree = join(kernel.deviceTrees, 'broadcom/bcm2837-rpi-3-b.dtb');
      return ['-M', 'raspi3b', '-smp', '4', '-dtb', deviceTree];
    },
  },
];

/** The names of the machines. */
export const machineNames = [...new Set(models.map(({ name }) => name))];

/** What there is by the name of a machine, for each of its architectures. */
function modelsOf(name: MachineName): MachineModel[] {
  return models.filter((model) => model.name === name);
}

/**
 * The machine of that name.
 *
 * @param arch - where it is made for several; default: the first of them
 * @throws TypeError with code `ERR_INVALID_ARG_VALUE` where there is none
 */
export function findMachine(name: MachineName, arch?: Arch): MachineModel {
  const known = modelsOf(name);
  if (known.length === 0) {
    throw wrongValue('machine', `one of ${machineNames.join(', ')}`, name);
  }
  const found = known.find((model) => arch === undefined || model.arch === arch);
  if (found === undefined) {
    throw wrongValue(`the arch of ${name}`, `one of ${known.map((model) => model.arch).join(', ')}`, arch);
  }
  return found;
}

/** What a machine stands for, in a few words. */
export function machineSummary(name: MachineName): string {
  const known = modelsOf(name);
  return `${known.map(({ arch }) => arch).join(', ')}: ${known[0]?.summary}`;
}

/**
 * A device as it is given to QEMU. An edu with nothing said of it gets a DMA mask of 32 bits: within its usual 28 a PC
 * has little memory to give, and `virt` none at all.
 */
export function reachingMemory(device: string): string {
  return device === 'edu' ? 'edu,dma_mask=0xffffffff' : device;
}

/** The DMA masks of the edu functions among some devices, in their order. */
export function eduMasks(devices: readonly string[]): string[] {
  return devices.flatMap((description) => {
    const [driver, ...properties] = description.split(',');
    if (driver !== 'edu') {
      return [];
    }
    const mask = properties.find((property) => property.startsWith('dma_mask='))?.slice('dma_mask='.length);
    return [`0x${Number(mask ?? eduDefaultMask).toString(16)}`];
  });
}
