/**
 * The words for memory: what it is to the CPU, where it lies, and who writes it.
 *
 * @module
 */
import * as uapi from './uapi.js';

/**
 * What a buffer's memory is to the CPU.
 *
 * - `cached`: ordinary memory, perhaps in several pieces; needs `syncForDevice()` and `syncForCpu()`
 * - `writecombine`: in no cache, writes are gathered: for what the CPU only writes
 * - `uncached`: in no cache; on all but x86 the same as `writecombine`
 * - `writethrough`: reads are cached, writes go through; only windows of an arena can be so, on x86
 * - `coherent`: whatever makes this device and the CPU agree with no `sync`; in one piece
 */
export type MemoryType = 'cached' | 'writecombine' | 'uncached' | 'writethrough' | 'coherent';

/**
 * What a window on physical memory is to the CPU: as {@link MemoryType}, without `coherent`, which is a relation to a
 * device, and with `device`, for registers: in strict order, each access of exact width.
 */
export type WindowType = Exclude<MemoryType, 'coherent'> | 'device';

/**
 * Where in physical memory a buffer lies.
 *
 * - `dma`: in reach of the most limited devices: below 16 MiB on x86, below 1 or 4 GiB on arm64
 * - `dma32`: below 4 GiB
 * - `normal`: above those
 */
export type Zone = 'dma' | 'dma32' | 'normal';

/**
 * Who writes memory that is mapped for a device: the CPU (`toDevice`: the device only reads), the device (`fromDevice`), or
 * both in turn.
 */
export type Direction = 'toDevice' | 'fromDevice' | 'bidirectional';

const numbers: Readonly<Record<MemoryType | WindowType, number>> = {
  cached: uapi.IOSPACE_MEMORY_CACHED,
  writecombine: uapi.IOSPACE_MEMORY_WRITECOMBINE,
  uncached: uapi.IOSPACE_MEMORY_UNCACHED,
  writethrough: uapi.IOSPACE_MEMORY_WRITETHROUGH,
  coherent: uapi.IOSPACE_MEMORY_COHERENT,
  device: uapi.IOSPACE_MEMORY_DEVICE,
};

const zoneNumbers: Readonly<Record<Zone, number>> = {
  dma: uapi.IOSPACE_ZONE_DMA,
  dma32: uapi.IOSPACE_ZONE_DMA32,
  normal: uapi.IOSPACE_ZONE_NORMAL,
};

const directionNumbers: Readonly<Record<Direction, number>> = {
  toDevice: uapi.IOSPACE_DIRECTION_TO_DEVICE,
  fromDevice: uapi.IOSPACE_DIRECTION_FROM_DEVICE,
  bidirectional: uapi.IOSPACE_DIRECTION_BIDIRECTIONAL,
};

/** All types of buffers that this version knows. */
export const memoryTypes: readonly MemoryType[] = [
  'cached',
  'writecombine',
  'uncached',
  'writethrough',
  'coherent',
];

/** All types of windows that this version knows. */
export const windowTypes: readonly WindowType[] = [
  'cached',
  'writecombine',
  'uncached',
  'writethrough',
  'device',
];

/** All zones that this version knows. */
export const zones = Object.keys(zoneNumbers) as readonly Zone[];

/** All directions. */
export const directions = Object.keys(directionNumbers) as readonly Direction[];

export function memoryTypeToNumber(type: MemoryType | WindowType): number {
  return numbers[type];
}

/** The type, one of those known, that the kernel calls by this number. */
export function memoryTypeFromNumber<T extends MemoryType | WindowType>(
  known: readonly T[],
  number: number,
): T {
  const type = known.find((word) => numbers[word] === number);
  if (type === undefined) {
    throw new Error(
      `the kernel module speaks of memory type ${number}, which this version of iospace does not know`,
    );
  }
  return type;
}

/** The known types whose bits (`1 << number`) are set. A newer module may have types that this library does not know. */
export function memoryTypesFromMask<T extends MemoryType | WindowType>(
  known: readonly T[],
  mask: number,
): T[] {
  return known.filter((type) => (mask & (1 << numbers[type])) !== 0);
}

export function directionToNumber(direction: Direction): number {
  return directionNumbers[direction];
}

/** Any zone where none is named. */
export function zoneToNumber(zone: Zone | undefined): number {
  return zone === undefined ? uapi.IOSPACE_ZONE_ANY : zoneNumbers[zone];
}

export function zonesFromMask(mask: number): Zone[] {
  return zones.filter((zone) => (mask & (1 << zoneNumbers[zone])) !== 0);
}
