/**
 * Builds `iospace.ko` for a kernel of the lab.
 *
 * @module
 */
import { cp, mkdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { wrongValue } from '../errors.js';
import { packageRoot } from '../package-root.js';
import { cached } from './cache.js';
import type { Kernel } from './kernels.js';
import type { FetchOptions } from './packages.js';
import { directoryKey, sourceFiles } from './sources.js';
import { toolPrefix } from './toolchain.js';
import { tool } from './tools.js';

const sources = join(packageRoot(), 'kernel-module');

/** kbuild's names of the architectures. */
const kbuildArch = { amd64: 'x86', arm64: 'arm64', riscv64: 'riscv' } as const;

/** What is set otherwise than in the kernel's own configuration. */
const settings = [
  // Type information for BPF would need the kernel's vmlinux, and pahole.
  'CONFIG_DEBUG_INFO_BTF_MODULES=',
  // So another version of it is no reason to warn.
  'CONFIG_PAHOLE_VERSION=$(PAHOLE_VERSION)',
  // An option of GCC 14, with which trixie's kernels are built. Without it functions are aligned by an older one.
  'CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=',
] as const;

/** What `make` is told to build the sources in a directory for a kernel. */
export function kbuildArguments({ arch, headers }: Kernel, directory: string): string[] {
  const prefix = toolPrefix(arch);
  // Debian's headers name the compiler of the kernel's release; any that is near will do.
  const compiler = [`ARCH=${kbuildArch[arch]}`, `CROSS_COMPILE=${prefix}`, `CC=${prefix}gcc`];
  return ['-C', headers, `M=${directory}`, ...settings, ...compiler];
}

/**
 * The module for a kernel, built where its sources have changed.
 *
 * The build happens in a copy: the same sources are built for several kernels, by several processes.
 *
 * @returns the path of `iospace.ko`
 * @throws LabError with code `ERR_IOSPACE_LAB_BUILD` and the compiler's messages
 */
export async function buildModule(
  kernel: Kernel,
  { signal, onProgress }: FetchOptions = {},
): Promise<string> {
  const key = `${kernel.release}-${await directoryKey(sources)}`;
  const build = async (directory: string) => {
    onProgress?.(`building iospace.ko for ${kernel.release}`);
    const copy = join(directory, 'build');
    for (const file of await sourceFiles(sources)) {
      await mkdir(dirname(join(copy, file)), { recursive: true });
      await cp(join(sources, file), join(copy, file));
    }
    await tool('make', ['-s', '-j2', ...kbuildArguments(kernel, copy), 'modules'], { signal });
    await rename(join(copy, 'iospace.ko'), join(directory, 'iospace.ko'));
  };
  const entry = await cached('modules', key, build, signal);
  return join(entry, 'iospace.ko');
}

/** The parameters that the kernel itself has for each module. */
const everyModules = ['async_probe', 'dyndbg'];

/**
 * Refuses parameters that a module does not have: the kernel would load it, and say so in its log alone. And those
 * without a value, which all of ours need.
 *
 * @param parameters - as `insmod` takes them
 * @throws TypeError with code `ERR_INVALID_ARG_VALUE`, which names those that there are
 */
export async function checkParameters(module: string, parameters: string): Promise<void> {
  // Spaces within double quotes do not separate.
  const given = [...parameters.matchAll(/([^\s=]+)(=(?:"[^"]*"|[^\s"])*)?/g)];
  const names = given.map(([, name = '']) => name);
  const own = (await tool('modinfo', ['-F', 'parmtype', module])).match(/^[^:]+/gm) ?? [];
  const known = [...own, ...everyModules];
  const unknown = names.find((name) => !known.includes(name.replaceAll('-', '_')));
  if (unknown !== undefined) {
    throw wrongValue('a module parameter', `one of ${known.join(', ')}`, unknown);
  }
  const [bare] = given.find(([, , value = '=']) => value === '=') ?? [];
  if (bare !== undefined) {
    throw wrongValue('a module parameter', 'NAME=VALUE', bare);
  }
}
