/**
 * What bad input to the library gets: an error that says so, and nothing lost or leaked. What the module is told directly
 * is in `test/abi/forms.c`.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AllocOptions, DmaDevice } from 'iospace';
import { hold, keepsItsUser, kill } from './children.js';
import { counters, findEdu, NOTHING, openEdu } from './edu.js';

const { name } = findEdu();

test('no such device is ENOENT', () => {
  for (const target of ['iospace99', '/dev/iospace99', '0000:ff:1f.7']) {
    assert.throws(() => DmaDevice.open(target), { code: 'ENOENT', errno: -2, syscall: 'open' });
  }
});

test('no permission is EACCES, and the message helps', { skip: keepsItsUser }, async () => {
  const { child, said } = await hold(name, 1, 4096, 65534);
  assert.match(String(said), /^EACCES: .*: run as root, or give a group access: .*60-iospace\.rules/);
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
