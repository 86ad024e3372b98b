/**
 * Debian's kernels: image, modules and headers of one package version, unpacked into the cache and kept there,
 * so that a kernel does not change under a test between two runs. And one that is built here, to find mistakes.
 *
 * @module
 */
import { mkdir, readdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { wrongValue } from '../errors.js';
import { type CacheKind, cached, cacheRoom, exists } from './cache.js';
import { buildDebugKernel, debugDemands, debugKernelKey } from './debug-kernel.js';
import { LabError } from './errors.js';
import { useOwnLibraries } from './host-tools.js';
import { type FetchOptions, findPackages, isGone, unpackPackages } from './packages.js';
import { tool } from './tools.js';

/** The architectures of the guests, by Debian's names. */
export const architectures = ['amd64', 'arm64', 'riscv64'] as const;
export type Arch = (typeof architectures)[number];

/** Where the kernel of a name comes from. */
interface KernelSource {
  architectures: readonly Arch[];
  /** The room of the cache in which it is kept. */
  room: CacheKind;
  /** Its name in that room. */
  key(name: string, arch: Arch): Promise<string>;
  /**
   * Fills the directory: `boot/vmlinuz-RELEASE`, `lib/modules/RELEASE` with `modules.dep`,
   * `usr/src/linux-headers-RELEASE`, and the device trees, where there are any, in `usr/lib/linux-image-RELEASE`.
   */
  make(directory: string, arch: Arch, options: FetchOptions): Promise<void>;
  /** What it asks of a machine beyond what is usual. */
  demands?: KernelDemands;
}

/** What a kernel asks of a machine. */
export interface KernelDemands {
  /** As QEMU's `-m` takes it. */
  memory: string;
  /** Seconds until the machine is ready. */
  timeout: number;
}

/** A series of Debian's kernels. */
interface DebianSeries {
  architectures: readonly Arch[];
  /** The pattern of the versions in the packages' names. */
  version: string;
  /** What follows the architecture in the packages' names. */
  flavour?: string;
  /** The packages of the libraries that its build tools were linked with, where older systems lack them. */
  libraries?: readonly string[];
}

/** Oldest first: numbers in a name compare as numbers. */
const byVersion = (left: string, right: string) => left.localeCompare(right, 'en', { numeric: true });

/** A release of a kernel, and the packages that hold its image, its modules and its device trees. */
interface Release {
  release: string;
  parts: readonly string[];
}

/** The sets of packages that a release may have come in: split since 7.x; signed before unsigned. */
const partsOf = (release: string): string[][] => [
  [`linux-binary-${release}`, `linux-modules-${release}`, `linux-base-${release}`],
  [`linux-image-${release}`],
  [`linux-image-${release}-unsigned`],
];

/** The releases of which both the image and the headers are listed, newest first. */
async function knownReleases(
  { version, flavour = '' }: DebianSeries,
  arch: Arch,
  options: FetchOptions,
): Promise<Release[]> {
  const pattern = `^linux-(binary|image|headers)-${version}-${arch}${flavour}(-unsigned)?$`;
  const packages = new Set(await findPackages(pattern, options));
  return [...packages]
    .filter((found) => found.startsWith('linux-headers-'))
    .sort((left, right) => byVersion(right, left))
    .flatMap((headers) => {
      const release = headers.slice('linux-headers-'.length);
      const parts = partsOf(release).find(([image = '']) => packages.has(image));
      return parts === undefined ? [] : [{ release, parts }];
    });
}

/** Makes the headers work where they were unpacked: Debian's point to `/usr/src`. */
async function relocateHeaders(headers: string): Promise<void> {
  const makefile = join(headers, 'Makefile');
  const text = await readFile(makefile, 'utf8');
  await writeFile(makefile, text.replaceAll('/usr/src/', '$(dir $(lastword $(MAKEFILE_LIST)))../'));
}

/** Gives image and modules the places that they had until Debian 12: they have moved with trixie, and again with 7.x. */
async function arrange(directory: string, release: string): Promise<void> {
  if (!(await exists(join(directory, 'lib')))) {
    await symlink('usr/lib', join(directory, 'lib'));
  }
  const image = join(directory, 'boot', `vmlinuz-${release}`);
  await mkdir(join(directory, 'boot'), { recursive: true });
  for (const place of [`boot/vmlinux-${release}`, `lib/modules/${release}/vmlinuz`]) {
    if (await exists(join(directory, place))) {
      await rename(join(directory, place), image);
    }
  }
}

/** What the packages' names have in common: without architecture and flavour. */
const commonOf = (release: string, arch: Arch): string => release.slice(0, release.indexOf(`-${arch}`));

/**
 * The tools that run during a build belong to this machine, whatever the kernel is for. Debian numbers those of 5.10
 * and 6.1 by version, later ones by release.
 */
const kbuildOf = (common: string): string => `linux-kbuild-${common.replace(/\.0-\d+$/, '')}`;

/** Fetches the newest release that the mirror holds, and returns its name. */
async function unpackNewest(
  directory: string,
  series: DebianSeries,
  arch: Arch,
  options: FetchOptions,
): Promise<string> {
  let failure: unknown = new LabError(
    'ERR_IOSPACE_LAB_MISSING',
    `the Debian mirror has no kernel ${series.version} for ${arch}`,
  );
  for (const { release, parts } of await knownReleases(series, arch, options)) {
    const common = commonOf(release, arch);
    const packages = [
      ...[...parts, `linux-headers-${release}`].map((name) => `${name}:${arch}`),
      ...[`linux-headers-${common}-common`, kbuildOf(common), ...(series.libraries ?? [])],
    ];
    try {
      await unpackPackages(packages, directory, options);
      return release;
    } catch (error) {
      if (!isGone(error)) {
        throw error;
      }
      failure = error;
    }
  }
  throw failure;
}

/** The newest kernel of a series, from the Debian mirror. */
function debian(series: DebianSeries): KernelSource {
  const make = async (directory: string, arch: Arch, options: FetchOptions) => {
    const release = await unpackNewest(directory, series, arch, options);
    await arrange(directory, release);
    await relocateHeaders(join(directory, 'usr/src', `linux-headers-${release}`));
    if (series.libraries !== undefined) {
      await useOwnLibraries(join(directory, 'usr/lib', kbuildOf(commonOf(release, arch))), directory);
    }
    await tool('depmod', ['-b', directory, release], { signal: options.signal });
  };
  const key = async (name: string, arch: Arch) => `${name}-${arch}`;
  return { architectures: series.architectures, room: 'kernels', key, make };
}

/** What fixdep, modpost and objtool of Debian 13 need. */
const trixie = { libraries: ['libc6', 'libelf1t64', 'libzstd1', 'zlib1g'] };

const version612 = String.raw`6\.12\.[0-9]+\+deb13(\.[0-9]+)?`;

/** The kernels that can be asked for. */
export type KernelName = '5.10' | '6.1' | '6.12' | '6.12-16k' | '7' | 'debug';

const sources: Readonly<Record<KernelName, KernelSource>> = {
  '5.10': debian({ architectures: ['amd64', 'arm64'], version: String.raw`5\.10\.0-[0-9]+` }),
  '6.1': debian({ architectures: ['amd64', 'arm64'], version: String.raw`6\.1\.0-[0-9]+` }),
  '6.12': debian({ architectures, version: version612, ...trixie }),
  // Pages of 16 KiB.
  '6.12-16k': debian({ architectures: ['arm64'], version: version612, flavour: '-16k', ...trixie }),
  // Whatever is the newest in trixie's backports.
  '7': debian({
    architectures: ['amd64', 'arm64'],
    version: String.raw`7\.[0-9]+\.[0-9]+\+deb13(\.[0-9]+)?`,
    ...trixie,
  }),
  // One that is built here, to find mistakes. It has a room of its own: its build would keep others waiting.
  debug: {
    architectures: ['amd64'],
    room: 'debug-kernels',
    key: async (_name, arch) => `${arch}-${await debugKernelKey()}`,
    make: buildDebugKernel,
    demands: debugDemands,
  },
};

/** The kernels that {@link fetchKernel} knows, oldest first. */
export const kernelNames = Object.keys(sources).sort(byVersion) as KernelName[];

/** The kernels that there are for an architecture. */
export function kernelsFor(arch: Arch): KernelName[] {
  return kernelNames.filter((name) => sources[name].architectures.includes(arch));
}

/** The kernel where none is asked for: that of Debian 12, or the first that the architecture has. */
export function defaultKernel(arch: Arch): KernelName {
  const known = kernelsFor(arch);
  return known.includes('6.1') ? '6.1' : (known[0] as KernelName);
}

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
  demands?: KernelDemands;
}

/** The parts of a kernel that has been unpacked to `directory`. */
async function kernelAt(directory: string, name: KernelName, arch: Arch): Promise<Kernel> {
  const [release = ''] = await readdir(join(directory, 'lib/modules'));
  const { demands } = sources[name];
  return {
    name,
    arch,
    release,
    directory,
    image: join(directory, 'boot', `vmlinuz-${release}`),
    modules: join(directory, 'lib/modules', release),
    headers: join(directory, 'usr/src', `linux-headers-${release}`),
    deviceTrees: join(directory, 'usr/lib', `linux-image-${release}`),
    ...(demands !== undefined && { demands }),
  };
}

/**
 * The kernel of that name, fetched from the Debian mirror where it is not in the cache yet: the newest release
 * at that time. The debug kernel is built from the newest source, which takes minutes.
 *
 * @throws TypeError with code `ERR_INVALID_ARG_VALUE` where there is none for that architecture; LabError with code
 * `ERR_IOSPACE_LAB_MISSING` where it is not to be had
 */
export async function fetchKernel(name: KernelName, arch: Arch, options: FetchOptions = {}): Promise<Kernel> {
  if (!kernelsFor(arch).includes(name)) {
    throw wrongValue(`the kernel of ${arch}`, `one of ${kernelsFor(arch).join(', ')}`, name);
  }
  const { room, key, make } = sources[name];
  const fill = (directory: string) => make(directory, arch, options);
  return kernelAt(await cached(room, await key(name, arch), fill, options.signal), name, arch);
}

/** The kernels that are in the cache. */
export async function fetchedKernels(): Promise<Kernel[]> {
  const kernels: Kernel[] = [];
  for (const name of kernelNames) {
    const { architectures: known, room, key } = sources[name];
    for (const arch of known) {
      const directory = join(cacheRoom(room), await key(name, arch));
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
