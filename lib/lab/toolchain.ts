/**
 * The compilers: one for each architecture of a guest, and what they know about its libraries.
 *
 * @module
 */
import { isAbsolute } from 'node:path';
import { LabError } from './errors.js';
import type { Arch } from './kernels.js';
import { tool } from './tools.js';

/** Node's names of the architectures. */
export const nodeArch = { amd64: 'x64', arm64: 'arm64', riscv64: 'riscv64' } as const;

/** The compiler's names of the architectures, of which Debian also makes directories. */
export const triplets = {
  amd64: 'x86_64-linux-gnu',
  arm64: 'aarch64-linux-gnu',
  riscv64: 'riscv64-linux-gnu',
} as const;

/** What stands before the name of a tool that works for that architecture. */
export function toolPrefix(arch: Arch): string {
  return nodeArch[arch] === process.arch ? '' : `${triplets[arch]}-`;
}

/** The loader's place is part of the ABI. */
export const loaderPath: Readonly<Record<Arch, string>> = {
  amd64: 'lib64/ld-linux-x86-64.so.2',
  arm64: 'lib/ld-linux-aarch64.so.1',
  riscv64: 'lib/ld-linux-riscv64-lp64d.so.1',
};

/** Finds a library by its name: the compiler's own. What is built here for a guest was built with it. */
export function compilerLibrary(arch: Arch): (name: string) => Promise<string> {
  const compiler = `${toolPrefix(arch)}gcc`;
  return async (name) => {
    const path = (await tool(compiler, [`-print-file-name=${name}`])).trim();
    if (!isAbsolute(path)) {
      throw new LabError(
        'ERR_IOSPACE_LAB_MISSING',
        `${compiler} has no ${name}, which the guest's Node needs`,
      );
    }
    return path;
  };
}

/** The shared libraries that a program needs, and those that they need, wherever `find` finds them. */
export async function librariesOf(
  program: string,
  arch: Arch,
  find: (name: string) => Promise<string>,
): Promise<string[]> {
  const prefix = toolPrefix(arch);
  const found = new Map<string, string>();
  const add = async (file: string): Promise<void> => {
    const needed = (await tool(`${prefix}readelf`, ['-d', file])).matchAll(/\(NEEDED\).*\[(.*)\]/g);
    for (const [, name = ''] of needed) {
      if (!found.has(name)) {
        const path = await find(name);
        found.set(name, path);
        await add(path);
      }
    }
  };
  await add(program);
  return [...found.values()];
}
