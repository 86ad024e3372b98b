/**
 * iospace: memory that a device reaches, its registers and its interrupts.
 *
 * @module
 */
export { DmaBuffer } from './device/buffer.js';
export { type AllocOptions, type DeviceOptions, DmaDevice } from './device/device.js';
export { type DeviceInfo, listDevices } from './device/info.js';
export type { InterruptEvent, InterruptOptions, WaitOptions } from './device/interrupts.js';
export type { MemoryType } from './device/memory.js';
export type { DmaSegment, ProviderName } from './device/provider.js';
export { Registers, type RegistersFlags } from './device/registers.js';
export { DmaSlice } from './device/slice.js';
export type { CodedError, SystemError } from './errors.js';
export type { ViewConstructor } from './mapping.js';
