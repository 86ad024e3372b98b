/**
 * Node.js for the guest, from npm.
 *
 * @module
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cached } from './cache.js';
import type { Arch } from './kernels.js';
import type { FetchOptions } from './packages.js';
import { nodeArch, toolPrefix } from './toolchain.js';
import { tool } from './tools.js';

/** The last version of each major that npm has for both architectures' packages. */
const versions = {
  20: { amd64: '20.20.2', arm64: '20.20.2' },
  22: { amd64: '22.23.3', arm64: '22.23.3' },
  24: { amd64: '24.21.0', arm64: '24.22.0' },
  26: { amd64: '26.10.0', arm64: '26.12.0' },
} as const;

export type NodeMajor = keyof typeof versions;

/** The majors that {@link fetchNode} knows. */
export const nodeMajors = Object.keys(versions).map(Number) as NodeMajor[];

/** The major of the Node that runs this, or the newest that the lab has where it has not that one. */
export function defaultNodeMajor(): NodeMajor {
  const own = Number.parseInt(process.versions.node, 10);
  return nodeMajors.find((major) => major === own) ?? (nodeMajors.at(-1) as NodeMajor);
}

/**
 * The `node` program of that major, without debugging symbols, fetched where it is not in the cache yet.
 *
 * @returns its path
 */
export async function fetchNode(
  major: NodeMajor,
  arch: Arch,
  { signal, onProgress }: FetchOptions = {},
): Promise<string> {
  const version = versions[major][arch];
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
  const entry = await cached('node', `${version}-${arch}`, fetch, signal);
  return join(entry, 'node');
}
