/**
 * The arenas that there are.
 *
 * @module
 */
import { readdirSync } from 'node:fs';
import { binding } from '../binding.js';
import { DmaDevice } from '../device/device.js';
import type { ReservedArena } from '../device/reserved-arena.js';
import { isSystemError } from '../errors.js';
import type { Arena } from './arena.js';
import { DIRECTORY, PREFIX } from './file-backing.js';
import { NO_ARENA, refusedFile } from './refusal.js';
import type { ArenaInfo } from './stats.js';

/** Those that have a name, sorted. */
export function listArenas(attach: (name: string) => Arena): ArenaInfo[] {
  return [...inSharedMemory(attach), ...ofModule()];
}

function inSharedMemory(attach: (name: string) => Arena): ArenaInfo[] {
  const names = filesOf(DIRECTORY)
    .filter((file) => file.startsWith(PREFIX))
    .map((file) => file.slice(PREFIX.length))
    .sort();
  return names.flatMap((name) => {
    try {
      using arena = attach(name);
      const { backing, byteLength, granule } = arena;
      return [{ name, backing, byteLength, granule }];
    } catch (error) {
      // Unlinked since its name was read.
      if (isSystemError(error, 'ENOENT')) {
        return [];
      }
      return [{ name, backing: 'shm', byteLength: 0, granule: 0, error: error as Error }];
    }
  });
}

/** None where the machine has no shared memory: the module's arenas are shown all the same. */
function filesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) {
      return [];
    }
    throw error;
  }
}

function ofModule(): ArenaInfo[] {
  try {
    using device = DmaDevice.open();
    return device.arenas.map((reserved) => described(device, reserved));
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'EACCES', 'ENODEV', 'ENXIO')) {
      return [];
    }
    throw error;
  }
}

/** As its books have it. `Arena.attach()` would make books of those that have none. */
function described(device: DmaDevice, reserved: ReservedArena): ArenaInfo {
  const native = binding();
  const name = `module:${reserved.index}`;
  const unused = { name, backing: 'module', byteLength: reserved.byteLength, granule: 0 } as const;
  try {
    const fd = device.arenaBooks(reserved);
    try {
      const books = native.attachArena(fd);
      if (!('fault' in books)) {
        const { granule, granules } = books.description;
        books.close();
        return { ...unused, byteLength: granules * granule, granule };
      }
      if (books.fault === NO_ARENA) {
        return unused;
      }
      throw refusedFile(books, 'attach', name);
    } finally {
      native.close(fd);
    }
  } catch (error) {
    return { ...unused, error: error as Error };
  }
}
