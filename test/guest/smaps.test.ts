/** The kernel's own word on what the mappings of a process are: `/proc/self/smaps`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DmaDevice, listDevices } from 'iospace';
import { findEdu, openEdu } from './edu.js';
import { kindsOf } from './holdings.js';
import { flagsOf, mapped, mappingsOf, pageSize } from './witness.js';

const { name } = findEdu();

/** What holds for all of them: shared, not executable, in no core dump, and not to be expanded. */
function checkCommon(flags: readonly string[]): void {
  for (const flag of ['rd', 'sh', 'dd', 'de']) {
    assert.ok(flags.includes(flag), `${flag} is not in ${flags}`);
  }
  assert.ok(!flags.includes('ex') && !flags.includes('me'), `${flags}`);
}

for (const info of listDevices()) {
  test(`${info.name}: memory of every kind is page numbers alone, but for cached buffers, which are pages`, () => {
    using device = DmaDevice.open(info.name);
    for (const kind of kindsOf(device, 4 * pageSize)) {
      const { made, range } = mapped(info.name, kind.make);
      made.bytes.fill(1);
      const flags = flagsOf(range);
      checkCommon(flags);
      assert.ok(flags.includes('wr'), kind.name);
      // Nobody can take hold of what is `io` and `pf`: there are no pages to count.
      for (const flag of ['io', 'pf']) {
        assert.equal(flags.includes(flag), kind.name !== 'cached', `${kind.name}: ${flags}`);
      }
    }
  });
}

test('registers are page numbers alone', () => {
  using device = openEdu();
  const { byteLength } = device.registers(0);
  const [window, ...others] = mappingsOf(name).filter((mapping) => mapping.byteLength === byteLength);
  assert.ok(window !== undefined && others.length === 0);
  const flags = flagsOf(window);
  checkCommon(flags);
  assert.ok(flags.includes('wr') && flags.includes('io') && flags.includes('pf'), `${flags}`);
});

test('the status page can never be written', () => {
  using device = openEdu();
  device.registers(0);
  const [page, ...others] = mappingsOf(name).filter(({ offset }) => offset === 0n);
  assert.ok(page !== undefined && others.length === 0);
  assert.equal(page.byteLength, pageSize);
  const flags = flagsOf(page);
  checkCommon(flags);
  assert.ok(!flags.includes('wr') && !flags.includes('mw'), `${flags}`);
});

test('what is freed is gone from the process', () => {
  using device = openEdu();
  device.alloc(4096).free();
  const before = mappingsOf(name).length;
  const buffer = device.alloc(5 * 4096);
  buffer.bytes.fill(1);
  assert.equal(mappingsOf(name).length, before + 1);
  buffer.free();
  assert.equal(mappingsOf(name).length, before);
});
