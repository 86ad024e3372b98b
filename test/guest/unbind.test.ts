/** The device goes while it is open, mapped and awaited. Nobody is hurt, and everybody is told. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { DmaDevice, listDevices } from 'iospace';
import { eventually } from './children.js';
import { findEdu, interrupted, openEdu, raise, SOON } from './edu.js';

const { device: busName } = findEdu();

function unbind(): void {
  writeFileSync(`/sys/bus/pci/devices/${busName}/driver/unbind`, busName);
}

async function bind(): Promise<void> {
  writeFileSync('/sys/bus/pci/drivers_probe', busName);
  assert.ok(await eventually(() => listDevices().some(({ device }) => device === busName)));
}

test('everything that was open answers ENODEV, and what was mapped stays readable', async () => {
  using device = openEdu();
  const registers = device.registers(0);
  const buffer = device.alloc(64 * 1024);
  buffer.bytes.fill(0x77);
  const untouched = device.alloc(4096);
  const waits = Promise.allSettled([
    device.waitForInterrupt(),
    device.waitForInterrupt({ timeout: 60_000 }),
    device.interrupts().next(),
  ]);

  unbind();
  try {
    for (const wait of await waits) {
      assert.equal(wait.status, 'rejected');
      assert.equal(wait.reason.code, 'ENODEV');
    }
    assert.ok(buffer.bytes.every((byte) => byte === 0));
    assert.ok(untouched.bytes.every((byte) => byte === 0));
    buffer.bytes.fill(1); // lost, and harmless
    assert.throws(() => registers.read32(0), { code: 'ENODEV' });
    assert.throws(() => registers.write32(4, 1), { code: 'ENODEV' });
    assert.throws(() => device.alloc(4096), { code: 'ENODEV' });
    assert.throws(() => device.registers(1), { code: 'ENODEV' });
    await assert.rejects(device.waitForInterrupt(), { code: 'ENODEV' });
    buffer.free();
    untouched.free();
    assert.equal(
      listDevices().find(({ device: bound }) => bound === busName),
      undefined,
    );
    assert.throws(() => DmaDevice.open(busName), { code: 'ENOENT' });
    device.close();
  } finally {
    await bind();
  }
});

test('bound again it works again, beside a file from before', async () => {
  using before = openEdu();
  before.alloc(4096).bytes.fill(1);
  unbind();
  await bind();
  using after = openEdu();
  using buffer = after.alloc(4096);
  assert.ok(buffer.bytes.every((byte) => byte === 0));
  raise(after.registers(0));
  await interrupted(after);
  assert.throws(() => before.alloc(4096), { code: 'ENODEV' });
});

test('unbound ten times against mmap, ioctl and fault from other threads', async () => {
  /** For each worker: how often it opened the device, and how often the device went while it was open. */
  const tallies = Array.from({ length: 2 }, () => new Int32Array(new SharedArrayBuffer(8)));
  const failures: unknown[] = [];
  const workers = tallies.map((tally) => {
    const worker = new Worker(WORKER, { eval: true, workerData: { tally, busName } });
    worker.on('error', (error) => failures.push(error));
    return worker;
  });
  const opens = (): number[] => tallies.map((tally) => Atomics.load(tally, 0));
  for (let round = 0; round < 10; round++) {
    const before = opens();
    assert.ok(
      await eventually(
        () => failures.length > 0 || opens().every((count, n) => count > (before[n] ?? 0)),
        SOON,
      ),
      `round ${round}: the device is not opened again`,
    );
    await new Promise((resolve) => setTimeout(resolve, 10 * round));
    unbind();
    await bind();
  }
  await Promise.all(workers.map((worker) => worker.terminate()));
  assert.deepEqual(failures, []);
  assert.ok(
    tallies.every((tally) => Atomics.load(tally, 1) > 0),
    `${tallies.map((tally) => tally[1])}`,
  );
});

/** Allocates, maps, touches, reads registers and frees for as long as it is let, on whatever device there is. */
const WORKER = `
import('iospace').then(async ({ DmaDevice }) => {
  const { tally, busName } = (await import('node:worker_threads')).workerData;
  for (;;) {
    try {
      const device = DmaDevice.open(busName);
      try {
        Atomics.add(tally, 0, 1);
        for (let n = 0; n < 100; n++) {
          const buffer = device.alloc(4096 * (1 + (n % 8)));
          buffer.bytes.fill(n);
          buffer.bytes.reduce((sum, byte) => sum + byte);
          device.registers(0).read32(0);
          if (n % 2 === 0) buffer.free();
        }
      } finally {
        device.close();
      }
    } catch (error) {
      if (!['ENODEV', 'ENOENT', 'ENXIO'].includes(error.code)) throw error;
      if (error.code === 'ENODEV') Atomics.add(tally, 1, 1);
    }
    await new Promise(setImmediate);
  }
});
`;
