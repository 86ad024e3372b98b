/**
 * What is known of a device before anything is done with it.
 *
 * @module
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NativeInfo } from '../binding.js';
import { isSystemError } from '../errors.js';
import { type MemoryType, memoryTypes, memoryTypesFromMask } from './memory.js';

const buses = ['none', 'pci', 'platform'] as const;
const iommus = ['none', 'identity', 'translating'] as const;

/** What a device and this machine can do, as they report it. */
export interface DeviceInfo {
  /** What to open it by: `'iospace0'`; `'memfd'` for plain memory. */
  readonly name: string;
  /** What it is connected by; `'none'` where there is no hardware behind it. */
  readonly bus: (typeof buses)[number];
  /** Its name on that bus: `'0000:00:01.0'`; empty without a bus. */
  readonly device: string;
  /** Highest bus address that it can use. */
  readonly dmaMask: bigint;
  /** Whether it snoops the CPU's caches. */
  readonly coherent: boolean;
  /** What stands between it and memory. Only `'translating'` refuses what was not allocated for it. */
  readonly iommu: (typeof iommus)[number];
  /** Bytes that DMA to a device that does not snoop must not share with the CPU's data. */
  readonly cacheLine: number;
  /** What `alloc()` can give for it. */
  readonly memoryTypes: readonly MemoryType[];
  /** Register windows are numbered from 0 to this - 1; a PCI function has 6, some of which may be absent. */
  readonly registers: number;
  /** Interrupt vectors are numbered from 0 to this - 1; 0 without interrupts. */
  readonly vectors: number;
  /** Most buffer bytes of one open device, and of all together. */
  readonly limits: { readonly fileBytes: number; readonly totalBytes: number };
  /** The version of the kernel module; of this package where there is none. */
  readonly version: string;
}

const DEVICES = '/sys/class/misc';
const MODULE = '/sys/module/iospace';

/**
 * The devices that are bound to the kernel module, in the order of their numbers; none without it. Opens nothing and
 * changes nothing.
 *
 * @example
 * const edu = listDevices().find(({ bus }) => bus === 'pci');
 */
export function listDevices(): DeviceInfo[] {
  const devices: DeviceInfo[] = [];
  for (const name of deviceNames()) {
    try {
      devices.push(readInfo(name));
    } catch (error) {
      // Unbound since its name was read.
      if (!isSystemError(error, 'ENOENT', 'ENODEV')) {
        throw error;
      }
    }
  }
  return devices;
}

function deviceNames(): string[] {
  try {
    return readdirSync(DEVICES)
      .filter((name) => /^iospace\d+$/.test(name))
      .sort((a, b) => Number(a.slice('iospace'.length)) - Number(b.slice('iospace'.length)));
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) {
      return [];
    }
    throw error;
  }
}

function readInfo(name: string): DeviceInfo {
  const attribute = (key: string): string => read(join(DEVICES, name, key));
  const limit = (key: string): number => bytes(BigInt(read(join(MODULE, 'parameters', key))));
  const types = new Set(attribute('memory_types').split(' '));
  return {
    name,
    bus: word(buses, attribute('bus')),
    device: attribute('device_name'),
    dmaMask: BigInt(attribute('dma_mask')),
    coherent: attribute('coherent') === '1',
    iommu: word(iommus, attribute('iommu')),
    cacheLine: Number(attribute('cache_line')),
    memoryTypes: memoryTypes.filter((type) => types.has(type)),
    registers: Number(attribute('registers')),
    vectors: Number(attribute('vectors')),
    limits: { fileBytes: limit('max_file_bytes'), totalBytes: limit('max_total_bytes') },
    version: read(join(MODULE, 'version')),
  };
}

function read(path: string): string {
  return readFileSync(path, 'utf8').trim();
}

/** The same, as the open device reports it. */
export function infoFromNative(name: string, native: NativeInfo): DeviceInfo {
  const { version } = native;
  return {
    name,
    bus: word(buses, buses[native.bus]),
    device: native.device,
    dmaMask: native.dmaMask,
    coherent: native.coherent,
    iommu: word(iommus, iommus[native.iommu]),
    cacheLine: native.cacheLine,
    memoryTypes: memoryTypesFromMask(native.memoryTypes),
    registers: native.registers,
    vectors: native.vectors,
    limits: { fileBytes: bytes(native.maxFileBytes), totalBytes: bytes(native.maxTotalBytes) },
    version: `${version >>> 16}.${(version >>> 8) & 0xff}.${version & 0xff}`,
  };
}

function word<T extends string>(known: readonly T[], value: string | undefined): T {
  const found = known.find((candidate) => candidate === value);
  if (found === undefined) {
    throw new Error(`the kernel module says ${value}; this version of iospace knows ${known.join(', ')}`);
  }
  return found;
}

/** A count of bytes; "no limit" becomes the largest exact number. */
function bytes(count: bigint): number {
  return count > Number.MAX_SAFE_INTEGER ? Number.MAX_SAFE_INTEGER : Number(count);
}
