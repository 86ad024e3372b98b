/**
 * iospace: memory that a device reaches, its registers and its interrupts.
 *
 * @module
 */
export { Arena, type ArenaOptions, type ArenaTarget } from './arena/arena.js';
export type { ArenaBacking } from './arena/backing.js';
export { DmaBlock, DmaBlockPart, type FreeOptions } from './arena/block.js';
export {
  configureArena,
  dmaFree,
  dmaFreeMany,
  dmaMalloc,
  dmaMallocMany,
  type MallocOptions,
} from './arena/malloc.js';
export { type MmapOptions, mmapIospace, munmapIospace } from './arena/mmap.js';
export type { AllocateOptions } from './arena/request.js';
export type {
  ArenaBlockInfo,
  ArenaDifference,
  ArenaDump,
  ArenaDumpedBlock,
  ArenaInfo,
  ArenaOwnerStats,
  ArenaStats,
  ArenaSwept,
  ArenaTagStats,
} from './arena/stats.js';
export { DmaBuffer, type ExportOptions } from './device/buffer.js';
export { type DeviceOptions, DmaDevice } from './device/device.js';
export { ImportedBuffer, type ImportOptions } from './device/imported-buffer.js';
export { type DeviceInfo, type DeviceLimits, type DevicePool, listDevices } from './device/info.js';
export type { InterruptEvent, InterruptOptions, WaitOptions } from './device/interrupts.js';
export type { Direction, MemoryType, WindowType, Zone } from './device/memory.js';
export { DmaPool, PoolBlock, type PoolOptions } from './device/pool.js';
export type { ProviderName } from './device/provider.js';
export { Registers, type RegistersFlags } from './device/registers.js';
export type { AllocOptions } from './device/request.js';
export {
  ArenaAttachment,
  type Attachable,
  type Placed,
  ReservedArena,
  type WindowOptions,
} from './device/reserved-arena.js';
export type { DmaSegment } from './device/segments.js';
export { DmaSlice } from './device/slice.js';
export type { SyncRange } from './device/turn.js';
export { type MapUserOptions, UserMapping } from './device/user-mapping.js';
export { IospaceMapping } from './device/window.js';
export type { CodedError, SystemError } from './errors.js';
export { MappedBytes, type ViewConstructor } from './mapped-bytes.js';
