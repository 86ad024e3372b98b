/**
 * `syncForDevice()` and `syncForCpu()` of a buffer that needs neither, against a function that enters the kernel and does
 * nothing there. With `parts` the syncs, and then as many calls of that function, stand between calls of getppid(), for
 * `calls` to count what enters the kernel.
 */
import { DmaDevice } from 'iospace';

const ROUNDS = 9;
const TIMES = 1000;

function cost(call: () => void): number {
  const begin = process.hrtime.bigint();
  for (let time = 0; time < TIMES; time++) {
    call();
  }
  return Number(process.hrtime.bigint() - begin) / TIMES;
}

function median(figures: number[]): number {
  return figures.sort((a, b) => a - b)[Math.floor(figures.length / 2)] ?? Number.NaN;
}

using device = DmaDevice.open('iospace0');
const buffer = device.alloc(64 << 20, { memory: 'cached' });
const calls: Record<string, () => void> = {
  'syncForDevice()': () => buffer.syncForDevice(),
  'syncForDevice(4096, 4096)': () => buffer.syncForDevice(4096, 4096),
  'syncForCpu(4096, 4096)': () => buffer.syncForCpu(4096, 4096),
};
const other = () => process.geteuid?.();

function showParts(): void {
  const syncs = Object.values(calls);
  process.ppid;
  for (const sync of syncs) {
    sync();
  }
  process.ppid;
  for (const _sync of syncs) {
    other();
  }
  process.ppid;
}

if (process.argv[2] === 'parts') {
  showParts();
  process.exit();
}
for (const [name, call] of Object.entries(calls)) {
  const ours: number[] = [];
  const others: number[] = [];
  for (let round = -ROUNDS; round < ROUNDS; round++) {
    const [our, another] = [cost(call), cost(other)];
    // The first half compiles them.
    if (round >= 0) {
      ours.push(our);
      others.push(another);
    }
  }
  console.log(JSON.stringify({ name, iospace: Math.round(median(ours)), other: Math.round(median(others)) }));
}
