/**
 * One range of memory that is mapped into the process, as JavaScript sees it: its ArrayBuffer, and its end.
 *
 * @module
 */
import { constants as limits } from 'node:buffer';
import { inspect } from 'node:util';
import type { NativeBinding, NativeMapping } from './binding.js';
import { invalidState, notSupported } from './errors.js';
import { MappedBytes } from './mapped-bytes.js';

/** Most bytes of one mapping: what an ArrayBuffer can have; 4 GiB on Node 20. */
export const MAX_BYTE_LENGTH: number = limits.MAX_LENGTH;

/** The same number on every architecture that iospace supports. */
const SHM_RDONLY = 0o10000;

/** Present from Node 22. */
const { transfer } = ArrayBuffer.prototype as { transfer?: (newByteLength: number) => ArrayBuffer };

/** Whoever holds the memory of a mapping keeps its owner, so that closing a device still finds all of its buffers. */
const owners = new WeakMap<ArrayBufferLike, Mapping>();

/** The mapping that an ArrayBuffer or a SharedArrayBuffer of this thread is the memory of, if it is one's. */
export function mappingOf(buffer: ArrayBufferLike): Mapping | undefined {
  return owners.get(buffer);
}

/** What a mapping's memory is to the processor, as far as copies differ: in its caches, or in none. */
export type MappingMemory = 'cached' | 'uncached';

/** From here on a native copy has ways that `set()` has not: `kBulk` of native/copy.h. */
const BULK = 2 ** 20;

/**
 * Below so many bytes nothing copies better than `TypedArray.prototype.set()`, whatever memory they are in: 0 once this
 * environment has had a mapping that no cache holds.
 */
export let setIsBestBelow: number = BULK;

/**
 * Maps `byteLength` bytes of a file, shared. The descriptor may be closed afterwards.
 *
 * @param memory - what it is to the processor
 */
export function mapShared(
  native: NativeBinding,
  fd: number,
  byteLength: number,
  offset: bigint,
  access: 'read' | 'write',
  memory: MappingMemory = 'cached',
): Mapping {
  const { PROT_READ = 0, PROT_WRITE = 0, MAP_SHARED = 0 } = native.constants;
  const protection = access === 'write' ? PROT_READ | PROT_WRITE : PROT_READ;
  return new Mapping(native.mmap(fd, byteLength, protection, MAP_SHARED, offset), memory);
}

/** Attaches a segment of System V, whole. */
export function attachSegment(native: NativeBinding, id: number, access: 'read' | 'write'): Mapping {
  return new Mapping(native.shmat(id, access === 'write' ? 0 : SHM_RDONLY));
}

/**
 * A mapping. The memory appears in the process when it is made and is gone when {@link Mapping.release} returns.
 */
export class Mapping extends MappedBytes {
  readonly #native: NativeMapping;
  #buffer: ArrayBuffer | undefined;
  #sharedBuffer: SharedArrayBuffer | undefined;
  /** As the native mapping has it, which costs more to be asked than a system call. */
  #released = false;
  #ended: Set<() => void> | undefined;

  /**
   * What it is to the processor, as far as iospace knows.
   *
   * @internal
   */
  readonly memory: MappingMemory;

  /** @internal */
  constructor(native: NativeMapping, memory: MappingMemory = 'cached') {
    super(0, native.byteLength);
    this.#native = native;
    this.memory = memory;
    if (memory !== 'cached') {
      setIsBestBelow = 0;
    }
  }

  /** Where it lies in this process. Means nothing to a device. */
  get address(): bigint {
    return this.#native.address;
  }

  get released(): boolean {
    return this.#released;
  }

  /**
   * Called when the memory has been taken from whoever has views of it.
   *
   * @internal
   */
  get ended(): Set<() => void> {
    this.#ended ??= new Set();
    return this.#ended;
  }

  /**
   * The system's own calls on it, while it lasts.
   *
   * @internal
   */
  get native(): NativeMapping {
    if (this.#released) {
      throw invalidState('the memory was given back');
    }
    return this.#native;
  }

  /**
   * The one ArrayBuffer over the mapping, until {@link Mapping.takeBack}; made at the first use, which costs about a
   * microsecond.
   *
   * @throws ERR_INVALID_STATE after {@link Mapping.release}
   */
  override get buffer(): ArrayBuffer {
    const native = this.native;
    if (this.#buffer === undefined) {
      this.#buffer = native.buffer();
      owners.set(this.#buffer, this);
    }
    return this.#buffer;
  }

  /**
   * The one SharedArrayBuffer over the mapping, made at the first use. {@link Mapping.release} and {@link Mapping.takeBack}
   * cannot take it from anyone.
   *
   * @throws ERR_INVALID_STATE after {@link Mapping.release}; EOPNOTSUPP where this Node has none
   */
  get sharedBuffer(): SharedArrayBuffer {
    const native = this.native;
    if (this.#sharedBuffer === undefined) {
      const made = native.sharedBuffer();
      if (made === undefined) {
        throw notSupported(
          'sharedBuffer',
          `Node ${process.versions.node} cannot make a SharedArrayBuffer of mapped memory; 22.23, 24.21 and 26 can`,
        );
      }
      owners.set(made, this);
      this.#sharedBuffer = made;
    }
    return this.#sharedBuffer;
  }

  /**
   * Takes the memory from whoever has views of it, which have length 0 afterwards, and keeps it: the next use of `buffer`
   * makes another ArrayBuffer over it.
   *
   * @throws ERR_INVALID_STATE, changing nothing, where its ArrayBuffer cannot be detached: it was marked untransferable,
   *   or carried off by `transfer()`
   */
  takeBack(): void {
    const { native } = this;
    if (this.#buffer === undefined) {
      return;
    }
    if (transfer !== undefined && !detach(this.#buffer, transfer)) {
      throw invalidState(
        'the ArrayBuffer was transferred, or marked untransferable: it cannot be taken back',
      );
    }
    native.renew(transfer === undefined);
    this.#buffer = undefined;
    this.#tellEnd();
  }

  /** Leaves the ArrayBuffer to whoever carried it off: the next use of `buffer` makes another one over the same memory. */
  rewrap(): void {
    this.native.renew(false);
    this.#buffer = undefined;
  }

  /**
   * Gives the memory back now. Every view of it has length 0 afterwards; what was carried off by
   * `ArrayBuffer.prototype.transfer()`, has a SharedArrayBuffer, or is being read into, reads as zeros and belongs to nobody.
   * A second call does nothing.
   */
  release(): void {
    if (transfer === undefined || this.#buffer === undefined) {
      this.#native.release(true);
    } else {
      this.#native.release(false);
      detach(this.#buffer, transfer);
    }
    this.#released = true;
    this.#buffer = undefined;
    this.#sharedBuffer = undefined;
    this.#tellEnd();
  }

  #tellEnd(): void {
    for (const tell of this.#ended ?? []) {
      tell();
    }
  }

  [Symbol.dispose](): void {
    this.release();
  }

  [inspect.custom](): string {
    return `Mapping { byteLength: ${this.byteLength}, address: 0x${this.address.toString(16)}, released: ${this.released} }`;
  }
}

/**
 * Detaches a buffer. Not natively: that aborts Node 24 and 26 where the user has marked it untransferable, and
 * `isMarkedAsUntransferable` does not tell, for it says so of every mapping.
 *
 * @returns false if it was marked, or carried off: it stays as it is, which is harmless where its memory is zeros by now
 */
function detach(buffer: ArrayBuffer, transfer: (newByteLength: number) => ArrayBuffer): boolean {
  try {
    transfer.call(buffer, 0);
    return true;
  } catch {
    return false;
  }
}
