/** System V: keys, segments, attachments, and who counts them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type Segment, sysv } from '../../../lib/shm/index.js';
import { runChild, startChild } from '../child.js';

const { IPC_PRIVATE, IPC_CREAT, IPC_EXCL, SHM_HUGETLB } = sysv;
const { stat, set, remove, lock, unlock, info } = sysv.control;

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

/** Segments of one test, removed at its end. */
const made = new Set<number>();
afterEach(() => {
  for (const id of made) {
    try {
      remove(id);
    } catch {
      // The test has done so.
    }
  }
  made.clear();
});

function get(key: number, size?: number, flags?: number): number {
  const id = sysv.get(key, size, flags);
  made.add(id);
  return id;
}

/** Nobody else's, as likely as not. */
let key: number;
beforeEach(() => {
  key = 0x1050_0000 + Math.floor(Math.random() * 0xf_ffff);
});

const attached = (id: number) => stat(id).attached;
const isRoot = process.getuid?.() === 0;
const runs = (command: string, ...args: string[]) => spawnSync(command, args).status === 0;

describe('sysv.ftok', () => {
  const paths = ['/', '/proc/self/exe', '/dev/null', '/etc/passwd', '/dev/shm', process.cwd()];
  const ids = [0, 1, 65, 127, 128, 255, 256, 257, -1, -128, 0x7fff_ffff, -0x8000_0000];

  test('is made of 8 bits of the id, 8 of the device and 16 of the inode', () => {
    for (const path of paths) {
      const { dev, ino } = statSync(path, { bigint: true });
      for (const id of ids) {
        const expected = Number((ino & 0xffffn) | ((dev & 0xffn) << 16n)) | ((id & 0xff) << 24);
        expect([path, id, sysv.ftok(path, id)]).toEqual([path, id, expected]);
      }
    }
    expect(sysv.ftok('/', 2 ** 32 - 1)).toBe(sysv.ftok('/', -1));
  });

  test.skipIf(!runs('python3', '-c', 'import ctypes'))("is the C library's, for every path and id", () => {
    const program = `
import ctypes, json, sys
libc = ctypes.CDLL(None)
paths, ids = json.loads(sys.argv[1])
print(json.dumps([libc.ftok(path.encode(), id) for path in paths for id in ids]))`;
    const all = [...ids, ...Array.from({ length: 254 }, (_, i) => i + 1)];
    // The program's own executable is another file.
    const same = paths.filter((path) => !path.startsWith('/proc/self'));
    const answer = execFileSync('python3', ['-c', program, JSON.stringify([same, all])], {
      encoding: 'utf8',
    });
    expect(same.flatMap((path) => all.map((id) => sysv.ftok(path, id)))).toEqual(JSON.parse(answer));
  });

  test('of a file that is not there is ENOENT, and names it', () => {
    expect(() => sysv.ftok('/nowhere', 1)).toThrow(
      expect.objectContaining({ code: 'ENOENT', syscall: 'ftok', path: '/nowhere' }),
    );
    expect(() => sysv.ftok('/etc/passwd/x', 1)).toThrow(code('ENOTDIR'));
  });

  test('checks its arguments', () => {
    expect(() => sysv.ftok(5 as unknown as string, 1)).toThrow(code('ERR_INVALID_ARG_TYPE'));
    expect(() => sysv.ftok('/', 'A' as unknown as number)).toThrow(code('ERR_INVALID_ARG_TYPE'));
    expect(() => sysv.ftok('/', 2 ** 32)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => sysv.ftok('/', 0.5)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => sysv.ftok('a\0b', 1)).toThrow(code('ERR_INVALID_ARG_VALUE'));
  });
});

describe('sysv.get', () => {
  test('IPC_PRIVATE makes a new segment each time, for its owner', () => {
    const [first, second] = [get(IPC_PRIVATE, 4096), get(IPC_PRIVATE, 4096)];
    expect(first).not.toBe(second);
    expect(stat(first)).toMatchObject({ key: 0, size: 4096, mode: 0o600, attached: 0, removed: false });
  });

  test('a key finds what was made with it, signed or unsigned', () => {
    const high = key | 0x8000_0000;
    const id = get(high, 4096, IPC_CREAT | IPC_EXCL | 0o640);
    expect(stat(id)).toMatchObject({ id, key: high, mode: 0o640, creatorPid: process.pid });
    expect(sysv.get(high)).toBe(id);
    expect(sysv.get(high >>> 0, 100)).toBe(id);
    expect(sysv.get(high, 4096, IPC_CREAT | 0o600)).toBe(id);
  });

  test.each([
    [0, 0, 'ENOENT'],
    [0, IPC_CREAT | 0o600, 'EINVAL'],
    [-1, IPC_CREAT | 0o600, 'ERR_OUT_OF_RANGE'],
    [1.5, IPC_CREAT | 0o600, 'ERR_OUT_OF_RANGE'],
    ['4096', IPC_CREAT | 0o600, 'ERR_INVALID_ARG_TYPE'],
    [4096, 0o1_000_000, 'ERR_OUT_OF_RANGE'],
    [4096, 2 ** 33, 'ERR_OUT_OF_RANGE'],
  ])('size %o and flags %o, where there is none, is %s', (size, flags, expected) => {
    expect(() => get(key, size as number, flags)).toThrow(code(expected));
    expect(() => sysv.get(key)).toThrow(code('ENOENT'));
  });

  test('of one that is there: EEXIST with IPC_EXCL, EINVAL for more than it has', () => {
    get(key, 4096, IPC_CREAT | 0o600);
    expect(() => get(key, 4096, IPC_CREAT | IPC_EXCL | 0o600)).toThrow(code('EEXIST'));
    expect(() => get(key, 4097, IPC_CREAT | 0o600)).toThrow(code('EINVAL'));
    expect(() => get(2 ** 32, 1)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => get('key' as unknown as number, 1)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test('an error says what it is about', () => {
    expect(() => sysv.get(0x1234)).toThrow(
      'ENOENT: no such file or directory, shmget: there is no segment of key 0x1234',
    );
  });

  // A namespace of its own has limits of its own.
  const isolates = isRoot && runs('unshare', '--ipc', 'true');
  test.skipIf(!isolates).each([
    ['shmmax', 8192, 8193, 'EINVAL'],
    ['shmall', 2, 2 * 4096, 'ENOSPC'],
    ['shmmni', 1, 1, 'ENOSPC'],
  ])('beyond kernel.%s = %i is an error', (limit, value, size, expected) => {
    const program = `
      import { writeFileSync } from 'node:fs';
      import { sysv } from 'iospace/shm';
      writeFileSync('/proc/sys/kernel/${limit}', '${value}');
      sysv.get(0, 1);
      try { sysv.get(0, ${size}); console.log('none'); } catch (error) { console.log(error.code); }`;
    const { stdout, stderr } = spawnSync(
      'unshare',
      ['--ipc', process.execPath, '--input-type=module', '--eval', program],
      { encoding: 'utf8' },
    );
    expect({ stdout, stderr }).toEqual({ stdout: `${expected}\n`, stderr: '' });
  });
});

describe('sysv.attach', () => {
  test('maps the segment, zeroed, shared by all who attach it', () => {
    const id = get(IPC_PRIVATE, 5000);
    using first = sysv.attach(id);
    using second = sysv.attach(id);
    expect(first).toMatchObject({ id, byteLength: 5000, readOnly: false, closed: false });
    expect(first.bytes.every((byte) => byte === 0)).toBe(true);
    first.bytes[4999] = 7;
    expect(second.bytes[4999]).toBe(7);
    expect(inspect(first)).toBe(`Segment { id: ${id}, byteLength: 5000, readOnly: false, closed: false }`);
  });

  test('is shared with other processes', async () => {
    using memory = sysv.attach(get(key, 4096, IPC_CREAT | 0o600));
    const { code: exit, stderr } = await runChild(`
      import { sysv } from 'iospace/shm';
      const memory = sysv.attach(sysv.get(${key}));
      memory.view(Uint32Array)[7] = process.pid;
      memory.detach();`);
    expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
    expect(memory.view(Uint32Array)[7]).toBeGreaterThan(0);
    expect(stat(memory.id)).toMatchObject({ attached: 1, lastPid: memory.view(Uint32Array)[7] });
  });

  test('readOnly gives no view that could be written', () => {
    const id = get(IPC_PRIVATE, 4096);
    using memory = sysv.attach(id);
    using readOnly = sysv.attach(id, { readOnly: true });
    memory.view(Int32Array)[1] = -5;
    const reader = readOnly.reader();
    expect([reader.getInt32(4), readOnly.read(4, 1)[0]]).toEqual([-5, 251]);
    for (const write of [() => readOnly.buffer, () => readOnly.bytes, () => readOnly.view(Int32Array)]) {
      expect(write).toThrow(code('EACCES'));
    }
  });

  test('of what is not there is EINVAL; other arguments are refused', () => {
    const id = get(IPC_PRIVATE, 4096);
    remove(id);
    expect(() => sysv.attach(id)).toThrow(
      expect.objectContaining({ code: 'EINVAL', syscall: 'shmat', errno: -constants.errno.EINVAL }),
    );
    expect(() => sysv.attach(-1)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => sysv.attach('1' as unknown as number)).toThrow(code('ERR_INVALID_ARG_TYPE'));
    expect(() => sysv.attach(id, { readonly: true } as object)).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(() => sysv.attach(id, { readOnly: 1 } as object)).toThrow(code('ERR_INVALID_ARG_TYPE'));
    expect(() => sysv.detach({} as Segment)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test.skipIf(!isRoot)("without permission is EACCES, and removing another's EPERM", async () => {
    const id = get(key, 4096, IPC_CREAT | 0o600);
    const { stdout } = await runChild(`
      import { sysv } from 'iospace/shm';
      sysv.control.info();
      process.setgid(65534);
      process.setuid(65534);
      const { control } = sysv;
      for (const call of [
        () => sysv.get(${key}, 0, 0o600),
        () => sysv.attach(${id}),
        () => sysv.attach(${id}, { readOnly: true }),
        () => control.stat(${id}),
        () => control.set(${id}, { mode: 0o666 }),
        () => control.remove(${id}),
        () => control.lock(${id}),
      ]) try { call(); console.log('none'); } catch (error) { console.log(error.code); }
      console.log(sysv.list().some(({ id }) => id === ${id}));`);
    expect(stdout.split('\n')).toEqual([
      ...['EACCES', 'EACCES', 'EACCES', 'EACCES'],
      // To change a mode one must read it.
      ...['EACCES', 'EPERM', 'EPERM', 'true', ''],
    ]);
  });
});

describe('nattch is right', () => {
  let id: number;
  beforeEach(() => {
    id = get(IPC_PRIVATE, 3 * 4096);
  });

  /** Node 20 has no transfer(); later ones do not let go of memory of this kind otherwise. */
  function carryOff(buffer: ArrayBuffer & { transfer?: () => ArrayBuffer }): ArrayBuffer {
    return buffer.transfer?.() ?? structuredClone(buffer, { transfer: [buffer] });
  }

  test('after every detach, whatever was done with the memory', () => {
    const plain = sysv.attach(id);
    const viewed = sysv.attach(id);
    const { bytes } = viewed;
    const readOnly = sysv.attach(id, { readOnly: true });
    readOnly.read();
    const moved = sysv.attach(id);
    const carried = carryOff(moved.buffer);
    expect(attached(id)).toBe(4);
    sysv.detach(plain);
    expect(attached(id)).toBe(3);
    viewed.detach();
    viewed.detach();
    expect(attached(id)).toBe(2);
    expect(bytes).toHaveLength(0);
    readOnly.close();
    expect(attached(id)).toBe(1);
    moved[Symbol.dispose]();
    expect(attached(id)).toBe(0);
    expect(new Uint8Array(carried).every((byte) => byte === 0)).toBe(true);
    for (const use of [() => viewed.bytes, () => viewed.read(), () => viewed.reader()]) {
      expect(use).toThrow(code('ERR_INVALID_STATE'));
    }
  });

  const program = (then: string) => `
    import { sysv } from 'iospace/shm';
    globalThis.kept = [sysv.attach(${id}), sysv.attach(${id}, { readOnly: true })];
    kept[0].bytes[0] = 1;
    ${then}`;

  /** A data: URL has no package around it. */
  const startWorker = (then: string) => {
    const library = new URL('../../../dist/shm/index.js', import.meta.url).href;
    const source = program(then).replace('iospace/shm', library);
    return new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`));
  };

  test.each([
    ['ends', ''],
    ['exits', 'process.exit(0);'],
    ['throws', 'throw new Error("on purpose");'],
  ])('after a worker that %s', async (_how, then) => {
    const worker = startWorker(then);
    worker.on('error', () => undefined);
    await new Promise((resolve) => worker.once('exit', resolve));
    expect(attached(id)).toBe(0);
    using memory = sysv.attach(id);
    expect(memory.bytes[0]).toBe(1);
  });

  test('after a worker that is terminated', async () => {
    const worker = startWorker('for (;;);');
    await vi.waitUntil(() => attached(id) === 2, 10_000);
    await worker.terminate();
    expect(attached(id)).toBe(0);
  });

  test.each(['SIGKILL', 'SIGTERM'] as const)('after a process that dies of %s', async (signal) => {
    const child = startChild(program("console.log('ready'); setInterval(() => {}, 1000);"));
    await once(child.stdout, 'data');
    expect(attached(id)).toBe(2);
    child.kill(signal);
    await once(child, 'exit');
    expect(attached(id)).toBe(0);
  });
});

describe('sysv.control', () => {
  test('remove, while attached: the key is free, who has it keeps it, its end is the last detach', () => {
    const id = get(key, 4096, IPC_CREAT | 0o600);
    const memory = sysv.attach(id);
    remove(id);
    expect(() => sysv.get(key)).toThrow(code('ENOENT'));
    expect(stat(id)).toMatchObject({ key: 0, removed: true, attached: 1, mode: 0o600 });
    memory.bytes.fill(3);
    using again = sysv.attach(id);
    expect(again.bytes[4095]).toBe(3);
    memory.detach();
    expect(attached(id)).toBe(1);
    again.detach();
    for (const call of [stat, remove, lock, unlock, (gone: number) => set(gone, {})]) {
      expect(() => call(id)).toThrow(code('EINVAL'));
    }
  });

  test('set changes what it is given, and nothing else', () => {
    const id = get(IPC_PRIVATE, 4096);
    const before = stat(id);
    set(id, { mode: 0o644 });
    expect(stat(id)).toEqual({ ...before, mode: 0o644, changeTime: expect.any(Date) });
    if (isRoot) {
      set(id, { uid: 1, gid: 2 });
      expect(stat(id)).toMatchObject({ uid: 1, gid: 2, creatorUid: 0, creatorGid: 0, mode: 0o644 });
    }
    expect(() => set(id, { mode: 0o1000 })).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => set(id, { uid: -1 })).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => set(id, { size: 1 } as object)).toThrow(code('ERR_INVALID_ARG_VALUE'));
  });

  test('lock and unlock', () => {
    const id = get(IPC_PRIVATE, 4096);
    lock(id);
    expect(stat(id)).toMatchObject({ locked: true, mode: 0o600 });
    set(id, { mode: 0o640 });
    expect(stat(id)).toMatchObject({ locked: true, mode: 0o640 });
    unlock(id);
    expect(stat(id).locked).toBe(false);
  });

  test('info has the limits of the system', () => {
    const limit = (name: string) => readFileSync(`/proc/sys/kernel/${name}`, 'utf8').trim();
    get(IPC_PRIVATE, 3 * 4096);
    const { maxBytes, maxSegments, maxPages, minBytes, segments, pages } = info();
    expect([maxBytes, maxPages, BigInt(maxSegments), minBytes]).toEqual([
      ...['shmmax', 'shmall', 'shmmni'].map((name) => BigInt(limit(name))),
      1,
    ]);
    expect(segments).toBeGreaterThanOrEqual(1);
    expect(pages).toBeGreaterThanOrEqual(3);
  });

  test('times say when', () => {
    const id = get(IPC_PRIVATE, 4096);
    expect(stat(id)).toMatchObject({ attachTime: undefined, detachTime: undefined, lastPid: 0 });
    sysv.attach(id).detach();
    const { attachTime, detachTime, lastPid } = stat(id);
    expect(lastPid).toBe(process.pid);
    for (const time of [attachTime, detachTime]) {
      expect(Math.abs(Number(time) - Date.now())).toBeLessThan(10_000);
    }
  });
});

test('sysv.list() has what stat has, and how much of it is in memory', () => {
  const id = get(key | 0x8000_0000, 3 * 4096, IPC_CREAT | 0o600);
  using memory = sysv.attach(id);
  memory.bytes[4096] = 1;
  const found = sysv.list().find((segment) => segment.id === id);
  expect(found).toEqual({ ...stat(id), residentBytes: 4096, swappedBytes: 0 });
  remove(id);
  expect(sysv.list().find((segment) => segment.id === id)).toMatchObject({ removed: true, attached: 1 });
  memory.detach();
  expect(sysv.list().find((segment) => segment.id === id)).toBeUndefined();
});

const hugePages = Number(/HugePages_Free:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'latin1'))?.[1] ?? 0);

test.skipIf(hugePages === 0)('a segment of huge pages, not whole ones, ends whole', () => {
  const id = get(IPC_PRIVATE, 100_000, SHM_HUGETLB | 0o600);
  const memory = sysv.attach(id);
  memory.bytes.fill(1);
  memory.detach();
  expect(attached(id)).toBe(0);
});

test.skipIf(hugePages > 0)(
  'a segment of huge pages where there are none is ENOMEM, and says what helps',
  () => {
    expect(() => get(IPC_PRIVATE, 4096, SHM_HUGETLB | 0o600)).toThrow(
      expect.objectContaining({ code: 'ENOMEM', message: expect.stringContaining('vm.nr_hugepages') }),
    );
  },
);

test('10,000 segments, made, attached, detached and removed, leave nothing behind', () => {
  const cycle = (count: number) => {
    for (let i = 0; i < count; i++) {
      const id = sysv.get(IPC_PRIVATE, 4096);
      const memory = sysv.attach(id);
      remove(id);
      if (i % 2 === 0) {
        memory.bytes[0] = 1;
      }
      memory.detach();
    }
  };
  const mappings = () => readFileSync('/proc/self/maps', 'latin1').split('\n');
  const segments = sysv.list().length;
  // As many ranges as are kept from reuse for a while.
  cycle(2000);
  const before = mappings().length;
  cycle(10_000);
  expect(sysv.list()).toHaveLength(segments);
  expect(mappings().filter((line) => line.includes('SYSV'))).toEqual([]);
  // Those ranges lie side by side by chance, and are one line then.
  expect(mappings().length).toBeLessThan(before + 1024);
});

test('the key of a file leads two programs to one segment', () => {
  const directory = mkdtempSync(join(tmpdir(), 'iospace-sysv-'));
  try {
    const path = join(directory, 'file');
    writeFileSync(path, '');
    const id = get(sysv.ftok(path, 7), 4096, IPC_CREAT | IPC_EXCL | 0o600);
    expect(sysv.get(sysv.ftok(path, 7))).toBe(id);
    expect(() => sysv.get(sysv.ftok(path, 8))).toThrow(code('ENOENT'));
  } finally {
    rmSync(directory, { recursive: true });
  }
});
