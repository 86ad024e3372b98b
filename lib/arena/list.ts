/**
 * The arenas that there are.
 *
 * @module
 */
import { readdirSync } from 'node:fs';
import { DmaDevice } from '../device/device.js';
import { isSystemError } from '../errors.js';
import type { Arena } from './arena.js';
import { DIRECTORY, PREFIX } from './file-backing.js';
import { DEFAULT_GRANULE } from './module-backing.js';
import type { ArenaInfo } from './stats.js';

/** Those that have a name, sorted. */
export function listArenas(attach: (name: string) => Arena): ArenaInfo[] {
  return [...inSharedMemory(attach), ...ofModule()];
}

function inSharedMemory(attach: (name: string) => Arena): ArenaInfo[] {
  const names = readdirSync(DIRECTORY)
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

/** Not attached to: that would make books of those that have none. */
function ofModule(): ArenaInfo[] {
  try {
    using device = DmaDevice.open();
    return device.arenas.map(({ index, byteLength }) => ({
      name: `module:${index}`,
      backing: 'module',
      byteLength,
      granule: DEFAULT_GRANULE,
    }));
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'EACCES', 'ENODEV', 'ENXIO')) {
      return [];
    }
    throw error;
  }
}
