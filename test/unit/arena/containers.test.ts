/**
 * One arena in several containers: each has its own pids and its own mounts, so that no process number means the same in
 * two of them. Who lives is never swept, wherever it lives; who is dead is, wherever it died.
 */
import { type ChildProcess, type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Arena } from '../../../lib/index.js';
import { type Made, memfd, shm } from './backings.js';
import type { Task } from './hammer.js';
import type { Order } from './resident.js';

/** Programs of this directory, as they were compiled. */
const compiled = (name: string): string =>
  fileURLToPath(new URL(`../../../build/test/unit/arena/${name}.js`, import.meta.url));
const programs = { resident: compiled('resident'), hammer: compiled('hammer') };
if (!existsSync(programs.resident)) {
  throw new Error('build/test is missing: npx tsc --build');
}

/** A user namespace where this user may not make the others without. */
const namespaces = [
  ...(process.getuid?.() === 0 ? [] : ['--user', '--map-root-user']),
  ...['--pid', '--mount', '--mount-proc', '--fork', '--kill-child'],
];

/** Why this machine makes no containers, if it does not. */
const missing: string | undefined = (() => {
  const { status, stderr, error } = spawnSync('unshare', [
    ...namespaces,
    'mount',
    '-t',
    'tmpfs',
    'x',
    '/mnt',
  ]);
  return status === 0 ? undefined : `no namespaces: ${error?.message ?? String(stderr).trim()}`;
})();

class Resident {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #answers: AsyncIterator<string>;
  readonly #errors: Promise<string>;

  constructor(args: string[], descriptors: number[]) {
    this.#child = spawn('unshare', args, {
      stdio: ['pipe', 'pipe', 'pipe', ...descriptors],
    }) as ChildProcessByStdio<Writable, Readable, Readable>;
    this.#answers = createInterface(this.#child.stdout)[Symbol.asyncIterator]();
    this.#errors = text(this.#child.stderr);
  }

  async told(order: Order): Promise<unknown> {
    this.#child.stdin.write(`${JSON.stringify(order)}\n`);
    const { value, done } = await this.#answers.next();
    if (done) {
      throw new Error(`it has ended: ${await this.#errors}`);
    }
    return JSON.parse(value);
  }

  kill(): Promise<void> {
    return kill(this.#child);
  }
}

let directory: string;
let residents: Resident[];
let hammers: ChildProcess[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'iospace-containers-'));
  residents = [];
  hammers = [];
});
afterEach(async () => {
  await Promise.all([...residents.map((resident) => resident.kill()), ...hammers.map(kill)]);
  rmSync(directory, { recursive: true });
});

/**
 * What starts a program in a container with a /dev/shm of its own, in which there is nothing but what was mounted into it.
 *
 * @param fd - where the program finds the arena, if it has no name
 */
function container({ arena }: Made, fd: number, program: string, args: (target: Task['target']) => string[]) {
  const byName = arena.backing === 'shm';
  const file = `/dev/shm/iospace-arena.${arena.name}`;
  const outside = join(directory, 'arena');
  const mounts = byName
    ? `touch ${outside} && mount --bind ${file} ${outside} && mount -t tmpfs none /dev/shm &&
       touch ${file} && mount --bind ${outside} ${file}`
    : 'mount -t tmpfs none /dev/shm';
  const command = `${mounts} && exec "$@"`;
  const started = [process.execPath, program, ...args(byName ? arena.name : { fd })];
  return {
    args: [...namespaces, 'sh', '-c', command, 'sh', ...started],
    descriptors: byName ? [] : [arena.fd],
  };
}

/** One who does what it is told. */
function contained(made: Made, tag: string): Resident {
  const { args, descriptors } = container(made, 3, programs.resident, (target) => [
    JSON.stringify(target),
    tag,
  ]);
  const resident = new Resident(args, descriptors);
  residents.push(resident);
  return resident;
}

/** One who allocates and frees until it is killed; what it wrote of errors by then. */
async function hammering(made: Made): Promise<{ child: ChildProcess; errors: Promise<string> }> {
  const { args, descriptors } = container(made, 4, programs.hammer, (target) => [
    JSON.stringify({ target } satisfies Task),
  ]);
  const child = spawn('unshare', args, { stdio: ['ignore', 'pipe', 'pipe', 'ipc', ...descriptors] });
  hammers.push(child);
  const errors = text(child.stderr as Readable);
  await Promise.race([
    once(child.stdout as Readable, 'data'),
    once(child, 'exit').then(async () => {
      throw new Error(`it ended before it had blocks: ${await errors}`);
    }),
  ]);
  child.send('go');
  return { child, errors };
}

/** Resolves when the process is gone, not only what had started it. */
async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'close');
  }
}

/** Owners that have blocks: whether the arena holds them alive, by how many blocks they have. */
const lives = (arena: Arena): Record<number, boolean> =>
  Object.fromEntries(
    arena
      .stats()
      .byOwner.filter(({ blocks }) => blocks > 0)
      .map(({ blocks, alive }) => [blocks, alive]),
  );

const nothing = { blocks: 0, bytes: 0, owners: 0 };

describe.each([shm, memfd])('two containers on one arena over $name', (backing) => {
  test('never sweep who lives elsewhere, and always who died there', async (context) => {
    if (missing !== undefined) {
      context.skip(missing);
    }
    using made = backing.make({ byteLength: 1 << 20 });
    const { arena } = made;
    arena.allocate(1, { tag: 'outside' });
    const first = contained(made, 'first');
    const second = contained(made, 'second');
    expect(await first.told({ allocate: 3 })).toHaveLength(3);
    expect(await second.told({ allocate: 5 })).toHaveLength(5);
    // Both are the first process of theirs, as another process, which lives, is of the machine.
    expect([await first.told('pid'), await second.told('pid')]).toEqual([1, 1]);

    expect(lives(arena)).toEqual({ 1: true, 3: true, 5: true });
    expect(await first.told('sweep')).toEqual(nothing);
    expect(await second.told('sweep')).toEqual(nothing);
    expect(arena.sweep()).toEqual(nothing);

    await first.kill();
    await expect.poll(() => lives(arena)).toEqual({ 1: true, 3: false, 5: true });
    expect(await second.told('sweep')).toEqual({ blocks: 3, bytes: 3 * 4096, owners: 1 });
    expect(await second.told('intact')).toBe(true);
    expect(arena.check()).toEqual([]);

    await second.kill();
    await expect.poll(() => lives(arena)).toEqual({ 1: true, 5: false });
    expect(arena.sweep()).toEqual({ blocks: 5, bytes: 5 * 4096, owners: 1 });
    expect(arena.stats()).toMatchObject({ blocks: 1 });
  });

  test('fill it without what the other has', async (context) => {
    if (missing !== undefined) {
      context.skip(missing);
    }
    using made = backing.make({ byteLength: 10 * 4096 });
    const { arena } = made;
    const inside = contained(made, 'inside');
    await inside.told({ allocate: 4 });
    // The shortage takes what the dead had, and no more.
    const mine = arena.allocateMany(6, 4096);
    expect(() => arena.allocate(1)).toThrow(/^ENOSPC: /);
    expect(await inside.told('intact')).toBe(true);
    await inside.kill();
    await expect.poll(() => lives(arena)).toEqual({ 4: false, 6: true });
    expect(arena.allocateMany(4, 4096)).toHaveLength(4);
    expect(arena.stats()).toMatchObject({ free: 0, blocks: 10 });
    arena.freeMany(mine);
  });

  test('and a third go on when one dies in the middle of a call', async (context) => {
    if (missing !== undefined) {
      context.skip(missing);
    }
    using made = backing.make({ byteLength: 32 << 20 });
    const { arena } = made;
    // The lock knows its holder by a number that all of them have: who dies waiting for it seems to have held it.
    const lasting = await Promise.all([hammering(made), hammering(made)]);
    for (let deaths = 0; deaths < 6; deaths++) {
      const dying = await hammering(made);
      await delay(randomInt(20));
      // Whoever finds another's data in its block ends by itself.
      expect([dying, ...lasting].map(({ child }) => child.exitCode)).toEqual([null, null, null]);
      await kill(dying.child);
      expect(arena.check()).toEqual([]);
      arena.sweep();
    }
    for (const { child, errors } of lasting) {
      child.send('end');
      const [code] = child.exitCode === null ? await once(child, 'close') : [child.exitCode];
      expect([code, await errors]).toEqual([0, '']);
    }
    arena.sweep();
    expect(arena.check()).toEqual([]);
    expect(arena.stats()).toMatchObject({ used: 0, blocks: 0 });
  });
});
