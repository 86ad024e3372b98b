/** Data through the device: what it read is what we wrote, what it wrote is what we read. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { DEVICE_MEMORY_LENGTH, fromDevice, openEdu, toDevice } from './edu.js';

test('out and back, in many lengths', async () => {
  using device = openEdu();
  using source = device.alloc(DEVICE_MEMORY_LENGTH);
  using target = device.alloc(DEVICE_MEMORY_LENGTH);
  for (const length of [1, 2, 3, 4, 63, 64, 65, 511, 512, 4094, DEVICE_MEMORY_LENGTH]) {
    const data = randomBytes(length);
    source.bytes.set(data);
    target.bytes.fill(0);
    source.syncForDevice(0, length);
    await toDevice(device, source.dmaAddress, length);
    await fromDevice(device, target.dmaAddress, length);
    target.syncForCpu(0, length);
    assert.deepEqual(Buffer.from(target.bytes.subarray(0, length)), data);
    assert.ok(target.bytes.subarray(length).every((byte) => byte === 0));
  }
});

test('a slice is found by its own address', async () => {
  using device = openEdu();
  using buffer = device.alloc(3 * 4096);
  const [source, target] = [buffer.subarray(100, 612), buffer.subarray(2 * 4096 + 40, 2 * 4096 + 552)];
  const data = randomBytes(512);
  source.bytes.set(data);
  source.syncForDevice();
  await toDevice(device, source.dmaAddress, source.byteLength, 128);
  await fromDevice(device, target.dmaAddress, target.byteLength, 128);
  target.syncForCpu();
  assert.deepEqual(Buffer.from(target.bytes), data);
  // Nothing beside it was touched.
  assert.equal(
    buffer.bytes.reduce((count, byte) => count + (byte === 0 ? 0 : 1), 0),
    2 * data.reduce((count, byte) => count + (byte === 0 ? 0 : 1), 0),
  );
});

test('many buffers, each with its own data', async () => {
  using device = openEdu();
  using target = device.alloc(64);
  const sources = Array.from({ length: 32 }, () => {
    const data = randomBytes(64);
    const buffer = device.alloc(4096);
    buffer.bytes.set(data);
    return { buffer, data };
  });
  for (const { buffer, data } of sources) {
    buffer.syncForDevice(0, 64);
    await toDevice(device, buffer.dmaAddress, 64);
    await fromDevice(device, target.dmaAddress, 64);
    target.syncForCpu();
    assert.deepEqual(Buffer.from(target.bytes), data);
  }
});
