/**
 * What a segment of 1 MiB costs that is made, mapped, unmapped and removed again: by iospace, and by other packages. A line of
 * JSON for each.
 *
 *     node open.js DIRECTORY COUNT
 *
 * Nobody touches the memory. One is measured after the other, many times, so that all meet the same machine.
 */
import { closeSync, ftruncateSync, openSync, unlinkSync } from 'node:fs';
import { posix } from 'iospace/shm';
import { show, Windows } from '../measure.js';
import { load } from './packages.js';

const SIZE = 2 ** 20;
const NAME = `/iospace-bench-${process.pid}`;
const PATH = `/dev/shm${NAME}`;

/** What is used of `shm-typed-array`. */
interface ShmTypedArray {
  create(count: number, type: 'Buffer', name?: string): (Uint8Array & { key?: number }) | null;
  destroy(key: number | string | undefined): boolean;
}

/** What is used of `@riaskov/mmap-io`. */
interface MmapIo {
  readonly PROT_READ: number;
  readonly PROT_WRITE: number;
  readonly MAP_SHARED: number;
  map(size: number, protection: number, flags: number, fd: number): Uint8Array;
}

function cycle(allocate: boolean): void {
  const memory = posix.open(NAME, { create: true, exclusive: true, size: SIZE, allocate });
  check(memory.bytes);
  memory.close();
  posix.unlink(NAME);
}

function check(bytes: Uint8Array | null): void {
  if (bytes?.length !== SIZE) {
    throw new Error(`expected ${SIZE} bytes, got ${bytes?.length}`);
  }
}

const [directory = '', number = ''] = process.argv.slice(2);
const others = load<ShmTypedArray>(directory, 'shm-typed-array');
const mmapIo = load<MmapIo>(directory, '@riaskov/mmap-io');

const ways: Record<string, () => void> = {
  'posix.open, allocate: false': () => cycle(false),
  'posix.open, allocate: true': () => cycle(true),
  ...(others !== undefined && {
    'shm-typed-array, POSIX': () => {
      check(others.create(SIZE, 'Buffer', NAME));
      others.destroy(NAME);
    },
    'shm-typed-array, System V': () => {
      const bytes = others.create(SIZE, 'Buffer');
      check(bytes);
      others.destroy(bytes?.key);
    },
  }),
  ...(mmapIo !== undefined && {
    // It has no way to unmap: that is left to the collector.
    '@riaskov/mmap-io': () => {
      const { PROT_READ, PROT_WRITE, MAP_SHARED } = mmapIo;
      const fd = openSync(PATH, 'wx+', 0o600);
      ftruncateSync(fd, SIZE);
      check(mmapIo.map(SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd));
      closeSync(fd);
      unlinkSync(PATH);
    },
  }),
};

/** Few and long: what a segment leaves to the collector is to be in them, too. */
const WINDOWS = 40;
const each = Math.ceil(Number(number) / WINDOWS);
const measured = Object.entries(ways).map(([of, way]) => ({ of, way, windows: new Windows([]) }));
for (let window = 0; window < WINDOWS; window++) {
  for (const { way, windows } of measured) {
    await windows.add(each, (count) => {
      for (let one = 0; one < count; one++) {
        way();
      }
    });
  }
}
for (const { of, windows } of measured) {
  show(of, '1 MiB', { microseconds: windows.cost / 1000 });
}
