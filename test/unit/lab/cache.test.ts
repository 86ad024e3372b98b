import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { cacheDirectory, cached, cleanCache, listCache, withLock } from '../../../lib/lab/cache.js';

let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'iospace-cache-'));
  vi.stubEnv('XDG_CACHE_HOME', home);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true });
});

/** Makes an entry of one file. */
const maker = (text: string) => (directory: string) => writeFile(join(directory, 'file'), text);

test('the directory follows XDG, which wants it absolute', () => {
  expect(cacheDirectory()).toBe(join(home, 'iospace'));
  vi.stubEnv('XDG_CACHE_HOME', 'relative');
  vi.stubEnv('HOME', '/home/user');
  expect(cacheDirectory()).toBe('/home/user/.cache/iospace');
});

test('an entry is made once', async () => {
  const make = vi.fn(maker('content'));
  const entries = await Promise.all([cached('images', 'key', make), cached('images', 'key', make)]);
  expect(make).toHaveBeenCalledTimes(1);
  expect(entries[0]).toBe(entries[1]);
  expect(await readFile(join(entries[0], 'file'), 'utf8')).toBe('content');
});

test('an entry that could not be made is not there', async () => {
  const failing = async (directory: string) => {
    await maker('half')(directory);
    throw new Error('no more');
  };
  await expect(cached('images', 'key', failing)).rejects.toThrow('no more');
  expect(await listCache()).toEqual([]);
  await cached('images', 'key', maker('whole'));
  expect((await listCache()).map(({ kind, name }) => [kind, name])).toEqual([['images', 'key']]);
});

test('what a killed maker left is no part of the next one', async () => {
  const leftover = join(home, 'iospace/images/.key');
  await mkdir(leftover, { recursive: true });
  await writeFile(join(leftover, 'half'), '');
  expect(await readdir(await cached('images', 'key', maker('whole')))).toEqual(['file']);
});

test('what grows with every change is forgotten after a week without use', async () => {
  const old = await cached('modules', 'old', maker(''));
  const kernel = await cached('kernels', 'old', maker(''));
  const longAgo = new Date(Date.now() - 8 * 24 * 3600 * 1000);
  await utimes(old, longAgo, longAgo);
  await utimes(kernel, longAgo, longAgo);
  await cached('modules', 'new', maker(''));
  expect((await listCache()).map(({ kind, name }) => `${kind}/${name}`)).toEqual([
    'kernels/old',
    'modules/new',
  ]);
});

test('a lock is held by one at a time', async () => {
  let holders = 0;
  const body = async () => {
    expect(++holders).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 20));
    holders--;
  };
  await Promise.all([withLock('apt', body), withLock('apt', body), withLock('apt', body)]);
});

test('a lock is released when its holder fails', async () => {
  await expect(withLock('apt', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  await expect(withLock('apt', async () => 'held')).resolves.toBe('held');
});

test('cleaning removes every entry', async () => {
  await cached('kernels', 'one', maker(''));
  await cached('node', 'two', maker(''));
  await cleanCache();
  expect(await listCache()).toEqual([]);
});
