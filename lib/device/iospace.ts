/**
 * The provider over `iospace.ko`: one open `/dev/iospaceN`.
 *
 * @module
 */
import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { basename } from 'node:path';
import type { NativeBinding } from '../binding.js';
import { errno, explained, isSystemError, systemError } from '../errors.js';
import { mapShared } from '../mapping.js';
import { type DeviceInfo, infoFromNative, listDevices } from './info.js';
import { Interrupts } from './interrupts.js';
import { type MemoryType, memoryTypeFromNumber, memoryTypeToNumber } from './memory.js';
import type { ProvidedMemory, Provider } from './provider.js';
import { Registers } from './registers.js';

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
        hint: 'run as root, or give a group access by a udev rule',
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
      explained(path, hints, () => native.deviceInfo(fd)),
    );
    this.interrupts = new Interrupts(native, fd, this.info.vectors);
  }

  alloc(byteLength: number, memory: MemoryType): ProvidedMemory {
    const { memoryTypes, dmaMask, limits } = this.info;
    const hints = {
      EOPNOTSUPP: `this device has no ${memory} memory, only ${memoryTypes.join(', ') || 'none'}`,
      EDQUOT: `${byteLength} bytes; max_file_bytes allows ${limits.fileBytes} here, max_total_bytes ${limits.totalBytes} in all`,
      ENOMEM: `no ${byteLength} bytes in one piece within the device's reach, 0x${dmaMask.toString(16)}`,
    };
    const allocation = explained(this.#path, hints, () =>
      this.#native.deviceAlloc(this.fd, memoryTypeToNumber(memory), byteLength),
    );
    const free = (): void => this.#free(allocation.handle);
    try {
      return {
        mapping: mapShared(this.#native, this.fd, byteLength, allocation.mmapOffset, 'write'),
        memory: memoryTypeFromNumber(allocation.memory),
        segments: [{ dmaAddress: allocation.dmaAddress, length: byteLength }],
        free,
      };
    } catch (error) {
      free();
      throw error;
    }
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
    const info = explained(this.#path, hints, () => this.#native.deviceRegisters(this.fd, index));
    return new Registers(new this.#native.Registers(this.fd, index, info), info);
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
