/** What a process held is given back, however it ends; what a device may still write is given to nobody. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { DmaDevice } from 'iospace';
import { eventually, hold, kill } from './children.js';
import { counters, findEdu, memFree, NOTHING } from './edu.js';
import { holdEach } from './holdings.js';
import { isFilledWith } from './witness.js';

const { name } = findEdu();
const MIB = 1 << 20;
const KIND = 64 * 1024;

function isQuiet(device = name): boolean {
  return JSON.stringify(counters(device)) === JSON.stringify(NOTHING);
}

test('free() gives pages and mapping back at once', () => {
  using device = DmaDevice.open(name);
  const buffer = device.alloc(64 * 1024);
  const { bytes } = buffer;
  bytes.fill(1);
  buffer.free();
  buffer.free();
  assert.equal(bytes.length, 0);
  assert.equal(counters(name).buffers, 0);
  assert.throws(() => buffer.bytes, { code: 'ERR_INVALID_STATE' });
  assert.throws(() => buffer.dmaAddress, { code: 'ERR_INVALID_STATE' });
});

test('close() ends memory of every kind, and registers', () => {
  const device = DmaDevice.open(name);
  const views = holdEach(device, KIND).map(({ memory }) => memory.bytes);
  device.registers(0);
  device.close();
  device.close();
  assert.ok(views.every(({ length }) => length === 0));
  assert.ok(!readFileSync('/proc/self/smaps', 'utf8').includes(`/dev/${name}`));
  assert.deepEqual(counters(name), NOTHING);
});

/** Opens each window of an arena in another type than it was, and ends it. */
function openInOtherTypes(device: DmaDevice): void {
  for (const arena of device.arenas.slice(0, 1)) {
    const types = arena.memoryTypes;
    for (const index of types.keys()) {
      const other = types[(index + 1) % types.length] ?? 'cached';
      arena.window(other, { offset: index * KIND, length: KIND }).unmap();
    }
  }
}

test('a process that held memory of every kind is killed: nobody sees it again, and nothing stays of it', async () => {
  const { child, said } = await hold(name, 'each', KIND);
  assert.equal(said, 'holding');
  assert.ok(counters(name).buffers > findEdu().memoryTypes.length);
  await kill(child);
  assert.ok(await eventually(() => isQuiet()), JSON.stringify(counters(name)));
  {
    using device = DmaDevice.open(name);
    openInOtherTypes(device);
    for (const { kind, memory } of holdEach(device, KIND)) {
      assert.ok(!kind.isNew || isFilledWith(memory.bytes, 0), kind.name);
    }
  }
  assert.deepEqual(counters(name), NOTHING);
});

test('killed processes leave no memory behind', async () => {
  // Not edu's memory, of which there is little: it reaches 256 MiB.
  const round = async (): Promise<void> => {
    const { child, said } = await hold('iospace0', 256, MIB / 2);
    assert.equal(said, 'holding');
    assert.equal(counters('iospace0').buffer_bytes, 128 * MIB);
    await kill(child);
    assert.ok(await eventually(() => isQuiet('iospace0')));
  };
  await round();
  const before = memFree();
  await round();
  // Half of what the round would have lost. What else a machine does in between is less, KASAN's quarantine included.
  assert.ok(await eventually(() => memFree() > before - 64 * MIB), `${before} before, ${memFree()} after`);
});

test('what a killed process held waits for the last close', async () => {
  using device = DmaDevice.open(name);
  using mine = device.alloc(4096);
  const { child } = await hold(name, 4, 64 * 1024);
  await kill(child);
  assert.ok(await eventually(() => counters(name).open_files === 1));
  assert.equal(counters(name).held_bytes, 4 * 64 * 1024);
  mine.bytes.fill(1);
  device.close();
  assert.deepEqual(counters(name), NOTHING);
});

test('a terminated worker gives memory of every kind back', async () => {
  const holdings = JSON.stringify(new URL('holdings.js', import.meta.url));
  const worker = new Worker(
    `Promise.all([import('iospace'), import(${holdings})]).then(async ([{ DmaDevice }, { holdEach }]) => {
      const device = DmaDevice.open(${JSON.stringify(name)});
      globalThis.held = holdEach(device, ${KIND}).map(({ memory }) => memory.bytes.fill(1));
      device.registers(0).read32(0);
      device.waitForInterrupt();
      (await import('node:worker_threads')).parentPort.postMessage(held.length);
    });`,
    { eval: true },
  );
  const [held] = await once(worker, 'message');
  assert.equal(counters(name).buffers, held);
  await worker.terminate();
  assert.ok(await eventually(() => isQuiet()), JSON.stringify(counters(name)));
  using device = DmaDevice.open(name);
  openInOtherTypes(device);
});

test('the module cannot be removed while it is in use', () => {
  using device = DmaDevice.open(name);
  const { stderr } = spawnSync('rmmod', ['iospace'], { encoding: 'utf8' });
  assert.match(stderr, /in use|Resource temporarily unavailable/); // kmod's words, and BusyBox's
  using buffer = device.alloc(4096);
  assert.equal(buffer.bytes[0], 0);
});
