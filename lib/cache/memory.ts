/**
 * What cache operations and copies work on: the bytes of whatever shows memory, and what that memory is.
 *
 * @module
 */
import { types } from 'node:util';
import { binding } from '../binding.js';
import { checkOneOf } from '../check.js';
import { invalidState, wrongType } from '../errors.js';
import { mappingOf } from '../mapping.js';

/**
 * Memory: a typed array, Buffer, DataView, ArrayBuffer or SharedArrayBuffer, or what shows its own as `bytes`, as a
 * DmaBuffer, DmaSlice, DmaBlock, IospaceMapping or the shared memory of `iospace/shm` do. It need not be mapped by
 * iospace.
 */
export type Memory = ArrayBufferView | ArrayBufferLike | { readonly bytes: Uint8Array };

/**
 * What memory is to the processor. iospace knows it of what it has mapped itself by its type; of other memory, as that of
 * `iospace/raw` or of another driver, it takes it to be cached unless it is told.
 */
export type CopyMemory = 'cached' | 'writecombine' | 'uncached' | 'writethrough' | 'device';

/** Their numbers in native code: `Kind` of native/copy.h. */
const kinds: Readonly<Record<CopyMemory, number>> = {
  cached: 0,
  writethrough: 0,
  writecombine: 1,
  uncached: 1,
  device: 2,
};

const copyMemories = Object.keys(kinds) as readonly CopyMemory[];

/** The bytes of some memory. Throws where it has none any more. */
export function bytesOf(name: string, memory: unknown): Uint8Array {
  if (ArrayBuffer.isView(memory)) {
    const { buffer } = memory;
    // First, because a DataView whose buffer is detached throws when it is asked.
    checkAttached(name, buffer);
    return types.isUint8Array(memory) ? memory : bytesOfView(name, memory);
  }
  // Not by `instanceof`, which knows only the classes of this context.
  if (types.isAnyArrayBuffer(memory)) {
    checkAttached(name, memory);
    return new Uint8Array(memory);
  }
  const bytes = typeof memory === 'object' && memory !== null && 'bytes' in memory ? memory.bytes : undefined;
  if (!types.isUint8Array(bytes)) {
    throw wrongType(name, 'a typed array, DataView, ArrayBuffer, or what has its memory as bytes', memory);
  }
  checkAttached(name, bytes.buffer);
  return bytes;
}

function bytesOfView(name: string, view: ArrayBufferView): Uint8Array {
  try {
    return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  } catch {
    // What a DataView alone does where its buffer was resized.
    throw invalidState(`the ArrayBuffer of ${name} has become too short for it`);
  }
}

function checkAttached(name: string, buffer: ArrayBufferLike): void {
  if (buffer.byteLength === 0 && binding().isDetached(buffer)) {
    throw invalidState(`the ArrayBuffer of ${name} was detached`);
  }
}

/** The number of what bytes are to the processor. */
export function kindOf(bytes: Uint8Array): number {
  return kinds[mappingOf(bytes.buffer)?.memory ?? 'cached'];
}

/** The same where the caller may know better. */
export function toldKindOf(bytes: Uint8Array, told: unknown): number {
  return told === undefined ? kindOf(bytes) : kinds[checkOneOf('memory', told, copyMemories)];
}
