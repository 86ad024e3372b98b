/** Windows on physical memory, and the arenas that they are opened on. */
import { existsSync } from 'node:fs';
import { inspect } from 'node:util';
import { assert, beforeEach, describe, expect, test, vi } from 'vitest';
import { systemError } from '../../lib/errors.js';
import {
  DmaDevice,
  IospaceMapping,
  type MmapOptions,
  mmapIospace,
  munmapIospace,
  type ReservedArena,
} from '../../lib/index.js';
import { FakeDevice } from './fake-device.js';

let fake: FakeDevice;
vi.mock('../../lib/binding.js', () => ({ binding: () => fake.native }));

const code = (expected: string): unknown => expect.objectContaining({ code: expected });
const open = (): DmaDevice => DmaDevice.open('/dev/null');

beforeEach(() => {
  fake = new FakeDevice({
    arenas: [
      { flags: 1, address: 0x1000_0000n, byteLength: 1 << 20, memoryTypes: 0b1110, name: 'frames' },
      { flags: 0, address: 0x9_0000_0000n, byteLength: 8192, memoryTypes: 1 << 1, name: '' },
    ],
  });
});

describe('mmapIospace', () => {
  test('maps memory, and says what it is', () => {
    using device = open();
    const mapping = mmapIospace(0x8000_0000n, 8192, { memory: 'uncached', device });
    expect(mapping).toBeInstanceOf(IospaceMapping);
    expect(mapping).toMatchObject({
      physicalAddress: 0x8000_0000n,
      byteLength: 8192,
      byteOffset: 0,
      memory: { requested: 'uncached', effective: 'uncached' },
      unmapped: false,
    });
    mapping.bytes.fill(7);
    expect(mapping.view(Uint32Array, 8, 1)[0]).toBe(0x07070707);
    expect(mapping.buffer.byteLength).toBe(8192);
    expect(fake.windowsAsked).toEqual(['3 0x80000000 0x2000']);
  });

  test('maps whole pages, and shows what was asked for', () => {
    using device = open();
    const mapping = mmapIospace(0x8000_0ff0, 0x20, { memory: 'cached', device });
    expect(fake.windowsAsked).toEqual(['1 0x80000000 0x2000']);
    expect(mapping).toMatchObject({ byteOffset: 0xff0, byteLength: 0x20 });
    expect(mapping.bytes).toMatchObject({ byteOffset: 0xff0, byteLength: 0x20 });
    expect(() => mapping.view(Uint8Array, 0x21)).toThrow(code('ERR_OUT_OF_RANGE'));
  });

  test('shows registers by exact accesses, and never as an ArrayBuffer', () => {
    using device = open();
    const mapping = mmapIospace(0x3f20_0004, 0xb0, { memory: 'device', device });
    mapping.registers.write32(0x1c, 16);
    expect(mapping.registers.byteLength).toBe(0xb0);
    expect(mapping.registers.read32(0x1c)).toBe(16);
    expect(fake.windowsAsked).toEqual(['6 0x3f200000 0x1000']);
    expect(fake.mappings).toEqual([]);
    for (const use of [() => mapping.buffer, () => mapping.bytes, () => mapping.view(Uint8Array)]) {
      expect(use).toThrow(/^EOPNOTSUPP: .*registers are never an ArrayBuffer/);
    }
    const memory = mmapIospace(0, 1, { memory: 'cached', device });
    expect(() => memory.registers).toThrow(/^EOPNOTSUPP: .*this is cached memory/);
  });

  test('reaches up to the last address', () => {
    using device = open();
    const address = (1n << 64n) - 4096n;
    expect(mmapIospace(address, 4096, { memory: 'cached', device }).physicalAddress).toBe(address);
  });

  test.each([
    [-1, 1, { memory: 'cached' }, 'ERR_OUT_OF_RANGE'],
    [1n << 64n, 1, { memory: 'cached' }, 'ERR_OUT_OF_RANGE'],
    [2 ** 53, 1, { memory: 'cached' }, 'ERR_OUT_OF_RANGE'],
    ['0x1000', 1, { memory: 'cached' }, 'ERR_INVALID_ARG_TYPE'],
    [0, 0, { memory: 'cached' }, 'ERR_OUT_OF_RANGE'],
    [0, 1n, { memory: 'cached' }, 'ERR_INVALID_ARG_TYPE'],
    [(1n << 64n) - 4096n, 4097, { memory: 'cached' }, 'ERR_OUT_OF_RANGE'],
    [0, 1, { memory: 'coherent' }, 'ERR_INVALID_ARG_VALUE'],
    [0, 1, {}, 'ERR_INVALID_ARG_VALUE'],
    [0, 1, undefined, 'ERR_INVALID_ARG_VALUE'],
    [0, 1, { memory: 'cached', offset: 1 }, 'ERR_INVALID_ARG_VALUE'],
    [0, 1, { memory: 'cached', device: 'iospace0' }, 'ERR_INVALID_ARG_TYPE'],
  ])('(%o, %o, %o) is %s, and reaches nobody', (address, byteLength, options, expected) => {
    expect(() => mmapIospace(address as bigint, byteLength as number, options as MmapOptions)).toThrow(
      code(expected),
    );
    expect(fake.windowsAsked).toEqual([]);
  });

  test.each([
    [16, 'EBUSY: resource busy or locked', 'is in use by a driver, or open in another memory type'],
    [
      95,
      'EOPNOTSUPP: operation not supported',
      'this machine cannot open the range 0x1000 to 0x3000 as cached',
    ],
    [22, 'EINVAL: invalid argument', 'is beyond what this CPU addresses'],
    [28, 'ENOSPC: no space left on device', '0x2000 bytes are more than one window can have'],
  ])('errno %i is explained', (errno, text, sentence) => {
    using device = open();
    fake.error = systemError(errno, 'ioctl', { request: 0xd509 });
    const map = (): unknown => mmapIospace(0x1800, 0x1000, { memory: 'cached', device });
    expect(map).toThrow(`${text}, mmap_iospace 0x1800: `);
    expect(map).toThrow(sentence);
    expect(map).toThrow(
      expect.objectContaining({ address: 0x1800n, syscall: 'mmap_iospace', errno: -errno }),
    );
  });

  test('EPERM says which of its causes it has', () => {
    using device = open();
    fake.error = systemError(1, 'ioctl');
    const isRoot = process.geteuid?.() === 0;
    expect(() => mmapIospace(0x1800, 0x1000, { memory: 'cached', device })).toThrow(
      isRoot
        ? /the range 0x1000 to 0x3000 is not declared: pass the device whose registers it is, or modprobe iospace allow=0x2000@0x1000 /
        : /the range 0x1000 to 0x3000 lies in no arena; any other needs CAP_SYS_RAWIO/,
    );
  });

  test.skipIf(existsSync('/sys/module/iospace'))(
    'without the module is ENOENT, and says how to load it',
    () => {
      expect(() => mmapIospace(0, 1, { memory: 'cached' })).toThrow(/^ENOENT: .*modprobe iospace$/);
    },
  );

  test('over memfd is EOPNOTSUPP', () => {
    using device = DmaDevice.open({ provider: 'memfd' });
    expect(() => mmapIospace(0, 1, { memory: 'cached', device })).toThrow(code('EOPNOTSUPP'));
    expect(device.arenas).toEqual([]);
  });

  test('leaves no handle behind when it cannot be mapped', () => {
    using device = open();
    fake.mmapError = new Error('no room');
    expect(() => mmapIospace(0, 1, { memory: 'cached', device })).toThrow('no room');
    expect(fake.handles.size).toBe(0);
  });
});

describe('the end of a window', () => {
  const window = (device: DmaDevice): IospaceMapping => mmapIospace(0, 4096, { memory: 'cached', device });

  test('unmap() gives mapping and handle back, once', () => {
    using device = open();
    const mapping = window(device);
    const { bytes } = mapping;
    munmapIospace(mapping);
    munmapIospace(mapping);
    mapping.unmap();
    mapping[Symbol.dispose]();
    expect(bytes).toHaveLength(0);
    expect(mapping.unmapped).toBe(true);
    expect(fake.handles.size).toBe(0);
    expect(fake.mappings.map(({ releases }) => releases)).toEqual([1]);
  });

  test('comes with that of its device', () => {
    const device = open();
    const [memory, control] = [window(device), mmapIospace(0, 4, { memory: 'device', device })];
    const { registers } = control;
    const { bytes } = memory;
    device.close();
    expect(bytes).toHaveLength(0);
    expect([memory.unmapped, control.unmapped]).toEqual([true, true]);
    expect(() => registers.read32(0)).toThrow(code('ERR_INVALID_STATE'));
    memory.unmap(); // the handle went with the descriptor
    expect(fake.handles.size).toBe(2);
  });

  const uses: [string, (mapping: IospaceMapping) => unknown][] = [
    ['buffer', (mapping) => mapping.buffer],
    ['bytes', (mapping) => mapping.bytes],
    ['view', (mapping) => mapping.view(Uint8Array)],
    ['registers', (mapping) => mapping.registers],
  ];
  test.each(uses)('after it %s throws ERR_INVALID_STATE', (_name, use) => {
    using device = open();
    for (const memory of ['cached', 'device'] as const) {
      const mapping = mmapIospace(0, 4096, { memory, device });
      mapping.unmap();
      expect(() => use(mapping)).toThrow(code('ERR_INVALID_STATE'));
    }
  });

  test('is not that of something else', () => {
    expect(() => munmapIospace({} as IospaceMapping)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });
});

describe('an arena', () => {
  function arenaOf(device: DmaDevice, index = 0): ReservedArena {
    const arena = device.arenas[index];
    assert(arena !== undefined);
    return arena;
  }

  test('says what it is', () => {
    using device = open();
    expect(device.arenas).toHaveLength(2);
    expect(device.arenas).toBe(device.arenas);
    expect(arenaOf(device)).toMatchObject({
      name: 'frames',
      physicalAddress: 0x1000_0000n,
      byteLength: 1 << 20,
      memoryTypes: ['cached', 'writecombine', 'uncached'],
      sideBySide: true,
    });
    expect(arenaOf(device, 1)).toMatchObject({ name: '', memoryTypes: ['cached'], sideBySide: false });
  });

  test('is the same byte in every window, in physical memory and on the bus, by constants', () => {
    using device = open();
    const arena = arenaOf(device);
    using whole = arena.window('cached');
    using part = arena.window('writecombine', { offset: 0x3010, length: 0x20 });
    expect(fake.windowsAsked).toEqual(['1 0x10000000 0x100000', '2 0x10003000 0x1000']);
    expect([whole.physicalAddress, part.physicalAddress]).toEqual([0x1000_0000n, 0x1000_3010n]);
    expect([arena.offsetOf(whole), arena.offsetOf(part)]).toEqual([0, 0x3010]);

    const attachment = device.attachArena(arena);
    expect(attachment).toMatchObject({ arena, dmaAddress: 0xd000_0000n });
    expect(attachment.dmaAddressOf(part)).toBe(0xd000_3010n);
    expect(attachment.dmaAddressOf(part, 0x1f)).toBe(attachment.dmaAddressOf(whole, 0x302f));
  });

  test('can be attached to another device, and seen after its own is closed', () => {
    using other = open();
    const device = open();
    const arena = arenaOf(device);
    const attachment = other.attachArena(arena);
    const own = device.attachArena(arena);
    device.close();
    expect(attachment.dmaAddress).toBe(0xd000_0000n);
    expect(() => own.dmaAddress).toThrow(code('ERR_INVALID_STATE'));
    expect(() => own.dmaAddressOf(other.arenas[0]?.window('cached') as IospaceMapping)).toThrow(
      code('ERR_INVALID_STATE'),
    );
    expect(() => arena.window('cached')).toThrow(code('ERR_INVALID_STATE'));
    expect(() => device.attachArena(arena)).toThrow(code('ERR_INVALID_STATE'));
    expect(() => device.arenas).toThrow(code('ERR_INVALID_STATE'));
  });

  test.each([
    [{ offset: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ offset: 1 << 20 }, 'ERR_OUT_OF_RANGE'],
    [{ offset: 4096, length: (1 << 20) - 4095 }, 'ERR_OUT_OF_RANGE'],
    [{ length: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ offset: '0' }, 'ERR_INVALID_ARG_TYPE'],
    [{ size: 4096 }, 'ERR_INVALID_ARG_VALUE'],
  ])('a window of %o is %s', (options, expected) => {
    using device = open();
    const arena = arenaOf(device);
    expect(() => arena.window('cached', options as object)).toThrow(code(expected));
    expect(() => arena.window('coherent' as 'cached')).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(fake.windowsAsked).toEqual([]);
  });

  test('a type that it cannot be is answered with those it can', () => {
    using device = open();
    const arena = arenaOf(device);
    fake.error = systemError(95, 'ioctl');
    expect(() => arena.window('writethrough', { offset: 4096 })).toThrow(
      'EOPNOTSUPP: operation not supported, mmap_iospace 0x10001000: this arena can be cached, writecombine, uncached, not writethrough',
    );
  });

  test('what is no window of it has no place in it', () => {
    using device = open();
    const [arena, other] = [arenaOf(device), arenaOf(device, 1)];
    const attachment = device.attachArena(arena);
    using window = other.window('cached');
    using below = mmapIospace(0xfff_f000, 4096, { memory: 'cached', device });
    using inside = arena.window('cached', { length: 16 });
    expect(() => arena.offsetOf(window)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => attachment.dmaAddressOf(below)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => attachment.dmaAddressOf(inside, 16)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => arena.offsetOf({} as IospaceMapping)).toThrow(code('ERR_INVALID_ARG_TYPE'));
    inside.unmap();
    expect(() => attachment.dmaAddressOf(inside)).toThrow(code('ERR_INVALID_STATE'));
    expect(() => device.attachArena({} as ReservedArena)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test('out of the reach of a device is EOPNOTSUPP, with that reach', () => {
    using device = open();
    const arena = arenaOf(device);
    fake.attachError = systemError(95, 'ioctl');
    expect(() => device.attachArena(arena)).toThrow(
      /which reaches 0xffffffff, cannot reach all of the arena/,
    );
  });
});

test('inspecting touches no memory', () => {
  using device = open();
  const [arena] = device.arenas;
  assert(arena !== undefined);
  const window = arena.window('cached', { length: 64 });
  expect(inspect(window)).toBe(
    'IospaceMapping { physicalAddress: 0x10000000, byteLength: 64, memory: cached, unmapped: false }',
  );
  expect(inspect(arena)).toBe(
    "ReservedArena 'frames' { physicalAddress: 0x10000000, byteLength: 1048576, memoryTypes: cached writecombine uncached, sideBySide: true }",
  );
  const attachment = device.attachArena(arena);
  device.close();
  expect(inspect(attachment)).toBe('ArenaAttachment { dmaAddress: 0xd0000000, byteLength: 1048576 }');
  expect(inspect(window)).toContain('unmapped: true');
  expect(Object.keys(window)).not.toContain('bytes');
});
