/** Arenas over reserved memory, with books of the real addon and windows of a device that is not there. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { NativeBinding, NativeInfo } from '../../lib/binding.js';
import { systemError } from '../../lib/errors.js';
import { Arena, DmaDevice, IospaceMapping } from '../../lib/index.js';
import { FakeDevice } from './fake-device.js';

const state = vi.hoisted(() => ({ native: undefined as unknown }));
vi.mock('../../lib/binding.js', () => ({ binding: () => state.native }));
const { binding } = await vi.importActual<typeof import('../../lib/binding.js')>('../../lib/binding.js');

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

const MIB = 2 ** 20;
const ADDRESS = 0x1000_0000n;
/** What the fake device adds to physical addresses. */
const BUS = 0xc000_0000n;

let fake: FakeDevice;
/** What the module keeps: one file for the arena, opened anew for each who asks. */
let books: number;
let released: () => void;

function useModule(info: Partial<NativeInfo> = {}): void {
  fake = new FakeDevice({
    info,
    arenas: [{ flags: 1, address: ADDRESS, byteLength: MIB, memoryTypes: 0b1110, name: '' }],
  });
  const real = binding();
  const { native } = fake;
  const { O_RDWR = 0 } = real.constants;
  state.native = {
    ...real,
    deviceInfo: native.deviceInfo,
    deviceAlloc: native.deviceAlloc,
    deviceArena: native.deviceArena,
    deviceWindow: native.deviceWindow,
    deviceFree: native.deviceFree,
    deviceArenaBooks: () => real.open(`/proc/self/fd/${books}`, O_RDWR, 0),
    mmap: native.mmap,
  } satisfies NativeBinding;
}

const open = (): DmaDevice => DmaDevice.open('/dev/null');

/** The arena, as this device has it. */
function reservedOf(device: DmaDevice) {
  const [reserved] = device.arenas;
  if (reserved === undefined) {
    throw new Error('there is no arena');
  }
  return reserved;
}

let device: DmaDevice;
beforeEach(() => {
  const real = binding();
  books = real.memfdCreate('books', real.constants['MFD_ALLOW_SEALING'] ?? 0);
  released = () => real.close(books);
  useModule();
  device = open();
});
afterEach(() => {
  device.close();
  released();
});

test('an arena becomes one by attaching, and is the same for all', () => {
  using first = Arena.attach(reservedOf(device));
  using second = Arena.attach(reservedOf(device));
  expect(first).toMatchObject({
    name: 'module:0',
    backing: 'module',
    byteLength: MIB,
    granule: 4096,
    physicalAddress: ADDRESS,
    memoryTypes: ['cached', 'writecombine', 'uncached'],
  });
  const block = first.allocate(5000);
  expect(second.blockAt(ADDRESS + BigInt(block.offset) + 1n)).toMatchObject({
    address: block.physicalAddress,
    byteLength: 8192,
    left: 8191,
    owner: first.owner,
  });
  expect(() => Arena.create({ backing: reservedOf(device) })).toThrow(/^EEXIST: .*Arena\.attach/);
  expect(() => first.fd).toThrow(/^EOPNOTSUPP: .*Arena\.attach\('module:0'\)/);
  expect(() => first.unlink()).toThrow(code('EOPNOTSUPP'));
  expect(() => first.blockAt(0)).toThrow(/^expected 0x10000000 to 0x100fffff, the arena for address, got 0/);
});

test('it leaves alone what the module keeps back, and gives no more blocks than it allows', () => {
  device.close();
  useModule({ arenaReserveBytes: 65_000n, arenaMaxBlocks: 3 });
  device = open();
  using arena = Arena.create({ backing: reservedOf(device), granule: 512 });
  expect(arena.byteLength).toBe(Math.floor((MIB - 65_000) / 512) * 512);
  const blocks = arena.allocateMany(3, 1);
  expect(() => arena.allocate(1)).toThrow(/^EDQUOT: .*arena_max_blocks/);
  blocks[0]?.free();
  arena.allocate(1);
  const longer = { backing: reservedOf(device), byteLength: MIB };
  expect(() => Arena.create(longer)).toThrow(/^ENOSPC: .*65000 of arena_reserve/);
});

test('one that does not exist is ENOENT, and says which there are', () => {
  expect(() => Arena.attach('module:1')).toThrow(code('ENOENT'));
});

describe('blocks', () => {
  test('have the type that is asked for, and windows of others', () => {
    using arena = Arena.attach(reservedOf(device));
    const block = arena.allocate(4096);
    block.bytes.fill(1);
    const other = arena.allocate(4096, { memory: 'uncached' });
    other.bytes.fill(2);
    expect([block.memory, other.memory]).toEqual([arena.memory, 'uncached']);
    // All of the arena is one window of each type.
    expect(fake.windowsAsked.map((window) => window.split(' ').slice(1).join(' '))).toEqual([
      '0x10000000 0x100000',
      '0x10000000 0x100000',
    ]);
    const type = arena.memory === 'cached' ? 'writecombine' : 'cached';
    using window = block.window(type);
    expect(window).toBeInstanceOf(IospaceMapping);
    expect(window).toMatchObject({ physicalAddress: block.physicalAddress, byteLength: 4096 });
    for (const memory of ['writethrough', 'coherent'] as const) {
      expect(() => arena.allocate(1, { memory })).toThrow(
        /^EOPNOTSUPP: .*can be cached, writecombine, uncached/,
      );
    }
    arena.close();
    expect((window as IospaceMapping).unmapped).toBe(true);
  });

  test('say that the range is open in another type', () => {
    using arena = Arena.attach(reservedOf(device));
    fake.error = systemError(16, 'ioctl');
    const block = arena.allocate(4096);
    expect(() => block.bytes).toThrow(/^EBUSY: .*open in another memory type/);
    fake.error = undefined;
    expect(block.bytes).toHaveLength(4096);
    // What could not be zeroed is not kept.
    fake.error = systemError(16, 'ioctl');
    expect(() => arena.allocate(1, { memory: 'uncached', zero: true })).toThrow(code('EBUSY'));
    expect(arena.stats().blocks).toBe(1);
  });

  test('with a guard have a window of their own', () => {
    using arena = Arena.attach(reservedOf(device));
    arena.allocate(1);
    const block = arena.allocate(100, { guard: true });
    const { bytes } = block;
    expect(bytes).toHaveLength(100);
    expect(fake.windowsAsked).toEqual([expect.stringMatching(/ 0x10001000 0x1000$/)]);
    block.free();
    expect(bytes).toHaveLength(0);
    expect(fake.handles.size).toBe(0);
  });

  test('have an address for a device once it has the arena', () => {
    using arena = Arena.attach(reservedOf(device));
    arena.allocate(4096);
    const block = arena.allocate(4096);
    expect(() => block.dmaAddress).toThrow(/attached to no device: device\.attachArena\(arena\)/);
    const attachment = device.attachArena(arena);
    expect(block.dmaAddress).toBe(ADDRESS + BUS + 4096n);
    expect(block.subarray(16).dmaAddress).toBe(ADDRESS + BUS + 4112n);
    expect(attachment.dmaAddressOf(block, 5)).toBe(ADDRESS + BUS + 4101n);
    expect(attachment.dmaAddressOf(block.subarray(16))).toBe(ADDRESS + BUS + 4112n);
    expect(() => attachment.dmaAddressOf(block, 4096)).toThrow(code('ERR_OUT_OF_RANGE'));
    using plain = Arena.create({ byteLength: 4096 });
    expect(() => attachment.dmaAddressOf(plain.allocate(1))).toThrow(code('ERR_OUT_OF_RANGE'));
    block.free();
    expect(() => attachment.dmaAddressOf(block)).toThrow(code('ERR_INVALID_STATE'));
    const kept = arena.allocate(1);
    device.close();
    expect(() => kept.dmaAddress).toThrow(code('ERR_INVALID_STATE'));
  });

  test('have none where two devices see them at different addresses', () => {
    using arena = Arena.attach(reservedOf(device));
    const block = arena.allocate(4096);
    const first = device.attachArena(arena);
    const same = open();
    same.attachArena(arena);
    expect(block.dmaAddress).toBe(ADDRESS + BUS);
    const { deviceArena } = fake.native;
    const native = state.native as NativeBinding;
    native.deviceArena = (...args) => {
      const known = deviceArena(...args);
      return { ...known, dmaAddress: known.dmaAddress + 4096n };
    };
    const other = open();
    const second = other.attachArena(arena);
    expect(() => block.dmaAddress).toThrow(/2 devices see the arena .*attachment\.dmaAddressOf\(block\)/);
    expect([first, second].map((attachment) => attachment.dmaAddressOf(block))).toEqual([
      ADDRESS + BUS,
      ADDRESS + BUS + 4096n,
    ]);
    other.close();
    expect(block.dmaAddress).toBe(ADDRESS + BUS);
    same.close();
  });

  test('are aligned as the device sees them', () => {
    const native = state.native as NativeBinding;
    const { deviceArena } = fake.native;
    native.deviceArena = (...args) => ({ ...deviceArena(...args), dmaAddress: 0x7_0000_3000n });
    using arena = Arena.attach(reservedOf(device));
    expect(arena.allocate(4096, { align: 65_536 }).physicalAddress % 65_536n).toBe(0n);
    device.attachArena(arena);
    const block = arena.allocate(4096, { align: 65_536 });
    expect(block.dmaAddress % 65_536n).toBe(0n);
    expect(block.offset).toBe(0x10000 - 0x3000);
  });
});

test('a coherent buffer has the address of its device', () => {
  using arena = Arena.create({ backing: device.alloc(65_536) });
  const block = arena.allocate(4096, { align: 8192 });
  expect(arena.memory).toBe('coherent');
  expect(block.dmaAddress % 8192n).toBe(0n);
  expect(arena.blockAt(block.dmaAddress + 1n)).toMatchObject({ address: block.dmaAddress, left: 4095 });
  expect(() => block.physicalAddress).toThrow(code('EOPNOTSUPP'));
});
