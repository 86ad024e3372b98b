/**
 * A user of an arena that allocates and frees for as long as it lives, in a process or a worker of its own. Each block is
 * stamped at both ends, and looked at before it is freed: what is not as it was written was somebody else's, too.
 *
 * Its argument is the {@link Task}. It says `ready` once it has blocks, goes on at the first message, and at the second
 * gives everything back.
 */
import { writeSync } from 'node:fs';
import { isMainThread, parentPort, threadId, workerData } from 'node:worker_threads';
import { Arena, type DmaBlock } from 'iospace';

export interface Task {
  target: string | { fd: number };
  /** Throws so many operations after the first message. Absent: never. */
  throwAfter?: number;
}

const task: Task = isMainThread ? JSON.parse(process.argv[2] ?? '{}') : workerData;

/** Blocks that it has at one time, in bulk apart. */
const HELD = 200;
const IN_BULK = 300;

const arena = Arena.attach(task.target);
const held = new Map<DmaBlock, number>();
let stamps = (process.pid * 31 + threadId) % 65_521;

const below = (limit: number): number => Math.floor(Math.random() * limit);

function stamp(block: DmaBlock): void {
  stamps = (stamps + 1) >>> 0;
  const { bytes } = block;
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, stamps);
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(bytes.length - 4, stamps);
  held.set(block, stamps);
}

/** Takes the block out of what is held, once it is found as it was left. */
function take(block: DmaBlock): DmaBlock {
  const { bytes } = block;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const expected = held.get(block);
  if (view.getUint32(0) !== expected || view.getUint32(bytes.length - 4) !== expected) {
    throw new Error(`the block at ${block.offset} is not as it was left`);
  }
  held.delete(block);
  return block;
}

/** What finds the arena full frees half of what it has. */
function allocating(allocate: () => void): void {
  try {
    allocate();
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOSPC') {
      throw error;
    }
    const all = [...held.keys()];
    arena.freeMany(all.slice(0, all.length / 2).map(take));
  }
}

function operate(): void {
  const what = below(20);
  if (what === 0) {
    // More than there is: long in one call, which takes all of it back.
    allocating(() => arena.allocateMany(arena.byteLength / arena.granule, arena.granule));
  } else if (what < 10 && held.size < HELD) {
    allocating(() => stamp(arena.allocate((1 + below(40)) * arena.granule, { tag: 'hammer' })));
  } else if (what < 16 && held.size > 0) {
    const all = [...held.keys()];
    arena.free(take(all[below(all.length)] as DmaBlock));
  } else {
    allocating(() => {
      const blocks = arena.allocateMany(IN_BULK, arena.granule, { tag: 'bulk' });
      blocks.forEach(stamp);
      arena.freeMany(blocks.map(take));
    });
  }
}

function say(word: string): void {
  if (parentPort === null) {
    writeSync(1, `${word}\n`);
  } else {
    parentPort.postMessage(word);
  }
}

const heard = (): Promise<unknown> =>
  new Promise((resolve) => {
    parentPort?.once('message', resolve) ?? process.once('message', resolve);
  });

// Nobody is there any more to end it.
process.once('disconnect', () => process.exit());

for (let operations = 0; operations < 20; operations++) {
  operate();
}
say('ready');
await heard();

let isEnding = false;
heard().then(() => {
  isEnding = true;
});
for (let operations = 0; !isEnding; operations++) {
  if (operations === task.throwAfter) {
    throw new Error('thrown on purpose');
  }
  operate();
  if (operations % 100 === 99) {
    await new Promise(setImmediate);
  }
}
arena.freeMany([...held.keys()].map(take));
arena.close();
process.disconnect?.();
