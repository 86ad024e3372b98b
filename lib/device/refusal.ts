/**
 * Memory that was refused: why, in a sentence that says what to use instead, and what is next best.
 *
 * Says only what the device reported of itself, and what holds for every machine of its kind.
 *
 * @module
 */
import { readFileSync } from 'node:fs';
import type { DeviceInfo } from './info.js';
import type { MemoryType, WindowType } from './memory.js';
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

/** `CAP_SYS_RAWIO` of linux/capability.h, as its bit. */
const CAP_SYS_RAWIO = 1n << 17n;

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
      hasRawIo()
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

function hasRawIo(): boolean {
  const effective = /^CapEff:\s+([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return effective !== undefined && (BigInt(`0x${effective}`) & CAP_SYS_RAWIO) !== 0n;
}
