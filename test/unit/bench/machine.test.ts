/** What a machine is, read from files as different machines have them. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { cachesOf, cpuName, emulationOf, SystemFiles } from '../../../lib/bench/machine.js';
import { bestProcessor, processorsOf } from '../../../lib/bench/pinning.js';

const directories: string[] = [];
afterEach(() => {
  for (const directory of directories.splice(0)) {
    rmSync(directory, { recursive: true });
  }
});

/** A system that has these files. */
function system(files: Readonly<Record<string, string>>): SystemFiles {
  const root = mkdtempSync(join(tmpdir(), 'iospace-machine-'));
  directories.push(root);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return new SystemFiles(root);
}

const pi =
  'processor\t: 0\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd08\n';
const epyc =
  'processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9654\nflags\t: fpu hypervisor\n';
const clocks = 'sys/devices/system/clocksource/clocksource0/available_clocksource';
const vendor = 'sys/class/dmi/id/sys_vendor';

test.each([
  [epyc, 'AMD EPYC 9654'],
  [pi, 'Cortex-A72'],
  [pi.replace('0xd08', '0xfff'), '0xfff'],
])('the processor of %j is %s', (cpuinfo, name) => {
  expect(cpuName(system({ 'proc/cpuinfo': cpuinfo }))).toBe(name);
});

test('caches, in bytes, and not what is none', () => {
  const cache = 'sys/devices/system/cpu/cpu0/cache';
  const files = system({
    [`${cache}/index0/level`]: '1\n',
    [`${cache}/index0/type`]: 'Data\n',
    [`${cache}/index0/size`]: '32K\n',
    [`${cache}/index0/coherency_line_size`]: '64\n',
    [`${cache}/index1/level`]: '2\n',
    [`${cache}/index1/type`]: 'Unified\n',
    [`${cache}/index1/size`]: '1M\n',
    [`${cache}/index1/coherency_line_size`]: '64\n',
    // What arm64 shows where its firmware does not say more.
    [`${cache}/index2/level`]: '3\n',
    [`${cache}/uevent`]: '',
  });
  expect(cachesOf(files)).toEqual([
    { level: 1, type: 'Data', size: 32768, line: 64 },
    { level: 2, type: 'Unified', size: 1 << 20, line: 64 },
  ]);
  expect(cachesOf(system({}))).toEqual([]);
});

describe('emulated', () => {
  test.each<[string, Record<string, string>]>([
    ['a machine of the lab', { 'proc/cpuinfo': pi, 'lab/setup': 'clock 1\nport ttyS1\n' }],
    ['QEMU without KVM', { 'proc/cpuinfo': epyc.replace('AMD EPYC 9654', 'QEMU TCG CPU version 2.5+') }],
    ["QEMU's arm64 processor", { 'proc/cpuinfo': pi.replace('0x41', '0x00') }],
    ["QEMU's riscv64", { 'proc/cpuinfo': 'hart\t: 0\n', 'proc/device-tree/compatible': 'riscv-virtio\0' }],
  ])('%s', (_, files) => {
    expect(emulationOf(system(files))).toEqual(expect.any(String));
  });
  test.skipIf(process.arch !== 'x64')(
    'QEMU, whose processor has a real name, without the clock of KVM',
    () => {
      const files = { 'proc/cpuinfo': epyc, [vendor]: 'QEMU\n', [clocks]: 'tsc hpet acpi_pm\n' };
      expect(emulationOf(system(files))).toMatch(/QEMU/);
    },
  );
});

describe('not emulated', () => {
  test.each<[string, Record<string, string>]>([
    [
      'a Raspberry Pi',
      { 'proc/cpuinfo': pi, 'proc/device-tree/compatible': 'raspberrypi,4-model-b\0brcm,bcm2711\0' },
    ],
    ['a PC', { 'proc/cpuinfo': epyc, [vendor]: 'Dell Inc.\n', [clocks]: 'tsc hpet acpi_pm\n' }],
    [
      'a virtual machine of KVM',
      { 'proc/cpuinfo': epyc, [vendor]: 'QEMU\n', [clocks]: 'kvm-clock tsc acpi_pm\n' },
    ],
    ['what says nothing of itself', {}],
  ])('%s', (_, files) => {
    // Without a word of its own the processor has the name of the one that runs this.
    expect(emulationOf(system({ 'proc/cpuinfo': pi, ...files }))).toBeNull();
  });
});

test.each([
  ['0', [0]],
  ['0-3', [0, 1, 2, 3]],
  ['0-1,4,6-7\n', [0, 1, 4, 6, 7]],
  ['', []],
])('the processors of %j', (list, numbers) => {
  expect(processorsOf(list)).toEqual(numbers);
});

test('the strongest processor is taken; of equals the last; of none none', () => {
  const capacity = (processor: number): string => `sys/devices/system/cpu/cpu${processor}/cpu_capacity`;
  const bigAndLittle = system({
    [capacity(0)]: '1024',
    [capacity(1)]: '1024',
    [capacity(2)]: '446',
    [capacity(3)]: '446',
  });
  expect(bestProcessor([0, 1, 2, 3], bigAndLittle)).toBe(1);
  expect(bestProcessor([2, 3], bigAndLittle)).toBe(3);
  expect(bestProcessor([0, 1, 2, 3], system({}))).toBe(3);
  expect(bestProcessor([], system({}))).toBeUndefined();
});
