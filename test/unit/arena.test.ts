/** Arenas of plain memory, and the default one: what a block is, who shares it, what is refused with which words. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { inspect, promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Arena, type ArenaOptions, type DmaBlockPart, DmaDevice } from '../../lib/index.js';
import { runChild } from './child.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

const KIB = 1024;
const MIB = 2 ** 20;
const GIB = 2 ** 30;

let counter = 0;
const freshName = (): string => `unit-${process.pid}-${counter++}`;

let arena: Arena;
beforeEach(() => {
  arena = Arena.create({ byteLength: MIB });
});
afterEach(() => {
  arena.close();
});

describe('an arena', () => {
  test('says what it is', () => {
    expect(arena).toMatchObject({
      name: 'memfd',
      backing: 'memfd',
      byteLength: MIB,
      granule: 4096,
      memory: 'cached',
      memoryTypes: ['cached'],
      closed: false,
    });
    expect(inspect(arena)).toBe(
      "Arena { name: 'memfd', backing: memfd, byteLength: 1048576, granule: 4096, memory: cached, closed: false }",
    );
  });

  test('is as long as whole granules, or 64 MiB', () => {
    using odd = Arena.create({ byteLength: 1000, granule: 64 });
    using usual = Arena.create({ allocate: false });
    expect([odd.byteLength, usual.byteLength]).toEqual([1024, 64 * MIB]);
  });

  test.each<[unknown, string]>([
    [{ granule: 32 }, 'ERR_OUT_OF_RANGE'],
    [{ granule: 5000 }, 'ERR_OUT_OF_RANGE'],
    [{ byteLength: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ byteLength: '1M' }, 'ERR_INVALID_ARG_TYPE'],
    [{ byteLength: 2 ** 41, granule: 1024 }, 'ERR_OUT_OF_RANGE'],
    [{ backing: 'shm' }, 'ERR_INVALID_ARG_VALUE'],
    [{ backing: 'buffer' }, 'ERR_INVALID_ARG_VALUE'],
    [{ backing: 'module', name: 'mine' }, 'ERR_INVALID_ARG_VALUE'],
    [{ name: 'a/b' }, 'ERR_INVALID_ARG_VALUE'],
    [{ name: 'module:0' }, 'ERR_INVALID_ARG_VALUE'],
    [{ name: '' }, 'ERR_INVALID_ARG_VALUE'],
    [{ name: 'x'.repeat(64) }, 'ERR_INVALID_ARG_VALUE'],
    [{ name: 5 }, 'ERR_INVALID_ARG_TYPE'],
    [{ mode: 0o1000 }, 'ERR_OUT_OF_RANGE'],
    [{ allocate: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ size: 5 }, 'ERR_INVALID_ARG_VALUE'],
  ])('is not made with %o', (options, expected) => {
    expect(() => Arena.create(options as ArenaOptions)).toThrow(code(expected));
  });

  test('of a backing that there is not: the message has all that there are', () => {
    const options = { backing: 'disk' } as unknown as ArenaOptions;
    expect(() => Arena.create(options)).toThrow(
      /'hugepages', 'module', one of device\.arenas or a DmaBuffer/,
    );
  });

  test('longer than the machine has memory is ENOSPC, and ends nobody', async () => {
    // No file may be as long as this one in the child: without the check it ends, and the machine lives on.
    const { stdout } = await promisify(execFile)('prlimit', [
      '--fsize=67108864',
      process.execPath,
      '-e',
      `const { Arena } = require('iospace');
       try { Arena.create({ byteLength: 2 ** 42 }); } catch ({ message }) { console.log(message); }`,
    ]);
    expect(stdout).toMatch(/^ENOSPC: .*4398046511104 bytes, and the machine has \d+ left/);
  });

  test('takes its pages at once, or as they are touched', () => {
    using now = Arena.create({ byteLength: 8 * MIB });
    using later = Arena.create({ byteLength: 8 * MIB, allocate: false });
    const pages = ({ fd }: Arena): number => statSync(`/proc/self/fd/${fd}`).blocks * 512;
    expect(pages(now)).toBeGreaterThanOrEqual(8 * MIB);
    expect(pages(later)).toBeLessThan(MIB);
  });

  test('draws a map, dumps, and is sound', () => {
    const blocks = arena.allocateMany(3, 64 * KIB, { tag: 'third' });
    blocks[1]?.free();
    expect(arena.map(16)).toEqual([1, 0, 1, ...Array(13).fill(0)]);
    expect(JSON.parse(JSON.stringify(arena.dump()))).toMatchObject({
      name: 'memfd',
      granule: 4096,
      stats: { blocks: 2, byOwner: [{ pid: process.pid, alive: true, blocks: 2, bytes: 128 * KIB }] },
      blocks: [
        { offset: 0, byteLength: 64 * KIB, owner: 1, tag: 'third' },
        { offset: 128 * KIB, byteLength: 64 * KIB, owner: 1, tag: 'third' },
      ],
    });
    expect(arena.check()).toEqual([]);
  });

  test('attaches to what is one, and says what is not', () => {
    expect(() => Arena.attach('nobody-made-this')).toThrow(/^ENOENT: .*'nobody-made-this'/);
    expect(() => Arena.attach({ fd: 2 ** 31 - 1 })).toThrow(code('EBADF'));
    for (const target of [5, undefined, {}, { fd: '3' }]) {
      expect(() => Arena.attach(target as never)).toThrow(code('ERR_INVALID_ARG_TYPE'));
    }
  });

  test('ends its arrays when it is closed', () => {
    const block = arena.allocate(4096);
    const { bytes } = block;
    arena.close();
    arena.close();
    expect(bytes).toHaveLength(0);
    expect(arena.closed).toBe(true);
    for (const use of [
      () => block.bytes,
      () => block.free(),
      () => arena.allocate(1),
      () => arena.fd,
      () => arena.stats(),
    ]) {
      expect(use).toThrow(code('ERR_INVALID_STATE'));
    }
    // `using` of a block outlives its arena.
    block[Symbol.dispose]();
  });
});

describe('a block', () => {
  test('says what it is, and touches nothing for it', () => {
    arena.allocate(4096);
    const block = arena.allocate(5000, { tag: 'frame' });
    expect(block).toMatchObject({
      byteLength: 5000,
      offset: 4096,
      memory: 'cached',
      tag: 'frame',
      freed: false,
    });
    expect(Object.keys(block)).toEqual(['byteLength', 'tag']);
    expect(inspect(block)).toBe(
      "DmaBlock { arena: memfd, offset: 0x1000, byteLength: 5000, memory: cached, tag: 'frame', freed: false }",
    );
    expect(arena.blockAt(4096 + 5001)).toMatchObject({
      address: 4096n,
      offset: 4096,
      byteLength: 8192,
      tag: 'frame',
      left: 8192 - 5001,
    });
  });

  test('is memory that others see at the same place', () => {
    const block = arena.allocate(4096);
    block.bytes.set([1, 2, 3]);
    using same = Arena.attach({ fd: arena.fd });
    expect(same.bytesAt(block.offset, 3)).toEqual(new Uint8Array([1, 2, 3]));
  });

  test('is zeroed where that is asked for', () => {
    const first = arena.allocate(8192);
    first.bytes.fill(7);
    first.free();
    expect(arena.allocate(4096).bytes[0]).toBe(7);
    expect(arena.allocate(4096, { zero: true }).bytes[0]).toBe(0);
  });

  test('has no address where there is none, and says what to do', () => {
    const block = arena.allocate(4096);
    expect(() => block.physicalAddress).toThrow(/^EOPNOTSUPP: .*of the kind memfd/);
    expect(() => block.dmaAddress).toThrow(/^EOPNOTSUPP: .*device\.mapUser\(block\.bytes/);
    using device = DmaDevice.open({ provider: 'memfd' });
    expect(() => device.attachArena(arena)).toThrow(/^EOPNOTSUPP: .*device\.mapUser/);
    expect(() => device.attachArena({} as never)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test('is a window of its own type, and of no other', () => {
    const block = arena.allocate(4096);
    using window = block.window('cached');
    window.bytes[5] = 9;
    expect(block.bytes[5]).toBe(9);
    expect(window.view(DataView, 5).getUint8(0)).toBe(9);
    expect(() => block.window('uncached')).toThrow(/^EOPNOTSUPP: .*is cached, and nothing else/);
    expect(() => arena.allocate(1, { memory: 'uncached' })).toThrow(
      /^EOPNOTSUPP: .*can be cached, not uncached/,
    );
    block.free();
    expect(() => window.bytes).toThrow(code('ERR_INVALID_STATE'));
  });

  test('has parts, which end with it', () => {
    arena.allocate(4096);
    const block = arena.allocate(100);
    const part: DmaBlockPart = block.subarray(10, 30).subarray(5);
    part.bytes.fill(4);
    expect([...block.bytes.subarray(13, 17)]).toEqual([0, 0, 4, 4]);
    expect(part).toMatchObject({ byteLength: 15, offset: 4096 + 15 });
    for (const [begin, end] of [
      [0, 101],
      [5, 5],
      [-1, 5],
    ]) {
      expect(() => block.subarray(begin, end)).toThrow(code('ERR_OUT_OF_RANGE'));
    }
    expect(() => part.subarray(0, 16)).toThrow(code('ERR_OUT_OF_RANGE'));
    block.free();
    expect(() => part.bytes).toThrow(code('ERR_INVALID_STATE'));
  });

  test('frees itself at the end of its scope, once', () => {
    {
      using block = arena.allocate(4096);
      block.bytes.fill(1);
    }
    {
      using block = arena.allocate(4096);
      block.free();
      expect(() => block.free()).toThrow(/the block at 0x0 of 4096 bytes was freed/);
    }
    expect(arena.stats().blocks).toBe(0);
  });

  test('of another arena is not freed by this one', () => {
    using other = Arena.create({ byteLength: MIB });
    const block = other.allocate(1);
    for (const free of [() => arena.free(block), () => arena.freeMany([block])]) {
      expect(free).toThrow(code('ERR_INVALID_ARG_TYPE'));
    }
    expect(block.freed).toBe(false);
  });

  test('lies as it was asked for', () => {
    arena.allocate(4096);
    expect(arena.allocate(4096, { align: 64 * KIB }).offset).toBe(64 * KIB);
    expect(arena.allocate(64 * KIB, { boundary: 64 * KIB }).offset % (64 * KIB)).toBe(0);
    expect(() => arena.allocate(8192, { boundary: 4096 })).toThrow(
      /^expected at least the 8192 bytes that the block takes for boundary, got 4096/,
    );
  });
});

describe('an arena that is longer than an ArrayBuffer of Node 20', () => {
  test('shows each block, wherever it lies', () => {
    using long = Arena.create({ byteLength: 16 * GIB, granule: 2 * MIB, allocate: false });
    const blocks = Array.from({ length: 15 }, () => long.allocate(GIB + 6 * MIB));
    for (const [index, { bytes, byteLength }] of blocks.entries()) {
      expect(bytes).toHaveLength(byteLength);
      bytes[0] = index + 1;
      bytes[byteLength - 1] = index + 101;
    }
    using same = Arena.attach({ fd: long.fd });
    for (const [index, { offset, byteLength }] of blocks.entries()) {
      expect(same.bytesAt(offset, byteLength)[0]).toBe(index + 1);
      expect(same.bytesAt(offset + byteLength - 1, 1)[0]).toBe(index + 101);
    }
    const views = blocks.map(({ bytes }) => bytes);
    long.close();
    expect(views.every(({ length }) => length === 0)).toBe(true);
  });
});

describe('an arena in shared memory', () => {
  test('has a name that is there from one moment to the next, and until it is unlinked', () => {
    const name = freshName();
    using made = Arena.create({ name, byteLength: MIB, mode: 0o640 });
    const path = `/dev/shm/iospace-arena.${name}`;
    expect(made).toMatchObject({ name, backing: 'shm' });
    expect(statSync(path).mode & 0o777).toBe(0o640);
    expect(Arena.list()).toContainEqual({ name, backing: 'shm', byteLength: MIB, granule: 4096 });
    expect(() => Arena.create({ name, byteLength: MIB })).toThrow(/^EEXIST: .*Arena\.attach/);
    using same = Arena.attach(name);
    const block = made.allocate(4096, { tag: 'there' });
    expect(same.blockAt(block.offset)).toMatchObject({ tag: 'there', owner: made.owner });
    made.unlink();
    expect(existsSync(path)).toBe(false);
    expect(() => made.unlink()).toThrow(code('ENOENT'));
    expect(() => Arena.attach(name)).toThrow(code('ENOENT'));
    expect(same.stats().blocks).toBe(1);
  });

  test('is not made where there is no room for it, and leaves no name', () => {
    const name = freshName();
    expect(() => Arena.create({ name, byteLength: 2 ** 42, granule: MIB })).toThrow(code('ENOSPC'));
    expect(existsSync(`/dev/shm/iospace-arena.${name}`)).toBe(false);
  });
});

describe('an arena over a buffer', () => {
  test("is the buffer's memory, which its owner frees", () => {
    using device = DmaDevice.open({ provider: 'memfd' });
    const buffer = device.alloc(10_000);
    const over = Arena.create({ backing: buffer, granule: 1024 });
    expect(over).toMatchObject({ backing: 'buffer', byteLength: 9216, memory: 'cached' });
    over.allocate(1024);
    const block = over.allocate(1000);
    block.bytes.fill(5);
    expect([buffer.bytes[1023], buffer.bytes[1024]]).toEqual([0, 5]);
    expect(() => over.fd).toThrow(code('EOPNOTSUPP'));
    expect(() => over.allocate(1, { guard: true })).toThrow(code('EOPNOTSUPP'));
    expect(() => device.attachArena(over)).toThrow(/^EOPNOTSUPP: .*by the buffer's device alone/);
    over.close();
    expect(() => block.bytes).toThrow(code('ERR_INVALID_STATE'));
    expect(buffer.bytes[1024]).toBe(5);
  });

  test('ends with the buffer', () => {
    using device = DmaDevice.open({ provider: 'memfd' });
    const buffer = device.alloc(8192);
    using over = Arena.create({ backing: buffer });
    const block = over.allocate(4096);
    const { bytes } = block;
    buffer.free();
    expect(bytes).toHaveLength(0);
    expect(() => block.bytes).toThrow(code('ERR_INVALID_STATE'));
    expect(() => Arena.create({ backing: buffer })).toThrow(code('ERR_INVALID_STATE'));
  });

  test('has whole granules of it', () => {
    using device = DmaDevice.open({ provider: 'memfd' });
    const buffer = device.alloc(8192);
    expect(() => Arena.create({ backing: buffer, granule: 16_384 })).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => Arena.create({ backing: buffer, byteLength: 8193 })).toThrow(code('ERR_OUT_OF_RANGE'));
  });
});

/** How many of this process are of an arena's file. */
function descriptors(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('iospace-arena.');
    } catch {
      // That of the directory itself.
      return false;
    }
  }).length;
}

const dist = new URL('../../dist/index.js', import.meta.url).href;

describe('a worker thread', () => {
  const start = (body: string): Worker =>
    new Worker(
      `(async () => {
        const { Arena } = await import(${JSON.stringify(dist)});
        const { parentPort, workerData } = require('node:worker_threads');
        const arena = Arena.attach({ fd: workerData });
        ${body}
      })()`,
      { eval: true, workerData: arena.fd },
    );

  test('allocates from the same arena, as an owner of its own', async () => {
    const worker = start(`
      const block = arena.allocate(4096, { tag: 'worker' });
      block.bytes.fill(9);
      parentPort.once('message', () => parentPort.close());
      parentPort.postMessage([block.offset, arena.owner]);`);
    const [[offset, owner]] = await once(worker, 'message');
    expect(owner).not.toBe(arena.owner);
    expect(arena.blockAt(offset)).toMatchObject({ owner, tag: 'worker' });
    expect(arena.bytesAt(offset, 1)[0]).toBe(9);
    expect(() => arena.free(offset)).toThrow(/^EPERM: .*force: true/);
    worker.postMessage('end');
    await once(worker, 'exit');
    expect(arena.sweep()).toEqual({ blocks: 1, bytes: 4096, owners: 1 });
  });

  test('that is terminated in the middle leaves a dead owner, and no descriptor', async () => {
    const before = descriptors();
    const worker = start(`
      const held = [];
      for (let count = 0; ; count++) {
        held.push(arena.allocate(4096));
        held.at(-1).bytes[0] = 1;
        if (held.length > 100) held.splice(0, 50).forEach((block) => block.free());
        if (count === 200) parentPort.postMessage('busy');
      }`);
    await once(worker, 'message');
    expect(descriptors()).toBeGreaterThan(before);
    await worker.terminate();
    expect(descriptors()).toBe(before);
    const { blocks, byOwner } = arena.stats();
    expect(blocks).toBeGreaterThan(0);
    expect(byOwner.filter(({ alive }) => alive)).toMatchObject([{ owner: arena.owner }]);
    expect(arena.sweep()).toMatchObject({ blocks, owners: 1 });
    expect(arena.check()).toEqual([]);
  });
});

test('many blocks are placed anew where the dead have made room, not around what they had', () => {
  using arena = Arena.create({ byteLength: 65 * 64, granule: 64, backing: 'memfd' });
  const dead = Arena.attach({ fd: arena.fd });
  dead.allocateMany(3, 4 * 64);
  dead.close();
  // Behind the twelve granules of the dead there is room for one, and before it then for none.
  expect(arena.allocateMany(2, 27 * 64).map(({ offset }) => offset)).toEqual([0, 27 * 64]);
  expect(arena.check()).toEqual([]);
});

describe('dmaMalloc', () => {
  const run = async (body: string): Promise<unknown> => {
    const { stdout, stderr } = await runChild(
      `import { Arena, configureArena, dmaFree, dmaFreeMany, dmaMalloc, dmaMallocMany } from './dist/index.js';
      const attempt = (call) => { try { return call(); } catch ({ code, message }) { return code + ' ' + message; } };
      console.log(JSON.stringify((() => { ${body} })()));`,
    );
    expect(stderr).toBe('');
    return JSON.parse(stdout);
  };

  test.skipIf(existsSync('/dev/iospace0'))(
    'without a module gives memory of a memfd, and says so',
    async () => {
      expect(
        await run(`
        const block = dmaMalloc(5000);
        block.bytes.fill(1);
        const { name, backing, byteLength } = block.arena;
        return [block.byteLength, name, backing, byteLength, dmaMalloc(1).arena === block.arena];`),
      ).toEqual([5000, 'default', 'memfd', 64 * MIB, true]);
    },
  );

  test.skipIf(existsSync('/dev/iospace0'))('strict is refused without the module', async () => {
    expect(await run(`return attempt(() => dmaMalloc(1, { strict: true }));`)).toMatch(
      /^EOPNOTSUPP .*only 'default' \(memfd/,
    );
  });

  test('takes what IOSPACE_ARENA names', async () => {
    const name = freshName();
    using made = Arena.create({ name, byteLength: MIB });
    expect(
      await run(`
        process.env.IOSPACE_ARENA = '${name}';
        const block = dmaMalloc(4096, { tag: 'by name' });
        return block.arena.name;`),
    ).toBe(name);
    expect(made.stats().byTag).toEqual([{ tag: 'by name', blocks: 1, bytes: 4096 }]);
    made.unlink();
    expect(await run(`process.env.IOSPACE_ARENA = '${name}'; return attempt(() => dmaMalloc(1));`)).toMatch(
      /^ENOENT .*IOSPACE_ARENA/,
    );
  });

  test('takes what it is told, and leaves the blocks of the former arena', async () => {
    expect(
      await run(`
        configureArena({ byteLength: 65536, granule: 64 });
        const first = dmaMalloc(64);
        const arena = Arena.create({ byteLength: 4096 });
        configureArena(arena);
        const second = dmaMalloc(64);
        const third = Arena.create({ byteLength: 8192 });
        const [one] = dmaMallocMany(1, 10, { arena: third });
        const lengths = [first, second, one].map((block) => block.arena.byteLength);
        first.bytes.fill(1);
        dmaFree(first);
        dmaFreeMany([second, one]);
        return [lengths, arena.stats().blocks, attempt(() => dmaFree(first)), attempt(() => dmaFree({}))];`),
    ).toEqual([
      [65_536, 4096, 8192],
      0,
      expect.stringMatching(/^ERR_INVALID_STATE /),
      expect.stringMatching(/^ERR_INVALID_ARG_TYPE /),
    ]);
  });

  test('refuses options that are none', async () => {
    expect(
      await run(
        `return [{ size: 1 }, { arena: 5 }, { strict: 1 }, 5].map((options) => attempt(() => dmaMalloc(1, options)).split(' ')[0]);`,
      ),
    ).toEqual([
      'ERR_INVALID_ARG_VALUE',
      'ERR_INVALID_ARG_TYPE',
      'ERR_INVALID_ARG_TYPE',
      'ERR_INVALID_ARG_TYPE',
    ]);
  });
});

test('a program that forgets all of it ends in peace', async () => {
  const { code: exit, stderr } = await runChild(`
    import { Arena } from './dist/index.js';
    // One that is collected and not closed is reported.
    globalThis.kept = Arena.create({ byteLength: 65536 });
    kept.allocate(4096).bytes.fill(1);`);
  expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
});

test.each([
  ['of the arena', '{}'],
  ['of its own', '{ guard: true }'],
])('an array on a mapping %s keeps the arena whose memory it shows', async (_name, options) => {
  const { stdout } = await runChild(
    `import { Arena } from './dist/index.js';
    import { openSync } from 'node:fs';
    const first = Arena.create({ byteLength: 65536 });
    const keep = (() => Arena.attach({ fd: first.fd }).allocate(4096, ${options}).bytes)();
    (() => Arena.attach({ fd: first.fd }).allocate(4096))();
    for (let round = 0; round < 20; round++) {
      gc();
      await new Promise(setImmediate);
    }
    console.log(first.stats().byOwner.filter(({ alive }) => alive).length, keep.length);`,
    ['--expose-gc'],
  );
  expect(stdout).toBe('2 4096\n');
});
