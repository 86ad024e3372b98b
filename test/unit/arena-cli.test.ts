/** `iospace arena`: what it prints; and, as a program of its own, what it does. Needs `npm run build`. */
import { execFile } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readSync,
  rmSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Arena } from '../../lib/arena/arena.js';
import type { ArenaStats } from '../../lib/arena/stats.js';
import {
  type ArenaMap,
  cellsFor,
  cellsWith,
  differencesText,
  isUnicode,
  type ListedArena,
  listText,
  mapText,
  shareText,
  statsText,
  sweepable,
  sweptText,
} from '../../lib/cli/arena-text.js';
import { sizeText } from '../../lib/size-text.js';
import { runChild } from './child.js';

const KiB = 1024;
const MiB = 1024 * KiB;

const frames = { name: 'frames', backing: 'shm' as const, byteLength: 64 * MiB, granule: 4096 };
const stats: ArenaStats = {
  byteLength: 64 * MiB,
  used: 12.5 * MiB,
  free: 51.5 * MiB,
  longestFree: 48 * MiB,
  fragmentation: 3.5 / 51.5,
  blocks: 17,
  mostUsed: 20 * MiB,
  byTag: [
    { tag: 'frames', blocks: 16, bytes: 12 * MiB },
    { tag: '', blocks: 1, bytes: 512 * KiB },
  ],
  byOwner: [
    { owner: 0, pid: 4242, threadId: 4242, program: 'camera.js', alive: true, blocks: 14, bytes: 9 * MiB },
    { owner: 1, pid: 17, threadId: 17, program: 'encoder', alive: false, blocks: 3, bytes: 3.5 * MiB },
    { owner: 2, pid: 18, threadId: 21, program: 'encoder', alive: false, blocks: 0, bytes: 0 },
  ],
};

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1 KiB'],
  [1536, '1.5 KiB'],
  [64 * MiB, '64 MiB'],
  [64 * 1024 * MiB - 4096, '64 GiB'],
  [2 ** 42, '4 TiB'],
  [2 ** 52, '4096 TiB'],
])('%d bytes are %s', (bytes, text) => {
  expect(sizeText(bytes)).toBe(text);
});

test.each([
  [0, '0 %'],
  [1e-9, '0.1 %'],
  [0.195, '19.5 %'],
  [1 - 1e-9, '99.9 %'],
  [1, '100 %'],
])('a share of %d is %s: only none is 0, only all is 100', (share, text) => {
  expect(shareText(share)).toBe(text);
});

describe('list', () => {
  test('no arenas: says how to have one', () => {
    expect(listText([])).toBe(
      'no arenas: none in /dev/shm (iospace arena create NAME --size 64M), and none of a module that you may open',
    );
  });

  test('one a line, the damaged one with its error', () => {
    const list: ListedArena[] = [
      { ...frames, stats },
      { ...frames, name: 'old', byteLength: 0, granule: 0, error: new Error('EBADMSG: bad message') },
      { name: 'module:0', backing: 'module', byteLength: 2 ** 30, granule: 0 },
    ];
    expect(`\n${listText(list)}\n`).toBe(`
name      backing    size      used  blocks  longest free  owners
frames    shm      64 MiB  12.5 MiB      17        48 MiB  1 alive, 2 dead
old       shm                                              EBADMSG: bad message
module:0  module    1 GiB                                  nobody has used it yet
`);
  });

  test('shows names that are commands of a terminal, and does not obey them', () => {
    const error = new Error('open \x1b[2J\n\x9b1m');
    const info: ListedArena = { name: 'a\x1b[31m\nb', backing: 'shm', byteLength: 0, granule: 0, error };
    const [, line, ...rest] = listText([info]).split('\n');
    expect(rest).toEqual([]);
    expect(line).toMatch(/^a\\x1b\[31m\\x0ab .* open \\x1b\[2J\\x0a\\x9b1m$/);
  });
});

describe('stats', () => {
  test('the arena, by tag, by owner', () => {
    expect(`\n${statsText(frames, stats)}\n`).toBe(`
frames: shm, 64 MiB in granules of 4 KiB
  used              12.5 MiB  19.5 %, 17 blocks
  free              51.5 MiB  80.5 %
  longest free run    48 MiB
  fragmentation        6.8 %  of what is free lies outside of the longest run
  most ever used      20 MiB  31.3 %

tag     blocks     size
frames      16   12 MiB
(none)       1  512 KiB

owner   pid  program    state  blocks     size
    0  4242  camera.js  alive      14    9 MiB
    1    17  encoder    dead        3  3.5 MiB
    2    18  encoder    dead        0      0 B
`);
  });

  test('without blocks there is no table of tags', () => {
    const empty = { ...stats, used: 0, free: 64 * MiB, blocks: 0, byTag: [], byOwner: [] };
    expect(statsText(frames, empty).split('\n')).toHaveLength(6);
  });
});

describe('map', () => {
  const small = { ...frames, byteLength: 24 * 4096 };
  const map = (cells: number[], more: Partial<ArenaMap> = {}): ArenaMap => ({ address: 0n, cells, ...more });

  test('rows of cells with their addresses, and a legend', () => {
    const cells = [1, 1, 0.999, 0.67, 0.5, 0.3, 0.001, 0, ...Array(16).fill(0)];
    expect(`\n${mapText(small, map(cells), { columns: 20, ascii: false })}\n`).toBe(`
frames: shm, 96 KiB in granules of 4 KiB; each sign is 4 KiB
0x00000000 ██▓▓▒░░·
0x00008000 ········
0x00010000 ········
· free  ░ up to a third used  ▒ up to two thirds  ▓ more  █ all
`);
  });

  test('in ASCII, from a physical address above 4 GiB', () => {
    const text = mapText(small, map(Array(24).fill(0.5), { address: 0x12_0000_0000n }), {
      columns: 24,
      ascii: true,
    });
    expect(text.split('\n').slice(1, 4)).toEqual([
      '0x1200000000 ++++++++',
      '0x1200008000 ++++++++',
      '0x1200010000 ++++++++',
    ]);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what ASCII is
    expect(text).toMatch(/^[\x00-\x7f]*$/);
  });

  test('no line is longer than the terminal, whatever the arena', () => {
    for (const columns of [24, 79, 80, 81, 132, 211]) {
      for (const byteLength of [4096, 64 * MiB, 64 * 1024 * MiB, 3 * 4096 * 1009]) {
        for (const address of [0n, 0x8_4000_0000n]) {
          const arena = { ...frames, byteLength };
          const cells = cellsFor(arena, address, columns);
          const rows = mapText(arena, map(Array(cells).fill(1), { address }), { columns, ascii: true })
            .split('\n')
            .slice(1, -1);
          expect(rows.length).toBeLessThanOrEqual(16);
          expect(Math.max(...rows.map((row) => row.length))).toBeLessThanOrEqual(columns);
          expect(cells === byteLength / 4096 || rows.length >= 8, `${cells} cells`).toBe(true);
        }
      }
    }
  });

  test('parts that do not come out even begin where they do, and are called about', () => {
    const arena = { ...frames, byteLength: 4096 * 33 };
    const text = mapText(arena, map(Array(11 * 2).fill(1)), { columns: 20, ascii: true }).split('\n');
    expect(text[0]).toMatch(/each sign is about 6 KiB$/);
    expect(text.slice(1, 4).map((row) => row.slice(0, 10))).toEqual([
      '0x00000000',
      '0x0000c000',
      '0x00018000',
    ]);
  });

  test('cells in which a block lies, whole or in part', () => {
    const blocks = [
      { offset: 0, byteLength: 1 },
      { offset: 8191, byteLength: 2 },
      { offset: 12288, byteLength: 4096 },
    ];
    expect(cellsWith(blocks, 6 * 4096, 6)).toEqual([true, true, true, true, false, false]);
    expect(cellsWith(blocks, 6 * 4096, 1)).toEqual([true]);
  });

  test('by owner: what is used is green, red where a block of a dead one lies, and nothing else', () => {
    const text = mapText({ ...small, byteLength: 3 * 4096 }, map([1, 1, 0], { dead: [false, true, true] }), {
      columns: 80,
      ascii: false,
    });
    const [green, red, end] = ['\x1b[32m', '\x1b[31m', '\x1b[39m'];
    expect(text.split('\n')[1]).toBe(`0x00000000 ${green}█${end}${red}█${end}·`);
    expect(text.split('\n').at(-1)).toBe(`${green}of living owners${end}  ${red}some of a dead owner${end}`);
  });
});

test.each([
  [{ LANG: 'de_DE.UTF-8' }, true],
  [{ LANG: 'C.utf8' }, true],
  [{ LANG: 'C' }, false],
  [{ LANG: 'en_GB.UTF-8', LC_CTYPE: 'C' }, false],
  [{ LANG: 'C', LC_ALL: 'C.UTF-8', LC_CTYPE: 'POSIX' }, true],
  [{ LANG: 'C.UTF-8', LC_ALL: '' }, true],
  [{}, false],
])('of the locale %o: Unicode is %s', (environment, expected) => {
  expect(isUnicode(environment)).toBe(expected);
});

test('check: nothing, or each difference', () => {
  expect(differencesText('frames', [])).toBe('frames: sound');
  const differences = [
    { part: 'tree', count: 3, index: 17, expected: 0n, found: 2n ** 63n },
    { part: 'counts', count: 1, index: 0, expected: 5n, found: 4n },
  ];
  expect(differencesText('frames', differences).split('\n')).toEqual([
    'frames: tree: 3 differences, the first at 17: expected 0x0, found 0x8000000000000000',
    'frames: counts: 1 difference, the first at 0: expected 0x5, found 0x4',
  ]);
});

test('sweep: what it would give back, of those who had blocks', () => {
  expect(sweptText(sweepable(stats))).toBe('3 blocks (3.5 MiB) of 1 dead owner');
  expect(sweepable({ ...stats, byOwner: [] })).toEqual({ blocks: 0, bytes: 0, owners: 0 });
});

// Each is a few processes of Node.
describe('iospace arena', { timeout: 30_000 }, () => {
  const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
  let name: string;
  let path: string;
  let counter = 0;
  beforeEach(() => {
    name = `test-cli-${process.pid}-${counter++}`;
    path = `/dev/shm/iospace-arena.${name}`;
  });
  afterEach(() => rmSync(path, { force: true }));

  interface Ended {
    code: number;
    stdout: string;
    stderr: string;
  }

  /** Its stdout is a pipe; in a locale of UTF-8. */
  function iospace(
    args: readonly string[],
    { env = {}, uid }: { env?: NodeJS.ProcessEnv; uid?: number | undefined } = {},
  ): Promise<Ended> {
    return new Promise((resolve) => {
      execFile(
        process.execPath,
        [main, 'arena', ...args],
        { env: { ...process.env, LC_ALL: 'C.UTF-8', ...env }, ...(uid !== undefined && { uid }) },
        (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
      );
    });
  }

  const create = (byteLength = 4 * MiB): Arena => Arena.create({ name, byteLength });

  /** A process that allocates three blocks and is killed. */
  async function leaveThree(): Promise<void> {
    const { signal, stderr } = await runChild(`
      import { Arena } from './dist/index.js';
      Arena.attach('${name}').allocateMany(3, 8192, { tag: 'left' });
      process.kill(process.pid, 'SIGKILL');
    `);
    expect(signal, stderr).toBe('SIGKILL');
  }

  /** Overwrites bytes of the file, where the books are. */
  function overwrite(place: number, bytes: Uint8Array): void {
    const fd = openSync(path, 'r+');
    writeSync(fd, bytes, 0, bytes.length, place);
    closeSync(fd);
  }

  /** The only place among the first bytes of the file that has this number, as 64 bits. */
  function placeOf(number: bigint): number {
    const books = Buffer.alloc(2 * MiB);
    const fd = openSync(path, 'r');
    readSync(fd, books);
    closeSync(fd);
    const sought = Buffer.alloc(8);
    sought.writeBigUInt64LE(number);
    const place = books.indexOf(sought);
    expect([place >= 0, books.indexOf(sought, place + 1)]).toEqual([true, -1]);
    return place;
  }

  test('create makes an arena that others find, rm removes its name', async () => {
    expect(await iospace(['create', name, '--size', '3M', '--granule', '64KiB'])).toEqual({
      code: 0,
      stdout: `${name}: shm, 3 MiB in granules of 64 KiB\n`,
      stderr: '',
    });
    {
      using arena = Arena.attach(name);
      expect([arena.byteLength, arena.granule]).toEqual([3 * MiB, 64 * KiB]);
    }
    const again = await iospace(['create', name, '--size', '1M']);
    expect(again).toMatchObject({ code: 1, stderr: expect.stringMatching(/^iospace: EEXIST: .*\n$/) });
    expect(await iospace(['rm', name])).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(existsSync(path)).toBe(false);
  });

  test('create: a size that is none is refused', async () => {
    const sizes = ['0', '64X', '1.5M', '9999999T'];
    for (const { code, stderr } of await Promise.all(
      sizes.map((size) => iospace(['create', name, '--size', size])),
    )) {
      expect([code, existsSync(path)]).toEqual([1, false]);
      expect(stderr).toMatch(/is invalid\. expected a number of bytes, above 0: 67108864, or 64M\n$/);
    }
  });

  test('create: what the library refuses is said in its words', async () => {
    const { code, stderr } = await iospace(['create', name, '--size', '1M', '--granule', '100']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^iospace: expected a power of two from 64 .* for granule, got 100\n$/);
  });

  test('list, and nothing else said: all arenas, without our own looking', async () => {
    using arena = create();
    using _block = arena.allocate(MiB);
    await leaveThree();
    const { code, stdout } = await iospace([]);
    const row = stdout.split('\n').find((line) => line.startsWith(name)) ?? '';
    expect([code, row.split(/ {2,}/)]).toEqual([
      0,
      [name, 'shm', '4 MiB', '1 MiB', '4', '3 MiB', '1 alive, 1 dead'],
    ]);
    const listed = JSON.parse((await iospace(['list', '--json'])).stdout) as ListedArena[];
    expect(listed.find((info) => info.name === name)).toMatchObject({
      backing: 'shm',
      byteLength: 4 * MiB,
      granule: 4096,
      stats: { used: MiB + 6 * 4096, blocks: 4, byOwner: [{ alive: true }, { alive: false, blocks: 3 }] },
    });
  });

  test('stats', async () => {
    using arena = create();
    using _block = arena.allocate(MiB, { tag: 'frame' });
    await leaveThree();
    const { code, stdout } = await iospace(['stats', name]);
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^frame +1 +1 MiB$/m)]);
    expect(stdout).toMatch(new RegExp(`^ +\\d+ +${process.pid} .* alive +1 +1 MiB$`, 'm'));
    expect(stdout).toMatch(/^ +\d+ +\d+ .* dead +3 +24 KiB$/m);
    expect(JSON.parse((await iospace(['stats', name, '--json'])).stdout)).toMatchObject({
      byteLength: 4 * MiB,
      used: MiB + 6 * 4096,
      byTag: [
        { tag: 'frame', blocks: 1, bytes: MiB },
        { tag: 'left', blocks: 3, bytes: 6 * 4096 },
      ],
    });
  });

  test('map: what is used, 80 columns wide where there is no terminal', async () => {
    using arena = create();
    using _block = arena.allocate(MiB);
    const { code, stdout } = await iospace(['map', name]);
    const rows = stdout.split('\n').filter((line) => line.startsWith('0x'));
    expect([code, rows.length]).toEqual([0, 16]);
    expect(rows[3]).toBe(`0x000c0000 ${'█'.repeat(64)}`);
    expect(rows[4]).toBe(`0x00100000 ${'·'.repeat(64)}`);
    const plain = await iospace(['map', name], { env: { LC_ALL: 'C' } });
    expect(plain.stdout).toBe((await iospace(['map', name, '--ascii'])).stdout);
    expect(plain.stdout).toContain(`0x000c0000 ${'#'.repeat(64)}\n0x00100000 ${'.'.repeat(64)}\n`);
    const { cells, address } = JSON.parse((await iospace(['map', name, '--json'])).stdout);
    expect([address, cells]).toEqual(['0x0', [...Array(256).fill(1), ...Array(768).fill(0)]]);
  });

  test('dump: each block', async () => {
    using arena = create();
    const block = arena.allocate(5000, { tag: 'frame' });
    const { code, stdout } = await iospace(['dump', name]);
    expect([code, JSON.parse(stdout)]).toMatchObject([
      0,
      {
        name,
        stats: { byOwner: [{ owner: arena.owner, blocks: 1 }] },
        blocks: [{ offset: block.offset, byteLength: 8192, owner: arena.owner, tag: 'frame' }],
      },
    ]);
  });

  test('sweep gives back what dead owners had, and nothing of others', async () => {
    using arena = create();
    using _block = arena.allocate(MiB);
    await leaveThree();
    const swept = { code: 0, stdout: `${name}: gave back 3 blocks (24 KiB) of 1 dead owner\n`, stderr: '' };
    expect(await iospace(['sweep', name])).toEqual(swept);
    expect(arena.stats().blocks).toBe(1);
    const nothing = `${name}: nothing to give back: no dead owner has blocks\n`;
    expect(await iospace(['sweep', name])).toEqual({ code: 0, stdout: nothing, stderr: '' });
  });

  test('check: 0 if the books are sound, 1 if something differs', async () => {
    using arena = create(8 * MiB);
    const granules = 1237;
    using _block = arena.allocate(granules * 4096);
    // So that the most that was ever used is another number.
    arena.allocate(4096).free();
    expect(await iospace(['check', name])).toEqual({ code: 0, stdout: `${name}: sound\n`, stderr: '' });
    const place = placeOf(BigInt(granules));
    overwrite(place, Buffer.from([0]));
    const { code, stdout } = await iospace(['check', name]);
    expect([code, stdout]).toEqual([
      1,
      expect.stringMatching(/: \d+ differences?, the first at .*expected 0x4d5/),
    ]);
  });

  test('a name that there is not: each says so, and fails', async () => {
    const codes = { stats: 1, map: 1, check: 2, dump: 1, sweep: 1, rm: 1 };
    const ended = await Promise.all(
      Object.keys(codes).map(async (command) => ({ command, ...(await iospace([command, name])) })),
    );
    for (const { command, code, stdout, stderr } of ended) {
      expect([command, code, stdout]).toEqual([command, codes[command as keyof typeof codes], '']);
      expect(stderr).toMatch(
        new RegExp(`^iospace: ENOENT: .* '${path}': there is no arena '${name}' in shared memory.*\\n$`),
      );
    }
  });

  test('an arena that one may not open: said of it in the list, refused by the rest', async (context) => {
    create().close();
    const nobody = process.getuid?.() === 0 ? 65534 : undefined;
    if (nobody === undefined) {
      chmodSync(path, 0);
    } else if ((await iospace(['--help'], { uid: nobody })).code !== 0) {
      context.skip('we are root, and nobody cannot read this directory');
    }
    const [listed, refused] = await Promise.all([
      iospace(['list'], { uid: nobody }),
      iospace(['stats', name], { uid: nobody }),
    ]);
    expect(listed.stdout).toMatch(new RegExp(`^${name} +shm +EACCES: permission denied`, 'm'));
    expect(refused).toMatchObject({
      code: 1,
      stderr: `iospace: EACCES: permission denied, open '${path}'\n`,
    });
  });

  test("of the module's, where there is none", async () => {
    const { code, stderr } = await iospace(['stats', 'module:999']);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^iospace: E(NOENT|ACCES): .*\n$/)]);
    const removed = await iospace(['rm', 'module:0']);
    expect([removed.code, removed.stderr]).toEqual([
      1,
      expect.stringMatching(/^iospace: EOPNOTSUPP: .*as long as the module is\n$/),
    ]);
  });

  test('a damaged file: said of it in the list, refused by the rest, and removed', async () => {
    create().close();
    truncateSync(path, 4096);
    const listed = await iospace(['list']);
    expect(listed).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(new RegExp(`^${name} +shm +EBADMSG: .*damaged`, 'm')),
    });
    expect(await iospace(['check', name])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^iospace: EBADMSG: .*damaged.*\n$/),
    });
    const json = JSON.parse((await iospace(['list', '--json'])).stdout) as ListedArena[];
    expect(json.find((info) => info.name === name)?.error).toMatchObject({ code: 'EBADMSG' });
    expect(await iospace(['rm', name])).toMatchObject({ code: 0 });
  });

  test('no command of it: says which there are', async () => {
    const { code, stderr } = await iospace(['frobnicate']);
    expect([code, stderr]).toEqual([
      1,
      "error: unknown command 'frobnicate': expected one of list, stats, map, check, dump, sweep, create, rm\n",
    ]);
  });
});
