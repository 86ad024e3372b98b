/**
 * An open device: what it is, and everything that it gives.
 *
 * @module
 */
import { inspect } from 'node:util';
import { binding } from '../binding.js';
import { checkBoolean, checkInteger, checkOneOf, checkOptions, checkString } from '../check.js';
import { invalidState, isSystemError, wrongValue } from '../errors.js';
import { MAX_BYTE_LENGTH, type Mapping } from '../mapping.js';
import { DmaBuffer } from './buffer.js';
import type { DeviceInfo } from './info.js';
import type { InterruptEvent, InterruptOptions, WaitOptions } from './interrupts.js';
import { openIospace } from './iospace.js';
import { MemfdProvider } from './memfd.js';
import { type MemoryType, memoryTypes } from './memory.js';
import { type ProvidedMemory, type Provider, type ProviderName, providerNames } from './provider.js';
import type { Registers } from './registers.js';

/** The device that the module makes when it is loaded. */
const DEFAULT_DEVICE = 'iospace0';

/** Which device to open, and through what. */
export interface DeviceOptions {
  /** `'iospace0'`, `'/dev/iospace0'`, or the name on its bus: `'0000:00:01.0'`. @defaultValue `'iospace0'` */
  device?: string;
  /**
   * What the memory comes from. `'memfd'` needs no module and no privilege and has no bus address; `'auto'` takes the
   * first that can be opened, memfd only where no device was named. @defaultValue `'iospace'`
   */
  provider?: ProviderName | 'auto';
}

/** What memory to allocate. */
export interface AllocOptions {
  /** @defaultValue `'coherent'`; `'cached'` with memfd */
  memory?: MemoryType;
  /** Whether to take the provider's default memory where the type asked for cannot be had. @defaultValue false */
  fallback?: boolean;
}

/**
 * A device with DMA, open. Close it with {@link DmaDevice.close}: that also ends all of its buffers, registers and waits.
 * One that is not closed stays open until the process ends, for its hardware may still be using its buffers.
 *
 * Methods throw ERR_INVALID_STATE after `close()`, and ENODEV once the device is gone (unbound or unplugged).
 *
 * @example
 * using device = DmaDevice.open('0000:00:01.0');
 * using buffer = device.alloc(4096);
 * device.registers(0).writeAddress(0x80, buffer.dmaAddress);
 * await device.waitForInterrupt({ timeout: 1000 });
 */
export class DmaDevice {
  readonly #provider: Provider;
  /** The memory of its buffers; weakly, so that what is forgotten is collected, and reported. */
  readonly #mappings = new Set<WeakRef<Mapping>>();
  readonly #windows = new Map<number, Registers>();
  #closed = false;

  private constructor(provider: Provider) {
    this.#provider = provider;
  }

  /**
   * Opens a device.
   *
   * @param target - `'iospace0'`, `'/dev/iospace0'`, the name on its bus (`'0000:00:01.0'`), or options
   * @throws ENOENT if the module is not loaded or no such device is bound to it; EACCES without permission;
   *   ERR_IOSPACE_ADDON if the addon is not built
   */
  static open(target?: string | DeviceOptions): DmaDevice {
    const options = typeof target === 'string' ? { device: target } : target;
    const { device, provider = 'iospace' } = checkOptions(options, ['device', 'provider']);
    if (device !== undefined && checkString('device', device) === '') {
      throw wrongValue('device', 'the name of a device', device);
    }
    return new DmaDevice(openProvider(device, checkOneOf('provider', provider, [...providerNames, 'auto'])));
  }

  /** What the device and this machine can do. */
  get info(): DeviceInfo {
    return this.#provider.info;
  }

  /** What its memory comes from. */
  get provider(): ProviderName {
    return this.#provider.name;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Its descriptor, for calls that this library does not have. Belongs to the device: do not close it, and do not read
   * from it, which would take the interrupts away.
   *
   * @throws EOPNOTSUPP with memfd
   */
  get fd(): number {
    return this.#open().fd;
  }

  /**
   * Allocates zeroed memory that the device reaches. A system call or two, and whole pages.
   *
   * @param byteLength - at least 1; at most what an ArrayBuffer can have (4 GiB on Node 20)
   * @throws EOPNOTSUPP for a memory type that cannot be had here; ENOMEM if the machine has no such memory left; EDQUOT
   *   over a limit of the module; ERR_OUT_OF_RANGE, ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  alloc(byteLength: number, options?: AllocOptions): DmaBuffer {
    const provider = this.#open();
    checkInteger('byteLength', byteLength, 1, MAX_BYTE_LENGTH);
    const { memory = provider.defaultMemory, fallback = false } = checkOptions(options, [
      'memory',
      'fallback',
    ]);
    checkOneOf('memory', memory, memoryTypes);
    checkBoolean('fallback', fallback);

    const provided = allocate(provider, byteLength, memory, fallback);
    const reference = new WeakRef(provided.mapping);
    this.#mappings.add(reference);
    return new DmaBuffer(provided, memory, () => {
      this.#mappings.delete(reference);
      // Of a closed device, whose descriptor may be another file by now, the kernel's side is gone.
      if (!this.#closed) {
        provided.free();
      }
    });
  }

  /**
   * A window of its registers: a BAR of a PCI function, or a `reg` entry of a platform device. The same index gives the
   * same window, which lives as long as the device is open.
   *
   * @param index - a number, or an entry of the device tree's `reg-names`
   * @throws ENOENT if there is no such window; EOPNOTSUPP with memfd
   */
  registers(index: number | string = 0): Registers {
    const provider = this.#open();
    const number =
      typeof index === 'string'
        ? provider.registersIndex(checkString('index', index))
        : checkInteger('index', index, 0, 0xffff_ffff);
    let window = this.#windows.get(number);
    if (window === undefined) {
      window = provider.registers(number);
      this.#windows.set(number, window);
    }
    return window;
  }

  /**
   * Waits for an interrupt. Resolves at once if one came since the last event of this vector, so none between two calls
   * is lost; all who wait are told. A level-triggered line, masked when it fired, is enabled by the next wait.
   *
   * @throws ETIMEDOUT; an AbortError (ABORT_ERR) whose `cause` is the signal's reason; ECANCELED if the device was
   *   closed while waiting; ENODEV once it is gone; ENOENT for an unknown vector; EOPNOTSUPP without interrupts
   * @example
   * const { missed } = await device.waitForInterrupt({ timeout: 1000 });
   */
  async waitForInterrupt(options?: WaitOptions): Promise<InterruptEvent> {
    return this.#open().interrupts.wait(options);
  }

  /**
   * The interrupts of a vector from now on, until the device is closed. Throws as {@link DmaDevice.waitForInterrupt}.
   *
   * @example
   * for await (const { count } of device.interrupts({ signal })) {
   *   acknowledge(count);
   * }
   */
  interrupts(options?: InterruptOptions): AsyncIterableIterator<InterruptEvent> {
    return this.#open().interrupts.iterate(options);
  }

  /** Lets a pending wait keep the process running, as it does from the start. */
  ref(): this {
    this.#open().interrupts.ref();
    return this;
  }

  /** Lets the process end while a wait is pending. */
  unref(): this {
    this.#open().interrupts.unref();
    return this;
  }

  /**
   * Ends all waits, registers and buffers, and closes the device. A second call does nothing.
   *
   * Memory that was not freed before is given to nobody while another process has the device open: nobody said that the
   * hardware no longer uses it.
   *
   * @throws ENOMEM if the process has no room to unmap a buffer (`vm.max_map_count`). The device is closed all the same;
   *   the buffers that are left are ended by their own `free()`.
   */
  close(): void {
    if (this.#closed) {
      return;
    }
    this.#closed = true;
    try {
      for (const window of this.#windows.values()) {
        window.close();
      }
      for (const reference of this.#mappings) {
        reference.deref()?.release();
      }
      this.#mappings.clear();
    } finally {
      // The kernel's side of every buffer, collected ones included, ends with the descriptor.
      this.#provider.close();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #open(): Provider {
    if (this.#closed) {
      throw invalidState('the device is closed');
    }
    return this.#provider;
  }

  [inspect.custom](): string {
    const { name, bus, device } = this.info;
    const where = device === '' ? '' : `, ${bus}: ${device}`;
    return `DmaDevice { name: ${name}${where}, provider: ${this.provider}, closed: ${this.#closed} }`;
  }
}

function openProvider(device: string | undefined, name: ProviderName | 'auto'): Provider {
  const native = binding();
  if (name === 'memfd') {
    if (device !== undefined) {
      throw wrongValue('device', 'no device with the provider memfd', device);
    }
    return new MemfdProvider(native);
  }
  try {
    return openIospace(native, device ?? DEFAULT_DEVICE);
  } catch (error) {
    if (
      name === 'auto' &&
      device === undefined &&
      isSystemError(error, 'ENOENT', 'EACCES', 'ENODEV', 'ENXIO')
    ) {
      return new MemfdProvider(native);
    }
    throw error;
  }
}

function allocate(
  provider: Provider,
  byteLength: number,
  memory: MemoryType,
  fallback: boolean,
): ProvidedMemory {
  try {
    return provider.alloc(byteLength, memory);
  } catch (error) {
    if (fallback && memory !== provider.defaultMemory && isSystemError(error, 'EOPNOTSUPP', 'EBUSY')) {
      return provider.alloc(byteLength, provider.defaultMemory);
    }
    throw error;
  }
}
