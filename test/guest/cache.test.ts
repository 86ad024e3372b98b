/** Caches and copies on memory of every type that the machine has: what is known of it, and that nothing else than the range changes. */
import { equal, ok, throws } from 'node:assert/strict';
import { test } from 'node:test';
import { DmaDevice, type MemoryType } from 'iospace';
import { capabilities, clean, compare, copyFrom, copyTo, fill, flush, invalidate } from 'iospace/cache';

const SIZE = 65_536;
const counting = Uint8Array.from({ length: SIZE }, (_, index) => index * 7 + (index >> 8));
const { clean: maintainedBy, reason, copies, lineSize } = capabilities();

const device = DmaDevice.open('iospace0');

test('who maintains the caches is what this processor and its kernel allow', () => {
  if (process.arch === 'x64' || process.arch === 'arm64') {
    equal(maintainedBy, 'instruction');
    ok(lineSize >= 16);
  }
  equal(maintainedBy === 'none', reason !== undefined);
});

for (const memory of device.info.memoryTypes as MemoryType[]) {
  test(`${memory} memory is copied, filled and compared`, () => {
    using buffer = device.alloc(SIZE, { memory });
    for (const kernels of copies) {
      for (const offset of [0, 1, 63, 64, 100]) {
        const length = SIZE - 200;
        fill(buffer, 0xee, { kernels });
        copyTo(counting.subarray(0, length), buffer, { offset, kernels });
        equal(compare(buffer, counting, { offset, length, kernels }), -1);
        const target = new Uint8Array(length);
        copyFrom(buffer, target, { offset, kernels });
        ok(Buffer.from(target.buffer).equals(Buffer.from(counting.buffer, 0, length)), kernels);
        ok(buffer.bytes.subarray(0, offset).every((byte) => byte === 0xee));
        ok(buffer.bytes.subarray(offset + length).every((byte) => byte === 0xee));
      }
    }
    using other = device.alloc(SIZE, { memory });
    copyTo(buffer, other);
    equal(compare(other, buffer), -1);
    copyFrom(other, other, { offset: 100, targetOffset: 3, length: 10_000 });
    equal(compare(other, buffer, { offset: 3, otherOffset: 100, length: 10_000 }), -1);
  });

  test(`${memory} memory is maintained, and stays as it is`, () => {
    using buffer = device.alloc(SIZE, { memory });
    copyTo(counting, buffer);
    for (const operation of [clean, invalidate, flush]) {
      if (maintainedBy === 'none') {
        throws(() => operation(buffer), { code: /^(EOPNOTSUPP|EACCES)$/ });
      } else if (maintainedBy === 'instruction' || memory === 'cached') {
        operation(buffer, { offset: 100, length: 5000 });
        operation(buffer);
      }
    }
    equal(compare(buffer, counting), -1);
  });
}
