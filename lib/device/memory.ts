/**
 * The memory types: what a buffer's memory is to the CPU. Their words are this library's, their numbers those of
 * `enum iospace_memory` in kernel-module/uapi/iospace.h.
 *
 * @module
 */

/**
 * What a buffer's memory is to the CPU.
 *
 * - `cached`: ordinary memory; a device that does not snoop needs `sync`
 * - `writecombine`: in no cache, writes are gathered
 * - `uncached`: in no cache
 * - `writethrough`: reads are cached, writes go through
 * - `coherent`: whatever makes this device and the CPU agree with no `sync`; contiguous on the bus
 */
export type MemoryType = 'cached' | 'writecombine' | 'uncached' | 'writethrough' | 'coherent';

const numbers: Readonly<Record<MemoryType, number>> = {
  cached: 1,
  writecombine: 2,
  uncached: 3,
  writethrough: 4,
  coherent: 5,
};

/** All memory types that this version knows. */
export const memoryTypes = Object.keys(numbers) as readonly MemoryType[];

export function memoryTypeToNumber(type: MemoryType): number {
  return numbers[type];
}

/** The type that the kernel calls by this number. */
export function memoryTypeFromNumber(number: number): MemoryType {
  const type = memoryTypes.find((word) => numbers[word] === number);
  if (type === undefined) {
    throw new Error(
      `the kernel module speaks of memory type ${number}, which this version of iospace does not know`,
    );
  }
  return type;
}

/** The types whose bits (`1 << number`) are set. A newer module may have types that this library does not know. */
export function memoryTypesFromMask(mask: number): MemoryType[] {
  return memoryTypes.filter((type) => (mask & (1 << numbers[type])) !== 0);
}
