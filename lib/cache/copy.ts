/**
 * Copies, fills and comparisons of memory whatever its type is.
 *
 * @module
 */
import { binding } from '../binding.js';
import { checkInteger, checkOneOf, checkOptionalInteger, checkOptions, checkRange } from '../check.js';
import { invalidState, outOfRange } from '../errors.js';
import { setIsBestBelow } from '../mapping.js';
import { bytesOf, type CopyMemory, kindOf, type Memory, toldKindOf } from './memory.js';

/** What of a buffer to fill. */
export interface FillOptions {
  /** First byte in the buffer. @defaultValue 0 */
  offset?: number;
  /** Bytes. @defaultValue all that follow */
  length?: number;
  /** What the buffer is, where iospace cannot know it. @defaultValue what it is known as; else `'cached'` */
  memory?: CopyMemory;
  /** The kernels to use, one of `capabilities().copies`: for measuring. @defaultValue the best */
  kernels?: string;
}

/** What of a buffer to compare. */
export interface CompareOptions extends FillOptions {
  /** First byte of the other. @defaultValue 0 */
  otherOffset?: number;
}

/** What of a buffer to copy where. */
export interface CopyFromOptions extends FillOptions {
  /** First byte of the target. @defaultValue 0 */
  targetOffset?: number;
}

/** What of a source to copy where. */
export interface CopyToOptions extends FillOptions {
  /** First byte of the source. @defaultValue 0 */
  sourceOffset?: number;
}

/**
 * Copies out of a buffer, in the best way that this processor has for what the buffer is: memory that no cache holds
 * (write-combined, uncached) is read by whole lines, each once and in order, through the cache if the target is such memory
 * too; that of a device by aligned accesses of at most a word; cached memory as `TypedArray.prototype.set()` does, or past
 * the caches if it is much.
 *
 * Ranges may overlap: it is as if the bytes were copied elsewhere first. Windows of different types over the same memory are
 * not seen to overlap.
 *
 * The lines of write-combined and uncached memory are read whole, also where the range begins or ends within one: for what
 * must not be read, as registers, say `memory: 'device'`.
 *
 * @param buffer - the memory that is read
 * @param target - what is written, all of it unless `length` says less
 * @param options - without `length` as many bytes as the target has from `targetOffset` on
 * @throws ERR_OUT_OF_RANGE if a range does not lie inside; ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE;
 *   ERR_INVALID_STATE if either was detached or freed
 * @example
 * const frame = new Uint8Array(1 << 20);
 * copyFrom(buffer, frame, { offset: 4096 });
 */
export function copyFrom(buffer: Memory, target: Memory, options?: CopyFromOptions): void {
  if (options === undefined && copyBySet(target, buffer)) {
    return;
  }
  const known = checkOptions(options, ['offset', 'length', 'memory', 'kernels', 'targetOffset']);
  const source = bytesOf('buffer', buffer);
  const bytes = bytesOf('target', target);
  const start = checkOptionalInteger('targetOffset', known.targetOffset, 0, bytes.byteLength, 0);
  const { offset, length } = rangeOf(source, known, bytes.byteLength - start, 'target');
  const done = binding().copyBytes(
    bytes,
    start,
    kindOf(bytes),
    source,
    offset,
    toldKindOf(source, known.memory),
    length,
    kernelsOf(known.kernels),
  );
  checkDone(done);
}

/**
 * Copies into a buffer, in the best way that this processor has for what the buffer is: as {@link copyFrom}, but memory that no
 * cache holds is written by aligned stores, whole lines at a time, and when it returns they are on their way before what the
 * program writes next.
 *
 * @param source - what is read, all of it unless `length` says less
 * @param buffer - the memory that is written
 * @param options - without `length` as many bytes as the source has from `sourceOffset` on
 * @throws as {@link copyFrom}
 * @example
 * copyTo(samples, buffer, { offset: 4096 });
 */
export function copyTo(source: Memory, buffer: Memory, options?: CopyToOptions): void {
  if (options === undefined && copyBySet(buffer, source)) {
    return;
  }
  const known = checkOptions(options, ['offset', 'length', 'memory', 'kernels', 'sourceOffset']);
  const bytes = bytesOf('source', source);
  const target = bytesOf('buffer', buffer);
  const start = checkOptionalInteger('sourceOffset', known.sourceOffset, 0, bytes.byteLength, 0);
  const { offset, length } = rangeOf(target, known, bytes.byteLength - start, 'source');
  const done = binding().copyBytes(
    target,
    offset,
    toldKindOf(target, known.memory),
    bytes,
    start,
    kindOf(bytes),
    length,
    kernelsOf(known.kernels),
  );
  checkDone(done);
}

/**
 * Fills a buffer with one byte, by aligned stores where it is not cached memory.
 *
 * @param value - 0 to 255
 * @throws as {@link copyFrom}
 */
export function fill(buffer: Memory, value: number, options?: FillOptions): void {
  const known = checkOptions(options, ['offset', 'length', 'memory', 'kernels']);
  const target = bytesOf('buffer', buffer);
  checkInteger('value', value, 0, 0xff);
  const { offset = 0 } = known;
  const length = checkRange(offset, known.length, target.byteLength);
  const kind = toldKindOf(target, known.memory);
  checkDone(binding().fillBytes(target, offset, kind, value, length, kernelsOf(known.kernels)));
}

/**
 * Compares a buffer with other memory, each read as {@link copyFrom} reads it.
 *
 * @param other - what it is to be, all of it unless `length` says less
 * @param options - without `length` as many bytes as the other has from `otherOffset` on
 * @returns the first byte that differs, counted from the start of both ranges; -1 if there is none
 * @throws as {@link copyFrom}
 * @example
 * if (compare(buffer, expected) !== -1) throw new Error('the transfer went wrong');
 */
export function compare(buffer: Memory, other: Memory, options?: CompareOptions): number {
  const known = checkOptions(options, ['offset', 'length', 'memory', 'kernels', 'otherOffset']);
  const left = bytesOf('buffer', buffer);
  const right = bytesOf('other', other);
  const start = checkOptionalInteger('otherOffset', known.otherOffset, 0, right.byteLength, 0);
  const { offset, length } = rangeOf(left, known, right.byteLength - start, 'other');
  const found = binding().compareBytes(
    left,
    offset,
    toldKindOf(left, known.memory),
    right,
    start,
    kindOf(right),
    length,
    kernelsOf(known.kernels),
  );
  checkDone(found);
  return Number(found);
}

/**
 * Makes the usual copy, for which nothing is better than `set()`; false, with nothing done, for all others. A copy of 64 bytes
 * takes as long as twenty of these comparisons: there are as few as can be.
 */
function copyBySet(target: Memory, source: Memory): boolean {
  if (!(target instanceof Uint8Array && source instanceof Uint8Array)) {
    return false;
  }
  const { length } = source;
  // None at all, as an array has that was detached, is not usual.
  if (length !== target.length || (length - 1) >>> 0 >= setIsBestBelow) {
    return false;
  }
  target.set(source);
  return true;
}

/** Native code looks at memory and ranges again, and does nothing where options that are getters have changed them. */
function checkDone(done: number | false | undefined): void {
  if (done === false) {
    throw invalidState('the memory has changed since its range was checked');
  }
}

/**
 * The range of a buffer.
 *
 * @param available - bytes of the other memory, which are what is copied unless `length` says less
 * @param name - of the other memory
 */
function rangeOf(
  buffer: Uint8Array,
  options: FillOptions,
  available: number,
  name: string,
): { offset: number; length: number } {
  const { offset = 0, length = available } = options;
  checkInteger('offset', offset, 0, buffer.byteLength);
  checkInteger('length', length, 0, available);
  const rest = buffer.byteLength - offset;
  if (length > rest) {
    throw outOfRange(
      options.length === undefined ? `the length of ${name}` : 'length',
      `at most the ${rest} bytes that the buffer has from ${offset} on`,
      length,
    );
  }
  return { offset, length };
}

/** The number of the kernels of this name; of the best without one. */
function kernelsOf(name: string | undefined): number {
  if (name === undefined) {
    return 0;
  }
  const { copies } = binding().cacheInstructions();
  return copies.indexOf(checkOneOf('kernels', name, copies));
}
