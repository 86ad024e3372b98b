/** Data through the device: what it read is what we wrote, what it wrote is what we read. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync, readFileSync, readSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { DmaBuffer, DmaDevice, MemoryType } from 'iospace';
import { DEVICE_MEMORY_LENGTH, findEdu, fromDevice, openEdu, toDevice } from './edu.js';
import { bounces, isFilledWith, pageSize } from './witness.js';

/** What is copied at once: less than the device's own memory, and a part of every page. */
const PIECE = 2048;
const LENGTH = 8 * pageSize + 100;

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

/** A buffer in several segments. Coherent memory is in one, always. */
function scattered(device: DmaDevice, memory: MemoryType): DmaBuffer {
  if (memory === 'coherent') {
    return device.alloc(LENGTH);
  }
  // Memory that is kept for reuse is given out again piece by piece.
  const pages = Array.from({ length: 16 }, () => device.alloc(pageSize, { memory }));
  for (const [index, page] of pages.entries()) {
    if (index % 2 === 0) {
      page.free();
    }
  }
  const buffer = device.alloc(LENGTH, { memory, boundary: 4 * pageSize });
  assert.ok(buffer.segments.length > 1, memory);
  return buffer;
}

/** What a program tells the device of a buffer. */
function* piecesOf({ segments }: DmaBuffer): Generator<{ dmaAddress: bigint; length: number }> {
  for (const { dmaAddress, length } of segments) {
    for (let offset = 0; offset < length; offset += PIECE) {
      yield { dmaAddress: dmaAddress + BigInt(offset), length: Math.min(PIECE, length - offset) };
    }
  }
}

for (const memory of findEdu().memoryTypes) {
  test(`${memory} memory: out of it and into it, segment by segment`, async () => {
    using device = openEdu();
    const [source, target] = [scattered(device, memory), scattered(device, memory)];
    const data = randomBytes(LENGTH);
    source.bytes.set(data);
    target.bytes.fill(0xee);
    source.syncForDevice();
    target.syncForDevice();
    const into = [...piecesOf(target)];
    for (const [index, { dmaAddress, length }] of [...piecesOf(source)].entries()) {
      await toDevice(device, dmaAddress, length);
      const { dmaAddress: there = 0n, length: room } = into[index] ?? {};
      assert.equal(room, length);
      await fromDevice(device, there, length);
    }

    // Where it bounces, what the device wrote is here once its turn was ended, and not before.
    const isElsewhere = bounces && memory === 'cached';
    assert.equal(isFilledWith(target.bytes, 0xee), isElsewhere);
    target.syncForCpu(pageSize, pageSize);
    assert.ok(data.subarray(pageSize, 2 * pageSize).equals(target.bytes.subarray(pageSize, 2 * pageSize)));
    assert.equal(isFilledWith(target.bytes.subarray(2 * pageSize), 0xee), isElsewhere);
    target.syncForCpu();
    assert.ok(data.equals(target.bytes));
  });
}

test('a file, read past the page cache into cached memory, goes to the device', async () => {
  using device = openEdu();
  using source = device.alloc(2 * pageSize, { memory: 'cached' });
  using target = device.alloc(PIECE);
  const file = fileURLToPath(import.meta.url);
  const fd = openSync(file, constants.O_RDONLY | constants.O_DIRECT);
  try {
    assert.ok(readSync(fd, source.bytes, 0, pageSize, 0) >= PIECE);
  } finally {
    closeSync(fd);
  }
  source.syncForDevice();
  const [{ dmaAddress = 0n } = {}] = source.segments;
  await toDevice(device, dmaAddress, PIECE);
  await fromDevice(device, target.dmaAddress, PIECE);
  target.syncForCpu();
  assert.ok(readFileSync(file).subarray(0, PIECE).equals(target.bytes));
});
