/** What a process held is given back, however it ends; what a device may still write is given to nobody. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { DmaDevice } from 'iospace';
import { eventually, hold, kill } from './children.js';
import { counters, findEdu, memFree, NOTHING } from './edu.js';

const { name } = findEdu();
const MIB = 1 << 20;

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

test('close() ends everything', () => {
  const device = DmaDevice.open(name);
  const { bytes } = device.alloc(4096);
  device.registers(0);
  device.close();
  device.close();
  assert.equal(bytes.length, 0);
  assert.ok(!readFileSync('/proc/self/smaps', 'utf8').includes(`/dev/${name}`));
  assert.deepEqual(counters(name), NOTHING);
});

test('a killed process gives all back', async () => {
  const { child, said } = await hold(name, 16, 64 * 1024);
  assert.equal(said, 'holding');
  assert.deepEqual(counters(name), { buffers: 16, buffer_bytes: MIB, held_bytes: 0, open_files: 1 });
  await kill(child);
  assert.ok(await eventually(() => isQuiet()), JSON.stringify(counters(name)));
});

test('killed processes leave no memory behind', async () => {
  // Not edu's memory, of which there is little: it reaches 256 MiB.
  const round = async (): Promise<void> => {
    const { child, said } = await hold('iospace0', 128, MIB / 4);
    assert.equal(said, 'holding');
    assert.equal(counters('iospace0').buffer_bytes, 32 * MIB);
    await kill(child);
    assert.ok(await eventually(() => isQuiet('iospace0')));
  };
  await round();
  const before = memFree();
  for (let n = 0; n < 4; n++) {
    await round();
  }
  // What else a machine does in between is a fraction of what one round holds.
  assert.ok(await eventually(() => memFree() > before - 24 * MIB), `${before} before, ${memFree()} after`);
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

test('a terminated worker gives all back', async () => {
  const worker = new Worker(
    `import('iospace').then(async ({ DmaDevice }) => {
      const device = DmaDevice.open(${JSON.stringify(name)});
      globalThis.held = Array.from({ length: 8 }, () => device.alloc(4096).bytes.fill(1));
      device.waitForInterrupt();
      (await import('node:worker_threads')).parentPort.postMessage('holding');
    });`,
    { eval: true },
  );
  await new Promise((resolve) => worker.once('message', resolve));
  assert.equal(counters(name).buffers, 8);
  await worker.terminate();
  assert.ok(await eventually(() => isQuiet()), JSON.stringify(counters(name)));
});

test('the module cannot be removed while it is in use', () => {
  using device = DmaDevice.open(name);
  const { stderr } = spawnSync('rmmod', ['iospace'], { encoding: 'utf8' });
  assert.match(stderr, /in use|Resource temporarily unavailable/); // kmod's words, and BusyBox's
  using buffer = device.alloc(4096);
  assert.equal(buffer.bytes[0], 0);
});
