/**
 * Debian packages by name, through apt with a root of its own inside the cache: it knows more releases and
 * architectures than this system, needs no privilege, and changes nothing on it. The mirror and the proxies are
 * those of this system.
 *
 * @module
 */

import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached, cacheRoom, exists, withLock } from './cache.js';
import { LabError } from './errors.js';
import { contentKey } from './sources.js';
import { type ToolOptions, throwIfAborted, tool } from './tools.js';

const releases = ['bullseye', 'bookworm', 'trixie'];
/** Bullseye's backports are closed. */
const backports = ['bookworm', 'trixie'];
/** The first that has riscv64. What it has there is all that the lab needs for it. */
const riscvRelease = 'trixie';

/** Debian's keys, under the names that Debian 12 and 13 give them. */
const keyrings = ['archive-keyring', 'archive-removed-keys']
  .flatMap((name) => ['gpg', 'pgp'].map((suffix) => `/usr/share/keyrings/debian-${name}.${suffix}`))
  .filter((path) => existsSync(path));

export interface FetchOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((message: string) => void) | undefined;
}

interface Mirrors {
  main: string;
  security: string | undefined;
}

/** Where this system gets its packages from. */
async function systemMirrors(): Promise<Mirrors> {
  const format = '$(REPO_URI) $(ORIGIN) $(LABEL)';
  const targets = (await tool('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'])).split(
    '\n',
  );
  const find = (label: string) => targets.find((line) => line.endsWith(` Debian ${label}`))?.split(' ')[0];
  const main = find('Debian');
  if (main === undefined) {
    throw new LabError(
      'ERR_IOSPACE_LAB_MISSING',
      'apt knows no Debian mirror; the lab needs one in /etc/apt/sources.list, and `apt-get update` to have run once',
    );
  }
  return { main, security: find('Debian-Security') };
}

function sourcesList({ main, security }: Mirrors): string {
  const line = (mirror: string, suite: string) => {
    const riscv = suite === riscvRelease ? ',riscv64' : '';
    return `deb [arch=amd64,arm64${riscv} signed-by=${keyrings.join(',')}] ${mirror} ${suite} main\n`;
  };
  return [
    ...releases.map((release) => line(main, release)),
    ...backports.map((release) => line(main, `${release}-backports`)),
    ...(security === undefined ? [] : releases.map((release) => line(security, `${release}-security`))),
  ].join('');
}

/** This system's proxies and how patient its apt is; the rest of its configuration stays out. */
async function systemAcquire(): Promise<string[]> {
  const settings = (await tool('apt-config', ['dump', 'Acquire'])).split('\n');
  return settings.filter((line) => /^Acquire::(?:https?|Retries|ForceIPv[46])\b/.test(line));
}

/** The configuration of the private apt, whose files lie below `root`. */
function aptConfiguration(root: string, acquire: readonly string[]): string {
  return [
    ...acquire,
    `Dir::Etc "${root}/etc";`,
    // Where a mirror wants a password, it is this system's.
    'Dir::Etc::netrc "/etc/apt/auth.conf";',
    'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";',
    `Dir::State "${root}";`,
    `Dir::State::status "${root}/status";`,
    `Dir::Cache "${root}";`,
    // A copy of its other cache, for sources that change often.
    'Dir::Cache::srcpkgcache "";',
    'APT::Architecture "amd64";',
    'APT::Architectures { "amd64"; "arm64"; "riscv64"; };',
    // The user _apt could not reach a cache below /root.
    'APT::Sandbox::User "root";',
    'Acquire::Languages "none";',
    // Unpacked the lists are five times as large.
    'Acquire::GzipIndexes "true";',
    '',
  ].join('\n');
}

/** Makes the private root of apt anew where this system's mirror or proxy has changed; returns what selects it. */
async function aptEnvironment(): Promise<{ APT_CONFIG: string }> {
  const sources = sourcesList(await systemMirrors());
  const acquire = await systemAcquire();
  const root = join(cacheRoom('apt'), await contentKey([], [sources, aptConfiguration('', acquire)]));
  const configuration = join(root, 'apt.conf');
  if (!(await exists(configuration))) {
    await rm(cacheRoom('apt'), { recursive: true, force: true });
    for (const directory of ['etc/apt.conf.d', 'etc/preferences.d', 'lists/partial', 'archives/partial']) {
      await mkdir(join(root, directory), { recursive: true });
    }
    await writeFile(join(root, 'etc/sources.list'), sources);
    await writeFile(join(root, 'status'), '');
    await writeFile(configuration, aptConfiguration(root, acquire));
  }
  return { APT_CONFIG: configuration };
}

const aptFailure = 'ERR_IOSPACE_LAB_MISSING';

/** Whether this process has asked the mirror what it has: once is enough. */
let isUpdated = false;

async function update(env: { APT_CONFIG: string }, { signal, onProgress }: FetchOptions): Promise<void> {
  onProgress?.("fetching Debian's package lists");
  await tool('apt-get', ['update', '-qq'], { env, signal, failure: aptFailure });
  isUpdated = true;
}

/**
 * The names of the packages that match a regular expression (apt's: POSIX extended).
 *
 * Asks the mirror only if nothing matches in the lists that are already here.
 */
export function findPackages(pattern: string, options: FetchOptions = {}): Promise<string[]> {
  const find = async () => {
    const env = await aptEnvironment();
    const search = async () => {
      const found = await tool('apt-cache', ['search', '--names-only', pattern], {
        env,
        signal: options.signal,
      });
      return found.split('\n').flatMap((line) => line.split(' - ')[0] || []);
    };
    const known = await search();
    if (known.length > 0) {
      return known;
    }
    await update(env, options);
    return search();
  };
  return withLock('apt', find, options.signal);
}

/** Whether a download failed because the mirror lists what it does not hold, or not any more. */
export function isGone(error: unknown): boolean {
  return error instanceof LabError && /\b404\b/.test(error.message);
}

/**
 * Fetches packages and unpacks them into one directory.
 *
 * @param names - as `apt-get download` takes them: `linux-kbuild-6.1`, `busybox-static:arm64`
 */
export async function unpackPackages(
  names: readonly string[],
  directory: string,
  options: FetchOptions = {},
): Promise<void> {
  options.onProgress?.(`fetching ${names.join(', ')}`);
  const unpack = async () => {
    const env = await aptEnvironment();
    const downloads = await mkdtemp(join(cacheRoom('apt'), 'download-'));
    const how: ToolOptions = { cwd: downloads, env, signal: options.signal, failure: aptFailure };
    const download = () => tool('apt-get', ['download', '-qq', ...names], how);
    try {
      // The lists may be older than what the mirror still has.
      await download().catch(async (error: unknown) => {
        throwIfAborted(options.signal);
        if (isUpdated) {
          throw error;
        }
        await update(env, options).catch(() => Promise.reject(error));
        await download();
      });
      for (const file of (await readdir(downloads)).sort()) {
        await tool('dpkg', ['-x', join(downloads, file), directory], { signal: options.signal });
      }
    } finally {
      await rm(downloads, { recursive: true, force: true });
    }
  };
  await withLock('apt', unpack, options.signal);
}

/** The directory of one unpacked package, fetched once. */
export function unpackedPackage(name: string, options: FetchOptions = {}): Promise<string> {
  return cached('packages', name, (path) => unpackPackages([name], path, options), options.signal);
}
