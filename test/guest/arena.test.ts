/**
 * The library's arena over the module's reserved memory: where blocks are for the CPU and for a device, and whose they are
 * when processes end, in other containers too, and when the module does.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import {
  Arena,
  type ArenaAttachment,
  configureArena,
  DmaDevice,
  dmaFree,
  dmaMalloc,
  type WindowType,
} from 'iospace';
import type { Owned } from './arena-owner.js';
import { eventually, start } from './children.js';
import { counters, DEVICE_MEMORY_LENGTH, findEdu, fromDevice, NOTHING, openEdu, toDevice } from './edu.js';
import { loadAgain, unload } from './module.js';
import { type DeviceMapping, isFilledWith, mapped, pageSize, witness, words } from './witness.js';

const skip = findEdu().arenas > 0 ? false : 'this machine has no arena';
/** The device over which the library opens the arena: what has the mappings. */
const OWN = 'iospace0';
const NAME = 'module:0';
const MIB = 1 << 20;
type ArenaType = Exclude<WindowType, 'device'>;
const types: readonly ArenaType[] = ['cached', 'writecombine', 'uncached', 'writethrough'];

/** The arena as windows see it, over a device of its own. */
function openReserved() {
  const device = DmaDevice.open(findEdu().name);
  const [reserved] = device.arenas;
  assert.ok(reserved !== undefined);
  return { reserved, [Symbol.dispose]: () => device.close() };
}

/** Blocks of the module's arena are in memory of a window's type. */
const typeOf = ({ memory }: Arena): ArenaType => {
  const type = types.find((known) => known === memory);
  assert.ok(type !== undefined, memory);
  return type;
};

/** What the page table says of some bytes at the start of a mapping, all of whose pages were touched. */
function seen({ address }: DeviceMapping, offset: number, byteLength: number) {
  const [pieces] = witness([{ address: address + BigInt(offset), byteLength }]);
  return pieces;
}

/** Undefined where the device does not reach the arena, or this kernel cannot map it for the device's IOMMU. */
function tryAttach(device: DmaDevice, arena: Arena): ArenaAttachment | undefined {
  try {
    return device.attachArena(arena);
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'EOPNOTSUPP');
    return undefined;
  }
}

/** Takes all that is free, in as few blocks as can be. */
function exhaust(arena: Arena): void {
  for (let { longestFree } = arena.stats(); longestFree > 0; { longestFree } = arena.stats()) {
    arena.allocate(longestFree);
  }
  assert.throws(() => arena.allocate(1), { code: 'ENOSPC' });
}

/** Says which process number comes next. Not every kernel has it. */
const NEXT_PID = '/proc/sys/kernel/ns_last_pid';

/** A mount namespace, /dev/shm and process numbers of its own; if that can be chosen, such as are nobody's outside. */
const container = {
  execPath: '/bin/unshare',
  execArgv: [
    ...['-p', '-m', '-f', '--mount-proc', 'sh', '-c'],
    `${existsSync(NEXT_PID) ? `echo 20000 > ${NEXT_PID} && ` : ''}mount -t tmpfs none /dev/shm && node "$0" "$@"; exit $?`,
  ],
};

interface Owner extends Owned {
  child: ChildProcess;
}

/** A process with two blocks, in a container. */
async function startOwner(tag: string): Promise<Owner> {
  const { child, said } = await start('arena-owner.js', [NAME, 2, 3 * pageSize, tag], container);
  assert.ok(typeof said === 'object' && said !== null, String(said));
  return { child, ...(said as Owned) };
}

/** Lets a process end by itself, unless it has. */
async function end({ child }: Owner): Promise<void> {
  if (child.connected) {
    const exit = once(child, 'exit');
    child.disconnect();
    await exit;
  }
}

/** By itself, with SIGKILL. */
async function die({ child }: Owner): Promise<void> {
  const exit = once(child, 'exit');
  child.send('die');
  await exit;
}

const blocksOf = (arena: Arena, tag: string) =>
  arena.stats().byTag.find((known) => known.tag === tag)?.blocks ?? 0;

test('where there is none, dmaMalloc() takes a buffer, but not by itself where that will not do', {
  skip: skip === false ? 'this machine has an arena' : false,
}, () => {
  assert.throws(() => Arena.attach(NAME), { code: 'ENOENT' });
  assert.throws(() => dmaMalloc(100, { strict: true }), { code: 'EOPNOTSUPP' });
  const block = dmaMalloc(100);
  const { arena } = block;
  try {
    assert.equal(arena.backing, 'buffer');
    assert.equal(block.dmaAddress, arena.dmaAddress + BigInt(block.offset));
    assert.throws(() => block.physicalAddress, { code: 'EOPNOTSUPP' });
  } finally {
    configureArena(undefined);
    arena.close();
  }
});

describe("the library's arena over the module's", { skip }, () => {
  function clear(): void {
    using arena = Arena.attach(NAME);
    arena.sweep();
  }
  beforeEach(clear);
  after(clear);

  test('a block lies where it says, and is of the type that it says', () => {
    using opened = openReserved();
    using arena = Arena.attach(NAME);
    assert.equal(arena.backing, 'module');
    assert.equal(arena.physicalAddress, opened.reserved.physicalAddress);
    assert.equal(arena.byteLength, opened.reserved.byteLength);
    arena.allocate(pageSize);
    const block = arena.allocate(3 * pageSize - 1, { align: pageSize });
    assert.ok(block.offset >= pageSize);
    assert.equal(block.physicalAddress, arena.physicalAddress + BigInt(block.offset));
    const { range } = mapped(OWN, () => block.bytes.fill(1));
    assert.deepEqual(seen(range, block.offset, 3 * pageSize), [
      { type: words[typeOf(arena)], physical: block.physicalAddress, byteLength: 3 * pageSize },
    ]);
    assert.deepEqual(arena.blockAt(block.physicalAddress + 5n), {
      address: block.physicalAddress,
      offset: block.offset,
      byteLength: 3 * pageSize,
      owner: arena.blockAt(arena.physicalAddress).owner,
      tag: '',
      left: 3 * pageSize - 5,
    });
  });

  test('dmaMalloc() takes it, unless somebody says otherwise', () => {
    const block = dmaMalloc(100, { strict: true });
    const { arena, physicalAddress } = block;
    try {
      assert.equal(arena.name, NAME);
      using same = Arena.attach(NAME);
      assert.equal(same.blockAt(physicalAddress).offset, block.offset);
      dmaFree(block);
      assert.throws(() => same.blockAt(physicalAddress), { code: 'ERR_OUT_OF_RANGE' });
    } finally {
      configureArena(undefined);
      arena.close();
    }
  });

  test('through each window it is the same bytes, at the same offset', () => {
    using opened = openReserved();
    const { reserved } = opened;
    using arena = Arena.attach(NAME);
    arena.allocate(pageSize);
    const block = arena.allocate(2 * pageSize, { align: pageSize });
    const own = typeOf(arena);
    block.bytes.fill(0);
    for (const [index, type] of types.entries()) {
      if (!reserved.memoryTypes.includes(type)) {
        assert.throws(() => block.window(type), { code: 'EOPNOTSUPP' });
        assert.throws(() => arena.allocate(1, { memory: type }), { code: 'EOPNOTSUPP' });
        continue;
      }
      if (type !== own && !reserved.sideBySide) {
        assert.throws(() => block.window(type), { code: 'EBUSY' });
        continue;
      }
      const place = pageSize + index;
      block.bytes[place] = 0x40 + index;
      // Of its own type a block's window is the block's memory.
      if (type === own) {
        using window = block.window(type);
        assert.equal(window.bytes.buffer, block.bytes.buffer);
        assert.equal(window.bytes[place], 0x40 + index);
      } else {
        const { made: window, range } = mapped(OWN, () => block.window(type));
        assert.equal(window.bytes[place], 0x40 + index);
        assert.equal(window.bytes[0], 0);
        assert.deepEqual(seen(range, 0, 2 * pageSize), [
          { type: words[type], physical: block.physicalAddress, byteLength: 2 * pageSize },
        ]);
        window[Symbol.dispose]();
      }
      // Of somebody who knows no more than the offset.
      using other = reserved.window(type, { offset: block.offset + pageSize, length: 16 });
      assert.equal(other.bytes[index], 0x40 + index);
    }
  });

  test('the device reads and writes blocks where they say', async (t) => {
    using device = openEdu();
    using arena = Arena.attach(NAME);
    arena.allocate(1);
    const from = arena.allocate(DEVICE_MEMORY_LENGTH + 1);
    const to = arena.allocate(DEVICE_MEMORY_LENGTH);
    assert.throws(() => from.dmaAddress, { code: 'ERR_INVALID_STATE' });
    const attachment = tryAttach(device, arena);
    if (attachment === undefined) {
      assert.throws(() => from.dmaAddress, { code: 'ERR_INVALID_STATE' });
      t.skip('the device does not reach the arena');
      return;
    }
    assert.equal(from.dmaAddress, attachment.dmaAddress + BigInt(from.offset));
    assert.equal(attachment.dmaAddressOf(from), from.dmaAddress);
    assert.equal(from.dmaAddress === from.physicalAddress, device.info.iommu !== 'translating');
    const data = randomBytes(DEVICE_MEMORY_LENGTH);
    const part = from.subarray(1, 1 + data.length);
    part.bytes.set(data);
    to.bytes.fill(0);
    await toDevice(device, part.dmaAddress, data.length);
    await fromDevice(device, to.dmaAddress, data.length);
    assert.ok(data.equals(to.bytes));
    device.close();
    assert.throws(() => to.dmaAddress, { code: 'ERR_INVALID_STATE' });
  });

  test('alignment and boundary are those of addresses on the bus', (t) => {
    using device = openEdu();
    using arena = Arena.attach(NAME);
    const attachment = tryAttach(device, arena);
    if (attachment === undefined) {
      t.skip('the device does not reach the arena');
      return;
    }
    const first = attachment.dmaAddress;
    const last = first + BigInt(arena.byteLength - arena.granule);
    arena.allocate(1);
    let align = arena.granule;
    for (; (last / BigInt(align)) * BigInt(align) >= first; align *= 2) {
      // The first granule alone has the highest power, and is not free.
      if (first % BigInt(align) === 0n && first + BigInt(align) > last) {
        assert.throws(() => arena.allocate(1, { align }), { code: 'ENOSPC' });
        continue;
      }
      using block = arena.allocate(1, { align });
      assert.equal(block.dmaAddress % BigInt(align), 0n, `aligned to ${align}`);
    }
    // No byte of the arena has such an address, whatever its offset is a multiple of.
    arena.free(arena.physicalAddress);
    assert.throws(() => arena.allocate(1, { align }), { code: 'ENOSPC' });

    const boundary = 4 * arena.granule;
    for (let count = 0; count < 20; count++) {
      const { dmaAddress } = arena.allocate(3 * arena.granule, { boundary });
      assert.ok((dmaAddress % BigInt(boundary)) + BigInt(3 * arena.granule) <= boundary, `${dmaAddress}`);
    }
  });

  describe('with processes in two containers', () => {
    let arena: Arena;
    let living: Owner;
    let dying: Owner;

    before(async () => {
      [living, dying] = await Promise.all([startOwner('living'), startOwner('dying')]);
    });
    after(() => end(living));
    beforeEach(() => {
      arena = Arena.attach(NAME);
    });
    afterEach(() => arena.close());

    /** What a process has written into its blocks. */
    function assertKept({ offsets }: Owner): void {
      using opened = openReserved();
      for (const offset of offsets) {
        using window = opened.reserved.window(typeOf(arena), { offset, length: 3 * pageSize });
        assert.ok(isFilledWith(window.bytes, 0xa5));
      }
    }

    test('all have blocks of their own, and see those of the others', async () => {
      assert.equal(living.pid, dying.pid);
      assert.equal(existsSync(`/proc/${living.pid}`), !existsSync(NEXT_PID));
      const block = arena.allocate(2 * pageSize, { tag: 'mine' });
      block.bytes.fill(0x3c);
      const all = [block.offset, ...living.offsets, ...dying.offsets];
      const known = all.map((offset) => arena.blockAt(arena.physicalAddress + BigInt(offset)));
      assert.deepEqual(
        known.map(({ offset, byteLength, tag }) => ({ offset, byteLength, tag })),
        [
          { offset: block.offset, byteLength: 2 * pageSize, tag: 'mine' },
          ...living.offsets.map((offset) => ({ offset, byteLength: 3 * pageSize, tag: 'living' })),
          ...dying.offsets.map((offset) => ({ offset, byteLength: 3 * pageSize, tag: 'dying' })),
        ],
      );
      assert.equal(new Set(known.map(({ owner }) => owner)).size, 3);
      // Each begins behind the end of the one before.
      known.sort((a, b) => a.offset - b.offset);
      for (const [index, { offset, byteLength }] of known.slice(0, -1).entries()) {
        assert.ok(offset + byteLength <= (known[index + 1]?.offset ?? 0));
      }
      for (const owner of [living, dying]) {
        assertKept(owner);
        const [first = 0] = owner.offsets;
        assert.throws(() => arena.free(arena.physicalAddress + BigInt(first)), { code: 'EPERM' });
        owner.child.send(block.offset + 7);
        const [byte] = await once(owner.child, 'message');
        assert.equal(byte, 0x3c);
      }
      block.free();
    });

    test('the blocks of one that is killed stay until somebody sweeps; who lives keeps its own', async () => {
      assert.equal(arena.sweep().blocks, 0);
      await die(dying);
      const dead = () => arena.stats().byOwner.filter(({ alive }) => !alive);
      assert.ok(await eventually(() => dead().length === 1));
      // Not even where there is no room.
      exhaust(arena);
      assert.deepEqual(
        dead().map(({ pid, blocks }) => ({ pid, blocks })),
        [{ pid: dying.pid, blocks: 2 }],
      );
      assertKept(dying);
      assert.deepEqual(arena.sweep(), { blocks: 2, bytes: 6 * pageSize, owners: 1 });
      assert.deepEqual([blocksOf(arena, 'dying'), blocksOf(arena, 'living')], [0, 2]);
      assert.equal(arena.stats().free, 6 * pageSize);
      assertKept(living);
      assert.deepEqual(arena.check(), []);
    });

    test('those of one that has ended, too', async () => {
      await end(living);
      assert.ok(await eventually(() => arena.sweep().blocks === 2));
      assert.equal(arena.stats().blocks, 0);
    });
  });

  test('blocks outlive all descriptors, windows and devices', () => {
    const arena = Arena.attach(NAME);
    const block = arena.allocate(2 * pageSize, { tag: 'left' });
    const { physicalAddress, offset } = block;
    block.bytes.fill(0x77);
    arena.close();
    assert.throws(() => block.bytes, { code: 'ERR_INVALID_STATE' });
    for (const name of [OWN, findEdu().name]) {
      assert.deepEqual(counters(name), NOTHING);
    }
    using again = Arena.attach(NAME);
    assert.equal(blocksOf(again, 'left'), 1);
    assert.equal(again.blockAt(physicalAddress).offset, offset);
    using opened = openReserved();
    using window = opened.reserved.window(typeOf(again), { offset, length: 2 * pageSize });
    assert.ok(isFilledWith(window.bytes, 0x77));
    assert.deepEqual(again.sweep(), { blocks: 1, bytes: 2 * pageSize, owners: 1 });
  });

  test('loaded again: its books are new, and keep to arena_reserve and arena_max_blocks', () => {
    {
      using arena = Arena.attach(NAME);
      arena.allocate(1, { tag: 'before' });
    }
    unload();
    loadAgain({ arena_reserve: MIB, arena_max_blocks: 8 });
    try {
      using opened = openReserved();
      const { reserved } = opened;
      using arena = Arena.attach(NAME);
      const { blocks, mostUsed, byTag } = arena.stats();
      assert.deepEqual({ blocks, mostUsed, byTag }, { blocks: 0, mostUsed: 0, byTag: [] });
      assert.equal(arena.byteLength, reserved.byteLength - MIB);
      using all = arena.allocate(arena.byteLength);
      assert.throws(() => arena.allocate(1), { code: 'ENOSPC' });
      assert.throws(() => arena.blockAt(arena.physicalAddress + BigInt(arena.byteLength)), {
        code: 'ERR_OUT_OF_RANGE',
      });
      // What is kept back is zero, and for windows.
      all.bytes.fill(0xff);
      using window = reserved.window(typeOf(arena), { offset: arena.byteLength });
      assert.equal(window.byteLength, MIB);
      assert.ok(isFilledWith(window.bytes, 0));
      all.free();
      arena.allocateMany(8, 1);
      assert.throws(() => arena.allocate(1), { code: 'EDQUOT' });
    } finally {
      unload();
      loadAgain();
    }
  });
});
