/** The device goes while it is open, mapped and awaited. Nobody is hurt, and everybody is told. */
import assert from 'node:assert/strict';
import { closeSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { DmaDevice, listDevices } from 'iospace';
import * as raw from 'iospace/raw';
import { eventually } from './children.js';
import { counters, findEdu, interrupted, NOTHING, openEdu, raise, SOON } from './edu.js';
import { holdEach } from './holdings.js';
import { untouched, vmPin } from './user-memory.js';
import { isFilledWith } from './witness.js';

const { PROT_READ, PROT_WRITE, MAP_SHARED } = raw.constants;

const { device: busName } = findEdu();
const KIND = 64 * 1024;

function unbind(): void {
  writeFileSync(`/sys/bus/pci/devices/${busName}/driver/unbind`, busName);
}

async function bind(): Promise<void> {
  writeFileSync('/sys/bus/pci/drivers_probe', busName);
  assert.ok(await eventually(() => listDevices().some(({ device }) => device === busName)));
}

test('everything that was open answers ENODEV, and memory of every kind stays readable', async () => {
  using device = openEdu();
  const registers = device.registers(0);
  const held = holdEach(device, KIND);
  for (const { memory } of held) {
    memory.bytes.fill(0x77);
  }
  const untouched = holdEach(device, KIND);
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
    for (const { kind, memory } of [...held, ...untouched]) {
      assert.ok(isFilledWith(memory.bytes, 0), kind.name);
    }
    for (const { memory } of held) {
      memory.bytes.fill(1); // lost, and harmless
    }
    assert.throws(() => registers.read32(0), { code: 'ENODEV' });
    assert.throws(() => registers.write32(4, 1), { code: 'ENODEV' });
    assert.throws(() => device.alloc(4096), { code: 'ENODEV' });
    assert.throws(() => device.registers(1), { code: 'ENODEV' });
    await assert.rejects(device.waitForInterrupt(), { code: 'ENODEV' });
    assert.equal(
      listDevices().find(({ device: bound }) => bound === busName),
      undefined,
    );
    assert.throws(() => DmaDevice.open(busName), { code: 'ENOENT' });
    device.close();
  } finally {
    await bind();
  }
  assert.deepEqual(counters(findEdu().name), NOTHING);
});

test('mappings of the program, and imports, end with the device; what they were of stays', async () => {
  const pinned = vmPin();
  using device = openEdu();
  using other = DmaDevice.open('iospace0');
  using memory = untouched(KIND);
  memory.bytes.fill(0x11);
  using mapping = device.mapUser(memory.bytes, 'bidirectional');
  using theirs = other.alloc(KIND, { memory: 'cached' });
  theirs.bytes.fill(0x22);
  const theirFd = theirs.exportDmaBuf();
  using imported = device.importDmaBuf(theirFd);
  closeSync(theirFd);
  assert.equal(vmPin(), pinned + KIND);

  unbind();
  try {
    assert.equal(vmPin(), pinned);
    assert.ok(isFilledWith(memory.bytes, 0x11));
    assert.ok(isFilledWith(theirs.bytes, 0x22) && isFilledWith(imported.bytes, 0x22));
    assert.throws(() => device.mapUser(memory.bytes, 'toDevice'), { code: 'ENODEV' });
    mapping.unmap();
    imported.release();
  } finally {
    await bind();
  }
  assert.deepEqual(counters(findEdu().name), NOTHING);
});

test('of an exported buffer those who have it attached keep it; others get ENODEV, and see zeros', async () => {
  using device = openEdu();
  using other = DmaDevice.open('iospace0');
  const buffer = device.alloc(KIND, { memory: 'cached' });
  buffer.bytes.fill(0x33);
  const fd = buffer.exportDmaBuf();
  using view = raw.mmap(fd, KIND, PROT_READ | PROT_WRITE, MAP_SHARED);
  using imported = other.importDmaBuf(fd);
  const { segments } = imported;

  unbind();
  try {
    assert.ok(isFilledWith(view.bytes, 0) && isFilledWith(imported.bytes, 0));
    assert.deepEqual(imported.segments, segments);
    assert.throws(() => other.importDmaBuf(fd), { code: 'ENODEV' });
    imported.release();
    closeSync(fd);
    device.close();
  } finally {
    await bind();
  }
  assert.deepEqual(counters(findEdu().name), NOTHING);
});

test('bound again it works again, beside a file from before', async () => {
  using before = openEdu();
  for (const { memory } of holdEach(before, KIND)) {
    memory.bytes.fill(1);
  }
  unbind();
  await bind();
  using after = openEdu();
  for (const { kind, memory } of holdEach(after, KIND)) {
    // A window shows what was written last.
    assert.ok(isFilledWith(memory.bytes, kind.isNew ? 0 : 1), kind.name);
  }
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
  try {
    for (let round = 0; round < 10; round++) {
      const before = opens();
      assert.ok(
        // The first time they have to start.
        await eventually(
          () => failures.length > 0 || opens().every((count, n) => count > (before[n] ?? 0)),
          4 * SOON,
        ),
        `round ${round}: the device is not opened again`,
      );
      await new Promise((resolve) => setTimeout(resolve, 10 * round));
      unbind();
      await bind();
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
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
          buffer.bytes.includes(255); // which it does not, so all is read
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
