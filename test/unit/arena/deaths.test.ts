/**
 * Users of an arena that die at any moment: processes that are killed, workers that are terminated, both by an exception
 * that nobody catches. Whoever is left finds a sound arena and its own blocks, and gets what the dead had.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, test, vi } from 'vitest';
import type { Arena, DmaBlock } from '../../../lib/index.js';
import { type Backing, type Made, memfd, shm } from './backings.js';
import type { Task } from './hammer.js';

vi.setConfig({ testTimeout: 60_000 });

/** A program of this directory, as it was compiled. */
const program = fileURLToPath(new URL('../../../build/test/unit/arena/hammer.js', import.meta.url));
if (!existsSync(program)) {
  throw new Error('build/test is missing: npx tsc --build');
}

/** Where a child finds a descriptor that it was given. */
const GIVEN = 4;

/** Somebody who uses the arena. */
interface User {
  /** Lets it go on, until it dies. */
  go(): void;
  /** Resolves once it is dead. */
  die(): Promise<void>;
}

function spawnHammer(arena: Arena, throwAfter?: number): ChildProcess {
  const byName = arena.backing === 'shm';
  const task: Task = {
    target: byName ? arena.name : { fd: GIVEN },
    ...(throwAfter !== undefined && { throwAfter }),
  };
  return fork(program, [JSON.stringify(task)], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc', ...(byName ? [] : [arena.fd])],
    execArgv: [],
  });
}

/** What a process wrote, by the time that it has ended. */
function errorsOf(child: ChildProcess): { text: string } {
  const errors = { text: '' };
  child.stderr?.on('data', (chunk) => {
    errors.text += chunk;
  });
  return errors;
}

async function isReady(child: ChildProcess, errors: { text: string }): Promise<void> {
  await Promise.race([
    child.stdout && once(child.stdout, 'data'),
    once(child, 'exit').then(([code]) => {
      throw new Error(`the user ended with ${code} before it had blocks: ${errors.text}`);
    }),
  ]);
}

async function killed(arena: Arena): Promise<User> {
  const child = spawnHammer(arena);
  const errors = errorsOf(child);
  await isReady(child, errors);
  return {
    go: () => child.send('go'),
    async die() {
      // Whoever finds another's data in its block has ended by itself.
      expect([child.exitCode, errors.text]).toEqual([null, '']);
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

async function throwing(arena: Arena): Promise<User> {
  const child = spawnHammer(arena, randomInt(3000));
  const errors = errorsOf(child);
  await isReady(child, errors);
  return {
    go: () => child.send('go'),
    async die() {
      if (child.exitCode === null) {
        await once(child, 'close');
      }
      expect([child.exitCode, errors.text]).toEqual([1, expect.stringContaining('thrown on purpose')]);
    },
  };
}

const task = (arena: Arena, throwAfter?: number): Task => ({
  target: arena.backing === 'shm' ? arena.name : { fd: arena.fd },
  ...(throwAfter !== undefined && { throwAfter }),
});

async function terminated(arena: Arena): Promise<User> {
  const worker = new Worker(program, { workerData: task(arena) });
  const errors: unknown[] = [];
  worker.on('error', (error) => errors.push(error));
  await once(worker, 'message');
  return {
    go: () => worker.postMessage('go'),
    async die() {
      expect(errors).toEqual([]);
      await worker.terminate();
    },
  };
}

async function throwingWorker(arena: Arena): Promise<User> {
  const worker = new Worker(program, { workerData: task(arena, randomInt(3000)) });
  const failed = once(worker, 'error');
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  await once(worker, 'message');
  return {
    go: () => worker.postMessage('go'),
    async die() {
      expect(await failed).toMatchObject([{ message: 'thrown on purpose' }]);
      await ended;
    },
  };
}

/** Blocks that live through all of it. */
class Survivor {
  readonly #blocks: DmaBlock[] = [];
  readonly #arena: Arena;

  constructor(arena: Arena) {
    this.#arena = arena;
    for (let index = 0; index < 64; index++) {
      const block = arena.allocate((1 + (index % 9)) * arena.granule - (index % 5), { tag: 'survivor' });
      block.bytes.fill(index + 1);
      this.#blocks.push(block);
      // So that they do not lie all together.
      if (index % 3 === 0) {
        this.#blocks.push(arena.allocate(arena.granule, { tag: 'survivor' }));
        this.#blocks.pop()?.free();
      }
    }
  }

  get granules(): number {
    const { granule } = this.#arena;
    return this.#blocks.reduce((sum, { byteLength }) => sum + Math.ceil(byteLength / granule), 0);
  }

  get count(): number {
    return this.#blocks.length;
  }

  /** Its blocks are its own, and as they were left. */
  expectIntact(): void {
    const owner = this.#arena.blockAt(this.#blocks[0]?.offset ?? 0).owner;
    this.#blocks.forEach(({ offset, byteLength, bytes }, index) => {
      const { granule } = this.#arena;
      expect(this.#arena.blockAt(offset)).toMatchObject({
        offset,
        byteLength: Math.ceil(byteLength / granule) * granule,
        owner,
        tag: 'survivor',
      });
      expect(bytes.every((byte) => byte === index + 1)).toBe(true);
    });
  }
}

/** The arena is sound, and the survivor's blocks are as they were. */
function expectSound(arena: Arena, survivor: Survivor): void {
  // Whoever comes first repairs it.
  arena.allocate(1).free();
  expect(arena.check()).toEqual([]);
  survivor.expectIntact();
}

/** What the dead had goes back when somebody asks for it. */
function sweeps(arena: Arena, survivor: Survivor): void {
  const before = arena.stats();
  const dead = before.byOwner.filter(({ alive }) => !alive);
  const { blocks, bytes } = arena.sweep();
  expect({ blocks, bytes }).toEqual({
    blocks: dead.reduce((sum, owner) => sum + owner.blocks, 0),
    bytes: dead.reduce((sum, owner) => sum + owner.bytes, 0),
  });
  expect(blocks).toBeGreaterThan(0);
  expect(arena.stats()).toMatchObject({
    blocks: survivor.count,
    used: survivor.granules * arena.granule,
  });
}

/** What the dead had goes back when there is no other room. */
function reclaims(arena: Arena, survivor: Survivor): void {
  const { byteLength, free } = arena.stats();
  const all = byteLength / arena.granule - survivor.granules;
  expect(free).toBeLessThan(all * arena.granule);
  const blocks = arena.allocateMany(all, arena.granule);
  expect(arena.stats()).toMatchObject({ free: 0, blocks: survivor.count + all });
  expect(() => arena.allocate(1)).toThrow(/^ENOSPC: /);
  arena.freeMany(blocks);
}

const kinds = [
  killed,
  killed,
  killed,
  killed,
  terminated,
  killed,
  terminated,
  throwing,
  killed,
  throwingWorker,
];

/** Ten of them, which use the arena together and die one after the other. */
async function tenDeaths(backing: Backing, givesBack: typeof sweeps): Promise<void> {
  using made: Made = backing.make({ byteLength: 32 << 20 });
  const { arena } = made;
  const survivor = new Survivor(arena);
  const users: User[] = await Promise.all(kinds.map((start) => start(arena)));
  // Two at a time: of many, most would wait for the arena's lock when they die, and few hold it.
  users[0]?.go();
  for (const [index, user] of users.entries()) {
    users[index + 1]?.go();
    await delay(randomInt(20));
    await user.die();
    expectSound(arena, survivor);
  }
  // When the last of them found no room, it may have swept what the dead had. This one leaves a block for certain.
  const last = made.attach();
  last.allocate(1);
  last.close();
  givesBack(arena, survivor);
  expectSound(arena, survivor);
}

const rounds = Array.from({ length: 10 }, (_, index) => index + 1);

describe('ten users of an arena that die at random moments lose nothing of anybody else', () => {
  test.each(rounds)('round %i', async (round) => {
    await tenDeaths(round % 2 === 0 ? shm : memfd, round % 4 < 2 ? sweeps : reclaims);
  });
});

test('one that lives on beside those that die keeps its blocks, and gives them back', async () => {
  using made = shm.make({ byteLength: 32 << 20 });
  const { arena } = made;
  const witness = spawnHammer(arena);
  const errors = errorsOf(witness);
  await isReady(witness, errors);
  witness.send('go');
  for (let deaths = 0; deaths < 6; deaths++) {
    const user = await (deaths % 2 === 0 ? killed : terminated)(arena);
    user.go();
    await delay(randomInt(20));
    await user.die();
    expect(arena.check()).toEqual([]);
    arena.sweep();
  }
  witness.send('end');
  const [code] = await once(witness, 'close');
  expect([code, errors.text]).toEqual([0, '']);
  arena.sweep();
  expect(arena.stats()).toMatchObject({ used: 0, blocks: 0 });
});
