/**
 * Arenas over a buffer of a device, for this thread alone.
 *
 * @module
 */
import { binding, type NativeArena } from '../binding.js';
import type { DmaBuffer } from '../device/buffer.js';
import type { MemoryType } from '../device/memory.js';
import { errno, notSupported, outOfRange, systemError } from '../errors.js';
import { type Backing, makeArena } from './backing.js';
import type { Part } from './views.js';

/** Who gives out the memory of a buffer, as long as that is neither closed nor forgotten. */
const arenas = new WeakMap<DmaBuffer, WeakRef<NativeArena>>();

export class BufferBacking implements Backing {
  readonly kind = 'buffer';
  readonly name: string;
  readonly native: NativeArena;
  readonly memory: MemoryType;
  readonly memoryTypes: readonly MemoryType[];
  readonly page: number;
  readonly dmaAddress?: () => bigint;
  readonly #buffer: DmaBuffer;
  /** Ends what the buffer is of, if that was opened for the arena. */
  readonly #onClose: (() => void) | undefined;

  private constructor(
    buffer: DmaBuffer,
    name: string,
    granule: number,
    byteLength: number,
    onClose?: () => void,
  ) {
    const native = binding();
    // Of a buffer in several pieces there is no one address; of one of memfd none at all.
    const address = buffer.segments.length === 0 ? undefined : buffer.dmaAddress;
    if (arenas.get(buffer)?.deref() !== undefined) {
      throw systemError(errno.EEXIST, 'create', {
        path: name,
        hint: 'there is an arena over this buffer, which gives its memory out: close() that first',
      });
    }
    this.#buffer = buffer;
    this.#onClose = onClose;
    this.name = name;
    this.memory = buffer.memory.effective;
    this.memoryTypes = Object.freeze([this.memory]);
    this.page = native.pageSize;
    this.native = makeBooks(name, granule, byteLength);
    arenas.set(buffer, new WeakRef(this.native));
    if (address !== undefined) {
      this.native.setBase(address);
      this.dmaAddress = () => buffer.dmaAddress;
    }
  }

  /** @param byteLength - absent: all that the buffer has, in whole granules */
  static create(
    buffer: DmaBuffer,
    name: string,
    granule: number,
    byteLength?: number,
    onClose?: () => void,
  ): BufferBacking {
    const most = Math.floor(buffer.byteLength / granule) * granule;
    if (most === 0) {
      throw outOfRange('granule', `at most the ${buffer.byteLength} bytes of the buffer`, granule);
    }
    if (byteLength !== undefined && byteLength > most) {
      throw outOfRange('byteLength', `at most ${most}, the whole granules of the buffer`, byteLength);
    }
    return new BufferBacking(buffer, name, granule, byteLength ?? most, onClose);
  }

  map(): Part {
    return this.#buffer;
  }

  /** The buffer is its owner's. */
  release(): void {}

  unlink(): void {
    throw notSupported('unlink', 'an arena over a buffer has no name in the system');
  }

  close(): void {
    this.native.close();
    arenas.delete(this.#buffer);
    this.#onClose?.();
  }
}

function makeBooks(name: string, granule: number, byteLength: number): NativeArena {
  const native = binding();
  const fd = native.memfdCreate(`iospace-arena.${name}`, native.constants['MFD_ALLOW_SEALING'] ?? 0);
  try {
    return makeArena(native, fd, name, {
      kind: 'buffer',
      name,
      granule,
      granules: byteLength / granule,
      memoryBytes: byteLength,
      reclaims: false,
      allocate: false,
      physicalAddress: 0n,
      maxBlocks: 0,
    });
  } finally {
    native.close(fd);
  }
}
