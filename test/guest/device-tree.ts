/**
 * A device-tree node `compatible = "iospace,device"`: the clock of QEMU's `virt` (an Arm PL031), which the machine's
 * device tree gives to iospace. It has registers of one page, a clock of its own, and a level-triggered interrupt.
 * `test/guest.test.ts` makes that device tree.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DmaDevice, listDevices } from 'iospace';

// Arm PrimeCell Real Time Clock (PL031), technical reference manual, chapter 3.
const SECONDS = 0x00;
const MATCH = 0x04;
const INTERRUPT_ENABLE = 0x10;
const INTERRUPT_CLEAR = 0x1c;
const PERIPHERAL_ID = 0xfe0;

const info = listDevices().find(({ bus }) => bus === 'platform');
assert(info !== undefined, 'the node is bound');

test('its registers answer', () => {
  using device = DmaDevice.open(info.name);
  const registers = device.registers(0);
  assert.equal(registers.byteLength, 0x1000);
  assert.deepEqual([registers.read32(PERIPHERAL_ID), registers.read32(PERIPHERAL_ID + 4)], [0x31, 0x10]);
  assert(registers.flags.mapped);
});

test('its interrupt, level-triggered, comes as often as it is asked for', async () => {
  using device = DmaDevice.open(info.name);
  const registers = device.registers(0);
  for (let round = 1n; round <= 3n; round++) {
    registers.write32(MATCH, registers.read32(SECONDS) + 1);
    registers.write32(INTERRUPT_ENABLE, 1);
    const event = await device.waitForInterrupt({ timeout: 10_000 });
    registers.write32(INTERRUPT_CLEAR, 1);
    assert.deepEqual(event, { count: round, missed: 0n, vector: 0 });
  }
});

test('it has memory', () => {
  using device = DmaDevice.open(info.name);
  using buffer = device.alloc(4096);
  assert.equal(buffer.segments.length, 1);
});
