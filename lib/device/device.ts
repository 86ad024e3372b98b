/**
 * An open device: what it is, and everything that it gives.
 *
 * @module
 */
import { inspect } from 'node:util';
import { binding } from '../binding.js';
import { checkDescriptor, checkInteger, checkOneOf, checkOptions, checkString } from '../check.js';
import { invalidState, isSystemError, wrongType, wrongValue } from '../errors.js';
import { MAX_BYTE_LENGTH } from '../mapping.js';
import { DmaBuffer } from './buffer.js';
import { ImportedBuffer, type ImportOptions } from './imported-buffer.js';
import type { DeviceInfo } from './info.js';
import type { InterruptEvent, InterruptOptions, WaitOptions } from './interrupts.js';
import { DEFAULT_DEVICE, openIospace } from './iospace.js';
import { MemfdProvider } from './memfd.js';
import { type Direction, directions, type WindowType } from './memory.js';
import { Ownership } from './ownership.js';
import { DmaPool, type PoolOptions } from './pool.js';
import { type Provider, type ProviderName, providerNames } from './provider.js';
import type { Registers } from './registers.js';
import { type AllocOptions, allocate, checkAllocOptions } from './request.js';
import { ArenaAttachment, type Attachable, attach, ReservedArena } from './reserved-arena.js';
import { type MapUserOptions, mapView, UserMapping } from './user-mapping.js';
import { IospaceMapping } from './window.js';

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

/** What ends with the device. */
interface Releasable {
  release(): void;
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
  /** What it was opened by; absent: by default. */
  readonly #target: string | undefined;
  /** What it has given; weakly, so that what is forgotten is collected, and reported. */
  readonly #given = new Set<WeakRef<Releasable>>();
  readonly #registers = new Map<number, Registers>();
  #arenas: readonly ReservedArena[] | undefined;
  #closed = false;

  private constructor(provider: Provider, target: string | undefined) {
    this.#provider = provider;
    this.#target = target;
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
    if (options !== undefined && typeof options !== 'object') {
      throw wrongType('target', 'the name of a device, or options', target);
    }
    const { device, provider = 'iospace' } = checkOptions(options, ['device', 'provider']);
    if (device !== undefined && checkString('device', device) === '') {
      throw wrongValue('device', 'the name of a device', device);
    }
    const name = checkOneOf('provider', provider, [...providerNames, 'auto']);
    return new DmaDevice(openProvider(device, name), device);
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
   * Allocates zeroed memory that the device reaches, in whole pages. A system call or two, and more for memory in
   * several pieces.
   *
   * @param byteLength - at least 1; at most what an ArrayBuffer can have (4 GiB on Node 20)
   * @throws EOPNOTSUPP for a memory type, zone or address that cannot be had here: the message says why, and what to use
   *   instead; ENOMEM if the machine has no such memory left; ENOSPC if the device has a pool of its own, and it is full;
   *   EDQUOT over a limit of the module; ERR_OUT_OF_RANGE, ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  alloc(byteLength: number, options?: AllocOptions): DmaBuffer {
    const provider = this.#open();
    checkInteger('byteLength', byteLength, 1, MAX_BYTE_LENGTH);
    const { fallback, checked, ...request } = checkAllocOptions(byteLength, options, provider);
    const provided = allocate(provider, byteLength, request, fallback);
    const memory = checked ? { ...provided, ownership: new Ownership(provided.mapping) } : provided;
    const onFree = this.#own(provided.mapping, provided.free);
    return new DmaBuffer(memory, request.memory, this.info.pageSize, onFree);
  }

  /**
   * Lets the device reach memory that the program has already: a Buffer, a typed array or a DataView, over an ArrayBuffer of
   * fixed length, a SharedArrayBuffer, shared memory or a mapped file. Its pages are pinned where they are and mapped; it
   * begins in the device's turn.
   *
   * Costs a few system calls and the pinning of each page: map once what is used often.
   *
   * @param view - at least 1 byte, anywhere in a page; for a device that writes and does not snoop (`info.coherent`),
   *   memory that begins and ends on a multiple of `info.cacheLine`
   * @param direction - who writes
   * @throws ENOMEM over RLIMIT_MEMLOCK, without CAP_IPC_LOCK, or if the machine has no memory left; EDQUOT over
   *   `info.limits.fileMappings`, or while buffers, with what processes that have gone left mapped, are over
   *   `info.limits.totalBytes`; ENOSPC if the bounce buffers that this device needs are full; EFAULT for memory that
   *   cannot be pinned, or that the device must not write: memory of a device, read-only memory, pages of a file on a
   *   disk; EBUSY if it overlaps what this device has mapped and one of the two is written by it, or is memory of a
   *   buffer of this device; EINVAL over a resizable ArrayBuffer, or where it shares a cache line as said; EOPNOTSUPP
   *   for more than `maxSegments`, where this machine cannot map the memory for the device, and with memfd;
   *   ERR_OUT_OF_RANGE for an empty or detached view; ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   * @example
   * using mapping = device.mapUser(Buffer.from('hello'), 'toDevice');
   * registers.writeAddress(0x80, mapping.dmaAddress);
   */
  mapUser<View extends ArrayBufferView>(
    view: View,
    direction: Direction,
    options?: MapUserOptions,
  ): UserMapping<View> {
    const reachable = mapView(this.#open(), view, direction, options);
    return new UserMapping(view, direction, reachable, (mapping) => this.#own(mapping, reachable.free));
  }

  /**
   * Lets the device reach the memory of a dma-buf: one that another driver, process or device exported.
   *
   * @param fd - may be closed afterwards
   * @throws EBADF if it is not open; EINVAL if it is no dma-buf; EACCES if it is read-only and the direction is not
   *   `'toDevice'`; EDQUOT over a limit of the module, of which it takes a page; the errors of the driver that exported it;
   *   EOPNOTSUPP where the device cannot reach it, with memfd, and where the kernel has no dma-buf;
   *   ERR_OUT_OF_RANGE, ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  importDmaBuf(fd: number, options?: ImportOptions): ImportedBuffer {
    const provider = this.#open();
    checkDescriptor(fd);
    const { direction = 'bidirectional' } = checkOptions(options, ['direction']);
    checkOneOf('direction', direction, directions);
    const provided = provider.importDmaBuf(fd, direction);
    return new ImportedBuffer(provided, direction, this.#own(provided.content, provided.free));
  }

  /**
   * A pool of small blocks: many to a page, each with its own bus address.
   *
   * @param size - bytes of a block, at least 1; rounded up to whole `align`
   * @throws ERR_OUT_OF_RANGE, ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  pool(size: number, options?: PoolOptions): DmaPool {
    const { pageSize } = this.#open().info;
    return new DmaPool(size, options, {
      pageSize,
      checkOpen: () => this.#open(),
      alloc: (byteLength, align) => this.alloc(byteLength, align > pageSize ? { align } : undefined),
    });
  }

  /** The reserved arenas of this machine: the same ones for each device; none without. */
  get arenas(): readonly ReservedArena[] {
    const provider = this.#open();
    this.#arenas ??= Object.freeze(
      provider.arenas().map((arena) => new ReservedArena(arena, this.#target, this.openWindow.bind(this))),
    );
    return this.#arenas;
  }

  /**
   * Lets this device reach an arena, and tells where it sees it. May be called again. Of an {@link Arena} the blocks have a
   * `dmaAddress` from here on, and alignment and boundary of those to come are of the first device's addresses.
   *
   * @param arena - a reserved arena of this device, or of another one; or an arena of blocks over one
   * @throws EOPNOTSUPP if the device cannot reach all of it, or this kernel cannot map it for the device's IOMMU; for an arena
   *   of blocks over shared memory, which has no bus address (`mapUser(block.bytes)`), or over a buffer, which has its own;
   *   ERR_INVALID_STATE for an arena that was closed
   */
  attachArena(arena: ReservedArena | Attachable): ArenaAttachment {
    const provider = this.#open();
    const make = (reserved: ReservedArena): ArenaAttachment =>
      new ArenaAttachment(reserved, provider.attachArena(reserved.index), () => this.#open());
    if (arena instanceof ReservedArena) {
      return make(arena);
    }
    if (typeof arena !== 'object' || arena === null || !(attach in arena)) {
      throw wrongType('arena', 'an Arena, or one of the arenas of a device', arena);
    }
    return arena[attach](make);
  }

  /**
   * The file that keeps the books of an arena: a descriptor, the caller's.
   *
   * @internal
   */
  arenaBooks(arena: ReservedArena): number {
    return this.#open().arenaBooks(arena.index);
  }

  /**
   * Opens a window on physical memory: {@link mmapIospace}.
   *
   * @internal
   */
  openWindow(memory: WindowType, physicalAddress: bigint, byteLength: number): IospaceMapping {
    const provided = this.#open().window(memory, physicalAddress, byteLength);
    const onUnmap = this.#own(provided.content, provided.free);
    return new IospaceMapping(provided, memory, physicalAddress, byteLength, onUnmap);
  }

  /** Takes something given into account; what is returned is called once it was released. */
  #own(given: Releasable, free: () => void): () => void {
    const reference = new WeakRef(given);
    this.#given.add(reference);
    return () => {
      this.#given.delete(reference);
      // Of a closed device, whose descriptor may be another file by now, the kernel's side is gone.
      if (!this.#closed) {
        free();
      }
    };
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
    let window = this.#registers.get(number);
    if (window === undefined) {
      window = provider.registers(number);
      this.#registers.set(number, window);
    }
    return window;
  }

  /**
   * Waits for an interrupt. Resolves at once if one came since the last event of this vector, so none between two calls
   * is lost; all who wait are told. A level-triggered line, masked when it fired, is enabled by the next wait.
   *
   * Else it sleeps, in the event loop, which costs some microseconds; {@link InterruptOptions.spin} saves them where the
   * interrupt comes soon. Where interrupts come faster than they are handled, the event loop has its turn every millisecond.
   *
   * @throws ETIMEDOUT; an AbortError (ABORT_ERR) whose `cause` is the signal's reason; ECANCELED if the device was
   *   closed while waiting; ENODEV once it is gone; ENOENT for an unknown vector; EOPNOTSUPP without interrupts
   * @example
   * const { missed } = await device.waitForInterrupt({ timeout: 1000 });
   * @example
   * registers.write32(0x98, START); // done in some 20 µs
   * await device.waitForInterrupt({ timeout: 1000, spin: 50 });
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
   * Ends all waits, registers, buffers, mappings and windows, and closes the device. A second call does nothing.
   *
   * What the device wrote into memory that was neither unmapped nor synced before may be lost. Memory that was not freed
   * before is given to nobody while another process has the device open: nobody said that the
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
      for (const window of this.#registers.values()) {
        window.release();
      }
      for (const reference of this.#given) {
        reference.deref()?.release();
      }
      this.#given.clear();
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
