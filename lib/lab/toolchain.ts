/**
 * The compilers: one for each architecture of a guest, and what they know about its libraries.
 *
 * @module
 */
import { basename, isAbsolute } from 'node:path';
import { LabError } from './errors.js';
import type { Arch } from './kernels.js';
import { tool } from './tools.js';

/** Node's names of the architectures. */
export const nodeArch = { amd64: 'x64', arm64: 'arm64' } as const;

/** What stands before the name of a tool that works for that architecture. */
export function toolPrefix(arch: Arch): string {
  if (nodeArch[arch] === process.arch) {
    return '';
  }
  return arch === 'arm64' ? 'aarch64-linux-gnu-' : 'x86_64-linux-gnu-';
}

/** The loader's place is part of the ABI. */
export const loaderPath: Readonly<Record<Arch, string>> = {
  amd64: 'lib64/ld-linux-x86-64.so.2',
  arm64: 'lib/ld-linux-aarch64.so.1',
};

/**
 * The shared libraries that a program needs, and those that they need. They are the compiler's: what is built
 * here for a guest, the addon above all, finds there the libraries that it was built with.
 */
export async function librariesOf(program: string, arch: Arch): Promise<string[]> {
  const prefix = toolPrefix(arch);
  const found = new Map<string, string>();
  const add = async (file: string): Promise<void> => {
    const needed = (await tool(`${prefix}readelf`, ['-d', file])).matchAll(/\(NEEDED\).*\[(.*)\]/g);
    for (const [, name = ''] of needed) {
      if (!found.has(name)) {
        const path = (await tool(`${prefix}gcc`, [`-print-file-name=${name}`])).trim();
        if (!isAbsolute(path)) {
          throw new LabError(
            'ERR_IOSPACE_LAB_MISSING',
            `${prefix}gcc has no ${name}, which ${basename(program)} needs`,
          );
        }
        found.set(name, path);
        await add(path);
      }
    }
  };
  await add(program);
  return [...found.values()];
}
