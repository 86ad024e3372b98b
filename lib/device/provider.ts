/**
 * What stands behind a DmaDevice. The classes that users see are the same over each provider; what a provider cannot do
 * it refuses with EOPNOTSUPP.
 *
 * @module
 */
import type { Mapping } from '../mapping.js';
import type { DeviceInfo } from './info.js';
import type { Interrupts } from './interrupts.js';
import type { MemoryType, WindowType, Zone } from './memory.js';
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

/** What a buffer has to be, every option checked and filled in. */
export interface MemoryRequest {
  readonly memory: MemoryType;
  /** Always of coherent memory, whatever this says. */
  readonly contiguous: boolean;
  /** 0 for whole pages. */
  readonly align: number;
  /** 0 for none. */
  readonly boundary: number;
  readonly zone: Zone | undefined;
  /** 0 for what the device reaches. */
  readonly addressBits: number;
}

/** Memory that a provider has given, and how it goes back. */
export interface ProvidedMemory {
  readonly mapping: Mapping;
  readonly memory: MemoryType;
  /** None where no device reaches it. */
  readonly segments: readonly DmaSegment[];
  /** Hands a range, at least one byte of it, to whose turn begins; absent where a barrier is enough. */
  readonly sync?: (turn: 'device' | 'cpu', offset: number, length: number) => void;
  /** Ends what lies behind the mapping, which was released before. */
  free(): void;
}

/** A window on physical memory that a provider has given, and how it goes back. */
export interface ProvidedWindow {
  /** Of memory a mapping of its whole pages; registers are never an ArrayBuffer. */
  readonly content: Mapping | Registers;
  /** Where in the mapping the window begins. */
  readonly byteOffset: number;
  readonly memory: WindowType;
  /** Ends what lies behind the content, which was released before. */
  free(): void;
}

/** Reserved memory, as the provider finds it. */
export interface ProvidedArena {
  readonly index: number;
  readonly name: string;
  readonly physicalAddress: bigint;
  readonly byteLength: number;
  readonly memoryTypes: readonly WindowType[];
  readonly sideBySide: boolean;
}

/** One open device. Everything it has given ends before it is closed. */
export interface Provider {
  readonly name: ProviderName;
  readonly info: DeviceInfo;
  /** What `alloc()` gives when nothing else is asked for, or can be had. */
  readonly defaultMemory: MemoryType;
  /** Its descriptor. Throws EOPNOTSUPP where it has none. */
  readonly fd: number;
  alloc(byteLength: number, request: MemoryRequest): ProvidedMemory;
  /** The range must not wrap. */
  window(memory: WindowType, physicalAddress: bigint, byteLength: number): ProvidedWindow;
  arenas(): ProvidedArena[];
  /** Lets the device reach the arena of this index; the bus address of its first byte. */
  attachArena(index: number): bigint;
  /** The window of this index; a new one at each call. */
  registers(index: number): Registers;
  /** The index of the window of this name. */
  registersIndex(name: string): number;
  readonly interrupts: Interrupts;
  close(): void;
}
