/**
 * `iospace/shm`: memory shared with other processes.
 *
 * @module
 */
export type { SystemError } from '../errors.js';
export type { ViewConstructor } from '../mapped-bytes.js';
export { type OpenOptions, posix } from './posix.js';
export { SharedMemory } from './shared-memory.js';
