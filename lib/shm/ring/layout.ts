/**
 * The memory of a ring: a header that says what the ring is, and the messages behind it.
 *
 * Shared words are 32 bits wide, in the machine's byte order, and both sides reach them through `Atomics` only. What no
 * index has published yet is not looked at: it may hold anything. Words of the header that have no name are 0.
 *
 * @module
 */
import { checkInteger } from '../../check.js';
import { errno, invalidState, outOfRange, systemError, wrongType } from '../../errors.js';

/** Where a ring can be: mapped memory, a part of it, or a buffer. The same bytes on both sides. */
export type RingMemory =
  | ArrayBuffer
  | SharedArrayBuffer
  | { readonly buffer: ArrayBufferLike; readonly byteOffset: number; readonly byteLength: number };

/** `single`: one producer, messages of any length. `many`: up to 64 senders, slots of one length. */
export type RingKind = 'single' | 'many';

/**
 * Places of words. What one side writes often has 128 bytes of its own: processors fetch cache lines in pairs, and a line
 * that two write goes back and forth.
 */
export const MAGIC = 0;
export const VERSION = 1;
export const KIND = 2;
export const CAPACITY = 3;
export const SLOT = 4;
export const CHECK = 5;
/** Bytes that the producer has published, or slots that senders have claimed; counted from the start, modulo 2^32. */
export const TAIL = 32;
/** Bytes or slots that the consumer has given back; counted alike. */
export const HEAD = 64;
/** For the consumer's sleep, and for that of senders: see `wait.ts`. */
export const CONSUMER_SLEEPS = 240;
export const SENDERS_SLEEP = 244;
/** Of each side its state and process: first the consumer's, then the senders'. */
const SIDES = 96;

/** Most senders of a ring of many. */
export const MOST_SENDERS = 64;

/** Before the messages. */
export const HEADER_BYTES = 1024;
export const HEADER_WORDS = HEADER_BYTES / 4;

/** Before each message: two words. */
export const RECORD_BYTES = 8;

/** Messages begin at multiples of this. */
export const ALIGNMENT = 8;

/** So that the difference of two indices has one meaning. */
const MOST_CAPACITY = 2 ** 30;
const LEAST_CAPACITY = 64;

/** "ioRG" on a little-endian machine; memory of the other byte order is foreign. */
const OURS = 0x4752_6f69;
/** Stands in the place of the above while the ring is being made. */
const UNFINISHED = 0x2e52_6f69;
const CURRENT_VERSION = 1;
const kinds: readonly RingKind[] = ['single', 'many'];

/** The state of a side: the word of {@link stateOf}. */
export const state = {
  /** Nobody has been there. */
  none: 0,
  /** Somebody is, and holds no lock: if it dies, nobody notices. */
  open: 1,
  /** Somebody is who holds the lock of its byte; without the lock it is dead. */
  locked: 2,
  closed: 3,
} as const;

/** What the header says, checked once when a side attaches, and a view of each kind. */
export interface Layout {
  readonly kind: RingKind;
  /** Bytes for messages: a power of two. */
  readonly capacity: number;
  /** Bytes of a slot; 0 in a ring of one producer. */
  readonly slot: number;
  /** Of the header and the messages. */
  readonly words: Int32Array;
  /** Of the messages alone. */
  readonly bytes: Uint8Array;
  /** The first byte, counted from the start of the buffer. */
  readonly byteOffset: number;
}

/** The consumer is 0, senders begin at 1. */
export function stateOf(side: number): number {
  return SIDES + 2 * side;
}

/** The number of its process, for display. */
export function processOf(side: number): number {
  return SIDES + 2 * side + 1;
}

interface Span {
  readonly buffer: ArrayBufferLike;
  readonly byteOffset: number;
  readonly byteLength: number;
}

function spanOf(memory: RingMemory): Span {
  if (memory instanceof ArrayBuffer || memory instanceof SharedArrayBuffer) {
    return { buffer: memory, byteOffset: 0, byteLength: memory.byteLength };
  }
  const { buffer, byteOffset, byteLength } = (memory ?? {}) as Partial<Span>;
  if (!(buffer instanceof ArrayBuffer || buffer instanceof SharedArrayBuffer)) {
    throw wrongType('memory', 'mapped memory, a typed array or a buffer', memory);
  }
  checkInteger('memory.byteOffset', byteOffset, 0, buffer.byteLength);
  checkInteger('memory.byteLength', byteLength, 0, buffer.byteLength - (byteOffset as number));
  return { buffer, byteOffset: byteOffset as number, byteLength: byteLength as number };
}

/** The span, if a header fits in, and messages can be aligned. */
function roomOf(memory: RingMemory): Span {
  const span = spanOf(memory);
  if (span.byteOffset % 64 !== 0) {
    throw outOfRange('memory.byteOffset', 'a multiple of 64', span.byteOffset);
  }
  if (span.byteLength < HEADER_BYTES + LEAST_CAPACITY) {
    throw outOfRange('memory.byteLength', `at least ${HEADER_BYTES + LEAST_CAPACITY} bytes`, span.byteLength);
  }
  return span;
}

function viewsOf({ buffer, byteOffset }: Span, kind: RingKind, capacity: number, slot: number): Layout {
  return {
    kind,
    capacity,
    slot,
    words: new Int32Array(buffer, byteOffset, (HEADER_BYTES + capacity) / 4),
    bytes: new Uint8Array(buffer, byteOffset + HEADER_BYTES, capacity),
    byteOffset,
  };
}

/** Of the words that never change: FNV-1a. */
function checksum(words: Int32Array): number {
  let hash = 0x811c_9dc5 | 0;
  for (let index = VERSION; index < CHECK; index++) {
    hash = Math.imul(hash ^ Atomics.load(words, index), 0x0100_0193);
  }
  return hash;
}

/** The largest power of two that there is room for. */
function mostCapacity(byteLength: number): number {
  return Math.min(2 ** Math.floor(Math.log2(byteLength - HEADER_BYTES)), MOST_CAPACITY);
}

/**
 * Makes an empty ring of all the memory that it can use.
 *
 * @param message - of a ring of many: bytes of the longest message
 * @param replace - whatever was there
 */
export function format(memory: RingMemory, kind: RingKind, message: number, replace: boolean): void {
  const span = roomOf(memory);
  const capacity = mostCapacity(span.byteLength);
  const slot = kind === 'many' ? Math.max(64, 2 ** Math.ceil(Math.log2(message + RECORD_BYTES))) : 0;
  if (2 * slot > capacity) {
    throw outOfRange(
      'maxLength',
      `at most ${capacity / 2 - RECORD_BYTES}: two messages have to fit`,
      message,
    );
  }
  const { words } = viewsOf(span, kind, capacity, slot);
  if (replace) {
    Atomics.store(words, MAGIC, UNFINISHED);
  } else if (Atomics.compareExchange(words, MAGIC, 0, UNFINISHED) !== 0) {
    throw systemError(errno.EEXIST, 'Ring.create', {
      hint: 'there is a ring, or something else; replace: true takes the memory anyway',
    });
  }
  for (let index = MAGIC + 1; index < HEADER_WORDS; index++) {
    Atomics.store(words, index, 0);
  }
  for (let index = HEADER_WORDS; slot !== 0 && index < words.length; index += slot / 4) {
    Atomics.store(words, index, 0);
  }
  Atomics.store(words, VERSION, CURRENT_VERSION);
  Atomics.store(words, KIND, kinds.indexOf(kind));
  Atomics.store(words, CAPACITY, capacity);
  Atomics.store(words, SLOT, slot);
  Atomics.store(words, CHECK, checksum(words));
  Atomics.store(words, MAGIC, OURS);
}

/**
 * Reads the header, and believes none of it.
 *
 * @param operation - what the errors say
 */
export function readHeader(memory: RingMemory, operation: string): Layout {
  const span = roomOf(memory);
  const header = new Int32Array(span.buffer, span.byteOffset, HEADER_WORDS);
  const magic = Atomics.load(header, MAGIC);
  if (magic !== OURS) {
    const hint =
      magic === 0 || magic === UNFINISHED
        ? 'there is no ring yet; its maker may not be done'
        : 'this is no ring';
    throw systemError(errno.EINVAL, operation, { hint });
  }
  // Each word once: they may change under our hands.
  const version = Atomics.load(header, VERSION);
  const kind = kinds[Atomics.load(header, KIND)];
  const capacity = Atomics.load(header, CAPACITY);
  const slot = Atomics.load(header, SLOT);
  if (version !== CURRENT_VERSION) {
    const hint = `the ring is of version ${version}, this library of ${CURRENT_VERSION}`;
    throw systemError(errno.EPROTO, operation, { hint });
  }
  if (Atomics.load(header, CHECK) !== checksum(header) || kind === undefined) {
    throw damaged(operation, 'its header is not what was written');
  }
  if (!isPowerOfTwo(capacity, LEAST_CAPACITY) || capacity > mostCapacity(span.byteLength)) {
    throw damaged(operation, `${capacity} bytes of messages do not fit into ${span.byteLength} bytes`);
  }
  if (kind === 'many' ? !isPowerOfTwo(slot, 64) || 2 * slot > capacity : slot !== 0) {
    throw damaged(operation, `it has slots of ${slot} bytes`);
  }
  return viewsOf(span, kind, capacity, slot);
}

/** Whether memory that begins like this has a ring, sound or not. */
export function isRing(head: Uint8Array): boolean {
  return head.byteLength >= 4 && new Int32Array(head.slice(0, 4).buffer)[MAGIC] === OURS;
}

function isPowerOfTwo(value: number, least: number): boolean {
  return value >= least && (value & (value - 1)) === 0;
}

/** What is not as it can only be if somebody wrote what a ring never writes. */
export function damaged(operation: string, hint: string): Error {
  return systemError(errno.EBADMSG, operation, { hint: `the ring is damaged: ${hint}` });
}

/** The use of a side that was closed, or whose memory was. */
export function gone(): Error {
  return invalidState('this side of the ring, or its memory, is closed');
}

/** What a word says. */
export function load(words: Int32Array, index: number): number {
  if (words.length === 0) {
    throw gone();
  }
  return Atomics.load(words, index);
}
