/**
 * Memory is what it says it is: the types of buffers, seen from outside while they are held, and after.
 *
 * Each test is made for every type that each device says it can give.
 */
import assert from 'node:assert/strict';
import { closeSync, constants, openSync, readFileSync, readSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type DeviceInfo, DmaDevice, listDevices, type MemoryType } from 'iospace';
import * as raw from 'iospace/raw';
import { eventually } from './children.js';
import { counters, NOTHING } from './edu.js';
import {
  bounces,
  isFilledWith,
  linearTypesOf,
  mapped,
  pageSize,
  surviveForkAndMremap,
  typesOf,
  witness,
  wordOf,
  words,
} from './witness.js';

const { PROT_READ, PROT_WRITE, MAP_SHARED } = raw.constants;
const onlyX86 =
  process.arch === 'x64' ? false : 'only x86 changes the type of memory where the kernel sees it';

/** Bytes that are read past the page cache: a multiple of every sector. */
const DIRECT = 4096;

/** In bytes: less than a page, some pages, and what takes more than one chunk of converted pages. */
const sizes = [100, 3 * pageSize, (2 << 20) + pageSize];

const everyType: readonly MemoryType[] = ['cached', 'writecombine', 'uncached', 'writethrough', 'coherent'];

const devices = listDevices();
assert.ok(devices.length > 1, 'the module has its own device, and an edu');

for (const info of devices) {
  describe(info.name, () => {
    test('says what it can give, and gives nothing else', () => {
      using device = DmaDevice.open(info.name);
      assert.ok(info.memoryTypes.includes('coherent') || info.pool.kind !== 'none');
      for (const memory of everyType.filter((type) => !info.memoryTypes.includes(type))) {
        assert.throws(() => device.alloc(pageSize, { memory }), { code: 'EOPNOTSUPP' });
        const { made: buffer, range } = mapped(info.name, () =>
          device.alloc(pageSize, { memory, fallback: true }),
        );
        buffer.bytes[0] = 1;
        assert.notEqual(buffer.memory.effective, memory);
        assert.deepEqual(typesOf(range), [wordOf(buffer.memory.effective, info)]);
      }
    });
    for (const memory of info.memoryTypes) {
      describe(memory, () => typeTests(info, memory));
    }
  });
}

/** Why bus addresses are not physical ones, if so. */
function whyElsewhere({ iommu }: DeviceInfo, memory: MemoryType): string | false {
  if (iommu === 'translating') {
    return 'an IOMMU translates';
  }
  return bounces && memory === 'cached' && 'bounce buffers stand for cached memory';
}

function typeTests(info: DeviceInfo, memory: MemoryType): void {
  const { name } = info;
  const word = wordOf(memory, info);
  const alloc = (device: DmaDevice, byteLength: number) =>
    mapped(name, () => {
      const buffer = device.alloc(byteLength, { memory });
      assert.deepEqual(buffer.memory, { requested: memory, effective: memory });
      return buffer;
    });

  test('is of its type while it is held, in every size', () => {
    using device = DmaDevice.open(name);
    for (const size of sizes) {
      const { made: buffer, range } = alloc(device, size);
      buffer.bytes.fill(0x5a);
      assert.deepEqual(typesOf(range), [word]);
      assert.ok(isFilledWith(buffer.bytes, 0x5a));
      buffer.free();
    }
  });

  test('lies where its segments say', { skip: whyElsewhere(info, memory) }, () => {
    using device = DmaDevice.open(name);
    const { made: buffer, range } = alloc(device, 16 * pageSize);
    const [pieces = []] = witness([range]);
    assert.deepEqual(
      pieces.map(({ physical, byteLength }) => ({ dmaAddress: physical, length: byteLength })),
      buffer.segments,
    );
  });

  test('stays of its type in a second mapping, and when the first is gone', () => {
    using device = DmaDevice.open(name);
    const { made: buffer, range } = alloc(device, 2 * pageSize);
    using second = raw.mmap(device.fd, 2 * pageSize, PROT_READ | PROT_WRITE, MAP_SHARED, range.offset);
    buffer.bytes[pageSize + 1] = 7;
    assert.equal(second.bytes[pageSize + 1], 7);
    assert.deepEqual([typesOf(range), typesOf(second)], [[word], [word]]);
    buffer.free();
    assert.deepEqual(typesOf(second), [word]);
    assert.equal(second.bytes[pageSize + 1], 7);
  });

  test('after fork, in the child too, also when its parent is gone; an mremap is refused or of the same type', async () => {
    surviveForkAndMremap(name, memory, word);
    assert.ok(await eventually(() => counters(name).open_files === 0));
    assert.deepEqual(counters(name), NOTHING);
  });

  test('is write-back for the kernel once it is free', { skip: onlyX86 }, async () => {
    const device = DmaDevice.open(name);
    const { made: buffer, range } = alloc(device, sizes[2] ?? 0);
    const [pieces = []] = witness([range]);
    assert.deepEqual(linearTypesOf(pieces), [word]);
    buffer.free();
    device.close();
    assert.ok(await eventually(() => counters(name).open_files === 0));
    assert.deepEqual(linearTypesOf(pieces), [words.cached]);
  });

  test('is zero for whoever has it next', () => {
    const seen = new Set<bigint>();
    let again = 0;
    // What a device keeps for reuse it keeps to its last close.
    using other = DmaDevice.open(name);
    for (let round = 0; round < 4; round++) {
      if (round === 2) {
        other.close();
      }
      using device = DmaDevice.open(name);
      const buffers = [100, 64 * 1024, 3 * pageSize].map((size) => alloc(device, size));
      for (const piece of witness(buffers.map(({ range }) => range)).flat()) {
        for (let offset = 0; offset < piece.byteLength; offset += pageSize) {
          const page = (piece.physical ?? 0n) + BigInt(offset);
          again += seen.has(page) ? 1 : 0;
          seen.add(page);
        }
      }
      for (const { made: buffer, range } of buffers) {
        // All of its last page, of which the buffer may have a part only.
        using all = raw.mmap(device.fd, range.byteLength, PROT_READ | PROT_WRITE, MAP_SHARED, range.offset);
        assert.ok(isFilledWith(all.bytes, 0));
        all.bytes.fill(0xa5);
        // Freed by its handle, or by the end of its file.
        if (round % 2 === 0) {
          buffer.free();
        }
      }
    }
    assert.ok(again > 0, 'no page came back: this shows nothing');
  });

  test('may be worked on by the kernel only if it is cached', () => {
    using device = DmaDevice.open(name);
    const { made: buffer } = alloc(device, 2 * pageSize);
    const file = fileURLToPath(import.meta.url);
    const fd = openSync(file, constants.O_RDONLY | constants.O_DIRECT);
    try {
      const read = (): number => readSync(fd, buffer.bytes, 0, DIRECT, 0);
      if (memory === 'cached') {
        assert.equal(read(), DIRECT);
        assert.deepEqual(
          Buffer.from(buffer.bytes.subarray(0, DIRECT)),
          readFileSync(file).subarray(0, DIRECT),
        );
      } else {
        assert.throws(read, { code: 'EFAULT' });
      }
    } finally {
      closeSync(fd);
    }
  });
}
