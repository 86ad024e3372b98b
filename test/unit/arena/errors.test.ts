/** What an arena refuses, in which words, and that nothing was changed by it. */
import { constants as limits } from 'node:buffer';
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { refusedBlock } from '../../../lib/arena/refusal.js';
import { binding } from '../../../lib/binding.js';
import { type AllocateOptions, Arena, type ArenaOptions, DmaDevice, dmaFree } from '../../../lib/index.js';
import * as raw from '../../../lib/raw.js';
import { freshName, type Made, memfd, shm } from './backings.js';

const { MAX_LENGTH } = limits;

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

let made: Made;
let arena: Arena;
beforeEach(() => {
  made = shm.make({ byteLength: 16 * 4096 });
  ({ arena } = made);
});
afterEach(() => made[Symbol.dispose]());

/** Runs what is to fail, and finds the arena as it was. */
function refused(call: () => unknown, expected: unknown): void {
  const before = [arena.stats(), arena.dump()];
  expect(call).toThrow(expected as Error);
  expect([arena.stats(), arena.dump()]).toEqual(before);
  expect(arena.check()).toEqual([]);
}

describe('a free', () => {
  test('of a block that was freed is ERR_INVALID_STATE', () => {
    const block = arena.allocate(4096);
    block.free();
    for (const again of [() => arena.free(block), () => dmaFree(block), () => arena.freeMany([block])]) {
      refused(again, code('ERR_INVALID_STATE'));
    }
    // Another one that lies there is left alone.
    const next = arena.allocate(4096);
    expect(next.offset).toBe(block.offset);
    refused(() => arena.free(block), code('ERR_INVALID_STATE'));
    expect(next.freed).toBe(false);
  });

  test('of a block twice in one call frees nothing', () => {
    const block = arena.allocate(4096);
    const other = arena.allocate(4096);
    refused(() => arena.freeMany([other, block, block]), code('ERR_INVALID_STATE'));
    expect([block.freed, other.freed]).toEqual([false, false]);
  });

  test('of a block that somebody else freed meanwhile names it', () => {
    using other = made.attach();
    const block = arena.allocate(4096, { tag: 'first' });
    other.free(block.offset, { force: true });
    refused(() => arena.free(block), code('ERR_INVALID_STATE'));
    const next = arena.allocate(8192, { tag: 'second' });
    expect(next.offset).toBe(block.offset);
    refused(
      () => arena.free(block),
      /0x0.*freed by somebody else; bytes 0x0 to 0x1fff are another block now/,
    );
  });

  test('of many of which somebody else freed one meanwhile frees none', () => {
    using other = made.attach();
    const blocks = arena.allocateMany(3, 4096);
    const second = blocks[1]?.offset ?? 0;
    other.free(second, { force: true });
    refused(() => arena.freeMany(blocks), /0x1000 .*freed by somebody else/);
    expect([arena.stats().blocks, ...blocks.map(({ freed }) => freed)]).toEqual([2, false, false, false]);
  });

  test("of another owner's block is EPERM, and done with force", () => {
    using other = made.attach();
    const block = arena.allocate(4096, { tag: 'mine' });
    refused(
      () => other.free(block.offset),
      /^EPERM: .*bytes 0x0 to 0xfff are a block of owner \d+, .*force: true/,
    );
    block.bytes[0] = 1;
    other.free(block.offset, { force: true });
    expect(arena.stats().blocks).toBe(0);
  });

  test('of a block takes no force, which is for addresses', () => {
    const block = arena.allocate(4096);
    const options = { force: true };
    // @ts-expect-error: a block is of this attachment
    refused(() => arena.free(block, options), /force/);
    expect(block.freed).toBe(false);
  });

  test.each([
    ['inside of a block', 4096],
    ['of no block', 3 * 4096],
    ['beyond the arena', 16 * 4096],
    ['below it', -1],
  ])('of an address %s is ERR_OUT_OF_RANGE', (_what, offset) => {
    arena.allocate(3 * 4096);
    refused(() => arena.free(offset), code('ERR_OUT_OF_RANGE'));
  });
});

describe('a request', () => {
  test.each<[string, unknown, unknown, string]>([
    ['no length', undefined, {}, 'ERR_INVALID_ARG_TYPE'],
    ['a length of 0', 0, {}, 'ERR_OUT_OF_RANGE'],
    ['a length below 0', -1, {}, 'ERR_OUT_OF_RANGE'],
    ['half a byte', 0.5, {}, 'ERR_OUT_OF_RANGE'],
    ['a length as text', '4096', {}, 'ERR_INVALID_ARG_TYPE'],
    ['an alignment of 0', 1, { align: 0 }, 'ERR_OUT_OF_RANGE'],
    ['an alignment of 3', 1, { align: 3 }, 'ERR_OUT_OF_RANGE'],
    ['a boundary of 3', 1, { boundary: 3 }, 'ERR_OUT_OF_RANGE'],
    ['a boundary that is shorter than the block', 4097, { boundary: 4096 }, 'ERR_OUT_OF_RANGE'],
    ['an alignment as text', 1, { align: '64' }, 'ERR_INVALID_ARG_TYPE'],
    ['a tag of 48 bytes', 1, { tag: 'ü'.repeat(24) }, 'ERR_INVALID_ARG_VALUE'],
    ['a tag that is a number', 1, { tag: 5 }, 'ERR_INVALID_ARG_TYPE'],
    ['zero as a number', 1, { zero: 1 }, 'ERR_INVALID_ARG_TYPE'],
    ['guard as a number', 1, { guard: 1 }, 'ERR_INVALID_ARG_TYPE'],
    ['memory that is none', 1, { memory: 'fast' }, 'ERR_INVALID_ARG_VALUE'],
    ['memory that it has not', 1, { memory: 'uncached' }, 'EOPNOTSUPP'],
    ['an option that there is not', 1, { alignment: 64 }, 'ERR_INVALID_ARG_VALUE'],
    ['options that are none', 1, 64, 'ERR_INVALID_ARG_TYPE'],
  ])('with %s is refused', (_what, byteLength, options, expected) => {
    refused(() => arena.allocate(byteLength as number, options as AllocateOptions), code(expected));
    refused(() => arena.allocateMany(2, byteLength as number, options as AllocateOptions), code(expected));
  });

  test.each([-1, 0.5, '1', undefined])('for %o blocks is refused', (count) => {
    const expected = expect.objectContaining({ code: expect.stringMatching(/^ERR_/) });
    refused(() => arena.allocateMany(count as number, 4096), expected);
  });

  test('that finds no room says what there is', () => {
    const blocks = arena.allocateMany(16, 4096);
    arena.freeMany([3, 4, 8].flatMap((index) => blocks[index] ?? []));
    refused(() => arena.allocate(3 * 4096), /^ENOSPC: .*\b12288\b.*\b8192\b/);
    refused(() => arena.allocate(2 * 4096, { align: 8192 }), /^ENOSPC: .*\b12288\b.*\b8192\b/);
    refused(
      () => arena.allocateMany(2, 2 * 4096),
      /^ENOSPC: .*2 blocks of 8192 bytes: 12288 bytes are free, 8192 in one run/,
    );
    refused(() => arena.allocate(17 * 4096), code('ERR_OUT_OF_RANGE'));
  });
});

describe('after close()', () => {
  test('every call is ERR_INVALID_STATE, and every view has length 0', () => {
    const block = arena.allocate(4096);
    const guarded = arena.allocate(4096, { guard: true });
    const views = [block.bytes, guarded.bytes, block.subarray(1, 5).bytes];
    const other = made.attach();
    arena.close();
    arena.close();
    arena[Symbol.dispose]();
    for (const use of [
      () => arena.allocate(1),
      () => arena.allocateMany(1, 1),
      () => arena.free(block),
      () => arena.freeMany([block]),
      () => arena.stats(),
      () => arena.blockAt(0),
      () => arena.bytesAt(0, 1),
      () => arena.check(),
      () => arena.dump(),
      () => arena.map(4),
      () => arena.sweep(),
      () => arena.fd,
      () => block.bytes,
      () => guarded.bytes,
      () => block.free(),
    ]) {
      expect(use).toThrow(code('ERR_INVALID_STATE'));
    }
    expect(views.map(({ length }) => length)).toEqual([0, 0, 0]);
    // What it had is a dead owner's.
    expect(other.stats().byOwner.filter(({ blocks }) => blocks > 0)).toMatchObject([{ alive: false }]);
    expect(other.sweep()).toMatchObject({ blocks: 2, owners: 1 });
    other.close();
  });
});

describe('views', () => {
  const carriesOff = 'transfer' in ArrayBuffer.prototype;

  test.skipIf(!carriesOff)('are wrapped anew when the ArrayBuffer was transferred (Node 22)', () => {
    const first = arena.allocate(4096);
    const second = arena.allocate(4096);
    first.bytes.fill(1);
    second.bytes.fill(2);
    const guarded = arena.allocate(4096, { guard: true });
    for (const { bytes } of [first, guarded]) {
      (bytes.buffer as ArrayBuffer & { transfer(): ArrayBuffer }).transfer();
      expect(bytes).toHaveLength(0);
    }
    expect(guarded.bytes).toHaveLength(4096);
    guarded.free();
    for (const [block, byte] of [
      [first, 1],
      [second, 2],
    ] as const) {
      expect(block.bytes).toHaveLength(4096);
      expect(block.bytes.every((found) => found === byte)).toBe(true);
    }
    expect(first.bytes.buffer).toBe(second.bytes.buffer);
    // It is the arena's memory, and no copy.
    first.bytes[0] = 77;
    using other = made.attach();
    using again = other.allocate(4096);
    expect(again.offset).toBe(8192);
    first.free();
    expect(arena.allocate(4096).bytes[0]).toBe(77);
    second.free();
  });

  test('that were kept alias what comes next, and with guard nothing', () => {
    const plain = arena.allocate(4096);
    const kept = plain.bytes;
    plain.free();
    const next = arena.allocate(4096);
    next.bytes.fill(5);
    expect(kept[0]).toBe(5);
    next.free();

    const guarded = arena.allocate(100, { guard: true });
    expect(guarded.offset).toBe(0);
    guarded.bytes.fill(6);
    const views = [guarded.bytes, guarded.subarray(10, 20).bytes, new Uint16Array(guarded.bytes.buffer)];
    guarded.free();
    expect(views.map(({ byteLength }) => byteLength)).toEqual([0, 0, 0]);
    expect(() => guarded.bytes).toThrow(code('ERR_INVALID_STATE'));
    // Its bytes are the arena's.
    expect(arena.allocate(4096).bytes.subarray(0, 101)).toEqual(Uint8Array.from([...Array(100).fill(6), 5]));
  });
});

/** A file with an arena, and what is in it. */
class ArenaFile implements Disposable {
  readonly name = freshName();
  readonly path = `/dev/shm/iospace-arena.${this.name}`;

  constructor() {
    using arena = Arena.create({ name: this.name, byteLength: 1 << 20 });
    arena.allocate(1);
  }

  write(offset: number, bytes: Uint8Array): void {
    const fd = openSync(this.path, 'r+');
    writeSync(fd, bytes, 0, bytes.length, offset);
    closeSync(fd);
  }

  /** Adds one to a byte. */
  damage(offset: number): void {
    const fd = openSync(this.path, 'r+');
    const byte = new Uint8Array(1);
    readSync(fd, byte, 0, 1, offset);
    byte[0] = (byte[0] ?? 0) + 1;
    writeSync(fd, byte, 0, 1, offset);
    closeSync(fd);
  }

  /** Writes what the header has for its constant part, as whoever forged one would. */
  renewChecksum(): void {
    // FNV-1a.
    const sum = readFileSync(this.path)
      .subarray(0, CHECKSUM)
      .reduce((hash, byte) => BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100_0000_01b3n), FNV_BASIS);
    this.write(CHECKSUM, new Uint8Array(BigUint64Array.of(sum).buffer));
  }

  [Symbol.dispose](): void {
    unlinkSync(this.path);
  }
}

const FNV_BASIS = 0xcbf2_9ce4_8422_2325n;

/** Where the header has what. */
const MAGIC = 0;
const VERSION = 8;
const ABI = 12;
const KIND = 16;
const GRANULE = 24;
const GRANULES = 32;
const MEMORY_OFFSET = 48;
const BOOKS_BYTES = 56;
const CHECKSUM = 200;

describe('a file that is no arena of ours', () => {
  let file: ArenaFile;
  beforeEach(() => {
    file = new ArenaFile();
  });
  afterEach(() => file[Symbol.dispose]());

  /** Finds that it is refused by name and by descriptor, and left as it is. */
  function foreign(expected: RegExp): void {
    const before = readFileSync(file.path);
    const fd = openSync(file.path, 'r+');
    expect(() => Arena.attach(file.name)).toThrow(expected);
    expect(() => Arena.attach({ fd })).toThrow(expected);
    closeSync(fd);
    expect(readFileSync(file.path).equals(before)).toBe(true);
    expect(Arena.list().find(({ name }) => name === file.name)).toMatchObject({
      error: expect.objectContaining({ message: expect.stringMatching(expected) }),
    });
  }

  test('is as it should be, unless it is damaged', () => {
    using found = Arena.attach(file.name);
    expect(found.stats().blocks).toBe(1);
    file.renewChecksum();
    using again = Arena.attach(file.name);
    expect(again.check()).toEqual([]);
  });

  test('but an empty one is EINVAL', () => {
    truncateSync(file.path, 0);
    foreign(/^EINVAL: .*no arena/);
  });

  test('but of something else is EINVAL', () => {
    writeFileSync(file.path, 'something else'.repeat(1000));
    foreign(/^EINVAL: .*no arena/);
  });

  test.each(Array.from({ length: 8 }, (_, byte) => MAGIC + byte))(
    'by byte %i of its magic is EINVAL',
    (at) => {
      file.damage(at);
      foreign(/^EINVAL: .*no arena/);
    },
  );

  test('but of another version is EPROTO, and says which', () => {
    file.damage(VERSION);
    file.renewChecksum();
    foreign(/^EPROTO: .*of version 2, this package knows version 1/);
  });

  test('but of another machine or C library is EPROTO', () => {
    file.damage(ABI);
    file.renewChecksum();
    foreign(/^EPROTO: .*another architecture or C library/);
  });

  test('by any other byte of its header is EBADMSG', () => {
    const whole = readFileSync(file.path).subarray(0, CHECKSUM + 8);
    for (let at = KIND; at < whole.length; at++) {
      file.write(0, whole);
      file.damage(at);
      expect(() => Arena.attach(file.name), `byte ${at}`).toThrow(/^EBADMSG: .*damaged/);
    }
    foreign(/^EBADMSG: .*damaged/);
  });

  test.each([
    ['of the books', BOOKS_BYTES + 1],
    ['of its granules', GRANULE],
    ['of the arena', GRANULES],
    ['of what is before the memory', MEMORY_OFFSET + 3],
  ])('by the size %s is EBADMSG, though nothing else is wrong', (_what, at) => {
    file.damage(at);
    file.renewChecksum();
    foreign(/^EBADMSG: .*damaged/);
  });

  test('that ends before its memory is EBADMSG', () => {
    const { size } = statSync(file.path);
    for (const length of [size - 1, size / 2, 4096]) {
      truncateSync(file.path, length);
      foreign(new RegExp(`^EBADMSG: .*${length} bytes where ${size} should be`));
    }
  });

  test('that is a link is not followed', () => {
    const link = freshName();
    symlinkSync(file.path, `/dev/shm/iospace-arena.${link}`);
    expect(() => Arena.attach(link)).toThrow(/^ELOOP: /);
    unlinkSync(`/dev/shm/iospace-arena.${link}`);
  });

  test('that is no file of memory at all', () => {
    const fd = openSync('/dev/null', 'r+');
    expect(() => Arena.attach({ fd })).toThrow(/^E[A-Z]+: /);
    closeSync(fd);
    expect(() => Arena.attach({ fd: 1_000_000 })).toThrow(code('EBADF'));
  });
});

describe('a new arena', () => {
  test.each<[string, unknown, string]>([
    ['a granule of 32', { granule: 32 }, 'ERR_OUT_OF_RANGE'],
    ['a granule of 100', { granule: 100 }, 'ERR_OUT_OF_RANGE'],
    ['a granule as text', { granule: '4096' }, 'ERR_INVALID_ARG_TYPE'],
    ['no bytes', { byteLength: 0 }, 'ERR_OUT_OF_RANGE'],
    ['half a byte', { byteLength: 0.5 }, 'ERR_OUT_OF_RANGE'],
    ['more than 2^30 granules', { byteLength: 2 ** 36 + 1, granule: 64 }, 'ERR_OUT_OF_RANGE'],
    ['a backing that there is not', { backing: 'disk' }, 'ERR_INVALID_ARG_VALUE'],
    ['a backing that is something', { backing: {} }, 'ERR_INVALID_ARG_VALUE'],
    ['shared memory without a name', { backing: 'shm' }, 'ERR_INVALID_ARG_VALUE'],
    ['an empty name', { name: '' }, 'ERR_INVALID_ARG_VALUE'],
    ['a name with a slash', { name: 'a/b' }, 'ERR_INVALID_ARG_VALUE'],
    ["the module's name", { name: 'module:0' }, 'ERR_INVALID_ARG_VALUE'],
    ['a name of 64 bytes', { name: 'x'.repeat(64) }, 'ERR_INVALID_ARG_VALUE'],
    ['a name that is a number', { name: 5 }, 'ERR_INVALID_ARG_TYPE'],
    ['a mode beyond 0777', { name: 'x', mode: 0o1777 }, 'ERR_OUT_OF_RANGE'],
    ['allocate as a number', { allocate: 1 }, 'ERR_INVALID_ARG_TYPE'],
    ['an option that there is not', { size: 4096 }, 'ERR_INVALID_ARG_VALUE'],
  ])('with %s is refused', (_what, options, expected) => {
    expect(() => Arena.create(options as ArenaOptions)).toThrow(code(expected));
  });

  test('of a name that there is is EEXIST, and leaves the other', () => {
    arena.allocate(1);
    expect(() => Arena.create({ name: arena.name, byteLength: 4096 })).toThrow(code('EEXIST'));
    using other = made.attach();
    expect(other.stats()).toMatchObject({ byteLength: 16 * 4096, blocks: 1 });
  });

  const { blocks, bsize } = statfsSync('/dev/shm');
  test.skipIf(blocks === 0)('of more than there is is ENOSPC, and leaves no name', () => {
    const name = freshName();
    const create = () => Arena.create({ name, byteLength: (blocks + 1) * bsize, granule: 1 << 20 });
    expect(create).toThrow(code('ENOSPC'));
    expect(existsSync(`/dev/shm/iospace-arena.${name}`)).toBe(false);
  });

  test('has the permissions that it was asked for', () => {
    const name = freshName();
    using one = Arena.create({ name, byteLength: 4096, mode: 0o640 });
    expect(statSync(`/dev/shm/iospace-arena.${name}`).mode & 0o777).toBe(0o640);
    one.unlink();
    expect(() => one.unlink()).toThrow(code('ENOENT'));
    expect(() => Arena.attach(name)).toThrow(/^ENOENT: .*there is no arena/);
    // Who has it keeps it.
    one.allocate(4096).bytes.fill(1);
  });

  test('over a buffer ends where the buffer does', () => {
    using device = DmaDevice.open({ provider: 'memfd' });
    const buffer = device.alloc(5 * 4096 - 1);
    expect(() => Arena.create({ backing: buffer, byteLength: 5 * 4096 })).toThrow(code('ERR_OUT_OF_RANGE'));
    using over = Arena.create({ backing: buffer });
    expect(over).toMatchObject({ backing: 'buffer', byteLength: 4 * 4096 });
    expect(() => over.allocate(1, { guard: true })).toThrow(code('EOPNOTSUPP'));
    for (const impossible of [() => over.fd, () => over.unlink(), () => over.physicalAddress]) {
      expect(impossible).toThrow(code('EOPNOTSUPP'));
    }
    const block = over.allocate(4096);
    expect(() => block.dmaAddress).toThrow(code('EOPNOTSUPP'));
    block.bytes.fill(9);
    expect(buffer.bytes[block.offset]).toBe(9);
  });

  test('over a buffer that has one is EEXIST, until that is closed', () => {
    using device = DmaDevice.open({ provider: 'memfd' });
    const backing = device.alloc(4096);
    const first = Arena.create({ backing });
    expect(() => Arena.create({ backing })).toThrow(code('EEXIST'));
    first.close();
    using second = Arena.create({ backing });
    expect(second.allocate(4096).offset).toBe(0);
  });
});

describe('addresses', () => {
  test.each([shm, memfd])('of $name are EOPNOTSUPP, with the way to a device', (backing) => {
    using one = backing.make({ byteLength: 4096 });
    const block = one.arena.allocate(1);
    for (const address of [
      () => one.arena.physicalAddress,
      () => one.arena.dmaAddress,
      () => block.physicalAddress,
      () => block.dmaAddress,
    ]) {
      expect(address).toThrow(code('EOPNOTSUPP'));
    }
    expect(() => block.dmaAddress).toThrow(/mapUser/);
  });
});

test.skipIf(MAX_LENGTH > 2 ** 33)(
  'a block longer than an array can be has no bytes, and is not zeroed',
  () => {
    using large = memfd.make({ byteLength: 2 ** 34, allocate: false });
    const block = large.arena.allocate(MAX_LENGTH + 1);
    expect(() => block.bytes).toThrow(code('ERR_OUT_OF_RANGE'));
    block.free();
    expect(() => large.arena.allocate(MAX_LENGTH + 1, { zero: true })).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(large.arena.stats()).toMatchObject({ used: 0, blocks: 0 });
  },
);

test('an alignment that no address of the arena has is refused as one, whatever the boundary', () => {
  const fd = raw.memfdCreate('iospace-test', raw.constants.MFD_ALLOW_SEALING);
  const native = binding().createArena(fd, {
    granule: 65_536,
    granules: 16,
    memoryBytes: 16 * 65_536,
    kind: 5,
    reclaims: false,
    allocate: false,
    physicalAddress: 0n,
    maxBlocks: 0,
    name: 'odd',
  });
  raw.close(fd);
  if ('fault' in native) {
    expect.fail(`fault ${native.fault}`);
  }
  native.setBase(4096n);
  const about = { name: 'odd', granule: 65_536, native };
  const refusal = (align: number, boundary: number) =>
    refusedBlock(about, native.allocate(1, align, boundary, 0), { byteLength: 1, align, boundary, count: 1 });
  expect(native.allocate(1, 4096, 0, 0)).toBe(0);
  expect(refusal(8192, 0).message).toMatch(/ for align, got 8192/);
  expect(refusal(8192, 131_072).message).toMatch(/ for align, got 8192/);
  expect(refusal(1, 65_536).message).toMatch(/more than the 65536 .* for boundary, got 65536/);
  expect(refusal(1, 4096).message).toMatch(/at least the 65536 .* for boundary, got 4096/);
  native.close();
});

describe('an arena that devices reach, with a limit', () => {
  let fd: number;
  let first: Arena;
  let second: Arena;
  beforeEach(() => {
    fd = raw.memfdCreate('iospace-test', raw.constants.MFD_ALLOW_SEALING);
    // As the module's are, in memory that this host has.
    const native = binding().createArena(fd, {
      granule: 4096,
      granules: 16,
      memoryBytes: 16 * 4096,
      kind: 2,
      reclaims: false,
      allocate: true,
      physicalAddress: 0n,
      maxBlocks: 3,
      name: 'limited',
    });
    expect('fault' in native).toBe(false);
    first = Arena.attach({ fd });
    second = Arena.attach({ fd });
    if ('close' in native) {
      native.close();
    }
  });
  afterEach(() => {
    first.close();
    second.close();
    raw.close(fd);
  });

  test('has so many blocks, and one more is EDQUOT', () => {
    const blocks = first.allocateMany(2, 4096);
    const third = second.allocate(4096);
    const before = first.dump();
    for (const more of [() => first.allocate(1), () => second.allocateMany(2, 1)]) {
      expect(more).toThrow(/^EDQUOT: .*3 blocks/);
    }
    expect(first.dump()).toEqual(before);
    third.free();
    expect(() => first.allocateMany(2, 1)).toThrow(code('EDQUOT'));
    expect(second.stats().blocks).toBe(2);
    first.freeMany(blocks);
    second.allocateMany(3, 1);
  });

  test('is never swept by itself', () => {
    second.allocate(15 * 4096);
    second.close();
    expect(() => first.allocate(2 * 4096)).toThrow(code('ENOSPC'));
    expect(first.stats()).toMatchObject({ blocks: 1, used: 15 * 4096 });
    expect(first.sweep()).toEqual({ blocks: 1, bytes: 15 * 4096, owners: 1 });
    first.allocate(16 * 4096);
  });
});
