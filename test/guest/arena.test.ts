/**
 * The library's arena over the module's reserved memory: where blocks are for the CPU and for a device, and whose they are
 * when processes end, in other containers too, and when the module does.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
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
import { eventually, kill, start } from './children.js';
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

/** A mount namespace, /dev/shm and process numbers of its own. */
const container = {
  execPath: '/bin/unshare',
  execArgv: [
    '-p',
    '-m',
    '-f',
    '--mount-proc',
    'sh',
    '-c',
    'mount -t tmpfs none /dev/shm && node "$0" "$@"; exit $?',
  ],
};

async function startOwner(tag: string, options = {}): Promise<{ child: ChildProcess; owned: Owned }> {
  const { child, said } = await start('arena-owner.js', [NAME, 2, 3 * pageSize, tag], options);
  assert.ok(typeof said === 'object' && said !== null, String(said));
  return { child, owned: said as Owned };
}

/** Lets a process end by itself. */
async function end(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit');
  child.disconnect();
  await exit;
}

/** By itself, with SIGKILL. */
async function die(child: ChildProcess): Promise<void> {
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

  describe('with another process', () => {
    let arena: Arena;
    let child: ChildProcess;
    let owned: Owned;

    before(async () => {
      ({ child, owned } = await startOwner('theirs'));
    });
    after(() => kill(child));
    beforeEach(() => {
      arena = Arena.attach(NAME);
    });
    afterEach(() => arena.close());

    /** What the other process has written into its blocks. */
    function assertKept(): void {
      using opened = openReserved();
      for (const offset of owned.offsets) {
        using window = opened.reserved.window(typeOf(arena), { offset, length: 3 * pageSize });
        assert.ok(isFilledWith(window.bytes, 0xa5));
      }
    }

    test('both have blocks of their own, and each sees those of the other', async () => {
      const block = arena.allocate(2 * pageSize, { tag: 'mine' });
      block.bytes.fill(0x3c);
      const mine = arena.blockAt(block.physicalAddress);
      assert.equal(owned.offsets.length, 2);
      for (const offset of owned.offsets) {
        const theirs = arena.blockAt(arena.physicalAddress + BigInt(offset));
        assert.deepEqual([theirs.offset, theirs.byteLength, theirs.tag], [offset, 3 * pageSize, 'theirs']);
        assert.notEqual(theirs.owner, mine.owner);
        assert.ok(offset >= mine.offset + mine.byteLength || offset + theirs.byteLength <= mine.offset);
        assert.throws(() => arena.free(theirs.address), { code: 'EPERM' });
      }
      assertKept();
      child.send(block.offset + 7);
      const [byte] = await once(child, 'message');
      assert.equal(byte, 0x3c);
      block.free();
    });

    test('once it is killed, its blocks stay until somebody sweeps', async () => {
      assert.equal(arena.sweep().blocks, 0);
      await kill(child);
      const owner = () => arena.stats().byOwner.find(({ pid }) => pid === owned.pid);
      assert.ok(await eventually(() => owner()?.alive === false));
      // Not even where there is no room.
      exhaust(arena);
      assert.equal(owner()?.blocks, 2);
      assertKept();
      assert.deepEqual(arena.sweep(), { blocks: 2, bytes: 6 * pageSize, owners: 1 });
      assert.equal(owner(), undefined);
      assert.equal(arena.stats().free, 6 * pageSize);
      assert.deepEqual(arena.check(), []);
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

  test('in containers: who lives keeps its blocks, though its pid means nothing here', async () => {
    using opened = openReserved();
    using arena = Arena.attach(NAME);
    const [living, dying] = await Promise.all([
      startOwner('living', container),
      startOwner('dying', container),
    ]);
    try {
      // Both see the same arena, and one pid.
      assert.equal(living.owned.pid, dying.owned.pid);
      assert.notEqual(living.child.pid, living.owned.pid);
      assert.equal(new Set([...living.owned.offsets, ...dying.owned.offsets]).size, 4);
      assert.equal(arena.sweep().blocks, 0);
      await die(dying.child);
      const dead = () => arena.stats().byOwner.filter(({ alive }) => !alive);
      assert.ok(await eventually(() => dead().length === 1));
      assert.equal(blocksOf(arena, 'dying'), 2);
      assert.deepEqual(arena.sweep(), { blocks: 2, bytes: 6 * pageSize, owners: 1 });
      assert.equal(blocksOf(arena, 'living'), 2);
      for (const offset of living.owned.offsets) {
        using window = opened.reserved.window(typeOf(arena), { offset, length: 3 * pageSize });
        assert.ok(isFilledWith(window.bytes, 0xa5));
      }
      living.child.send(0);
      await once(living.child, 'message');
    } finally {
      await end(living.child);
    }
    assert.deepEqual(arena.sweep(), { blocks: 2, bytes: 6 * pageSize, owners: 1 });
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
