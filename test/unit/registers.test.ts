import { readSync } from 'node:fs';
import { inspect } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { binding } from '../../lib/binding.js';
import { Registers } from '../../lib/device/registers.js';
import { FakeDevice } from './fake-device.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

function window(byteLength = 0x100, flags = 1): { device: FakeDevice; registers: Registers } {
  const device = new FakeDevice({ windows: [{ name: 'control', byteLength, flags }] });
  const { native } = device;
  const info = native.deviceRegisters(7, 0);
  return { device, registers: new Registers(new native.Registers(7, 0, info), info) };
}

test('an access is one access of its width, and values are unsigned', () => {
  const { device, registers } = window();
  registers.write8(0, 0xff);
  registers.write16(2, 0xfffe);
  registers.write32(4, 0xfffffffd);
  registers.write64(8, 0xffff_ffff_ffff_fffcn);
  registers.write64(16, 5);
  expect([registers.read8(0), registers.read16(2), registers.read32(4)]).toEqual([0xff, 0xfffe, 0xfffffffd]);
  expect([registers.read64(8), registers.read64(16)]).toEqual([0xffff_ffff_ffff_fffcn, 5n]);
  expect(device.accesses).toEqual([
    'write8 0x0 0xff',
    'write16 0x2 0xfffe',
    'write32 0x4 0xfffffffd',
    'write64 0x8 0xfffffffffffffffc',
    'write64 0x10 0x5',
    'read8 0x0',
    'read16 0x2',
    'read32 0x4',
    'read64 0x8',
    'read64 0x10',
  ]);
});

test('an address is one store of 64 bits, where there are such', () => {
  const { device, registers } = window();
  registers.writeAddress(0x80, 0x1_2345_6789n);
  registers.writeAddress(0x88, 0x40000);
  expect(device.accesses).toEqual(['write64 0x80 0x123456789', 'write64 0x88 0x40000']);
});

test('an address for I/O ports is two, the lower half first', () => {
  const { device, registers } = window(0x100, 1 << 1);
  registers.writeAddress(0x84, 0x1_2345_6789n);
  expect(device.accesses).toEqual(['write32 0x84 0x23456789', 'write32 0x88 0x1']);
  expect(() => registers.writeAddress(0xfc, 1n)).toThrow(code('ERR_OUT_OF_RANGE'));
  expect(device.accesses).toHaveLength(2);
  expect(() => registers.read64(0)).toThrow(code('EOPNOTSUPP'));
  expect(() => registers.write64(0, 0n)).toThrow(code('EOPNOTSUPP'));
});

describe('refused by the addon before the device hears of it', () => {
  // The first page of a memfd stands in for the status page, its second for the window.
  const native = binding();
  const page = native.pageSize;
  const fd = native.memfdCreate('iospace-test', 0);
  native.ftruncate(fd, 2 * page);
  afterAll(() => native.close(fd));
  const info = { flags: 1, byteLength: 0x100, mmapOffset: BigInt(page), pageOffset: 0, name: '' };
  const registers = new Registers(new native.Registers(fd, 0, info), info);

  test.each([
    ['negative', -4],
    ['at the end', 0x100],
    ['across the end', 0xfe],
    ['far beyond', 2 ** 52],
    ['not an integer', 0.5],
    ['NaN', Number.NaN],
    ['misaligned', 2],
  ])('an offset that is %s', (_what, offset) => {
    expect(() => registers.read32(offset)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => registers.write32(offset, 1)).toThrow(code('ERR_OUT_OF_RANGE'));
  });

  test('an offset that is no number', () => {
    expect(() => registers.read32('0' as unknown as number)).toThrow(code('ERR_INVALID_ARG_TYPE'));
    expect(() => registers.read64(0n as unknown as number)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test('a value that is no number', () => {
    expect(() => registers.write32(0, '1' as unknown as number)).toThrow(code('ERR_INVALID_ARG_TYPE'));
    expect(() => registers.write8(0, 1n as unknown as number)).toThrow(code('ERR_INVALID_ARG_TYPE'));
    expect(() => registers.write64(0, '1' as unknown as bigint)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test('a misaligned offset, and the message says of what it must be a multiple', () => {
    expect(() => registers.read16(1)).toThrow('expected a multiple of 2 for offset, got 1');
    expect(() => registers.read64(4)).toThrow('expected a multiple of 8 for offset, got 4');
  });

  test.each([
    ['write8', 256],
    ['write8', -1],
    ['write16', 65536],
    ['write32', 2 ** 32],
    ['write32', 1.5],
    ['write64', -1n],
    ['write64', 1n << 64n],
    ['write64', 2 ** 53],
    ['writeAddress', -1n],
    ['writeAddress', 1n << 64n],
  ] as const)('%s of %d', (method, value) => {
    expect(() => registers[method](0, value as never)).toThrow(code('ERR_OUT_OF_RANGE'));
  });

  test('all of them', () => {
    const content = new Uint8Array(page);
    expect(readSync(fd, content, 0, page, page)).toBe(page);
    expect(content.every((byte) => byte === 0)).toBe(true);
  });

  test('and so is every access once the window was closed', () => {
    registers.release();
    expect(() => registers.read8(0)).toThrow(code('ERR_INVALID_STATE'));
    expect(() => registers.writeAddress(0, 1n)).toThrow(code('ERR_INVALID_STATE'));
    expect(inspect(registers)).toBe('Registers { byteLength: 0x100, released: true }');
  });
});

test('what the window is', () => {
  const { registers } = window(0x100, 1 | 4);
  expect(registers).toMatchObject({
    byteLength: 0x100,
    name: 'control',
    flags: { mapped: true, port: false, prefetchable: true },
  });
});

test('ENODEV once the device is gone', () => {
  const { device, registers } = window();
  device.unbind();
  expect(() => registers.read32(0)).toThrow(code('ENODEV'));
  expect(() => registers.write32(0, 0)).toThrow(code('ENODEV'));
});

test('inspecting reads no register', () => {
  const { device, registers } = window();
  expect(inspect(registers)).toBe("Registers 'control' { byteLength: 0x100, released: false }");
  expect(inspect({ registers }, { depth: 5, showHidden: true, getters: true })).toContain('0x100');
  expect(device.accesses).toEqual([]);
});
