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
  const room = join(home, 'iospace/images');
  await mkdir(join(room, '.key-abcdef'), { recursive: true });
  await writeFile(join(room, '.key-abcdef/half'), '');
  expect(await readdir(await cached('images', 'key', maker('whole')))).toEqual(['file']);
  expect(await readdir(room)).toEqual(['key']);
});

test('makers have a directory each: what one started may outlive it', async () => {
  const given: string[] = [];
  const failing = async (directory: string) => {
    given.push(directory);
    throw new Error('no more');
  };
  await expect(cached('images', 'key', failing)).rejects.toThrow('no more');
  await expect(cached('images', 'key', failing)).rejects.toThrow('no more');
  expect(given[0]).not.toBe(given[1]);
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

test('who waits for a lock may give up; who holds it keeps it to the end', async () => {
  const abort = new AbortController();
  let end: (() => void) | undefined;
  const body = vi.fn(() => new Promise<void>((resolve) => (end = resolve)));
  const holding = withLock('apt', body, abort.signal);
  await vi.waitFor(() => expect(body).toHaveBeenCalled());
  const second = expect(cached('apt', 'key', maker(''), abort.signal)).rejects;
  abort.abort('enough');
  await second.toMatchObject({ code: 'ABORT_ERR', cause: 'enough' });
  const third = vi.fn(async () => {});
  const waiting = withLock('apt', third);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(third).not.toHaveBeenCalled();
  end?.();
  await Promise.all([holding, waiting]);
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
