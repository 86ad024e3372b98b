/** Litmus runs: the sides of some, each side a process (`litmus-side.ts`), on memory made for them. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type PosixMemory, posix, Ring } from 'iospace/shm';

const program = fileURLToPath(new URL('../../build/guest/litmus-side.js', import.meta.url));

/** The shapes of `litmus-side.ts`, and how many sides each has. */
const sidesOf = {
  passing: 2,
  coherence: 2,
  'store-buffering': 2,
  'load-buffering': 2,
  single: 2,
  many: 3,
} as const;

/** How many rounds of each shape; of a ring, how many messages of each sender. */
export type Plan = Partial<Record<keyof typeof sidesOf, number>>;

/** Which ArrayBuffer a side has its words in: the mapping's own, or a SharedArrayBuffer. */
export type View = 'mapped' | 'shared';

/** Of rings: small enough to wrap all the time. */
const RING_BYTES = 1024 + (1 << 15);

function make(name: string, size: number): PosixMemory {
  return posix.open(name, { create: true, exclusive: true, size });
}

/** What a shape works in, and where its sides meet before. */
function prepare(name: string, shape: string, count: number): PosixMemory[] {
  const isRing = shape === 'single' || shape === 'many';
  const memory = make(`${name}-${shape}`, isRing ? RING_BYTES : 4096 + 4 * count);
  if (isRing) {
    Ring.create(memory, { kind: shape });
  }
  return [memory, make(`${name}-${shape}-meeting`, 4096)];
}

/**
 * Runs shapes, one after the other, to their end.
 *
 * @param views - of the first side, and of the others
 * @throws what a side saw that must not be
 */
export async function run(plan: Plan, [first, others]: readonly [View, View]): Promise<void> {
  const name = `/iospace-litmus-${process.pid}`;
  const shapes = Object.entries(plan) as [keyof typeof sidesOf, number][];
  const memories: PosixMemory[] = [];
  try {
    for (const [shape, count] of shapes) {
      memories.push(...prepare(name, shape, count));
    }
    const sides = Array.from({ length: Math.max(...shapes.map(([shape]) => sidesOf[shape])) }, (_, side) => {
      const part = shapes
        .filter(([shape]) => side < sidesOf[shape])
        .map(([shape, count]) => `${shape}=${count}=${sidesOf[shape]}`);
      const words = [program, String(side), name, side === 0 ? first : others, ...part];
      const child = spawn(process.execPath, words, { stdio: ['ignore', 'ignore', 'pipe'] });
      let said = '';
      child.stderr.on('data', (chunk) => {
        said += chunk;
      });
      const ended = new Promise<void>((resolve, reject) => {
        child.once('close', (code, signal) => {
          if (code === 0) {
            resolve();
          } else {
            reject(new Error(said || `side ${side} ended by ${signal ?? code}`));
          }
        });
      });
      return { child, ended };
    });
    try {
      await Promise.all(sides.map(({ ended }) => ended));
    } finally {
      // Whoever waits for one that has failed.
      for (const { child } of sides) {
        child.kill('SIGKILL');
      }
      await Promise.allSettled(sides.map(({ ended }) => ended));
    }
  } finally {
    for (const memory of memories) {
      memory.unlink();
      memory.close();
    }
  }
}
