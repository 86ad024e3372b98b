/** The kernel's own word on what the mappings of a process are: `/proc/self/smaps`. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { findEdu, openEdu } from './edu.js';

const { name } = findEdu();

/** Length in KiB and VmFlags of each mapping of the device. */
function mappings(): { kilobytes: number; flags: string[] }[] {
  return readFileSync('/proc/self/smaps', 'utf8')
    .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
    .filter((entry) => entry.split('\n', 1)[0]?.endsWith(`/dev/${name}`))
    .map((entry) => ({
      kilobytes: Number(/^Size:\s+(\d+) kB$/m.exec(entry)?.[1]),
      flags: /^VmFlags: (.*)$/m.exec(entry)?.[1]?.trim().split(' ') ?? [],
    }));
}

test('memory and registers are io, not dumped and not expanded; nothing is executable', () => {
  using device = openEdu();
  using buffer = device.alloc(3 * 4096);
  buffer.bytes.fill(1);
  const registers = device.registers(0);
  const found = mappings();
  console.log(found);

  const memory = found.filter(({ kilobytes }) => kilobytes === 12);
  const window = found.filter(({ kilobytes }) => kilobytes === registers.byteLength / 1024);
  assert.equal(memory.length, 1);
  assert.equal(window.length, 1);
  for (const { flags } of [...memory, ...window]) {
    for (const flag of ['rd', 'wr', 'sh', 'io', 'dd', 'de']) {
      assert.ok(flags.includes(flag), `${flag} is not in ${flags}`);
    }
  }
  for (const { flags } of found) {
    assert.ok(!flags.includes('ex') && !flags.includes('me'));
    assert.ok(flags.includes('dd') && flags.includes('de'));
  }
});

test('the status page can never be written', () => {
  using device = openEdu();
  device.registers(0);
  const pages = mappings().filter(({ kilobytes }) => kilobytes === 4);
  assert.equal(pages.length, 1);
  assert.ok(pages.every(({ flags }) => !flags.includes('wr') && !flags.includes('mw')));
});

test('what is freed is gone from the process', () => {
  using device = openEdu();
  device.alloc(4096).free();
  const before = mappings().length;
  const buffer = device.alloc(5 * 4096);
  buffer.bytes.fill(1);
  assert.equal(mappings().length, before + 1);
  buffer.free();
  assert.equal(mappings().length, before);
});
