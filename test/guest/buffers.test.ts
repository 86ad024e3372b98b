/** Buffers of the real module: their memory, their addresses, their accounts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DmaDevice, listDevices } from 'iospace';
import { counters, findEdu, NOTHING } from './edu.js';
import { pageSize } from './witness.js';

const { name } = findEdu();

test('the devices are listed without being opened', () => {
  const [first] = listDevices();
  assert.equal(first?.name, 'iospace0');
  assert.equal(first?.bus, 'none');
  assert.deepEqual(counters(name), NOTHING);
});

test('what sysfs says and what the open device says is the same', () => {
  for (const listed of listDevices()) {
    using device = DmaDevice.open(listed.name);
    assert.deepEqual(device.info, listed);
  }
});

test('a device opens by its name, its path and its name on the bus', () => {
  const { device: busName } = findEdu();
  for (const target of [name, `/dev/${name}`, busName]) {
    using device = DmaDevice.open(target);
    assert.equal(device.info.device, busName);
    assert.equal(device.provider, 'iospace');
    assert.ok(device.fd > 2);
  }
});

test('a buffer is zeroed, writable, of the length asked for, and reachable', () => {
  using device = DmaDevice.open(name);
  for (const byteLength of [1, pageSize - 1, pageSize, pageSize + 1, 65536, 1 << 20]) {
    using buffer = device.alloc(byteLength);
    assert.equal(buffer.bytes.length, byteLength);
    assert.ok(buffer.bytes.every((byte) => byte === 0));
    buffer.bytes.fill(0x5a);
    assert.ok(buffer.bytes.every((byte) => byte === 0x5a));
    assert.deepEqual(buffer.memory, { requested: 'coherent', effective: 'coherent' });
    assert.deepEqual(buffer.segments, [{ dmaAddress: buffer.dmaAddress, length: byteLength }]);
    assert.ok(buffer.dmaAddress + BigInt(byteLength) - 1n <= device.info.dmaMask);
    assert.equal(buffer.dmaAddress % BigInt(pageSize), 0n);
    assert.equal(buffer.subarray(byteLength - 1).dmaAddress, buffer.dmaAddress + BigInt(byteLength - 1));
  }
  assert.equal(counters(name).buffers, 0);
});

test('live buffers do not overlap, for the CPU and for the device', () => {
  using device = DmaDevice.open(name);
  const buffers = Array.from({ length: 64 }, (_, n) => {
    const buffer = device.alloc(pageSize * (1 + (n % 3)));
    buffer.bytes.fill(n + 1);
    return buffer;
  });
  buffers.forEach((buffer, n) => {
    assert.ok(buffer.bytes.every((byte) => byte === n + 1));
  });
  const ranges = buffers
    .map(({ dmaAddress, byteLength }) => ({ begin: dmaAddress, end: dmaAddress + BigInt(byteLength) }))
    .sort((a, b) => (a.begin < b.begin ? -1 : 1));
  ranges.reduce((previous, next) => {
    assert.ok(previous.end <= next.begin);
    return next;
  });
});

test('the module counts what is held, by whole pages', () => {
  using device = DmaDevice.open(name);
  const [first, second] = [device.alloc(1), device.alloc(pageSize + 1)];
  assert.deepEqual(counters(name), { buffers: 2, buffer_bytes: 3 * pageSize, held_bytes: 0, open_files: 1 });
  first.free();
  assert.deepEqual(counters(name), { buffers: 1, buffer_bytes: 2 * pageSize, held_bytes: 0, open_files: 1 });
  second.free();
  device.close();
  assert.deepEqual(counters(name), NOTHING);
});

test('memory comes back zeroed after somebody else had it', () => {
  using device = DmaDevice.open(name);
  for (let round = 0; round < 100; round++) {
    using buffer = device.alloc(16384);
    assert.ok(buffer.bytes.every((byte) => byte === 0));
    buffer.bytes.fill(0xff);
  }
});

test('a thousand allocations in one synchronous loop need one', () => {
  using device = DmaDevice.open(name);
  for (let round = 0; round < 1000; round++) {
    const buffer = device.alloc(65536);
    buffer.bytes[0] = 1;
    buffer.free();
    assert.equal(counters(name).buffers, 0);
  }
});

test('what is synced lies inside of the buffer', () => {
  using device = DmaDevice.open(name);
  using buffer = device.alloc(4096);
  buffer.syncForDevice();
  buffer.syncForCpu(4095, 1);
  assert.throws(() => buffer.syncForDevice(4096, 1), { code: 'ERR_OUT_OF_RANGE' });
});
