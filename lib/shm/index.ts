/**
 * `iospace/shm`: memory shared with other processes, and descriptors passed to them.
 *
 * @module
 */
export type { SystemError } from '../errors.js';
export type { ViewConstructor } from '../mapped-bytes.js';
export { fds, type PassOptions } from './fds.js';
export { type OpenOptions, posix } from './posix.js';
export { SharedMemory } from './shared-memory.js';
