/**
 * The cache: what is fetched or built once and used again. Each entry is a directory that is named by what
 * made it, appears whole or not at all, and never changes afterwards, so processes share it without asking.
 *
 * @module
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, mkdtemp, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { missingTool, throwIfAborted } from './tools.js';

/** The rooms of the cache: one directory and one lock each. That of apt is arranged by apt. */
const cacheKinds = ['apt', 'packages', 'kernels', 'debug-kernels', 'modules', 'node', 'images'] as const;
export type CacheKind = (typeof cacheKinds)[number];

/** The directory of the cache: `$XDG_CACHE_HOME/iospace`, else `~/.cache/iospace`. */
export function cacheDirectory(): string {
  const base = process.env['XDG_CACHE_HOME'];
  return join(base !== undefined && isAbsolute(base) ? base : join(homedir(), '.cache'), 'iospace');
}

/** The directory of one room. */
export function cacheRoom(kind: CacheKind): string {
  return join(cacheDirectory(), kind);
}

export function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/**
 * Runs `body` while holding the lock of a room, against other processes and other calls in this one. The lock
 * is `flock`'s, held by a child whose stdin we keep open: however this process ends, the lock is released.
 *
 * @param signal - ends the waiting; the call then rejects with an AbortError. What `body` does is its own affair
 */
export async function withLock<T>(kind: CacheKind, body: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  await mkdir(cacheDirectory(), { recursive: true });
  const holder = spawn('flock', [join(cacheDirectory(), `${kind}.lock`), 'sh', '-c', 'echo; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    // A Ctrl-C at the terminal is for us; the lock is held until we are through.
    detached: true,
  });
  const ended = once(holder, 'exit');
  try {
    await Promise.race([
      once(holder.stdout, 'data', { signal }),
      ended.then(([code]) => {
        throw new Error(`flock ended with ${code} before it had the lock`);
      }),
    ]).catch((error: NodeJS.ErrnoException) => {
      holder.kill();
      throwIfAborted(signal);
      throw error.code === 'ENOENT' ? missingTool('flock', error) : error;
    });
    return await body();
  } finally {
    holder.stdin.end();
    await ended.catch(() => {});
  }
}

/** Every change of a source file leaves an entry in these rooms. */
const growing: readonly CacheKind[] = ['debug-kernels', 'images', 'modules'];
const unusedAfter = 7 * 24 * 3600 * 1000;

/** What begins with a dot is not finished. */
const isUnfinished = (name: string) => name.startsWith('.');

/**
 * Removes what killed makers left, and from a room that grows what has not been used for a week. Where a child
 * of a killed maker still writes, something may stay, until the next time.
 */
async function prune(kind: CacheKind): Promise<void> {
  for (const name of await readdir(cacheRoom(kind))) {
    const entry = join(cacheRoom(kind), name);
    const isOld = growing.includes(kind) && Date.now() - (await stat(entry)).mtimeMs > unusedAfter;
    if (isUnfinished(name) || isOld) {
      await rm(entry, { recursive: true, force: true }).catch(() => {});
    }
  }
}

/**
 * The directory of an entry; made first if it is not there.
 *
 * @param kind - the room
 * @param key - names everything that decides the content; letters that may stand in a file name
 * @param make - fills the directory it is given, which gets its name when all of it is there
 * @param signal - ends the waiting for another maker
 */
export async function cached(
  kind: CacheKind,
  key: string,
  make: (directory: string) => Promise<void>,
  signal?: AbortSignal,
): Promise<string> {
  const entry = join(cacheRoom(kind), key);
  if (await exists(entry)) {
    const now = new Date();
    await utimes(entry, now, now);
    return entry;
  }
  const makeEntry = async () => {
    if (await exists(entry)) {
      return entry;
    }
    await mkdir(cacheRoom(kind), { recursive: true });
    await prune(kind);
    // Of its own: what a killed maker had started may outlive it, and with it the lock.
    const unfinished = await mkdtemp(join(cacheRoom(kind), `.${key}-`));
    try {
      await make(unfinished);
      await rename(unfinished, entry);
    } catch (error) {
      await rm(unfinished, { recursive: true, force: true });
      throw error;
    }
    return entry;
  };
  return withLock(kind, makeEntry, signal);
}

/** An entry of the cache. */
export interface CacheEntry {
  kind: CacheKind;
  /** Its name in the room; empty for a room that is one entry. */
  name: string;
  path: string;
  /** What it occupies on the disk, in bytes. */
  byteLength: number;
}

async function occupied(path: string): Promise<number> {
  const entries = await readdir(path, { withFileTypes: true, recursive: true });
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map(async (entry) => (await stat(join(entry.parentPath, entry.name))).blocks * 512),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** What is in the cache. */
export async function listCache(): Promise<CacheEntry[]> {
  const entries: CacheEntry[] = [];
  for (const kind of cacheKinds) {
    const room = cacheRoom(kind);
    if (!(await exists(room))) {
      continue;
    }
    const finished = (await readdir(room)).filter((name) => !isUnfinished(name)).sort();
    for (const name of kind === 'apt' ? [''] : finished) {
      const path = join(room, name);
      entries.push({ kind, name, path, byteLength: await occupied(path) });
    }
  }
  return entries;
}

/**
 * Removes everything from the cache. A boot in progress may fail for it, and machines that run and mount their
 * kernel's modules load no more of them.
 */
export async function cleanCache(): Promise<void> {
  for (const kind of cacheKinds) {
    if (await exists(cacheRoom(kind))) {
      await withLock(kind, () => rm(cacheRoom(kind), { recursive: true, force: true }));
    }
  }
}
