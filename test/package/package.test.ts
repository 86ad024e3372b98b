/**
 * Installs what would be published into an empty project, and uses it as its user would.
 *
 * Needs the npm registry for the dependencies, and a compiler for the addon.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const require = createRequire(import.meta.url);
const subPaths = ['iospace', 'iospace/shm', 'iospace/cache', 'iospace/bits', 'iospace/raw', 'iospace/lab'];

let project: string;

/** Runs Node in the project; `source` is a module, or CommonJS where `--input-type=commonjs` says so. */
function node(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  return run(process.execPath, args, { cwd: project });
}

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'iospace-package-'));
  await run('npm', ['pack', '--ignore-scripts', '--pack-destination', project], { cwd: root });
  const tarball = (await readdir(project)).find((name) => name.endsWith('.tgz'));
  await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'user', private: true }));
  await run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', `./${tarball}`], {
    cwd: project,
  });
}, 300_000);
afterAll(() => rm(project, { recursive: true, force: true }));

describe.each(subPaths)('%s', (subPath) => {
  test('can be imported', async () => {
    await node('--input-type=module', '-e', `await import('${subPath}')`);
  });
  test('can be required, silently', async () => {
    const { stderr } = await node('--input-type=commonjs', '-e', `require('${subPath}')`);
    expect(stderr).toBe('');
  });
});

test('type-checks in a strict project', async () => {
  const source = `
    import { DmaDevice, type DeviceInfo, listDevices } from 'iospace';
    import { CountingEvent, fds, futex, memfd, Mutex, posix, Ring, type RingConsumer, sysv } from 'iospace/shm';
    import { clean, copyFrom } from 'iospace/cache';
    import { findNextZeroBit, hammingDistance } from 'iospace/bits';
    import { mmap } from 'iospace/raw';
    import { Machine } from 'iospace/lab';
    export const infos: DeviceInfo[] = listDevices();
    export const address: bigint = DmaDevice.open('iospace0').alloc(4096).dmaAddress;
    export const counts: number[] = [findNextZeroBit(new Uint32Array(2)), hammingDistance('toned', 'roses')];
    export const names = [clean, copyFrom, posix.list, fds.send, mmap, Machine.boot, futex.wake, Mutex, CountingEvent, memfd.create, sysv.get];
    export const consume = (ring: Int32Array): RingConsumer => Ring.consumer(ring);
  `;
  await writeFile(join(project, 'user.mts'), source);
  const options = [
    '--strict',
    '--noEmit',
    '--module',
    'nodenext',
    '--target',
    'es2022',
    '--lib',
    'es2022,esnext.disposable',
  ];
  const types = ['--types', 'node', '--typeRoots', join(root, 'node_modules/@types')];
  await node(require.resolve('typescript/bin/tsc'), ...options, ...types, 'user.mts');
});

const guides = (await readdir(join(root, 'docs')))
  .filter((page) => page.endsWith('.md'))
  .map((page) => `docs/${page}`);

test.each(['README.md', 'CONTRIBUTING.md', ...guides])('%s: what it links to is there', async (page) => {
  const directory = join(project, 'node_modules/iospace');
  const text = await readFile(join(directory, page), 'utf8');
  const links = [...text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, link = '']) => link);
  const missing = links.filter((link) => !existsSync(join(directory, dirname(page), link)));
  expect(missing).toEqual([]);
});

test('a missing addon says so at first use, and how to build it', async () => {
  const open = `import { DmaDevice } from 'iospace'; DmaDevice.open({ provider: 'memfd' })`;
  await expect(node('--input-type=module', '-e', open)).rejects.toThrow(
    /ERR_IOSPACE_ADDON[\s\S]*npx iospace build|npx iospace build[\s\S]*ERR_IOSPACE_ADDON/,
  );
});

test('npx iospace build builds the addon, and memory can be had', async () => {
  await run('npx', ['--no-install', 'iospace', 'build'], { cwd: project });
  const program = `
    import { DmaDevice } from 'iospace';
    const device = DmaDevice.open({ provider: 'memfd' });
    const buffer = device.alloc(4096);
    buffer.bytes.fill(7);
    console.log(buffer.bytes[4095]);
  `;
  const { stdout } = await node('--input-type=module', '-e', program);
  expect(stdout).toBe('7\n');
});

test('npx iospace bench measures, and its report needs no package more', async () => {
  const options = ['--provider', 'memfd', '--quick', '--filter', 'js-fill,4K', '--report', 'report.html'];
  await run('npx', ['--no-install', 'iospace', 'bench', ...options], { cwd: project });
  const page = await readFile(join(project, 'report.html'), 'utf8');
  expect(page.includes('Licensed to the Apache Software Foundation')).toBe(true);
  const beside = await readdir(join(project, 'node_modules/iospace/dist/bench/page'));
  expect(beside).toEqual(expect.arrayContaining(['echarts.LICENSE', 'echarts.NOTICE', 'zrender.LICENSE']));
  expect(existsSync(join(project, 'node_modules/echarts'))).toBe(false);
});

test('publint has nothing to say', async () => {
  await run('npx', ['--no-install', 'publint', '--strict'], { cwd: root });
});
