/**
 * The machines of the guest tests, one row each: what is varied is the kernel, the architecture, how interrupts arrive,
 * what stands between device and memory.
 */
import type { BootOptions } from '../lib/lab/index.js';

/** A machine of the matrix. */
export interface Row {
  boot: BootOptions;
  /** Commands that show, in the guest, that the machine is what the row says. */
  shows: string[];
  /** Whether `npm test` has it; `npm run test:matrix` has all of them. */
  core: boolean;
}

const edu1 = '/sys/class/misc/iospace1';
const usesMsi = `ls ${edu1}/device/msi_irqs | grep .`;
const translates = `grep -x translating ${edu1}/iommu`;

/** Every row, by its name. */
export const machines: Record<string, Row> = {
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
};
