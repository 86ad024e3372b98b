/**
 * Node.js for the guest: from npm, and where npm has none, from Debian.
 *
 * @module
 */
import { readdir, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { wrongValue } from '../errors.js';
import { cached } from './cache.js';
import type { Arch } from './kernels.js';
import { type FetchOptions, unpackPackages } from './packages.js';
import { compilerLibrary, librariesOf, nodeArch, toolPrefix, triplets } from './toolchain.js';
import { tool } from './tools.js';

/** Of each major, the last version that npm has for an architecture; `debian` is what Debian 13 has. */
const versions = {
  20: { amd64: '20.20.2', arm64: '20.20.2', riscv64: 'debian' },
  22: { amd64: '22.23.3', arm64: '22.23.3' },
  24: { amd64: '24.21.0', arm64: '24.22.0' },
  26: { amd64: '26.10.0', arm64: '26.12.0' },
} as const;

export type NodeMajor = keyof typeof versions;

/** The majors that {@link fetchNode} knows, those for some architectures only included. */
export const nodeMajors = Object.keys(versions).map(Number) as NodeMajor[];

/** The majors that there are for an architecture. */
export function nodeMajorsFor(arch: Arch): NodeMajor[] {
  return nodeMajors.filter((major) => arch in versions[major]);
}

/**
 * A major that there is for an architecture.
 *
 * @throws TypeError with code `ERR_INVALID_ARG_VALUE` where there is none: callers of the library may ask for any
 */
export function checkNodeMajor(major: NodeMajor, arch: Arch): NodeMajor {
  const known = nodeMajorsFor(arch);
  if (!known.includes(major)) {
    throw wrongValue(`the Node of ${arch}`, `one of ${known.join(', ')}`, major);
  }
  return major;
}

/** The major of the Node that runs this, or the newest that the lab has where it has not that one. */
export function defaultNodeMajor(arch: Arch): NodeMajor {
  const own = Number.parseInt(process.versions.node, 10);
  const known = nodeMajorsFor(arch);
  return known.find((major) => major === own) ?? (known.at(-1) as NodeMajor);
}

/** What Node consists of in a guest. */
export interface GuestNode {
  /** The program. */
  program: string;
  /** The shared libraries that it needs, the loader included. */
  libraries: readonly string[];
  /** Scripts that it reads as it starts: where they stand in the guest, and where they are. */
  scripts: readonly { path: string; from: string }[];
}

/** Fetches the program of npm's package, without debugging symbols. The libraries are the compiler's. */
async function fromNpm(version: string, arch: Arch, options: FetchOptions): Promise<GuestNode> {
  const { signal, onProgress } = options;
  const fetch = async (directory: string) => {
    const name = `node-linux-${nodeArch[arch]}@${version}`;
    onProgress?.(`fetching ${name}`);
    const npm = ['pack', name, '--silent', '--pack-destination', directory];
    await tool('npm', npm, { signal, failure: 'ERR_IOSPACE_LAB_MISSING' });
    const [archive = ''] = await readdir(directory);
    const program = 'package/bin/node';
    await tool('bsdtar', ['-xf', archive, '--strip-components', '2', program], { cwd: directory, signal });
    await rm(join(directory, archive));
    await tool(`${toolPrefix(arch)}strip`, ['node'], { cwd: directory, signal });
  };
  const program = join(await cached('node', `${version}-${arch}`, fetch, signal), 'node');
  return { program, libraries: await librariesOf(program, arch, compilerLibrary(arch)), scripts: [] };
}

/** Debian 13's Node: the program, the libraries that belong to it, and the scripts that Debian keeps out of it. */
const debianNode = {
  libraries: [
    ...['nodejs', 'libnode115', 'libbrotli1', 'libc6', 'libcares2', 'libgcc-s1', 'libicu76', 'libnghttp2-14'],
    ...['libssl3t64', 'libstdc++6', 'libuv1t64', 'libzstd1', 'zlib1g'],
  ],
  scripts: ['node-acorn', 'node-cjs-module-lexer', 'node-minimatch', 'node-undici'],
};

async function fromDebian(arch: Arch, options: FetchOptions): Promise<GuestNode> {
  const fetch = (directory: string) => {
    const names = [...debianNode.libraries.map((name) => `${name}:${arch}`), ...debianNode.scripts];
    return unpackPackages(names, directory, options);
  };
  const tree = await cached('node', `debian-${arch}`, fetch, options.signal);
  const program = join(tree, 'usr/bin/node');
  const find = async (name: string) => join(tree, 'usr/lib', triplets[arch], name);
  const scripts = await readdir(join(tree, 'usr/share/nodejs'), { withFileTypes: true, recursive: true });
  return {
    program,
    libraries: await librariesOf(program, arch, find),
    scripts: scripts
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((from) => ({ path: relative(tree, from), from })),
  };
}

/** Node of that major, one of those that there are for the architecture, fetched where it is not in the cache yet. */
export async function fetchNode(
  major: NodeMajor,
  arch: Arch,
  options: FetchOptions = {},
): Promise<GuestNode> {
  const version = (versions[major] as Partial<Record<Arch, string>>)[arch] as string;
  return version === 'debian' ? fromDebian(arch, options) : fromNpm(version, arch, options);
}
