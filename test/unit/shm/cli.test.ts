/** `iospace shm`: what it prints; and, as a program of its own, what it does. Needs `npm run build`. */
import { type ChildProcess, execFile, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, closeSync, existsSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Arena } from '../../../lib/arena/arena.js';
import { bytes } from '../../../lib/cli/commands.js';
import { addShmCommands } from '../../../lib/cli/shm.js';
import { type Meaning, meanings } from '../../../lib/cli/shm-names.js';
import { HexDump, type ListedObject, listText, unseenText } from '../../../lib/cli/shm-text.js';
import { memfd, posix, Ring, sysv } from '../../../lib/shm/index.js';
import { startChild } from '../child.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

describe('the list', () => {
  const common = {
    byteLength: 4096,
    allocatedBytes: 4096,
    uid: 0,
    owner: 'root',
    mode: 0o600,
    head: undefined,
    holds: undefined,
  };
  const segment = {
    ...common,
    kind: 'sysv' as const,
    id: 5,
    name: 'sysv:5',
    key: 0,
    creatorUid: 0,
    creatorPid: 17,
    creatorAlive: false,
    attached: 0,
  };
  const object = { ...common, kind: 'posix' as const, name: '/frames', pids: [], attached: 0 };
  const all: ListedObject[] = [
    { ...object, pids: [4, 5], attached: 2, state: 'used', holds: 'ring', byteLength: 1 << 20 },
    { ...object, name: '/old', state: 'leaked', holds: 'arena', owner: '1234' },
    { ...object, name: '/theirs', state: 'unknown', mode: 0o4755 },
    { ...segment, key: 0x1050abc, state: 'leaked' },
    { ...segment, id: 6, name: 'sysv:6', key: -1, state: 'used', creatorAlive: true, attached: 3 },
    { ...segment, id: 7, name: 'sysv:7', state: 'unknown', creatorPid: 0 },
    {
      ...common,
      kind: 'memfd',
      name: 'memfd:12/3',
      label: 'a\x1b[31m\n\u202eb',
      pids: [12],
      seals: ['shrink', 'grow'],
      attached: 1,
      state: 'used',
    },
  ];

  test('one piece a line; names that are commands of a terminal are shown', () => {
    expect(`\n${listText(all, 0, false)}\n`).toBe(`
name         size  owner  mode  attached  creator    seals        key or label            holds  state
/frames     1 MiB  root   0600         2                                                  ring   used
/old        4 KiB  1234   0600         0                                                  arena  leaked
/theirs     4 KiB  root   4755        0+                                                         unknown
sysv:5      4 KiB  root   0600         0  17 (gone)               0x01050abc                     leaked
sysv:6      4 KiB  root   0600         3  17                      0xffffffff                     used
sysv:7      4 KiB  root   0600         0  ?                                                      unknown
memfd:12/3  4 KiB  root   0600         1             shrink,grow  a\\x1b[31m\\x0a\\u{202e}b         used
`);
  });

  test('counts are lower bounds where not all processes may be looked at; of segments the kernel knows', () => {
    const cells = listText(all, 3, false)
      .split('\n')
      .slice(1)
      .map((line) => /(?<=\s\d{4} +)\d\+?/.exec(line)?.[0]);
    expect(cells).toEqual(['2+', '0', '0+', '0', '3', '0', '1+']);
    expect(unseenText(0)).toBeUndefined();
    expect(unseenText(1)).toMatch(/^1 process may not be looked at/);
    expect(unseenText(3)).toMatch(/^3 processes may not/);
    expect(unseenText(Number.POSITIVE_INFINITY)).toMatch(/^the processes of others may not/);
  });

  test('what is leaked is red, what is removed yellow, on a terminal only', () => {
    const states: ListedObject[] = [
      { ...object, state: 'leaked' },
      { ...segment, state: 'removed' },
      { ...object, state: 'used' },
    ];
    const lines = listText(states, 0, true).split('\n');
    expect(lines.map((line) => line.split(' ').at(-1))).toEqual([
      'state',
      '\x1b[31mleaked\x1b[39m',
      '\x1b[33mremoved\x1b[39m',
      'used',
    ]);
    expect(listText(states, 0, false)).not.toContain('\x1b');
  });

  test('nothing: says so', () => {
    expect(listText([], 0, true)).toMatch(/^no shared memory: /);
  });
});

describe('the dump', () => {
  test('lines of 16 bytes, what repeats once, and the end', () => {
    const dump = new HexDump(0x1000);
    const first = Buffer.alloc(64);
    first.write('Hello, \x1b[31mworld\x7f\xff', 'latin1');
    const text =
      dump.lines(first) + dump.lines(Buffer.alloc(32)) + dump.lines(Buffer.from('end')) + dump.end();
    expect(`\n${text}`).toBe(`
00001000  48 65 6c 6c 6f 2c 20 1b  5b 33 31 6d 77 6f 72 6c  |Hello, .[31mworl|
00001010  64 7f ff 00 00 00 00 00  00 00 00 00 00 00 00 00  |d...............|
00001020  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
00001060  65 6e 64                                          |end|
00001063
`);
  });

  test('of nothing is its place', () => {
    const dump = new HexDump(0);
    expect(dump.lines(new Uint8Array()) + dump.end()).toBe('00000000\n');
  });
});

describe('a name', () => {
  test.each<[string, Meaning[]]>([
    ['/frames', [{ kind: 'posix', name: '/frames' }]],
    ['frames', [{ kind: 'posix', name: '/frames' }]],
    ['posix:/frames', [{ kind: 'posix', name: '/frames' }]],
    ['posix:5', [{ kind: 'posix', name: '/5' }]],
    ['/sysv:5', [{ kind: 'posix', name: '/sysv:5' }]],
    ['sysv:5', [{ kind: 'sysv', id: 5 }]],
    ['sysv:0xFFFFFFFF', [{ kind: 'sysv', key: -1 }]],
    [
      '5',
      [
        { kind: 'sysv', id: 5 },
        { kind: 'posix', name: '/5' },
      ],
    ],
    [
      '0x1234',
      [
        { kind: 'sysv', key: 0x1234 },
        { kind: 'posix', name: '/0x1234' },
      ],
    ],
    ['0x123456789', [{ kind: 'posix', name: '/0x123456789' }]],
    ['memfd:12/3', [{ kind: 'memfd', pid: 12, fd: 3 }]],
    ['12/3', [{ kind: 'memfd', pid: 12, fd: 3 }]],
  ])('%s can mean %o', (text, expected) => {
    expect(meanings(text)).toEqual(expected);
  });

  test.each([
    '',
    '/',
    '/a/b',
    'a/b',
    'posix:',
    'posix:/a/b',
    'sysv:',
    'sysv:x',
    'sysv:1/2',
    'sysv:-1',
    'sysv:0x',
    'memfd:',
    'memfd:12',
    'memfd:a/b',
    'x'.repeat(256),
    '..',
  ])('%o is none', (text) => {
    expect(() => meanings(text)).toThrow(code('ERR_INVALID_ARG_VALUE'));
  });
});

test('numbers of bytes', () => {
  const cases = { '0': 0, '4096': 4096, '4K': 4096, '1MiB': 1 << 20, '0x1000': 4096, '0XfF': 255 };
  for (const [text, expected] of Object.entries(cases)) {
    expect([text, bytes(0)(text)]).toEqual([text, expected]);
  }
  for (const text of ['', '-1', '1.5', '0x', '0x10K', '4X', '9'.repeat(20)]) {
    expect(() => bytes(0)(text), text).toThrow('expected a number of bytes: 67108864, or 64M');
  }
  expect(() => bytes(1)('0')).toThrow('expected a number of bytes, above 0: 67108864, or 64M');
});

const main = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
const root = fileURLToPath(new URL('../../..', import.meta.url));
const isRoot = process.getuid?.() === 0;
const NOBODY = 65534;

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

/** Its stdout is a pipe. */
function run(file: string, args: readonly string[], uid?: number): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(
      file,
      args,
      { cwd: root, ...(uid !== undefined && { uid, gid: uid }) },
      (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}
const iospace = (...args: string[]) => run(process.execPath, [main, 'shm', ...args]);
const asNobody = (...args: string[]) => run(process.execPath, [main, 'shm', ...args], NOBODY);

interface Listed {
  objects: (Record<string, unknown> & { name: string })[];
  unseenProcesses: number | null;
  errors: unknown[];
}

async function list(): Promise<Listed> {
  const { code: exit, stdout, stderr } = await iospace('ls', '--json');
  expect([exit, stderr]).toEqual([0, '']);
  return JSON.parse(stdout);
}

let name: string;
let counter = 0;
const segments = new Set<number>();
const children = new Set<ChildProcess>();
beforeEach(() => {
  name = `/iospace-test-cli-${process.pid}-${counter++}`;
});
afterEach(async () => {
  for (const child of children) {
    child.kill('SIGKILL');
    await (child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined);
  }
  children.clear();
  for (const id of segments) {
    try {
      sysv.control.remove(id);
    } catch {
      // The test has done so.
    }
  }
  segments.clear();
  if (existsSync(`/dev/shm${name}`)) {
    posix.unlink(name);
  }
});

function getSegment(key: number = sysv.IPC_PRIVATE, size = 4096, mode = 0o600): number {
  const id = sysv.get(key, size, sysv.IPC_CREAT | sysv.IPC_EXCL | mode);
  segments.add(id);
  return id;
}

/** Starts a program that says a line and stays; gives what it said. */
async function stay(program: string): Promise<{ child: ChildProcess; said: string }> {
  const child = startChild(`${program}\nsetInterval(() => {}, 1000);`);
  children.add(child);
  const [said] = await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'close').then(() => Promise.reject(new Error(`the program ended: ${child.stderr.read()}`))),
  ]);
  return { child, said: String(said).trim() };
}

async function end(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

describe('ls', () => {
  test('a POSIX object: whose it is, who has it open or only mapped, and that it is leaked when nobody does', async () => {
    const memory = posix.open(name, { create: true, size: 8192, mode: 0o640 });
    const { child } = await stay(`
      import { closeSync, constants, openSync } from 'node:fs';
      import { constants as raw, mmap } from 'iospace/raw';
      const fd = openSync('/dev/shm${name}', constants.O_RDONLY);
      globalThis.kept = mmap(fd, 4096, raw.PROT_READ, raw.MAP_SHARED, 0);
      closeSync(fd);
      console.log('mapped');`);
    const find = async () => (await list()).objects.find((object) => object.name === name);
    expect(await find()).toMatchObject({
      kind: 'posix',
      byteLength: 8192,
      allocatedBytes: 8192,
      uid: process.getuid?.(),
      mode: '0640',
      attached: 2,
      pids: [process.pid, child.pid].sort((a, b) => Number(a) - Number(b)),
      state: 'used',
      holds: null,
    });
    memory.close();
    expect(await find()).toMatchObject({ attached: 1, pids: [child.pid], state: 'used' });
    await end(child);
    expect(await find()).toMatchObject({ attached: 0, pids: [], state: 'leaked' });
  });

  test('segments: in use, without anybody, removed, leaked', async () => {
    const key = 0x8051_0000 + Math.floor(Math.random() * 0xffff);
    const [used, unused, removed] = [getSegment(key), getSegment(), getSegment()];
    using _used = sysv.attach(used);
    using _removed = sysv.attach(removed);
    sysv.control.remove(removed);
    const { child, said } = await stay(
      `import { sysv } from 'iospace/shm'; console.log(sysv.get(sysv.IPC_PRIVATE, 100_000, 0o604));`,
    );
    const leaked = Number(said);
    segments.add(leaked);
    const find = async (...ids: number[]) => {
      const { objects } = await list();
      return ids.map((id) => objects.find((object) => object.name === `sysv:${id}`));
    };
    const ours = { kind: 'sysv', creatorPid: process.pid, creatorAlive: true, uid: process.getuid?.() };
    expect(await find(used, unused, removed, leaked)).toMatchObject([
      { ...ours, key: `0x${key.toString(16)}`, byteLength: 4096, attached: 1, state: 'used' },
      { ...ours, key: null, attached: 0, state: 'unused' },
      { ...ours, attached: 1, state: 'removed' },
      { creatorPid: child.pid, creatorAlive: true, mode: '0604', byteLength: 100_000, state: 'unused' },
    ]);
    await end(child);
    expect(await find(leaked)).toMatchObject([
      { creatorPid: child.pid, creatorAlive: false, attached: 0, state: 'leaked' },
    ]);
  });

  test('memfds of other processes: label, seals, and each once', async () => {
    const { child } = await stay(`
      import { openSync } from 'node:fs';
      import { memfd } from 'iospace/shm';
      globalThis.memory = memfd.create('a\\x1b[31m', { size: 4096, seal: ['shrink', 'grow'] });
      globalThis.again = openSync('/proc/self/fd/' + memory.fd, 'r');
      console.log('made');`);
    const { objects } = await list();
    expect(objects.filter(({ pids }) => (pids as number[] | undefined)?.includes(child.pid ?? 0))).toEqual([
      expect.objectContaining({
        kind: 'memfd',
        name: expect.stringMatching(new RegExp(`^memfd:${child.pid}/\\d+$`)),
        label: 'a\x1b[31m',
        seals: ['shrink', 'grow'],
        byteLength: 4096,
        attached: 1,
        state: 'used',
      }),
    ]);
    const { stdout } = await iospace('ls');
    expect(stdout).toMatch(/^memfd:\d+\/\d+ .* shrink,grow +a\\x1b\[31m +used$/m);
    expect(stdout).not.toContain('\x1b');
  });

  test('what iospace knows is in them', async () => {
    using arena = Arena.create({ name: name.slice(1), byteLength: 1 << 16 });
    try {
      using memory = posix.open(name, { create: true, size: 8192 });
      Ring.create(memory);
      using anonymous = memfd.create('ring', { size: 8192 });
      Ring.create(anonymous);
      const id = getSegment(sysv.IPC_PRIVATE, 8192);
      using segment = sysv.attach(id);
      Ring.create(segment);
      const plain = getSegment();
      const { objects } = await list();
      const holds = Object.fromEntries(objects.map((object) => [object.name, object['holds']]));
      expect(holds).toMatchObject({
        [`/iospace-arena.${arena.name}`]: 'arena',
        [name]: 'ring',
        [`sysv:${id}`]: 'ring',
        [`sysv:${plain}`]: null,
      });
      expect(objects).toContainEqual(expect.objectContaining({ label: 'ring', holds: 'ring' }));
    } finally {
      arena.unlink();
    }
  });

  test('nothing said is the same', async () => {
    posix.open(name, { create: true, size: 4096 }).close();
    const { code: exit, stdout } = await iospace();
    expect([exit, stdout]).toEqual([0, expect.stringMatching(new RegExp(`^${name} +4 KiB .* leaked$`, 'm'))]);
  });
});

describe('cat', () => {
  const text = 'shared \x1b[31mbytes\xff';

  /** A memfd of this process, by its name. */
  const nameOf = (fd: number) => `memfd:${process.pid}/${fd}`;

  test('the bytes of each kind, whole or a part', async () => {
    using object = posix.open(name, { create: true, size: 300_001 });
    using anonymous = memfd.create('bytes', { size: 5000 });
    const id = getSegment(sysv.IPC_PRIVATE, 5000);
    using segment = sysv.attach(id);
    const before = sysv.control.stat(id);
    for (const { bytes: target } of [object, anonymous, segment]) {
      target.set(Buffer.from(text, 'latin1'), 100);
    }
    object.bytes[300_000] = 7;
    for (const [which, length] of [
      [name, 300_001],
      [nameOf(anonymous.fd), 5000],
      [`sysv:${id}`, before.size],
    ] as const) {
      const whole = spawnSync(process.execPath, [main, 'shm', 'cat', which]);
      expect([which, whole.status, String(whole.stderr), whole.stdout.byteLength]).toEqual([
        which,
        0,
        '',
        length,
      ]);
      expect(whole.stdout.subarray(100, 100 + text.length).toString('latin1')).toBe(text);
      const part = spawnSync(process.execPath, [
        main,
        'shm',
        'cat',
        which,
        '--offset',
        '0x6b',
        '--length',
        '4',
      ]);
      expect(part.stdout.toString('latin1')).toBe('\x1b[31');
    }
    const last = spawnSync(process.execPath, [main, 'shm', 'cat', name, '--offset', '300000']);
    expect([...last.stdout]).toEqual([7]);
    expect(sysv.control.stat(id)).toMatchObject({ attached: 1, mode: before.mode });
  });

  test('a range that is not inside, and one that is empty', async () => {
    using _object = posix.open(name, { create: true, size: 100 });
    expect(await iospace('cat', name, '--offset', '101')).toMatchObject({
      code: 1,
      stdout: '',
      stderr: 'iospace: expected an integer from 0 to 100 for offset, got 101\n',
    });
    expect(await iospace('cat', name, '--offset', '50', '--length', '51')).toMatchObject({
      code: 1,
      stderr: 'iospace: expected an integer from 0 to 50 for length, got 51\n',
    });
    expect(await iospace('cat', name, '--offset', '100')).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(await iospace('cat', name, '--offset', 'x')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('expected a number of bytes: 67108864, or 64M'),
    });
  });

  test('who has seen enough ends it quietly', async () => {
    using object = posix.open(name, { create: true, size: 4 << 20 });
    object.bytes.fill(65);
    const { status, stdout, stderr } = spawnSync(
      'sh',
      ['-c', `{ "$0" "$1" shm cat ${name}; echo "ended $?" >&2; } | head -c 5`, process.execPath, main],
      { encoding: 'utf8' },
    );
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'AAAAA', stderr: 'ended 0\n' });
  });

  const terminals = spawnSync('script', ['--version']).status === 0;
  test.skipIf(!terminals)('a terminal (script) gets numbers, and with --raw the bytes', () => {
    using object = posix.open(name, { create: true, size: 48 });
    object.bytes.set(Buffer.from('\x1b[31m'));
    const onTerminal = (...args: string[]) =>
      spawnSync('script', ['-qec', [process.execPath, main, 'shm', ...args].join(' '), '/dev/null'], {
        encoding: 'utf8',
        env: { ...process.env, NO_COLOR: '' },
      }).stdout.replaceAll('\r', '');
    expect(onTerminal('cat', name, '--length', '24')).toBe(
      [
        '00000000  1b 5b 33 31 6d 00 00 00  00 00 00 00 00 00 00 00  |.[31m...........|',
        '00000010  00 00 00 00 00 00 00 00                           |........|',
        '00000018',
        '',
      ].join('\n'),
    );
    expect(onTerminal('cat', name, '--raw', '--length', '5')).toBe('\x1b[31m');
    object.close();
    expect(onTerminal('ls')).toMatch(new RegExp(`^${name} .* \x1b\\[31mleaked\x1b\\[39m$`, 'm'));
  });

  test('a descriptor of something else than a memfd is not opened', async () => {
    const fd = openSync('/dev/null', 'r');
    try {
      expect(await iospace('cat', nameOf(fd))).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(
          /^iospace: EINVAL: .*: this descriptor is of something else than a memfd\n$/,
        ),
      });
    } finally {
      closeSync(fd);
    }
  });
});

describe('rm', () => {
  test('what somebody has stays, and who has it is said; with --force its name goes', async () => {
    using object = posix.open(name, { create: true, size: 4096 });
    const refused = await iospace('rm', name);
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toMatch(
      new RegExp(`^iospace: EBUSY: .* '${name}': process ${process.pid} has it; .* --force\n$`),
    );
    expect(existsSync(`/dev/shm${name}`)).toBe(true);
    expect(await iospace('rm', name, '--force')).toEqual({ code: 0, stdout: '', stderr: '' });
    expect([existsSync(`/dev/shm${name}`), object.bytes[0]]).toEqual([false, 0]);

    const id = getSegment();
    using segment = sysv.attach(id);
    expect(await iospace('rm', `sysv:${id}`)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/EBUSY: .*: it is attached \(1\); .* --force\n$/),
    });
    expect(await iospace('rm', `sysv:${id}`, '--force')).toMatchObject({ code: 0, stderr: '' });
    expect([sysv.control.stat(id).removed, segment.bytes[0]]).toEqual([true, 0]);
    expect(await iospace('rm', `sysv:${id}`, '--force')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/removed already, and ends with the last of its attachments \(1\)\n$/),
    });
  });

  test('what nobody has goes: by name, id and key', async () => {
    posix.open(name, { create: true, size: 4096 }).close();
    const key = 0x8052_0000 + Math.floor(Math.random() * 0xffff);
    const [byId, byKey] = [getSegment(), getSegment(key)];
    expect(await iospace('rm', name.slice(1), `sysv:${byId}`, `0x${key.toString(16)}`)).toEqual({
      code: 0,
      stdout: '',
      stderr: '',
    });
    expect(existsSync(`/dev/shm${name}`)).toBe(false);
    for (const id of [byId, byKey]) {
      expect(() => sysv.control.stat(id)).toThrow(code('EINVAL'));
    }
  });

  test('one name that is wrong keeps all; one that is in use keeps itself', async () => {
    posix.open(name, { create: true, size: 4096 }).close();
    const absent = await iospace('rm', name, '/iospace-not-there');
    expect(absent).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^iospace: ENOENT: .*iospace shm ls\n$/),
    });
    expect(existsSync(`/dev/shm${name}`)).toBe(true);
    const id = getSegment();
    using _segment = sysv.attach(id);
    expect(await iospace('rm', `sysv:${id}`, name)).toMatchObject({ code: 1 });
    expect([existsSync(`/dev/shm${name}`), sysv.control.stat(id).removed]).toEqual([false, false]);
  });

  test('a memfd has nothing to remove', async () => {
    using memory = memfd.create('kept', { size: 4096 });
    expect(await iospace('rm', `memfd:${process.pid}/${memory.fd}`)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /^iospace: EOPNOTSUPP: .*a memfd has no name: .* ends when no process has it/,
      ),
    });
  });

  test('a number that is a segment and an object: says how to say which', async () => {
    const id = getSegment();
    name = `/${id}`;
    posix.open(name, { create: true, size: 100 }).close();
    const { code: exit, stderr } = await iospace('rm', String(id));
    expect([exit, stderr]).toEqual([
      1,
      expect.stringContaining(`one of sysv:${id} and posix:/${id}, which are both`),
    ]);
    expect(await iospace('rm', `posix:${id}`)).toMatchObject({ code: 0 });
    expect(existsSync(`/dev/shm${name}`)).toBe(false);
    expect(await iospace('rm', String(id))).toMatchObject({ code: 0, stderr: '' });
  });

  test.each([
    [[], 'expected names (iospace shm ls), or --leaked, for what to remove'],
    [['--leaked', '/x'], 'expected none together with --leaked for names'],
    [['/a/b'], 'without a further slash for name, got'],
    [['sysv:x'], 'expected /NAME, sysv:ID, sysv:0xKEY or memfd:PID/FD'],
    [['sysv:2147483647'], 'there is no such shared memory: iospace shm ls'],
    [['sysv:0x0'], 'there is no such shared memory: iospace shm ls'],
    [['memfd:2147483647/1'], 'there is no such shared memory: iospace shm ls'],
  ])('%j is refused', async (args, expected) => {
    // One without a key, which is no key to find it by.
    getSegment();
    const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    try {
      const program = new Command('iospace').enablePositionalOptions();
      addShmCommands(program);
      await program.parseAsync(['shm', 'rm', ...args], { from: 'user' });
      expect([process.exitCode, said.mock.calls]).toEqual([1, [[expect.stringContaining(expected)]]]);
    } finally {
      // It is the runner's.
      process.exitCode = undefined;
      said.mockRestore();
    }
  });

  const isolates = spawnSync('unshare', ['--mount', '--ipc', '--pid', '--fork', 'true']).status === 0;

  /** Runs a program of the shell where there is no other shared memory; `iospace` is a command there. */
  const alone = (program: string) =>
    run('unshare', [
      ...['--mount', '--ipc', 'sh', '-c'],
      `mount -t tmpfs tmpfs /dev/shm; iospace() { "$NODE" '${main}' shm "$@"; }; NODE=$0; ${program}`,
      process.execPath,
      main,
    ]);

  test.skipIf(!isolates)(
    '--leaked: shows all that is, and removes it by --yes only (takes a namespace)',
    async () => {
      const make = `
      import { posix, sysv } from 'iospace/shm';
      posix.open('/leaked', { create: true, size: 8192 }).close();
      sysv.get(0x1234, 4096, sysv.IPC_CREAT | 0o600);`;
      const { stdout, stderr } = await alone(`
      "$NODE" --input-type=module --eval "${make}"
      exec 9>/dev/shm/used
      iospace rm --leaked; echo "code $?"
      ls /dev/shm
      iospace rm --leaked --yes; echo "code $?"
      ls /dev/shm; tail -n +2 /proc/sysvipc/shm
      iospace rm --leaked; echo "code $?"`);
      expect(stdout.split('\n')).toEqual([
        expect.stringMatching(/^name +size/),
        expect.stringMatching(/^\/leaked +8 KiB .* leaked$/),
        expect.stringMatching(/^sysv:\d+ +4 KiB .* \(gone\) +0x00001234 +leaked$/),
        'would remove 2 pieces of shared memory (12 KiB)',
        'code 1',
        'leaked',
        'used',
        'removed 2 pieces of shared memory (12 KiB)',
        'code 0',
        'used',
        'nothing to remove: nothing is leaked',
        'code 0',
        '',
      ]);
      expect(stderr).toMatch(/^iospace: nobody has them now; .* remove them by --yes\n$/);
    },
  );

  test.skipIf(!isolates)('what a process has that cannot be seen is in use (takes a namespace)', async () => {
    using _object = posix.open(name, { create: true, size: 4096 });
    const { stdout, stderr } = await run('unshare', [
      ...['--pid', '--fork', '--mount', '--mount-proc', 'sh', '-c'],
      `"$0" "$1" shm ls; "$0" "$1" shm rm ${name}; echo "code $?"`,
      process.execPath,
      main,
    ]);
    expect(stdout).toMatch(new RegExp(`^${name} .* 0\\+ +used$`, 'm'));
    expect(stdout).toMatch(/^code 1$/m);
    expect(stderr).toMatch(/EBUSY: .*: a process has it that cannot be seen; .* --force/);
    expect(existsSync(`/dev/shm${name}`)).toBe(true);
  });

  test.skipIf(!isolates)(
    'a machine without /dev/shm: says so, and shows the rest (takes a namespace)',
    async () => {
      const id = getSegment();
      const {
        code: exit,
        stdout,
        stderr,
      } = await run('unshare', [
        ...['--mount', 'sh', '-c', 'mount -t tmpfs tmpfs /dev; "$0" "$1" shm; "$0" "$1" shm cat /x'],
        process.execPath,
        main,
      ]);
      expect([exit, stdout]).toEqual([1, expect.stringMatching(new RegExp(`^sysv:${id} `, 'm'))]);
      expect(stderr).toContain(
        "iospace: ENOENT: no such file or directory, scandir '/dev/shm': POSIX shared memory takes a file system there: mount -t tmpfs tmpfs /dev/shm\n",
      );
      expect(stderr).toMatch(/ENOENT: .*'\/x': there is no such shared memory/);
    },
  );
});

describe.skipIf(!isRoot)("another user's (takes root)", () => {
  let runs: boolean;
  beforeEach(async (context) => {
    runs ??= (await asNobody('--help')).code === 0;
    if (!runs) {
      context.skip('nobody cannot read this directory');
    }
  });

  test('is shown, and neither read nor removed', async () => {
    posix.open(name, { create: true, size: 4096 }).close();
    const id = getSegment();
    const listed = await asNobody('ls');
    expect(listed.code).toBe(0);
    expect(listed.stdout).toMatch(new RegExp(`^${name} +4 KiB +root +0600 +0\\+ +unknown$`, 'm'));
    expect(listed.stdout).toMatch(
      new RegExp(`^sysv:${id} +4 KiB +root +0600 +0 +${process.pid} +unused$`, 'm'),
    );
    expect(listed.stderr).toMatch(/^iospace: \d+ process(es)? may not be looked at \(root/);
    for (const which of [name, `sysv:${id}`]) {
      expect(await asNobody('cat', which)).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringMatching(/^iospace: EACCES: .*it takes its owner, its permissions, or root\n$/),
      });
    }
    expect(await asNobody('rm', name)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/EBUSY: .*whether somebody has it cannot be said; .* --force\n$/),
    });
    for (const args of [[name, '--force'], [`sysv:${id}`]]) {
      expect(await asNobody('rm', ...args)).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/^iospace: (EPERM|EACCES): .*it takes its owner, or root\n$/),
      });
    }
    expect([existsSync(`/dev/shm${name}`), sysv.control.stat(id).removed]).toEqual([true, false]);
  });

  test('one own object that nobody has is leaked, whoever else cannot be looked at', async () => {
    const memory = posix.open(name, { create: true, size: 4096 });
    chownSync(`/dev/shm${name}`, NOBODY, NOBODY);
    const state = async () =>
      (JSON.parse((await asNobody('ls', '--json')).stdout) as Listed).objects.find(
        (object) => object.name === name,
      );
    expect(await state()).toMatchObject({ attached: 0, state: 'used' });
    memory.close();
    expect(await state()).toMatchObject({ attached: 0, state: 'leaked' });
    chmodSync(`/dev/shm${name}`, 0);
    expect(await state()).toMatchObject({ attached: 0, state: 'unknown' });
  });
});

test('the words: help, and what is no command', async () => {
  const words: [string[], number, RegExp][] = [
    [['--help'], 0, /^ {2}shm +see what shared memory there is/m],
    [['shm', '--help'], 0, /^ {2}ls .*^ {2}cat .*^ {2}rm .*NAME is \/NAME \(POSIX\)/ms],
    [['shm', 'help', 'ls'], 0, /^Usage: iospace shm ls/],
    [['shm', 'bogus'], 1, /^error: unknown command 'bogus': expected one of ls, cat, rm\n$/],
    [['shm', 'ls', 'bogus'], 1, /^error: too many arguments for 'ls'/],
    [['shm', 'cat'], 1, /^error: missing required argument 'name'\n$/],
    [['shm', '--bogus'], 1, /^error: unknown option '--bogus'\n/],
    [
      ['shm', 'rm', '--leaked', '--force'],
      1,
      /^error: option '--force' cannot be used with option '--leaked'\n$/,
    ],
  ];
  const ended = await Promise.all(words.map(([args]) => run(process.execPath, [main, ...args])));
  for (const [index, [args, exit, expected]] of words.entries()) {
    const { code: status, stdout, stderr } = ended[index] ?? {};
    expect([args, status, exit === 0 ? stdout : stderr]).toEqual([
      args,
      exit,
      expect.stringMatching(expected),
    ]);
  }
});
