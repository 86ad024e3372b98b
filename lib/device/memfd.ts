/**
 * The provider over memfd: plain memory, with no module, no privilege and no device. For tests, and for a first look
 * on any machine.
 *
 * @module
 */
import type { NativeBinding } from '../binding.js';
import { notSupported } from '../errors.js';
import { MAX_BYTE_LENGTH, mapShared } from '../mapping.js';
import type { DeviceInfo } from './info.js';
import { Interrupts } from './interrupts.js';
import type { MemoryType } from './memory.js';
import type { ProvidedMemory, Provider } from './provider.js';
import type { Registers } from './registers.js';

const info: DeviceInfo = {
  name: 'memfd',
  bus: 'none',
  device: '',
  dmaMask: 0n,
  coherent: true,
  iommu: 'none',
  cacheLine: 1,
  memoryTypes: ['cached'],
  registers: 0,
  vectors: 0,
  limits: { fileBytes: Number.MAX_SAFE_INTEGER, totalBytes: MAX_BYTE_LENGTH },
  version: '',
};

export class MemfdProvider implements Provider {
  readonly name = 'memfd';
  readonly defaultMemory = 'cached';
  readonly info = info;
  readonly interrupts: Interrupts;
  readonly #native: NativeBinding;

  constructor(native: NativeBinding) {
    this.#native = native;
    this.interrupts = new Interrupts(native, -1, 0);
  }

  get fd(): number {
    throw notSupported('fd', 'memfd has no device');
  }

  alloc(byteLength: number, memory: MemoryType): ProvidedMemory {
    if (memory !== 'cached') {
      throw notSupported('alloc', `memfd has no ${memory} memory, only cached`);
    }
    const fd = this.#native.memfdCreate('iospace', 0);
    try {
      this.#native.ftruncate(fd, byteLength);
      const mapping = mapShared(this.#native, fd, byteLength, 0n, 'write');
      return { mapping, memory, segments: [], free: () => undefined };
    } finally {
      this.#native.close(fd);
    }
  }

  registers(): Registers {
    throw notSupported('registers', 'memfd has no device');
  }

  registersIndex(): number {
    throw notSupported('registers', 'memfd has no device');
  }

  close(): void {
    this.interrupts.close();
  }
}
