/** Buffers of the real module: their memory, their addresses, their accounts; and cached ones as the kernel's own. */
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { test } from 'node:test';
import { DmaDevice, listDevices } from 'iospace';
import * as raw from 'iospace/raw';
import { counters, findEdu, NOTHING } from './edu.js';
import { scratch, untouched } from './user-memory.js';
import { pageSize } from './witness.js';

const { name } = findEdu();
const MIB = 1 << 20;

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

test('a file past the page cache, out of cached memory and into it', {
  skip: scratch === undefined ? 'this machine has no disk: test/guest.test.ts gives it one' : false,
}, async () => {
  using device = DmaDevice.open(name);
  using source = device.alloc(MIB, { memory: 'cached' });
  using target = device.alloc(MIB, { memory: 'cached' });
  randomFillSync(source.bytes);
  const path = `${scratch}/direct-${process.pid}`;
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT);
  try {
    assert.equal(writeSync(fd, source.bytes), MIB);
    assert.ok(readFileSync(path).equals(source.bytes));
    assert.equal(readSync(fd, target.bytes, 0, MIB, 0), MIB);
    assert.ok(Buffer.from(target.bytes).equals(source.bytes));
  } finally {
    closeSync(fd);
    unlinkSync(path);
  }
});

test('fs.read into cached memory, from a thread of the pool', async () => {
  using device = DmaDevice.open(name);
  using target = device.alloc(MIB, { memory: 'cached' });
  await using file = await open(process.execPath);
  const { bytesRead } = await file.read(target.bytes, pageSize, MIB - pageSize, 0);
  assert.equal(bytesRead, MIB - pageSize);
  const expected = Buffer.alloc(MIB);
  await file.read(expected, pageSize, MIB - pageSize, 0);
  assert.ok(expected.equals(target.bytes));
});

test('a socket sends cached memory and receives into it', async () => {
  using device = DmaDevice.open(name);
  using source = device.alloc(MIB, { memory: 'cached' });
  // With room for the last read, which finds the end.
  using target = device.alloc(MIB + 1, { memory: 'cached' });
  randomFillSync(source.bytes);
  const path = `/tmp/socket-${process.pid}`;
  const server = createServer((socket) => socket.end(source.bytes)).listen(path);
  try {
    await once(server, 'listening');
    let received = 0;
    const socket = connect({
      path,
      onread: {
        buffer: () => target.bytes.subarray(received),
        callback: (count) => {
          received += count;
          return true;
        },
      },
    });
    await once(socket, 'close');
    assert.equal(received, MIB);
    assert.ok(Buffer.from(target.bytes.subarray(0, MIB)).equals(source.bytes));
  } finally {
    server.close();
  }
});

/** Reads and writes a byte of each page, and says how many page faults that took. */
function touch(bytes: Uint8Array): number {
  const before = process.resourceUsage().minorPageFault;
  for (let at = 0; at < bytes.length; at += pageSize) {
    bytes[at] = (bytes[at] ?? 0) + 1;
  }
  return process.resourceUsage().minorPageFault - before;
}

test('cached memory is there when it is touched: without page faults', () => {
  using device = DmaDevice.open(name);
  const byteLength = 32 * MIB;
  // Of memory that is not, each page is one.
  using memory = untouched(byteLength);
  raw.madvise(memory, raw.constants.MADV_NOHUGEPAGE);
  assert.ok(touch(memory.bytes) >= byteLength / pageSize);
  using buffer = device.alloc(byteLength, { memory: 'cached' });
  const { bytes } = buffer;
  const faults = touch(bytes);
  assert.ok(faults < 100, `${faults} page faults`);
});
