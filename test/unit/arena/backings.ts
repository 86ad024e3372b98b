/** Arenas over each kind of memory that this host has. */
import { readFileSync, writeFileSync } from 'node:fs';
import { Arena, type ArenaOptions, DmaDevice } from '../../../lib/index.js';

export interface Made extends Disposable {
  readonly arena: Arena;
  /** Another attachment, in the same process. */
  attach(): Arena;
}

export interface Backing {
  readonly name: string;
  /** Whether there can be other attachments. */
  readonly shared: boolean;
  /** Whether an allocation that finds no space takes what the dead had. */
  readonly reclaims: boolean;
  /** Whether a block can have a mapping of its own, which is of whole pages of so many bytes; 0 if not. */
  readonly guardPage: number;
  /** The address of the first byte; 0 where there is none, for then it is the offset that is aligned. */
  readonly base: number;
  make(options: ArenaOptions): Made;
}

let counter = 0;

/** A name that no other test has. */
export const freshName = (): string => `test-${process.pid}-${counter++}`;

export const shm: Backing = {
  name: 'shm',
  shared: true,
  reclaims: true,
  guardPage: 4096,
  base: 0,
  make(options) {
    const arena = Arena.create({ ...options, name: freshName(), backing: 'shm' });
    return {
      arena,
      attach: () => Arena.attach(arena.name),
      [Symbol.dispose]() {
        arena.unlink();
        arena.close();
      },
    };
  },
};

const anonymous = (name: 'memfd' | 'hugepages', guardPage: number): Backing => ({
  name,
  shared: true,
  reclaims: true,
  guardPage,
  base: 0,
  make(options) {
    const arena = Arena.create({ ...options, backing: name });
    return {
      arena,
      attach: () => Arena.attach({ fd: arena.fd }),
      [Symbol.dispose]: () => arena.close(),
    };
  },
});

export const memfd = anonymous('memfd', 4096);
export const hugepages = anonymous('hugepages', 2 << 20);

export const dmaBuffer: Backing = {
  name: 'a DmaBuffer',
  shared: false,
  reclaims: false,
  guardPage: 0,
  base: 0,
  make({ byteLength = 0, granule }) {
    const device = DmaDevice.open({ provider: 'memfd' });
    const arena = Arena.create({
      backing: device.alloc(byteLength),
      ...(granule !== undefined && { granule }),
    });
    return {
      arena,
      attach() {
        throw new Error('the arena of a DmaBuffer has one attachment');
      },
      [Symbol.dispose]() {
        arena.close();
        device.close();
      },
    };
  },
};

/** How many huge pages the kernel may make when they are asked for. */
const OVERCOMMIT = '/proc/sys/vm/nr_overcommit_hugepages';

/** Why this machine has no huge pages for the tests, if it has none. */
export function missingHugePages(): string | undefined {
  try {
    if (!/^Hugepagesize: +2048 kB$/m.test(readFileSync('/proc/meminfo', 'utf8'))) {
      return 'this machine has no huge pages of 2 MiB';
    }
    writeFileSync(OVERCOMMIT, readFileSync(OVERCOMMIT));
    return undefined;
  } catch (error) {
    return `huge pages need root: ${(error as Error).message}`;
  }
}

/** Lets the kernel make that many more huge pages, until it is disposed of. */
export function allowHugePages(count: number): Disposable {
  const change = (by: number): void =>
    writeFileSync(OVERCOMMIT, String(Number(readFileSync(OVERCOMMIT, 'utf8')) + by));
  change(count);
  return { [Symbol.dispose]: () => change(-count) };
}
