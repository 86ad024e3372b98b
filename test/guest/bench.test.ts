/**
 * `iospace bench` over the module: every type of memory that the device has, and that times of an emulated machine are marked as
 * what they are. What is measured here means nothing.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { DmaDevice } from 'iospace';
import { keepsItsUser } from './children.js';
import { counters, NOTHING } from './edu.js';

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const run = promisify(execFile);

interface Result {
  meaningless: boolean;
  machine: { emulated: string | null; provider: string; device: string };
  measurements: { operation: string; memory: string | null; median: number }[];
  skipped: { operation: string; reason: string }[];
}

test('every type is measured, and every figure is said to mean nothing', async () => {
  using device = DmaDevice.open('iospace0');
  const { memoryTypes } = device.info;
  const filter = 'copy-in,map,4K';
  const { stdout } = await run(process.execPath, [main, 'bench', '--quick', '--json', '--filter', filter]);
  const { meaningless, machine, measurements, skipped } = JSON.parse(stdout) as Result;
  assert.equal(meaningless, true);
  assert.equal(machine.emulated, 'iospace lab');
  assert.equal(machine.provider, 'iospace');
  assert.deepEqual(skipped, []);
  const measured = (operation: string) =>
    measurements.filter((one) => one.operation === operation && one.median > 0).map(({ memory }) => memory);
  assert.deepEqual(measured('copy-in'), memoryTypes);
  // Where there is anything to map.
  assert.deepEqual(measured('map'), ['cached']);
});

test('who may not open the device is told so, and measures cached memory', {
  skip: keepsItsUser,
}, async () => {
  const { stdout, stderr } = await run(
    process.execPath,
    [main, 'bench', '--quick', '--json', '--filter', 'js-fill,4K'],
    { uid: 65534, gid: 65534 },
  );
  assert.match(stderr, /^iospace: EACCES: .*60-iospace\.rules.*\niospace: measuring without it/);
  const { machine, measurements } = JSON.parse(stdout) as Result;
  assert.equal(machine.provider, 'memfd');
  assert.deepEqual(
    measurements.map(({ memory }) => memory),
    ['cached'],
  );
});

test('nothing is left of it', () => {
  assert.deepEqual(counters('iospace0'), NOTHING);
});
