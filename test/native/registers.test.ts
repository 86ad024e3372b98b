/** Registers over a memfd: its first page stands in for the status page, its second for the window. */
import { afterEach, describe, expect, test } from 'vitest';
import type { NativeMapping, NativeRegisters, NativeRegistersInfo } from '../../lib/binding.js';
import { MAP_SHARED, memfd, native, PROT_READ, PROT_WRITE } from './support.js';

const page = native.pageSize;

interface Bench {
  registers: NativeRegisters;
  window: DataView;
  status: Uint32Array;
}

const mappings: NativeMapping[] = [];

afterEach(() => {
  for (const mapping of mappings.splice(0)) mapping.release(true);
});

function open(info: Partial<NativeRegistersInfo> = {}): Bench {
  const fd = memfd(3 * page);
  const mapping = native.mmap(fd, 3 * page, PROT_READ | PROT_WRITE, MAP_SHARED, 0n);
  mappings.push(mapping);
  const memory = mapping.buffer();
  const whole = { flags: 1, byteLength: page, mmapOffset: BigInt(page), pageOffset: 0, name: '', ...info };
  const registers = new native.Registers(fd, 0, whole);
  native.close(fd);
  return {
    registers,
    window: new DataView(memory, page + whole.pageOffset),
    status: new Uint32Array(memory, 0, 2),
  };
}

const littleEndian = true;

describe('registers', () => {
  test('are read in their width', () => {
    const { registers, window } = open();
    window.setBigUint64(8, 0x8182_8384_8586_8788n, littleEndian);
    expect(registers.read8(8)).toBe(0x88);
    expect(registers.read8(15)).toBe(0x81);
    expect(registers.read16(10)).toBe(0x8586);
    expect(registers.read32(12)).toBe(0x8182_8384);
    expect(registers.read64(8)).toBe(0x8182_8384_8586_8788n);
  });

  test('are read and written by functions that need no receiver, and end with their object', () => {
    const { registers } = open();
    const { read32, write32 } = registers;
    write32(4, 7);
    expect(read32(4)).toBe(7);
    registers.close();
    expect(() => read32(4)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_STATE' }));
    expect(() => write32(4, 7)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_STATE' }));
  });

  test('are written in their width, and nothing beside them', () => {
    const { registers, window } = open();
    registers.write8(1, 0xff);
    expect(window.getBigUint64(0, littleEndian)).toBe(0xff00n);
    registers.write16(2, 0xffff);
    expect(window.getBigUint64(0, littleEndian)).toBe(0xffff_ff00n);
    registers.write32(4, 0xffff_ffff);
    expect(window.getBigUint64(0, littleEndian)).toBe(0xffff_ffff_ffff_ff00n);
    registers.write64(0, 0x8000_0000_0000_0001n);
    expect(window.getBigUint64(0, littleEndian)).toBe(0x8000_0000_0000_0001n);
    expect(window.getBigUint64(8, littleEndian)).toBe(0n);
  });

  test('begin where the window does in its first page, and end where it does', () => {
    const { registers, window } = open({ pageOffset: 0x40, byteLength: page });
    registers.write32(page - 4, 0x1234_5678);
    expect(window.getUint32(page - 4, littleEndian)).toBe(0x1234_5678);
    expect(() => registers.read32(page)).toThrow(RangeError);
  });

  test.each([
    ['past the end', () => open().registers.read8(page)],
    ['across the end', () => open({ byteLength: 6 }).registers.read32(4)],
    ['in a window smaller than the access', () => open({ byteLength: 2 }).registers.read32(0)],
    ['far away', () => open().registers.write32(2 ** 52, 0)],
    ['before the beginning', () => open().registers.read32(-4)],
    ['misaligned', () => open().registers.read32(2)],
    ['misaligned by a byte', () => open().registers.write64(1, 0n)],
    ['between two bytes', () => open().registers.read8(0.5)],
    ['nowhere', () => open().registers.read8(Number.NaN)],
    ['of a value below', () => open().registers.write8(0, -1)],
    ['of a value above', () => open().registers.write8(0, 256)],
    ['of a value above', () => open().registers.write16(0, 65536)],
    ['of a value above', () => open().registers.write32(0, 2 ** 32)],
    ['of a value above', () => open().registers.write64(0, 2n ** 64n)],
    ['of a value below', () => open().registers.write64(0, -1n)],
    ['of a fraction', () => open().registers.write32(0, 1.5)],
  ])('refuse an access %s', (_name, access) => {
    expect(access).toThrow(expect.objectContaining({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }));
  });

  test.each([
    ['read32', (r: NativeRegisters) => r.read32(0)],
    ['read64', (r: NativeRegisters) => r.read64(0)],
    ['write8', (r: NativeRegisters) => r.write8(0, 1)],
    ['write64', (r: NativeRegisters) => r.write64(0, 1n)],
  ])('throw ENODEV from %s once the device is gone', (syscall, access) => {
    const { registers, status } = open();
    access(registers);
    status[0] = 1;
    expect(() => access(registers)).toThrow(
      expect.objectContaining({ code: 'ENODEV', syscall, errno: expect.any(Number) }),
    );
  });

  test('that cannot be mapped are reached by an ioctl', () => {
    const { registers } = open({ mmapOffset: 0n });
    // A memfd has no such call.
    const failure = expect.objectContaining({ code: 'ENOTTY', syscall: 'ioctl', request: 0xd504 });
    expect(() => registers.read32(0)).toThrow(failure);
    expect(() => registers.write32(0, 1)).toThrow(failure);
  });

  test.each([[BigInt(page)], [0n]])('close twice, and are of no use then (mmap offset %i)', (mmapOffset) => {
    const { registers } = open({ mmapOffset });
    registers.close();
    registers.close();
    const closed = expect.objectContaining({ code: 'ERR_INVALID_STATE' });
    expect(() => registers.read32(0)).toThrow(closed);
    expect(() => registers.write64(0, 0n)).toThrow(closed);
  });

  test('outlive the descriptor they were made from', () => {
    const { registers } = open({ mmapOffset: 0n });
    // Its number may be another file's by now.
    const other = native.eventfd(0, 0);
    expect(() => registers.read32(0)).toThrow(expect.objectContaining({ code: 'ENOTTY' }));
    native.close(other);
  });
});
