/** The device goes while it is open, mapped and awaited. Nobody is hurt, and everybody is told. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { DmaDevice, listDevices } from 'iospace';
import { eventually } from './children.js';
import { findEdu, interrupted, openEdu, raise } from './edu.js';

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
  const workers = Array.from(
    { length: 2 },
    () =>
      new Worker(
        `import('iospace').then(async ({ DmaDevice }) => {
          const { parentPort } = await import('node:worker_threads');
          const known = ['ENODEV', 'ENOENT', 'ENXIO'];
          let ended = false;
          let gone = 0;
          parentPort.once('message', () => { ended = true; });
          while (!ended) {
            try {
              const device = DmaDevice.open(${JSON.stringify(busName)});
              try {
                for (let n = 0; n < 1000; n++) {
                  const buffer = device.alloc(4096 * (1 + n % 8));
                  buffer.bytes.fill(n);
                  buffer.bytes.reduce((sum, byte) => sum + byte);
                  device.registers(0).read32(0);
                  if (n % 2 === 0) buffer.free();
                }
              } finally {
                device.close();
              }
            } catch (error) {
              if (!known.includes(error.code)) throw error;
              gone += 1;
            }
            await new Promise(setImmediate);
          }
          parentPort.postMessage(gone);
        });`,
        { eval: true },
      ),
  );
  const failures: unknown[] = [];
  for (const worker of workers) {
    worker.on('error', (error) => failures.push(error));
  }
  for (let round = 0; round < 10; round++) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    unbind();
    await bind();
  }
  const noticed = await Promise.all(
    workers.map(
      (worker) =>
        new Promise<number>((resolve) => {
          worker.once('message', resolve);
          worker.once('exit', () => resolve(-1));
          worker.postMessage('end');
        }),
    ),
  );
  assert.deepEqual(failures, []);
  assert.ok(
    noticed.every((count) => count > 0),
    `${noticed}`,
  );
});
