/**
 * Memory that a program has anyway, of every kind, to be mapped for a device where it is. And what the kernel says of it:
 * where its pages lie, how many are pinned.
 */
import { closeSync, existsSync, openSync, readFileSync, readSync, unlinkSync, writeFileSync } from 'node:fs';
import { DmaDevice } from 'iospace';
import * as raw from 'iospace/raw';
import { posix } from 'iospace/shm';
import { pageSize } from './witness.js';

const { PROT_READ, PROT_WRITE, MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MFD_HUGETLB, O_RDWR } = raw.constants;

/** A directory of the host that can be written, if the machine has one: `test/guest.test.ts` gives it. */
export const scratch: string | undefined = existsSync('/scratch') ? '/scratch' : undefined;

/** Memory of one kind. */
export interface UserMemory extends Disposable {
  name: string;
  bytes: Uint8Array;
  /** Whether it begins a page. */
  isAligned: boolean;
  /** Whether a device may write it. */
  isWritable: boolean;
}

/** Private memory that nobody has touched. */
export function untouched(byteLength: number, protection = PROT_READ | PROT_WRITE): raw.Mapping {
  return raw.mmap(-1, byteLength, protection, MAP_PRIVATE | MAP_ANONYMOUS);
}

/** Pages of a file, `byteLength` bytes of 0x11. The file has no name any more. */
export function filePages(directory: string, byteLength: number, flags: number): raw.Mapping {
  const path = `${directory}/pages-${process.pid}`;
  writeFileSync(path, Buffer.alloc(byteLength, 0x11));
  const fd = raw.open(path, O_RDWR);
  try {
    return raw.mmap(fd, byteLength, PROT_READ | PROT_WRITE, flags);
  } finally {
    raw.close(fd);
    unlinkSync(path);
  }
}

function memfdPages(byteLength: number, flags = 0): raw.Mapping {
  const fd = raw.memfdCreate('user-memory', flags);
  try {
    raw.ftruncate(fd, byteLength);
    return raw.mmap(fd, byteLength, PROT_READ | PROT_WRITE, MAP_SHARED);
  } finally {
    raw.close(fd);
  }
}

const HUGE_PAGES = '/proc/sys/vm/nr_hugepages';

/**
 * A huge page that can be pinned; undefined where the machine has none, or has none left in one piece. With CMA it may lie
 * there, where no page stays: kernels before 6.11 do not move a huge page out of it, but refuse to pin it, with a warning
 * (try_grab_folio() of mm/gup.c).
 */
export function hugePage(): (raw.Mapping & Disposable) | undefined {
  const meminfo = readFileSync('/proc/meminfo', 'utf8');
  const kilobytesOf = (name: string): number =>
    Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(meminfo)?.[1] ?? 0);
  const byteLength = kilobytesOf('Hugepagesize') * 1024;
  if (!existsSync(HUGE_PAGES) || byteLength === 0 || kilobytesOf('CmaTotal') > 0) {
    return undefined;
  }
  writeFileSync(HUGE_PAGES, '1');
  if (readFileSync(HUGE_PAGES, 'utf8').trim() === '0') {
    return undefined;
  }
  // Those that are mapped stay until they are not.
  const page = memfdPages(byteLength, MFD_HUGETLB);
  writeFileSync(HUGE_PAGES, '0');
  return page;
}

/** One of each kind: those of a page or more are `byteLength` bytes long. */
export function everyUserMemory(byteLength: number): UserMemory[] {
  const found: UserMemory[] = [];
  const add = (name: string, bytes: Uint8Array, options: Partial<UserMemory> = {}): void => {
    found.push({ name, bytes, isAligned: false, isWritable: true, [Symbol.dispose]() {}, ...options });
  };
  const addMapped = (name: string, mapping: { bytes: Uint8Array } & Disposable, isWritable = true): void =>
    add(name, mapping.bytes, {
      isAligned: true,
      isWritable,
      [Symbol.dispose]: () => mapping[Symbol.dispose](),
    });

  add('a typed array of V8, which moves it', new Uint8Array(60));
  add('a Buffer of the pool', Buffer.allocUnsafe(100));
  add('a Buffer', Buffer.alloc(byteLength));
  add('an ArrayBuffer', new Uint8Array(new ArrayBuffer(1 << 20), 5 * pageSize + 3, byteLength));
  add('a SharedArrayBuffer', new Uint8Array(new SharedArrayBuffer(byteLength)));
  addMapped('private memory', untouched(byteLength));
  addMapped('POSIX shared memory', openUnnamed(byteLength));
  addMapped('a memfd', memfdPages(byteLength));
  addMapped('private pages of a file', filePages(scratch ?? '/tmp', byteLength, MAP_PRIVATE));
  addMapped('shared pages of a file', filePages(scratch ?? '/tmp', byteLength, MAP_SHARED), false);
  const huge = hugePage();
  if (huge !== undefined) {
    addMapped('a huge page', huge);
  }
  const other = DmaDevice.open('iospace0');
  add("another device's buffer", other.alloc(byteLength, { memory: 'cached' }).bytes, {
    isAligned: true,
    [Symbol.dispose]: () => other.close(),
  });
  return found;
}

function openUnnamed(byteLength: number): ReturnType<typeof posix.open> {
  const name = `/user-memory-${process.pid}`;
  const memory = posix.open(name, { create: true, size: byteLength });
  posix.unlink(name);
  return memory;
}

/** Where the pages of a range lie in physical memory. All of them have been touched. */
export function physicalPages(address: bigint, byteLength: number): bigint[] {
  const first = Number(address / BigInt(pageSize));
  const last = Number((address + BigInt(byteLength) - 1n) / BigInt(pageSize));
  const entries = Buffer.alloc((last - first + 1) * 8);
  const fd = openSync('/proc/self/pagemap', 'r');
  readSync(fd, entries, 0, entries.length, first * 8);
  closeSync(fd);
  return Array.from(
    { length: last - first + 1 },
    (_, index) => (entries.readBigUInt64LE(index * 8) & ((1n << 55n) - 1n)) * BigInt(pageSize),
  );
}

/** Bytes that count as pinned for this process. */
export function vmPin(pid: number | 'self' = 'self'): number {
  const [, kilobytes] = /^VmPin:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
}

/** Pages of the machine that are pinned. */
export function pinnedPages(): number {
  // Each processor counts for itself, until it is asked.
  writeFileSync('/proc/sys/vm/stat_refresh', '1');
  const text = readFileSync('/proc/vmstat', 'utf8');
  const count = (name: string): number => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
  return count('nr_foll_pin_acquired') - count('nr_foll_pin_released');
}
