/** Registers of a real device: exact widths, and values that the device itself computes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FACTORIAL, IDENTIFICATION, INVERSION, openEdu, STATUS } from './edu.js';

test('the device says who it is', () => {
  using device = openEdu();
  const registers = device.registers(0);
  assert.equal(registers.read32(IDENTIFICATION), 0x010000ed);
  assert.equal(registers.byteLength, 1 << 20);
  assert.deepEqual(registers.flags, { mapped: true, port: false, prefetchable: false });
});

test('the device inverts what it is given, unsigned', () => {
  using device = openEdu();
  const registers = device.registers();
  for (const value of [0, 1, 0x7fffffff, 0x80000000, 0xffffffff]) {
    registers.write32(INVERSION, value);
    assert.equal(registers.read32(INVERSION), ~value >>> 0);
  }
});

test('the device computes', () => {
  using device = openEdu();
  const registers = device.registers(0);
  registers.write32(STATUS, 0);
  registers.write32(FACTORIAL, 12);
  while ((registers.read32(STATUS) & 1) !== 0) {
    // It needs microseconds.
  }
  assert.equal(registers.read32(FACTORIAL), 479_001_600);
});

test('the same index gives the same window', () => {
  using device = openEdu();
  assert.equal(device.registers(0), device.registers(0));
});

test('what lies outside, or across, is refused', () => {
  using device = openEdu();
  const registers = device.registers(0);
  for (const offset of [-4, 1, 2, registers.byteLength, registers.byteLength - 2, 0.5, Number.NaN, 2 ** 53]) {
    assert.throws(() => registers.read32(offset), { code: 'ERR_OUT_OF_RANGE' });
    assert.throws(() => registers.write32(offset, 0), { code: 'ERR_OUT_OF_RANGE' });
  }
  assert.throws(() => registers.read16(3), { code: 'ERR_OUT_OF_RANGE' });
  assert.throws(() => registers.read64(4), { code: 'ERR_OUT_OF_RANGE' });
  assert.throws(() => registers.write8(0, 256), { code: 'ERR_OUT_OF_RANGE' });
});

test('a BAR that the function does not have is ENOENT', () => {
  using device = openEdu();
  for (const index of [1, 5, 6, 0xffffffff]) {
    assert.throws(() => device.registers(index), { code: 'ENOENT' });
  }
  assert.throws(() => device.registers('control'), { code: 'ENOENT' });
});

test('a window ends with its device', () => {
  const device = openEdu();
  const registers = device.registers(0);
  device.close();
  assert.throws(() => registers.read32(0), { code: 'ERR_INVALID_STATE' });
  assert.throws(() => registers.write32(INVERSION, 1), { code: 'ERR_INVALID_STATE' });
});
