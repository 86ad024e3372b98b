/**
 * Builds the addon: for this machine with node-gyp, for another architecture with cmake-js.
 *
 * @module
 */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { packageRoot } from '../package-root.js';
import { withLock } from './cache.js';
import type { Arch } from './kernels.js';
import type { FetchOptions } from './packages.js';
import { contentKey, directoryKey } from './sources.js';
import { nodeArch } from './toolchain.js';
import { tool } from './tools.js';

const require = createRequire(import.meta.url);

/** Where the loader looks for the addon of an architecture, by Node's name. */
function addonPath(arch: string): string {
  const place = arch === process.arch ? 'build/Release' : `prebuilds/linux-${arch}`;
  return join(packageRoot(), place, 'iospace.node');
}

async function sourcesKey(arch: string): Promise<string> {
  const uapi = await directoryKey(join(packageRoot(), 'kernel-module/uapi'));
  const native = await directoryKey(join(packageRoot(), 'native'));
  return contentKey([join(packageRoot(), 'binding.gyp')], [arch, uapi, native]);
}

/** The headers that came with this Node, where they did; node-gyp would fetch them. */
function nodeHeaders(): string[] {
  const prefix = resolve(dirname(process.execPath), '..');
  return existsSync(join(prefix, 'include/node/node_api.h')) ? [`--nodedir=${prefix}`] : [];
}

/** Builds the addon of this machine. `rebuild` would clear `build`, where more is than the addon. */
async function buildNative(signal: AbortSignal | undefined): Promise<void> {
  const nodeGyp = require.resolve('node-gyp/bin/node-gyp.js');
  await tool(process.execPath, [nodeGyp, 'configure', 'build', ...nodeHeaders()], {
    cwd: packageRoot(),
    signal,
    mayOutlive: true,
  });
}

/** Builds the addon of another machine. */
async function buildCross(arch: Arch, signal: AbortSignal | undefined): Promise<void> {
  const out = join(packageRoot(), 'build', arch);
  const toolchain = join(packageRoot(), 'native/toolchains', `${arch}.cmake`);
  const places = ['--directory', join(packageRoot(), 'native'), '--out', out];
  const target = ['--arch', arch, `--CDCMAKE_TOOLCHAIN_FILE=${toolchain}`];
  await tool('cmake', ['--version'], { signal });
  const cmakeJs = require.resolve('cmake-js/bin/cmake-js');
  await tool(process.execPath, [cmakeJs, 'rebuild', ...places, ...target], { cwd: packageRoot(), signal });
  const addon = addonPath(nodeArch[arch]);
  await mkdir(dirname(addon), { recursive: true });
  await copyFile(join(out, 'iospace.node'), addon);
}

/**
 * Makes sure that the addon for an architecture is there and belongs to these sources; builds it where not.
 *
 * @param arch - that of a machine of the lab, or undefined for the one that runs this, whichever it is
 * @returns the path of `iospace.node`
 * @throws LabError with code `ERR_IOSPACE_LAB_BUILD` and the compiler's messages
 */
export async function buildAddon(
  arch: Arch | undefined,
  { signal, onProgress }: FetchOptions = {},
): Promise<string> {
  const target = arch === undefined ? process.arch : nodeArch[arch];
  const addon = addonPath(target);
  const mark = join(dirname(addon), 'iospace.sources');
  const key = await sourcesKey(target);
  const isBuilt = async () => existsSync(addon) && (await readFile(mark, 'utf8').catch(() => '')) === key;
  if (await isBuilt()) {
    return addon;
  }
  const build = async () => {
    if (!(await isBuilt())) {
      onProgress?.(`building the addon for ${target}`);
      await (arch === undefined || target === process.arch ? buildNative(signal) : buildCross(arch, signal));
      await writeFile(mark, key);
    }
    return addon;
  };
  return withLock('modules', build, signal);
}
