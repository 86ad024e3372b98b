/**
 * A window of a device's registers. Offsets, values and the window's end are checked by the addon, right before the
 * access.
 *
 * @module
 */
import { inspect } from 'node:util';
import type { NativeRegisters, NativeRegistersInfo } from '../binding.js';
import { checkInteger, checkUint64 } from '../check.js';
import { notSupported } from '../errors.js';
import * as uapi from './uapi.js';

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
  #released = false;

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
      mapped: (info.flags & uapi.IOSPACE_REGISTERS_MMAP) !== 0,
      port: (info.flags & uapi.IOSPACE_REGISTERS_PORT) !== 0,
      prefetchable: (info.flags & uapi.IOSPACE_REGISTERS_PREFETCHABLE) !== 0,
    };
  }

  read8(offset: number): number {
    return this.#native.read8(offset);
  }

  read16(offset: number): number {
    return this.#native.read16(offset);
  }

  read32(offset: number): number {
    return this.#native.read32(offset);
  }

  /** @throws EOPNOTSUPP on a 32-bit machine, and for I/O ports */
  read64(offset: number): bigint {
    this.#check64('read64');
    return this.#native.read64(offset);
  }

  write8(offset: number, value: number): void {
    this.#native.write8(offset, value);
  }

  write16(offset: number, value: number): void {
    this.#native.write16(offset, value);
  }

  write32(offset: number, value: number): void {
    this.#native.write32(offset, value);
  }

  /** @throws EOPNOTSUPP on a 32-bit machine, and for I/O ports */
  write64(offset: number, value: number | bigint): void {
    this.#check64('write64');
    this.#native.write64(offset, checkUint64('value', value));
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
    // Both halves or none.
    checkInteger('offset', offset, 0, this.byteLength - 8);
    this.write32(offset, Number(address & 0xffff_ffffn));
    this.write32(offset + 4, Number(address >> 32n));
  }

  /** @internal */
  get released(): boolean {
    return this.#released;
  }

  /**
   * Ends the window. Called when the device is closed.
   *
   * @internal
   */
  release(): void {
    this.#released = true;
    this.#native.close();
  }

  #check64(operation: string): void {
    if (!has64Bit || this.flags.port) {
      throw notSupported(operation, `${has64Bit ? 'I/O ports have' : 'this machine has'} no 64-bit access`);
    }
  }

  /** Shows what the window is. Reads no register. */
  [inspect.custom](): string {
    const name = this.name === '' ? '' : ` '${this.name}'`;
    return `Registers${name} { byteLength: 0x${this.byteLength.toString(16)}, released: ${this.#released} }`;
  }
}
