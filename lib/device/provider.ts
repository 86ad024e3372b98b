/**
 * What stands behind a DmaDevice. The classes that users see are the same over each provider; what a provider cannot do
 * it refuses with EOPNOTSUPP.
 *
 * @module
 */
import type { Mapping } from '../mapping.js';
import type { DeviceInfo } from './info.js';
import type { Interrupts } from './interrupts.js';
import type { Direction, MemoryType, WindowType, Zone } from './memory.js';
import type { Registers } from './registers.js';
import type { DmaSegment } from './segments.js';
import type { HandOver } from './turn.js';

/** The providers, in the order in which `'auto'` tries them. */
export const providerNames = ['iospace', 'memfd'] as const;

/** Where the memory comes from: the kernel module, or plain shared memory without a device. */
export type ProviderName = (typeof providerNames)[number];

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

/** Memory that a provider has let the device reach, and how that ends. */
export interface Reachable {
  /** None where no device reaches it. */
  readonly segments: readonly DmaSegment[];
  /** Absent where a barrier is enough. */
  readonly sync?: HandOver;
  /** Ends it for the device. A mapping of it in this process was released before. */
  free(): void;
}

/** Memory that a provider has given. */
export interface ProvidedMemory extends Reachable {
  readonly mapping: Mapping;
  readonly memory: MemoryType;
  /** A dma-buf of a part of it, whole pages; the caller's descriptor. */
  exportDmaBuf(offset: number, byteLength: number, readOnly: boolean): number;
}

/** Stands for the mapping of a dma-buf that the CPU cannot see. */
export class Unmappable {
  readonly reason: string;
  released = false;

  constructor(reason: string) {
    this.reason = reason;
  }

  release(): void {
    this.released = true;
  }
}

/** Memory that came as a dma-buf. */
export interface ProvidedImport extends Reachable {
  readonly content: Mapping | Unmappable;
  readonly byteLength: number;
  /** Whether the mapping can only be read. */
  readonly readOnly: boolean;
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
  /** Lets the device reach memory of the program, all of `bytes`. */
  mapUser(bytes: Uint8Array, direction: Direction): Reachable;
  importDmaBuf(fd: number, direction: Direction): ProvidedImport;
  /** The range must not wrap. */
  window(memory: WindowType, physicalAddress: bigint, byteLength: number): ProvidedWindow;
  arenas(): ProvidedArena[];
  /** The file that keeps the books of the arena of this index: a descriptor, the caller's, with locks of its own. */
  arenaBooks(index: number): number;
  /** Lets the device reach the arena of this index; the bus address of its first byte. */
  attachArena(index: number): bigint;
  /** The window of this index; a new one at each call. */
  registers(index: number): Registers;
  /** The index of the window of this name. */
  registersIndex(name: string): number;
  readonly interrupts: Interrupts;
  close(): void;
}
