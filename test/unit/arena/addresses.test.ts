/**
 * Arenas over a buffer of a device that is not there, at any bus address: alignment and boundary are of that, and of no
 * offset.
 */
import { expect, test, vi } from 'vitest';
import type { NativeBinding } from '../../../lib/binding.js';
import { Arena, DmaDevice } from '../../../lib/index.js';
import { FakeDevice } from '../fake-device.js';
import { type Backing, dmaBuffer } from './backings.js';
import { doesAsModel } from './calls.js';

const state = vi.hoisted(() => ({ native: undefined as unknown }));
vi.mock('../../../lib/binding.js', () => ({ binding: () => state.native }));
const { binding } =
  await vi.importActual<typeof import('../../../lib/binding.js')>('../../../lib/binding.js');

/** A coherent buffer whose first byte the device sees there. */
const bufferAt = (base: number): Backing => ({
  ...dmaBuffer,
  base,
  make({ byteLength = 0, granule }) {
    const { native } = new FakeDevice();
    const { deviceAlloc } = native;
    state.native = {
      ...binding(),
      deviceInfo: native.deviceInfo,
      deviceAlloc: (...args) => ({ ...deviceAlloc(...args), dmaAddress: BigInt(base) }),
      deviceFree: native.deviceFree,
      mmap: native.mmap,
    } satisfies NativeBinding;
    const device = DmaDevice.open('/dev/null');
    const arena = Arena.create({
      backing: device.alloc(byteLength),
      ...(granule !== undefined && { granule }),
    });
    expect(arena.dmaAddress).toBe(BigInt(base));
    return {
      arena,
      attach() {
        throw new Error('the arena of a DmaBuffer has one attachment');
      },
      [Symbol.dispose]() {
        arena.close();
        device.close();
      },
    };
  },
});

test.each(['0x1000', '0xfffff000', '0x1234567000'])(
  'an arena at bus address %s does as an array of booleans does',
  { timeout: 60_000 },
  (base) => doesAsModel(bufferAt(Number(base)), 20),
);
