/**
 * The provider over `iospace.ko`: one open `/dev/iospaceN`.
 *
 * @module
 */
import { closeSync, constants, openSync } from 'node:fs';
import { basename } from 'node:path';
import { roundUp } from '../arithmetic.js';
import type { NativeBinding, NativeReachable } from '../binding.js';
import { errno, explained, isSystemError, outOfRange, systemError } from '../errors.js';
import { MAX_BYTE_LENGTH, type Mapping, type MappingMemory, mapShared } from '../mapping.js';
import { type DeviceInfo, infoFromNative, listDevices } from './info.js';
import { Interrupts } from './interrupts.js';
import {
  type Direction,
  directionToNumber,
  type MemoryType,
  memoryTypeFromNumber,
  memoryTypes,
  memoryTypesFromMask,
  memoryTypeToNumber,
  type WindowType,
  windowTypes,
  zoneToNumber,
} from './memory.js';
import {
  type MemoryRequest,
  type ProvidedArena,
  type ProvidedImport,
  type ProvidedMemory,
  type ProvidedWindow,
  type Provider,
  type Reachable,
  Unmappable,
} from './provider.js';
import { placeOf, whyNotImported, whyNotMapped, whyNoWindow, whyRefused } from './refusal.js';
import { Registers } from './registers.js';
import type { DmaSegment } from './segments.js';
import type { HandOver, SyncRange } from './turn.js';
import * as uapi from './uapi.js';

/** Segments read in one call. */
const SEGMENT_BATCH = 1024;

/** The device that the module makes when it is loaded. */
export const DEFAULT_DEVICE = 'iospace0';

const NOT_LOADED = 'is the kernel module loaded? sudo modprobe iospace';

/**
 * Opens a device.
 *
 * @param target - `'iospace0'`, a path, or the device's name on its bus
 */
export function openIospace(native: NativeBinding, target: string): Provider {
  const path = devicePath(target);
  const fd = openDevice(path);
  try {
    return new IospaceProvider(native, path, fd);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function devicePath(target: string): string {
  if (target.startsWith('/')) {
    return target;
  }
  if (/^iospace\d+$/.test(target)) {
    return `/dev/${target}`;
  }
  const devices = listDevices();
  const found = devices.find(({ device }) => device === target && device !== '');
  if (found === undefined) {
    throw systemError(errno.ENOENT, 'open', { path: target, hint: whichAreBound(devices) });
  }
  return `/dev/${found.name}`;
}

function whichAreBound(devices: readonly DeviceInfo[]): string {
  const bound = devices.map(({ name, device }) => (device === '' ? name : `${device} (${name})`));
  return bound.length === 0 ? NOT_LOADED : `bound to iospace are ${bound.join(', ')}`;
}

/** By Node's own `open`, which closes what a worker leaves open when it ends. */
function openDevice(path: string): number {
  try {
    return openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) {
      throw systemError(errno.ENOENT, 'open', { path, hint: whichAreBound(listDevices()) });
    }
    if (isSystemError(error, 'EACCES')) {
      throw systemError(errno.EACCES, 'open', {
        path,
        hint: 'run as root, or give a group access: kernel-module/packaging/60-iospace.rules says how',
      });
    }
    throw error;
  }
}

/** A range for a device that does not snoop, which takes cache lines. */
function wholeLines({ offset, length }: SyncRange, byteLength: number, line: number): SyncRange {
  // The rest of the last page is nobody else's.
  const end = offset + length === byteLength ? roundUp(byteLength, line) : offset + length;
  if (offset % line !== 0 || end % line !== 0) {
    throw outOfRange(
      'the range to sync',
      `whole cache lines of ${line} bytes, counted from the start of the buffer, because this device does not snoop`,
      `bytes ${offset} to ${end}`,
    );
  }
  return { offset, length: end - offset };
}

/** @throws what is not the exporter's word, but a shortage of this process or machine */
function unmappable(error: unknown): Unmappable {
  if (!isSystemError(error, 'EACCES', 'EINVAL', 'ENODEV', 'EOPNOTSUPP', 'ENXIO', 'EPERM', 'ENOTTY')) {
    throw error;
  }
  return new Unmappable(`the driver that exported it does not let it be mapped (${error.code})`);
}

class IospaceProvider implements Provider {
  readonly name = 'iospace';
  readonly defaultMemory = 'coherent';
  readonly fd: number;
  readonly info: DeviceInfo;
  readonly interrupts: Interrupts;
  readonly #native: NativeBinding;
  readonly #path: string;

  constructor(native: NativeBinding, path: string, fd: number) {
    const hints = { ENOTTY: 'not a device of iospace', EINVAL: 'its module is older than this package' };
    this.#native = native;
    this.#path = path;
    this.fd = fd;
    this.info = infoFromNative(
      basename(path),
      explained({ path }, hints, () => native.deviceInfo(fd)),
    );
    this.interrupts = new Interrupts(native, fd, this.info.vectors);
  }

  alloc(byteLength: number, request: MemoryRequest): ProvidedMemory {
    const native = this.#native;
    const { memory, contiguous, align, boundary, zone, addressBits } = request;
    const allocation = explained({ path: this.#path }, this.#allocHints(byteLength, request), () =>
      native.deviceAlloc(
        this.fd,
        memoryTypeToNumber(memory),
        byteLength,
        contiguous ? uapi.IOSPACE_ALLOC_CONTIGUOUS : 0,
        align,
        boundary,
        zoneToNumber(zone),
        addressBits,
      ),
    );
    const reachable = this.#reachable(allocation, byteLength, this.#line('bidirectional'));
    try {
      const effective = memoryTypeFromNumber(memoryTypes, allocation.memory);
      const mapped = this.#mapped(effective);
      return {
        ...reachable,
        mapping: mapShared(native, this.fd, byteLength, allocation.mmapOffset, 'write', mapped),
        memory: effective,
        exportDmaBuf: (offset, length, readOnly) => this.#export(allocation.handle, offset, length, readOnly),
      };
    } catch (error) {
      reachable.free();
      throw error;
    }
  }

  #allocHints(byteLength: number, request: MemoryRequest): Record<string, () => string> {
    const { limits, pool } = this.info;
    const { memory, contiguous, align } = request;
    return {
      EOPNOTSUPP: () => whyRefused(request, this.info),
      EDQUOT: () => {
        const { fileBytes, totalBytes, convertedBytes } = limits;
        const isConverted = convertedBytes > 0 && (memory === 'writecombine' || memory === 'uncached');
        const converted = isConverted ? `, and ${convertedBytes} of ${memory} memory` : '';
        const aligned = align > byteLength ? `, aligned to ${align}` : '';
        return `${byteLength} bytes${aligned}; max_file_bytes allows ${fileBytes} here, max_total_bytes ${totalBytes} in all${converted}; what is held already counts`;
      },
      ENOMEM: () => {
        const where = placeOf(request) || `within the device's reach, 0x${this.info.dmaMask.toString(16)}`;
        if (!contiguous && memory !== 'coherent') {
          return `no ${byteLength} bytes ${where}`;
        }
        const tooLong =
          byteLength > limits.contiguousBytes
            ? `; more than ${limits.contiguousBytes} in one piece are rare: memory: 'cached' may be in several, an arena is in one`
            : '';
        return `no ${byteLength} bytes in one piece ${where}${tooLong}`;
      },
      ENOSPC: () =>
        pool.kind === 'none'
          ? 'this device has as many buffers open as it can'
          : `the device's own pool of ${pool.byteLength} bytes has no room for ${byteLength}`,
    };
  }

  /** What memory of this type is to the processor. */
  #mapped(type: MemoryType | WindowType): MappingMemory {
    const isUncached =
      type === 'writecombine' || type === 'uncached' || (type === 'coherent' && !this.info.coherent);
    return isUncached ? 'uncached' : 'cached';
  }

  mapUser(bytes: Uint8Array, direction: Direction): Reachable {
    const { byteLength } = bytes;
    const native = explained({ path: this.#path }, whyNotMapped(byteLength, direction, this.info), () =>
      this.#native.deviceMapUser(this.fd, directionToNumber(direction), bytes),
    );
    return this.#reachable(native, byteLength, this.#line(direction));
  }

  importDmaBuf(fd: number, direction: Direction): ProvidedImport {
    const native = explained({ path: this.#path }, whyNotImported(fd, direction), () =>
      this.#native.deviceImport(this.fd, fd, directionToNumber(direction)),
    );
    const { byteLength } = native;
    const reachable = this.#reachable(native, byteLength, 1);
    try {
      return { ...reachable, ...this.#mapDmaBuf(fd, byteLength), byteLength };
    } catch (error) {
      reachable.free();
      throw error;
    }
  }

  /** The CPU's view of a dma-buf: for writing, for reading, or none. */
  #mapDmaBuf(fd: number, byteLength: number): { content: Mapping | Unmappable; readOnly: boolean } {
    if (byteLength > MAX_BYTE_LENGTH) {
      const reason = `its ${byteLength} bytes are more than the ${MAX_BYTE_LENGTH} that an ArrayBuffer can have`;
      return { content: new Unmappable(reason), readOnly: false };
    }
    try {
      return { content: mapShared(this.#native, fd, byteLength, 0n, 'write'), readOnly: false };
    } catch (error) {
      if (!isSystemError(error, 'EACCES')) {
        return { content: unmappable(error), readOnly: false };
      }
    }
    try {
      return { content: mapShared(this.#native, fd, byteLength, 0n, 'read'), readOnly: true };
    } catch (error) {
      return { content: unmappable(error), readOnly: true };
    }
  }

  #export(handle: number, offset: number, byteLength: number, readOnly: boolean): number {
    const flags = readOnly ? uapi.IOSPACE_EXPORT_READ_ONLY : 0;
    return explained({ path: this.#path }, { EOPNOTSUPP: 'this kernel has no dma-buf' }, () =>
      this.#native.deviceExport(this.fd, handle, flags, offset, byteLength),
    );
  }

  /** Bytes that what changes hands must not share with other data. */
  #line(direction: Direction): number {
    return this.info.coherent || direction === 'toDevice' ? 1 : this.info.cacheLine;
  }

  #reachable(native: NativeReachable, byteLength: number, line: number): Reachable {
    const { handle, flags } = native;
    const free = (): void => this.#free(handle);
    try {
      return {
        segments: this.#segments(native, byteLength),
        ...((flags & uapi.IOSPACE_ALLOC_NEEDS_SYNC) !== 0 && {
          sync: this.#handOver(handle, byteLength, line),
        }),
        free,
      };
    } catch (error) {
      free();
      throw error;
    }
  }

  /** Where the device finds a buffer. One call more for each {@link SEGMENT_BATCH} segments, if there are several. */
  #segments({ handle, dmaAddress, segments: count }: NativeReachable, byteLength: number): DmaSegment[] {
    if (count === 1) {
      return [{ dmaAddress, length: byteLength }];
    }
    const segments: DmaSegment[] = [];
    const batch = new BigUint64Array(2 * Math.min(count, SEGMENT_BATCH));
    while (segments.length < count) {
      const read = this.#native.deviceSegments(this.fd, handle, segments.length, batch);
      for (let at = 0; at < 2 * read; at += 2) {
        segments.push({ dmaAddress: batch[at] ?? 0n, length: Number(batch[at + 1]) });
      }
    }
    return segments;
  }

  #handOver(handle: number, byteLength: number, line: number): HandOver {
    return (turn, ranges) => {
      const flags = turn === 'device' ? uapi.IOSPACE_SYNC_FOR_DEVICE : uapi.IOSPACE_SYNC_FOR_CPU;
      const lines = line === 1 ? ranges : ranges.map((range) => wholeLines(range, byteLength, line));
      const [only] = lines;
      if (only !== undefined && lines.length === 1) {
        this.#native.deviceSync(this.fd, handle, flags, only.offset, only.length);
        return;
      }
      for (let at = 0; at < lines.length; at += uapi.IOSPACE_MAX_SYNC_RANGES) {
        const batch = lines.slice(at, at + uapi.IOSPACE_MAX_SYNC_RANGES);
        const pairs = new BigUint64Array(2 * batch.length);
        for (const [index, { offset, length }] of batch.entries()) {
          pairs[2 * index] = BigInt(offset);
          pairs[2 * index + 1] = BigInt(length);
        }
        this.#native.deviceSyncRanges(this.fd, handle, flags, pairs);
      }
    };
  }

  window(memory: WindowType, physicalAddress: bigint, byteLength: number): ProvidedWindow {
    const page = BigInt(this.info.pageSize);
    const byteOffset = Number(physicalAddress % page);
    const pages = roundUp(byteOffset + byteLength, this.info.pageSize);
    const address = physicalAddress - BigInt(byteOffset);
    const native = this.#native;
    const { handle, ...window } = explained(
      { syscall: 'mmap_iospace', address: physicalAddress },
      whyNoWindow(memory, address, pages),
      () => native.deviceWindow(this.fd, memoryTypeToNumber(memory), address, pages),
    );
    const free = (): void => this.#free(handle);
    try {
      const effective = memoryTypeFromNumber(windowTypes, window.memory);
      return {
        content:
          effective === 'device'
            ? this.#registersAt(window.mmapOffset, byteOffset, byteLength)
            : mapShared(native, this.fd, pages, window.mmapOffset, 'write', this.#mapped(effective)),
        memory: effective,
        byteOffset,
        free,
      };
    } catch (error) {
      free();
      throw error;
    }
  }

  arenas(): ProvidedArena[] {
    return Array.from({ length: this.info.arenas }, (_, index) => {
      const { flags, name, address, byteLength, memoryTypes } = this.#native.deviceArena(this.fd, index, 0);
      return {
        index,
        name,
        physicalAddress: address,
        byteLength,
        memoryTypes: memoryTypesFromMask(windowTypes, memoryTypes),
        sideBySide: (flags & uapi.IOSPACE_ARENA_SIDE_BY_SIDE) !== 0,
      };
    });
  }

  arenaBooks(index: number): number {
    const hints = {
      ENOENT: `the module has ${this.info.arenas} arenas`,
      ENOTTY: 'its module is older than this package',
      EOPNOTSUPP: 'this kernel is without CONFIG_SHMEM',
    };
    return explained({ path: this.#path }, hints, () => this.#native.deviceArenaBooks(this.fd, index));
  }

  attachArena(index: number): bigint {
    const hints = {
      EOPNOTSUPP: () =>
        `this device, which reaches 0x${this.info.dmaMask.toString(16)}, cannot reach all of the arena, or this kernel cannot map it for the device's IOMMU`,
    };
    return explained({ path: this.#path }, hints, () =>
      this.#native.deviceArena(this.fd, index, uapi.IOSPACE_ARENA_ATTACH),
    ).dmaAddress;
  }

  #free(handle: number): void {
    try {
      this.#native.deviceFree(this.fd, handle);
    } catch (error) {
      // A device that is gone has taken its buffers along.
      if (!isSystemError(error, 'ENODEV')) {
        throw error;
      }
    }
  }

  registers(index: number): Registers {
    const hints = { ENOENT: `the device has no registers ${index}` };
    const info = explained({ path: this.#path }, hints, () => this.#native.deviceRegisters(this.fd, index));
    return new Registers(new this.#native.Registers(this.fd, index, info), info);
  }

  #registersAt(mmapOffset: bigint, pageOffset: number, byteLength: number): Registers {
    const info = { flags: uapi.IOSPACE_REGISTERS_MMAP, byteLength, mmapOffset, pageOffset, name: '' };
    return new Registers(new this.#native.Registers(this.fd, 0, info), info);
  }

  registersIndex(name: string): number {
    for (let index = 0; index < this.info.registers; index++) {
      if (this.#registersName(index) === name) {
        return index;
      }
    }
    throw systemError(errno.ENOENT, 'registers', { hint: `the device has no registers named '${name}'` });
  }

  #registersName(index: number): string | undefined {
    try {
      return this.#native.deviceRegisters(this.fd, index).name;
    } catch (error) {
      // A BAR that the function does not have.
      if (isSystemError(error, 'ENOENT')) {
        return undefined;
      }
      throw error;
    }
  }

  close(): void {
    this.interrupts.close();
    closeSync(this.fd);
  }
}
