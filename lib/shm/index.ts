/**
 * `iospace/shm`: memory shared with other processes, and descriptors passed to them.
 *
 * @module
 */
export type { SystemError } from '../errors.js';
export type { ViewConstructor } from '../mapped-bytes.js';
export { fds, type PassOptions } from './fds.js';
export { type OpenOptions, posix } from './posix.js';
export { Ring, type RingOptions, type SideOptions } from './ring.js';
export type { PeerState } from './ring-attachment.js';
export type { RingKind, RingMemory } from './ring-layout.js';
export type { RingProducer } from './ring-producer.js';
export type { RingConsumer } from './ring-receiving.js';
export type { RingSender } from './ring-sender.js';
export type { RingSending } from './ring-sending.js';
export type { RingBlockOptions, RingWaitOptions } from './ring-wait.js';
export { SharedMemory } from './shared-memory.js';
