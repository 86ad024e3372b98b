/**
 * What is known of a device before anything is done with it.
 *
 * @module
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NativeInfo } from '../binding.js';
import { isSystemError } from '../errors.js';
import {
  type MemoryType,
  memoryTypes,
  memoryTypesFromMask,
  type Zone,
  zones,
  zonesFromMask,
} from './memory.js';
import * as uapi from './uapi.js';

const buses = {
  none: uapi.IOSPACE_BUS_NONE,
  pci: uapi.IOSPACE_BUS_PCI,
  platform: uapi.IOSPACE_BUS_PLATFORM,
} as const;
const iommus = {
  none: uapi.IOSPACE_IOMMU_NONE,
  identity: uapi.IOSPACE_IOMMU_IDENTITY,
  translating: uapi.IOSPACE_IOMMU_TRANSLATING,
} as const;
const poolKinds = {
  none: uapi.IOSPACE_POOL_NONE,
  coherent: uapi.IOSPACE_POOL_COHERENT,
  cma: uapi.IOSPACE_POOL_CMA,
} as const;

/** A device's own memory, from `memory-region` in the device tree: what its buffers are taken from, and nothing else. */
export interface DevicePool {
  /** `'coherent'`: "shared-dma-pool" with "no-map"; `'cma'`: with "reusable". */
  readonly kind: keyof typeof poolKinds;
  /** Physical address. */
  readonly start: bigint;
  readonly byteLength: number;
}

/** How much a device may be asked for, in bytes but for `fileMappings` and `arenaBlocks`. */
export interface DeviceLimits {
  /** Buffers of one open device. Module parameter. */
  readonly fileBytes: number;
  /** Buffers of all open devices. Module parameter. */
  readonly totalBytes: number;
  /** Mappings of `mapUser()` of one open device. Module parameter. */
  readonly fileMappings: number;
  /** Writecombine and uncached buffers of this device on x86, those kept for reuse included; 0 where there is no limit. */
  readonly convertedBytes: number;
  /** The longest segment of a cached buffer; smaller still where bounce buffers are in use. */
  readonly segmentBytes: number;
  /** The longest piece that the system's page allocator ever has. */
  readonly contiguousBytes: number;
  /** Blocks in each arena; 0 where there is no limit. Module parameter. */
  readonly arenaBlocks: number;
  /** What is kept from general use at the end of the arenas. Module parameter. */
  readonly arenaReserveBytes: number;
}

/** What a device and this machine can do, as they report it. */
export interface DeviceInfo {
  /** What to open it by: `'iospace0'`; `'memfd'` for plain memory. */
  readonly name: string;
  /** What it is connected by; `'none'` where there is no hardware behind it. */
  readonly bus: keyof typeof buses;
  /** Its name on that bus: `'0000:00:01.0'`; empty without a bus. */
  readonly device: string;
  /** Highest bus address that it can use. */
  readonly dmaMask: bigint;
  /** Whether it snoops the CPU's caches. */
  readonly coherent: boolean;
  /** What stands between it and memory. Only `'translating'` refuses what was not allocated for it. */
  readonly iommu: keyof typeof iommus;
  /** Bytes that DMA to a device that does not snoop must not share with the CPU's data. */
  readonly cacheLine: number;
  /** Bytes of the CPU's pages; buffers and windows are whole ones. */
  readonly pageSize: number;
  /** What `alloc()` can give for it. */
  readonly memoryTypes: readonly MemoryType[];
  /** The zones of this machine's memory. */
  readonly zones: readonly Zone[];
  /** Its own memory. */
  readonly pool: DevicePool;
  /** How many arenas there are: `device.arenas`. */
  readonly arenas: number;
  /**
   * Register windows are numbered from 0 to this - 1, which is the last that there is; 0 without registers. Of the BARs of
   * a PCI function some before it may be absent: ENOENT.
   */
  readonly registers: number;
  /** Interrupt vectors are numbered from 0 to this - 1; 0 without interrupts. */
  readonly vectors: number;
  readonly limits: DeviceLimits;
  /**
   * Bytes that the system's contiguous memory allocator has left: read when asked, for it changes all the time, and
   * therefore not enumerable. `undefined` where the kernel has no such allocator.
   */
  readonly cmaFree: number | undefined;
  /** The version of the kernel module; empty where there is none (memfd). */
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
  const size = (key: string): number => bytes(BigInt(attribute(key)));
  const types = new Set(attribute('memory_types').split(' '));
  const zoneNames = new Set(attribute('zones').split(' '));
  return deviceInfo({
    name,
    bus: word(buses, attribute('bus')),
    device: attribute('device_name'),
    dmaMask: BigInt(attribute('dma_mask')),
    coherent: attribute('coherent') === '1',
    iommu: word(iommus, attribute('iommu')),
    cacheLine: Number(attribute('cache_line')),
    pageSize: Number(attribute('page_size')),
    memoryTypes: memoryTypes.filter((type) => types.has(type)),
    zones: zones.filter((zone) => zoneNames.has(zone)),
    pool: {
      kind: word(poolKinds, attribute('pool')),
      start: BigInt(attribute('pool_start')),
      byteLength: size('pool_bytes'),
    },
    arenas: Number(attribute('arenas')),
    registers: Number(attribute('registers')),
    vectors: Number(attribute('vectors')),
    limits: {
      fileBytes: size('max_file_bytes'),
      totalBytes: size('max_total_bytes'),
      fileMappings: Number(attribute('max_file_mappings')),
      convertedBytes: size('max_converted_bytes'),
      segmentBytes: size('max_segment_bytes'),
      contiguousBytes: size('max_contiguous_bytes'),
      arenaBlocks: Number(attribute('arena_max_blocks')),
      arenaReserveBytes: size('arena_reserve_bytes'),
    },
    version: read(join(MODULE, 'version')),
  });
}

function read(path: string): string {
  return readFileSync(path, 'utf8').trim();
}

/** The same, as the open device reports it. */
export function infoFromNative(name: string, native: NativeInfo): DeviceInfo {
  const { version } = native;
  return deviceInfo({
    name,
    bus: wordOf(buses, native.bus),
    device: native.device,
    dmaMask: native.dmaMask,
    coherent: native.coherent,
    iommu: wordOf(iommus, native.iommu),
    cacheLine: native.cacheLine,
    pageSize: native.pageSize,
    memoryTypes: memoryTypesFromMask(memoryTypes, native.memoryTypes),
    zones: zonesFromMask(native.zones),
    pool: {
      kind: wordOf(poolKinds, native.pool),
      start: native.poolStart,
      byteLength: bytes(native.poolBytes),
    },
    arenas: native.arenas,
    registers: native.registers,
    vectors: native.vectors,
    limits: {
      fileBytes: bytes(native.maxFileBytes),
      totalBytes: bytes(native.maxTotalBytes),
      fileMappings: native.maxFileMappings,
      convertedBytes: bytes(native.maxConvertedBytes),
      segmentBytes: bytes(native.maxSegmentBytes),
      contiguousBytes: bytes(native.maxContiguousBytes),
      arenaBlocks: native.arenaMaxBlocks,
      arenaReserveBytes: bytes(native.arenaReserveBytes),
    },
    version: `${version >>> 16}.${(version >>> 8) & 0xff}.${version & 0xff}`,
  });
}

/** What was read at once, and what is read when asked. */
export function deviceInfo(info: Omit<DeviceInfo, 'cmaFree'>): DeviceInfo {
  return Object.freeze(
    Object.defineProperty({ ...info, cmaFree: undefined }, 'cmaFree', { get: cmaFree, enumerable: false }),
  );
}

function cmaFree(): number | undefined {
  const kilobytes = /^CmaFree:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
  return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
}

function word<T extends string>(known: Readonly<Record<T, number>>, value: string): T {
  if (!Object.hasOwn(known, value)) {
    throw unknown(known, value);
  }
  return value as T;
}

function wordOf<T extends string>(known: Readonly<Record<T, number>>, number: number): T {
  for (const candidate in known) {
    if (known[candidate] === number) {
      return candidate;
    }
  }
  throw unknown(known, number);
}

function unknown(known: object, value: string | number): Error {
  return new Error(
    `the kernel module says ${value}; this version of iospace knows ${Object.keys(known).join(', ')}`,
  );
}

/** A count of bytes; "no limit" becomes the largest exact number. */
function bytes(count: bigint): number {
  return count > Number.MAX_SAFE_INTEGER ? Number.MAX_SAFE_INTEGER : Number(count);
}
