/** Interrupts of a real device: message-signalled or level-triggered, as the machine was booted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as raw from 'iospace/raw';
import { acknowledge, FACTORIAL, interrupted, openEdu, raise, SOON, STATUS } from './edu.js';

test('an interrupt arrives', async () => {
  using device = openEdu();
  const event = interrupted(device);
  raise(device.registers(0));
  assert.deepEqual(await event, { count: 1n, missed: 0n, vector: 0 });
});

test('one that came before the wait is not lost', async () => {
  using device = openEdu();
  raise(device.registers(0));
  const { POLLIN } = raw.constants;
  assert.deepEqual(raw.poll([{ fd: device.fd, events: POLLIN }], SOON), [{ fd: device.fd, revents: POLLIN }]);
  assert.deepEqual(await interrupted(device), { count: 1n, missed: 0n, vector: 0 });
});

test('five hundred in turn are five hundred', async () => {
  using device = openEdu();
  for (let round = 1n; round <= 500n; round++) {
    raise(device.registers(0));
    const { count, missed } = await interrupted(device);
    assert.equal(missed, 0n);
    assert.equal(count, round);
  }
});

test('the device interrupts when it has computed', async () => {
  using device = openEdu();
  const registers = device.registers(0);
  registers.write32(STATUS, 0x80);
  registers.write32(FACTORIAL, 5);
  await interrupted(device);
  assert.equal(registers.read32(FACTORIAL), 120);
  registers.write32(STATUS, 0);
});

test('a wait that spins is told as any other', async () => {
  using device = openEdu();
  const registers = device.registers(0);
  registers.write32(STATUS, 0x80);
  for (let number = 1, factorial = 1; number <= 10; number++) {
    factorial *= number;
    registers.write32(FACTORIAL, number);
    const event = await device.waitForInterrupt({ timeout: SOON, spin: 1000 });
    acknowledge(registers);
    assert.deepEqual(event, { count: BigInt(number), missed: 0n, vector: 0 });
    assert.equal(registers.read32(FACTORIAL), factorial);
  }
  registers.write32(STATUS, 0);
});

test('it sleeps after that, and an iterator does the same', async () => {
  using device = openEdu();
  const registers = device.registers(0);
  await assert.rejects(device.waitForInterrupt({ spin: 1000, timeout: 20 }), { code: 'ETIMEDOUT' });
  const events = device.interrupts({ spin: 100 });
  for (let count = 1n; count <= 3n; count++) {
    const timer = setTimeout(() => raise(registers), 5);
    assert.deepEqual(await events.next(), { done: false, value: { count, missed: 0n, vector: 0 } });
    clearTimeout(timer);
    acknowledge(registers);
  }
});

test('an iterator yields them, until the device is closed', async () => {
  using device = openEdu();
  const registers = device.registers(0);
  const counts: bigint[] = [];
  raise(registers);
  for await (const { count } of device.interrupts()) {
    counts.push(count);
    acknowledge(registers);
    if (counts.length < 10) {
      raise(registers);
    } else {
      device.close();
    }
  }
  assert.deepEqual(
    counts,
    Array.from({ length: 10 }, (_, n) => BigInt(n + 1)),
  );
});

test('all who wait are told, in this open file and in another', async () => {
  using first = openEdu();
  using second = openEdu();
  const waits = Promise.all([
    first.waitForInterrupt({ timeout: SOON }),
    first.waitForInterrupt({ timeout: SOON }),
    second.waitForInterrupt({ timeout: SOON }),
  ]);
  raise(first.registers(0));
  assert.deepEqual(await waits, Array(3).fill({ count: 1n, missed: 0n, vector: 0 }));
  acknowledge(first.registers(0));
});

test('an open file counts from its open()', async () => {
  using first = openEdu();
  raise(first.registers(0));
  await interrupted(first);
  using second = openEdu();
  await assert.rejects(second.waitForInterrupt({ timeout: 50 }), { code: 'ETIMEDOUT' });
});

test('a wait ends by its time, its signal, and with the device', async () => {
  using device = openEdu();
  await assert.rejects(device.waitForInterrupt({ timeout: 20 }), { code: 'ETIMEDOUT' });
  await assert.rejects(device.waitForInterrupt({ signal: AbortSignal.abort('why') }), {
    code: 'ABORT_ERR',
    cause: 'why',
  });
  const controller = new AbortController();
  const aborted = assert.rejects(device.waitForInterrupt({ signal: controller.signal }), {
    code: 'ABORT_ERR',
  });
  setTimeout(() => controller.abort(), 20);
  await aborted;
  const canceled = assert.rejects(device.waitForInterrupt(), { code: 'ECANCELED' });
  device.close();
  await canceled;
});

test('a vector that the device does not have is ENOENT', async () => {
  using device = openEdu();
  await assert.rejects(device.waitForInterrupt({ vector: device.info.vectors }), { code: 'ENOENT' });
});
