/**
 * A window of a device's registers.
 *
 * @module
 */
import { inspect } from 'node:util';
import type { NativeRegisters, NativeRegistersInfo } from '../binding.js';
import { checkInteger, checkUint64 } from '../check.js';
import { invalidState, notSupported, outOfRange } from '../errors.js';

/** `enum iospace_registers_flags` of kernel-module/uapi/iospace.h. */
const FLAG_MMAP = 1 << 0;
const FLAG_PORT = 1 << 1;
const FLAG_PREFETCHABLE = 1 << 2;

/** What a window is. */
export interface RegistersFlags {
  /** Accessed in place; else each access is one system call, because its page holds somebody else's registers too. */
  readonly mapped: boolean;
  /** I/O ports rather than memory. */
  readonly port: boolean;
  /** Reading has no side effects. */
  readonly prefetchable: boolean;
}

/** Whether one instruction can move 64 bits. */
const has64Bit = !['arm', 'ia32', 'mips', 'mipsel'].includes(process.arch);

/**
 * The registers of a device: a BAR of a PCI function, or a `reg` entry of a platform device.
 *
 * Every access is one access of exactly its width. `write*` is ordered after all that the CPU wrote to memory before, so
 * a device that is told by a register finds its data; `read*` is ordered before all that follows. Values are
 * unsigned.
 *
 * All methods throw ERR_OUT_OF_RANGE for an offset outside of the window or not a multiple of the width, or a value that
 * does not fit; ENODEV once the device is gone; ERR_INVALID_STATE once it was closed. A window ends with its device.
 *
 * @example
 * const registers = device.registers(0);
 * registers.write32(0x98, 0x5);
 */
export class Registers {
  readonly #native: NativeRegisters;
  #closed = false;

  /** Bytes of the window. */
  readonly byteLength: number;
  /** Its entry of `reg-names`; empty without. */
  readonly name: string;
  readonly flags: RegistersFlags;

  /** @internal */
  constructor(native: NativeRegisters, info: NativeRegistersInfo) {
    this.#native = native;
    this.byteLength = info.byteLength;
    this.name = info.name;
    this.flags = {
      mapped: (info.flags & FLAG_MMAP) !== 0,
      port: (info.flags & FLAG_PORT) !== 0,
      prefetchable: (info.flags & FLAG_PREFETCHABLE) !== 0,
    };
  }

  read8(offset: number): number {
    return this.#at(offset, 1).read8(offset);
  }

  read16(offset: number): number {
    return this.#at(offset, 2).read16(offset);
  }

  read32(offset: number): number {
    return this.#at(offset, 4).read32(offset);
  }

  /** @throws EOPNOTSUPP on a 32-bit machine, and for I/O ports */
  read64(offset: number): bigint {
    return this.#at64(offset, 'read64').read64(offset);
  }

  write8(offset: number, value: number): void {
    this.#at(offset, 1).write8(offset, checkInteger('value', value, 0, 0xff));
  }

  write16(offset: number, value: number): void {
    this.#at(offset, 2).write16(offset, checkInteger('value', value, 0, 0xffff));
  }

  write32(offset: number, value: number): void {
    this.#at(offset, 4).write32(offset, checkInteger('value', value, 0, 0xffff_ffff));
  }

  /** @throws EOPNOTSUPP on a 32-bit machine, and for I/O ports */
  write64(offset: number, value: number | bigint): void {
    this.#at64(offset, 'write64').write64(offset, checkUint64('value', value));
  }

  /**
   * Tells the device a 64-bit address: one 64-bit store, or, on a 32-bit machine and for I/O ports, two of 32 bits, the
   * lower half first. For a device that wants it otherwise there is {@link Registers.write32}.
   *
   * @param offset - a multiple of 8, or of 4 where two stores are made
   * @param dmaAddress - what `dmaAddress` of a buffer of this device says
   */
  writeAddress(offset: number, dmaAddress: number | bigint): void {
    if (has64Bit && !this.flags.port) {
      this.write64(offset, dmaAddress);
      return;
    }
    const address = checkUint64('dmaAddress', dmaAddress);
    this.#at(offset, 4);
    this.#at(offset + 4, 4);
    this.write32(offset, Number(address & 0xffff_ffffn));
    this.write32(offset + 4, Number(address >> 32n));
  }

  /**
   * Ends the window. Called when the device is closed.
   *
   * @internal
   */
  close(): void {
    this.#closed = true;
    this.#native.close();
  }

  /** The native window, once an access of `width` bytes at `offset` is known to be inside. */
  #at(offset: number, width: number): NativeRegisters {
    if (this.#closed) {
      throw invalidState('the device is closed');
    }
    checkInteger('offset', offset, 0, this.byteLength - width);
    if (offset % width !== 0) {
      throw outOfRange('offset', `a multiple of ${width}`, offset);
    }
    return this.#native;
  }

  #at64(offset: number, operation: string): NativeRegisters {
    if (!has64Bit || this.flags.port) {
      throw notSupported(operation, `${has64Bit ? 'I/O ports have' : 'this machine has'} no 64-bit access`);
    }
    return this.#at(offset, 8);
  }

  /** Shows what the window is. Reads no register. */
  [inspect.custom](): string {
    const name = this.name === '' ? '' : ` '${this.name}'`;
    return `Registers${name} { byteLength: 0x${this.byteLength.toString(16)}, closed: ${this.#closed} }`;
  }
}
