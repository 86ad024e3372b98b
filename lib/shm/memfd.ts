/**
 * Shared memory without a name: a file that lives as long as somebody has it open or mapped, and that can be sealed.
 *
 * @module
 */
import { constants, fstatSync, statfsSync } from 'node:fs';
import { binding, type NativeBinding } from '../binding.js';
import {
  checkBoolean,
  checkDescriptor,
  checkInteger,
  checkOneOf,
  checkOptions,
  checkPowerOfTwo,
  checkString,
} from '../check.js';
import { explained, wrongType, wrongValue } from '../errors.js';
import { MAX_BYTE_LENGTH, type Mapping } from '../mapping.js';
import { extend, FileMemory, type MemoryFile, mapFile, mappable } from './file-memory.js';

/**
 * What a seal forbids, for everybody and for good.
 *
 * - `shrink`: that the file gets shorter, so that no process loses what it has mapped
 * - `grow`: that it gets longer
 * - `write`: to write to it, from now on by anybody; nobody else may have it mapped for writing
 * - `future-write`: to write to it, but for those who have it mapped for writing already
 * - `seal`: further seals
 */
export type SealName = 'shrink' | 'grow' | 'write' | 'future-write' | 'seal';

/** What a new memfd is to be. */
export interface MemfdOptions {
  /** Bytes. */
  size: number;
  /** The seals it begins with; all but `write`. @defaultValue ['shrink'] */
  seal?: readonly SealName[];
  /**
   * Whether to make it of huge pages, which the machine must have set aside (`vm.nr_hugepages`): of the system's usual
   * size, or of that many bytes each. @defaultValue false
   */
  hugePages?: boolean | number;
  /** Whether all pages are taken at once, here and by `resize()`, and not when they are touched first. @defaultValue true */
  allocate?: boolean;
}

/** How to open a memfd that there is. */
export interface MemfdOpenOptions {
  /** Bytes; absent: all that it has. */
  size?: number;
  /** Whether to map it for reading only. @defaultValue false */
  readOnly?: boolean;
}

/** Longest name: the kernel adds `memfd:`. */
const NAME_MAX = 249;

/** Where the logarithm of the size of huge pages stands in the flags of memfd_create(). */
const HUGE_SHIFT = 26;

/** The type of a file system of huge pages. */
const HUGETLBFS_MAGIC = 0x958458f6;

/** By the names of the C library. */
const constantNames: Readonly<Record<SealName, string>> = {
  shrink: 'F_SEAL_SHRINK',
  grow: 'F_SEAL_GROW',
  write: 'F_SEAL_WRITE',
  'future-write': 'F_SEAL_FUTURE_WRITE',
  seal: 'F_SEAL_SEAL',
};
const sealNames = Object.keys(constantNames) as SealName[];

const sealHints = {
  EBUSY: 'somebody has it mapped for writing',
  EPERM: 'it is sealed against further seals, or open for reading only',
  EINVAL: 'it is no file of memory, or the kernel does not know the seal',
};

/**
 * A memfd, made by {@link memfd.create} or opened by {@link memfd.open}. Give others its `fd`, by `fds.send` or as
 * `/proc/PID/fd/FD`.
 */
export class Memfd extends FileMemory {
  /** What it was made with, for people; or the path it was opened by. */
  readonly name: string;

  /** @internal */
  constructor(mapping: Mapping, readOnly: boolean, file: MemoryFile, name: string) {
    super(mapping, readOnly, file);
    this.name = name;
  }

  /** Its seals. Asks the system. @throws ERR_INVALID_STATE after `close()` */
  get seals(): SealName[] {
    return sealsOf(this.file);
  }

  /**
   * Adds seals, for good. With `write` it is read-only here afterwards too, and every view from before has length 0.
   *
   * @throws EBUSY if others have it mapped for writing, with `write`; EPERM if it is sealed against seals, or open for
   *   reading only; EINVAL if the kernel does not know the seal; ERR_INVALID_ARG_VALUE for what is none; ERR_INVALID_STATE
   *   after `close()`. It has none of these seals then.
   */
  seal(...names: SealName[]): void {
    const { file } = this;
    const seals = sealBits(file.native, 'names', names);
    const add = () => explained({ path: file.path }, sealHints, () => file.native.seal(file.fd, seals));
    if (!names.includes('write') || this.readOnly) {
      add();
      return;
    }
    // Nobody may have it mapped for writing, this object included.
    this.replace(mapReadOnly(file, this.byteLength), true);
    try {
      add();
    } catch (error) {
      this.replace(mapFile(file, this.byteLength, false), false);
      throw error;
    }
  }

  protected override map(file: MemoryFile, size: number): Mapping {
    return this.readOnly ? mapReadOnly(file, size) : super.map(file, size);
  }

  protected override grow(file: MemoryFile, size: number): void {
    extend(file, this.byteLength, wholePages(file.fd, size));
  }

  protected override describe(): string {
    return `name: '${this.name}'`;
  }
}

/**
 * Makes memory without a name in the file system. It ends with the last process that has it.
 *
 * @param name - for people, as /proc/PID/maps shows it; at most 249 bytes
 * @throws ENOSPC, ENOMEM if there is no memory, or too few huge pages; EFBIG beyond `ulimit -f`; EMFILE beyond `ulimit -n`;
 *   ENODEV, EINVAL if the machine has no huge pages of that size, ENOSYS if the kernel has none
 * @example
 * using memory = memfd.create('frames', { size: 1 << 20 });
 * await fds.send('/run/user/1000/frames', [memory.fd]);
 */
function create(name: string, options: MemfdOptions): Memfd {
  if (Buffer.byteLength(checkString('name', name)) > NAME_MAX) {
    throw wrongValue('name', `at most ${NAME_MAX} bytes`, name);
  }
  const known = checkOptions(options, ['size', 'seal', 'hugePages', 'allocate']);
  const { seal = ['shrink'], hugePages = false, allocate = true } = known;
  const size = checkInteger('size', known.size, 1, MAX_BYTE_LENGTH);
  checkBoolean('allocate', allocate);
  const native = binding();
  const seals = sealBits(native, 'seal', seal);
  if (seal.includes('write')) {
    throw wrongValue('seal', "no 'write', which is for what has been written: seal() adds it", seal);
  }

  const { MFD_ALLOW_SEALING = 0 } = native.constants;
  const hints = {
    ENODEV: 'this machine has no huge pages of that size',
    EINVAL: 'this machine has no huge pages of that size',
    ENOSYS: 'this kernel has no huge pages',
  };
  const path = `memfd:${name}`;
  const owned = new native.OwnedFile();
  const fd = explained({ path }, hints, () =>
    owned.memfdCreate(name, (MFD_ALLOW_SEALING | hugePageFlags(native, hugePages)) >>> 0),
  );
  try {
    const file = { native, owned, fd, path, allocate };
    extend(file, 0, hugePages === false ? size : wholePages(fd, size));
    const mapping = mapFile(file, size, false);
    native.seal(fd, seals);
    return new Memfd(mapping, false, file, name);
  } catch (error) {
    owned.close();
    throw error;
  }
}

/**
 * Maps a memfd of another process.
 *
 * @param file - a descriptor, which stays the caller's and may be closed afterwards; or `/proc/PID/fd/FD`
 * @throws EBADF; ENOENT, EACCES of the path; EINVAL if it is no file of memory; EPERM if it is sealed against writing and
 *   `readOnly` is not given; EMFILE beyond `ulimit -n`; ERR_OUT_OF_RANGE if it has fewer bytes than `size`
 * @example
 * const [fd] = await fds.receive('/run/user/1000/frames');
 * using memory = memfd.open(fd);
 * closeSync(fd);
 */
function open(file: number | string, options?: MemfdOpenOptions): Memfd {
  if (typeof file !== 'number' && typeof file !== 'string') {
    throw wrongType('file', 'a descriptor or a path', file);
  }
  const { size, readOnly = false } = checkOptions(options, ['size', 'readOnly']);
  checkBoolean('readOnly', readOnly);
  if (size !== undefined) {
    checkInteger('size', size, 1, MAX_BYTE_LENGTH);
  }
  const native = binding();
  const owned = new native.OwnedFile();
  const path = typeof file === 'number' ? descriptorPath(file) : file;
  const fd =
    typeof file === 'number'
      ? owned.duplicate(checkDescriptor(file, 'file'))
      : owned.open(checkString('file', file), readOnly ? constants.O_RDONLY : constants.O_RDWR, 0);
  try {
    const opened = { native, owned, fd, path, allocate: true };
    // Says, too, whether it is a file of memory.
    sealsOf(opened);
    const byteLength = mappable(path, fstatSync(fd).size, size);
    const mapping = readOnly ? mapReadOnly(opened, byteLength) : mapFile(opened, byteLength, false);
    return new Memfd(mapping, readOnly, opened, path);
  } catch (error) {
    owned.close();
    throw error;
  }
}

/** The seals of an open file of memory. @internal */
export function sealsOf({ native, fd, path }: Pick<MemoryFile, 'native' | 'fd' | 'path'>): SealName[] {
  const seals = explained({ path }, sealHints, () => native.seals(fd));
  return sealNames.filter((name) => (seals & sealBit(native, name)) !== 0);
}

function sealBit(native: NativeBinding, name: SealName): number {
  return native.constants[constantNames[name]] ?? 0;
}

function sealBits(native: NativeBinding, argument: string, names: readonly SealName[]): number {
  if (!Array.isArray(names)) {
    throw wrongType(argument, 'an array of seals', names);
  }
  return names.reduce(
    (bits: number, name) => bits | sealBit(native, checkOneOf(argument, name, sealNames)),
    0,
  );
}

function hugePageFlags(native: NativeBinding, hugePages: boolean | number): number {
  if (hugePages === false) {
    return 0;
  }
  const { MFD_HUGETLB = 0 } = native.constants;
  if (hugePages === true) {
    return MFD_HUGETLB;
  }
  if (typeof hugePages !== 'number') {
    throw wrongType('hugePages', 'true, false or a number of bytes', hugePages);
  }
  return MFD_HUGETLB | (Math.log2(checkPowerOfTwo('hugePages', hugePages, 4096)) << HUGE_SHIFT);
}

/** As many bytes as the file's pages have, where those are huge: a file has only whole ones. */
function wholePages(fd: number, size: number): number {
  const { type, bsize } = statfsSync(descriptorPath(fd));
  return type === HUGETLBFS_MAGIC ? Math.ceil(size / bsize) * bsize : size;
}

/**
 * Maps it for reading in a way that a seal against writing allows on every kernel: by a descriptor that cannot write, since
 * otherwise the mapping could be made writable.
 */
function mapReadOnly(file: MemoryFile, byteLength: number): Mapping {
  const owned = new file.native.OwnedFile();
  try {
    const fd = owned.open(descriptorPath(file.fd), constants.O_RDONLY, 0);
    return mapFile({ ...file, owned, fd }, byteLength, true);
  } finally {
    owned.close();
  }
}

function descriptorPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** Shared memory without a name (`memfd_create`). */
export const memfd = { create, open } as const;
