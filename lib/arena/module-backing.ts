/**
 * Arenas over reserved memory of the kernel module, which also keeps their books.
 *
 * @module
 */
import { binding, type NativeArena } from '../binding.js';
import { DmaDevice } from '../device/device.js';
import { type MemoryType, memoryTypes } from '../device/memory.js';
import type { ReservedArena } from '../device/reserved-arena.js';
import type { IospaceMapping } from '../device/window.js';
import { errno, isSystemError, notSupported, systemError } from '../errors.js';
import { type Backing, DEFAULT_GRANULE, makeArena } from './backing.js';
import { NO_ARENA, refusedFile } from './refusal.js';
import type { Part } from './views.js';

export class ModuleBacking implements Backing {
  readonly kind = 'module';
  readonly name: string;
  readonly native: NativeArena;
  readonly memory: MemoryType;
  readonly memoryTypes: readonly MemoryType[];
  readonly page: number;
  readonly physicalAddress: bigint;
  readonly reserved: ReservedArena;
  /** Its windows end with it: one that was opened for the arena alone. */
  readonly #device: DmaDevice;

  private constructor(device: DmaDevice, reserved: ReservedArena, native: NativeArena) {
    this.#device = device;
    this.name = nameOf(reserved);
    this.native = native;
    this.memoryTypes = Object.freeze(
      memoryTypes.filter((type) => reserved.memoryTypes.some((own) => own === type)),
    );
    this.memory = defaultMemory(this.memoryTypes);
    this.page = device.info.pageSize;
    this.physicalAddress = reserved.physicalAddress;
    this.reserved = reserved;
    native.setBase(reserved.physicalAddress);
  }

  /**
   * @param device - the name of the device that it is opened over
   * @throws EEXIST if it has books
   */
  static create(
    device: string | undefined,
    index: number,
    granule: number,
    byteLength?: number,
  ): ModuleBacking {
    return open(device, index, (opened, reserved) =>
      withBooks(
        opened,
        reserved,
        (fd) => new ModuleBacking(opened, reserved, make(opened, reserved, fd, granule, byteLength)),
      ),
    );
  }

  /** The arena as others made it, or, where nobody did, all of it in granules of 4 KiB. */
  static attach(device: string | undefined, index: number): ModuleBacking {
    return open(device, index, (opened, reserved) =>
      withBooks(
        opened,
        reserved,
        (fd) => new ModuleBacking(opened, reserved, attachOrMake(opened, reserved, fd)),
      ),
    );
  }

  map(memory: MemoryType, offset: number, length: number): Part {
    if (memory === 'coherent') {
      throw notSupported('window', `this arena can be ${this.memoryTypes.join(', ')}, not ${memory}`);
    }
    return this.reserved.window(memory, { offset, length });
  }

  release(part: Part): void {
    (part as IospaceMapping).unmap();
  }

  unlink(): void {
    throw notSupported('unlink', 'an arena of the module is there as long as the module is');
  }

  close(): void {
    this.native.close();
    this.#device.close();
  }
}

/** What a program that says nothing of it gets: on x86 devices snoop an arena, elsewhere they do not. */
function defaultMemory(types: readonly MemoryType[]): MemoryType {
  const order: readonly MemoryType[] =
    process.arch === 'x64' ? ['cached', 'writecombine'] : ['writecombine', 'uncached'];
  return order.find((type) => types.includes(type)) ?? types[0] ?? 'uncached';
}

const nameOf = ({ index }: ReservedArena): string => `module:${index}`;

/** Opens a device for the arena alone; closed again if `use` fails. */
function open(
  name: string | undefined,
  index: number,
  use: (device: DmaDevice, reserved: ReservedArena) => ModuleBacking,
): ModuleBacking {
  const device = DmaDevice.open(name);
  try {
    const { arenas } = device;
    const reserved = arenas[index];
    if (reserved === undefined) {
      throw systemError(errno.ENOENT, 'attach', {
        path: `module:${index}`,
        hint:
          arenas.length === 0
            ? 'the module has no arena: reserve memory (memmap=, or a no-map node), and modprobe iospace arena=SIZE@ADDRESS'
            : `the module has ${arenas.map(nameOf).join(', ')}`,
      });
    }
    return use(device, reserved);
  } catch (error) {
    device.close();
    throw error;
  }
}

function withBooks<T>(device: DmaDevice, reserved: ReservedArena, use: (fd: number) => T): T {
  const fd = device.arenaBooks(reserved);
  try {
    return use(fd);
  } finally {
    binding().close(fd);
  }
}

function make(
  device: DmaDevice,
  reserved: ReservedArena,
  fd: number,
  granule: number,
  byteLength?: number,
): NativeArena {
  const { arenaReserveBytes, arenaBlocks } = device.info.limits;
  const usable = Math.max(0, reserved.byteLength - arenaReserveBytes);
  const granules = Math.floor(usable / granule);
  const asked = byteLength === undefined ? granules : Math.ceil(byteLength / granule);
  if (asked > granules || granules === 0) {
    throw systemError(errno.ENOSPC, 'create', {
      path: nameOf(reserved),
      hint: `${asked === granules ? 1 : asked} granules of ${granule} bytes; the arena has ${usable} bytes, without the ${arenaReserveBytes} of arena_reserve`,
    });
  }
  return makeArena(binding(), fd, nameOf(reserved), {
    kind: 'module',
    name: nameOf(reserved),
    granule,
    granules: asked,
    memoryBytes: reserved.byteLength,
    reclaims: false,
    allocate: false,
    physicalAddress: reserved.physicalAddress,
    maxBlocks: arenaBlocks,
  });
}

function attachOrMake(device: DmaDevice, reserved: ReservedArena, fd: number): NativeArena {
  for (;;) {
    const attached = binding().attachArena(fd);
    if (!('fault' in attached)) {
      return attached;
    }
    if (attached.fault !== NO_ARENA) {
      throw refusedFile(attached, 'attach', nameOf(reserved));
    }
    try {
      return make(device, reserved, fd, DEFAULT_GRANULE);
    } catch (error) {
      // Somebody else was first.
      if (!isSystemError(error, 'EEXIST')) {
        throw error;
      }
    }
  }
}
