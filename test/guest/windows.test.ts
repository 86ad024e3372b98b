/** Windows of a reserved arena: each is of its type, seen from outside, alone or beside windows of other types. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { DmaDevice, type IospaceMapping, type WindowType } from 'iospace';
import { DEVICE_MEMORY_LENGTH, findEdu, fromDevice, openEdu, toDevice } from './edu.js';
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

const { dmaMask } = findEdu();

/** After the device was bound again: it says nothing of its mask itself. */
function setMask(): void {
  writeFileSync(`/sys/class/misc/${findEdu().name}/dma_mask`, `0x${dmaMask.toString(16)}`);
}

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
    const parameters = readdirSync('/sys/module/iospace/parameters')
      .map((key) => ({ key, value: readFileSync(`/sys/module/iospace/parameters/${key}`, 'utf8').trim() }))
      .filter(({ value }) => value !== '(null)' && value !== '');
    after(setMask);

    test('it is zeroed', () => {
      {
        using opened = openArena();
        using window = opened.arena.window('cached');
        window.bytes.fill(0xa5);
      }
      for (const argv of [
        ['rmmod', 'iospace'],
        ['insmod', '/lab/iospace.ko', ...parameters.map(({ key, value }) => `${key}=${value}`)],
      ]) {
        const [program = '', ...rest] = argv;
        assert.equal(spawnSync(program, rest, { stdio: 'inherit' }).status, 0, argv.join(' '));
      }
      using opened = openArena();
      using window = opened.arena.window('cached');
      assert.ok(isFilledWith(window.bytes, 0));
    });
  });
});
