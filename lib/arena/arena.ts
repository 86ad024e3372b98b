/**
 * Arenas of blocks: memory that several processes allocate from.
 *
 * @module
 */
import { inspect } from 'node:util';
import { roundUp } from '../arithmetic.js';
import type { NativeArena } from '../binding.js';
import {
  checkBoolean,
  checkDescriptor,
  checkInteger,
  checkOptions,
  checkPowerOfTwo,
  checkString,
  checkUint64,
} from '../check.js';
import { DmaBuffer } from '../device/buffer.js';
import type { MemoryType, WindowType } from '../device/memory.js';
import { type ArenaAttachment, attach, ReservedArena } from '../device/reserved-arena.js';
import { invalidState, notSupported, outOfRange, wrongType, wrongValue } from '../errors.js';
import type { MappedBytes } from '../mapped-bytes.js';
import { MAX_BYTE_LENGTH } from '../mapping.js';
import { type ArenaBacking, type Backing, DEFAULT_GRANULE } from './backing.js';
import { checkOwn, DmaBlock, DmaBlockApart, type FreeOptions } from './block.js';
import { BufferBacking } from './buffer-backing.js';
import { FileBacking } from './file-backing.js';
import { listArenas } from './list.js';
import { ModuleBacking } from './module-backing.js';
import {
  DONE,
  INDEX,
  INSIDE,
  LENGTH,
  OWNER,
  refusedAddress,
  refusedBlock,
  refusedFree,
  refusedTag,
  SERIAL,
  START,
  TAG,
} from './refusal.js';
import { type AllocateOptions, type Allocation, checkAllocation } from './request.js';
import {
  type ArenaBlockInfo,
  type ArenaDifference,
  type ArenaDump,
  type ArenaInfo,
  type ArenaStats,
  type ArenaSwept,
  dumpedBlocks,
  statsOf,
} from './stats.js';
import { ArenaViews, type Part } from './views.js';

/** A checked request, and what it takes: bytes, and the same in granules. */
interface Request extends Allocation {
  readonly taken: number;
  readonly length: number;
}

/** Backings that are a file of plain memory. */
const FILE_KINDS = ['shm', 'memfd', 'hugepages'] as const;

/** How a new arena is to be. */
export interface ArenaOptions {
  /** For `shm` what others attach to; for `memfd`, `hugepages` and buffers what messages say. At most 63 bytes. */
  name?: string;
  /**
   * Bytes; rounded up to whole granules. @defaultValue 64 MiB; of a buffer or a reserved arena all that it has, in whole
   * granules, without the bytes that the module's `arena_reserve` keeps back
   */
  byteLength?: number;
  /** What blocks are made of, in bytes: a power of two from 64; at most 2^30 of them. @defaultValue 4096 */
  granule?: number;
  /** What its memory is. @defaultValue `'shm'` with a name, else `'memfd'` */
  backing?: Exclude<ArenaBacking, 'buffer'> | ReservedArena | DmaBuffer;
  /**
   * Whether all pages are taken at once, so that a machine without memory is ENOSPC now, and not the end of a process later.
   * Without it pages come as they are touched. Of shm, memfd and huge pages. @defaultValue true
   */
  allocate?: boolean;
  /** Permissions of an arena in shared memory, before the umask. @defaultValue 0o600 */
  mode?: number;
}

/** What to attach to: a name in shared memory, `'module:0'`, a descriptor, or one of a device's arenas. */
export type ArenaTarget = string | { fd: number } | ReservedArena;

const DEFAULT_BYTE_LENGTH = 64 * 2 ** 20;
const LEAST_GRANULE = 64;
const MAX_GRANULES = 2 ** 30;

/**
 * An arena: memory in granules, from which blocks are allocated, by one call of native code each. All who have it attached
 * allocate from the same memory without a daemon: processes, and worker threads, each of which attaches for itself.
 *
 * Each attachment is an *owner* of blocks. One that ends, however it ends, leaves an arena that the next call of anybody
 * repairs by itself. Its blocks stay until {@link Arena.sweep}; over plain memory (shm, memfd, huge pages) also until an
 * allocation finds no space, which then sweeps by itself. Memory that devices may be writing is never taken by itself.
 *
 * It lives here until {@link Arena.close} or the end of its thread. An arena is one trust domain: whoever may attach may
 * read, write and free all of it.
 *
 * @example
 * using arena = Arena.create({ name: 'frames', byteLength: 256 << 20 });
 * using block = arena.allocate(100_000, { tag: 'frame' });
 * // Another process:
 * using same = Arena.attach('frames');
 */
export class Arena {
  readonly #backing: Backing;
  readonly #native: NativeArena;
  readonly #answer: Uint32Array;
  readonly #views: ArenaViews;
  /** Of other memory types than its own. */
  readonly #otherViews = new Map<MemoryType, ArenaViews>();
  readonly #apart = new Set<Part>();
  readonly #tags = new Map<string, number>([['', 0]]);
  #attachments: ArenaAttachment[] = [];
  #closed = false;

  /** What others attach to (shm, module), or what it is called. */
  readonly name: string;
  readonly backing: ArenaBacking;
  /** What blocks are made of, in bytes. */
  readonly granule: number;
  /** Bytes: whole granules. */
  readonly byteLength: number;

  /** @internal */
  constructor(backing: Backing) {
    const { granule, granules } = backing.native.description;
    this.#backing = backing;
    this.#native = backing.native;
    this.#answer = backing.native.answer;
    this.name = backing.name;
    this.backing = backing.kind;
    this.granule = granule;
    this.byteLength = granules * granule;
    this.#views = this.#newViews(backing.memory);
  }

  /**
   * Makes an arena. Its memory is zeroed, but for a buffer's and the module's, which are as they were left.
   *
   * @throws EEXIST if there is one (of the name, over the module's arena, over the buffer); ENOSPC or ENOMEM if the machine has no such memory;
   *   ENOENT without the module or its arena; EACCES; EOPNOTSUPP for a buffer in several pieces;
   *   ERR_OUT_OF_RANGE, ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  static create(options?: ArenaOptions): Arena {
    const known = checkOptions(options, ['name', 'byteLength', 'granule', 'backing', 'allocate', 'mode']);
    const { name, byteLength, granule = DEFAULT_GRANULE, allocate = true, mode = 0o600 } = known;
    const { backing = name === undefined ? 'memfd' : 'shm' } = known;
    checkPowerOfTwo('granule', granule, LEAST_GRANULE);
    if (name !== undefined) {
      checkString('name', name);
    }
    const length =
      byteLength === undefined
        ? undefined
        : roundUp(checkInteger('byteLength', byteLength, 1, granule * MAX_GRANULES), granule);
    checkBoolean('allocate', allocate);
    checkInteger('mode', mode, 0, 0o777);
    if (backing instanceof DmaBuffer) {
      return new Arena(BufferBacking.create(backing, name ?? 'buffer', granule, length));
    }
    if (backing instanceof ReservedArena || backing === 'module') {
      if (name !== undefined) {
        throw wrongValue('name', "no name over the module's arena, which has its own", name);
      }
      const { device, index } = backing === 'module' ? { device: undefined, index: 0 } : backing;
      return new Arena(ModuleBacking.create(device, index, granule, length));
    }
    const kind = FILE_KINDS.find((known) => known === backing);
    if (kind === undefined) {
      throw wrongValue(
        'backing',
        `one of ${FILE_KINDS.map((known) => `'${known}'`).join(', ')}, 'module', one of device.arenas or a DmaBuffer`,
        backing,
      );
    }
    if (kind === 'shm' && name === undefined) {
      throw wrongValue('name', 'the name of an arena in shared memory', name);
    }
    return new Arena(
      FileBacking.create({
        kind,
        name: name ?? kind,
        granule,
        byteLength: length ?? roundUp(DEFAULT_BYTE_LENGTH, granule),
        allocate,
        mode,
      }),
    );
  }

  /**
   * Attaches to an arena that there is. The module's arena becomes one by it, in granules of 4096, if nobody made it one.
   *
   * @param target - the name of an arena in shared memory; `'module:0'`, or one of `device.arenas`; or a descriptor of an
   *   arena, from `arena.fd` in another thread or from `fds.receive()`, which stays the caller's
   * @throws ENOENT if there is none; EACCES; EINVAL for what is no arena; EPROTO for one of another version, architecture or C
   *   library; EBADMSG for a damaged one; EUSERS if 1023 owners have attached; ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  static attach(target: ArenaTarget): Arena {
    if (target instanceof ReservedArena) {
      return new Arena(ModuleBacking.attach(target.device, target.index));
    }
    if (typeof target === 'string') {
      const index = /^module:(\d+)$/.exec(checkString('target', target))?.[1];
      return new Arena(
        index === undefined
          ? FileBacking.attachNamed(target)
          : ModuleBacking.attach(undefined, Number(index)),
      );
    }
    if (typeof target !== 'object' || target === null || !('fd' in target)) {
      throw wrongType('target', 'the name of an arena, { fd }, or one of the arenas of a device', target);
    }
    return new Arena(FileBacking.attachDescriptor(checkDescriptor(target.fd, 'target.fd')));
  }

  /** The arenas that have a name: those in shared memory, and the module's. */
  static list(): ArenaInfo[] {
    return listArenas((name) => Arena.attach(name));
  }

  /** What the `bytes` of its blocks are to the CPU, unless a block asks for another type. */
  get memory(): MemoryType {
    return this.#backing.memory;
  }

  /** What blocks and their windows can be. */
  get memoryTypes(): readonly MemoryType[] {
    return this.#backing.memoryTypes;
  }

  /**
   * Of its first byte. Means nothing to a device.
   *
   * @throws EOPNOTSUPP where nothing is known of that: all but the module's
   */
  get physicalAddress(): bigint {
    const { physicalAddress } = this.#backing;
    if (physicalAddress === undefined) {
      throw notSupported(
        'physicalAddress',
        `the pages of an arena of the kind ${this.backing} can be anywhere`,
      );
    }
    return physicalAddress;
  }

  /**
   * The address of its first byte as the device sees it that it is attached to, by {@link DmaDevice.attachArena}. Over a
   * buffer it is the buffer's, for the buffer's device.
   *
   * @throws ERR_INVALID_STATE unless it is attached to an open device, and at one address: of several,
   *   `attachment.dmaAddress`; EOPNOTSUPP where no device has one address for it (shm, memfd, huge pages)
   */
  get dmaAddress(): bigint {
    const { dmaAddress } = this.#backing;
    if (dmaAddress !== undefined) {
      return dmaAddress();
    }
    const [first] = this.#attachments;
    return first !== undefined && this.#attachments.length === 1 ? first.dmaAddress : this.#onlyAddress();
  }

  #onlyAddress(): bigint {
    this.#reserved('dmaAddress');
    const addresses = new Set(
      this.#attachments.filter(({ live }) => live).map(({ dmaAddress }) => dmaAddress),
    );
    const [only] = addresses;
    if (only === undefined) {
      throw invalidState(`the arena '${this.name}' is attached to no device: device.attachArena(arena)`);
    }
    if (addresses.size > 1) {
      throw invalidState(
        `${addresses.size} devices see the arena '${this.name}' at different addresses: attachment.dmaAddressOf(block)`,
      );
    }
    return only;
  }

  /**
   * Its descriptor, for another thread of this process or, by `fds.send()`, for another process: `Arena.attach({ fd })`. Of
   * shm, memfd and huge pages. Belongs to the arena, and is closed with it.
   *
   * @throws EOPNOTSUPP over the module's arena, which others attach to by its name, and over a buffer, which is its own
   *   thread's; ERR_INVALID_STATE after `close()`
   */
  get fd(): number {
    const { fd } = this.#live();
    if (this.backing === 'module') {
      throw notSupported('fd', `others attach to the arena by its name: Arena.attach('${this.name}')`);
    }
    if (this.backing === 'buffer') {
      throw notSupported('fd', 'an arena over a buffer is of one thread');
    }
    return fd;
  }

  /** This attachment's number among the owners of blocks, as in `stats().byOwner`. */
  get owner(): number {
    return this.#native.owner;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Allocates a block: a run of free granules of just that length, if one is known, else the first that is long enough.
   *
   * @param byteLength - from 1; the block takes whole granules
   * @throws ENOSPC, saying how many bytes are free and how long the longest run is; EDQUOT over the module's
   *   `arena_max_blocks`; EOPNOTSUPP for a memory type that the arena cannot be; ERR_OUT_OF_RANGE, ERR_INVALID_ARG_TYPE,
   *   ERR_INVALID_ARG_VALUE; ERR_INVALID_STATE after `close()`
   */
  allocate(byteLength: number, options?: AllocateOptions): DmaBlock {
    if (options !== undefined) {
      return this.#allocateAs(byteLength, options);
    }
    const native = this.#live();
    checkInteger('byteLength', byteLength, 1, this.byteLength);
    const status = native.allocate(Math.ceil(byteLength / this.granule));
    if (status !== DONE) {
      throw refusedBlock(this.#about(), status, { byteLength, align: 1, boundary: 0, count: 1 });
    }
    const answer = this.#answer;
    return this.#give(this.#views, answer[START] as number, answer[SERIAL] as number, byteLength, '');
  }

  #allocateAs(byteLength: number, options: AllocateOptions): DmaBlock {
    const native = this.#live();
    const request = this.#check(byteLength, options);
    const { align, boundary, tag } = request;
    const status = native.allocate(request.length, align, boundary, this.#tag(tag));
    if (status !== DONE) {
      throw refusedBlock(this.#about(), status, { byteLength: request.taken, align, boundary, count: 1 });
    }
    const answer = this.#answer;
    return this.#giveAs(request, answer[START] as number, answer[SERIAL] as number, byteLength);
  }

  /**
   * Allocates blocks of one length by one call, or none of them.
   *
   * @param count - from 0
   * @throws as {@link Arena.allocate}
   */
  allocateMany(count: number, byteLength: number, options?: AllocateOptions): DmaBlock[] {
    const native = this.#live();
    checkInteger('count', count, 0, MAX_GRANULES);
    const request = this.#check(byteLength, options);
    const { align, boundary, tag, length, taken } = request;
    const most = Math.floor(this.byteLength / taken);
    // No array for what cannot be.
    const starts = new Float64Array(Math.min(count, most + 1));
    const serials = new Float64Array(starts.length);
    const status = native.allocateMany(length, align, boundary, this.#tag(tag), starts, serials);
    if (status !== DONE) {
      throw refusedBlock(this.#about(), status, { byteLength: taken, align, boundary, count });
    }
    return Array.from(starts, (start, index) =>
      // As small integers, which cost no memory of their own.
      this.#giveAs(request, start | 0, (serials[index] as number) >>> 0, byteLength),
    );
  }

  #check(byteLength: number, options: AllocateOptions | undefined): Request {
    checkInteger('byteLength', byteLength, 1, this.byteLength);
    const { align, boundary, memory, zero, tag, guard } = checkAllocation(
      options,
      this.memory,
      this.memoryTypes,
    );
    const { page } = this.#backing;
    if (zero) {
      checkInteger('byteLength', byteLength, 1, MAX_BYTE_LENGTH);
    }
    if (guard && this.backing === 'buffer') {
      throw notSupported('guard', 'a buffer has but one mapping: shm, memfd and the module have more');
    }
    const taken = roundUp(byteLength, guard ? Math.max(page, this.granule) : this.granule);
    return {
      align: guard ? Math.max(align, page) : align,
      boundary,
      memory,
      zero,
      tag,
      guard,
      taken,
      length: taken / this.granule,
    };
  }

  #giveAs(request: Request, start: number, serial: number, byteLength: number): DmaBlock {
    const { memory, guard, tag, zero } = request;
    const views = memory === this.memory ? this.#views : this.#viewsOf(memory);
    const block = guard
      ? new DmaBlockApart(this, views, start, serial, byteLength, tag)
      : this.#give(views, start, serial, byteLength, tag);
    if (zero) {
      try {
        block.bytes.fill(0);
      } catch (error) {
        block.free();
        throw error;
      }
    }
    return block;
  }

  #give(views: ArenaViews, start: number, serial: number, byteLength: number, tag: string): DmaBlock {
    return views.holds(start * this.granule, byteLength)
      ? new DmaBlock(this, views, start, serial, byteLength, tag)
      : new DmaBlockApart(this, views, start, serial, byteLength, tag);
  }

  /**
   * Frees a block of this attachment: {@link DmaBlock.free}.
   *
   * @throws ERR_INVALID_STATE for one that was freed; ERR_INVALID_ARG_TYPE for one of another attachment: nothing is changed
   */
  free(block: DmaBlock): void;
  /**
   * Frees a block, whoever has it.
   *
   * @param address - of its first byte, as {@link Arena.blockAt} takes it
   * @throws EPERM for another owner's block, without `force`; ERR_OUT_OF_RANGE for an address that is not the first of a
   *   block: nothing is changed
   */
  free(address: number | bigint, options?: FreeOptions): void;
  free(which: DmaBlock | number | bigint, options?: FreeOptions): void {
    const native = this.#live();
    if (which instanceof DmaBlock) {
      if (options !== undefined) {
        checkOptions(options, []);
      }
      checkOwn(which, this);
      which.free();
      return;
    }
    const { force = false } = checkOptions(options, ['force']);
    checkBoolean('force', force);
    const offset = this.#offsetOf(which);
    const start = Math.floor(offset / this.granule);
    const status = offset % this.granule === 0 ? native.free(start, 0, force) : within(native.blockAt(start));
    if (status !== DONE) {
      throw refusedAddress(this.#about(), status, which, 'free');
    }
  }

  /**
   * Frees many blocks of this attachment by one call, or none of them.
   *
   * @throws as {@link DmaBlock.free}
   */
  freeMany(blocks: readonly DmaBlock[]): void {
    this.#live();
    DmaBlock.freeAll(blocks, this);
  }

  /**
   * The block that an address is in, whoever has it.
   *
   * @param address - physical over the module's arena, the bus address over a buffer that has one, else counted from the
   *   start of the arena
   * @throws ERR_OUT_OF_RANGE if it is in no block, or not in the arena
   */
  blockAt(address: number | bigint): ArenaBlockInfo {
    const native = this.#live();
    const offset = this.#offsetOf(address);
    const status = native.blockAt(Math.floor(offset / this.granule));
    if (status !== DONE) {
      throw refusedAddress(this.#about(), status, address, 'blockAt');
    }
    const { answer } = native;
    const begin = (answer[START] as number) * this.granule;
    const byteLength = (answer[LENGTH] as number) * this.granule;
    return {
      address: this.#origin() + BigInt(begin),
      offset: begin,
      byteLength,
      owner: answer[OWNER] as number,
      tag: native.tags()[answer[TAG] as number] ?? '',
      left: begin + byteLength - offset,
    };
  }

  /**
   * Memory by its place, whoever has it: how a process sees a block of another one, which told it the offset. It is that
   * block's memory for as long as its owner keeps the block; nothing here keeps it.
   *
   * @param offset - of the first byte, counted from the start of the arena
   * @throws ERR_OUT_OF_RANGE if the range does not lie inside, or is longer than an array can be here (2 GiB of an arena of more
   *   than 4 GiB, on Node 20); ERR_INVALID_STATE after `close()`
   * @example
   * const [offset] = await once(process, 'message');
   * const frame = arena.bytesAt(offset, 100_000);
   */
  bytesAt(offset: number, byteLength: number): Uint8Array {
    this.#live();
    checkInteger('offset', offset, 0, this.byteLength - 1);
    checkInteger('byteLength', byteLength, 1, this.byteLength - offset);
    if (!this.#views.holds(offset, byteLength)) {
      throw outOfRange('byteLength', 'what one ArrayBuffer can have: ask for it in pieces', byteLength);
    }
    return this.#views.bytes(offset, byteLength);
  }

  /** What it holds now, and for whom. Takes as long as there are blocks to count. */
  stats(): ArenaStats {
    return statsOf(this.#live());
  }

  /**
   * Recomputes everything that the books have derived, and compares. Changes nothing; holds all others up meanwhile.
   *
   * @returns nothing, if they are sound
   */
  check(): ArenaDifference[] {
    return this.#live().check();
  }

  /** All that there is, for JSON. */
  dump(): ArenaDump {
    const native = this.#live();
    const { name, backing, granule } = this;
    return { name, backing, granule, stats: statsOf(native), blocks: dumpedBlocks(native) };
  }

  /**
   * What the arena looks like from afar.
   *
   * @param cells - how many equal parts, from 1
   * @returns the share of each that is used, 0 to 1
   */
  map(cells: number): number[] {
    const native = this.#live();
    const shares = new Float64Array(checkInteger('cells', cells, 1, 2 ** 24));
    native.map(shares);
    return Array.from(shares);
  }

  /** Frees the blocks of owners that are dead. Where devices use the arena: once it is known that they no longer do. */
  sweep(): ArenaSwept {
    const { blocks, granules, owners } = this.#live().sweep();
    return { blocks, bytes: granules * this.granule, owners };
  }

  /**
   * Removes its name, of an arena in shared memory: nobody can attach any more, who has keeps it.
   *
   * @throws ENOENT if the name is gone already; EOPNOTSUPP for another kind
   */
  unlink(): void {
    this.#backing.unlink();
  }

  /**
   * Ends this attachment: arrays on its memory have length 0 afterwards, but for those on a buffer, which is its owner's.
   * Blocks that were not freed are a dead owner's from here on. The arena itself stays, while it has a name or others have
   * it. A second call does nothing.
   */
  close(): void {
    if (this.#closed) {
      return;
    }
    this.#closed = true;
    try {
      for (const views of [this.#views, ...this.#otherViews.values()]) {
        views.release();
      }
      for (const part of this.#apart) {
        this.#backing.release(part);
      }
    } finally {
      this.#backing.close();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * What a block frees itself by.
   *
   * @internal
   */
  release(start: number, serial: number): void {
    const status = this.#live().free(start, serial);
    if (status !== DONE) {
      throw refusedFree(this.#about(), status, start * this.granule);
    }
  }

  /**
   * What many blocks free themselves by: all of them, or none.
   *
   * @internal
   */
  releaseMany(starts: Float64Array, serials: Float64Array): void {
    const status = this.#live().freeMany(starts, serials);
    if (status !== DONE) {
      const refused = starts[this.#answer[INDEX] as number] as number;
      throw refusedFree(this.#about(), status, refused * this.granule);
    }
  }

  /** @internal */
  get reserved(): ReservedArena | undefined {
    return this.#backing.reserved;
  }

  /**
   * A window on a range, of a type that is not the arena's.
   *
   * @internal
   */
  openWindow(type: WindowType, offset: number, byteLength: number): MappedBytes & Disposable {
    this.#live();
    if (this.reserved === undefined) {
      throw notSupported(
        'window',
        `an arena of the kind ${this.backing} is ${this.memory}, and nothing else, not ${type}`,
      );
    }
    return this.reserved.window(type, { offset, length: byteLength });
  }

  /**
   * A mapping apart, which ends by {@link Arena.releaseApart} or with the arena.
   *
   * @internal
   */
  mapApart(memory: MemoryType, offset: number, byteLength: number): Part {
    const part = this.#backing.map(memory, offset, byteLength);
    this.#apart.add(part);
    return part;
  }

  /** @internal */
  releaseApart(part: Part): void {
    this.#apart.delete(part);
    this.#backing.release(part);
  }

  /** @internal */
  [attach](make: (arena: ReservedArena) => ArenaAttachment): ArenaAttachment {
    const native = this.#live();
    const attachment = make(this.#reserved('attachArena'));
    this.#attachments = this.#attachments.filter(({ live }) => live);
    if (this.#attachments.length === 0) {
      native.setBase(attachment.dmaAddress);
    }
    this.#attachments.push(attachment);
    return attachment;
  }

  #reserved(operation: string): ReservedArena {
    const { reserved } = this.#backing;
    if (reserved === undefined) {
      throw notSupported(
        operation,
        this.backing === 'buffer'
          ? "an arena over a buffer is reached by the buffer's device alone"
          : `the pages of an arena of the kind ${this.backing} have no one bus address: device.mapUser(block.bytes, direction)`,
      );
    }
    return reserved;
  }

  #newViews(memory: MemoryType): ArenaViews {
    return new ArenaViews(memory, this.#backing, this.byteLength, this.#native);
  }

  #viewsOf(memory: MemoryType): ArenaViews {
    let views = this.#otherViews.get(memory);
    if (views === undefined) {
      views = this.#newViews(memory);
      this.#otherViews.set(memory, views);
    }
    return views;
  }

  /** The number of a tag. */
  #tag(name: string): number {
    let tag = this.#tags.get(name);
    if (tag === undefined) {
      const status = this.#native.tag(name);
      if (status !== DONE) {
        throw refusedTag(this.#about(), status);
      }
      tag = this.#answer[TAG] as number;
      this.#tags.set(name, tag);
    }
    return tag;
  }

  /** What addresses are counted from. */
  #origin(): bigint {
    const { physicalAddress, dmaAddress } = this.#backing;
    return physicalAddress ?? dmaAddress?.() ?? 0n;
  }

  #offsetOf(address: number | bigint): number {
    const origin = this.#origin();
    const offset = checkUint64('address', address) - origin;
    if (offset < 0n || offset >= BigInt(this.byteLength)) {
      const end = origin + BigInt(this.byteLength) - 1n;
      throw outOfRange('address', `0x${origin.toString(16)} to 0x${end.toString(16)}, the arena`, address);
    }
    return Number(offset);
  }

  #about() {
    return { name: this.name, granule: this.granule, native: this.#native };
  }

  #live(): NativeArena {
    if (this.#closed) {
      throw invalidState('the arena is closed');
    }
    return this.#native;
  }

  /** Shows what it is. Touches no memory. */
  [inspect.custom](): string {
    return `Arena { name: '${this.name}', backing: ${this.backing}, byteLength: ${this.byteLength}, granule: ${this.granule}, memory: ${this.memory}, closed: ${this.#closed} }`;
  }
}

/** The status of freeing at an address between two granules, from that of looking there. */
function within(status: number): number {
  return status === DONE ? INSIDE : status;
}
