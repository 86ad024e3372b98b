/**
 * Data through the device, out of memory that the program has anyway and into it: of every kind, at any offset, handed
 * over in any pieces. Where it bounces, also what happens where a sync is left out: the device has a copy, and only sync
 * makes the two the same. What bad input gets is in `user-mappings.test.ts`.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { type DmaDevice, type DmaSegment, listDevices } from 'iospace';
import { deviceMemory, findEdu, gather, openEdu, pieces, scatter, toDevice } from './edu.js';
import { randomFrom, seed } from './random.js';
import { everyUserMemory, hugePage, physicalPages, type UserMemory, untouched } from './user-memory.js';
import { bounces, isFilledWith, pageSize } from './witness.js';

const info = findEdu();
/** What a range begins and ends on that a device writes. */
const line = info.coherent ? 1 : info.cacheLine;
const { below, bytes: randomBytes } = randomFrom(seed);

const GIB4 = 1n << 32n;
/** Most of one piece: some of them fit into the device's memory together. */
const PIECE = 1024;

const roundUp = (count: number, unit: number): number => Math.ceil(count / unit) * unit;

const bytesOf = (segments: readonly DmaSegment[]): number =>
  segments.reduce((sum, { length }) => sum + length, 0);

/** What a mapping is to a device that sees physical memory as it is. */
function physicalSegments(address: bigint, byteLength: number): DmaSegment[] {
  const found: { dmaAddress: bigint; length: number }[] = [];
  let left = byteLength;
  let offset = Number(address % BigInt(pageSize));
  for (const page of physicalPages(address, byteLength)) {
    const length = Math.min(left, pageSize - offset);
    const last = found.at(-1);
    if (last !== undefined && last.dmaAddress + BigInt(last.length) === page) {
      last.length += length;
    } else {
      found.push({ dmaAddress: page + BigInt(offset), length });
    }
    left -= length;
    offset = 0;
  }
  return found;
}

/** Sends bytes out of one kind of memory, and fetches them into another. */
async function outAndBack(device: DmaDevice, source: UserMemory, target: UserMemory): Promise<void> {
  const name = `${source.name} to ${target.name}`;
  // In another line than that with which another device's mapping of the same memory begins: two of them in one are a fault
  // to a kernel that checks the DMA API, whoever has them.
  const begin = target.isAligned ? roundUp(101, line) : 7;
  const length = Math.min(source.bytes.length - 2, target.bytes.length - begin - 3, PIECE - 100);
  const end = begin + roundUp(length, line);
  const from = source.bytes.subarray(1, 1 + length);
  const data = randomBytes(length);
  from.set(data);
  target.bytes.fill(0xee);
  {
    using out = device.mapUser(from, 'toDevice');
    assert.equal(bytesOf(out.segments), length, name);
    await gather(device, out.segments);
    using back = device.mapUser(target.bytes.subarray(begin, end), 'fromDevice');
    await scatter(device, back.segments);
  }
  assert.deepEqual(new Uint8Array(target.bytes.subarray(begin, begin + length)), data, name);
  assert.ok(isFilledWith(target.bytes.subarray(0, begin), 0xee), name);
  assert.ok(isFilledWith(target.bytes.subarray(end), 0xee), name);
}

test('out of memory of every kind, and into it; what lies beside it stays as it is', async () => {
  using device = openEdu();
  const kinds = everyUserMemory(2 * pageSize + 100);
  const targets = kinds.filter(({ isWritable, isAligned }) => isWritable && (isAligned || line === 1));
  try {
    for (const [index, source] of kinds.entries()) {
      const others = targets.filter((target) => target !== source);
      await outAndBack(device, source, others[index % others.length] as UserMemory);
    }
  } finally {
    for (const kind of kinds) {
      kind[Symbol.dispose]();
    }
  }
});

/** Cuts a range at random places; the pieces come in random order. */
function split(offset: number, length: number): { offset: number; length: number }[] {
  const found: { offset: number; length: number }[] = [];
  for (let at = offset, end = offset + length; at < end; ) {
    const step = Math.min(end - at, roundUp(1 + below(length), line));
    found.splice(below(found.length + 1), 0, { offset: at, length: step });
    at += step;
  }
  return found;
}

/** A part of a range, with bounds that the device may have. */
function partOf(length: number): [offset: number, length: number] {
  const offset = below(length) & ~(line - 1);
  return [offset, Math.min(length - offset, roundUp(1 + below(PIECE), line))];
}

test(`random ranges, directions and splits, IOSPACE_SEED=${seed}`, async () => {
  using device = openEdu();
  using memory = untouched(8 * pageSize);
  const { bytes } = memory;
  const inDevice = randomBytes(PIECE);
  using first = device.alloc(PIECE);
  first.bytes.set(inDevice);
  await toDevice(device, first.dmaAddress, PIECE);

  for (const direction of ['bidirectional', 'toDevice', 'fromDevice', 'bidirectional', 'toDevice'] as const) {
    bytes.set(randomBytes(bytes.length));
    const begin = below(4 * pageSize) & ~(line - 1);
    const length = roundUp(1 + below(4 * pageSize - line), line);
    const what = `${direction}, ${length} bytes at ${begin}`;
    const view = bytes.subarray(begin, begin + length);
    const expected = Buffer.from(bytes);
    using mapping = device.mapUser(view, direction);
    assert.equal(bytesOf(mapping.segments), length, what);
    if (!bounces && info.iommu === 'none') {
      const address = memory.address + BigInt(begin);
      assert.deepEqual(mapping.segments, physicalSegments(address, length), what);
    }
    if (info.iommu === 'translating') {
      assert.equal(mapping.segments.length, 1, what);
    }

    if (direction !== 'fromDevice') {
      const data = randomBytes(length);
      view.set(data);
      expected.set(data, begin);
      mapping.syncForDevice(split(0, length));
      const [offset, count] = partOf(length);
      await gather(device, pieces(mapping.segments, offset, count));
      inDevice.set(data.subarray(offset, offset + count));
      assert.deepEqual(new Uint8Array(await deviceMemory(device, PIECE)), inDevice, what);
    }
    if (direction !== 'toDevice') {
      const [offset, count] = partOf(length);
      await scatter(device, pieces(mapping.segments, offset, count));
      expected.set(inDevice.subarray(0, count), begin + offset);
      for (const range of split(offset, count)) {
        mapping.syncForCpu(range.offset, range.length);
      }
      assert.deepEqual(Buffer.from(bytes), expected, what);
    }
    mapping.unmap();
    assert.deepEqual(Buffer.from(bytes), expected, what);
  }
});

test('memory that nobody had touched when it was mapped: the device sees what is written then', async () => {
  using device = openEdu();
  using memory = untouched(2 * pageSize);
  using mapping = device.mapUser(memory.bytes, 'toDevice');
  const data = randomBytes(PIECE);
  memory.bytes.set(data, 200);
  mapping.syncForDevice();
  await gather(device, pieces(mapping.segments, 200, PIECE));
  assert.deepEqual(new Uint8Array(await deviceMemory(device, PIECE)), data);
});

test('neighbouring pages are one segment, and it is cut where it is too long for the device', (context) => {
  using page = hugePage();
  if (page === undefined) {
    context.skip('this machine has no huge pages, or CMA, where they cannot be pinned');
    return;
  }
  using device = openEdu();
  page.bytes.fill(1);
  const view = page.bytes.subarray(100, 65 * pageSize + 200);
  using mapping = device.mapUser(view, 'toDevice');
  if (!bounces) {
    assert.equal(mapping.segments.length, 1);
  }
  using cut = device.mapUser(view, 'toDevice', { maxSegmentLength: 3 * pageSize });
  assert.equal(bytesOf(cut.segments), view.length);
  assert.ok(cut.segments.every(({ length }) => length <= 3 * pageSize));
  assert.throws(() => device.mapUser(view, 'toDevice', { maxSegmentLength: pageSize, maxSegments: 65 }), {
    code: 'EOPNOTSUPP',
    message: /maxSegments/,
  });
});

/** Shows, where the device works on a copy, that nothing but sync makes it the same as the memory. */
async function staysStale(device: DmaDevice, bytes: Uint8Array): Promise<void> {
  const seen = async (segments: readonly DmaSegment[]): Promise<Buffer> => {
    await gather(device, segments);
    return deviceMemory(device, 96);
  };
  {
    bytes.fill(0x11);
    using mapping = device.mapUser(bytes, 'toDevice');
    const segments = pieces(mapping.segments, 0, 96);
    bytes.fill(0x22);
    assert.ok(isFilledWith(await seen(segments), 0x11));
    mapping.syncForDevice(32, 32);
    const after = await seen(segments);
    assert.ok(isFilledWith(after.subarray(0, 32), 0x11));
    assert.ok(isFilledWith(after.subarray(32, 64), 0x22));
    assert.ok(isFilledWith(after.subarray(64), 0x11));
    mapping.syncForDevice([
      { offset: 64, length: 32 },
      { offset: 0, length: 16 },
    ]);
    const last = await seen(segments);
    assert.ok(isFilledWith(last.subarray(16, 32), 0x11));
    assert.ok(isFilledWith(last.subarray(0, 16), 0x22) && isFilledWith(last.subarray(32), 0x22));
  }
  bytes.fill(0x33);
  using mapping = device.mapUser(bytes, 'fromDevice');
  await scatter(device, pieces(mapping.segments, 0, 64));
  assert.ok(isFilledWith(bytes, 0x33));
  mapping.syncForCpu(32, 16);
  assert.ok(isFilledWith(bytes.subarray(0, 32), 0x33));
  assert.ok(isFilledWith(bytes.subarray(32, 48), 0x22));
  assert.ok(isFilledWith(bytes.subarray(48), 0x33));
  mapping.unmap();
  assert.ok(isFilledWith(bytes.subarray(0, 16), 0x22) && isFilledWith(bytes.subarray(16, 32), 0x11));
  assert.ok(isFilledWith(bytes.subarray(32, 64), 0x22) && isFilledWith(bytes.subarray(64), 0x33));
}

test('without sync the device has what was there before, and so has the CPU', {
  skip: bounces ? false : 'nothing bounces on this machine',
}, async () => {
  using device = openEdu();
  using memory = untouched(3 * pageSize);
  await staysStale(device, memory.bytes.subarray(pageSize - 40, 2 * pageSize));
});

/** Lets the device reach less, as long as it is not open. */
function setMask(mask: bigint): void {
  writeFileSync(`/sys/class/misc/${info.name}/dma_mask`, `0x${mask.toString(16)}`);
}

test('memory that the device does not reach bounces', async (context) => {
  using memory = untouched(64 * pageSize);
  memory.bytes.fill(1);
  const pages = physicalPages(memory.address, memory.byteLength);
  const high = pages.findIndex((page) => page >= GIB4);
  if (high === -1 || info.iommu !== 'none') {
    context.skip('this machine has no memory that a device of 32 bits does not reach');
    return;
  }
  setMask(GIB4 - 1n);
  try {
    using device = openEdu();
    const bytes = memory.bytes.subarray(high * pageSize, (high + 1) * pageSize);
    using mapping = device.mapUser(bytes, 'toDevice');
    assert.ok(mapping.dmaAddress < GIB4 && pages[high] !== undefined && pages[high] >= GIB4);
    mapping.unmap();
    await staysStale(device, bytes);
  } finally {
    setMask(info.dmaMask);
  }
  assert.equal(listDevices().find(({ name }) => name === info.name)?.dmaMask, info.dmaMask);
});
