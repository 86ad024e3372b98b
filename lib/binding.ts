/**
 * The addon: its one type, and the one place that loads it.
 *
 * Everything that crosses into native code is declared here. Native code checks the types of what it is
 * given; ranges that it cannot know are checked by the callers in `lib/`. A failing system call throws what
 * {@link Hooks.systemError} makes.
 *
 * @module
 */
import { createRequire } from 'node:module';
import { reportLeak, type SystemErrorDetail, systemError } from './errors.js';
import { packageRoot } from './package-root.js';

/** What native code calls back; handed over once, when the addon is loaded into an environment. */
export interface Hooks {
  /** Makes the error that a failed system call throws. `errno` is positive, as the C library has it. */
  systemError(errno: number, syscall: string, detail?: SystemErrorDetail): Error;
  /** Told, on a later turn, that a mapping was collected whose `release()` had never been called. */
  leaked(description: string, byteLength: number): void;
}

/**
 * One mapping, and the address range that it occupies.
 *
 * The range outlives the mapping: `release()` puts anonymous zero memory in its place, and the range itself
 * is given back when nothing in JavaScript can point into it any more. The end of the environment does the
 * former, and not the latter: another thread may have the ArrayBuffer.
 */
export interface NativeMapping {
  readonly byteLength: number;
  readonly address: bigint;
  /** The mapping's one ArrayBuffer, made at the first call. Throws if released. */
  buffer(): ArrayBuffer;
  /**
   * A new SharedArrayBuffer over the mapping, which `release()` and the end of the environment cannot detach: it keeps the
   * address range until the last thread has let go of it. Undefined where this Node has none. Throws if released.
   */
  sharedBuffer(): SharedArrayBuffer | undefined;
  /**
   * Lets go of the ArrayBuffer, which it detaches first if `detach` is true: the next `buffer()` makes another one over
   * the same memory. Throws if released.
   */
  renew(detach: boolean): void;
  /**
   * Ends the mapping now: pages, attachment and window are gone when it returns. Detaches the ArrayBuffer,
   * unless `detach` is false or it was transferred away. A second call does nothing.
   */
  release(detach: boolean): void;
  readonly released: boolean;
  protect(protection: number, offset: number, byteLength: number): void;
  sync(flags: number, offset: number, byteLength: number): void;
  advise(advice: number, offset: number, byteLength: number): void;
  lock(offset: number, byteLength: number): void;
  unlock(offset: number, byteLength: number): void;
}

/**
 * Register access of exact width, in order with memory: `write*` is a device barrier, then the store; `read*`
 * the load, then the barrier. Offsets must be multiples of the width, inside the window. Throws ENODEV once
 * the device is gone. The accesses are the object's own, and need no receiver.
 */
export interface NativeRegisters {
  read8(offset: number): number;
  read16(offset: number): number;
  read32(offset: number): number;
  read64(offset: number): bigint;
  write8(offset: number, value: number): void;
  write16(offset: number, value: number): void;
  write32(offset: number, value: number): void;
  write64(offset: number, value: bigint): void;
  /** Unmaps. A second call does nothing. */
  close(): void;
}

/**
 * Readiness of one descriptor on the environment's own event loop. Keeps the loop alive while started and
 * referenced. Makes the open file non-blocking, for all descriptors of it and for good.
 */
export interface NativePoller {
  /** Begins to watch; `onReady` runs each time the descriptor is readable or hung up, until `stop()`. */
  start(): void;
  stop(): void;
  ref(): void;
  unref(): void;
  /** Ends it for good. A second call does nothing. */
  close(): void;
}

/**
 * Locks of single bytes of a file, which need not be in it, through an open file description of their own. They end by
 * `unlock()`, by `close()`, with the environment, or with the process, and by nothing else.
 */
export interface NativeByteLocks {
  /** Whether the byte is this object's now: false while another has it. */
  tryLock(byte: number): boolean;
  unlock(byte: number): void;
  /** Whether another has the byte. */
  isHeld(byte: number): boolean;
  /** A second call does nothing; the other methods throw ERR_INVALID_STATE from here. */
  close(): void;
}

/** The waits of this environment that do not block it. While there are any, they keep the event loop alive. */
export interface NativeFutexWaits {
  /**
   * Begins a wait under a number that no other has. The constructor's function is told, on a later turn, how it ended: 0
   * woken, perhaps for no reason; 2 its time is over; 3 cancelled; a negative errno. EAGAIN if there are too many.
   *
   * @param timeout - milliseconds; -1 for no limit
   */
  add(id: number, words: Words, index: number, expected: number, timeout: number): void;
  /** Ends a wait soon, if it has not ended. */
  cancel(id: number): void;
}

/** An array of 32-bit words. */
export type Words = Int32Array | Uint32Array;

/** One end of a passing of descriptors. It ends with its environment at the latest. */
export interface NativeDescriptorSocket {
  /** The descriptor whose readiness says that there is something to do. */
  watched(): number;
  /** Ends it; of a receiver the socket's file too. A second call does nothing. */
  close(): void;
}

/** A socket that listens for senders, one at a time. */
export interface NativeDescriptorReceiver extends NativeDescriptorSocket {
  /**
   * The descriptors of the first sender that has sent any, close-on-exec; undefined if there is none yet. The caller
   * closes them. Throws EPROTO for what is no message of a sender, EMFILE where they did not fit into this process.
   */
  receive(): number[] | undefined;
}

/** A connection whose descriptors are on their way. */
export interface NativeDescriptorSender extends NativeDescriptorSocket {
  /**
   * Whether the receiver has them. Throws ECONNRESET if it left before it looked at them, ECONNABORTED if it has refused
   * them.
   */
  isAnswered(): boolean;
}

/**
 * Owns a descriptor from the call that opens it to `close()`, its collection or the end of the environment: also where a
 * worker is terminated between two calls.
 */
export interface NativeOwnedFile {
  // Each gives the descriptor, and closes the one that there was.
  open(path: string, flags: number, mode: number): number;
  duplicate(fd: number): number;
  shmOpen(name: string, flags: number, mode: number): number;
  memfdCreate(name: string, flags: number): number;
  eventfd(initial: number, flags: number): number;
  /** A second call does nothing. */
  close(): void;
}

/** A segment of System V, as `shmctl` has it: bytes, seconds since 1970, 0 for never. */
export interface NativeSegmentStatus {
  key: number;
  /** Permissions, `SHM_DEST`, `SHM_LOCKED`. */
  mode: number;
  size: number;
  attached: number;
  creatorPid: number;
  lastPid: number;
  uid: number;
  gid: number;
  creatorUid: number;
  creatorGid: number;
  attachTime: number;
  detachTime: number;
  changeTime: number;
}

/** What the system allows of System V, and has. */
export interface NativeSegmentInfo {
  maxBytes: bigint;
  minBytes: number;
  maxSegments: number;
  maxPages: bigint;
  segments: number;
  pages: number;
  residentPages: number;
  swappedPages: number;
}

export interface NativeInfo {
  version: number;
  bus: number;
  iommu: number;
  coherent: boolean;
  memoryTypes: number;
  pageSize: number;
  cacheLine: number;
  registers: number;
  vectors: number;
  zones: number;
  pool: number;
  arenas: number;
  arenaMaxBlocks: number;
  maxFileMappings: number;
  dmaMask: bigint;
  maxFileBytes: bigint;
  maxTotalBytes: bigint;
  maxConvertedBytes: bigint;
  maxSegmentBytes: bigint;
  maxContiguousBytes: bigint;
  poolStart: bigint;
  poolBytes: bigint;
  arenaReserveBytes: bigint;
  device: string;
}

/** Memory that the device reaches. */
export interface NativeReachable {
  handle: number;
  dmaAddress: bigint;
  /** How many; the first begins at `dmaAddress`. */
  segments: number;
  flags: number;
}

export interface NativeAllocation extends NativeReachable {
  memory: number;
  mmapOffset: bigint;
}

export interface NativeImport extends NativeReachable {
  byteLength: number;
}

export interface NativeReservedArena {
  flags: number;
  address: bigint;
  byteLength: number;
  memoryTypes: number;
  /** 0n unless attached. */
  dmaAddress: bigint;
  name: string;
}

/** What an arena of blocks is to be. */
export interface NativeArenaCreation {
  /** Bytes, a power of two. */
  granule: number;
  granules: number;
  /** At least all granules. */
  memoryBytes: number;
  /** A number of `kinds` in lib/arena/backing.ts. */
  kind: number;
  /** Whether an allocation that finds no space frees the blocks of dead owners. */
  reclaims: boolean;
  /** Whether all pages of the memory are taken at once, where the file holds it. */
  allocate: boolean;
  /** Of the first granule; 0n where there is none. */
  physicalAddress: bigint;
  /** Most blocks at a time; 0 for no limit. */
  maxBlocks: number;
  /** At most 63 bytes. */
  name: string;
}

/** What an arena was made with, as far as anybody here asks. */
export interface NativeArenaDescription
  extends Pick<NativeArenaCreation, 'granule' | 'granules' | 'kind' | 'maxBlocks' | 'name'> {
  /** Where in the file the memory begins; 0 where it is elsewhere. */
  memoryOffset: number;
}

/** Why a file is no arena. */
export interface NativeArenaRefusal {
  /** A number of `faults` in lib/arena/refusal.ts. */
  fault: number;
  /** Positive. */
  errno: number;
  /** Empty where none failed. */
  syscall: string;
  expected: bigint;
  found: bigint;
}

export interface NativeArenaUsage {
  blocks: number;
  granules: number;
}

/** In granules. */
export interface NativeArenaStats {
  used: number;
  free: number;
  blocks: number;
  mostUsed: number;
  longest: number;
  fragmentation: number;
  /** By the number of the owner, of the tag. */
  byOwner: NativeArenaUsage[];
  byTag: NativeArenaUsage[];
}

export interface NativeArenaOwner {
  owner: number;
  alive: boolean;
  pid: number;
  threadId: number;
  program: string;
}

/** What of the books differs from what it should be: how many places, and the first of them. */
export interface NativeArenaDifference {
  part: string;
  count: number;
  index: number;
  expected: bigint;
  found: bigint;
}

/**
 * One attachment to an arena of blocks, which is one of its owners, until `close()` or the end of the environment. Lengths
 * and places are in granules. The functions need no receiver.
 *
 * Those that return a status throw nothing while the arena is open, and fill `answer`: `lib/arena/refusal.ts` has the words.
 */
export interface NativeArena {
  readonly description: NativeArenaDescription;
  /** Its number. */
  readonly owner: number;
  /** A descriptor of the file, through which no lock is held. */
  readonly fd: number;
  /** `start`, `length`, `serial`, `owner`, `tag`; where there is no space `free`, `longest`; `errno`; of many which was refused. */
  readonly answer: Uint32Array;
  /** `boundary` 0 and `tag` 0 stand for none. Shorter calls take less time. */
  allocate(length: number): number;
  allocate(length: number, align: number, boundary: number, tag: number): number;
  /** As many as `starts` and `serials` have elements, or none. */
  allocateMany(
    length: number,
    align: number,
    boundary: number,
    tag: number,
    starts: Float64Array,
    serials: Float64Array,
  ): number;
  /** `serial` 0 stands for any. */
  free(start: number, serial: number, force?: boolean): number;
  /** All of these, which are all different and this owner's, or none. */
  freeMany(starts: Float64Array, serials: Float64Array): number;
  blockAt(granule: number): number;
  /** What alignment and boundary are counted from: the bus address of the first granule. */
  setBase(address: bigint): void;
  /** Finds or enters a tag. */
  tag(name: string): number;
  /** The names of all tags by number; the first is empty. */
  tags(): string[];
  measure(): NativeArenaStats;
  owners(): NativeArenaOwner[];
  /** Of each block `start`, `length`, `serial`, `owner`, `tag`, in the order of their places. */
  blocks(): Uint32Array;
  /** Fills each cell with the used share, 0 to 1, of as many equal parts of the arena. */
  map(cells: Float64Array): void;
  /** Recomputes the books; empty if they are sound. */
  check(): NativeArenaDifference[];
  sweep(): NativeArenaUsage & { owners: number };
  close(): void;
}

/** What this processor lets programs do to its caches, by the names of the instructions, and how it can copy. */
export interface NativeCacheInstructions {
  clean: string | undefined;
  invalidate: string | undefined;
  flush: string | undefined;
  /** Bytes that they work on; 0 where there are none. */
  lineSize: number;
  /** The sets of kernels, the best first. Their numbers are their places. */
  copies: string[];
}

/**
 * Cache maintenance by the processor's own instruction. `false` where that is not to be had, and for arguments that are not
 * those of a range of a view or ArrayBuffer, or of none of its bytes; nothing is done then.
 */
export type NativeMaintenance = (memory: object, offset?: number, length?: number) => false | undefined;

export interface NativeWindow {
  handle: number;
  memory: number;
  mmapOffset: bigint;
}

export interface NativeRegistersInfo {
  flags: number;
  byteLength: number;
  mmapOffset: bigint;
  pageOffset: number;
  name: string;
}

export interface NativeInterrupt {
  flags: number;
  count: bigint;
  name: string;
}

export interface NativeBinding {
  initialize(hooks: Hooks): void;

  // System calls. Descriptors are close-on-exec.
  open(path: string, flags: number, mode: number): number;
  close(fd: number): void;
  /** `argument` is an integer or memory that the call reads and writes. Returns what the call returned. */
  ioctl(fd: number, request: number, argument: number | ArrayBufferView): number;
  mmap(fd: number, byteLength: number, protection: number, flags: number, offset: bigint): NativeMapping;
  /** Waits `timeout` ms, but at most 100, whatever is asked; fills `revents`; returns how many are ready. */
  poll(fds: Int32Array, events: Int16Array, revents: Int16Array, timeout: number): number;
  ftruncate(fd: number, byteLength: number): void;
  fallocate(fd: number, offset: number, byteLength: number): void;
  shmOpen(name: string, flags: number, mode: number): number;
  shmUnlink(name: string): void;
  memfdCreate(name: string, flags: number): number;
  /** Adds F_SEAL_*. */
  seal(fd: number, seals: number): void;
  seals(fd: number): number;
  /** Whether nobody else has the file open or mapped. EACCES for who does not own it. */
  isSoleOpener(fd: number): boolean;
  /** Adds the name of an open file to those that end with this process. */
  addExitName(path: string, fd: number): void;
  forgetExitName(path: string): void;
  /** Removes all of them now. */
  removeExitNames(): void;
  /** Has SIGHUP, SIGINT or SIGTERM remove them before it does what it does now, unless it is ignored. */
  guardExitNames(signal: number): void;

  // System V. Ids and keys are signed.
  ftok(path: string, id: number): number;
  shmget(key: number, size: number, flags: number): number;
  shmat(id: number, flags: number): NativeMapping;
  shmStat(id: number): NativeSegmentStatus;
  /** 2^32 - 1 leaves what there is. */
  shmSet(id: number, uid: number, gid: number, mode: number): void;
  shmRemove(id: number): void;
  shmLock(id: number): void;
  shmUnlock(id: number): void;
  shmInfo(): NativeSegmentInfo;
  eventfd(initial: number, flags: number): number;
  readonly pageSize: number;
  /** The C library's numbers: PROT_*, MAP_*, MS_*, MADV_*, POLL*, O_*, MFD_*, F_SEAL_*, EFD_*. */
  readonly constants: Readonly<Record<string, number>>;

  /**
   * Sleeps while a word has the value `expected`, unsigned, but at most 100 ms, whatever is asked. Returns 0 if it was
   * woken, perhaps for no reason; 1 if the word has another value; 2 otherwise. EFAULT if the word is not mapped.
   */
  futexWait(words: Words, index: number, expected: number, nanoseconds: number): number;
  /** Wakes at most `count` sleepers of any process; returns how many it has woken. */
  futexWake(words: Words, index: number, count: number): number;

  /** Gives an open file that has no name the name `path`. EEXIST if there is one. */
  linkFile(fd: number, path: string): void;

  // Arenas of blocks. The descriptor stays the caller's.
  createArena(fd: number, creation: NativeArenaCreation): NativeArena | NativeArenaRefusal;
  attachArena(fd: number): NativeArena | NativeArenaRefusal;

  cacheInstructions(): NativeCacheInstructions;
  cleanCache: NativeMaintenance;
  invalidateCache: NativeMaintenance;
  flushCache: NativeMaintenance;
  // Bytes of memory of any kind: 0 cached, 1 in no cache, 2 a device's. Without a range that is inside both nothing is done.
  copyBytes(
    target: Uint8Array,
    targetOffset: number,
    targetKind: number,
    source: Uint8Array,
    sourceOffset: number,
    sourceKind: number,
    length: number,
    kernels: number,
  ): false | undefined;
  fillBytes(
    target: Uint8Array,
    offset: number,
    kind: number,
    value: number,
    length: number,
    kernels: number,
  ): false | undefined;
  /** The first byte that differs, or -1. */
  compareBytes(
    left: Uint8Array,
    leftOffset: number,
    leftKind: number,
    right: Uint8Array,
    rightOffset: number,
    rightKind: number,
    length: number,
    kernels: number,
  ): number | false;
  isDetached(buffer: ArrayBufferLike): boolean;

  // iospace.ko, by the structures of kernel-module/uapi/iospace.h.
  deviceInfo(fd: number): NativeInfo;
  /** In `align`, `boundary`, `zone` and `addressBits` 0 stands for none. */
  deviceAlloc(
    fd: number,
    memory: number,
    byteLength: number,
    flags: number,
    align: number,
    boundary: number,
    zone: number,
    addressBits: number,
  ): NativeAllocation;
  /** Fills `segments` with pairs of address and length, from segment `first` on; returns how many pairs. */
  deviceSegments(fd: number, handle: number, first: number, segments: BigUint64Array): number;
  deviceSync(fd: number, handle: number, flags: number, offset: number, byteLength: number): void;
  /** `ranges` are pairs of offset and length, 1 to 65536 of them. */
  deviceSyncRanges(fd: number, handle: number, flags: number, ranges: BigUint64Array): void;
  /** The address is taken here, from whatever view it is: V8 moves small ones until then. */
  deviceMapUser(fd: number, direction: number, view: ArrayBufferView): NativeReachable;
  /** Returns a descriptor, the caller's. */
  deviceExport(fd: number, handle: number, flags: number, offset: number, byteLength: number): number;
  deviceImport(fd: number, dmaBuf: number, direction: number): NativeImport;
  deviceFree(fd: number, handle: number): void;
  deviceArena(fd: number, index: number, flags: number): NativeReservedArena;
  /** Returns a descriptor of the file, the caller's: a new open file description. */
  deviceArenaBooks(fd: number, index: number): number;
  deviceWindow(fd: number, memory: number, address: bigint, byteLength: number): NativeWindow;
  deviceRegisters(fd: number, index: number): NativeRegistersInfo;
  deviceInterrupt(fd: number, vector: number, flags: number, eventfd: number): NativeInterrupt;
  /**
   * The counts of vectors 0 to `counts.length - 1`, or false where nothing has counted since the last read.
   *
   * @param spin - microseconds, at most 1000, for which it looks again and again where nothing has
   */
  deviceReadCounts(fd: number, counts: BigUint64Array, spin?: number): boolean;

  /** A window that is mapped, or, with `mmapOffset` 0, reached by one ioctl an access. */
  Registers: new (
    fd: number,
    index: number,
    info: NativeRegistersInfo,
  ) => NativeRegisters;
  OwnedFile: new () => NativeOwnedFile;
  Poller: new (fd: number, onReady: () => void) => NativePoller;
  /** Opens the file anew, for reading and writing. */
  ByteLocks: new (
    fd: number,
  ) => NativeByteLocks;
  FutexWaits: new (onEnded: (id: number, outcome: number) => void) => NativeFutexWaits;
  /** Listens at `path`. EAGAIN while another process does the same in this directory. */
  DescriptorReceiver: new (
    path: string,
  ) => NativeDescriptorReceiver;
  /** Connects to the receiver at `path` and sends. EAGAIN while that has too many senders. */
  DescriptorSender: new (
    path: string,
    fds: Int32Array,
  ) => NativeDescriptorSender;
  /** A device-scope barrier: what the CPU wrote before is seen by the device before what it writes after. */
  barrier(): void;
}

/** A module has one instance in each environment, and so has this. */
let loaded: NativeBinding | undefined;

/**
 * The addon, loaded into this environment at the first call.
 *
 * @throws Error with code `ERR_IOSPACE_ADDON` if there is none for this machine, or it cannot be loaded
 */
export function binding(): NativeBinding {
  loaded ??= load();
  return loaded;
}

function load(): NativeBinding {
  if (process.platform !== 'linux') {
    throw addonError(`iospace works on Linux only; this is ${process.platform}`);
  }
  const machine = `${process.platform}-${process.arch}`;
  // With the addon, not with this module: whoever uses no native code does not wait for it.
  const bindings = createRequire(import.meta.url)('bindings') as typeof import('bindings');
  let addon: NativeBinding;
  try {
    addon = bindings({
      bindings: 'iospace',
      module_root: packageRoot(),
      try: [
        ['module_root', 'prebuilds', machine, 'bindings'],
        ['module_root', 'build', 'Release', 'bindings'],
      ],
    });
  } catch (cause) {
    throw addonError(
      `the native addon of iospace for ${machine} is missing or cannot be loaded; build it with: npx iospace build`,
      cause,
    );
  }
  addon.initialize({ systemError, leaked: reportLeak });
  return addon;
}

function addonError(message: string, cause?: unknown): Error & { code: string } {
  return Object.assign(new Error(message, { cause }), { code: 'ERR_IOSPACE_ADDON' });
}
