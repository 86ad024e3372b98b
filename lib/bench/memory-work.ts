/**
 * How the operations on memory are done, each on one buffer of one type and size.
 *
 * A loop of JavaScript goes over a buffer in steps, so that a slow memory type does not make a run of 64 MiB take minutes; what
 * is a call of native code has all of it at once, for it chooses by the size what it does.
 *
 * @module
 */
import { clean, copyFrom, copyTo, fill, flush, invalidate } from '../cache/index.js';
import type { DmaBuffer } from '../device/buffer.js';
import type { DmaDevice } from '../device/device.js';
import type { MemoryType } from '../device/memory.js';
import { prepared, repeated, type Work } from './measure.js';

/** Bytes of a step of a loop. */
const STEP = 64 * 1024;
/** What caches and buses move; a power of two that is a whole number of lines on every processor. */
const LINE = 64;
const PAGE = 4096;

/** The memory that operations are done on: one type, one size. What is not used is not made. */
export class Subject {
  readonly device: DmaDevice;
  readonly memory: MemoryType;
  readonly size: number;
  #buffer: DmaBuffer | undefined;
  #local: Uint8Array | undefined;

  constructor(device: DmaDevice, memory: MemoryType, size: number) {
    this.device = device;
    this.memory = memory;
    this.size = size;
  }

  /** The buffer, every page of it there. */
  get buffer(): DmaBuffer {
    if (this.#buffer === undefined) {
      this.#buffer = this.device.alloc(this.size, { memory: this.memory });
      this.#buffer.bytes.fill(1);
    }
    return this.#buffer;
  }

  get bytes(): Uint8Array {
    return this.buffer.bytes;
  }

  /** As much ordinary memory, every page of it there. */
  get local(): Uint8Array {
    this.#local ??= new Uint8Array(this.size).fill(2);
    return this.#local;
  }

  [Symbol.dispose](): void {
    this.#buffer?.free();
    this.#local = undefined;
  }
}

/** Where loops leave what they have read, so that no compiler leaves the reading out. */
const seen = new Uint32Array(1);

function readWords(words: Uint32Array, begin: number, end: number): void {
  let all = 0;
  for (let index = begin; index < end; index++) {
    all ^= words[index] as number;
  }
  seen[0] = all;
}

function sumBytes(bytes: Uint8Array, begin: number, end: number): void {
  let sum = 0;
  for (let index = begin; index < end; index++) {
    sum = (sum + (bytes[index] as number)) | 0;
  }
  seen[0] = sum;
}

function writeWords(words: Uint32Array, begin: number, end: number): void {
  for (let index = begin; index < end; index++) {
    words[index] = index;
  }
}

/** A loop over elements, a step of it at each run, from the start again where it comes to the end. */
function stepping<View extends Uint8Array | Uint32Array>(
  view: View,
  loop: (view: View, begin: number, end: number) => void,
): Work {
  const step = Math.min(STEP / view.BYTES_PER_ELEMENT, view.length);
  let begin = 0;
  return repeated(() => {
    loop(view, begin, begin + step);
    begin = begin + step < view.length ? begin + step : 0;
  }, view.length / step);
}

const words = ({ buffer }: Subject): Uint32Array => buffer.view(Uint32Array);

/** Bytes that stay in the first cache beside all else. */
const BLOCK = 16 * 1024;

/** Native copies block by block, always to or from the same block of ordinary memory. */
function inBlocks(size: number, copy: (ordinary: Uint8Array, offset: number) => void): Work {
  const ordinary = new Uint8Array(Math.min(BLOCK, size)).fill(4);
  let offset = 0;
  return repeated(() => {
    copy(ordinary, offset);
    offset = offset + ordinary.length < size ? offset + ordinary.length : 0;
  }, size / ordinary.length);
}

/** One number from 0 to below `limit`, always the same ones in a run: xorshift. */
function randomNumbers(): (limit: number) => number {
  let state = 2463534242;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

/** Makes of the lines one ring in random order (Sattolo): each says at its start where the next one is, in units of 8 bytes. */
function linkLines(places: Float64Array): void {
  const perLine = LINE / Float64Array.BYTES_PER_ELEMENT;
  const lines = Float64Array.from({ length: places.length / perLine }, (_, index) => index * perLine);
  const random = randomNumbers();
  for (let index = lines.length - 1; index > 0; index--) {
    const other = random(index);
    const line = lines[index] as number;
    lines[index] = lines[other] as number;
    lines[other] = line;
  }
  for (let index = 0; index < lines.length; index++) {
    places[index * perLine] = lines[index] as number;
  }
}

/** Reads in a run; enough that calling it does not count. */
const CHAIN = 1000;

function follow(places: Float64Array, begin: number): number {
  let place = begin;
  for (let count = 0; count < CHAIN; count++) {
    place = places[place] as number;
  }
  return place;
}

/** Steps of a loop after which it is surely compiled for good. */
const WARM_STEPS = 20;

/**
 * Has the loops compiled for several arrays: code that has seen one array only is faster with that one than with those that
 * come later, and the first case would look better than it is. The compiler works in another thread, and is done a little
 * later.
 */
export function warmLoops(): void {
  for (let array = 0; array < 4; array++) {
    const memory = new ArrayBuffer(STEP);
    const allWords = new Uint32Array(memory);
    stepping(allWords, writeWords).sample(WARM_STEPS);
    stepping(allWords, readWords).sample(WARM_STEPS);
    stepping(new Uint8Array(memory), sumBytes).sample(WARM_STEPS);
    randomReadOf(new Float64Array(memory)).sample(WARM_STEPS);
  }
}

function randomReadOf(places: Float64Array): Work {
  linkLines(places);
  let place = 0;
  return repeated(() => {
    place = follow(places, place);
  }, 1 / CHAIN);
}

/** Work on bytes whose lines are all in the cache, and dirty. */
function ofDirty(bytes: Uint8Array, run: () => void): Work {
  return prepared(() => writeLines(bytes), run);
}

/** Work on bytes whose lines are all in the cache, and clean. */
function ofFetched(bytes: Uint8Array, run: () => void): Work {
  return prepared(() => readLines(bytes), run);
}

function writeLines(bytes: Uint8Array): void {
  for (let index = 0; index < bytes.length; index += LINE) {
    bytes[index] = (bytes[index] as number) + 1;
  }
}

function readLines(bytes: Uint8Array): void {
  let all = 0;
  for (let index = 0; index < bytes.length; index += LINE) {
    all ^= bytes[index] as number;
  }
  seen[0] = all;
}

function allocate({ device, size, memory }: Subject): DmaBuffer {
  const buffer = device.alloc(size, { memory });
  const { bytes } = buffer;
  for (let index = 0; index < size; index += PAGE) {
    bytes[index] = 1;
  }
  return buffer;
}

/** How each is done. */
export const memoryWorks = {
  'js-read': (subject: Subject) => stepping(words(subject), readWords),
  'js-sum': (subject: Subject) => stepping(subject.bytes, sumBytes),
  'js-copy-out': ({ bytes, local }: Subject) => repeated(() => local.set(bytes)),
  'native-read': ({ bytes, size }: Subject) =>
    inBlocks(size, (ordinary, offset) => copyFrom(bytes, ordinary, { offset })),
  'copy-out': ({ bytes, local }: Subject) => repeated(() => copyFrom(bytes, local)),
  'js-write': (subject: Subject) => stepping(words(subject), writeWords),
  'js-copy-in': ({ bytes, local }: Subject) => repeated(() => bytes.set(local)),
  'js-fill': ({ bytes }: Subject) => repeated(() => bytes.fill(3)),
  'native-write': ({ bytes, size }: Subject) =>
    inBlocks(size, (ordinary, offset) => copyTo(ordinary, bytes, { offset })),
  'copy-in': ({ bytes, local }: Subject) => repeated(() => copyTo(local, bytes)),
  fill: ({ bytes }: Subject) => repeated(() => fill(bytes, 3)),
  'random-read': ({ buffer }: Subject) => randomReadOf(buffer.view(Float64Array)),
  'sync-for-device': ({ buffer, bytes }: Subject) => ofDirty(bytes, () => buffer.syncForDevice()),
  'sync-for-cpu': ({ buffer, bytes }: Subject) => ofFetched(bytes, () => buffer.syncForCpu()),
  clean: ({ bytes }: Subject) => ofDirty(bytes, () => clean(bytes)),
  flush: ({ bytes }: Subject) => ofDirty(bytes, () => flush(bytes)),
  invalidate: ({ bytes }: Subject) => ofFetched(bytes, () => invalidate(bytes)),
  alloc: (subject: Subject) =>
    prepared(
      () => ({ buffer: undefined as DmaBuffer | undefined }),
      (made) => {
        made.buffer = allocate(subject);
      },
      ({ buffer }) => buffer?.free(),
    ),
  free: (subject: Subject) =>
    prepared(
      () => allocate(subject),
      (buffer) => buffer.free(),
    ),
  // Memory that nothing has aligned to cache lines can be mapped in this direction only, where the device does not snoop.
  map: ({ device, local }: Subject) => repeated(() => device.mapUser(local, 'toDevice').unmap()),
} as const satisfies Readonly<Record<string, (subject: Subject) => Work>>;
