/**
 * Memory of the program, mapped for a device where it is.
 *
 * @module
 */
import { inspect } from 'node:util';
import { checkOneOf, checkOptionalInteger, checkOptions } from '../check.js';
import { errno, invalidState, notSupported, outOfRange, systemError, wrongType } from '../errors.js';
import { type Direction, directions } from './memory.js';
import type { Provider, Reachable } from './provider.js';
import { type DmaSegment, describePlace, onlyAddress, split } from './segments.js';
import { beginTurn, rangesOf, type SyncRange, type Turn } from './turn.js';

/** What the device's list of segments can hold. */
export interface MapUserOptions {
  /** Longest segment that the device takes, in bytes: longer ones are cut. @defaultValue any length */
  maxSegmentLength?: number;
  /** Most segments that it takes. More is EOPNOTSUPP, and nothing stays mapped. @defaultValue any number */
  maxSegments?: number;
}

/**
 * What is mapped is not collected, whatever becomes of its device: the hardware may be writing there, and the allocator
 * would give the same memory to others.
 */
const mapped = new Set<UserMapping>();

/**
 * Has a provider map a view.
 *
 * @throws as {@link DmaDevice.mapUser}
 */
export function mapView(
  provider: Provider,
  view: ArrayBufferView,
  direction: Direction,
  options: MapUserOptions | undefined,
): Reachable {
  const bytes = bytesOf(view);
  checkOneOf('direction', direction, directions);
  const most = Number.MAX_SAFE_INTEGER;
  const { maxSegmentLength, maxSegments } = checkOptions(options, ['maxSegmentLength', 'maxSegments']);
  const longest = checkOptionalInteger('maxSegmentLength', maxSegmentLength, 1, most, most);
  const limit = checkOptionalInteger('maxSegments', maxSegments, 1, most, most);

  const reachable = provider.mapUser(bytes, direction);
  const segments = split(reachable.segments, longest);
  if (segments.length > limit) {
    reachable.free();
    throw notSupported(
      'mapUser',
      `${bytes.byteLength} bytes are ${segments.length} segments here, and maxSegments is ${limit}: map less at a time`,
    );
  }
  return { ...reachable, segments };
}

/** The memory of any view as bytes. Asking a view for its buffer also moves a small one to where it stays. */
function bytesOf(view: ArrayBufferView): Uint8Array {
  if (!ArrayBuffer.isView(view)) {
    throw wrongType('view', 'a typed array, Buffer or DataView', view);
  }
  const { buffer } = view as { buffer: ArrayBufferLike & { resizable?: boolean; growable?: boolean } };
  if (buffer.resizable === true || buffer.growable === true) {
    throw systemError(errno.EINVAL, 'mapUser', {
      hint: 'the view is over a resizable ArrayBuffer, and shrinking replaces its pages: use one of fixed length',
    });
  }
  // First, because a DataView whose buffer is detached throws when it is asked.
  if (buffer.byteLength === 0 || view.byteLength === 0) {
    throw outOfRange('the length of the view', 'at least 1 byte (0 if it was detached)', 0);
  }
  return new Uint8Array(buffer, view.byteOffset, view.byteLength);
}

/**
 * Memory of the program that a device reaches where it is, made by {@link DmaDevice.mapUser}. It begins in the device's
 * turn: what was written before the call, the device sees.
 *
 * It lives until {@link UserMapping.unmap}, or until its device is closed. So long its pages stay in place and in memory,
 * and the view is not collected.
 *
 * Do not detach the ArrayBuffer of the view meanwhile (`transfer()`, `postMessage()` with a transfer list): nothing can
 * prevent it, and the device goes on with the same pages, wherever they are. Each sync and `unmap()` tells of it.
 *
 * @example
 * const samples = new Int16Array(1 << 20);
 * using mapping = device.mapUser(samples, 'fromDevice');
 * for (const { dmaAddress, length } of mapping.segments) {
 *   queue(dmaAddress, length);
 * }
 * await device.waitForInterrupt();
 * mapping.unmap(); // the CPU's turn, for good
 */
export class UserMapping<View extends ArrayBufferView = ArrayBufferView> {
  readonly #reachable: Reachable;
  readonly #onUnmap: () => void;
  #unmapped = false;

  /** What is mapped. */
  readonly view: View;
  /** Who writes it. */
  readonly direction: Direction;
  readonly byteLength: number;

  /**
   * @param own - takes this into account; what it returns ends the kernel's side
   * @internal
   */
  constructor(
    view: View,
    direction: Direction,
    reachable: Reachable,
    own: (mapping: UserMapping) => () => void,
  ) {
    this.view = view;
    this.direction = direction;
    this.byteLength = view.byteLength;
    this.#reachable = reachable;
    this.#onUnmap = own(this);
    mapped.add(this);
  }

  get unmapped(): boolean {
    return this.#unmapped;
  }

  /**
   * What the device must be told, in order: neighbouring pages are one segment, none is longer than `maxSegmentLength`.
   * Valid for the device that it was mapped for, and for no other.
   *
   * @throws ERR_INVALID_STATE after `unmap()`
   */
  get segments(): readonly DmaSegment[] {
    this.#checkMapped();
    return this.#reachable.segments;
  }

  /**
   * The address of the first byte as the device sees it.
   *
   * @throws EOPNOTSUPP where there is no single one: `segments` has them all; ERR_INVALID_STATE after `unmap()`
   */
  get dmaAddress(): bigint {
    return onlyAddress(this.segments);
  }

  /**
   * Makes what the CPU wrote visible to the device, whose turn it is then: at the first byte, or after
   * {@link UserMapping.syncForCpu}. A system call where the device does not snoop or works on a copy; else a barrier.
   *
   * Where the device writes and does not snoop, the range begins and ends on a multiple of `info.cacheLine`, counted from
   * the start of the view: whatever else is in its first and last line would be lost.
   *
   * @param offset - first byte
   * @param length - bytes; absent: all that follow
   * @throws ERR_OUT_OF_RANGE if the range does not lie inside, or shares a cache line with what lies outside;
   *   ERR_INVALID_STATE after `unmap()`, or if the view's ArrayBuffer was detached
   */
  syncForDevice(offset?: number, length?: number): void;
  /** The same for many ranges, by one system call. All are checked before the first is handed over. */
  syncForDevice(ranges: readonly SyncRange[]): void;
  syncForDevice(offset: number | readonly SyncRange[] = 0, length?: number): void {
    this.#begin('device', offset, length);
  }

  /**
   * Makes what the device wrote visible to the CPU, whose turn it is then. A system call where the device does not snoop
   * or works on a copy; else a barrier.
   *
   * @param offset - first byte, as for {@link UserMapping.syncForDevice}
   * @param length - bytes; absent: all that follow
   * @throws as {@link UserMapping.syncForDevice}
   */
  syncForCpu(offset?: number, length?: number): void;
  /** The same for many ranges, by one system call. All are checked before the first is handed over. */
  syncForCpu(ranges: readonly SyncRange[]): void;
  syncForCpu(offset: number | readonly SyncRange[] = 0, length?: number): void {
    this.#begin('cpu', offset, length);
  }

  /**
   * Ends the mapping: the device must no longer use the memory. What it wrote is in the view then, with no sync. A second
   * call does nothing.
   *
   * @throws ERR_INVALID_STATE if the view's ArrayBuffer was detached meanwhile. The mapping has ended all the same.
   */
  unmap(): void {
    if (!this.#unmapped) {
      this.release();
      this.#onUnmap();
      this.#checkAttached();
    }
  }

  [Symbol.dispose](): void {
    this.unmap();
  }

  /**
   * Lets go of the view. The kernel's side ends by {@link UserMapping.unmap}, or with the device.
   *
   * @internal
   */
  release(): void {
    this.#unmapped = true;
    mapped.delete(this);
  }

  #begin(turn: Turn, offset: number | readonly SyncRange[], length: number | undefined): void {
    this.#checkMapped();
    this.#checkAttached();
    beginTurn(turn, this.#reachable.sync, rangesOf(offset, length, 0, this.byteLength));
  }

  #checkMapped(): void {
    if (this.#unmapped) {
      throw invalidState('the memory was unmapped');
    }
  }

  #checkAttached(): void {
    if (this.view.buffer.byteLength === 0) {
      throw invalidState(
        "the view's ArrayBuffer was detached while it was mapped: what the device wrote is not in the view",
      );
    }
  }

  /** Shows where it lies. Touches no memory. */
  [inspect.custom](): string {
    const place = this.#unmapped ? '' : describePlace(this.#reachable.segments);
    return `UserMapping { byteLength: ${this.byteLength}, direction: ${this.direction}${place}, unmapped: ${this.#unmapped} }`;
  }
}
