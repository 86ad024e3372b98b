import { closeSync, constants as fsConstants, fstatSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import * as raw from '../../lib/raw.js';
import { runChild } from './child.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });
const { PROT_READ, PROT_WRITE, MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MS_SYNC, MADV_DONTFORK, POLLIN } =
  raw.constants;

const directory = mkdtempSync(join(tmpdir(), 'iospace-'));
afterAll(() => rmSync(directory, { recursive: true }));

test('constants are those of the C library', () => {
  expect(raw.constants.O_RDWR).toBe(fsConstants.O_RDWR);
  expect(raw.constants.O_NONBLOCK).toBe(fsConstants.O_NONBLOCK);
  for (const [name, value] of Object.entries(raw.constants)) {
    expect(value, name).toBeTypeOf('number');
  }
});

test('a file is opened, grown, mapped, written through the mapping, and closed', () => {
  const path = join(directory, 'file');
  const fd = raw.open(path, raw.constants.O_RDWR | raw.constants.O_CREAT, 0o600);
  raw.ftruncate(fd, 8192);
  const mapping = raw.mmap(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED);
  raw.close(fd);
  expect(() => fstatSync(fd)).toThrow(code('EBADF'));
  mapping.bytes[8191] = 65;
  raw.msync(mapping, MS_SYNC);
  raw.madvise(mapping, MADV_DONTFORK, 4096, 4096);
  raw.mlock(mapping, 0, 4096);
  raw.munlock(mapping, 0, 4096);
  raw.mprotect(mapping, PROT_READ);
  expect(mapping.view(Uint32Array, 8188)[0]).toBe(0x41000000);
  raw.munmap(mapping);
  raw.munmap(mapping);
  expect(readFileSync(path).subarray(-1)).toEqual(Buffer.from('A'));
  expect(() => mapping.bytes).toThrow(code('ERR_INVALID_STATE'));
  expect(() => raw.mlock(mapping)).toThrow(code('ERR_INVALID_STATE'));
});

test('a mapping lies at an address of its own', () => {
  using mapping = raw.mmap(-1, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  expect(mapping.address % 4096n).toBe(0n);
  expect(readFileSync('/proc/self/maps', 'utf8')).toMatch(/./);
  expect(mapping).toMatchObject({ byteLength: 4096, released: false });
});

test('memfd and POSIX objects are files', () => {
  const fd = raw.memfdCreate('raw-test');
  raw.ftruncate(fd, 100);
  expect(fstatSync(fd).size).toBe(100);
  raw.close(fd);
  const name = `/iospace-raw-${process.pid}`;
  const object = raw.shmOpen(name, raw.constants.O_RDWR | raw.constants.O_CREAT);
  raw.close(object);
  raw.shmUnlink(name);
  expect(() => raw.shmUnlink(name)).toThrow(code('ENOENT'));
});

test('an ioctl reads and writes the memory of a view', () => {
  const fd = raw.eventfd();
  const FIONREAD = 0x541b;
  expect(() => raw.ioctl(fd, FIONREAD, new Int32Array(1))).toThrow(code('ENOTTY'));
  closeSync(fd);
});

describe('poll', () => {
  test('says what is ready', () => {
    const [quiet, ready] = [raw.eventfd(), raw.eventfd(1)];
    const requests = [quiet, ready].map((fd) => ({ fd, events: POLLIN }));
    expect(raw.poll(requests, 0)).toEqual([{ fd: ready, revents: POLLIN }]);
    expect(raw.poll(requests)).toEqual([{ fd: ready, revents: POLLIN }]);
    closeSync(quiet);
    closeSync(ready);
  });

  test('gives up after its time, and not before', () => {
    const fd = raw.eventfd();
    const begin = performance.now();
    expect(raw.poll([{ fd, events: POLLIN }], 250)).toEqual([]);
    expect(performance.now() - begin).toBeGreaterThanOrEqual(250);
    closeSync(fd);
  });

  test('sees what another thread does, and lets its own be terminated', async () => {
    const outcome = await runChild(
      `import { Worker } from 'node:worker_threads';
       import { eventfd, poll, constants } from 'iospace/raw';
       import { writeSync } from 'node:fs';
       const fd = eventfd();
       const program = (timeout) => \`import('iospace/raw').then(async ({ poll, constants }) => {
         const { parentPort } = await import('node:worker_threads');
         parentPort.postMessage('there');
         parentPort.postMessage(poll([{ fd: \${fd}, events: constants.POLLIN }]).length);
       });\`;
       const stuck = new Worker(program(), { eval: true });
       await new Promise((resolve) => stuck.once('message', resolve));
       const begin = performance.now();
       await stuck.terminate();
       console.log(performance.now() - begin < 1000);
       const told = new Worker(program(), { eval: true });
       await new Promise((resolve) => told.once('message', resolve));
       writeSync(fd, new BigUint64Array([1n]));
       console.log(await new Promise((resolve) => told.once('message', resolve)));`,
    );
    expect(outcome).toEqual({ code: 0, signal: null, stdout: 'true\n1\n', stderr: '' });
  });
});

describe('bad arguments', () => {
  const anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
  const MAP_FIXED = 0x10;
  const cases: [string, () => unknown, string][] = [
    ['open: a number for a path', () => raw.open(5 as unknown as string, 0), 'ERR_INVALID_ARG_TYPE'],
    ['open: a null byte', () => raw.open('/dev/null\0x', 0), 'ERR_INVALID_ARG_VALUE'],
    ['open: no such file', () => raw.open('/no/such', 0), 'ENOENT'],
    ['close: not open', () => raw.close(4711), 'EBADF'],
    ['close: negative', () => raw.close(-1), 'ERR_OUT_OF_RANGE'],
    ['ioctl: not a number', () => raw.ioctl(1, '0x5401' as unknown as number), 'ERR_INVALID_ARG_TYPE'],
    ['ioctl: a request beyond 32 bits', () => raw.ioctl(1, 2 ** 32), 'ERR_OUT_OF_RANGE'],
    ['ioctl: a pointer for an argument', () => raw.ioctl(1, 1, 2 ** 40), 'ERR_OUT_OF_RANGE'],
    ['ioctl: an object', () => raw.ioctl(1, 1, {} as unknown as number), 'ERR_INVALID_ARG_TYPE'],
    ['ioctl: not open', () => raw.ioctl(4711, 0x5401, new Uint8Array(64)), 'EBADF'],
    ['mmap: no bytes', () => raw.mmap(-1, 0, PROT_READ, anonymous), 'ERR_OUT_OF_RANGE'],
    ['mmap: a fixed address', () => raw.mmap(-1, 4096, PROT_READ, anonymous | MAP_FIXED), 'ERR_OUT_OF_RANGE'],
    ['mmap: no sharing', () => raw.mmap(-1, 4096, PROT_READ, MAP_ANONYMOUS), 'EINVAL'],
    ['mmap: an offset inside a page', () => raw.mmap(-1, 4096, PROT_READ, anonymous, 1), 'EINVAL'],
    ['mmap: a negative offset', () => raw.mmap(-1, 4096, PROT_READ, anonymous, -4096n), 'ERR_OUT_OF_RANGE'],
    ['munmap: no mapping', () => raw.munmap({} as raw.Mapping), 'ERR_INVALID_ARG_TYPE'],
    ['poll: no array', () => raw.poll(undefined as unknown as []), 'ERR_INVALID_ARG_TYPE'],
    ['poll: a timeout of -2', () => raw.poll([], -2), 'ERR_OUT_OF_RANGE'],
    ['eventfd: negative', () => raw.eventfd(-1), 'ERR_OUT_OF_RANGE'],
    ['ftruncate: negative', () => raw.ftruncate(1, -1), 'ERR_OUT_OF_RANGE'],
  ];
  test.each(cases)('%s', (_what, call, expected) => {
    expect(call).toThrow(code(expected));
  });

  test('a range outside of a mapping', () => {
    using mapping = raw.mmap(-1, 8192, PROT_READ | PROT_WRITE, anonymous);
    expect(() => raw.mprotect(mapping, PROT_READ, 4096, 4097)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => raw.mlock(mapping, 8193)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => raw.msync(mapping, MS_SYNC, 1)).toThrow(code('EINVAL'));
  });
});
