/**
 * Debian's kernels: image, modules and headers of one package version, unpacked into the cache and kept there,
 * so that a kernel does not change under a test between two runs. And one that is built here, to find mistakes.
 *
 * @module
 */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CacheKind, cached, cacheRoom, exists } from './cache.js';
import { buildDebugKernel, debugDemands, debugKernelKey } from './debug-kernel.js';
import { LabError } from './errors.js';
import { type FetchOptions, findPackages, isGone, unpackPackages } from './packages.js';
import { tool } from './tools.js';

export type Arch = 'amd64' | 'arm64';

/** The versions that can be asked for, and the pattern of their packages' names. */
const versions = {
  '5.10': String.raw`5\.10\.0-[0-9]+`,
  '6.1': String.raw`6\.1\.0-[0-9]+`,
  // The build for Debian 12: the one whose tools run on Debian 12 and on 13.
  '6.12': String.raw`6\.12\.[0-9]+\+deb12(\.[0-9]+)?`,
} as const;

type DebianKernelName = keyof typeof versions;

export type KernelName = DebianKernelName | 'debug';

/** The kernels that {@link fetchKernel} knows: Debian's, oldest first, and the debug kernel, which is for amd64. */
export const kernelNames = [...(Object.keys(versions) as DebianKernelName[]), 'debug'] as KernelName[];

/** A kernel in the cache. */
export interface Kernel {
  name: KernelName;
  arch: Arch;
  /** What `uname -r` says in the guest. */
  release: string;
  /** Where everything below is. */
  directory: string;
  /** The file that QEMU boots. */
  image: string;
  /** `lib/modules/RELEASE`, with `modules.dep`. */
  modules: string;
  /** What `make -C` builds a module against. */
  headers: string;
  /** The device trees of Debian's package; none on amd64. */
  deviceTrees: string;
  /** What it asks of a machine beyond what is usual. */
  demands?: { memory: string; timeout: number };
}

/** Newest first: numbers in a package's name compare as numbers. */
const newestFirst = (left: string, right: string) => right.localeCompare(left, 'en', { numeric: true });

/** A release of a kernel, and the package of its image. */
interface Release {
  release: string;
  image: string;
}

/** The releases of which both the image and the headers are listed, newest first. */
async function knownReleases(name: DebianKernelName, arch: Arch, options: FetchOptions): Promise<Release[]> {
  const pattern = `^linux-(image|headers)-${versions[name]}-${arch}(-unsigned)?$`;
  const packages = new Set(await findPackages(pattern, options));
  return [...packages]
    .filter((found) => found.startsWith('linux-headers-'))
    .sort(newestFirst)
    .flatMap((headers) => {
      const release = headers.slice('linux-headers-'.length);
      const images = [`linux-image-${release}`, `linux-image-${release}-unsigned`];
      const image = images.find((found) => packages.has(found));
      return image === undefined ? [] : [{ release, image }];
    });
}

/** Makes the headers work where they were unpacked: Debian's point to `/usr/src`. */
async function relocateHeaders(headers: string): Promise<void> {
  const makefile = join(headers, 'Makefile');
  const text = await readFile(makefile, 'utf8');
  await writeFile(makefile, text.replaceAll('/usr/src/', '$(dir $(lastword $(MAKEFILE_LIST)))../'));
}

/** The packages of a release. */
function packagesOf({ release, image }: Release, arch: Arch): string[] {
  const common = release.slice(0, -`-${arch}`.length);
  // The tools that run during a build belong to this machine, whatever the kernel is for. Debian numbers those
  // of 5.10 and 6.1 by version, later ones by release.
  const kbuild = `linux-kbuild-${common.replace(/\.0-\d+$/, '')}`;
  return [`${image}:${arch}`, `linux-headers-${release}:${arch}`, `linux-headers-${common}-common`, kbuild];
}

/** Fetches the newest release that the mirror holds, and returns its name. */
async function unpackNewest(
  directory: string,
  name: DebianKernelName,
  arch: Arch,
  options: FetchOptions,
): Promise<string> {
  const known = await knownReleases(name, arch, options);
  let failure: unknown = new LabError(
    'ERR_IOSPACE_LAB_MISSING',
    `the Debian mirror has no kernel ${name} for ${arch}`,
  );
  for (const release of known) {
    try {
      await unpackPackages(packagesOf(release, arch), directory, options);
      return release.release;
    } catch (error) {
      if (!isGone(error)) {
        throw error;
      }
      failure = error;
    }
  }
  throw failure;
}

async function makeDebianKernel(
  directory: string,
  name: DebianKernelName,
  arch: Arch,
  options: FetchOptions,
): Promise<void> {
  const release = await unpackNewest(directory, name, arch, options);
  await relocateHeaders(join(directory, 'usr/src', `linux-headers-${release}`));
  await tool('depmod', ['-b', directory, release], { signal: options.signal });
}

/** The parts of a kernel that has been unpacked to `directory`. */
async function kernelAt(directory: string, name: KernelName, arch: Arch): Promise<Kernel> {
  const [release = ''] = await readdir(join(directory, 'lib/modules'));
  return {
    name,
    arch,
    release,
    directory,
    image: join(directory, 'boot', `vmlinuz-${release}`),
    modules: join(directory, 'lib/modules', release),
    headers: join(directory, 'usr/src', `linux-headers-${release}`),
    deviceTrees: join(directory, 'usr/lib', `linux-image-${release}`),
    ...(name === 'debug' && { demands: debugDemands }),
  };
}

/** Where a kernel is in the cache. The debug kernel has a room of its own: its build would keep others waiting. */
async function placeOf(name: KernelName, arch: Arch): Promise<{ kind: CacheKind; key: string }> {
  return name === 'debug'
    ? { kind: 'debug-kernels', key: `${arch}-${await debugKernelKey()}` }
    : { kind: 'kernels', key: `${name}-${arch}` };
}

/**
 * The kernel of that name, fetched from the Debian mirror where it is not in the cache yet: the newest release
 * at that time. The debug kernel is built from the newest source, which takes minutes.
 *
 * @throws LabError with code `ERR_IOSPACE_LAB_MISSING` where it is not to be had
 */
export async function fetchKernel(name: KernelName, arch: Arch, options: FetchOptions = {}): Promise<Kernel> {
  const make = (directory: string) =>
    name === 'debug'
      ? buildDebugKernel(directory, arch, options)
      : makeDebianKernel(directory, name, arch, options);
  const { kind, key } = await placeOf(name, arch);
  return kernelAt(await cached(kind, key, make, options.signal), name, arch);
}

/** The kernels that are in the cache. */
export async function fetchedKernels(): Promise<Kernel[]> {
  const kernels: Kernel[] = [];
  for (const name of kernelNames) {
    for (const arch of ['amd64', 'arm64'] as const) {
      const { kind, key } = await placeOf(name, arch);
      const directory = join(cacheRoom(kind), key);
      if (await exists(directory)) {
        kernels.push(await kernelAt(directory, name, arch));
      }
    }
  }
  return kernels;
}

/**
 * The files of the modules of those names and of all that they need, in the order in which they can be loaded.
 * What is built into the kernel, or not known to it, is left out.
 */
export async function moduleClosure(kernel: Kernel, names: readonly string[]): Promise<string[]> {
  const needs = new Map<string, string[]>();
  for (const line of (await readFile(join(kernel.modules, 'modules.dep'), 'utf8')).split('\n')) {
    const [file, ...needed] = line.split(/:? /).filter((part) => part !== '');
    if (file !== undefined) {
      needs.set(file.replace(/:$/, ''), needed);
    }
  }
  const fileOf = (name: string) =>
    [...needs.keys()].find((file) => file.replace(/^.*\/|\.ko.*$/g, '').replaceAll('-', '_') === name);
  const order = new Set<string>();
  const add = (file: string) => {
    needs.get(file)?.forEach(add);
    order.add(file);
  };
  for (const name of names) {
    const file = fileOf(name);
    if (file !== undefined) {
      add(file);
    }
  }
  return [...order].map((file) => join(kernel.modules, file));
}
