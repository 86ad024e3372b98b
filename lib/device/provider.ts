/**
 * What stands behind a DmaDevice. The classes that users see are the same over each provider; what a provider cannot do
 * it refuses with EOPNOTSUPP.
 *
 * @module
 */
import type { Mapping } from '../mapping.js';
import type { DeviceInfo } from './info.js';
import type { Interrupts } from './interrupts.js';
import type { MemoryType } from './memory.js';
import type { Registers } from './registers.js';

/** The providers, in the order in which `'auto'` tries them. */
export const providerNames = ['iospace', 'memfd'] as const;

/** Where the memory comes from: the kernel module, or plain shared memory without a device. */
export type ProviderName = (typeof providerNames)[number];

/** One piece of a buffer that is contiguous for the device. */
export interface DmaSegment {
  /** Its first byte as the device sees it. */
  readonly dmaAddress: bigint;
  /** Bytes, at least 1. */
  readonly length: number;
}

/** Memory that a provider has given, and how it goes back. */
export interface ProvidedMemory {
  readonly mapping: Mapping;
  readonly memory: MemoryType;
  /** None where no device reaches it. */
  readonly segments: readonly DmaSegment[];
  /** Ends what lies behind the mapping, which was released before. */
  free(): void;
}

/** One open device. Everything it has given ends before it is closed. */
export interface Provider {
  readonly name: ProviderName;
  readonly info: DeviceInfo;
  /** What `alloc()` gives when nothing else is asked for, or can be had. */
  readonly defaultMemory: MemoryType;
  /** Its descriptor. Throws EOPNOTSUPP where it has none. */
  readonly fd: number;
  alloc(byteLength: number, memory: MemoryType): ProvidedMemory;
  /** The window of this index; a new one at each call. */
  registers(index: number): Registers;
  /** The index of the window of this name. */
  registersIndex(name: string): number;
  readonly interrupts: Interrupts;
  close(): void;
}
