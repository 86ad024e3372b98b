/** Mappings: what their ArrayBuffer shows, and what is left of them after release. */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  read,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { describe, expect, test, vi } from 'vitest';
import { MAP_SHARED, map, memfd, native, nodeMajor, PROT_READ, PROT_WRITE, turns } from './support.js';

const MIB = 1 << 20;

/** The mappings of this process that touch the range, as lines of its maps file. */
function mappedAt(address: bigint, byteLength: number): string[] {
  const end = address + BigInt(byteLength);
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => {
      const [from, to] = (line.split(' ')[0] ?? '').split('-').map((hex) => BigInt(`0x${hex || '0'}`));
      return from !== undefined && to !== undefined && from < end && to > address;
    });
}

/** The system calls in which threads of this process wait: number, arguments, stack and place, in hex. */
function blockedCalls(): string[] {
  return readdirSync('/proc/self/task').map((id) => readFileSync(`/proc/self/task/${id}/syscall`, 'utf8'));
}

describe('a mapping', () => {
  test('shows the memory of its file', () => {
    const fd = memfd(8192);
    const writer = native.mmap(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, 0n);
    const reader = native.mmap(fd, 4096, PROT_READ, MAP_SHARED, 4096n);
    native.close(fd);
    new Uint8Array(writer.buffer())[4096] = 0x5a;
    expect(new Uint8Array(reader.buffer())[0]).toBe(0x5a);
    expect(reader.byteLength).toBe(4096);
    expect(mappedAt(reader.address, 4096)[0]).toContain('r--s');
    writer.release(true);
    reader.release(true);
  });

  test('is as long as was asked for, though it occupies whole pages', () => {
    const mapping = map(5000);
    expect(mapping.byteLength).toBe(5000);
    expect(mapping.buffer().byteLength).toBe(5000);
    mapping.release(true);
  });

  test('has one ArrayBuffer', () => {
    const mapping = map(4096);
    expect(mapping.buffer()).toBe(mapping.buffer());
    mapping.release(true);
  });

  test('has properties that cannot be changed', () => {
    const mapping = map(4096);
    expect(() => Object.assign(mapping, { byteLength: 1 })).toThrow(TypeError);
    expect(() => Object.assign(mapping, { released: true })).toThrow(TypeError);
    mapping.release(true);
  });

  test('takes its other calls on parts of its pages', () => {
    const mapping = map(2 * native.pageSize);
    const { MS_SYNC = 0, MADV_WILLNEED = 0 } = native.constants;
    mapping.sync(MS_SYNC, 0, mapping.byteLength);
    mapping.advise(MADV_WILLNEED, native.pageSize, native.pageSize);
    mapping.lock(0, native.pageSize);
    expect(mappedAt(mapping.address, native.pageSize)).toHaveLength(1);
    mapping.unlock(0, native.pageSize);
    mapping.protect(PROT_READ, native.pageSize, native.pageSize);
    expect(mappedAt(mapping.address, 2 * native.pageSize).map((line) => line.split(' ')[1])).toEqual([
      'rw-s',
      'r--s',
    ]);
    mapping.release(true);
  });

  test.each([
    ['before the beginning', -1, 1],
    ['past the end', 0, 8193],
    ['beginning past the end', 8193, 0],
    ['so long that its end wraps', 4096, Number.MAX_SAFE_INTEGER],
  ])('refuses a part %s', (_name, offset, byteLength) => {
    const mapping = map(8192);
    expect(() => mapping.sync(4, offset, byteLength)).toThrow(
      expect.objectContaining({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }),
    );
    mapping.release(true);
  });
});

describe('renew', () => {
  test('makes room for another ArrayBuffer over the same memory, and detaches the one before', async () => {
    const mapping = map(8192);
    for (let turn = 0; turn < 3; turn++) {
      const buffer = mapping.buffer();
      const bytes = new Uint8Array(buffer);
      expect(bytes[turn]).toBe(turn);
      bytes[turn + 1] = turn + 1;
      mapping.renew(true);
      expect([buffer.byteLength, bytes.length]).toEqual([0, 0]);
      expect(mapping.buffer()).not.toBe(buffer);
      await turns(2);
    }
    expect([...new Uint8Array(mapping.buffer(), 0, 5)]).toEqual([0, 1, 2, 3, 0]);
    mapping.release(true);
  });

  test('leaves it as it is where it was detached otherwise, or nobody has one', () => {
    const mapping = map(4096);
    mapping.renew(true);
    const kept = mapping.buffer();
    mapping.renew(false);
    expect(kept.byteLength).toBe(4096);
    expect(mapping.buffer()).not.toBe(kept);
    mapping.release(true);
    // Not ours any more, and empty.
    expect(new Uint8Array(kept).every((byte) => byte === 0)).toBe(true);
  });

  test.each([
    ['before the next one is made', false],
    ['after', true],
  ])('and release, %s, leave nothing of the file', async (_when, made) => {
    const mapping = map(4096);
    new Uint8Array(mapping.buffer()).fill(7);
    mapping.renew(true);
    const next = made ? mapping.buffer() : undefined;
    mapping.release(true);
    await turns(3);
    expect(next?.byteLength ?? 0).toBe(0);
    expect(mappedAt(mapping.address, 4096).join()).not.toContain('iospace-test');
    expect(() => mapping.renew(true)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_STATE' }));
  });
});

describe('release', () => {
  test('leaves empty views and no mapping of the file', () => {
    const mapping = map(4096);
    const buffer = mapping.buffer();
    const bytes = new Uint8Array(buffer);
    const view = new DataView(buffer);
    mapping.release(true);
    expect(mapping.released).toBe(true);
    expect(buffer.byteLength).toBe(0);
    expect(bytes.length).toBe(0);
    expect(bytes[0]).toBeUndefined();
    expect(() => view.getUint8(0)).toThrow(TypeError);
    expect(mappedAt(mapping.address, 4096).join()).not.toContain('iospace-test');
  });

  test('takes the file away at once where no ArrayBuffer was made, too', () => {
    const mapping = map(4096);
    mapping.release(true);
    expect(mappedAt(mapping.address, 4096).join()).not.toContain('iospace-test');
  });

  test('does nothing the second time', () => {
    const mapping = map(4096);
    mapping.release(true);
    mapping.release(true);
    mapping.release(false);
    expect(mapping.released).toBe(true);
  });

  test.each([
    ['buffer', []],
    ['sync', [4, 0, 0]],
    ['advise', [0, 0, 0]],
    ['protect', [1, 0, 0]],
    ['lock', [0, 0]],
    ['unlock', [0, 0]],
  ] as const)('makes %s() throw ERR_INVALID_STATE', (method, args) => {
    const mapping = map(4096);
    mapping.release(true);
    expect(() => Reflect.apply(mapping[method], mapping, args)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_STATE' }),
    );
  });

  test('without detaching leaves zeros to read and nothing to write into', () => {
    const fd = memfd(4096);
    const mapping = native.mmap(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 0n);
    const bytes = new Uint8Array(mapping.buffer()).fill(1);
    mapping.release(false);
    expect(bytes.length).toBe(4096);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    bytes.fill(2);
    const again = native.mmap(fd, 4096, PROT_READ, MAP_SHARED, 0n);
    expect(new Uint8Array(again.buffer()).every((byte) => byte === 1)).toBe(true);
    again.release(true);
    native.close(fd);
  });

  test.skipIf(nodeMajor < 22)('leaves zeros in a buffer that transfer() carried off (Node 22)', async () => {
    const mapping = map(4096);
    const buffer = mapping.buffer() as ArrayBuffer & { transfer(): ArrayBuffer };
    new Uint8Array(buffer).fill(7);
    const carried = new Uint8Array(buffer.transfer());
    expect(carried[0]).toBe(7);
    mapping.release(true);
    await turns(3);
    expect(carried.length).toBe(4096);
    expect(carried.every((byte) => byte === 0)).toBe(true);
    carried.fill(8);
    expect(carried[4095]).toBe(8);
  });

  test('leaves a structuredClone as it is', () => {
    const mapping = map(4096);
    new Uint8Array(mapping.buffer()).fill(7);
    const copy = new Uint8Array(structuredClone(mapping.buffer()));
    mapping.release(true);
    expect(copy.length).toBe(4096);
    expect(copy.every((byte) => byte === 7)).toBe(true);
  });

  test('leaves a posted copy as it is', () => {
    const { port1, port2 } = new MessageChannel();
    const mapping = map(4096);
    new Uint8Array(mapping.buffer()).fill(7);
    port1.postMessage(mapping.buffer());
    mapping.release(true);
    const copy = new Uint8Array(receiveMessageOnPort(port2)?.message);
    expect(copy.every((byte) => byte === 7)).toBe(true);
    port1.close();
  });

  test('works after an attempt to post the buffer away', async () => {
    const { port1, port2 } = new MessageChannel();
    const mapping = map(4096);
    const buffer = mapping.buffer();
    new Uint8Array(buffer).fill(7);
    // Node 20 copies silently; 22 and later refuse.
    if (nodeMajor < 22) port1.postMessage(buffer, [buffer]);
    else
      expect(() => port1.postMessage(buffer, [buffer])).toThrow(
        expect.objectContaining({ name: 'DataCloneError' }),
      );
    const received = receiveMessageOnPort(port2)?.message as ArrayBuffer | undefined;
    mapping.release(true);
    await turns(3);
    if (received !== undefined) expect(new Uint8Array(received)[0]).toBe(7);
    expect(mappedAt(mapping.address, 4096).join()).not.toContain('iospace-test');
    port1.close();
  });

  test.each([
    ['at once', 0],
    ['after the ArrayBuffer is finalized', 5],
  ])('lets an fs.read in flight write into nothing, %s', async (_when, wait) => {
    const directory = mkdtempSync(join(tmpdir(), 'iospace-'));
    const path = join(directory, 'fifo');
    execFileSync('mkfifo', [path]);
    const fifo = openSync(path, constants.O_RDWR);
    const mapping = map(MIB);
    const bytes = new Uint8Array(mapping.buffer());
    const ended = new Promise<void>((resolve) => {
      // The data went into nothing, or, where the range is out of use already, EFAULT.
      read(fifo, bytes, 0, 4096, null, (error) => {
        if (error !== null) expect(error.code).toBe('EFAULT');
        resolve();
      });
    });
    const underWay = [fifo, mapping.address, 4096].map((value) => `0x${value.toString(16)}`).join(' ');
    await vi.waitFor(() => expect(blockedCalls().join()).toContain(underWay));
    mapping.release(true);
    await turns(wait);
    // As many as the one could be whose place the released one had.
    const others = Array.from({ length: 100 }, () => map(MIB));
    writeSync(fifo, Buffer.alloc(4096, 0xee));
    await ended;
    for (const other of others) {
      expect(Buffer.from(other.buffer(), 0, 4096).includes(0xee)).toBe(false);
      other.release(true);
    }
    closeSync(fifo);
    rmSync(directory, { recursive: true });
  });

  test.each([
    [1_000, MIB],
    [100_000, 4096],
  ])('can be had %i times in one synchronous loop', (count, byteLength) => {
    const mapped = () => readFileSync('/proc/self/maps', 'utf8').split('iospace-test').length;
    const before = mapped();
    const fd = memfd(byteLength);
    for (let index = 0; index < count; index++) {
      const mapping = native.mmap(fd, byteLength, PROT_READ | PROT_WRITE, MAP_SHARED, 0n);
      new Uint8Array(mapping.buffer())[0] = index;
      mapping.release(true);
    }
    native.close(fd);
    expect(mapped()).toBe(before);
  });

  test.each([
    ['with', true],
    ['without', false],
  ])('keeps the address range, %s an ArrayBuffer, from the mappings that follow', async (_with, wrapped) => {
    const released = map(64 * MIB);
    if (wrapped) released.buffer();
    const end = released.address + 64n * BigInt(MIB);
    released.release(true);
    await turns(5);
    const others = Array.from({ length: 100 }, () => map(64 * MIB));
    const inside = others.filter(
      (other) => other.address < end && other.address + 64n * BigInt(MIB) > released.address,
    );
    expect(inside).toEqual([]);
    for (const other of others) other.release(true);
  });

  test('gives the address range back in the end', async () => {
    const reserved = () => Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[0]) * native.pageSize;
    const before = reserved();
    // More than the quarantine keeps: 16 GiB.
    for (let index = 0; index < 320; index++) {
      const mapping = map(256 * MIB);
      if (index % 2 === 0) mapping.buffer();
      mapping.release(true);
      if (index % 16 === 0) await turns(2);
    }
    await turns(3);
    expect(reserved() - before).toBeLessThan(20 * 1024 * MIB);
  });
});

describe('the receiver', () => {
  const mapping = map(4096);
  const registers = new native.Registers(native.memfdCreate('r', 0), 0, {
    flags: 0,
    byteLength: 4096,
    mmapOffset: 0n,
    pageOffset: 0,
    name: '',
  });
  const released = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(mapping), 'released')
    ?.get as () => boolean;

  test.each([
    ['a method', () => mapping.buffer.call(registers)],
    ['a method of a derived object', () => mapping.buffer.call(Object.create(mapping))],
    ['a method of a proxy', () => mapping.buffer.call(new Proxy(mapping, {}))],
    ['an accessor', () => released.call(registers)],
    ['an accessor of a derived object', () => Object.create(mapping).released],
    ['an accessor of a number', () => released.call(1)],
    ['an accessor of nothing', () => released.call(undefined)],
  ])('of %s must be its own', (_name, call) => {
    expect(call).toThrow(TypeError);
  });

  test('can be had from the constructor only by mapping', () => {
    const Mapping = mapping.constructor as new (...args: unknown[]) => unknown;
    expect(() => new Mapping()).toThrow(TypeError);
    expect(() => Reflect.apply(Mapping, undefined, [])).toThrow(TypeError);
    expect(() => Reflect.construct(Mapping, [-1, 4096, 3, 1, 0n])).toThrow(
      expect.objectContaining({ code: 'EBADF' }),
    );
  });
});
