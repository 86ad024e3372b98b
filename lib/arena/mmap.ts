/**
 * `mmapIospace()` and `munmapIospace()`: windows on physical memory by its address.
 *
 * @module
 */
import { binding } from '../binding.js';
import { checkInteger, checkOneOf, checkOptions, checkUint64 } from '../check.js';
import { DmaDevice } from '../device/device.js';
import { DEFAULT_DEVICE, openIospace } from '../device/iospace.js';
import { type WindowType, windowTypes } from '../device/memory.js';
import { IospaceMapping } from '../device/window.js';
import { outOfRange, wrongType } from '../errors.js';
import { MAX_BYTE_LENGTH } from '../mapping.js';

/** What a window shall be. */
export interface MmapOptions {
  /** What it is to the CPU; `'device'` for registers. */
  memory: WindowType;
  /** The device whose registers they are, or over which it is to be opened, and with which it then ends. @defaultValue `iospace0`, opened for this window alone */
  device?: DmaDevice;
}

/**
 * Maps physical memory: a part of an arena, or, with CAP_SYS_RAWIO, of a range that the module's parameter `allow` declares
 * or of the registers of `device`. The pages that the range touches are mapped whole; all of them must be allowed.
 *
 * @param physicalAddress - of the first byte, as the CPU has it; a bus address of a device is something else
 * @param byteLength - at least 1; at most what an ArrayBuffer can have (4 GiB on Node 20)
 * @throws EPERM for a range that nobody declared, without the capability, or for memory that the system uses; EBUSY if a
 *   driver has the range, or it is open in another type; EOPNOTSUPP for a type that it cannot be opened as; EINVAL beyond
 *   what the CPU addresses; ENOENT without the module; ERR_OUT_OF_RANGE, ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
 * @example
 * using gpio = mmapIospace(0x3f20_0000, 0xb4, { memory: 'device' });
 * gpio.registers.write32(0x1c, 1 << 4);
 */
export function mmapIospace(
  physicalAddress: number | bigint,
  byteLength: number,
  options: MmapOptions,
): IospaceMapping {
  const address = checkUint64('physicalAddress', physicalAddress);
  checkInteger('byteLength', byteLength, 1, MAX_BYTE_LENGTH);
  const { memory: asked, device } = checkOptions(options, ['memory', 'device']);
  const memory = checkOneOf('memory', asked, windowTypes);
  if (address + BigInt(byteLength) > 1n << 64n) {
    throw outOfRange(
      'byteLength',
      `a range that ends below 2^64, from 0x${address.toString(16)}`,
      byteLength,
    );
  }
  if (device === undefined) {
    return overDefaultDevice(memory, address, byteLength);
  }
  if (!(device instanceof DmaDevice)) {
    throw wrongType('device', 'an open DmaDevice', device);
  }
  return device.openWindow(memory, address, byteLength);
}

/**
 * Ends a window: {@link IospaceMapping.unmap}.
 *
 * @throws ERR_INVALID_ARG_TYPE for what is no window
 */
export function munmapIospace(mapping: IospaceMapping): void {
  if (!(mapping instanceof IospaceMapping)) {
    throw wrongType('mapping', 'an IospaceMapping', mapping);
  }
  mapping.unmap();
}

/** The open file lives as long as what is mapped of it, so that its descriptor is not needed any more. */
function overDefaultDevice(memory: WindowType, address: bigint, byteLength: number): IospaceMapping {
  const provider = openIospace(binding(), DEFAULT_DEVICE);
  try {
    const provided = provider.window(memory, address, byteLength);
    return new IospaceMapping(provided, memory, address, byteLength, () => undefined);
  } finally {
    provider.close();
  }
}
