/** `iospace arena` over reserved memory of the module: books of the real addon, and a device that is not there. */
import { Command } from 'commander';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { NativeBinding } from '../../lib/binding.js';
import { addArenaCommands } from '../../lib/cli/arena.js';
import { Arena, DmaDevice } from '../../lib/index.js';
import { FakeDevice } from './fake-device.js';

const state = vi.hoisted(() => ({ native: undefined as unknown }));
vi.mock('../../lib/binding.js', () => ({ binding: () => state.native }));
const { binding } = await vi.importActual<typeof import('../../lib/binding.js')>('../../lib/binding.js');

const MIB = 2 ** 20;

let printed: string;
let said: string;
let released: () => void;

beforeEach(() => {
  const real = binding();
  // What the module keeps: one file for the arena, opened anew for each who asks.
  const books = real.memfdCreate('books', real.constants['MFD_ALLOW_SEALING'] ?? 0);
  released = () => real.close(books);
  const { native } = new FakeDevice({
    info: {},
    arenas: [{ flags: 1, address: 0x1000_0000n, byteLength: MIB, memoryTypes: 0b1110, name: '' }],
  });
  state.native = {
    ...real,
    deviceInfo: native.deviceInfo,
    deviceArena: native.deviceArena,
    deviceArenaBooks: () => real.open(`/proc/self/fd/${books}`, real.constants['O_RDWR'] ?? 0, 0),
  } satisfies NativeBinding;
  const open = DmaDevice.open.bind(DmaDevice);
  vi.spyOn(DmaDevice, 'open').mockImplementation(() => open('/dev/null'));
  printed = '';
  said = '';
  vi.spyOn(console, 'log').mockImplementation((text) => {
    printed += `${text}\n`;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    said += text;
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  released();
});

/** Runs a command here, and gives its exit code. */
async function iospace(...args: string[]): Promise<unknown> {
  const program = new Command('iospace').enablePositionalOptions();
  addArenaCommands(program);
  printed = '';
  said = '';
  try {
    await program.parseAsync(['arena', ...args], { from: 'user' });
    return process.exitCode;
  } finally {
    // It is the runner's.
    process.exitCode = undefined;
  }
}

/** A block of an owner that is gone. */
function leaveOne(): void {
  using arena = Arena.attach('module:0');
  arena.allocate(5000);
}

test('one that nobody has used is listed, and stays so when it is looked at', async () => {
  expect(await iospace('list')).toBe(0);
  expect(printed).toMatch(/^module:0 +module +1 MiB +nobody has used it yet$/m);
  for (const command of ['stats', 'map', 'dump', 'sweep']) {
    expect([command, await iospace(command, 'module:0')]).toEqual([command, 1]);
    expect(said).toMatch(/^iospace: ENOENT: .* 'module:0': nobody has used this arena yet\n$/);
  }
  expect(await iospace('check', 'module:0')).toBe(2);
  expect(Arena.list()).toContainEqual({ name: 'module:0', backing: 'module', byteLength: MIB, granule: 0 });
});

test('it is listed as it was made', async () => {
  Arena.create({ backing: 'module', granule: 512, byteLength: MIB / 2 }).close();
  expect(await iospace('list', '--json')).toBe(0);
  expect(JSON.parse(printed)).toContainEqual(
    expect.objectContaining({ name: 'module:0', granule: 512, byteLength: MIB / 2 }),
  );
});

test('a map begins at the physical address', async () => {
  leaveOne();
  expect(await iospace('map', 'module:0', '--ascii')).toBe(0);
  expect(printed).toMatch(/^0x10000000 ##\.{62}$/m);
});

test('a sweep is not done without --yes, and says why and what it would do', async () => {
  leaveOne();
  expect(await iospace('sweep', 'module:0')).toBe(1);
  expect(printed).toBe('module:0: would give back 1 block (8 KiB) of 1 dead owner\n');
  expect(said).toMatch(
    /^iospace: devices reach this arena, .* --yes, once you know that the device is quiet\n$/,
  );
  expect(await iospace('sweep', 'module:0', '--yes')).toBe(0);
  expect([printed, said]).toEqual(['module:0: gave back 1 block (8 KiB) of 1 dead owner\n', '']);
  expect(await iospace('sweep', 'module:0')).toBe(0);
  expect(printed).toBe('module:0: nothing to give back: no dead owner has blocks\n');
});
