/** Memory of the program mapped for a device, and ranges that change hands, against a fake device. */
import { setTimeout as pause } from 'node:timers/promises';
import { inspect } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { systemError } from '../../lib/errors.js';
import { type Direction, DmaDevice, type MapUserOptions, type UserMapping } from '../../lib/index.js';
import { FakeDevice } from './fake-device.js';

let fake: FakeDevice;
vi.mock('../../lib/binding.js', () => ({ binding: () => fake.native }));

const code = (expected: string): unknown => expect.objectContaining({ code: expected });
const open = (): DmaDevice => DmaDevice.open('/dev/null');

const CACHED = 1 << 1;
const COHERENT = 1 << 5;

function detach(buffer: ArrayBuffer): void {
  structuredClone(buffer, { transfer: [buffer] });
}

beforeEach(() => {
  fake = new FakeDevice({ info: { memoryTypes: CACHED | COHERENT } });
});

describe('mapUser()', () => {
  const shared = new SharedArrayBuffer(8192);
  test.each<[string, ArrayBufferView, number]>([
    ['a small typed array, which V8 moves', new Uint8Array(16), 16],
    ['a large one', new Float64Array(1000), 8000],
    ['a part of one', new Uint16Array(100).subarray(10, 20), 20],
    ['a Buffer of the pool', Buffer.from('hello'), 5],
    ['a DataView', new DataView(new ArrayBuffer(100), 3, 50), 50],
    ['a DataView of shared memory', new DataView(shared, 8), 8184],
    ['shared words', new Int32Array(shared, 16, 4), 16],
    ['big integers', new BigInt64Array(3), 24],
  ])('takes %s', (_what, view, byteLength) => {
    using device = open();
    const mapping = device.mapUser(view, 'toDevice');
    expect(mapping).toMatchObject({ byteLength, direction: 'toDevice', unmapped: false });
    expect(mapping.view).toBe(view);
    // What reaches the kernel is the same memory, whatever the type.
    const [{ view: seen } = { view: new Uint8Array() }] = fake.userMappings.values();
    expect([seen.buffer, seen.byteOffset, seen.byteLength]).toEqual([
      view.buffer,
      view.byteOffset,
      byteLength,
    ]);
    mapping.unmap();
    expect(fake.userMappings.size).toBe(0);
  });

  test.each([
    ['toDevice', 1],
    ['fromDevice', 2],
    ['bidirectional', 3],
  ] as const)('%s is direction %i of the contract', (direction, number) => {
    using device = open();
    device.mapUser(new Uint8Array(64), direction);
    expect([...fake.userMappings.values()]).toMatchObject([{ direction: number }]);
  });

  // Of this Node, but not of these types.
  type Growing<T> = new (length: number, options: { maxByteLength: number }) => T;
  const growable = new (SharedArrayBuffer as Growing<SharedArrayBuffer>)(8, { maxByteLength: 16 });
  const resizable = new (ArrayBuffer as Growing<ArrayBuffer>)(8, { maxByteLength: 16 });
  test.each<[string, unknown, unknown, unknown, string]>([
    ['undefined', undefined, 'toDevice', undefined, 'ERR_INVALID_ARG_TYPE'],
    ['an ArrayBuffer', new ArrayBuffer(8), 'toDevice', undefined, 'ERR_INVALID_ARG_TYPE'],
    ['an array', [1, 2], 'toDevice', undefined, 'ERR_INVALID_ARG_TYPE'],
    ['a string', 'x', 'toDevice', undefined, 'ERR_INVALID_ARG_TYPE'],
    ['nothing', new Uint8Array(0), 'toDevice', undefined, 'ERR_OUT_OF_RANGE'],
    ['nothing of something', new Uint8Array(8).subarray(8), 'toDevice', undefined, 'ERR_OUT_OF_RANGE'],
    ['a resizable buffer', new Uint8Array(resizable), 'toDevice', undefined, 'EINVAL'],
    ['a part of a resizable buffer', new Uint8Array(resizable, 0, 4), 'toDevice', undefined, 'EINVAL'],
    ['a growable buffer', new DataView(growable), 'toDevice', undefined, 'EINVAL'],
    ['no direction', new Uint8Array(8), undefined, undefined, 'ERR_INVALID_ARG_VALUE'],
    ['an unknown direction', new Uint8Array(8), 'both', undefined, 'ERR_INVALID_ARG_VALUE'],
    ['a direction by number', new Uint8Array(8), 1, undefined, 'ERR_INVALID_ARG_VALUE'],
    ['options that are none', new Uint8Array(8), 'toDevice', 1, 'ERR_INVALID_ARG_TYPE'],
    ['an unknown option', new Uint8Array(8), 'toDevice', { segments: 1 }, 'ERR_INVALID_ARG_VALUE'],
    ['segments of nothing', new Uint8Array(8), 'toDevice', { maxSegmentLength: 0 }, 'ERR_OUT_OF_RANGE'],
    ['half a segment', new Uint8Array(8), 'toDevice', { maxSegments: 0.5 }, 'ERR_OUT_OF_RANGE'],
    ['segments as text', new Uint8Array(8), 'toDevice', { maxSegments: '1' }, 'ERR_INVALID_ARG_TYPE'],
  ])('of %s is refused, and reaches nobody', (_what, view, direction, options, expected) => {
    using device = open();
    expect(() =>
      device.mapUser(view as ArrayBufferView, direction as Direction, options as MapUserOptions),
    ).toThrow(code(expected));
    expect(fake.mapCalls).toBe(0);
  });

  test.each([new Uint8Array(64), new DataView(new ArrayBuffer(64)), Buffer.alloc(64)])(
    'of a detached view (%#) is refused',
    (view) => {
      using device = open();
      detach(view.buffer as ArrayBuffer);
      expect(() => device.mapUser(view, 'toDevice')).toThrow(
        'expected at least 1 byte (0 if it was detached) for the length of the view, got 0',
      );
    },
  );

  test('says why a resizable buffer will not do', () => {
    using device = open();
    expect(() => device.mapUser(new Uint8Array(resizable), 'toDevice')).toThrow(
      /^EINVAL: .*mapUser: the view is over a resizable ArrayBuffer, and shrinking replaces its pages/,
    );
  });

  test('after close() is ERR_INVALID_STATE, of a device that is gone ENODEV', () => {
    const device = open();
    fake.unbind();
    expect(() => device.mapUser(new Uint8Array(8), 'toDevice')).toThrow(code('ENODEV'));
    device.close();
    expect(() => device.mapUser(new Uint8Array(8), 'toDevice')).toThrow(code('ERR_INVALID_STATE'));
  });

  test('keeps to cache lines where the device writes and does not snoop', () => {
    fake = new FakeDevice({ info: { coherent: false } });
    using device = open();
    const bytes = new Uint8Array(8192);
    device.mapUser(bytes.subarray(1, 100), 'toDevice');
    device.mapUser(bytes.subarray(4096, 4160), 'fromDevice');
    for (const view of [bytes.subarray(4161, 4224), bytes.subarray(4160, 4223)]) {
      expect(() => device.mapUser(view, 'fromDevice')).toThrow(
        /^EINVAL: invalid argument, ioctl 0x[0-9a-f]+ '\/dev\/null': .* a multiple of 64 bytes \(info\.cacheLine\).*device\.alloc\(\)/,
      );
      expect(() => device.mapUser(view, 'bidirectional')).toThrow(code('EINVAL'));
    }
    expect(fake.userMappings.size).toBe(2);
  });

  test('overlapping what the device writes is EBUSY, what it reads is not', () => {
    using device = open();
    const bytes = new Uint8Array(8192);
    device.mapUser(bytes, 'toDevice');
    device.mapUser(bytes.subarray(1, 2), 'toDevice');
    expect(() => device.mapUser(bytes.subarray(8191), 'fromDevice')).toThrow(
      /^EBUSY: .*overlaps memory that this device has mapped/,
    );
  });

  test('more often than the limit is EDQUOT, and names it', () => {
    using device = open();
    expect(device.info.limits.fileMappings).toBe(4);
    for (let n = 0; n < 4; n++) {
      device.mapUser(new Uint8Array(64), 'toDevice');
    }
    expect(() => device.mapUser(new Uint8Array(64), 'toDevice')).toThrow(
      /^EDQUOT: .*max_file_mappings allows 4 mappings/,
    );
  });

  test.each([
    [
      12,
      'toDevice',
      /^ENOMEM: .*(RLIMIT_MEMLOCK is \d+, and \d+ bytes of it|no memory left to pin 64 bytes)/,
    ],
    [28, 'toDevice', /^ENOSPC: .*bounce buffers .*no room for 64 bytes.*swiotlb=/],
    [95, 'toDevice', /^EOPNOTSUPP: .*reaches bus addresses up to 0xffffffff/],
    [22, 'fromDevice', /^EINVAL: invalid argument, ioctl$/],
    [14, 'toDevice', /^EFAULT: .*of a device, and cannot be pinned/],
    [14, 'fromDevice', /^EFAULT: .*read-only; or it is pages of a file on a disk/],
    [14, 'bidirectional', /^EFAULT: .*read-only; or it is pages of a file on a disk/],
  ] as const)('errno %i for %s says what was wrong', (errno, direction, sentence) => {
    fake.error = systemError(errno, 'ioctl');
    using device = open();
    expect(() => device.mapUser(new Uint8Array(64), direction)).toThrow(sentence);
  });
});

describe('the segments of a mapping', () => {
  const map = (device: DmaDevice, options?: MapUserOptions): UserMapping =>
    device.mapUser(new Uint8Array(10_000), 'toDevice', options);

  test('are those of the kernel, the first of them the address where there is one', () => {
    fake = new FakeDevice({ segmentBytes: 1 << 20 });
    using device = open();
    const mapping = map(device);
    expect(mapping.segments).toEqual([{ dmaAddress: 1n << 32n, length: 10_000 }]);
    expect(mapping.dmaAddress).toBe(1n << 32n);
    expect(Object.isFrozen(mapping.segments)).toBe(true);
  });

  test('have no one address where they are several', () => {
    using device = open();
    const mapping = map(device);
    expect(mapping.segments.map(({ length }) => length)).toEqual([4096, 4096, 1808]);
    expect(() => mapping.dmaAddress).toThrow(/^EOPNOTSUPP: .*in 3 pieces: tell the device its segments$/);
  });

  test('are cut where the device takes only shorter ones', () => {
    using device = open();
    const first = 1n << 32n;
    expect(map(device, { maxSegmentLength: 3000 }).segments).toEqual([
      { dmaAddress: first, length: 3000 },
      { dmaAddress: first + 3000n, length: 1096 },
      { dmaAddress: first + 8192n, length: 3000 },
      { dmaAddress: first + 8192n + 3000n, length: 1096 },
      { dmaAddress: first + 16384n, length: 1808 },
    ]);
  });

  test('may be as many as the device takes; more are refused, and nothing stays mapped', () => {
    using device = open();
    expect(map(device, { maxSegments: 3 }).segments).toHaveLength(3);
    expect(() => map(device, { maxSegments: 2 })).toThrow(
      'EOPNOTSUPP: operation not supported, mapUser: 10000 bytes are 3 segments here, and maxSegments is 2: map less at a time',
    );
    expect(() => map(device, { maxSegments: 4, maxSegmentLength: 3000 })).toThrow(code('EOPNOTSUPP'));
    expect(fake.userMappings.size).toBe(1);
  });

  test('that cannot be read leave nothing mapped', () => {
    using device = open();
    fake.segmentsError = systemError(12, 'ioctl');
    expect(() => map(device)).toThrow(code('ENOMEM'));
    expect(fake.userMappings.size).toBe(0);
  });
});

describe('a mapping changes hands', () => {
  test('in ranges, with a barrier on the CPU side of each call', () => {
    using device = open();
    const mapping = device.mapUser(new Uint8Array(10_000), 'bidirectional');
    mapping.syncForCpu();
    mapping.syncForDevice(1, 2);
    mapping.syncForCpu(9_999);
    mapping.syncForDevice(10_000);
    expect(fake.syncs).toEqual(['2 0x0 0x2710', '1 0x1 0x2', '2 0x270f 0x1']);
    expect(fake.barriers).toBe(4);
  });

  test('with no system call where none is needed', () => {
    fake = new FakeDevice({ needsSync: false });
    using device = open();
    const mapping = device.mapUser(new Uint8Array(100), 'fromDevice');
    mapping.syncForCpu();
    mapping.syncForDevice([{ offset: 0, length: 100 }]);
    expect(fake).toMatchObject({ syncs: [], barriers: 2 });
  });

  test('in whole cache lines, where the device writes and does not snoop', () => {
    fake = new FakeDevice({ info: { coherent: false } });
    using device = open();
    const read = device.mapUser(new Uint8Array(1000), 'toDevice');
    const written = device.mapUser(new Uint8Array(1024), 'fromDevice');
    read.syncForDevice(1, 998);
    written.syncForCpu(64, 128);
    expect(() => written.syncForCpu(64, 100)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() =>
      written.syncForCpu([
        { offset: 0, length: 64 },
        { offset: 64, length: 1 },
      ]),
    ).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(fake.syncs).toEqual(['1 0x1 0x3e6', '2 0x40 0x80']);
  });

  test('of a device that is gone is ENODEV', () => {
    using device = open();
    const mapping = device.mapUser(new Uint8Array(100), 'fromDevice');
    fake.unbind();
    expect(() => mapping.syncForCpu()).toThrow(code('ENODEV'));
    mapping.unmap();
    expect(mapping.unmapped).toBe(true);
  });
});

describe('a list of ranges', () => {
  const list = Array.from({ length: 3 }, (_, n) => ({ offset: 1000 * n, length: 10 + n }));

  test('is one call', () => {
    using device = open();
    const buffer = device.alloc(8192, { memory: 'cached' });
    const mapping = device.mapUser(new Uint8Array(8192), 'fromDevice');
    buffer.syncForDevice(list);
    buffer.subarray(4096).syncForCpu(list);
    mapping.syncForCpu(list);
    expect(fake.syncs).toEqual([
      '1 0x0 0xa 0x3e8 0xb 0x7d0 0xc',
      '2 0x1000 0xa 0x13e8 0xb 0x17d0 0xc',
      '2 0x0 0xa 0x3e8 0xb 0x7d0 0xc',
    ]);
    expect(fake.barriers).toBe(3);
  });

  test('of one, none, or nothing is what it is', () => {
    using device = open();
    const mapping = device.mapUser(new Uint8Array(8192), 'fromDevice');
    mapping.syncForCpu([]);
    mapping.syncForCpu([{ offset: 8192, length: 0 }]);
    mapping.syncForCpu([
      { offset: 0, length: 0 },
      { offset: 5, length: 6 },
    ]);
    expect(fake.syncs).toEqual(['2 0x5 0x6']);
    expect(fake.barriers).toBe(3);
  });

  test('may be longer than a call of the kernel takes', () => {
    using device = open();
    const mapping = device.mapUser(new Uint8Array(8192), 'fromDevice');
    mapping.syncForCpu(Array.from({ length: 65_537 }, (_, n) => ({ offset: n % 8192, length: 1 })));
    expect(fake.syncs.map((sync) => sync.split(' ').length)).toEqual([1 + 2 * 65_536, 3]);
    expect(fake.syncs[1]).toBe('2 0x0 0x1');
  });

  test.each<[string, unknown, string, string]>([
    [
      'a range outside',
      [
        { offset: 0, length: 1 },
        { offset: 8192, length: 1 },
      ],
      'ERR_OUT_OF_RANGE',
      'for ranges[1].length, got 1',
    ],
    ['a negative offset', [{ offset: -1, length: 1 }], 'ERR_OUT_OF_RANGE', 'for ranges[0].offset, got -1'],
    ['half a byte', [{ offset: 0.5, length: 1 }], 'ERR_OUT_OF_RANGE', 'for ranges[0].offset, got 0.5'],
    [
      'a range without offset',
      [{ length: 1 }],
      'ERR_INVALID_ARG_TYPE',
      'for ranges[0].offset, got undefined',
    ],
    ['a number', [4], 'ERR_INVALID_ARG_TYPE', 'an object with offset and length for ranges[0], got 4'],
    ['null', [null], 'ERR_INVALID_ARG_TYPE', 'for ranges[0], got null'],
    ['an offset that is no number', '0', 'ERR_INVALID_ARG_TYPE', "for offset, got '0'"],
  ])('with %s is refused, and hands nothing over', (_what, ranges, expected, sentence) => {
    using device = open();
    const mapping = device.mapUser(new Uint8Array(8192), 'fromDevice');
    const buffer = device.alloc(8192, { memory: 'cached' });
    for (const memory of [mapping, buffer]) {
      const sync = (): void => memory.syncForDevice(ranges as []);
      expect(sync).toThrow(code(expected));
      expect(sync).toThrow(sentence);
    }
    expect(fake.syncs).toEqual([]);
  });

  test('stands alone', () => {
    using device = open();
    const buffer = device.alloc(8192, { memory: 'cached' });
    const sync = buffer.syncForDevice.bind(buffer) as (...args: unknown[]) => void;
    expect(() => sync([], 5)).toThrow('expected nothing beside a list of ranges for length, got 5');
  });
});

describe('the end of a mapping', () => {
  test('is unmap(), twice if need be, or dispose', () => {
    using device = open();
    const [first, second] = [
      device.mapUser(new Uint8Array(8), 'toDevice'),
      device.mapUser(new Uint8Array(8), 'toDevice'),
    ];
    first.unmap();
    first.unmap();
    first[Symbol.dispose]();
    expect(fake.userMappings.size).toBe(1);
    second[Symbol.dispose]();
    expect([first.unmapped, second.unmapped, fake.userMappings.size]).toEqual([true, true, 0]);
  });

  test.each<[string, (mapping: UserMapping) => unknown]>([
    ['segments', (mapping) => mapping.segments],
    ['dmaAddress', (mapping) => mapping.dmaAddress],
    ['syncForDevice', (mapping) => mapping.syncForDevice()],
    ['syncForCpu', (mapping) => mapping.syncForCpu(0, 0)],
  ])('leaves %s ERR_INVALID_STATE', (_name, use) => {
    using device = open();
    const mapping = device.mapUser(new Uint8Array(8), 'toDevice');
    mapping.unmap();
    expect(() => use(mapping)).toThrow(code('ERR_INVALID_STATE'));
    expect(mapping).toMatchObject({ byteLength: 8, direction: 'toDevice' });
  });

  test('comes with the device', () => {
    const device = open();
    const mapping = device.mapUser(new Uint8Array(8), 'toDevice');
    device.close();
    expect(mapping.unmapped).toBe(true);
    mapping.unmap();
    expect(() => mapping.syncForCpu()).toThrow(code('ERR_INVALID_STATE'));
    // The kernel's side ended with the descriptor, which may be another file by now.
    expect(fake.userMappings.size).toBe(1);
  });

  test('tells of a view that was detached, as each sync does', () => {
    using device = open();
    const view = new DataView(new ArrayBuffer(100));
    const mapping = device.mapUser(view, 'fromDevice');
    detach(view.buffer);
    const sentence = /^the view's ArrayBuffer was detached while it was mapped/;
    for (const use of [
      () => mapping.syncForCpu(),
      () => mapping.syncForDevice(0, 1),
      () => mapping.unmap(),
    ]) {
      expect(use).toThrow(code('ERR_INVALID_STATE'));
    }
    expect(() => mapping.unmap()).not.toThrow();
    expect(fake.syncs).toEqual([]);
    expect([mapping.unmapped, fake.userMappings.size]).toEqual([true, 0]);
    const other = device.mapUser(new Uint8Array(8), 'fromDevice');
    detach(other.view.buffer as ArrayBuffer);
    expect(() => other.unmap()).toThrow(sentence);
  });

  test('tells of memory of ours that was given back', () => {
    using memory = DmaDevice.open('/dev/null');
    using device = open();
    const buffer = memory.alloc(4096);
    const mapping = device.mapUser(buffer.bytes, 'fromDevice');
    buffer.free();
    expect(() => mapping.unmap()).toThrow(code('ERR_INVALID_STATE'));
    expect(mapping.unmapped).toBe(true);
  });
});

describe('a view', () => {
  setFlagsFromString('--expose-gc');
  const collect = async (): Promise<void> => {
    for (let round = 0; round < 5; round++) {
      runInNewContext('gc')();
      await pause(5);
    }
  };
  /** Maps memory that nobody keeps, and lets go of the device too. */
  const forget = (end: (device: DmaDevice, mapping: UserMapping) => void): WeakRef<ArrayBufferLike> => {
    const device = open();
    const { buffer } = new Uint8Array(1 << 20);
    end(device, device.mapUser(new Uint8Array(buffer), 'fromDevice'));
    // The fake knows it, the kernel does not.
    fake.userMappings.clear();
    return new WeakRef(buffer);
  };

  test('is not collected while it is mapped, though its device is forgotten', async () => {
    const kept = forget(() => undefined);
    await collect();
    expect(kept.deref()?.byteLength).toBe(1 << 20);
  });

  test.each<[string, (device: DmaDevice, mapping: UserMapping) => void]>([
    ['unmap()', (_device, mapping) => mapping.unmap()],
    ['close()', (device) => device.close()],
  ])('is, after %s', async (_name, end) => {
    const gone = forget(end);
    await collect();
    expect(gone.deref()).toBeUndefined();
  });
});

describe('memfd', () => {
  test('has no device to reach memory', () => {
    using device = DmaDevice.open({ provider: 'memfd' });
    expect(device.info.limits.fileMappings).toBe(0);
    expect(() => device.mapUser(new Uint8Array(8), 'toDevice')).toThrow(code('EOPNOTSUPP'));
  });
});

test('inspecting touches no memory', () => {
  using device = open();
  const mapping = device.mapUser(new Uint8Array(100), 'toDevice');
  expect(inspect(mapping)).toBe(
    'UserMapping { byteLength: 100, direction: toDevice, dmaAddress: 0x100000000, unmapped: false }',
  );
  mapping.unmap();
  expect(inspect(mapping)).toBe('UserMapping { byteLength: 100, direction: toDevice, unmapped: true }');
});
