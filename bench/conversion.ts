/**
 * What an allocation of converted memory costs on x86: the first one after the device was opened, which changes the
 * type of pages, and the next, which finds them changed; against cached memory, in the same run. And a thousand
 * small ones.
 *
 *     npx iospace lab run --icount -- node build/bench/conversion.js [--json]
 *
 * There the figures are counts of instructions, in thousands: they say what the kernel does, not what the flush of
 * caches costs that a change of type brings. On a board or a PC, run without the lab, they are microseconds.
 */
import { parseArgs } from 'node:util';
import { DmaDevice, type MemoryType } from 'iospace';

const { values: options } = parseArgs({ options: { json: { type: 'boolean', default: false } } });

const KIB = 1024;
const MIB = 1024 * KIB;
const sizes = [
  { name: '4 KiB', byteLength: 4 * KIB },
  { name: '64 KiB', byteLength: 64 * KIB },
  { name: '1 MiB', byteLength: MIB },
  { name: '16 MiB', byteLength: 16 * MIB },
];
/** Of each figure, the median. */
const ROUNDS = 9;
const MANY = 1000;

/** What it takes, in thousands of nanoseconds or instructions. */
function cost(run: () => void): number {
  const begin = process.hrtime.bigint();
  run();
  return Number(process.hrtime.bigint() - begin) / 1000;
}

function allocate(device: DmaDevice, byteLength: number, memory: MemoryType): number {
  let buffer: Disposable | undefined;
  const taken = cost(() => {
    buffer = device.alloc(byteLength, { memory });
  });
  buffer?.[Symbol.dispose]();
  return taken;
}

function median(figures: number[]): number {
  return figures.sort((a, b) => a - b)[Math.floor(figures.length / 2)] ?? Number.NaN;
}

interface Figures {
  first: number;
  next: number;
}

function measure(byteLength: number, memory: MemoryType): Figures {
  const first: number[] = [];
  const next: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    using device = DmaDevice.open('iospace0');
    first.push(allocate(device, byteLength, memory));
    next.push(allocate(device, byteLength, memory));
  }
  return { first: median(first), next: median(next) };
}

/** All held at once, from a freshly opened device. */
function many(memory: MemoryType): number {
  using device = DmaDevice.open('iospace0');
  return cost(() => {
    for (let n = 0; n < MANY; n++) {
      device.alloc(4 * KIB, { memory });
    }
  });
}

measure(4 * KIB, 'uncached'); // once, unmeasured: code is compiled, the kernel's caches are filled
const table = sizes.map(({ name, byteLength }) => {
  const uncached = measure(byteLength, 'uncached');
  const cached = measure(byteLength, 'cached');
  return {
    size: name,
    'uncached, first': Math.round(uncached.first),
    'uncached, next': Math.round(uncached.next),
    'cached, next': Math.round(cached.next),
    'first / cached': (uncached.first / cached.next).toFixed(2),
    'next / cached': (uncached.next / cached.next).toFixed(2),
  };
});
const [converted, cached] = [many('uncached'), many('cached')];
if (options.json) {
  console.log(JSON.stringify({ table, many: { buffers: MANY, uncached: converted, cached } }));
} else {
  console.table(table);
  console.log(
    `${MANY} buffers of 4 KiB: uncached ${Math.round(converted)}, cached ${Math.round(cached)}, ` +
      `${(converted / cached).toFixed(2)} times as much`,
  );
}
