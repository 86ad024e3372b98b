/**
 * Memory that was refused: why, in a sentence that says what to use instead, and what is next best.
 *
 * Says only what the device reported of itself, and what holds for every machine of its kind.
 *
 * @module
 */
import { readFileSync } from 'node:fs';
import type { DeviceInfo } from './info.js';
import type { Direction, MemoryType, WindowType } from './memory.js';
import type { MemoryRequest } from './provider.js';

/**
 * For each type the next best ones, best first. One that needs `sync` where the asked one did not comes last: a program
 * that never syncs would see stale data. `coherent` before `uncached` for `writecombine`, because what is asked for there
 * are fast writes, and uncached ones are slower by an order of magnitude. `writethrough` is of windows only.
 */
const nextBest: Readonly<Record<MemoryType, readonly MemoryType[]>> = {
  cached: ['coherent', 'writecombine', 'uncached'],
  writecombine: ['coherent', 'uncached', 'cached'],
  uncached: ['writecombine', 'coherent', 'cached'],
  writethrough: ['cached', 'coherent', 'writecombine', 'uncached'],
  coherent: ['writecombine', 'uncached', 'cached'],
};

/** The types that may stand for `memory` on this device, best first. */
export function alternatives(memory: MemoryType, info: DeviceInfo): MemoryType[] {
  return nextBest[memory].filter((type) => info.memoryTypes.includes(type));
}

/** Why the device was refused what it had asked for, and what helps. */
export function whyRefused(request: MemoryRequest, info: DeviceInfo): string {
  const { memory, zone, align, boundary } = request;
  if (!info.memoryTypes.includes(memory)) {
    const others = alternatives(memory, info);
    const instead = others.length === 0 ? 'there is no other' : `use ${others.join(' or ')}`;
    return `${whyNoType(memory, info)}: ${instead}`;
  }
  if (zone !== undefined && !info.zones.includes(zone)) {
    return `this machine has no zone ${zone}, only ${info.zones.join(', ') || 'one'}`;
  }
  if (zone !== undefined && info.pool.kind !== 'none') {
    return 'this device has a pool of its own, which has no zones';
  }
  if (boundary !== 0 && boundary < align) {
    return `segments of ${memory} memory that each begin on a multiple of ${align} cannot make up a buffer that is cut at multiples of ${boundary}: use an align of at most the boundary`;
  }
  const place = placeOf(request);
  return place === ''
    ? `this machine did not give ${memory} memory`
    : `this device can have no ${memory} memory ${place}`;
}

/** Where a buffer was asked to lie; empty where nothing was said. */
export function placeOf({ zone, addressBits }: MemoryRequest): string {
  return [
    ...(zone === undefined ? [] : [`in the zone ${zone}`]),
    ...(addressBits === 0 ? [] : [`below 0x${(1n << BigInt(addressBits)).toString(16)}`]),
  ].join(' and ');
}

function whyNoType(memory: MemoryType, info: DeviceInfo): string {
  const isX86 = process.arch === 'x64' || process.arch === 'ia32';
  if (memory === 'writethrough') {
    return isX86
      ? 'only windows of an arena can be write-through'
      : 'write-through memory exists on x86 only';
  }
  if (info.pool.kind !== 'none') {
    return `this device has a pool of its own, which gives ${info.memoryTypes.join(', ') || 'nothing'}`;
  }
  if (!isX86 && (memory === 'writecombine' || memory === 'uncached')) {
    if (info.coherent) {
      return 'this device snoops';
    }
    if (process.arch === 'riscv64') {
      return `${memory} memory needs a processor with Svpbmt`;
    }
  }
  return `this device has no ${memory} memory`;
}

/** Capabilities of linux/capability.h, as their bits. */
const CAP_IPC_LOCK = 1n << 14n;
const CAP_SYS_RAWIO = 1n << 17n;

/** Why memory of the program was not mapped, and what helps, by the code of the error. */
export function whyNotMapped(
  byteLength: number,
  direction: Direction,
  info: DeviceInfo,
): Record<string, () => string> {
  const writes = direction !== 'toDevice';
  const sharesLine = (): string =>
    `the device writes and does not snoop: memory for it begins and ends on a multiple of ${info.cacheLine} bytes (info.cacheLine), and the ${byteLength} bytes of this view share a line with other data; device.alloc() gives memory that does not`;
  return {
    ...(writes && !info.coherent && { EINVAL: sharesLine }),
    EOPNOTSUPP: () =>
      `this device reaches bus addresses up to 0x${info.dmaMask.toString(16)}, and this machine cannot map memory from elsewhere for it: use device.alloc()`,
    EFAULT: () =>
      writes
        ? 'this memory is read-only; or it is pages of a file on a disk, which the device must not write behind the file system; or memory of a device, which cannot be pinned: device.alloc() gives memory that the device can write, and a buffer of it has segments of its own'
        : 'this memory is of a device, and cannot be pinned (a buffer of device.alloc() has segments of its own); or nothing is mapped there any more',
    EBUSY: () =>
      'it overlaps memory that this device has mapped, and one of the two is written by the device: unmap() that first, or map it once, bidirectional; or it is a buffer of this device, whose segments the device can be told',
    ENOMEM: () => whyNotPinned(byteLength),
    ENOSPC: () =>
      `the bounce buffers that this device needs have no room for ${byteLength} bytes: unmap() others, map less at a time, or boot with more (swiotlb=65536 on the kernel's command line is 128 MiB); or this device has as many mappings as it can`,
    EDQUOT: () =>
      `max_file_mappings allows ${info.limits.fileMappings} mappings at a time of one open device: unmap() others, or map larger pieces; or max_total_bytes is used up by buffers and by what programs that have gone left mapped, which waits for the last close of this device`,
  };
}

/** Why memory was not pinned: a limit of the process, or the machine's. */
function whyNotPinned(byteLength: number): string {
  const limit = /^Max locked memory +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  const used = /^VmPin:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  if (limit === undefined || hasCapability(CAP_IPC_LOCK)) {
    return `the machine has no memory left to pin ${byteLength} bytes; or they are huge pages in the CMA area (CmaTotal of /proc/meminfo), where kernels before 6.11 cannot pin them`;
  }
  return `${byteLength} bytes to pin; RLIMIT_MEMLOCK is ${limit}, and ${Number(used) * 1024} bytes of it are in use (VmPin): raise it (ulimit -l, LimitMEMLOCK= of a service), run with CAP_IPC_LOCK, or unmap() others; within the limit, the machine has no memory left`;
}

/** Why a dma-buf was not imported, and what helps, by the code of the error. */
export function whyNotImported(fd: number, direction: Direction): Record<string, string> {
  return {
    EBADF: `${fd} is not an open descriptor`,
    EINVAL: `descriptor ${fd} is no dma-buf`,
    EACCES: `descriptor ${fd} is read-only, and the device writes (${direction}): import it with direction: 'toDevice'`,
    EOPNOTSUPP:
      'this kernel has no dma-buf; or this device cannot reach the memory, or its exporter refused it',
    EDQUOT: 'over max_file_bytes or max_total_bytes, of which each import takes a page',
  };
}

/** Why a window was refused, and what helps, by the code of the error. The range is of whole pages. */
export function whyNoWindow(
  memory: WindowType,
  address: bigint,
  byteLength: number,
): Record<string, () => string> {
  const size = `0x${byteLength.toString(16)}`;
  const range = `0x${address.toString(16)} to 0x${(address + BigInt(byteLength)).toString(16)}`;
  return {
    EPERM: () =>
      hasCapability(CAP_SYS_RAWIO)
        ? `the range ${range} is not declared: pass the device whose registers it is, or modprobe iospace allow=${size}@0x${address.toString(16)} (never memory that the system uses, and nothing under kernel lockdown)`
        : `the range ${range} lies in no arena; any other needs CAP_SYS_RAWIO: run as root`,
    EBUSY: () => `the range ${range} is in use by a driver, or open in another memory type`,
    EOPNOTSUPP: () =>
      `this machine cannot open the range ${range} as ${memory}: registers are opened as device, memory as one of the memoryTypes of its arena`,
    ENOSPC: () =>
      `${size} bytes are more than one window can have, or this device has as many open as it can`,
    EINVAL: () => `the range ${range} is beyond what this CPU addresses`,
  };
}

function hasCapability(bit: bigint): boolean {
  const effective = /^CapEff:\s+([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return effective !== undefined && (BigInt(`0x${effective}`) & bit) !== 0n;
}
