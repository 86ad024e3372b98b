/**
 * Figures that others have published of their systems: lines beside what was measured, never mixed with it.
 *
 * @module
 */
import type { MemoryType } from '../device/memory.js';
import type { Group } from './operation.js';

/** One figure of somebody else. */
export interface Published {
  /** The charts to which it belongs. */
  readonly group: Group;
  /** What the memory was to the CPU: by the nearest of our names. */
  readonly memory: MemoryType | null;
  /** Bytes a second where the group is one of bandwidths, otherwise nanoseconds. */
  readonly value: number;
  /** In a few words. */
  readonly system: string;
  /** How it was measured, as far as it was said. */
  readonly how: string;
  readonly source: string;
}

const MiB = 1024 * 1024;

export const published: readonly Published[] = [
  {
    group: 'read',
    memory: 'cached',
    value: 349e6,
    system: 'Zynq-7000, cached',
    how: 'memcpy of 512 MiB out of a udmabuf, by its maintainer, ZYBO-Z7',
    source: 'ikwzm/udmabuf#120',
  },
  {
    group: 'read',
    memory: 'uncached',
    value: 70e6,
    system: 'Zynq-7000, uncached',
    how: 'the same memcpy, uncached',
    source: 'ikwzm/udmabuf#120',
  },
  {
    group: 'read',
    memory: 'cached',
    value: 800e6,
    system: 'ZynqMP A53, cached',
    how: 'loops of LDP and STP out of a udmabuf, by a user',
    source: 'ikwzm/udmabuf#16',
  },
  {
    group: 'read',
    memory: 'writecombine',
    value: 250e6,
    system: 'ZynqMP A53, not cached',
    how: 'the same, uncached or write-combining',
    source: 'ikwzm/udmabuf#16',
  },
  {
    group: 'read',
    memory: 'writecombine',
    value: 552e6,
    system: 'PCIe, MOVNTDQA',
    how: 'write-combining BAR of a P100, 64 KiB by streaming loads of SSE4.1, copylat',
    source: 'gdrcopy, README (00cf81f)',
  },
  {
    group: 'read',
    memory: 'writecombine',
    value: 1.5e6,
    system: 'PCIe, ordinary loads',
    how: 'BAR, 4 KiB, copybw; the type of load is not stated',
    source: 'gdrcopy, README',
  },
  {
    group: 'write',
    memory: 'uncached',
    value: 1137 * MiB,
    system: 'Zynq-7000, uncached',
    how: 'writes on a Zynq-7000 with 666 MHz, by a test of Genode',
    source: 'genodelabs/genode#4456',
  },
  {
    group: 'write',
    memory: 'writecombine',
    value: 10.3e9,
    system: 'PCIe, write-combining',
    how: 'posted writes of 1 MiB, copylat',
    source: 'gdrcopy, README',
  },
  {
    group: 'random',
    memory: 'uncached',
    value: 2000,
    system: 'PCIe, uncached',
    how: 'one 64-bit load of the BAR of an FPGA, Xeon E3-1240 v3: "more than 2 µs"',
    source: 'community.intel.com, m-p/1242424',
  },
  {
    group: 'random',
    memory: 'writecombine',
    value: 1260,
    system: 'PCIe, write-combining',
    how: '2 to 8 bytes of the BAR of a P100, Xeon Silver 4114, copylat',
    source: 'NVIDIA/gdrcopy#24',
  },
  {
    group: 'interrupt',
    memory: null,
    value: 20_000,
    system: 'Zynq, UIO in C',
    how: 'generic-uio, an interrupt with three system calls: "about 20 µs"',
    source: 'harmoninstruments.com, posts/uio',
  },
];

/** Those that belong beside figures of a group. */
export function publishedOf(group: Group): readonly Published[] {
  return published.filter((figure) => figure.group === group);
}
