/**
 * Buffers in the hands of other drivers and processes: the camera's frames as the example writes them, seen from outside
 * of the machine; and what `test/guest/importers.ts` finds inside.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { decode } from 'fast-png';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Machine } from '../../lib/lab/index.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'iospace-camera-'));

let machine: Machine;
beforeAll(async () => {
  machine = await Machine.boot({
    kernel: '6.12',
    devices: ['edu'],
    // The first camera writes by the CPU alone, the second one takes what is contiguous for its device.
    kernelModules: ['vivid n_devs=2 allocators=0,1', 'vgem'],
    mounts: [root, `${scratch}:rw`],
  });
});
afterAll(async () => {
  await machine?.close();
  rmSync(scratch, { recursive: true });
});

/** The colours of the bars, from the left, of which vivid draws three quarters. */
const bars = ['white', 'yellow', 'cyan', 'green', 'magenta', 'red', 'blue', 'black'] as const;
const colours: Record<(typeof bars)[number], readonly [number, number, number]> = {
  white: [1, 1, 1],
  yellow: [1, 1, 0],
  cyan: [0, 1, 1],
  green: [0, 1, 0],
  magenta: [1, 0, 1],
  red: [1, 0, 0],
  blue: [0, 0, 1],
  black: [0, 0, 0],
};

test.each([
  ['/dev/video0', 'pages wherever they are', []],
  ['/dev/video4', 'pages in one piece', ['--contiguous']],
])('examples/camera.ts: 30 frames of %s, in %s', async (camera, _which, options) => {
  const output = join(scratch, `${camera.slice('/dev/'.length)}.png`);
  const argv = [
    'node',
    `${root}build/examples/camera.js`,
    '--camera',
    camera,
    '--output',
    output,
    ...options,
  ];
  const { code, stdout, stderr } = await machine.run(argv, { timeout: 120 });
  expect(code, stderr).toBe(0);
  expect(stdout).toMatch(/^30 frames of 640 x 360/);

  const { width, height, channels, data } = decode(readFileSync(output));
  expect({ width, height, channels }).toEqual({ width: 640, height: 360, channels: 3 });
  // Below the clock, in the middle of each bar.
  const seen = bars.map((_, index) => {
    const pixel = 3 * (300 * width + (index + 0.5) * (width / bars.length));
    return bars.find((bar) =>
      colours[bar].every((part, channel) => Math.abs((data[pixel + channel] ?? 0) - 192 * part) < 16),
    );
  });
  expect(seen).toEqual(bars);
});

test('examples/send-buffer.ts', async () => {
  const { code, stdout, stderr } = await machine.run(['node', `${root}build/examples/send-buffer.js`], {
    timeout: 120,
  });
  expect(code, stderr).toBe(0);
  expect(stdout).toMatch(/^1048576 bytes in \d+ segments: written by another process$/m);
});

test('test/guest/importers.ts', async () => {
  const { code, stdout, stderr, kernelLog } = await machine.run(['node', `${root}build/guest/importers.js`], {
    timeout: 120,
  });
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  expect(stdout).not.toContain('SKIP');
  expect(kernelLog.replace(/.*iospace-lab: run \d+ ended\n?/, '')).toBe('');
});
