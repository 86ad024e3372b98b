/**
 * Two processes and one arena: blocks go from one to the other by their offsets, and nothing is copied. Then one of them is
 * killed, and what it had is given back.
 *
 *     node build/examples/arena.js             # in shared memory, anywhere
 *     node build/examples/arena.js module:0    # in the module's arena, where there is one
 *
 * The parent starts this same program as a child, which gets the name of the arena.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { Arena } from 'iospace';

const FRAME = 320 * 200;
const ROLE = 'IOSPACE_EXAMPLE_ARENA';

/** Where a block is: all that one process tells the other. */
interface Place {
  offset: number;
  byteLength: number;
}

function numberIn({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

/** The place that the other process tells. */
async function told(other: ChildProcess | NodeJS.Process): Promise<Place> {
  const [place] = await once(other, 'message');
  return place as Place;
}

/** Has a frame counted by a child, kills the child, and cleans up after it. */
async function parent(arena: Arena): Promise<void> {
  using frame = arena.allocate(FRAME, { tag: 'frame' });
  frame.bytes.fill(7);
  const child = fork(new URL(import.meta.url), { env: { ...process.env, [ROLE]: arena.name } });
  try {
    const answered = told(child);
    child.send({ offset: frame.offset, byteLength: frame.byteLength } satisfies Place);
    const { offset, byteLength } = await Promise.race([answered, refused(child)]);
    const sum = numberIn(arena.bytesAt(offset, byteLength)).getUint32(0);
    if (sum !== FRAME * 7) {
      throw new Error(`the child should have counted ${FRAME * 7}, counted ${sum}`);
    }
    console.log(`the child sees the frame, and counted ${sum}`);
  } finally {
    child.kill('SIGKILL');
    await ended(child);
  }
  console.table(arena.stats().byOwner, ['owner', 'program', 'alive', 'blocks', 'bytes']);
  // Nobody else may have its blocks until we say so: in the module's arena a device could still be writing there.
  const { blocks, bytes, owners } = arena.sweep();
  console.log(`swept: ${blocks} blocks, ${bytes} bytes of ${owners} dead owner`);
  const ours = arena.stats().byOwner.find(({ owner }) => owner === arena.owner);
  if (ours?.blocks !== 1 || arena.check().length > 0) {
    throw new Error('the frame should still be ours, and the books sound');
  }
}

/** Rejects if the child ends. */
async function refused(child: ChildProcess): Promise<never> {
  const [code] = await once(child, 'exit');
  throw new Error(`the child ended with ${code} before it had answered`);
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    await once(child, 'exit');
  }
}

/** Counts the frame that it is told of, answers by a block of its own, and waits to be killed. */
async function child(arena: Arena): Promise<void> {
  const { offset, byteLength } = await told(process);
  const frame = arena.bytesAt(offset, byteLength);
  const result = arena.allocate(4, { tag: 'result' });
  const sum = frame.reduce((before, byte) => before + byte, 0);
  numberIn(result.bytes).setUint32(0, sum);
  arena.allocate(1 << 20, { tag: 'never freed' });
  process.send?.({ offset: result.offset, byteLength: result.byteLength } satisfies Place);
  await once(process, 'disconnect');
}

const { [ROLE]: shared } = process.env;
const [, , target] = process.argv;
if (shared !== undefined) {
  using arena = Arena.attach(shared);
  await child(arena);
} else if (target !== undefined) {
  using arena = Arena.attach(target);
  await parent(arena);
} else {
  using arena = Arena.create({ name: `example-${process.pid}`, byteLength: 4 << 20 });
  try {
    await parent(arena);
  } finally {
    arena.unlink();
  }
}
