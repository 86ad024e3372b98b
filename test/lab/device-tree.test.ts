/**
 * Changing a machine's device tree before it boots. Needs dtc, fdtput and fdtoverlay; `node lib/lab/setup.mjs test`
 * installs them.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, test, vi } from 'vitest';
import { applyOverlay, type BootOptions, Machine } from '../../lib/lab/index.js';

const run = promisify(execFile);
const scratch = mkdtempSync(join(tmpdir(), 'iospace-device-tree-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const bare: BootOptions = { machine: 'virt', loadModule: false };

function sourceFile(name: string, text: string): string {
  const file = join(scratch, name);
  writeFileSync(file, text);
  return file;
}

/** A reserved region, in the last 16 MiB of 512. */
const reserved = sourceFile(
  'reserved.dts',
  `/dts-v1/;
/plugin/;
/ {
	fragment@0 {
		target-path = "/";
		__overlay__ {
			reserved-memory {
				#address-cells = <2>;
				#size-cells = <2>;
				ranges;
				kept@5f000000 {
					reg = <0 0x5f000000 0 0x1000000>;
					no-map;
				};
			};
		};
	};
};
`,
);

test('the tree is that of the very machine, and boots as it was changed', async () => {
  await using machine = await Machine.boot({
    ...bare,
    memory: '512M',
    machineOptions: 'iommu=smmuv3',
    mounts: [],
    deviceTree: async (file) => {
      await applyOverlay(file, reserved);
      await run('fdtput', ['-d', file, '/pcie@10000000', 'dma-coherent']);
    },
  });
  const there = async (path: string) => (await machine.run(['test', '-e', path])).code === 0;
  const tree = '/proc/device-tree';
  expect(await there(`${tree}/reserved-memory/kept@5f000000/no-map`)).toBe(true);
  expect(await there(`${tree}/pcie@10000000/iommu-map`)).toBe(true);
  expect(await there(`${tree}/pcie@10000000/dma-coherent`)).toBe(false);
  const { stdout } = await machine.run(['cat', '/proc/iomem']);
  expect(stdout).toMatch(/^\s*5f000000-5fffffff : reserved$/m);
  expect(stdout).not.toMatch(/^6/m);
});

test('a change that fails, fails the boot and leaves nothing', async () => {
  const wrong = sourceFile('wrong.dts', '/dts-v1/;\n/plugin/;\n&no_such_label { kept; };\n');
  const temporary = join(scratch, 'temporary');
  mkdirSync(temporary);
  vi.stubEnv('TMPDIR', temporary);
  const deviceTree = (file: string) => applyOverlay(file, wrong);
  await expect(Machine.boot({ ...bare, deviceTree })).rejects.toMatchObject({
    code: 'ERR_IOSPACE_LAB_BUILD',
    message: /fdtoverlay/,
  });
  vi.unstubAllEnvs();
  expect(readdirSync(temporary)).toEqual([]);
});

test('a machine without a device tree has none to change', async () => {
  await expect(Machine.boot({ machine: 'pc', deviceTree: () => {} })).rejects.toMatchObject({
    code: 'ERR_INVALID_ARG_VALUE',
    message: /device tree/,
  });
});
