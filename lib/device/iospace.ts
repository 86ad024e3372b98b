/**
 * The provider over `iospace.ko`: one open `/dev/iospaceN`.
 *
 * @module
 */
import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { basename } from 'node:path';
import { roundUp } from '../arithmetic.js';
import type { NativeAllocation, NativeBinding } from '../binding.js';
import { errno, explained, isSystemError, outOfRange, systemError } from '../errors.js';
import { mapShared } from '../mapping.js';
import { type DeviceInfo, infoFromNative, listDevices } from './info.js';
import { Interrupts } from './interrupts.js';
import {
  memoryTypeFromNumber,
  memoryTypes,
  memoryTypesFromMask,
  memoryTypeToNumber,
  type WindowType,
  windowTypes,
  zoneToNumber,
} from './memory.js';
import type {
  DmaSegment,
  MemoryRequest,
  ProvidedArena,
  ProvidedMemory,
  ProvidedWindow,
  Provider,
} from './provider.js';
import { placeOf, whyNoWindow, whyRefused } from './refusal.js';
import { Registers } from './registers.js';
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
    const bound = devices.map(({ name, device }) => (device === '' ? name : `${device} (${name})`));
    const hint = bound.length === 0 ? NOT_LOADED : `not bound to iospace; bound are ${bound.join(', ')}`;
    throw systemError(errno.ENOENT, 'open', { path: target, hint });
  }
  return `/dev/${found.name}`;
}

/** By Node's own `open`, which closes what a worker leaves open when it ends. */
function openDevice(path: string): number {
  try {
    return openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    if (isSystemError(error, 'ENOENT') && !existsSync('/sys/module/iospace')) {
      throw systemError(errno.ENOENT, 'open', { path, hint: NOT_LOADED });
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
    const { handle, mmapOffset, flags } = allocation;
    const free = (): void => this.#free(handle);
    try {
      return {
        mapping: mapShared(native, this.fd, byteLength, mmapOffset, 'write'),
        memory: memoryTypeFromNumber(memoryTypes, allocation.memory),
        segments: this.#segments(allocation, byteLength),
        ...((flags & uapi.IOSPACE_ALLOC_NEEDS_SYNC) !== 0 && {
          sync: (turn, offset, length) => this.#sync(handle, byteLength, turn, offset, length),
        }),
        free,
      };
    } catch (error) {
      free();
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

  /** Where the device finds a buffer. One call more for each {@link SEGMENT_BATCH} segments, if there are several. */
  #segments({ handle, dmaAddress, segments: count }: NativeAllocation, byteLength: number): DmaSegment[] {
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

  #sync(handle: number, byteLength: number, turn: 'device' | 'cpu', offset: number, length: number): void {
    const { coherent, cacheLine } = this.info;
    // The rest of the last page is nobody else's.
    const end = offset + length === byteLength ? roundUp(byteLength, cacheLine) : offset + length;
    if (!coherent && (offset % cacheLine !== 0 || end % cacheLine !== 0)) {
      throw outOfRange(
        'the range to sync',
        `whole cache lines of ${cacheLine} bytes, counted from the start of the buffer, because this device does not snoop`,
        `bytes ${offset} to ${end}`,
      );
    }
    const flags = turn === 'device' ? uapi.IOSPACE_SYNC_FOR_DEVICE : uapi.IOSPACE_SYNC_FOR_CPU;
    this.#native.deviceSync(this.fd, handle, flags, offset, end - offset);
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
            : mapShared(native, this.fd, pages, window.mmapOffset, 'write'),
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
