/**
 * The machines that can be emulated, by what they stand for: how QEMU makes each, and how the lab reaches it.
 *
 * @module
 */
import { join } from 'node:path';
import type { Arch, Kernel } from './kernels.js';

export type MachineName = 'pc' | 'virt' | 'raspi3b';

/** A kind of machine. */
export interface MachineModel {
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

export const machineModels: Readonly<Record<MachineName, MachineModel>> = {
  pc: {
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
  virt: {
    summary: 'device tree and PCI',
    arch: 'arm64',
    qemu: 'qemu-system-aarch64',
    memory: '1G',
    console: 'ttyAMA0',
    agent: 'virtio',
    hasDeviceTree: true,
    files: 'mount',
    arguments: () => ['-M', 'virt', '-cpu', 'cortex-a72', '-smp', '2'],
  },
  raspi3b: {
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
};

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

/** The names of the machines. */
export const machineNames = Object.keys(machineModels) as MachineName[];

/** What a machine stands for, in a few words. */
export function machineSummary(name: MachineName): string {
  const { arch, summary } = machineModels[name];
  return `${arch}: ${summary}`;
}
