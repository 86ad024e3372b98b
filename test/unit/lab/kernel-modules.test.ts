/** Which modules of a kernel are loaded, and in what order; on a kernel that is nothing but lists. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { requestedModules } from '../../../lib/lab/kernel-modules.js';
import type { Kernel } from '../../../lib/lab/kernels.js';

let directory: string;
let kernel: Kernel;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'iospace-modules-'));
  writeFileSync(
    join(directory, 'modules.dep'),
    [
      'kernel/camera.ko.xz: kernel/frame-queue.ko.xz kernel/core.ko.xz',
      'kernel/frame-queue.ko.xz: kernel/core.ko.xz',
      'kernel/core.ko.xz:',
      'kernel/screen.ko.xz: kernel/core.ko.xz kernel/virtio.ko.xz',
      'kernel/virtio_console.ko.xz: kernel/virtio.ko.xz',
      'kernel/virtio.ko.xz:',
      '',
    ].join('\n'),
  );
  writeFileSync(join(directory, 'modules.builtin'), 'kernel/lib/built-in.ko\n');
  kernel = { release: '6.1.0-1', modules: directory } as Kernel;
});
afterAll(() => rmSync(directory, { recursive: true }));

const loaded = async (...requests: string[]) =>
  (await requestedModules(kernel, requests)).map(({ file }) => basename(file, '.ko.xz'));

test.each<[string[], string[]]>([
  [[], []],
  [['camera'], ['core', 'frame-queue', 'camera']],
  [['frame_queue'], ['core', 'frame-queue']],
  [
    ['frame-queue', 'camera', 'camera'],
    ['core', 'frame-queue', 'camera'],
  ],
  // What the lab has loaded before is not loaded again.
  [
    ['screen', 'virtio_console'],
    ['core', 'screen'],
  ],
  [['built-in', 'core'], ['core']],
])('%j are %j', async (requests, expected) => {
  expect(await loaded(...requests)).toEqual(expected);
});

test.each([
  ['missing', 'ERR_IOSPACE_LAB_MISSING', "Linux 6.1.0-1 has no module 'missing'"],
  ['', 'ERR_IOSPACE_LAB_MISSING', "''"],
  ['iospace', 'ERR_IOSPACE_LAB_MISSING', 'iospace'],
  ['built_in a=1', 'ERR_INVALID_ARG_VALUE', 'no parameters of built_in'],
  ['virtio_console a=1', 'ERR_INVALID_ARG_VALUE', 'no parameters of virtio_console'],
])('%j is %s', async (request, code, message) => {
  const error = { code, message: expect.stringContaining(message) };
  await expect(requestedModules(kernel, ['core', request])).rejects.toMatchObject(error);
});
