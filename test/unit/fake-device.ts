/**
 * A device and its driver in one object: what the kernel and the addon promise about one `/dev/iospaceN`, with no kernel
 * and no addon. Interrupts come when the test says so.
 */
import type {
  NativeBinding,
  NativeInfo,
  NativeMapping,
  NativePoller,
  NativeRegisters,
  NativeRegistersInfo,
} from '../../lib/binding.js';
import { invalidState, systemError } from '../../lib/errors.js';

const ENABLE = 1;
const ENODEV = 19;
const ENOENT = 2;
const EOPNOTSUPP = 95;
const COHERENT = 5;

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

export interface FakeOptions {
  lines?: { name?: string; level?: boolean }[];
  /** Windows by index; a hole is a BAR that the function does not have. */
  windows?: ({ name?: string; byteLength: number; flags?: number } | undefined)[];
  info?: Partial<NativeInfo>;
}

export class FakeDevice {
  readonly lines: Line[];
  readonly windows: (Window | undefined)[];
  readonly pollers: FakePoller[] = [];
  readonly mappings: FakeMapping[] = [];
  /** Handles of the buffers that the kernel holds. */
  readonly handles = new Set<number>();
  /** Every access of a register: `'write32 0x8 5'`. */
  readonly accesses: string[] = [];
  readonly enabled: number[] = [];
  barriers = 0;
  gone = false;
  /** What the next mmap() throws. */
  mmapError: Error | undefined;
  readonly #info: NativeInfo;
  #unread = false;
  #nextHandle = 1;

  constructor({ lines = [{}], windows = [], info = {} }: FakeOptions = {}) {
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
      pageSize: 4096,
      cacheLine: 64,
      registers: windows.length,
      vectors: lines.length,
      dmaMask: 0xffff_ffffn,
      maxFileBytes: 1n << 30n,
      maxTotalBytes: 0xffff_ffff_ffff_ffffn,
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

  /** The addon, as far as a device needs it. */
  get native(): NativeBinding {
    const device = this;
    const native: Partial<NativeBinding> = {
      constants: { PROT_READ: 1, PROT_WRITE: 2, MAP_SHARED: 1 },
      deviceInfo: () => device.#info,
      deviceAlloc(_fd, memory, byteLength) {
        device.#check();
        if (memory !== COHERENT) {
          throw systemError(EOPNOTSUPP, 'ioctl');
        }
        const handle = device.#nextHandle++;
        device.handles.add(handle);
        const mappableLength = Math.ceil(byteLength / 4096) * 4096;
        return { handle, memory, mappableLength, dmaAddress: BigInt(handle) << 32n, mmapOffset: 0x2000n };
      },
      deviceFree(_fd, handle) {
        device.#check();
        if (!device.handles.delete(handle)) {
          throw systemError(ENOENT, 'ioctl');
        }
      },
      mmap(_fd, byteLength) {
        if (device.mmapError !== undefined) {
          throw device.mmapError;
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
      deviceReadCounts(_fd, counts) {
        device.#check();
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
        constructor(_fd: number, index: number) {
          super(device, index);
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
  release(detach: boolean): void {
    if (this.releaseError !== undefined) {
      throw this.releaseError;
    }
    this.released = true;
    this.releases += 1;
    if (detach && this.#buffer !== undefined) {
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

  constructor(device: FakeDevice, index: number) {
    this.#device = device;
    this.#content = device.windows[index]?.content ?? new DataView(new ArrayBuffer(0));
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
