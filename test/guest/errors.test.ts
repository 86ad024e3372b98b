/** What bad input gets: an error that says so, and nothing lost or leaked. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AllocOptions, DmaDevice } from 'iospace';
import * as raw from 'iospace/raw';
import { hold, kill } from './children.js';
import { counters, findEdu, NOTHING, openEdu } from './edu.js';

const { name } = findEdu();

/** `_IO('\xd5', number)`. */
const request = (number: number): number => (0xd5 << 8) | number;
const INFO = request(0);
const ALLOC = request(1);
const FREE = request(2);
const REGISTERS = request(3);
const REGISTER_ACCESS = request(4);
const INTERRUPT = request(5);

/** The structures of uapi/iospace.h, by their sizes and what a good call puts where. */
const calls: {
  call: string;
  number: number;
  size: number;
  words: Record<number, number>;
  reserved: number[];
}[] = [
  { call: 'INFO', number: INFO, size: 200, words: {}, reserved: [] },
  { call: 'ALLOC', number: ALLOC, size: 88, words: { 8: 5, 16: 4096 }, reserved: [84] },
  { call: 'FREE', number: FREE, size: 16, words: { 8: 1 }, reserved: [12] },
  { call: 'REGISTERS', number: REGISTERS, size: 72, words: {}, reserved: [36] },
  { call: 'REGISTER_ACCESS', number: REGISTER_ACCESS, size: 32, words: { 12: 4 }, reserved: [] },
  { call: 'INTERRUPT', number: INTERRUPT, size: 64, words: {}, reserved: [20] },
];

/** A structure with its size in the first word. */
function structure(size: number, words: Record<number, number>, room = size): DataView {
  const view = new DataView(new ArrayBuffer(room));
  view.setUint32(0, size, true);
  for (const [offset, value] of Object.entries(words)) {
    view.setUint32(Number(offset), value, true);
  }
  return view;
}

test('no such device is ENOENT', () => {
  for (const target of ['iospace99', '/dev/iospace99', '0000:ff:1f.7']) {
    assert.throws(() => DmaDevice.open(target), { code: 'ENOENT', errno: -2, syscall: 'open' });
  }
});

test('no permission is EACCES, and the message helps', async () => {
  const { child, said } = await hold(name, 1, 4096, 65534);
  assert.match(String(said), /^EACCES: .*: run as root, or give a group access by a udev rule$/);
  await kill(child);
});

test('a size that is none, beyond the limits, or beyond what there is', () => {
  using device = DmaDevice.open(name);
  for (const size of [0, -1, -4096, 1.5, Number.NaN, Infinity, 2 ** 53, 2 ** 60]) {
    assert.throws(() => device.alloc(size), { code: 'ERR_OUT_OF_RANGE' });
  }
  for (const size of ['4096', 4096n, null, {}, undefined]) {
    assert.throws(() => device.alloc(size as number), { code: 'ERR_INVALID_ARG_TYPE' });
  }
  assert.throws(() => device.alloc(device.info.limits.fileBytes + 1), { code: 'EDQUOT' });
  // In one piece the machine has less than the limit, and what it gives it gives only up to there.
  assert.throws(
    () => {
      for (;;) {
        device.alloc(device.info.limits.fileBytes / 2);
      }
    },
    ({ code }: { code: string }) => code === 'ENOMEM' || code === 'EDQUOT',
  );
  device.close();
  assert.deepEqual(counters(name), NOTHING);
});

test('a limit is kept over many buffers', () => {
  using device = DmaDevice.open(name);
  const size = 1 << 20;
  let bytes = 0;
  assert.throws(
    () => {
      for (;;) {
        device.alloc(size);
        bytes += size;
      }
    },
    ({ code }: { code: string }) => code === 'ENOMEM' || code === 'EDQUOT',
  );
  assert.ok(bytes > 0 && bytes <= device.info.limits.fileBytes);
  assert.equal(counters(name).buffer_bytes, bytes);
});

test('a memory type that is unknown, or cannot be had', () => {
  using device = DmaDevice.open(name);
  for (const memory of ['device', 'Coherent', '', 5, null]) {
    assert.throws(() => device.alloc(4096, { memory } as AllocOptions), { code: 'ERR_INVALID_ARG_VALUE' });
  }
  assert.throws(() => device.alloc(4096, { memroy: 'coherent' } as AllocOptions), {
    code: 'ERR_INVALID_ARG_VALUE',
  });
  assert.throws(() => device.alloc(4096, { memory: 'writethrough' }), { code: 'EOPNOTSUPP' });
  using buffer = device.alloc(4096, { memory: 'writethrough', fallback: true });
  assert.deepEqual(buffer.memory, { requested: 'writethrough', effective: 'cached' });
});

test('what was closed is not used', async () => {
  const device = openEdu();
  const buffer = device.alloc(4096);
  device.close();
  device.close();
  for (const use of [
    () => device.alloc(4096),
    () => device.registers(0),
    () => device.interrupts(),
    () => device.fd,
    () => device.ref(),
    () => buffer.bytes,
    () => buffer.syncForDevice(),
  ]) {
    assert.throws(use, { code: 'ERR_INVALID_STATE' });
  }
  await assert.rejects(device.waitForInterrupt(), { code: 'ERR_INVALID_STATE' });
  buffer.free();
});

for (const { call, number, size, words, reserved } of calls) {
  test(`a garbage ${call} is refused`, () => {
    using device = DmaDevice.open(name);
    const refused = (view: DataView, code: string): void => {
      assert.throws(() => raw.ioctl(device.fd, number, view), { code, syscall: 'ioctl', request: number });
    };
    refused(structure(0, words, size), 'EINVAL');
    refused(structure(size - 1, words, size), 'EINVAL');
    refused(structure(8, words, size), 'EINVAL');
    refused(structure(size, { ...words, 4: 0x8000_0000 }), 'EINVAL');
    for (const offset of reserved) {
      refused(structure(size, { ...words, [offset]: 1 }), 'EINVAL');
    }
    refused(structure(size + 8, { ...words, [size]: 1 }), 'E2BIG');
    refused(structure(0xffff_ffff, words, size), 'E2BIG');
    assert.throws(() => raw.ioctl(device.fd, number, 0), { code: 'EFAULT' });
    assert.equal(counters(name).buffers, 0);
  });
}

test('a larger structure with an empty tail is as good', () => {
  using device = DmaDevice.open(name);
  const view = structure(200 + 8, {});
  raw.ioctl(device.fd, INFO, view);
  assert.equal(view.getUint32(12, true), 1); // IOSPACE_BUS_PCI
});

test('no such call is ENOTTY', () => {
  using device = DmaDevice.open(name);
  assert.throws(() => raw.ioctl(device.fd, request(99), structure(16, {})), { code: 'ENOTTY' });
  assert.throws(() => raw.ioctl(device.fd, 0x5401, new Uint8Array(64)), { code: 'ENOTTY' });
});

test('a handle belongs to the open file that got it', () => {
  using first = DmaDevice.open(name);
  using second = DmaDevice.open(name);
  const view = structure(88, { 8: 5, 16: 4096 });
  raw.ioctl(first.fd, ALLOC, view);
  const handle = view.getUint32(72, true);
  const free = (): DataView => structure(16, { 8: handle });
  assert.throws(() => raw.ioctl(second.fd, FREE, free()), { code: 'ENOENT' });
  const { PROT_READ, MAP_SHARED } = raw.constants;
  assert.throws(() => raw.mmap(second.fd, 4096, PROT_READ, MAP_SHARED, view.getBigUint64(64, true)), {
    code: 'EINVAL',
  });
  raw.ioctl(first.fd, FREE, free());
  assert.throws(() => raw.ioctl(first.fd, FREE, free()), { code: 'ENOENT' });
});

test('registers outside of the window, by the bare call', () => {
  using device = DmaDevice.open(name);
  const access = (offset: number, width: number): number =>
    raw.ioctl(device.fd, REGISTER_ACCESS, structure(32, { 12: width, 16: offset }));
  access(0, 4);
  for (const [offset, width] of [
    [2, 4],
    [1 << 20, 4],
    [(1 << 20) - 2, 4],
    [0xffff_fffc, 4],
    [0, 3],
    [0, 0],
    [0, 16],
  ] as const) {
    assert.throws(() => access(offset, width), { code: 'EINVAL' });
  }
});

test('a bad mapping is refused', () => {
  using device = DmaDevice.open(name);
  const { PROT_READ, PROT_WRITE, PROT_EXEC, MAP_SHARED, MAP_PRIVATE } = raw.constants;
  const view = structure(88, { 8: 5, 16: 8192 });
  raw.ioctl(device.fd, ALLOC, view);
  const offset = view.getBigUint64(64, true);
  const map = (length: number, protection: number, flags: number, at: bigint): raw.Mapping =>
    raw.mmap(device.fd, length, protection, flags, at);

  const all = PROT_READ | PROT_WRITE;
  for (const bad of [
    () => map(8193, all, MAP_SHARED, offset),
    () => map(4096, all, MAP_SHARED, offset + 4096n),
    () => map(4096, all, MAP_SHARED, offset + 1n),
    () => map(4096, all, MAP_SHARED, 1n << 44n),
    () => map(4096, all, MAP_SHARED, (1n << 44n) - 4096n),
    () => map(4096, all, MAP_PRIVATE, offset),
    () => map(4096, PROT_READ | PROT_EXEC, MAP_SHARED, offset),
    () => map(8192, PROT_READ, MAP_SHARED, 0n),
  ]) {
    assert.throws(bad, { code: 'EINVAL', syscall: 'mmap' });
  }
  assert.throws(() => map(4096, all, MAP_SHARED, 0n), { code: 'EACCES' });
  map(4096, PROT_READ, MAP_SHARED, 0n).release();

  using mapping = map(8192, all, MAP_SHARED, offset);
  assert.throws(() => raw.mprotect(mapping, PROT_READ | PROT_EXEC), { code: 'EACCES' });
});

test('two opens of one device are two accounts', () => {
  using first = DmaDevice.open(name);
  using second = DmaDevice.open(name);
  using a = first.alloc(4096);
  using b = second.alloc(4096);
  assert.notEqual(a.dmaAddress, b.dmaAddress);
  assert.equal(counters(name).open_files, 2);
  a.free();
  assert.equal(b.bytes[0], 0);
});
