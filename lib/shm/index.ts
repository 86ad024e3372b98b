/**
 * `iospace/shm`: memory shared with other processes, and descriptors passed to them.
 *
 * @module
 */
export type { SystemError } from '../errors.js';
export type { ViewConstructor } from '../mapped-bytes.js';
export { Doorbell } from './doorbell.js';
export { CountingEvent } from './event.js';
export { fds, type PassOptions } from './fds.js';
export { FileMemory } from './file-memory.js';
export { type BlockOptions, type FutexOutcome, futex, type WaitOptions, type Words } from './futex.js';
export { Memfd, type MemfdOpenOptions, type MemfdOptions, memfd, type SealName } from './memfd.js';
export { type Locked, Mutex } from './mutex.js';
export { type OpenOptions, PosixMemory, posix } from './posix.js';
export { MemoryReader } from './reader.js';
export type { PeerState } from './ring/attachment.js';
export type { RingConsumer } from './ring/consumer.js';
export type { RingKind, RingMemory } from './ring/layout.js';
export type { RingProducer } from './ring/producer.js';
export { Ring, type RingOptions, type SideOptions } from './ring/ring.js';
export type { RingSender } from './ring/sender.js';
export type { RingWriter } from './ring/writer.js';
export { SharedMemory } from './shared-memory.js';
export {
  type AttachOptions,
  type ListedSegment,
  Segment,
  type SegmentChange,
  type SegmentInfo,
  type SegmentStatus,
  sysv,
} from './sysv.js';
