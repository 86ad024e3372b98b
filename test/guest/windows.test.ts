/**
 * Windows on physical memory: each is of its type, seen from outside, alone or beside windows of other types. Those of an
 * arena, and those by their address.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { DmaDevice, type IospaceMapping, mmapIospace, munmapIospace, type WindowType } from 'iospace';
import { keepsItsUser } from './children.js';
import { DEVICE_MEMORY_LENGTH, findEdu, fromDevice, IDENTIFICATION, openEdu, toDevice } from './edu.js';
import { kernelLog, load, loadAgain, parameters, setMask, unload } from './module.js';
import {
  type DeviceMapping,
  isFilledWith,
  mapped,
  pageSize,
  surviveForkAndMremap,
  typesOf,
  witness,
  words,
} from './witness.js';

const skip = findEdu().arenas > 0 ? false : 'this machine has no arena';
const windowTypes: readonly WindowType[] = ['cached', 'writecombine', 'uncached', 'writethrough', 'device'];
const LENGTH = 4 * pageSize;

function openArena() {
  // Bound again it has another name.
  const device = DmaDevice.open(findEdu().name);
  const [arena] = device.arenas;
  assert.ok(arena !== undefined);
  return { device, arena, [Symbol.dispose]: () => device.close() };
}

function open(make: () => IospaceMapping): { made: IospaceMapping; range: DeviceMapping } {
  const opened = mapped(findEdu().name, make);
  // A page is in the page table once it was touched.
  for (let offset = 0; offset < opened.made.byteLength; offset += pageSize) {
    Atomics.load(opened.made.bytes, offset);
  }
  return opened;
}

describe('windows of an arena', { skip }, () => {
  test('each type is what it says, where it says', () => {
    using opened = openArena();
    const { arena } = opened;
    assert.ok(arena.memoryTypes.includes('cached') && arena.memoryTypes.includes('uncached'));
    for (const memory of arena.memoryTypes) {
      const { made: window, range } = open(() =>
        arena.window(memory, { offset: 2 * pageSize, length: LENGTH }),
      );
      assert.equal(window.memory.effective, memory);
      assert.deepEqual(witness([range]), [
        [{ type: words[memory], physical: arena.physicalAddress + BigInt(2 * pageSize), byteLength: LENGTH }],
      ]);
      window.unmap();
    }
    for (const memory of windowTypes.filter((type) => !arena.memoryTypes.includes(type))) {
      assert.throws(() => arena.window(memory, { length: LENGTH }), { code: 'EOPNOTSUPP' });
    }
  });

  test('all of an arena is one window', () => {
    using opened = openArena();
    const { arena } = opened;
    for (const memory of arena.memoryTypes) {
      const { made: window, range } = open(() => arena.window(memory));
      assert.deepEqual(witness([range]), [
        [{ type: words[memory], physical: arena.physicalAddress, byteLength: arena.byteLength }],
      ]);
      window.unmap();
    }
  });

  test('beside a window of one type, those of the others are right, or EBUSY', () => {
    using opened = openArena();
    const { arena } = opened;
    for (const first of arena.memoryTypes) {
      const held = open(() => arena.window(first, { length: LENGTH }));
      for (const second of arena.memoryTypes) {
        // Of all of it, and of a part.
        for (const part of [{ length: LENGTH }, { offset: LENGTH - pageSize, length: 2 * pageSize }]) {
          if (arena.sideBySide || second === first) {
            const { made: window, range } = open(() => arena.window(second, part));
            held.made.bytes[LENGTH - pageSize] = 0x11;
            assert.equal(window.bytes[LENGTH - pageSize - (part.offset ?? 0)], 0x11);
            assert.deepEqual([typesOf(range), typesOf(held.range)], [[words[second]], [words[first]]]);
            window.unmap();
          } else {
            assert.throws(() => arena.window(second, part), { code: 'EBUSY' }, `${second} beside ${first}`);
          }
          assert.deepEqual(typesOf(held.range), [words[first]]);
        }
        const beside = open(() => arena.window(second, { offset: LENGTH, length: LENGTH }));
        assert.deepEqual(typesOf(beside.range), [words[second]]);
        beside.made.unmap();
      }
      held.made.unmap();
    }
  });

  test('a range is of the type of whoever opens it next', () => {
    using opened = openArena();
    const { arena } = opened;
    for (const memory of [...arena.memoryTypes, ...[...arena.memoryTypes].reverse()]) {
      const { made: window, range } = open(() => arena.window(memory, { length: LENGTH }));
      assert.deepEqual(typesOf(range), [words[memory]]);
      window.unmap();
    }
  });

  test('stays of its type when another window of the same type is gone', () => {
    using opened = openArena();
    const { arena } = opened;
    for (const memory of arena.memoryTypes) {
      const [first, second] = [0, 1].map(() => open(() => arena.window(memory, { length: LENGTH })));
      first?.made.unmap();
      assert.deepEqual(typesOf(second?.range ?? assert.fail()), [words[memory]]);
      second?.made.unmap();
    }
  });

  test('after fork, in the child too; an mremap is refused or of the same type', () => {
    using opened = openArena();
    const { arena } = opened;
    for (const memory of arena.memoryTypes) {
      surviveForkAndMremap(findEdu().name, memory, words[memory], arena.physicalAddress);
    }
  });

  test('the device reads and writes the bytes of each window', async (t) => {
    using device = openEdu();
    const [arena] = device.arenas;
    assert.ok(arena !== undefined);
    let attachment: ReturnType<DmaDevice['attachArena']>;
    try {
      attachment = device.attachArena(arena);
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'EOPNOTSUPP');
      t.skip('the device does not reach the arena');
      return;
    }
    assert.equal(attachment.dmaAddress === arena.physicalAddress, device.info.iommu !== 'translating');
    for (const memory of arena.memoryTypes) {
      using window = arena.window(memory, { offset: pageSize, length: LENGTH });
      const data = randomBytes(DEVICE_MEMORY_LENGTH);
      window.bytes.set(data);
      await toDevice(device, attachment.dmaAddressOf(window), data.length);
      window.bytes.fill(0);
      await fromDevice(device, attachment.dmaAddressOf(window, 2 * pageSize), data.length);
      assert.ok(data.equals(window.bytes.subarray(2 * pageSize, 2 * pageSize + data.length)), memory);
    }
  });

  test('reads zero, harms nothing and may be written once its device has gone', () => {
    using opened = openArena();
    const { device, arena } = opened;
    const windows = arena.memoryTypes.map((memory, index) =>
      arena.window(memory, { offset: index * LENGTH, length: LENGTH }),
    );
    for (const window of windows) {
      window.bytes.fill(0x77);
    }
    const { device: busName } = device.info;
    writeFileSync(`/sys/bus/pci/devices/${busName}/driver/unbind`, busName);
    try {
      assert.deepEqual(
        windows.map(({ bytes }) => isFilledWith(bytes, 0)),
        windows.map(() => true),
      );
      for (const window of windows) {
        window.bytes.fill(1);
      }
    } finally {
      writeFileSync('/sys/bus/pci/drivers_probe', busName);
      setMask();
    }
    // What was written afterwards went nowhere.
    using again = openArena();
    for (const [index, memory] of arena.memoryTypes.entries()) {
      using window = again.arena.window(memory, { offset: index * LENGTH, length: LENGTH });
      assert.ok(isFilledWith(window.bytes, 0x77), memory);
    }
  });

  describe('loaded again', () => {
    test('a range that cannot be is refused, with the reason in the log; then it is zeroed', () => {
      {
        using opened = openArena();
        using window = opened.arena.window('cached');
        window.bytes.fill(0xa5);
      }
      unload();
      const at = `0x${declaredRange().begin.toString(16)}`;
      for (const [value, reason] of [
        ['1M', 'expected SIZE@ADDRESS'],
        [`1M@${at},`, 'expected SIZE@ADDRESS'],
        [`0@${at}`, 'is empty'],
        [`100@${at}`, 'is not whole pages'],
        [`1M@0x${(systemMemory() + (1n << 24n)).toString(16)}`, 'lies over memory that the system uses'],
        ['1M@0xfffffffffff10000', 'wraps around the end of all addresses'],
        ['1M@0x1000000000000000', 'lies beyond what this CPU can address'],
      ] as const) {
        for (const key of ['arena', 'allow']) {
          assert.notEqual(load(`${key}=${value}`).status, 0, `${key}=${value}`);
          const [line = ''] = kernelLog().trimEnd().split('\n').slice(-1);
          assert.ok(line.includes(`iospace: ${key}`) && line.includes(reason), line);
        }
      }
      for (const [words, reason] of [
        [[`arena=512K@${at},512K@${at}`], 'overlaps another arena'],
        [[`allow=512K@${at},512K@${at}`], 'overlaps another range of the parameter'],
        [[`arena=512K@${at}`, `allow=512K@${at}`], 'overlaps an arena'],
      ] as const) {
        assert.notEqual(load(...words).status, 0, words.join(' '));
        assert.ok(kernelLog().includes(reason), reason);
      }
      loadAgain();
      using opened = openArena();
      using window = opened.arena.window('cached');
      assert.ok(isFilledWith(window.bytes, 0));
    });
  });
});

/** The range of the parameter `allow`: `1M@0x30900000`. */
function declaredRange() {
  const { value } = parameters.find(({ key }) => key === 'allow') ?? {};
  const [, mebibytes, address = ''] = /^(\d+)M@(0x[0-9a-f]+)$/.exec(value ?? '') ?? [];
  return { begin: BigInt(address), byteLength: Number(mebibytes) << 20 };
}

/** Some memory that the system uses. */
function systemMemory(): bigint {
  const lines = readFileSync('/proc/iomem', 'utf8').matchAll(/^([0-9a-f]+)-([0-9a-f]+) : System RAM$/gm);
  const largest = [...lines]
    .map(([, ...numbers]) => numbers.map((digits) => BigInt(`0x${digits}`)))
    .map(([first = 0n, last = 0n]) => ({ first, length: last - first }))
    .reduce((a, b) => (a.length > b.length ? a : b));
  return largest.first;
}

/** As a user without capabilities, which come back with root. */
function withoutCapabilities(act: () => void): void {
  process.seteuid?.(65534);
  try {
    act();
  } finally {
    process.seteuid?.(0);
  }
}

/** Of nothing, on every machine here; still what each of their CPUs can address. */
const NOWHERE = 1n << 38n;

test('by its address: memory that the system uses, or that nobody declared, is EPERM in every type', () => {
  using device = DmaDevice.open('iospace0');
  for (const memory of windowTypes) {
    for (const address of [systemMemory(), NOWHERE]) {
      for (const options of [{ memory }, { memory, device }]) {
        assert.throws(() => mmapIospace(address, pageSize, options), {
          code: 'EPERM',
          syscall: 'mmap_iospace',
          address,
        });
      }
    }
  }
});

test('by its address: a range that wraps, ends beyond what the CPU addresses, or is none', () => {
  const memory = 'uncached';
  const end = 1n << 64n;
  const wraps = () => mmapIospace(end - BigInt(pageSize), pageSize + 1, { memory });
  assert.throws(wraps, { code: 'ERR_OUT_OF_RANGE' });
  assert.throws(() => mmapIospace(end, pageSize, { memory }), { code: 'ERR_OUT_OF_RANGE' });
  for (const address of [end - BigInt(pageSize), 1n << 60n]) {
    assert.throws(() => mmapIospace(address, pageSize, { memory }), { code: 'EINVAL', address });
  }
  assert.throws(() => mmapIospace(NOWHERE, 0, { memory }), { code: 'ERR_OUT_OF_RANGE' });
});

/** Physical, of the first BAR. */
function registersAddress(): bigint {
  const [first = ''] = readFileSync(`/sys/bus/pci/devices/${findEdu().device}/resource`, 'utf8').split(' ');
  return BigInt(first);
}

test('by their address: registers belong to their device, and are nothing but registers', () => {
  using device = DmaDevice.open(findEdu().name);
  const address = registersAddress();
  using window = mmapIospace(address, 4, { memory: 'device', device });
  assert.equal(window.registers.read32(IDENTIFICATION), 0x010000ed);
  assert.throws(() => window.bytes, { code: 'EOPNOTSUPP' });
  for (const memory of windowTypes.filter((type) => type !== 'device')) {
    assert.throws(() => mmapIospace(address, pageSize, { memory, device }), { code: 'EOPNOTSUPP' });
  }
  assert.throws(() => mmapIospace(address, pageSize, { memory: 'device' }), { code: 'EPERM' });
  assert.throws(() => mmapIospace(address + (1n << 20n), pageSize, { memory: 'device', device }), {
    code: 'EPERM',
  });
});

test('by their address: registers need CAP_SYS_RAWIO', { skip: keepsItsUser }, () => {
  using device = DmaDevice.open(findEdu().name);
  const address = registersAddress();
  withoutCapabilities(() =>
    assert.throws(() => mmapIospace(address, 4, { memory: 'device', device }), { code: 'EPERM' }),
  );
});

describe('windows of a declared range', { skip }, () => {
  const { begin, byteLength } = declaredRange();

  test('each type is what it says, where it says', () => {
    using device = DmaDevice.open(findEdu().name);
    const memoryTypes = [...(device.arenas[0]?.memoryTypes ?? []), 'device' as const];
    for (const memory of windowTypes) {
      const make = () => mmapIospace(begin + BigInt(pageSize), 2 * pageSize, { memory, device });
      if (!memoryTypes.includes(memory)) {
        assert.throws(make, { code: 'EOPNOTSUPP' });
        continue;
      }
      const { made: window, range } = mapped(findEdu().name, make);
      for (const offset of [0, pageSize]) {
        if (memory === 'device') {
          window.registers.write32(offset, 0x01020304);
        } else {
          window.bytes[offset] = 7;
        }
      }
      assert.deepEqual(witness([range]), [
        [{ type: words[memory], physical: begin + BigInt(pageSize), byteLength: 2 * pageSize }],
      ]);
      munmapIospace(window);
      munmapIospace(window);
    }
  });

  test('twice in one type, but in another only where types may lie side by side', () => {
    using device = DmaDevice.open(findEdu().name);
    const { sideBySide = false } = device.arenas[0] ?? {};
    using held = mmapIospace(begin, LENGTH, { memory: 'uncached', device });
    // Of a part, over a device of its own, not of whole pages.
    using same = mmapIospace(begin + 100n, 8, { memory: 'uncached' });
    const data = [1, 2, 3, 4, 5, 6, 7, 8];
    held.bytes.set(data, 100);
    assert.deepEqual([...same.bytes], data);
    const other = () => mmapIospace(begin, pageSize, { memory: 'cached' });
    if (sideBySide) {
      other().unmap();
    } else {
      assert.throws(other, { code: 'EBUSY', address: begin });
    }
    held.unmap();
    same.unmap();
    other().unmap();
  });

  test('neither below nor beyond, nor over its ends', () => {
    const memory = 'uncached';
    for (const [offset, length] of [
      [-pageSize, pageSize],
      [-1, 2],
      [byteLength, 1],
      [byteLength - 1, 2],
      [0, byteLength + 1],
    ] as const) {
      assert.throws(() => mmapIospace(begin + BigInt(offset), length, { memory }), { code: 'EPERM' });
    }
    mmapIospace(begin, byteLength, { memory }).unmap();
  });

  test('needs CAP_SYS_RAWIO, which an arena does not', { skip: keepsItsUser }, () => {
    using device = DmaDevice.open(findEdu().name);
    const [arena] = device.arenas;
    const memory = 'uncached';
    assert.ok(arena !== undefined);
    withoutCapabilities(() => {
      assert.throws(() => mmapIospace(begin, pageSize, { memory, device }), /^Error: EPERM: .*CAP_SYS_RAWIO/);
      mmapIospace(arena.physicalAddress, pageSize, { memory, device }).unmap();
      arena.window(memory, { length: pageSize }).unmap();
    });
  });
});
