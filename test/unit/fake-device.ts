/**
 * A device and its driver in one object: what the kernel and the addon promise about one `/dev/iospaceN`, with no kernel
 * and no addon. Interrupts come when the test says so.
 */
import type {
  NativeBinding,
  NativeInfo,
  NativeMapping,
  NativePoller,
  NativeReachable,
  NativeRegisters,
  NativeRegistersInfo,
  NativeReservedArena,
} from '../../lib/binding.js';
import type { DmaSegment } from '../../lib/device/segments.js';
import { invalidState, systemError } from '../../lib/errors.js';

const ENABLE = 1;
const ATTACH = 1;
const EACCES = 13;
const EBUSY = 16;
const EDQUOT = 122;
const EINVAL = 22;
const ENODEV = 19;
const ENOENT = 2;
const EOPNOTSUPP = 95;
const CACHED = 1;
const COHERENT = 5;
const NEEDS_SYNC = 1;
const TO_DEVICE = 1;
const PROT_WRITE = 2;
const PAGE = 4096;

interface Line {
  readonly name: string;
  readonly level: boolean;
  count: bigint;
  masked: boolean;
  /** A level-triggered line that the device holds until it is acknowledged. */
  asserted: boolean;
}

interface Window extends NativeRegistersInfo {
  readonly content: DataView;
}

/** What the last ALLOC asked for. */
export interface Asked {
  readonly memory: number;
  readonly flags: number;
  readonly align: number;
  readonly boundary: number;
  readonly zone: number;
  readonly addressBits: number;
}

/** A dma-buf that there is to import. */
export interface FakeDmaBuf {
  readonly byteLength: number;
  /** Whether the descriptor is. */
  readonly readOnly?: boolean;
  /** What mmap() of it throws. */
  readonly mmapError?: Error;
}

/** What a MAP_USER that is in force has mapped. */
export interface FakeUserMapping {
  readonly direction: number;
  readonly view: ArrayBufferView;
  readonly begin: number;
  readonly end: number;
}

export interface FakeOptions {
  lines?: { name?: string; level?: boolean }[];
  /** Windows by index; a hole is a BAR that the function does not have. */
  windows?: ({ name?: string; byteLength: number; flags?: number } | undefined)[];
  info?: Partial<NativeInfo>;
  /** Bytes of each segment of a buffer that is neither coherent nor contiguous, of a user mapping, of an import. */
  segmentBytes?: number;
  /** Whether cached buffers, user mappings and imports need SYNC. Default: true. */
  needsSync?: boolean;
  arenas?: Omit<NativeReservedArena, 'dmaAddress'>[];
}

export class FakeDevice {
  readonly lines: Line[];
  readonly windows: (Window | undefined)[];
  readonly pollers: FakePoller[] = [];
  readonly mappings: FakeMapping[] = [];
  /** Handles of the buffers and windows that the kernel holds. */
  readonly handles = new Set<number>();
  /** What was asked for, in order, whether it was given or not. */
  readonly asked: Asked[] = [];
  /** Every SYNC: `'1 0x40 0x80'`; every SYNC_RANGES, with all of its ranges: `'1 0x40 0x80 0x100 0x40'`. */
  readonly syncs: string[] = [];
  /** Every WINDOW: `'6 0x1000 0x2000'`. */
  readonly windowsAsked: string[] = [];
  /** MAP_USER that are in force, by handle. */
  readonly userMappings = new Map<number, FakeUserMapping>();
  /** Every EXPORT: `'0x1000 0x2000 0'`, the last the flags. */
  readonly exports: string[] = [];
  /** What can be imported, by descriptor. */
  readonly dmaBufs = new Map<number, FakeDmaBuf>();
  /** Every IMPORT: descriptor and direction. */
  readonly imports: (readonly [fd: number, direction: number])[] = [];
  /** What ALLOC, WINDOW, MAP_USER, EXPORT and IMPORT throw. */
  error: Error | undefined;
  /** Every access of a register: `'write32 0x8 5'`. */
  readonly accesses: string[] = [];
  readonly enabled: number[] = [];
  barriers = 0;
  segmentCalls = 0;
  mapCalls = 0;
  gone = false;
  /** What attaching an arena throws. */
  attachError: Error | undefined;
  /** What happens while somebody looks for interrupts for so many microseconds. */
  onSpin: (microseconds: number) => void = () => undefined;
  /** What SEGMENTS throws. */
  segmentsError: Error | undefined;
  /** What mmap() throws. */
  mmapError: Error | undefined;
  readonly #info: NativeInfo;
  readonly #segmentBytes: number;
  readonly #needsSync: boolean;
  readonly #arenas: Omit<NativeReservedArena, 'dmaAddress'>[];
  readonly #segments = new Map<number, DmaSegment[]>();
  /** Where each ArrayBuffer lies. */
  readonly #addresses = new WeakMap<ArrayBufferLike, number>();
  #unread = false;
  #nextHandle = 1;
  #nextAddress = 0x7f00_0000_0000;

  constructor(options: FakeOptions = {}) {
    const { lines = [{}], windows = [], info = {}, segmentBytes = PAGE, arenas = [] } = options;
    this.#segmentBytes = segmentBytes;
    this.#needsSync = options.needsSync ?? true;
    this.#arenas = arenas;
    this.lines = lines.map(({ name = '', level = false }) => ({
      name,
      level,
      count: 0n,
      masked: false,
      asserted: false,
    }));
    this.windows = windows.map(
      (window) =>
        window && {
          name: window.name ?? '',
          flags: window.flags ?? 1,
          byteLength: window.byteLength,
          mmapOffset: 0x1000n,
          pageOffset: 0,
          content: new DataView(new ArrayBuffer(window.byteLength)),
        },
    );
    this.#info = {
      version: 0x000100,
      bus: 1,
      iommu: 0,
      coherent: true,
      memoryTypes: 1 << COHERENT,
      pageSize: PAGE,
      cacheLine: 64,
      registers: windows.length,
      vectors: lines.length,
      zones: 0b0101,
      pool: 0,
      arenas: arenas.length,
      arenaMaxBlocks: 0,
      maxFileMappings: 4,
      dmaMask: 0xffff_ffffn,
      maxFileBytes: 1n << 30n,
      maxTotalBytes: 0xffff_ffff_ffff_ffffn,
      maxConvertedBytes: 0n,
      maxSegmentBytes: 1n << 16n,
      maxContiguousBytes: 1n << 22n,
      poolStart: 0n,
      poolBytes: 0n,
      arenaReserveBytes: 0n,
      device: '0000:00:04.0',
      ...info,
    };
  }

  /** The device raises an interrupt; a level-triggered one stays raised until `asserted` is taken back. */
  fire(vector = 0): void {
    const line = this.#line(vector);
    line.asserted = line.level;
    if (line.masked) {
      return;
    }
    line.count += 1n;
    line.masked = line.level;
    this.#unread = true;
    this.#wake();
  }

  /** The device is unbound. */
  unbind(): void {
    this.gone = true;
    this.#wake();
  }

  get watching(): boolean {
    return this.pollers.some((poller) => poller.started);
  }

  ready(): boolean {
    return this.gone || this.#unread;
  }

  #wake(): void {
    for (const poller of this.pollers) {
      poller.wake();
    }
  }

  #line(vector: number): Line {
    const line = this.lines[vector];
    if (line === undefined) {
      throw systemError(ENOENT, 'ioctl');
    }
    return line;
  }

  #check(): void {
    if (this.gone) {
      throw systemError(ENODEV, 'ioctl');
    }
  }

  #hold(): number {
    if (this.error !== undefined) {
      throw this.error;
    }
    const handle = this.#nextHandle++;
    this.handles.add(handle);
    return handle;
  }

  /** Each buffer has 4 GiB of bus addresses of its own, its segments a gap between them. Whole pages, as the kernel's. */
  #place(handle: number, byteLength: number, segmentBytes: number): DmaSegment[] {
    const pages = Math.ceil(byteLength / PAGE) * PAGE;
    const size = Math.ceil(segmentBytes / PAGE) * PAGE;
    return Array.from({ length: Math.ceil(pages / size) }, (_, n) => ({
      dmaAddress: (BigInt(handle) << 32n) + BigInt(2 * n * size),
      length: Math.min(size, pages - n * size),
    }));
  }

  /** Where a view lies, by ArrayBuffers that begin on a page. */
  #rangeOf({ buffer, byteOffset, byteLength }: ArrayBufferView): { begin: number; end: number } {
    let base = this.#addresses.get(buffer);
    if (base === undefined) {
      base = this.#nextAddress;
      this.#nextAddress += Math.ceil(buffer.byteLength / PAGE + 1) * PAGE;
      this.#addresses.set(buffer, base);
    }
    return { begin: base + byteOffset, end: base + byteOffset + byteLength };
  }

  /** As MAP_USER refuses. */
  #checkUser({ direction, begin, end }: FakeUserMapping): void {
    const { coherent, cacheLine, maxFileMappings } = this.#info;
    const address = BigInt(begin);
    if (!coherent && direction !== TO_DEVICE && (begin % cacheLine !== 0 || end % cacheLine !== 0)) {
      throw systemError(EINVAL, 'ioctl', { address });
    }
    for (const other of this.userMappings.values()) {
      const harmless = direction === TO_DEVICE && other.direction === TO_DEVICE;
      if (begin < other.end && other.begin < end && !harmless) {
        throw systemError(EBUSY, 'ioctl', { address });
      }
    }
    if (this.userMappings.size === maxFileMappings) {
      throw systemError(EDQUOT, 'ioctl', { address });
    }
  }

  /** What the device reaches in segments that have a gap between them. */
  #reach(byteLength: number): NativeReachable {
    const handle = this.#hold();
    const size = this.#segmentBytes;
    const segments = Array.from({ length: Math.ceil(byteLength / size) }, (_, n) => ({
      dmaAddress: (BigInt(handle) << 32n) + BigInt(2 * n * size),
      length: Math.min(size, byteLength - n * size),
    }));
    this.#segments.set(handle, segments);
    const flags = this.#needsSync ? NEEDS_SYNC : 0;
    return { handle, dmaAddress: segments[0]?.dmaAddress ?? 0n, segments: segments.length, flags };
  }

  #synced(handle: number, flags: number, ranges: Iterable<number | bigint>): void {
    this.#check();
    if (!this.handles.has(handle)) {
      throw systemError(ENOENT, 'ioctl');
    }
    this.syncs.push(`${flags} ${Array.from(ranges, (number) => `0x${number.toString(16)}`).join(' ')}`);
  }

  /** The addon, as far as a device needs it. */
  get native(): NativeBinding {
    const device = this;
    const native: Partial<NativeBinding> = {
      constants: { PROT_READ: 1, PROT_WRITE: 2, MAP_SHARED: 1 },
      deviceInfo: () => device.#info,
      pageSize: PAGE,
      deviceAlloc(_fd, memory, byteLength, flags, align, boundary, zone, addressBits) {
        device.#check();
        device.asked.push({ memory, flags, align, boundary, zone, addressBits });
        if ((device.#info.memoryTypes & (1 << memory)) === 0 || addressBits === 8) {
          throw systemError(EOPNOTSUPP, 'ioctl');
        }
        const handle = device.#hold();
        const inOnePiece = memory === COHERENT || flags !== 0;
        const segments = device.#place(handle, byteLength, inOnePiece ? byteLength : device.#segmentBytes);
        device.#segments.set(handle, segments);
        const [first] = segments;
        return {
          handle,
          memory,
          dmaAddress: first?.dmaAddress ?? 0n,
          mmapOffset: 0x2000n,
          segments: segments.length,
          flags: memory === CACHED && device.#needsSync ? NEEDS_SYNC : 0,
        };
      },
      deviceSegments(_fd, handle, first, into) {
        device.segmentCalls += 1;
        if (device.segmentsError !== undefined) {
          throw device.segmentsError;
        }
        const segments = device.#segments.get(handle)?.slice(first, first + into.length / 2) ?? [];
        if (segments.length === 0) {
          throw systemError(EINVAL, 'ioctl');
        }
        into.set(segments.flatMap(({ dmaAddress, length }) => [dmaAddress, BigInt(length)]));
        return segments.length;
      },
      deviceSync(_fd, handle, flags, offset, byteLength) {
        device.#synced(handle, flags, [offset, byteLength]);
      },
      deviceSyncRanges(_fd, handle, flags, ranges) {
        if (ranges.length < 2 || ranges.length > 2 * 65536) {
          throw systemError(EINVAL, 'ioctl');
        }
        device.#synced(handle, flags, ranges);
      },
      deviceMapUser(_fd, direction, view) {
        device.mapCalls += 1;
        device.#check();
        const mapping = { direction, view, ...device.#rangeOf(view) };
        device.#checkUser(mapping);
        const reachable = device.#reach(view.byteLength);
        device.userMappings.set(reachable.handle, mapping);
        return reachable;
      },
      deviceExport(_fd, handle, flags, offset, byteLength) {
        device.#check();
        if (device.error !== undefined) {
          throw device.error;
        }
        if (!device.handles.has(handle)) {
          throw systemError(ENOENT, 'ioctl');
        }
        device.exports.push(`0x${offset.toString(16)} 0x${byteLength.toString(16)} ${flags}`);
        return 1000 + device.exports.length;
      },
      deviceImport(_fd, dmaBuf, direction) {
        device.#check();
        const { byteLength, readOnly } = device.dmaBufs.get(dmaBuf) ?? { byteLength: 0 };
        if (byteLength === 0) {
          throw systemError(EINVAL, 'ioctl');
        }
        if (readOnly === true && direction !== TO_DEVICE) {
          throw systemError(EACCES, 'ioctl');
        }
        device.imports.push([dmaBuf, direction]);
        return { ...device.#reach(byteLength), byteLength };
      },
      deviceArena(_fd, index, flags) {
        device.#check();
        const arena = device.#arenas[index];
        if (arena === undefined) {
          throw systemError(ENOENT, 'ioctl');
        }
        if (flags === ATTACH && device.attachError !== undefined) {
          throw device.attachError;
        }
        return { ...arena, dmaAddress: flags === ATTACH ? arena.address + 0xc000_0000n : 0n };
      },
      deviceArenaBooks(_fd, index) {
        device.#check();
        if (device.#arenas[index] === undefined) {
          throw systemError(ENOENT, 'ioctl');
        }
        return 2000 + index;
      },
      deviceWindow(_fd, memory, address, byteLength) {
        device.#check();
        device.windowsAsked.push(`${memory} 0x${address.toString(16)} 0x${byteLength.toString(16)}`);
        return { handle: device.#hold(), memory, mmapOffset: 0x3000n };
      },
      deviceFree(_fd, handle) {
        device.#check();
        if (!device.handles.delete(handle)) {
          throw systemError(ENOENT, 'ioctl');
        }
        device.userMappings.delete(handle);
      },
      mmap(fd, byteLength, protection) {
        const { mmapError = device.mmapError, readOnly } = device.dmaBufs.get(fd) ?? {};
        if (mmapError !== undefined) {
          throw mmapError;
        }
        if (readOnly === true && (protection & PROT_WRITE) !== 0) {
          throw systemError(EACCES, 'mmap');
        }
        const mapping = new FakeMapping(byteLength);
        device.mappings.push(mapping);
        return mapping;
      },
      deviceRegisters(_fd, index) {
        device.#check();
        const window = device.windows[index];
        if (window === undefined) {
          throw systemError(ENOENT, 'ioctl');
        }
        return window;
      },
      deviceInterrupt(_fd, vector, flags) {
        device.#check();
        const line = device.#line(vector);
        if ((flags & ENABLE) !== 0) {
          device.enabled.push(vector);
          line.masked = false;
          if (line.asserted) {
            device.fire(vector);
          }
        }
        return { flags: (line.level ? 1 : 0) | (line.masked ? 2 : 0), count: line.count, name: line.name };
      },
      deviceReadCounts(_fd, counts, spin = 0) {
        device.#check();
        if (!device.#unread && spin > 0) {
          device.onSpin(spin);
          device.#check();
        }
        if (!device.#unread) {
          return false;
        }
        device.#unread = false;
        counts.forEach((_, vector) => {
          counts[vector] = device.#line(vector).count;
        });
        return true;
      },
      Registers: class extends FakeRegisters {
        constructor(_fd: number, index: number, info: NativeRegistersInfo) {
          super(device, device.windows[index]?.content ?? new DataView(new ArrayBuffer(info.byteLength)));
        }
      },
      Poller: class extends FakePoller {
        constructor(_fd: number, onReady: () => void) {
          super(() => device.ready(), onReady);
          device.pollers.push(this);
        }
      },
      barrier() {
        device.barriers += 1;
      },
    };
    // What is missing fails the test that needs it.
    return native as NativeBinding;
  }
}

class FakePoller implements NativePoller {
  started = false;
  referenced = true;
  closed = false;
  readonly #isReady: () => boolean;
  readonly #onReady: () => void;

  constructor(isReady: () => boolean, onReady: () => void) {
    this.#isReady = isReady;
    this.#onReady = onReady;
  }

  start(): void {
    this.started = true;
    this.wake();
  }
  stop(): void {
    this.started = false;
  }
  ref(): void {
    this.referenced = true;
  }
  unref(): void {
    this.referenced = false;
  }
  close(): void {
    this.started = false;
    this.closed = true;
  }

  wake(): void {
    setImmediate(() => {
      if (this.started && this.#isReady()) {
        this.#onReady();
        this.wake();
      }
    });
  }
}

/** Memory on V8's own heap: what is not a property of mapped memory can be tested on it. */
class FakeMapping implements NativeMapping {
  readonly byteLength: number;
  readonly address = 0x7000_0000n;
  released = false;
  releases = 0;
  /** What release() throws, changing nothing. */
  releaseError: Error | undefined;
  #buffer: ArrayBuffer | undefined;

  constructor(byteLength: number) {
    this.byteLength = byteLength;
  }

  buffer(): ArrayBuffer {
    this.#buffer ??= new ArrayBuffer(this.byteLength);
    return this.#buffer;
  }
  sharedBuffer(): undefined {}
  renew(detach: boolean): void {
    if (detach) {
      this.#detach();
    }
    this.#buffer = undefined;
  }
  release(detach: boolean): void {
    if (this.releaseError !== undefined) {
      throw this.releaseError;
    }
    this.released = true;
    this.releases += 1;
    if (detach) {
      this.#detach();
    }
  }
  #detach(): void {
    if (this.#buffer !== undefined) {
      structuredClone(this.#buffer, { transfer: [this.#buffer] });
    }
  }
  protect(): void {}
  sync(): void {}
  advise(): void {}
  lock(): void {}
  unlock(): void {}
}

class FakeRegisters implements NativeRegisters {
  closed = false;
  readonly #device: FakeDevice;
  readonly #content: DataView;

  constructor(device: FakeDevice, content: DataView) {
    this.#device = device;
    this.#content = content;
  }

  read8 = (offset: number): number => this.#log('read8', offset) ?? this.#content.getUint8(offset);
  read16 = (offset: number): number => this.#log('read16', offset) ?? this.#content.getUint16(offset, true);
  read32 = (offset: number): number => this.#log('read32', offset) ?? this.#content.getUint32(offset, true);
  read64 = (offset: number): bigint =>
    this.#log('read64', offset) ?? this.#content.getBigUint64(offset, true);
  write8 = (offset: number, value: number): void =>
    this.#log('write8', offset, value) ?? this.#content.setUint8(offset, value);
  write16 = (offset: number, value: number): void =>
    this.#log('write16', offset, value) ?? this.#content.setUint16(offset, value, true);
  write32 = (offset: number, value: number): void =>
    this.#log('write32', offset, value) ?? this.#content.setUint32(offset, value, true);
  write64 = (offset: number, value: bigint): void =>
    this.#log('write64', offset, value) ?? this.#content.setBigUint64(offset, value, true);

  close(): void {
    this.closed = true;
  }

  #log(access: string, offset: number, value?: number | bigint): undefined {
    if (this.closed) {
      throw invalidState('the registers have been closed');
    }
    if (this.#device.gone) {
      throw systemError(ENODEV, access);
    }
    const written = value === undefined ? '' : ` 0x${value.toString(16)}`;
    this.#device.accesses.push(`${access} 0x${offset.toString(16)}${written}`);
  }
}
