/**
 * Arenas of plain memory: one file that begins with the books and ends with the memory.
 *
 * @module
 */
import { fstatSync, readFileSync } from 'node:fs';
import { roundUp } from '../arithmetic.js';
import { binding, type NativeArena, type NativeBinding } from '../binding.js';
import type { MemoryType } from '../device/memory.js';
import { errno, explained, isSystemError, notSupported, systemError, wrongValue } from '../errors.js';
import { Mapping } from '../mapping.js';
import { type ArenaBacking, type Backing, backingOfKind, makeArena } from './backing.js';
import { refusedFile } from './refusal.js';
import type { Part } from './views.js';

/** Where arenas of the kind `shm` are. */
export const DIRECTORY = '/dev/shm';

/** What their files are called. */
export const PREFIX = 'iospace-arena.';

const MAX_NAME_LENGTH = 63;

/** What the file of an arena begins with: "ioaishs1" on a little-endian machine. The addon writes it. */
const MAGIC = 0x3173_6873_6961_6f69n;

/** What says no to pages, and what helps. */
const noRoom = {
  shm: `${DIRECTORY} has no room for it: remove what nobody uses, or take backing: 'memfd'`,
  memfd: 'the machine has no memory for it',
  hugepages: 'too few huge pages are free: /proc/sys/vm/nr_hugepages says how many there are',
} as const;

/** How a new arena is to be made. */
interface FileRequest {
  readonly kind: 'shm' | 'memfd' | 'hugepages';
  readonly granule: number;
  /** Whole granules. */
  readonly byteLength: number;
  readonly name: string;
  readonly allocate: boolean;
  /** Of a file in {@link DIRECTORY}. */
  readonly mode: number;
}

export class FileBacking implements Backing {
  readonly kind: ArenaBacking;
  readonly name: string;
  readonly native: NativeArena;
  readonly memory = 'cached';
  readonly memoryTypes: readonly MemoryType[] = Object.freeze(['cached'] as const);
  readonly page: number;
  readonly #binding: NativeBinding;

  private constructor(native: NativeBinding, arena: NativeArena, page: number) {
    const { kind, name } = arena.description;
    this.kind = backingOfKind(kind);
    this.name = name;
    this.native = arena;
    this.page = page;
    this.#binding = native;
  }

  static create(request: FileRequest): FileBacking {
    const { kind, name } = request;
    const native = binding();
    const path = kind === 'shm' ? pathOf(checkName(name)) : name;
    if (request.allocate && kind !== 'hugepages') {
      checkRoom(path, request.byteLength);
    }
    const fd = kind === 'shm' ? openNew(native, request.mode) : openMemfd(native, kind, name);
    try {
      const page = pageOf(native, kind, fd);
      const arena = explained({ path }, { ENOSPC: noRoom[kind] }, () =>
        makeArena(native, fd, path, {
          kind,
          name,
          granule: request.granule,
          granules: request.byteLength / request.granule,
          memoryBytes: roundUp(request.byteLength, page),
          reclaims: true,
          allocate: request.allocate,
          physicalAddress: 0n,
          maxBlocks: 0,
        }),
      );
      try {
        if (kind === 'shm') {
          publish(native, fd, path);
        }
        return new FileBacking(native, arena, page);
      } catch (error) {
        arena.close();
        throw error;
      }
    } finally {
      native.close(fd);
    }
  }

  /** By the name of an object in {@link DIRECTORY}. */
  static attachNamed(name: string): FileBacking {
    const native = binding();
    const path = pathOf(checkName(name));
    const fd = openExisting(native, path, name);
    try {
      return FileBacking.#attach(native, fd, path);
    } finally {
      native.close(fd);
    }
  }

  /** By a descriptor, which stays the caller's. */
  static attachDescriptor(fd: number): FileBacking {
    // EBADF, where opening it anew would be ENOENT.
    fstatSync(fd);
    return FileBacking.#attach(binding(), fd, `descriptor ${fd}`);
  }

  static #attach(native: NativeBinding, fd: number, path: string): FileBacking {
    const arena = native.attachArena(fd);
    if ('fault' in arena) {
      throw refusedFile(arena, 'attach', path);
    }
    const kind = backingOfKind(arena.description.kind);
    if (kind === 'module' || kind === 'buffer') {
      arena.close();
      throw systemError(errno.EINVAL, 'attach', {
        path,
        hint: 'these are the books of an arena whose memory is elsewhere: attach to it by its name (module:0)',
      });
    }
    return new FileBacking(native, arena, pageOf(native, kind, fd));
  }

  map(_memory: MemoryType, offset: number, byteLength: number): Part {
    const { PROT_READ = 0, PROT_WRITE = 0, MAP_SHARED = 0 } = this.#binding.constants;
    const { memoryOffset } = this.native.description;
    return new Mapping(
      this.#binding.mmap(
        this.native.fd,
        byteLength,
        PROT_READ | PROT_WRITE,
        MAP_SHARED,
        BigInt(memoryOffset + offset),
      ),
    );
  }

  release(part: Part): void {
    (part as Mapping).release();
  }

  unlink(): void {
    if (this.kind !== 'shm') {
      throw notSupported('unlink', `an arena of the kind ${this.kind} has no name in the system`);
    }
    unlinkNamed(this.name);
  }

  close(): void {
    this.native.close();
  }
}

/** Removes the name of an arena in {@link DIRECTORY}, a damaged one, too. */
export function unlinkNamed(name: string): void {
  if (name.startsWith('module:')) {
    throw notSupported('unlink', 'an arena of the module is there as long as the module is');
  }
  const path = pathOf(checkName(name));
  explained({ path }, { ENOENT: `there is no arena '${name}' in shared memory` }, () =>
    binding().shmUnlink(`/${PREFIX}${name}`),
  );
}

/** Whether a file that begins like this has an arena, sound or not. */
export function isArena(head: Uint8Array): boolean {
  return head.byteLength >= 8 && new BigUint64Array(head.slice(0, 8).buffer)[0] === MAGIC;
}

function pathOf(name: string): string {
  return `${DIRECTORY}/${PREFIX}${name}`;
}

function checkName(name: string): string {
  if (
    name === '' ||
    name.includes('/') ||
    name.startsWith('module:') ||
    Buffer.byteLength(name) > MAX_NAME_LENGTH
  ) {
    throw wrongValue(
      'name',
      `1 to ${MAX_NAME_LENGTH} bytes without a slash, and not 'module:' at the beginning`,
      name,
    );
  }
  return name;
}

/**
 * The kernel gives a memfd all that there is and then ends programs, this one or others: no limit of a file system is in its
 * way. So what the machine cannot have is not begun.
 *
 * @throws ENOSPC
 */
function checkRoom(path: string, byteLength: number): void {
  const room = available();
  if (byteLength > room) {
    throw systemError(errno.ENOSPC, 'create', {
      path,
      hint: `${byteLength} bytes, and the machine has ${room} left: less of them, or allocate: false`,
    });
  }
}

/** Bytes of memory and of swap that can be had, as the kernel estimates it. */
function available(): number {
  let text: string;
  try {
    text = readFileSync('/proc/meminfo', 'utf8');
  } catch {
    return Number.POSITIVE_INFINITY;
  }
  const of = (key: string): number =>
    Number(new RegExp(`^${key}: +(\\d+) kB$`, 'm').exec(text)?.[1] ?? Number.NaN);
  const sum = (of('MemAvailable') + of('SwapFree')) * 1024;
  return Number.isNaN(sum) ? Number.POSITIVE_INFINITY : sum;
}

/** A file that has no name yet, so that nobody sees an arena before it is whole. */
function openNew(native: NativeBinding, mode: number): number {
  const { O_RDWR = 0, O_TMPFILE = 0 } = native.constants;
  return native.open(DIRECTORY, O_RDWR | O_TMPFILE, mode);
}

function publish(native: NativeBinding, fd: number, path: string): void {
  try {
    native.linkFile(fd, path);
  } catch (error) {
    if (isSystemError(error, 'EEXIST')) {
      throw systemError(errno.EEXIST, 'linkat', {
        path,
        hint: 'there is an arena of this name: Arena.attach(), or unlink() it first',
      });
    }
    throw error;
  }
}

function openExisting(native: NativeBinding, path: string, name: string): number {
  const { O_RDWR = 0, O_NOFOLLOW = 0 } = native.constants;
  try {
    return native.open(path, O_RDWR | O_NOFOLLOW, 0);
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) {
      throw systemError(errno.ENOENT, 'open', {
        path,
        hint: `there is no arena '${name}' in shared memory: Arena.create() makes one, Arena.list() has those that there are`,
      });
    }
    throw error;
  }
}

function openMemfd(native: NativeBinding, kind: ArenaBacking, name: string): number {
  const { MFD_ALLOW_SEALING = 0, MFD_HUGETLB = 0 } = native.constants;
  return native.memfdCreate(
    `${PREFIX}${name}`,
    kind === 'hugepages' ? MFD_ALLOW_SEALING | MFD_HUGETLB : MFD_ALLOW_SEALING,
  );
}

/** What a file is mapped in. */
function pageOf(native: NativeBinding, kind: ArenaBacking, fd: number): number {
  return kind === 'hugepages' ? fstatSync(fd).blksize : native.pageSize;
}
