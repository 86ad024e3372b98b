/**
 * Emulated machines in which a Node program runs against the iospace kernel module.
 *
 * @module
 */
export { buildAddon } from './addon.js';
export type { BootOptions } from './boot-options.js';
export { type CacheEntry, cacheDirectory, cleanCache, listCache } from './cache.js';
export { applyOverlay, type DeviceTreeChange } from './device-tree.js';
export { LabError, type LabErrorCode } from './errors.js';
export { type NodeMajor, nodeMajors } from './guest-node.js';
export {
  type Arch,
  architectures,
  fetchedKernels,
  fetchKernel,
  type Kernel,
  type KernelName,
  kernelNames,
  kernelsFor,
} from './kernels.js';
export { Machine } from './machine.js';
export { type MachineName, machineNames, machineSummary } from './machines.js';
export type { FetchOptions } from './packages.js';
export type { Input, RunOptions, RunResult } from './run.js';
