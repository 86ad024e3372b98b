/**
 * Random calls of arenas, each compared with {@link Model}. What fails is made smaller; `IOSPACE_SEED=N`, of the number in
 * the message, repeats it.
 */
import { constants as limits } from 'node:buffer';
import fc, { type Command } from 'fast-check';
import { expect } from 'vitest';
import type { AllocateOptions, Arena, ArenaOptions, DmaBlock } from '../../../lib/index.js';
import type { Backing, Made } from './backings.js';
import { type Constraints, Model, type Placed } from './model.js';

/** Longest ArrayBuffer: 4 GiB on Node 20. */
const { MAX_LENGTH } = limits;

const { IOSPACE_SEED } = process.env;
const repeatable = IOSPACE_SEED === undefined ? {} : { seed: Number(IOSPACE_SEED) };

/** Bytes at both ends of a block that tell whose it is. */
const MARGIN = 64;

/** Longest block that is zeroed: the pages of a sparse arena are taken by it. */
const MOST_ZEROED = 1 << 20;

const ends = (bytes: Uint8Array): Uint8Array[] => [bytes.subarray(0, MARGIN), bytes.subarray(-MARGIN)];

interface Held {
  block: DmaBlock;
  /** Absent where it is longer than an array can be. */
  stamp?: number;
  guard: boolean;
}

/** The arena, and what the test holds of it. */
class World implements Disposable {
  readonly model: Model;
  readonly made: Made;
  readonly backing: Backing;
  /** By their number as owners of the model. The first is never closed. */
  readonly attachments = new Map<number, Arena>();
  /** By the first granule. Those of dead owners are not here. */
  readonly held = new Map<number, Held>();
  #owners = 0;
  #stamps = 0;

  constructor(backing: Backing, granule: number, granules: number, options: ArenaOptions = {}) {
    this.backing = backing;
    this.made = backing.make({ ...options, granule, byteLength: granule * granules });
    this.model = new Model(granule, granules, backing.base);
    this.attachments.set(this.#owners++, this.made.arena);
  }

  attach(): void {
    this.attachments.set(this.#owners++, this.made.attach());
  }

  /** Closes it; its blocks are a dead owner's from here. */
  end(owner: number): void {
    this.attachments.get(owner)?.close();
    this.attachments.delete(owner);
    this.model.dead.add(owner);
    for (const [start, placed] of this.model.blocks) {
      if (placed.owner === owner) {
        this.held.delete(start);
      }
    }
  }

  /** Whether there is room, which is made of what the dead had if there is none. */
  room(request: Constraints, count: number): 'there' | 'made' | 'none' {
    if (this.model.capacity(request, count) === count) {
      return 'there';
    }
    if (!this.backing.reclaims) {
      return 'none';
    }
    this.model.sweep();
    return this.model.capacity(request, count) === count ? 'made' : 'none';
  }

  /** Takes a block that the arena gave into the model, and writes to it. */
  accept(block: DmaBlock, owner: number, request: Request): void {
    const { granule } = this.model;
    const start = block.offset / granule;
    const constraints = constraintsOf(request, granule, this.backing);
    expect(this.model.fault(start, constraints)).toBe(undefined);
    expect(block).toMatchObject({ byteLength: request.byteLength, tag: request.tag, freed: false });
    this.model.place({
      start,
      length: constraints.length,
      byteLength: request.byteLength,
      tag: request.tag,
      owner,
    });
    if (request.byteLength > MAX_LENGTH) {
      expect(() => block.bytes).toThrow(code('ERR_OUT_OF_RANGE'));
      this.held.set(start, { block, guard: request.guard });
      return;
    }
    const { bytes } = block;
    expect(bytes.length).toBe(request.byteLength);
    if (request.zero) {
      expect(bytes.every((byte) => byte === 0)).toBe(true);
    }
    const stamp = 1 + (this.#stamps++ % 255);
    for (const end of ends(bytes)) {
      end.fill(stamp);
    }
    this.held.set(start, { block, stamp, guard: request.guard });
  }

  /** Finds it as it was written, and takes it out of what is held. */
  release(start: number): DmaBlock {
    const { block, stamp } = this.held.get(start) as Held;
    for (const end of stamp === undefined ? [] : ends(block.bytes)) {
      expect(end.every((byte) => byte === stamp)).toBe(true);
    }
    this.held.delete(start);
    this.model.remove(start);
    return block;
  }

  /** One of those that are held, by any number. */
  pick(number: number): number | undefined {
    const starts = [...this.held.keys()];
    return starts[number % starts.length];
  }

  attachment(number: number): [number, Arena] {
    const all = [...this.attachments];
    return all[number % all.length] as [number, Arena];
  }

  ownerOf(start: number): Arena {
    return this.attachments.get(this.model.blocks.get(start)?.owner ?? -1) as Arena;
  }

  /**
   * Everything that the arena says about itself, against the model.
   *
   * @param exactly - whether it was as simple as the model has it how much was used at most
   */
  compare(exactly = true): void {
    const { model, made } = this;
    const { granule } = model;
    const placed = [...model.blocks.values()];
    expect(made.arena.check()).toEqual([]);
    const stats = made.arena.stats();
    const { free, longestFree } = model;
    // What was given for a moment, until there was no room for the rest, counts as well.
    expect(stats.mostUsed).toBeGreaterThanOrEqual(model.mostUsed * granule);
    if (exactly) {
      expect(stats.mostUsed).toBe(model.mostUsed * granule);
    }
    model.mostUsed = stats.mostUsed / granule;
    expect(stats).toMatchObject({
      byteLength: model.used.length * granule,
      used: model.usedGranules * granule,
      free: free * granule,
      longestFree: longestFree * granule,
      blocks: placed.length,
    });
    expect(stats.fragmentation).toBeCloseTo(free === 0 ? 0 : 1 - longestFree / free);
    expect(stats.byTag.filter(({ blocks }) => blocks > 0).sort(byName)).toEqual(
      grouped(placed, ({ tag }) => tag)
        .map(([tag, blocks]) => ({ tag, blocks: blocks.length, bytes: bytesOf(blocks, granule) }))
        .sort(byName),
    );
    expect(made.arena.dump().blocks).toMatchObject(
      placed
        .sort((a, b) => a.start - b.start)
        .map(({ start, length, tag }) => ({ offset: start * granule, byteLength: length * granule, tag })),
    );
    const owners = stats.byOwner
      .filter(({ blocks }) => blocks > 0)
      .map(({ alive, blocks, bytes }) => [alive, blocks, bytes]);
    expect(owners.sort()).toEqual(
      grouped(placed, ({ owner }) => owner)
        .map(([owner, blocks]) => [!model.dead.has(owner), blocks.length, bytesOf(blocks, granule)])
        .sort(),
    );
  }

  [Symbol.dispose](): void {
    for (const [owner, arena] of this.attachments) {
      if (owner > 0) {
        arena.close();
      }
    }
    this.made[Symbol.dispose]();
  }
}

const byName = (a: { tag: string }, b: { tag: string }): number => (a.tag < b.tag ? -1 : 1);

const bytesOf = (blocks: readonly Placed[], granule: number): number =>
  blocks.reduce((sum, { length }) => sum + length * granule, 0);

function grouped<Key>(blocks: readonly Placed[], key: (block: Placed) => Key): [Key, Placed[]][] {
  const groups = new Map<Key, Placed[]>();
  for (const block of blocks) {
    groups.set(key(block), [...(groups.get(key(block)) ?? []), block]);
  }
  return [...groups];
}

interface Request {
  byteLength: number;
  align: number;
  boundary: number;
  tag: string;
  zero: boolean;
  guard: boolean;
}

function constraintsOf(
  { byteLength, align, boundary, guard }: Request,
  granule: number,
  { guardPage }: Backing,
): Constraints {
  const unit = guard ? Math.max(granule, guardPage) : granule;
  return {
    length: (Math.ceil(byteLength / unit) * unit) / granule,
    align: Math.max(align, guard ? guardPage : 1),
    boundary,
  };
}

const optionsOf = ({ align, boundary, tag, zero, guard }: Request): AllocateOptions => ({
  ...(align > 1 && { align }),
  ...(boundary > 0 && { boundary }),
  ...(tag !== '' && { tag }),
  ...(zero && { zero }),
  ...(guard && { guard }),
});

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

type Call = Command<World, World>;

/**
 * A call: whether it can be made now, what it does, and its name in a report. Some are done in steps, of which the last
 * may take all back.
 */
const call = (
  name: string,
  run: (world: World) => unknown,
  isPossible: (world: World) => boolean = () => true,
): Call => ({
  check: (world) => isPossible(world as World),
  run(world) {
    world.compare(run(world) !== 'in steps');
  },
  toString: () => name,
});

const holdsSome = (world: World): boolean => world.held.size > 0;
const isShared = (world: World): boolean => world.backing.shared;

function allocate(request: Request, number: number): Call {
  return call(`allocate ${JSON.stringify(request)} by ${number}`, (world) => {
    const [owner, arena] = world.attachment(number);
    const constraints = constraintsOf(request, world.model.granule, world.backing);
    if (world.room(constraints, 1) !== 'none') {
      world.accept(arena.allocate(request.byteLength, optionsOf(request)), owner, request);
      return;
    }
    if (!world.model.isPossible(constraints)) {
      expect(() => arena.allocate(request.byteLength, optionsOf(request))).toThrow(code('ERR_OUT_OF_RANGE'));
      return;
    }
    const { free, longestFree, granule } = world.model;
    let message = '';
    expect(() => {
      try {
        arena.allocate(request.byteLength, optionsOf(request));
      } catch (error) {
        ({ message } = error as Error);
        throw error;
      }
    }).toThrow(code('ENOSPC'));
    // What there is.
    expect(message.match(/\d+/g)?.map(Number)).toEqual(
      expect.arrayContaining([free * granule, longestFree * granule]),
    );
  });
}

function allocateMany(count: number, request: Request, number: number): Call {
  return call(`allocateMany ${count} of ${JSON.stringify(request)} by ${number}`, (world) => {
    const [owner, arena] = world.attachment(number);
    const constraints = constraintsOf(request, world.model.granule, world.backing);
    const run = () => arena.allocateMany(count, request.byteLength, optionsOf(request));
    const room = world.room(constraints, count);
    if (room === 'none') {
      expect(run).toThrow(code(world.model.isPossible(constraints) ? 'ENOSPC' : 'ERR_OUT_OF_RANGE'));
      return 'in steps';
    }
    const blocks = run();
    expect(blocks).toHaveLength(count);
    for (const block of blocks) {
      world.accept(block, owner, request);
    }
    return room === 'made' ? 'in steps' : undefined;
  });
}

function free(which: number, how: 'method' | 'arena' | 'dispose'): Call {
  return call(
    `free ${which} by ${how}`,
    (world) => {
      const start = world.pick(which) as number;
      const owner = world.ownerOf(start);
      const { guard, stamp } = world.held.get(start) as Held;
      const block = world.release(start);
      const kept = guard && stamp !== undefined ? block.bytes : undefined;
      if (how === 'method') {
        block.free();
      } else if (how === 'arena') {
        owner.free(block);
      } else {
        block[Symbol.dispose]();
      }
      expect(block.freed).toBe(true);
      expect(() => block.bytes).toThrow(code('ERR_INVALID_STATE'));
      expect(() => owner.free(block)).toThrow(code('ERR_INVALID_STATE'));
      expect(kept?.length ?? 0).toBe(0);
    },
    holdsSome,
  );
}

function freeMany(numbers: readonly number[]): Call {
  return call(
    `freeMany ${numbers.join(' ')}`,
    (world) => {
      const first = world.pick(numbers[0] ?? 0) as number;
      const arena = world.ownerOf(first);
      const starts = new Set(
        [...numbers.map((number) => world.pick(number) as number)].filter(
          (start) => world.ownerOf(start) === arena,
        ),
      );
      arena.freeMany([...starts].map((start) => world.release(start)));
    },
    holdsSome,
  );
}

function blockAt(share: number): Call {
  return call(`blockAt ${share}`, (world) => {
    const { model, made } = world;
    const offset = Math.floor(share * model.used.length * model.granule);
    const placed = model.blockAt(Math.floor(offset / model.granule));
    const address = model.base + offset;
    if (placed === undefined) {
      expect(() => made.arena.blockAt(address)).toThrow(code('ERR_OUT_OF_RANGE'));
      return;
    }
    const begin = placed.start * model.granule;
    const byteLength = placed.length * model.granule;
    expect(made.arena.blockAt(address)).toMatchObject({
      address: BigInt(model.base + begin),
      offset: begin,
      byteLength,
      tag: placed.tag,
      left: begin + byteLength - offset,
    });
  });
}

function map(cells: number): Call {
  return call(`map ${cells}`, (world) => {
    const { used } = world.model;
    const edge = (cell: number): number => Math.floor((used.length * cell) / cells);
    const shares = Array.from({ length: cells }, (_, cell) => {
      // A cell that is less than a granule is a part of one.
      const part = used.subarray(edge(cell), Math.max(edge(cell + 1), edge(cell) + 1));
      return part.reduce((sum, bit) => sum + bit, 0) / part.length;
    });
    world.made.arena.map(cells).forEach((share, cell) => {
      expect(share).toBeCloseTo(shares[cell] as number);
    });
  });
}

const attach = (): Call =>
  call(
    'attach',
    (world) => world.attach(),
    (world) => isShared(world) && world.attachments.size < 5,
  );

function end(number: number): Call {
  return call(
    `close ${number}`,
    (world) => {
      const others = [...world.attachments.keys()].filter((owner) => owner > 0);
      world.end(others[number % others.length] as number);
    },
    (world) => world.attachments.size > 1,
  );
}

function sweep(number: number): Call {
  return call(`sweep by ${number}`, (world) => {
    const [, arena] = world.attachment(number);
    const { blocks, granules } = world.model.sweep();
    expect(arena.sweep()).toMatchObject({ blocks, bytes: granules * world.model.granule });
  });
}

/** Powers of two. */
const powers = (least: number, most: number): fc.Arbitrary<number> =>
  fc.integer({ min: Math.log2(least), max: Math.floor(Math.log2(most)) }).map((bit) => 2 ** bit);

/** Arenas of a few granules more often than of many, and around the ends of words more often than elsewhere. */
const someGranules = fc.oneof(
  fc.constantFrom(1, 2, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025),
  fc.integer({ min: 1, max: 300 }),
);

/** Of up to `most` granules. */
function requests(backing: Backing, granule: number, granules: number, most: number): fc.Arbitrary<Request> {
  const bytes = granule * granules;
  return fc
    .record({
      length: fc.oneof(
        { weight: 4, arbitrary: fc.integer({ min: 1, max: Math.min(granules, 8) }) },
        { weight: 2, arbitrary: fc.integer({ min: 1, max: Math.min(granules, 70) }) },
        { weight: 1, arbitrary: fc.integer({ min: 1, max: most }) },
      ),
      less: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: granule - 1 })),
      align: fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, powers(1, 2 * bytes)),
      boundary: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, powers(granule, 2 * bytes)),
      tag: fc.constantFrom('', 'frames', 'audio', 'x'.repeat(47)),
      zero: fc.boolean(),
      guard:
        backing.guardPage === 0 ? fc.constant(false) : fc.integer({ min: 0, max: 9 }).map((n) => n === 9),
    })
    .map(({ length, less, boundary, zero, ...rest }) => {
      const byteLength = length * granule - less;
      const request = { ...rest, byteLength, boundary, zero: zero && byteLength <= MOST_ZEROED };
      const { length: taken } = constraintsOf(request, granule, backing);
      // A block longer than its boundary is no request, and has a test of its own.
      return { ...request, boundary: boundary < taken * granule ? 0 : boundary };
    });
}

const numbers = fc.nat({ max: 1000 });

const calls = (
  request: fc.Arbitrary<Request>,
  maxCommands: number,
): fc.Arbitrary<Iterable<Command<World, World>>> =>
  fc.commands(
    [
      fc.tuple(request, numbers).map((args) => allocate(...args)),
      fc.tuple(request, numbers).map((args) => allocate(...args)),
      fc.tuple(fc.integer({ min: 1, max: 12 }), request, numbers).map((args) => allocateMany(...args)),
      fc.tuple(numbers, fc.constantFrom('method', 'arena', 'dispose')).map((args) => free(...args)),
      fc.array(numbers, { minLength: 1, maxLength: 6 }).map(freeMany),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }).map(blockAt),
      fc.integer({ min: 1, max: 400 }).map(map),
      fc.constant(attach()),
      numbers.map(end),
      numbers.map(sweep),
    ],
    { maxCommands, size: 'max' },
  );

interface Plan {
  granule: number;
  granules: number;
  calls: Iterable<Command<World, World>>;
}

function run(backing: Backing, options: ArenaOptions, plan: Plan): void {
  using world = new World(backing, plan.granule, plan.granules, options);
  fc.modelRun(() => ({ model: world, real: world }), plan.calls);
  // What the calls left is freed one by one, and the arena is as at first.
  for (const start of [...world.held.keys()]) {
    const arena = world.ownerOf(start);
    arena.free(world.release(start));
  }
  world.model.sweep();
  world.made.arena.sweep();
  world.compare();
  expect(world.made.arena.stats().used).toBe(0);
}

/** Arenas of every size and granule, of at most so many bytes. */
export function doesAsModel(
  backing: Backing,
  numRuns: number,
  most: number = Number.POSITIVE_INFINITY,
): void {
  const plans = fc
    .record({ granule: fc.constantFrom(64, 128, 512, 4096, 65_536), granules: someGranules })
    .filter(({ granule, granules }) => granule * granules <= most)
    .chain(({ granule, granules }) =>
      calls(requests(backing, granule, granules, granules), 60).map((made) => ({
        granule,
        granules,
        calls: made,
      })),
    );
  fc.assert(
    fc.property(plans, (plan) => run(backing, {}, plan)),
    { numRuns, ...repeatable },
  );
}

/** One of so many granules, of which only those pages are there that somebody wrote to. */
export function doesAsModelIfSparse(
  backing: Backing,
  granule: number,
  granules: number,
  numRuns: number,
): void {
  const plans = calls(requests(backing, granule, granules, granules >> 2), 40).map((made) => ({
    granule,
    granules,
    calls: made,
  }));
  fc.assert(
    fc.property(plans, (plan) => run(backing, { allocate: false }, plan)),
    { numRuns, ...repeatable },
  );
}
