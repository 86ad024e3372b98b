/**
 * Rings: queues of messages in shared memory, made here, and entered on one of their sides.
 *
 * What both sides may touch at once, indices and states, goes through `Atomics`. Messages do not: they belong to one side
 * at a time, and an index hands them over. The language promises that order for a SharedArrayBuffer; for the ArrayBuffers of
 * mapped memory V8 keeps it too.
 *
 * @module
 */
import { checkBoolean, checkDescriptor, checkInteger, checkOneOf, checkOptions } from '../../check.js';
import { errno, systemError, wrongValue } from '../../errors.js';
import { FileMemory } from '../file-memory.js';
import type { RingConsumer } from './consumer.js';
import { format, type Layout, type RingKind, type RingMemory, readHeader } from './layout.js';
import { RingProducer } from './producer.js';
import { RingSender } from './sender.js';
import { SingleConsumer } from './single-consumer.js';
import { SlotConsumer } from './slot-consumer.js';

/** What a ring is to be. */
export interface RingOptions {
  /** `single`: one producer, which may write in place. `many`: up to 64 senders, which copy. @defaultValue 'single' */
  kind?: RingKind;
  /** Of a ring of many: bytes of the longest message, each of which takes as much room. @defaultValue 56 */
  maxLength?: number;
  /** Whether whatever is in the memory may go: a ring that nobody uses any more, or anything else. @defaultValue false */
  replace?: boolean;
}

/** How to enter a ring. */
export interface SideOptions {
  /**
   * A descriptor of the memory's file, open for reading and writing, which may be closed afterwards. With it the side cannot
   * be taken twice, and the others learn when it dies. The memory must be mapped from the file's start.
   *
   * @defaultValue that of the memory, if it is of `posix.open` or `memfd`; none for other memory
   */
  fd?: number;
}

/** Long enough for one cache line with what is before the message. */
const DEFAULT_MESSAGE = 56;

/** Longest message of any ring of many. */
const MOST_MESSAGE = 2 ** 29 - 8;

/**
 * Makes an empty ring in memory that is zero, of the largest power of two of bytes that fits behind its header of 1024.
 * Messages of a ring of one producer have at most half of that less 8 bytes.
 *
 * One process makes it, the others enter it. Whatever they read from the memory they compare with what there can be: garbage
 * that another writes is EBADMSG, at this call or a later one, and nothing worse.
 *
 * @param memory - at least 1088 bytes, aligned to 64
 * @throws EEXIST if the memory begins with anything but zero, without `replace`; ERR_OUT_OF_RANGE
 * @example
 * using memory = posix.open('/frames', { create: true, size: 1024 + (1 << 20) });
 * Ring.create(memory);
 * const producer = Ring.producer(memory);
 */
function create(memory: RingMemory, options?: RingOptions): void {
  const known = checkOptions(options, ['kind', 'maxLength', 'replace']);
  const { kind = 'single', maxLength, replace = false } = known;
  checkOneOf('kind', kind, ['single', 'many']);
  checkBoolean('replace', replace);
  if (kind === 'single' && maxLength !== undefined) {
    throw wrongValue('maxLength', "nothing without kind 'many'", maxLength);
  }
  const message = checkInteger('maxLength', maxLength ?? DEFAULT_MESSAGE, 0, MOST_MESSAGE);
  format(memory, kind, message, replace);
}

/**
 * Enters a ring as its producer. What another that died had committed stays in it, and what it had not is gone.
 *
 * @throws EINVAL if there is no ring; EPROTO if it is of another version, or of many senders; EBADMSG if it is damaged; EBUSY
 *   if a producer that lives has it, with a descriptor; without, it is taken from whoever has it; EACCES, EBADF of the
 *   descriptor; EMFILE; ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE of the memory
 */
function producer(memory: RingMemory, options?: SideOptions): RingProducer {
  const fd = descriptorOf(memory, options);
  return new RingProducer(ofKind(readHeader(memory, 'Ring.producer'), 'single', 'Ring.producer'), fd);
}

/**
 * Enters a ring of many as one of its senders.
 *
 * A sender that dies in the middle of a send leaves a slot which stops the consumer. That, or the next sender that gets the
 * dead one's place, finds it dead and puts the slot right, if dead one, consumer and next sender each have a descriptor; else
 * the slot stays, and the messages behind it.
 *
 * @throws as {@link producer}, and EUSERS if it has 64 senders
 */
function sender(memory: RingMemory, options?: SideOptions): RingSender {
  const fd = descriptorOf(memory, options);
  return new RingSender(ofKind(readHeader(memory, 'Ring.sender'), 'many', 'Ring.sender'), fd);
}

/**
 * Enters a ring of either kind as its consumer. It begins with the oldest message that was not released.
 *
 * @throws as {@link producer}
 */
function consumer(memory: RingMemory, options?: SideOptions): RingConsumer {
  const fd = descriptorOf(memory, options);
  const layout = readHeader(memory, 'Ring.consumer');
  return layout.kind === 'single' ? new SingleConsumer(layout, fd) : new SlotConsumer(layout, fd);
}

function descriptorOf(memory: RingMemory, options: SideOptions | undefined): number | undefined {
  const { fd } = checkOptions(options, ['fd']);
  if (fd !== undefined) {
    return checkDescriptor(fd);
  }
  return memory instanceof FileMemory ? memory.fd : undefined;
}

function ofKind(layout: Layout, kind: RingKind, operation: string): Layout {
  if (layout.kind !== kind) {
    const hint =
      kind === 'single'
        ? 'the ring is of many: Ring.sender enters it'
        : 'the ring is of one: Ring.producer enters it';
    throw systemError(errno.EPROTO, operation, { hint });
  }
  return layout;
}

/** Queues of messages between processes. */
export const Ring = { create, producer, sender, consumer } as const;
