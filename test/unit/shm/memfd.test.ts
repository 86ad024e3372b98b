/** Memory without a name: seals, growth, and the ways to another process. */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test } from 'vitest';
import * as raw from '../../../lib/raw.js';
import { fds, type Memfd, type MemfdOptions, memfd, posix, type SealName } from '../../../lib/shm/index.js';
import { runChild } from '../child.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

const open: Memfd[] = [];
afterEach(() => {
  for (const memory of open.splice(0)) {
    memory.close();
  }
});

function keep(memory: Memfd): Memfd {
  open.push(memory);
  return memory;
}

const create = (options: Partial<MemfdOptions> = {}): Memfd =>
  keep(memfd.create('iospace-test', { size: 4096, ...options }));

/** What this process has open of these tests. */
const descriptors = () =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('iospace-test');
    } catch {
      return false;
    }
  });

describe('memfd.create', () => {
  test('makes memory of the size asked for, zeroed, allocated, sealed against shrinking', () => {
    const memory = create({ size: 100_000 });
    expect(memory).toMatchObject({ byteLength: 100_000, name: 'iospace-test', readOnly: false });
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
    expect(memory.stat().size).toBe(100_000);
    expect(memory.stat().blocks * 512).toBeGreaterThanOrEqual(100_000);
    expect(memory.seals).toEqual(['shrink']);
    expect(readlinkSync(`/proc/self/fd/${memory.fd}`)).toContain('memfd:iospace-test');
    expect(inspect(memory)).toBe(
      "Memfd { name: 'iospace-test', byteLength: 100000, readOnly: false, closed: false }",
    );
  });

  test('allocate: false leaves the pages to the first touch', () => {
    const memory = create({ size: 1 << 20, allocate: false });
    expect(memory.stat().size).toBe(1 << 20);
    expect(memory.stat().blocks * 512).toBeLessThanOrEqual(4096);
    memory.bytes[0] = 1;
    expect(memory.stat().blocks * 512).toBe(8192);
  });

  test.each([
    [[], []],
    [['shrink'], ['shrink']],
    [['seal'], ['seal']],
    [
      ['seal', 'grow', 'shrink', 'future-write'],
      ['shrink', 'grow', 'future-write', 'seal'],
    ],
  ] as SealName[][][])('seal: %o makes it sealed so', (seal = [], expected = []) => {
    const memory = create({ seal });
    expect(memory.seals).toEqual(expected);
    memory.bytes[0] = 1;
  });

  test.each([
    [{ size: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ size: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ size: '1' }, 'ERR_INVALID_ARG_TYPE'],
    [{}, 'ERR_INVALID_ARG_TYPE'],
    [{ size: 4096, seal: 'shrink' }, 'ERR_INVALID_ARG_TYPE'],
    [{ size: 4096, seal: ['shut'] }, 'ERR_INVALID_ARG_VALUE'],
    [{ size: 4096, seal: ['write'] }, 'ERR_INVALID_ARG_VALUE'],
    [{ size: 4096, hugePages: 3 << 20 }, 'ERR_OUT_OF_RANGE'],
    [{ size: 4096, hugePages: 'yes' }, 'ERR_INVALID_ARG_TYPE'],
    [{ size: 4096, allocate: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ size: 4096, seals: [] }, 'ERR_INVALID_ARG_VALUE'],
    // No machine has pages of 4 KiB that are huge.
    [{ size: 4096, hugePages: 4096 }, 'ENODEV'],
  ])('%o is %s, and leaves nothing open', (options, expected) => {
    expect(() => memfd.create('iospace-test', options as MemfdOptions)).toThrow(code(expected));
    expect(descriptors()).toEqual([]);
  });

  test('a name has at most 249 bytes, of any kind', () => {
    keep(memfd.create(`/a/${'x'.repeat(246)}`, { size: 1 }));
    keep(memfd.create('', { size: 1 }));
    expect(() => memfd.create('x'.repeat(250), { size: 1 })).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(() => memfd.create('a\0b', { size: 1 })).toThrow(code('ERR_INVALID_ARG_VALUE'));
  });

  test('beyond what there is: an error now, and nothing left open', () => {
    expect(() => create({ size: 2 ** 31, hugePages: true })).toThrow(/^(ENOMEM|ENOSPC): .*vm\.nr_hugepages/);
    expect(descriptors()).toEqual([]);
  });

  const { 1: free = 0 } = /HugePages_Free:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'latin1')) ?? [];
  test.skipIf(Number(free) < 2)('huge pages: whole ones, of which a part is used, and more of them', () => {
    const memory = create({ size: 100_000, hugePages: true });
    expect(memory.byteLength).toBe(100_000);
    expect(memory.stat().size).toBe(memory.stat().blksize);
    memory.resize(memory.stat().blksize + 1);
    expect(memory.stat().size).toBe(2 * memory.stat().blksize);
    memory.bytes.fill(1);
  });
});

describe('a seal', () => {
  test('against shrinking keeps others from doing so', () => {
    const memory = create();
    expect(() => ftruncateSync(memory.fd, 0)).toThrow(code('EPERM'));
    ftruncateSync(create({ seal: [] }).fd, 0);
  });

  test('against growing is EPERM for resize(), which changes nothing', () => {
    const memory = create({ seal: ['grow'] });
    memory.bytes[0] = 1;
    expect(() => memory.resize(8192)).toThrow(
      expect.objectContaining({ code: 'EPERM', path: 'memfd:iospace-test' }),
    );
    expect([memory.byteLength, memory.bytes[0]]).toEqual([4096, 1]);
  });

  test('against writing makes it read-only, here and for all', () => {
    const memory = create();
    const { bytes } = memory;
    bytes.fill(7);
    memory.seal('write', 'grow');
    expect(memory.seals).toEqual(['shrink', 'grow', 'write']);
    expect(memory.readOnly).toBe(true);
    expect(bytes).toHaveLength(0);
    expect([memory.read(4095)[0], memory.reader().getUint8(0)]).toEqual([7, 7]);
    expect(() => memory.bytes).toThrow(code('EACCES'));
    expect(() => memfd.open(memory.fd)).toThrow(code('EPERM'));
    expect(keep(memfd.open(memory.fd, { readOnly: true })).read(1, 1)[0]).toBe(7);
  });

  test('against writing is EBUSY while somebody else writes, and then nothing has changed', () => {
    const memory = create();
    const other = keep(memfd.open(memory.fd));
    other.bytes[0] = 5;
    expect(() => memory.seal('write')).toThrow(code('EBUSY'));
    expect(memory.seals).toEqual(['shrink']);
    memory.bytes[1] = 6;
    expect([...other.read(0, 2)]).toEqual([5, 6]);
    other.close();
    memory.seal('write');
    expect(memory.readOnly).toBe(true);
  });

  test('against further writers leaves those there are', () => {
    const memory = create();
    memory.seal('future-write');
    memory.bytes[0] = 1;
    expect(() => memfd.open(memory.fd)).toThrow(code('EPERM'));
    expect(keep(memfd.open(memory.fd, { readOnly: true })).read(0, 1)[0]).toBe(1);
  });

  test('against seals is EPERM for the next; unknown ones are refused', () => {
    const memory = create();
    memory.seal('seal');
    expect(() => memory.seal('grow')).toThrow(code('EPERM'));
    expect(() => memory.seal('shut' as SealName)).toThrow(code('ERR_INVALID_ARG_VALUE'));
    memory.close();
    expect(() => memory.seal('grow')).toThrow(code('ERR_INVALID_STATE'));
    expect(() => memory.seals).toThrow(code('ERR_INVALID_STATE'));
  });
});

describe('memfd.open', () => {
  test('shares, by a descriptor that may be closed afterwards', () => {
    const memory = create();
    const fd = openSync(`/proc/self/fd/${memory.fd}`, 'r+');
    const other = keep(memfd.open(fd, { size: 100 }));
    closeSync(fd);
    memory.bytes[99] = 9;
    expect([other.byteLength, other.bytes[99]]).toEqual([100, 9]);
    expect(other.seals).toEqual(['shrink']);
  });

  test('shares with another process, through /proc', async () => {
    const memory = create();
    const { code: exit, stderr } = await runChild(`
      import { memfd } from 'iospace/shm';
      const memory = memfd.open('/proc/${process.pid}/fd/${memory.fd}');
      memory.view(Uint32Array)[3] = memory.seals.length;
      memory.close();`);
    expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
    expect(memory.view(Uint32Array)[3]).toBe(1);
  });

  test('shares with another process, through fds.send', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'iospace-memfd-'));
    const path = join(directory, 'socket');
    try {
      const memory = create();
      const received = runChild(`
        import { closeSync } from 'node:fs';
        import { fds, memfd } from 'iospace/shm';
        const [fd] = await fds.receive(${JSON.stringify(path)});
        const memory = memfd.open(fd);
        closeSync(fd);
        memory.bytes[0] = 42;
        memory.close();`);
      await fds.send(path, [memory.fd], { timeout: 10_000 });
      expect(await received).toMatchObject({ code: 0, stderr: '' });
      expect(memory.bytes[0]).toBe(42);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('what is no memory, or not there, is an error, and leaves nothing open', () => {
    const memory = create();
    const fd = openSync('/proc/self/exe', 'r');
    expect(() => memfd.open(fd)).toThrow(code('EINVAL'));
    closeSync(fd);
    expect(() => memfd.open(fd)).toThrow(code('EBADF'));
    expect(() => memfd.open('/nowhere')).toThrow(
      expect.objectContaining({ code: 'ENOENT', path: '/nowhere' }),
    );
    expect(() => memfd.open(-1)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => memfd.open({} as number)).toThrow(code('ERR_INVALID_ARG_TYPE'));
    expect(() => memfd.open(memory.fd, { size: 4097 })).toThrow(code('ERR_OUT_OF_RANGE'));
    const empty = raw.memfdCreate('iospace-test');
    expect(() => memfd.open(empty)).toThrow(code('EINVAL'));
    raw.close(empty);
    expect(descriptors()).toEqual([`${memory.fd}`]);
  });

  test.skipIf(process.getuid?.() !== 0)("another user's, through /proc, is EACCES", async () => {
    const memory = create();
    const { stdout } = await runChild(`
      import { memfd } from 'iospace/shm';
      memfd.create('loads the addon', { size: 1 }).close();
      process.setgid(65534);
      process.setuid(65534);
      try { memfd.open('/proc/${process.pid}/fd/${memory.fd}'); }
      catch (error) { console.log(error.code, error.path); }`);
    expect(stdout).toBe(`EACCES /proc/${process.pid}/fd/${memory.fd}\n`);
  });
});

describe('resize', () => {
  test('makes more of it, keeps what is there, and takes the views from before', () => {
    const memory = create();
    const { bytes } = memory;
    bytes.fill(3);
    memory.resize(10_000);
    expect(bytes).toHaveLength(0);
    expect([memory.byteLength, memory.bytes.length, memory.stat().size]).toEqual([10_000, 10_000, 10_000]);
    expect([memory.bytes[4095], memory.bytes[4096], memory.bytes[9999]]).toEqual([3, 0, 0]);
    expect(memory.stat().blocks * 512).toBe(3 * 4096);
  });

  test('with the present size does nothing, with less is refused', () => {
    const memory = create();
    const { bytes } = memory;
    memory.resize(4096);
    expect(bytes).toHaveLength(4096);
    expect(() => memory.resize(4095)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => memory.resize(Number.NaN)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => memory.resize('8192' as unknown as number)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test('follows what another has added, also where it is read-only, and takes nothing away', () => {
    const memory = create();
    const writer = keep(memfd.open(memory.fd));
    const reader = keep(memfd.open(memory.fd, { readOnly: true }));
    expect(() => reader.resize(8192)).toThrow(code('EACCES'));
    const numbers = reader.reader();
    memory.resize(12_288);
    memory.bytes[8191] = 8;
    writer.resize(8192);
    reader.resize(8192);
    expect(memory.stat().size).toBe(12_288);
    expect([writer.bytes[8191], numbers.getUint8(8191), numbers.byteLength]).toEqual([8, 8, 8192]);
  });

  test('after close() is ERR_INVALID_STATE', () => {
    const memory = create();
    memory.close();
    for (const use of [() => memory.resize(8192), () => memory.stat(), () => memory.fd, () => memory.bytes]) {
      expect(use).toThrow(code('ERR_INVALID_STATE'));
    }
  });
});

describe('the reader', () => {
  test('reads every kind of number where a typed array does', () => {
    const memory = create();
    crypto.getRandomValues(memory.bytes);
    const reader = memory.reader();
    const view = new DataView(memory.buffer);
    for (const offset of [0, 3, 4088]) {
      expect(reader.getInt8(offset)).toBe(view.getInt8(offset));
      expect(reader.getUint8(offset)).toBe(view.getUint8(offset));
      expect(reader.getInt16(offset)).toBe(view.getInt16(offset, true));
      expect(reader.getUint16(offset)).toBe(view.getUint16(offset, true));
      expect(reader.getInt32(offset)).toBe(view.getInt32(offset, true));
      expect(reader.getUint32(offset)).toBe(view.getUint32(offset, true));
      expect(reader.getBigInt64(offset)).toBe(view.getBigInt64(offset, true));
      expect(reader.getBigUint64(offset)).toBe(view.getBigUint64(offset, true));
      expect(reader.getFloat32(offset)).toBe(view.getFloat32(offset, true));
      expect(reader.getFloat64(offset)).toBe(view.getFloat64(offset, true));
    }
    expect(reader.load(8)).toBe(view.getUint32(8, true));
  });

  test('copies into what it is given', () => {
    const memory = create();
    memory.bytes.set([1, 2, 3, 4], 10);
    const target = new Uint8Array(3);
    memory.reader().copyTo(target, 11);
    expect([...target]).toEqual([2, 3, 4]);
    expect(() => memory.reader().copyTo(target, 4094)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => memory.reader().copyTo([] as unknown as Uint8Array)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test('reads inside, of what is open', () => {
    const memory = create();
    const reader = memory.reader();
    for (const use of [
      () => reader.getUint8(4096),
      () => reader.getUint32(4093),
      () => reader.getFloat64(-1),
      () => reader.getInt16(0.5),
      () => reader.load(2),
    ]) {
      expect(use).toThrow(code('ERR_OUT_OF_RANGE'));
    }
    expect(Object.keys(reader)).toEqual([]);
    memory.close();
    expect(() => reader.getUint8(0)).toThrow(code('ERR_INVALID_STATE'));
    expect(() => memory.reader()).toThrow(code('ERR_INVALID_STATE'));
  });
});

describe('the end', () => {
  test('close() closes the descriptor, once', () => {
    const memory = create();
    const { fd } = memory;
    memory.close();
    expect(() => fstatSync(fd)).toThrow(code('EBADF'));
    const again = create();
    expect(again.fd).toBe(fd);
    memory.close();
    again.bytes[0] = 1;
    expect(again.stat().size).toBe(4096);
  });

  test('a worker that ends leaves no descriptor', async () => {
    const library = new URL('../../../dist/shm/index.js', import.meta.url).href;
    const source = `import { memfd } from '${library}'; globalThis.kept = memfd.create('iospace-test', { size: 4096 });`;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`));
    await new Promise((resolve) => worker.once('exit', resolve));
    expect(descriptors()).toEqual([]);
  });

  test('one that is collected is reported, and its descriptor closed', async () => {
    const { stdout, stderr } = await runChild(
      `import { readdirSync, readlinkSync } from 'node:fs';
       import { memfd } from 'iospace/shm';
       const open = () => readdirSync('/proc/self/fd').filter((fd) => {
         try { return readlinkSync('/proc/self/fd/' + fd).includes('iospace-test'); } catch { return false; }
       }).length;
       (() => { memfd.create('iospace-test', { size: 4096 }).bytes[0] = 1; })();
       const before = open();
       for (let i = 0; i < 6; i++) { gc(); await new Promise(setImmediate); await new Promise(setImmediate); }
       console.log(before, open());`,
      ['--expose-gc'],
    );
    expect(stdout).toBe('1 0\n');
    expect(stderr).toContain('IOSPACE_LEAK');
  });

  test('10,000 of them leave nothing behind, nor do 10,000 POSIX objects', () => {
    const name = `iospace-test-${process.pid}-cycles`;
    const open = () => readdirSync('/proc/self/fd').length;
    const before = open();
    for (let i = 0; i < 10_000; i++) {
      const memory = memfd.create('iospace-test', { size: 4096 });
      const other = posix.open(name, { create: true, exclusive: true, size: 4096, unlinkAtExit: true });
      other.unlink();
      if (i % 2 === 0) {
        memory.bytes[0] = 1;
        other.bytes[0] = 1;
      }
      memory.close();
      other.close();
    }
    expect(open()).toBe(before);
    expect(posix.list()).not.toContain(`/${name}`);
    const mapped = readFileSync('/proc/self/maps', 'latin1').split('\n');
    expect(mapped.filter((line) => line.includes('iospace-test'))).toEqual([]);
  });
});
