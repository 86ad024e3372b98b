/**
 * The provider over memfd: plain memory, with no module, no privilege and no device. For tests, and for a first look
 * on any machine.
 *
 * @module
 */
import type { NativeBinding } from '../binding.js';
import { notSupported } from '../errors.js';
import { MAX_BYTE_LENGTH, mapShared } from '../mapping.js';
import { type DeviceInfo, deviceInfo } from './info.js';
import { Interrupts } from './interrupts.js';
import type {
  MemoryRequest,
  ProvidedArena,
  ProvidedImport,
  ProvidedMemory,
  ProvidedWindow,
  Provider,
  Reachable,
} from './provider.js';
import type { Registers } from './registers.js';

const UNLIMITED = Number.MAX_SAFE_INTEGER;

const infoOf = (native: NativeBinding): DeviceInfo =>
  deviceInfo({
    name: 'memfd',
    bus: 'none',
    device: '',
    dmaMask: 0n,
    coherent: true,
    iommu: 'none',
    cacheLine: 1,
    pageSize: native.pageSize,
    memoryTypes: ['cached'],
    zones: [],
    pool: { kind: 'none', start: 0n, byteLength: 0 },
    arenas: 0,
    registers: 0,
    vectors: 0,
    limits: {
      fileBytes: UNLIMITED,
      totalBytes: MAX_BYTE_LENGTH,
      fileMappings: 0,
      convertedBytes: 0,
      segmentBytes: UNLIMITED,
      contiguousBytes: UNLIMITED,
      arenaBlocks: 0,
      arenaReserveBytes: 0,
    },
    version: '',
  });

function exportDmaBuf(): number {
  throw notSupported('exportDmaBuf', 'memfd has no device');
}

export class MemfdProvider implements Provider {
  readonly name = 'memfd';
  readonly defaultMemory = 'cached';
  readonly info: DeviceInfo;
  readonly interrupts: Interrupts;
  readonly #native: NativeBinding;

  constructor(native: NativeBinding) {
    this.#native = native;
    this.info = infoOf(native);
    this.interrupts = new Interrupts(native, -1, 0);
  }

  get fd(): number {
    throw notSupported('fd', 'memfd has no device');
  }

  alloc(byteLength: number, request: MemoryRequest): ProvidedMemory {
    const { memory, align, boundary, zone, addressBits } = request;
    if (memory !== 'cached') {
      throw notSupported('alloc', `memfd has no ${memory} memory, only cached`);
    }
    if (align > 0 || boundary > 0 || zone !== undefined || addressBits > 0) {
      throw notSupported('alloc', 'memfd has no addresses: no align, boundary, zone or addressBits');
    }
    const fd = this.#native.memfdCreate('iospace', 0);
    try {
      this.#native.ftruncate(fd, byteLength);
      const mapping = mapShared(this.#native, fd, byteLength, 0n, 'write');
      return { mapping, memory, segments: [], exportDmaBuf, free: () => undefined };
    } finally {
      this.#native.close(fd);
    }
  }

  mapUser(): Reachable {
    throw notSupported('mapUser', 'memfd has no device');
  }

  importDmaBuf(): ProvidedImport {
    throw notSupported('importDmaBuf', 'memfd has no device');
  }

  window(): ProvidedWindow {
    throw notSupported('mmap_iospace', 'memfd has no physical memory');
  }

  arenas(): ProvidedArena[] {
    return [];
  }

  arenaBooks(): number {
    throw notSupported('arenaBooks', 'memfd has no arenas');
  }

  attachArena(): bigint {
    throw notSupported('attachArena', 'memfd has no device');
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
