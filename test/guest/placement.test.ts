/**
 * Where buffers lie: what the device is told, and for zones what the page table says. `test/abi/placement.c` has the many
 * combinations; here are the options of `alloc()`, each for every type of each device.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import {
  type AllocOptions,
  type DeviceInfo,
  type DmaBuffer,
  DmaDevice,
  listDevices,
  type SystemError,
  type Zone,
} from 'iospace';
import { findEdu, fromDevice, openEdu, toDevice } from './edu.js';
import { bounces, mapped, pageSize, witness } from './witness.js';

const KIB = 1 << 10;
const GIB4 = 1n << 32n;

/** A part of physical memory. */
interface Part {
  begin: bigint;
  end: bigint;
}

/** The kernel's own word on its zones. */
function zonesOfMachine(): Map<Zone, Part> {
  const names: Readonly<Record<string, Zone>> = { DMA: 'dma', DMA32: 'dma32', Normal: 'normal' };
  const found = new Map<Zone, Part>();
  for (const text of readFileSync('/proc/zoneinfo', 'utf8').split(/^(?=Node )/m)) {
    const zone = names[/^Node \d+, zone +(\w+)/.exec(text)?.[1] ?? ''];
    const number = (key: string): bigint => BigInt(new RegExp(`${key}:? +(\\d+)`).exec(text)?.[1] ?? 0);
    if (zone !== undefined && number('managed') > 0n) {
      const begin = number('start_pfn') * BigInt(pageSize);
      found.set(zone, { begin, end: begin + number('spanned') * BigInt(pageSize) });
    }
  }
  return found;
}

const zones = zonesOfMachine();

/** Where the machine's memory begins. */
const memoryBegins = [...zones.values()].reduce((a, b) => (a.begin < b.begin ? a : b)).begin;

/** The buffer, or the code of the error that says that there is no such place. */
function attempt(device: DmaDevice, byteLength: number, options: AllocOptions): DmaBuffer | string {
  try {
    return device.alloc(byteLength, options);
  } catch (error) {
    const { code } = error as SystemError;
    assert.ok(['EOPNOTSUPP', 'ENOMEM', 'EDQUOT'].includes(code), String(error));
    return code;
  }
}

function lastOf({ segments }: DmaBuffer): bigint {
  return segments
    .map(({ dmaAddress, length }) => dmaAddress + BigInt(length) - 1n)
    .reduce((a, b) => (a > b ? a : b));
}

for (const info of listDevices()) {
  for (const memory of info.memoryTypes) {
    describe(`${info.name}: ${memory}`, () => placementTests(info, { memory }));
  }
}

function placementTests(info: DeviceInfo, type: Required<Pick<AllocOptions, 'memory'>>): void {
  const { memory } = type;
  const translates = info.iommu === 'translating';
  // Of the DMA API's own memory the kernel says nothing behind an IOMMU.
  const isApis = memory === 'coherent' || (memory !== 'cached' && process.arch !== 'x64');

  test('align and boundary hold for each segment', () => {
    using device = DmaDevice.open(info.name);
    for (const byteLength of [1, 5 * pageSize, 200 * KIB]) {
      for (const align of [pageSize, 64 * KIB, 256 * KIB]) {
        for (const boundary of [undefined, 256 * KIB, 1024 * KIB]) {
          const options = { ...type, align, ...(boundary !== undefined && { boundary }) };
          const buffer = attempt(device, byteLength, options);
          if (typeof buffer === 'string') {
            assert.ok(
              bounces && memory === 'cached' && align > pageSize,
              `${buffer} for ${byteLength}, ${align}`,
            );
            continue;
          }
          for (const { dmaAddress, length } of buffer.segments) {
            const [first, last] = [dmaAddress, dmaAddress + BigInt(length) - 1n];
            assert.equal(first % BigInt(align), 0n);
            if (boundary !== undefined) {
              assert.equal(first / BigInt(boundary), last / BigInt(boundary));
            }
          }
          buffer.free();
        }
      }
    }
  });

  test('contiguous is one segment, also of physical memory if nothing stands between', () => {
    using device = DmaDevice.open(info.name);
    const { made: buffer, range } = mapped(info.name, () =>
      device.alloc(33 * pageSize, { ...type, contiguous: true }),
    );
    assert.equal(buffer.segments.length, 1);
    const [pieces = []] = witness([range]);
    assert.ok(translates || pieces.length === 1);
    assert.equal(
      pieces.reduce((sum, { byteLength }) => sum + byteLength, 0),
      33 * pageSize,
    );
  });

  test('addressBits bounds every bus address', () => {
    using device = DmaDevice.open(info.name);
    for (const addressBits of [64, 40, 32, 31, 30, 24]) {
      const limit = 1n << BigInt(addressBits);
      const buffer = attempt(device, 5 * pageSize, { ...type, addressBits });
      if (typeof buffer === 'string') {
        // Where there is no memory, or little: the lowest 16 MiB of a PC.
        assert.ok(addressBits === 24 || (!translates && limit <= memoryBegins), `${addressBits}: ${buffer}`);
      } else {
        assert.ok(lastOf(buffer) < limit && lastOf(buffer) <= info.dmaMask);
        buffer.free();
      }
    }
  });

  for (const zone of ['dma', 'dma32', 'normal'] as const) {
    test(`zone ${zone} is that of the kernel`, () => {
      using device = DmaDevice.open(info.name);
      const part = zones.get(zone);
      assert.equal(info.zones.includes(zone), part !== undefined);
      const alloc = () => device.alloc(5 * pageSize, { ...type, zone });
      if (part === undefined || (translates && isApis)) {
        assert.throws(alloc, { code: 'EOPNOTSUPP' });
        return;
      }
      if (!translates && part.begin > info.dmaMask) {
        assert.equal(typeof attempt(device, 5 * pageSize, { ...type, zone }), 'string');
        return;
      }
      const { range } = mapped(info.name, alloc);
      for (const { physical = 0n, byteLength } of witness([range]).flat()) {
        assert.ok(physical + BigInt(byteLength) <= part.end);
        // The lower zones are asked for because of where they end.
        assert.ok(zone !== 'normal' || physical >= part.begin);
      }
    });
  }
}

const edu = findEdu();
const isHigh = (zones.get('normal')?.begin ?? 0n) >= GIB4 && edu.dmaMask >= 2n * GIB4;

describe('above 4 GiB', {
  skip: isHigh ? false : 'this machine has no memory there that the device reaches',
}, () => {
  for (const memory of edu.memoryTypes) {
    test(`the device reads and writes ${memory} memory`, async () => {
      using device = openEdu();
      using buffer = device.alloc(2 * pageSize, { memory, zone: 'normal', contiguous: true });
      assert.ok(buffer.dmaAddress >= GIB4);
      const data = randomBytes(1024);
      buffer.bytes.set(data);
      buffer.syncForDevice();
      await toDevice(device, buffer.dmaAddress, data.length);
      await fromDevice(device, buffer.dmaAddress + BigInt(pageSize), data.length);
      buffer.syncForCpu();
      assert.ok(data.equals(buffer.bytes.subarray(pageSize, pageSize + data.length)));
    });
  }
});
