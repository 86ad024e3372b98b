/** Buffers as dma-bufs, for other devices, drivers and processes; and theirs for this device. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { release } from 'node:os';
import { test } from 'node:test';
import { DmaDevice, type ExportOptions, type SystemError } from 'iospace';
import * as raw from 'iospace/raw';
import { fds } from 'iospace/shm';
import { eventually, kill, start } from './children.js';
import { beginCpuAccess, endCpuAccess, heapDmaBuf } from './dma-buf.js';
import { counters, deviceMemory, findEdu, gather, NOTHING, openEdu, pieces, SOON, scatter } from './edu.js';
import { randomFrom, seed } from './random.js';
import { bounces, isFilledWith, pageSize } from './witness.js';

const { PROT_READ, PROT_WRITE, MAP_SHARED } = raw.constants;

const info = findEdu();
const { bytes: randomBytes } = randomFrom(seed);
const LENGTH = 4 * pageSize;
const PIECE = 1000;

/** The CPU's view of a dma-buf. */
const mapped = (fd: number, byteLength = LENGTH, protection = PROT_READ | PROT_WRITE): raw.Mapping =>
  raw.mmap(fd, byteLength, protection, MAP_SHARED);

/** What a buffer of a device is to others: a descriptor, which is closed at the end. */
function exported(device: DmaDevice, options?: ExportOptions) {
  const buffer = device.alloc(LENGTH, { memory: 'cached' });
  const fd = buffer.exportDmaBuf(options);
  return { buffer, fd, [Symbol.dispose]: () => closeSync(fd) };
}

test('the device reads and writes what a process sees by the descriptor', async () => {
  using device = openEdu();
  using dmaBuf = exported(device);
  using view = mapped(dmaBuf.fd);
  const { segments } = dmaBuf.buffer;
  const data = randomBytes(PIECE);

  beginCpuAccess(dmaBuf.fd);
  view.bytes.fill(0xee);
  view.bytes.set(data, 100);
  endCpuAccess(dmaBuf.fd);
  dmaBuf.buffer.syncForDevice();
  await gather(device, pieces(segments, 100, PIECE));
  assert.deepEqual(new Uint8Array(await deviceMemory(device, PIECE)), data);
  await scatter(device, pieces(segments, 2 * pageSize, PIECE));

  // Where it bounces, what the device wrote is not here before the CPU's turn.
  const written = view.bytes.subarray(2 * pageSize, 2 * pageSize + PIECE);
  assert.equal(isFilledWith(written, 0xee), bounces);
  dmaBuf.buffer.syncForCpu();
  beginCpuAccess(dmaBuf.fd);
  assert.deepEqual(new Uint8Array(written), data);
  endCpuAccess(dmaBuf.fd);
});

test("another device's buffer, in place", async () => {
  using other = DmaDevice.open('iospace0');
  using device = openEdu();
  using dmaBuf = exported(other);
  using imported = device.importDmaBuf(dmaBuf.fd);
  const { segments } = imported;
  assert.equal(
    segments.reduce((sum, { length }) => sum + length, 0),
    LENGTH,
  );
  assert.equal(imported.byteLength, LENGTH);
  dmaBuf.buffer.bytes.fill(0x11);
  imported.syncForDevice();
  const data = randomBytes(PIECE);
  imported.bytes.set(data);
  await gather(device, pieces(segments, 0, PIECE));
  const stale = await deviceMemory(device, PIECE);
  assert.equal(isFilledWith(stale, 0x11), bounces);
  imported.syncForDevice();
  await gather(device, pieces(segments, 0, PIECE));
  assert.deepEqual(new Uint8Array(await deviceMemory(device, PIECE)), data);
  await scatter(device, pieces(segments, 2 * pageSize, PIECE));
  imported.syncForCpu();
  assert.deepEqual(new Uint8Array(dmaBuf.buffer.bytes.subarray(2 * pageSize, 2 * pageSize + PIECE)), data);
  assert.ok(isFilledWith(dmaBuf.buffer.bytes.subarray(2 * pageSize + PIECE), 0x11));
});

test("memory of another driver: the kernel's heap", async (context) => {
  // DMABUF_DEBUG makes an attached table unreadable, and the heap's own begin_cpu_access reads it.
  if (release().endsWith('-debug')) {
    context.skip("this kernel's checks of dma-bufs make its own heap crash");
    return;
  }
  const fd = heapDmaBuf(LENGTH);
  if (fd === undefined) {
    context.skip('this kernel has no dma-heap');
    return;
  }
  using device = openEdu();
  using imported = device.importDmaBuf(fd);
  closeSync(fd);
  const data = randomBytes(PIECE);
  imported.syncForCpu();
  imported.bytes.set(data, pageSize);
  imported.syncForDevice();
  await gather(device, pieces(imported.segments, pageSize, PIECE));
  await scatter(device, pieces(imported.segments, 0, PIECE));
  imported.syncForCpu();
  assert.deepEqual(new Uint8Array(imported.read(0, PIECE)), data);
});

test('a part of a buffer', async () => {
  using device = openEdu();
  using dmaBuf = exported(device, { offset: pageSize, length: 2 * pageSize });
  dmaBuf.buffer.bytes.forEach((_, index, bytes) => {
    bytes[index] = 1 + Math.floor(index / pageSize);
  });
  using view = mapped(dmaBuf.fd, 2 * pageSize);
  assert.ok(isFilledWith(view.bytes.subarray(0, pageSize), 2));
  assert.ok(isFilledWith(view.bytes.subarray(pageSize), 3));
  assert.throws(() => mapped(dmaBuf.fd, 3 * pageSize), { code: 'EINVAL' });
  using other = DmaDevice.open('iospace0');
  using imported = other.importDmaBuf(dmaBuf.fd);
  assert.equal(imported.byteLength, 2 * pageSize);
  assert.ok(isFilledWith(imported.bytes.subarray(0, pageSize), 2));
  for (const range of [{ offset: 1 }, { offset: LENGTH }, { length: LENGTH + 1 }, { length: 0 }]) {
    assert.throws(() => dmaBuf.buffer.exportDmaBuf(range), { code: 'ERR_OUT_OF_RANGE' });
  }
});

test('one that is read-only is written by nobody', () => {
  using device = openEdu();
  using dmaBuf = exported(device, { readOnly: true });
  dmaBuf.buffer.bytes.fill(0x33);
  assert.throws(() => mapped(dmaBuf.fd), { code: 'EACCES' });
  using view = mapped(dmaBuf.fd, LENGTH, PROT_READ);
  assert.ok(isFilledWith(view.bytes, 0x33));
  assert.throws(() => raw.mprotect(view, PROT_READ | PROT_WRITE), { code: 'EACCES' });
  using other = DmaDevice.open('iospace0');
  for (const direction of ['fromDevice', 'bidirectional'] as const) {
    assert.throws(() => other.importDmaBuf(dmaBuf.fd, { direction }), {
      code: 'EACCES',
      message: /toDevice/,
    });
  }
  using imported = other.importDmaBuf(dmaBuf.fd, { direction: 'toDevice' });
  assert.throws(() => imported.bytes, { code: 'EACCES' });
  assert.ok(isFilledWith(imported.read(), 0x33));
});

test('back on its own device it is where it was', () => {
  using device = openEdu();
  using dmaBuf = exported(device);
  using imported = device.importDmaBuf(dmaBuf.fd);
  assert.deepEqual(imported.segments, dmaBuf.buffer.segments);
  using part = exported(device, { offset: pageSize, length: pageSize });
  using importedPart = device.importDmaBuf(part.fd);
  const [expected] = pieces(part.buffer.segments, pageSize, pageSize);
  assert.deepEqual(importedPart.segments, [expected]);
});

test('what is no dma-buf, and what is none that can be exported', () => {
  using device = openEdu();
  const file = openSync('/proc/self/exe', 'r');
  assert.throws(() => device.importDmaBuf(file), { code: 'EINVAL', message: /no dma-buf/ });
  closeSync(file);
  assert.throws(() => device.importDmaBuf(file), { code: 'EBADF' });
  for (const memory of info.memoryTypes.filter((type) => type !== 'cached')) {
    using buffer = device.alloc(LENGTH, { memory });
    assert.throws(() => buffer.exportDmaBuf(), { code: 'EOPNOTSUPP', message: /cached/ });
  }
  using freed = device.alloc(LENGTH, { memory: 'cached' });
  freed.free();
  assert.throws(() => freed.exportDmaBuf(), { code: 'ERR_INVALID_STATE' });
});

test('the descriptor outlives the buffer and the open device, which stay charged so long', async () => {
  const device = openEdu();
  const { buffer, fd } = exported(device);
  buffer.bytes.fill(0x44);
  buffer.syncForDevice();
  buffer.free();
  assert.equal(counters(info.name).buffer_bytes, LENGTH);
  using view = mapped(fd);
  assert.ok(isFilledWith(view.bytes, 0x44));
  device.close();
  using other = DmaDevice.open('iospace0');
  using imported = other.importDmaBuf(fd);
  beginCpuAccess(fd);
  view.bytes.fill(0x55);
  endCpuAccess(fd);
  closeSync(fd);
  imported.syncForCpu();
  assert.ok(isFilledWith(imported.bytes, 0x55));
  assert.equal(counters(info.name).buffer_bytes, LENGTH);
  view.release();
  assert.equal(counters(info.name).buffer_bytes, LENGTH);
  imported.release();
  assert.ok(await eventually(() => counters(info.name).buffer_bytes === 0));
  assert.deepEqual(counters(info.name), NOTHING);
});

test('another process sees the buffer and writes it, and has it when the exporter is gone', async () => {
  const path = `/tmp/exporter-${process.pid}`;
  const [[fd = -1], { child, said }] = await Promise.all([
    fds.receive(path, { timeout: 6 * SOON }),
    start('exporter.js', [info.name, LENGTH, path]),
  ]);
  assert.equal(said, 'sent');
  {
    using view = mapped(fd);
    assert.ok(isFilledWith(view.bytes, 0x5a));
    beginCpuAccess(fd);
    view.bytes.fill(0x77);
    endCpuAccess(fd);
    child.send('look');
    assert.deepEqual(await once(child, 'message').then(([byte]) => byte), 0x77);
    await kill(child);
    assert.ok(await eventually(() => counters(info.name).open_files === 0));
    assert.ok(isFilledWith(view.bytes, 0x77));
    assert.equal(counters(info.name).buffer_bytes, LENGTH);
    using device = openEdu();
    using imported = device.importDmaBuf(fd);
    await gather(device, pieces(imported.segments, 0, 64));
    assert.ok(isFilledWith(await deviceMemory(device, 64), 0x77));
  }
  closeSync(fd);
  assert.ok(await eventually(() => JSON.stringify(counters(info.name)) === JSON.stringify(NOTHING)));
});

test('an import ends when it is released, or its device closed', () => {
  using other = DmaDevice.open('iospace0');
  using dmaBuf = exported(other);
  const device = openEdu();
  const first = device.importDmaBuf(dmaBuf.fd);
  const { bytes } = first;
  first.release();
  first.release();
  assert.equal(bytes.length, 0);
  const second = device.importDmaBuf(dmaBuf.fd);
  device.close();
  for (const imported of [first, second]) {
    for (const use of [() => imported.bytes, () => imported.segments, () => imported.syncForCpu()]) {
      assert.throws(use, (error: SystemError) => error.code === 'ERR_INVALID_STATE');
    }
  }
});
