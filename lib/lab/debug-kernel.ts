/**
 * The debug kernel: Debian's 6.1 for amd64, built here with what looks for mistakes (KASAN, UBSAN, lockdep, kmemleak,
 * DMA API debugging) and with what makes others' calls fail. `guest/debug.config` says what is in it.
 *
 * @module
 */
import { cp, mkdir, readFile, rename, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { packageRoot } from '../package-root.js';
import { LabError } from './errors.js';
import type { Arch } from './kernels.js';
import { type FetchOptions, unpackPackages } from './packages.js';
import { contentKey } from './sources.js';
import { tool } from './tools.js';

const configuration = join(packageRoot(), 'lib/lab/guest/debug.config');

const sourcePackage = 'linux-source-6.1';

/** What of the built tree is kept: that from which modules are built. */
const kept = [
  '.config',
  'Makefile',
  'Module.symvers',
  'arch/x86/Makefile',
  'arch/x86/include',
  'include',
  'scripts',
  'tools/objtool/objtool',
];

/** What it asks of a machine: its checks take memory and time. */
export const debugDemands = {
  /** As QEMU's `-m` takes it. */
  memory: '2G',
  /** Seconds until the machine is ready. */
  timeout: 600,
} as const;

/** A name for what the kernel is made from. Which version Debian had when it was built is not in it. */
export function debugKernelKey(): Promise<string> {
  return contentKey([configuration], [sourcePackage, ...kept]);
}

/** Fails where the source has no such option, or where another keeps it from its value. */
async function checkConfiguration(tree: string): Promise<void> {
  const options = (text: string) => text.split('\n').filter((line) => line.startsWith('CONFIG_'));
  const taken = new Set(options(await readFile(join(tree, '.config'), 'utf8')));
  const lost = options(await readFile(configuration, 'utf8')).filter((line) => !taken.has(line));
  if (lost.length > 0) {
    throw new LabError('ERR_IOSPACE_LAB_BUILD', `${sourcePackage} does not take ${lost.join(', ')}`);
  }
}

/** How often a build says how far it is, in milliseconds. */
const progressInterval = 30_000;

/** Runs `make` for the kernel and its modules, telling how far it is: some thousand files take their time. */
async function make(tree: string, { signal, onProgress }: FetchOptions): Promise<void> {
  const begin = performance.now();
  let files = 0;
  const report = () => {
    const minutes = ((performance.now() - begin) / 60_000).toFixed(1);
    onProgress?.(`building the debug kernel: ${files} files in ${minutes} min`);
  };
  const timer = setInterval(report, progressInterval);
  try {
    await tool('make', [`-j${availableParallelism()}`, 'bzImage', 'modules'], {
      cwd: tree,
      signal,
      onStdout: (text) => {
        files += text.split('\n').length - 1;
      },
    });
  } finally {
    clearInterval(timer);
  }
}

/** Copies what modules are built from. */
async function keepHeaders(tree: string, headers: string): Promise<void> {
  for (const path of kept) {
    await mkdir(dirname(join(headers, path)), { recursive: true });
    await cp(join(tree, path), join(headers, path), { recursive: true, verbatimSymlinks: true });
  }
}

/**
 * Builds the kernel into a directory, its parts where Debian's packages have theirs. Takes some minutes on two cores,
 * and 2 GiB of disk while it does.
 *
 * @throws LabError with code `ERR_IOSPACE_LAB_MISSING` without what builds it, `ERR_IOSPACE_LAB_BUILD` where that fails
 */
export async function buildDebugKernel(directory: string, arch: Arch, options: FetchOptions): Promise<void> {
  const { signal, onProgress } = options;
  if (arch !== 'amd64') {
    throw new LabError('ERR_IOSPACE_LAB_MISSING', `the debug kernel is for amd64, there is none for ${arch}`);
  }
  for (const builder of ['bc', 'bison', 'flex']) {
    await tool(builder, ['--version'], { signal });
  }
  const tree = join(directory, 'tree');
  await mkdir(tree);
  await unpackPackages([sourcePackage], directory, options);
  onProgress?.('unpacking and configuring the debug kernel');
  const archive = join(directory, 'usr/src', `${sourcePackage}.tar.xz`);
  await tool('tar', ['-xf', archive, '-C', tree, '--strip-components=1'], { signal });
  await rm(join(directory, 'usr'), { recursive: true });
  await tool('make', ['-s', 'allnoconfig', `KCONFIG_ALLCONFIG=${configuration}`], { cwd: tree, signal });
  await checkConfiguration(tree);

  await make(tree, options);
  const release = (await tool('make', ['-s', 'kernelrelease'], { cwd: tree, signal })).trim();
  const install = ['-s', 'modules_install', `INSTALL_MOD_PATH=${directory}`, 'INSTALL_MOD_STRIP=1'];
  await tool('make', install, { cwd: tree, signal });
  for (const link of ['build', 'source']) {
    await rm(join(directory, 'lib/modules', release, link), { force: true });
  }
  await mkdir(join(directory, 'boot'));
  await rename(join(tree, 'arch/x86/boot/bzImage'), join(directory, 'boot', `vmlinuz-${release}`));
  await keepHeaders(tree, join(directory, 'usr/src', `linux-headers-${release}`));
  await rm(tree, { recursive: true });
}
