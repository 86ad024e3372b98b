/** Descriptors, and the shape of system errors. */
import { fstatSync, readFileSync, unlinkSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, test } from 'vitest';
import { MAP_SHARED, map, memfd, native, PROT_READ } from './support.js';

const { O_RDWR = 0, O_CREAT = 0, O_EXCL = 0, EFD_NONBLOCK = 0, POLLIN = 0, POLLNVAL = 0 } = native.constants;

/** FIONREAD, a request whose number says nothing of its argument. */
const FIONREAD = 0x541b;
/** FS_IOC_GETFLAGS, whose number says that it writes a long. */
const FS_IOC_GETFLAGS = process.arch === 'arm' ? 0x8004_6601 : 0x8008_6601;

function isCloseOnExec(fd: number): boolean {
  const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '';
  return (Number.parseInt(flags, 8) & 0o2000000) !== 0;
}

describe('system errors', () => {
  test.each([
    ['open', () => native.open('/nope', 0, 0), { code: 'ENOENT', errno: -2, path: '/nope' }],
    ['close', () => native.close(2 ** 31 - 1), { code: 'EBADF', errno: -9 }],
    ['ftruncate', () => native.ftruncate(2 ** 31 - 1, 0), { code: 'EBADF' }],
    ['fallocate', () => native.fallocate(2 ** 31 - 1, 0, 1), { code: 'EBADF' }],
    ['ioctl', () => native.ioctl(memfd(1), 0xd504, 0), { code: 'ENOTTY', request: 0xd504 }],
    ['mmap', () => native.mmap(memfd(1), 4096, PROT_READ, MAP_SHARED, 1n), { code: 'EINVAL' }],
    ['mmap', () => native.mmap(memfd(1), 2 ** 52, PROT_READ, MAP_SHARED, 0n), { code: 'ENOMEM' }],
    ['shm_open', () => native.shmOpen('/iospace-nope', 0, 0), { code: 'ENOENT', path: '/iospace-nope' }],
    ['shm_unlink', () => native.shmUnlink('/iospace-nope'), { code: 'ENOENT', path: '/iospace-nope' }],
    [
      'linkat',
      () => native.linkFile(2 ** 31 - 1, '/dev/shm/iospace-nope'),
      { code: 'ENOENT', path: '/dev/shm/iospace-nope' },
    ],
    ['memfd_create', () => native.memfdCreate('x'.repeat(300), 0), { code: 'EINVAL' }],
    ['eventfd', () => native.eventfd(0, 2), { code: 'EINVAL' }],
    ['ioctl', () => native.deviceInfo(memfd(1)), { code: 'ENOTTY', request: 0xd500 }],
    ['ioctl', () => native.deviceAlloc(memfd(1), 5, 1, 0, 0, 0, 0, 0), { code: 'ENOTTY', request: 0xd501 }],
    [
      'ioctl',
      () => native.deviceSegments(memfd(1), 1, 0, new BigUint64Array(2)),
      { code: 'ENOTTY', request: 0xd506 },
    ],
    ['ioctl', () => native.deviceSync(memfd(1), 1, 1, 0, 1), { code: 'ENOTTY', request: 0xd507 }],
    [
      'ioctl',
      () => native.deviceSyncRanges(memfd(1), 1, 1, new BigUint64Array(2)),
      { code: 'ENOTTY', request: 0xd50b },
    ],
    [
      'ioctl',
      () => native.deviceMapUser(memfd(1), 1, new Uint8Array(8)),
      { code: 'ENOTTY', request: 0xd50a, address: expect.any(BigInt) },
    ],
    ['ioctl', () => native.deviceExport(memfd(1), 1, 0, 0, 4096), { code: 'ENOTTY', request: 0xd50c }],
    ['ioctl', () => native.deviceImport(memfd(1), 0, 3), { code: 'ENOTTY', request: 0xd50d }],
    ['ioctl', () => native.deviceArena(memfd(1), 0, 0), { code: 'ENOTTY', request: 0xd508 }],
    ['ioctl', () => native.deviceArenaBooks(memfd(1), 0), { code: 'ENOTTY', request: 0xd50e }],
    ['ioctl', () => native.deviceWindow(memfd(1), 1, 0n, 4096), { code: 'ENOTTY', request: 0xd509 }],
    ['ioctl', () => native.deviceFree(memfd(1), 1), { code: 'ENOTTY', request: 0xd502 }],
    ['ioctl', () => native.deviceRegisters(memfd(1), 0), { code: 'ENOTTY', request: 0xd503 }],
    ['ioctl', () => native.deviceInterrupt(memfd(1), 0, 1, 0), { code: 'ENOTTY', request: 0xd505 }],
    ['read', () => native.deviceReadCounts(2 ** 31 - 1, new BigUint64Array(1)), { code: 'EBADF' }],
  ])('of %s have its name and number', (syscall, call, detail) => {
    expect(call).toThrow(expect.objectContaining({ syscall, errno: expect.any(Number), ...detail }));
  });
});

describe('descriptors', () => {
  test('are close-on-exec', () => {
    const name = `/iospace-test-${process.pid}`;
    const fds = [
      native.open('/dev/null', O_RDWR, 0),
      native.memfdCreate('x', 0),
      native.eventfd(0, 0),
      native.shmOpen(name, O_RDWR | O_CREAT | O_EXCL, 0o600),
    ];
    native.shmUnlink(name);
    expect(fds.map(isCloseOnExec)).toEqual([true, true, true, true]);
    for (const fd of fds) native.close(fd);
    for (const fd of fds) expect(() => fstatSync(fd)).toThrow('EBADF');
  });

  test('of shared memory show one memory', () => {
    const name = `/iospace-test-${process.pid}`;
    const fd = native.shmOpen(name, O_RDWR | O_CREAT | O_EXCL, 0o600);
    try {
      expect(() => native.shmOpen(name, O_RDWR | O_CREAT | O_EXCL, 0o600)).toThrow('EEXIST');
      native.ftruncate(fd, 4096);
      const other = native.shmOpen(name, O_RDWR, 0);
      const one = native.mmap(fd, 4096, 3, MAP_SHARED, 0n);
      const two = native.mmap(other, 4096, 3, MAP_SHARED, 0n);
      new Uint8Array(one.buffer())[0] = 42;
      expect(new Uint8Array(two.buffer())[0]).toBe(42);
      one.release(true);
      two.release(true);
      native.close(other);
    } finally {
      native.close(fd);
      native.shmUnlink(name);
    }
  });

  test('take their length', () => {
    const fd = memfd(4096);
    expect(fstatSync(fd).size).toBe(4096);
    native.fallocate(fd, 4096, 4096);
    expect(fstatSync(fd).size).toBe(8192);
    native.close(fd);
  });

  test('are created with the mode asked for', () => {
    const path = `/tmp/iospace-test-${process.pid}`;
    native.close(native.open(path, O_RDWR | O_CREAT | O_EXCL, 0o640));
    const { mode } = fstatSync(native.open(path, 0, 0));
    unlinkSync(path);
    expect(mode & 0o777).toBe(0o640 & ~process.umask());
  });
});

describe('ioctl', () => {
  const shared = new SharedArrayBuffer(16);
  const mapping = map(4096);
  afterAll(() => mapping.release(true));

  test.each([
    ['a typed array', new Int32Array(2)],
    ['a large typed array', new Int32Array(1000)],
    ['a part of one', new Int32Array(4).subarray(1, 2)],
    ['a DataView', new DataView(new ArrayBuffer(8), 4)],
    ['a Buffer', Buffer.alloc(4)],
    ['a shared typed array', new Int32Array(shared, 4, 1)],
    ['a shared DataView', new DataView(shared, 8, 4)],
    ['a view of mapped memory', new Uint8Array(mapping.buffer(), 8, 4)],
  ])('writes into %s', (_name, view) => {
    const fd = memfd(0x4d2);
    const bytes = new Uint8Array(view.buffer, view.byteOffset, 4).fill(0xff);
    // How much is left to read: all of it.
    expect(native.ioctl(fd, FIONREAD, view)).toBe(0);
    expect([...bytes]).toEqual([0xd2, 0x04, 0, 0]);
    native.close(fd);
  });

  test('refuses memory that is less than the request says', () => {
    const fd = native.open('/tmp', 0, 0);
    expect(() => native.ioctl(fd, FS_IOC_GETFLAGS, new Uint8Array(2))).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
    );
    expect(() => native.ioctl(fd, FIONREAD, new Uint8Array(0))).toThrow(RangeError);
    native.close(fd);
  });

  test('refuses detached memory', () => {
    const view = new Uint8Array(8);
    structuredClone(view.buffer, { transfer: [view.buffer] });
    expect(() => native.ioctl(0, FIONREAD, view)).toThrow(RangeError);
  });

  test('takes integers, but none that could be an address', () => {
    const fd = memfd(1);
    expect(() => native.ioctl(fd, 0xd504, -1)).toThrow('ENOTTY');
    expect(() => native.ioctl(fd, 0xd504, 2 ** 32 - 1)).toThrow('ENOTTY');
    expect(() => native.ioctl(fd, FIONREAD, 2 ** 32)).toThrow(RangeError);
    native.close(fd);
  });
});

describe('poll', () => {
  const poll = (fds: number[], timeout: number) => {
    const revents = new Int16Array(fds.length);
    const events = new Int16Array(fds.length).fill(POLLIN);
    return { ready: native.poll(new Int32Array(fds), events, revents, timeout), revents: [...revents] };
  };

  test('says which descriptors are ready', () => {
    const [idle, busy] = [native.eventfd(0, 0), native.eventfd(1, 0)];
    expect(poll([idle, busy, 2 ** 31 - 1], 0)).toEqual({ ready: 2, revents: [0, POLLIN, POLLNVAL] });
    native.close(idle);
    native.close(busy);
  });

  test('ignores negative descriptors', () => {
    expect(poll([-1], 0)).toEqual({ ready: 0, revents: [0] });
  });

  test.each([100_000, -1])('returns within 100 ms, asked for %i', (timeout) => {
    const begin = performance.now();
    expect(poll([], timeout).ready).toBe(0);
    expect(performance.now() - begin).toBeGreaterThan(90);
    expect(performance.now() - begin).toBeLessThan(1000);
  });

  test('refuses arrays of unequal length', () => {
    const one = new Int16Array(1);
    const two = new Int16Array(2);
    expect(() => native.poll(new Int32Array(1), two, one, 0)).toThrow(RangeError);
    expect(() => native.poll(new Int32Array(1), one, two, 0)).toThrow(RangeError);
  });
});

describe('deviceReadCounts', () => {
  // An eventfd reads as the counts of one vector do.
  test('fills the counts, or says that there is nothing new', () => {
    const fd = native.eventfd(5, EFD_NONBLOCK);
    const counts = new BigUint64Array(1);
    expect(native.deviceReadCounts(fd, counts)).toBe(true);
    expect(counts[0]).toBe(5n);
    expect(native.deviceReadCounts(fd, counts)).toBe(false);
    expect(counts[0]).toBe(5n);
    expect(() => native.deviceReadCounts(fd, new BigUint64Array(0))).toThrow('EINVAL');
    native.close(fd);
  });

  test('looks for so many microseconds', () => {
    const fd = native.eventfd(0, EFD_NONBLOCK);
    const counts = new BigUint64Array(1);
    const begin = performance.now();
    expect(native.deviceReadCounts(fd, counts, 1000)).toBe(false);
    expect(performance.now() - begin).toBeGreaterThanOrEqual(1);
    writeSync(fd, new Uint8Array(new BigUint64Array([3n]).buffer));
    expect(native.deviceReadCounts(fd, counts, 1000)).toBe(true);
    expect(counts[0]).toBe(3n);
    for (const spin of [-1, 0.5, 1001]) {
      expect(() => native.deviceReadCounts(fd, counts, spin)).toThrow(RangeError);
    }
    native.close(fd);
  });

  test('sees meanwhile what another thread writes', async () => {
    const fd = native.eventfd(0, EFD_NONBLOCK);
    const counts = new BigUint64Array(1);
    const writer = new Worker(
      `require('node:fs').writeSync(${fd}, new Uint8Array(new BigUint64Array([1n]).buffer))`,
      { eval: true },
    );
    while (!native.deviceReadCounts(fd, counts, 1000)) {
      // It blocks this thread, and not the other.
    }
    expect(counts[0]).toBe(1n);
    await writer.terminate();
    native.close(fd);
  });

  test('keeps all 64 bits', () => {
    const fd = native.eventfd(0, EFD_NONBLOCK);
    const value = new BigUint64Array([0xffff_ffff_ffff_fffen]);
    writeSync(fd, new Uint8Array(value.buffer));
    const counts = new BigUint64Array(new SharedArrayBuffer(8));
    expect(native.deviceReadCounts(fd, counts)).toBe(true);
    expect(counts[0]).toBe(value[0]);
    native.close(fd);
  });
});

test('the constants are of this machine', () => {
  expect(native.constants).toMatchObject({ PROT_READ: 1, MAP_SHARED: 1, POLLIN: 1, O_CLOEXEC: 0o2000000 });
  expect(Object.isFrozen(native.constants)).toBe(true);
  expect(native.constants).not.toHaveProperty('MAP_FIXED');
});

test('barrier() returns nothing', () => {
  expect(native.barrier()).toBeUndefined();
});
