/**
 * What blocks of an arena cost from JavaScript, beside what else gives memory there. A line of JSON for each.
 *
 *     node library.js buffers|pool|workload|processes SEED PAIRS
 *
 * Each part is a process of its own: none finds code that was compiled for another's objects.
 * The arenas are memfds whose memory nobody touches. No device is there, so no block has an address for one: what stands for
 * it is a base and the block's offset, added as bigints, which is how the library makes it.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { MemPool } from '@thi.ng/malloc';
import { Arena, configureArena, type DmaBlock, dmaFree, dmaMalloc } from 'iospace';
import { median, now, schedule } from '../measure.js';

const KIB = 1024;
const GIB = 2 ** 30;
const GRANULE = 4 * KIB;
const FILL = 0.7;
/** How often one is measured after the other. */
const TURNS = 10;

/** What is added up, so that nothing is left out as useless. */
let sum = 0;

function show(of: string, workload: string, pair: number, live?: number): void {
  console.log(JSON.stringify({ of, in: workload, pair, blocks: live }));
}

/** Nanoseconds of this thread alone, for each of so many. */
function cost(count: number, work: () => void): number {
  const begin = schedule().ran;
  work();
  return (schedule().ran - begin) / count;
}

/** Park and Miller's, as in the other programs. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

/** How a kind of memory is taken and given back. */
interface Kind<Block extends { byteLength: number }> {
  allocate(byteLength: number): Block;
  free(block: Block): void;
}

const base = 0x8000_0000n;

/** Blocks with their view and their address. */
const blocks: Kind<DmaBlock> = {
  allocate(byteLength) {
    const block = dmaMalloc(byteLength);
    const address = base + BigInt(block.offset);
    sum += block.bytes.length + (address === 0n ? 1 : 0);
    return block;
  },
  free(block) {
    dmaFree(block);
  },
};

/** Keeps memory filled so far: frees random blocks while it is fuller, else allocates. */
class Tenant<Block extends { byteLength: number }> {
  readonly #kind: Kind<Block>;
  readonly #goal: number;
  readonly #longest: number;
  readonly #random: () => number;
  readonly #lengths: number[];
  readonly #choices: number[];
  readonly #blocks: Block[] = [];
  #used = 0;
  #next = 0;

  constructor(kind: Kind<Block>, byteLength: number, longest: number, seed: number) {
    this.#kind = kind;
    this.#goal = FILL * byteLength;
    this.#longest = longest * GRANULE;
    this.#random = randomFrom(seed);
    // Drawn before any clock runs.
    this.#lengths = Array.from({ length: 2 ** 16 }, () => Math.ceil(this.#random() * longest) * GRANULE);
    this.#choices = Array.from({ length: 2 ** 16 }, () => this.#random());
  }

  get live(): number {
    return this.#blocks.length;
  }

  settle(steps: number): void {
    while (this.#used + this.#longest <= this.#goal) {
      this.step();
    }
    for (let step = 0; step < steps; step++) {
      this.step();
    }
  }

  step(): void {
    const at = this.#next++ % 2 ** 16;
    const byteLength = this.#lengths[at] as number;
    let choice = this.#choices[at] as number;
    const blocks = this.#blocks;
    while (this.#used + byteLength > this.#goal && blocks.length > 0) {
      const index = Math.floor(choice * blocks.length);
      const last = blocks.pop() as Block;
      let gone = last;
      if (index < blocks.length) {
        gone = blocks[index] as Block;
        blocks[index] = last;
      }
      this.#used -= gone.byteLength;
      this.#kind.free(gone);
      choice = (choice * 48271) % 1;
    }
    blocks.push(this.#kind.allocate(byteLength));
    this.#used += byteLength;
  }
}

function steps<Block extends { byteLength: number }>(tenant: Tenant<Block>, count: number): number {
  return cost(count, () => {
    for (let step = 0; step < count; step++) {
      tenant.step();
    }
  });
}

function pairs(byteLength: number, count: number): number {
  return cost(count, () => {
    for (let pair = 0; pair < count; pair++) {
      blocks.free(blocks.allocate(byteLength));
    }
  });
}

function buffers(byteLength: number, count: number): number {
  return cost(count, () => {
    for (let pair = 0; pair < count; pair++) {
      sum += Buffer.allocUnsafeSlow(byteLength).length;
    }
  });
}

/** Memory is taken and given back at once, in an empty arena and in one that is filled as in the workload. */
function againstBuffers(seed: number, count: number): void {
  for (const fill of ['empty', '70 %']) {
    using arena = Arena.create({ backing: 'memfd', byteLength: GIB, allocate: false });
    configureArena(arena);
    const tenant = new Tenant(blocks, GIB, 64, seed);
    if (fill === '70 %') {
      tenant.settle(count);
    }
    // Until both are compiled.
    for (let turn = 0; turn < 3; turn++) {
      pairs(GRANULE, count);
      buffers(GRANULE, Math.ceil(count / 10));
    }
    for (const size of [4, 16, 64, 256]) {
      const ours: number[] = [];
      const theirs: number[] = [];
      for (let turn = 0; turn < TURNS; turn++) {
        ours.push(pairs(size * KIB, Math.ceil(count / TURNS)));
        theirs.push(buffers(size * KIB, Math.ceil(count / TURNS)));
      }
      const workload = `${size} KiB, ${fill}`;
      show('dmaMalloc', workload, median(ours));
      show('Buffer.allocUnsafeSlow', workload, median(theirs));
    }
    configureArena(undefined);
  }
}

/** 64 MiB with about 1,300 live blocks. */
function againstPool(seed: number, count: number): void {
  const byteLength = 64 * KIB * KIB;
  using arena = Arena.create({ backing: 'memfd', byteLength, allocate: false });
  configureArena(arena);
  const pool = new MemPool({ buf: new ArrayBuffer(byteLength) });
  const pooled: Kind<Uint8Array> = {
    allocate(length) {
      const view = pool.mallocAs('u8', length);
      if (view === undefined) {
        throw new Error('expected memory of the pool, got none');
      }
      sum += view.length + view.byteOffset;
      return view;
    },
    free(view) {
      pool.free(view);
    },
  };
  const ours = new Tenant(blocks, byteLength, 16, seed);
  const theirs = new Tenant(pooled, byteLength, 16, seed);
  ours.settle(count);
  theirs.settle(Math.ceil(count / 10));
  const figures: [number[], number[]] = [[], []];
  for (let turn = 0; turn < TURNS; turn++) {
    figures[0].push(steps(ours, Math.ceil(count / TURNS)));
    figures[1].push(steps(theirs, Math.ceil(count / TURNS / 10)));
  }
  const workload = '64 MiB, 70 %, 1..16';
  show('dmaMalloc', workload, median(figures[0]), ours.live);
  show('@thi.ng/malloc', workload, median(figures[1]), theirs.live);
  configureArena(undefined);
}

/** Of an arena itself, without views and addresses. */
function blocksOf(arena: Arena): Kind<DmaBlock> {
  return {
    allocate: (byteLength) => arena.allocate(byteLength),
    free: (block) => arena.free(block),
  };
}

function workload(seed: number, count: number): void {
  for (const [name, byteLength] of [
    ['16 MiB', GIB / 64],
    ['1 GiB', GIB],
    ['64 GiB', 64 * GIB],
  ] as const) {
    using arena = Arena.create({ backing: 'memfd', byteLength, allocate: false });
    const tenant = new Tenant(blocksOf(arena), byteLength, 64, seed);
    tenant.settle(count);
    const figures = Array.from({ length: TURNS }, () => steps(tenant, Math.ceil(count / TURNS)));
    show('JavaScript', `${name}, 70 %, 1..64`, median(figures));
  }
}

/** What a process got done in one window of time. */
interface Window {
  /** Pairs in a nanosecond. */
  rate: number;
  /** The share of the time in which it could have run, and had no processor, or came too late. */
  waited: number;
}

const WINDOWS = 40;

/** One of the processes that share an arena: steps in windows of time that all of them have in common. */
async function hammer(seed: number, count: number, processes: number): Promise<void> {
  using arena = Arena.attach({ fd: 3 });
  const tenant = new Tenant(blocksOf(arena), GIB / processes, 64, seed);
  tenant.settle(count);
  const length = (count * 500) / WINDOWS;
  process.send?.('ready');
  const [begin] = (await once(process, 'message')) as [number];
  const windows: Window[] = [];
  for (let window = 0; window < WINDOWS; window++) {
    const from = begin + window * 2 * length;
    while (now() < from) {}
    const before = schedule().waited;
    const started = now();
    let done = 0;
    do {
      for (let step = 0; step < 64; step++) {
        tenant.step();
      }
      done += 64;
    } while (now() < from + length);
    const time = now();
    windows.push({
      rate: done / (time - started),
      waited: (schedule().waited - before + started - from) / length,
    });
  }
  process.send?.(windows);
  process.disconnect?.();
}

async function message<T>(child: ChildProcess): Promise<T> {
  const [first] = await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => {
      throw new Error('a process of the benchmark ended before it was to');
    }),
  ]);
  return first as T;
}

async function together(seed: number, count: number, processes: number): Promise<void> {
  using arena = Arena.create({ backing: 'memfd', byteLength: GIB, allocate: false });
  const children = Array.from({ length: processes }, (_, index) =>
    fork(import.meta.filename, ['hammer', String(seed + index), String(count), String(processes)], {
      stdio: ['ignore', 'inherit', 'inherit', arena.fd, 'ipc'],
    }),
  );
  await Promise.all(children.map((child) => message(child)));
  const ends = children.map((child) => message<Window[]>(child));
  const begin = now() + 50e6;
  for (const child of children) {
    child.send(begin);
  }
  const windows = await Promise.all(ends);
  const rates = Array.from({ length: WINDOWS }, (_, index) => ({
    rate: windows.reduce((rate, of) => rate + (of[index]?.rate ?? 0), 0),
    waited: Math.max(...windows.map((of) => of[index]?.waited ?? 0)),
  })).sort((a, b) => a.waited - b.waited);
  // Those in which nobody had to wait for a processor, or what comes next to it.
  const quiet = rates.filter(({ waited: share }) => share < 0.05);
  const counted = quiet.length > 0 ? quiet : rates.slice(0, 1);
  show(
    processes === 1 ? 'JavaScript, one process' : 'JavaScript, two processes',
    '1 GiB, 70 %, 1..64',
    1 / median(counted.map(({ rate }) => rate)),
  );
}

const [part = '', ...numbers] = process.argv.slice(2);
const [seed = 1, count = 1, processes = 1] = numbers.map(Number);
const parts: Readonly<Record<string, () => void | Promise<void>>> = {
  buffers: () => againstBuffers(seed, count),
  pool: () => againstPool(seed, count),
  workload: () => workload(seed, count),
  processes: async () => {
    await together(seed, count, 1);
    await together(seed, count, 2);
  },
  /** One of those. */
  hammer: () => hammer(seed, count, processes),
};
const run = parts[part];
if (run === undefined) {
  throw new Error(`expected one of ${Object.keys(parts).join(', ')}, got ${part}`);
}
await run();
if (Number.isNaN(sum)) {
  throw new Error('expected a sum');
}
