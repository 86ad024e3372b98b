/**
 * As much of Video4Linux as it takes to have a camera write into dma-bufs: the structures of `linux/videodev2.h`, as 64-bit
 * little-endian machines (x86-64, arm64) lay them out, behind `ioctl` of `iospace/raw`.
 */
import { readdirSync } from 'node:fs';
import { close, constants, ioctl, open, poll } from 'iospace/raw';

const { O_NONBLOCK, O_RDWR, POLLIN } = constants;

// Numbers of calls; each holds the size of its structure.
const VIDIOC_QUERYCAP = 0x80685600;
const VIDIOC_S_FMT = 0xc0d05605;
const VIDIOC_REQBUFS = 0xc0145608;
const VIDIOC_QBUF = 0xc058560f;
const VIDIOC_DQBUF = 0xc0585611;
const VIDIOC_STREAMON = 0x40045612;
const VIDIOC_STREAMOFF = 0x40045613;

const V4L2_CAP_VIDEO_CAPTURE = 0x00000001;
const V4L2_CAP_STREAMING = 0x04000000;
const V4L2_BUF_TYPE_VIDEO_CAPTURE = 1;
const V4L2_MEMORY_DMABUF = 4;
const V4L2_FIELD_NONE = 1;
const V4L2_BUF_FLAG_ERROR = 0x40;
/** Red, green, blue, a byte each. */
export const V4L2_PIX_FMT_RGB24: number = fourcc('RGB3');

/** A format's name of four letters, as its number. */
function fourcc(name: string): number {
  return Buffer.from(name).readUInt32LE(0);
}

/** A structure, its members by their offsets. */
class Structure {
  readonly view: DataView;

  constructor(byteLength: number) {
    this.view = new DataView(new ArrayBuffer(byteLength));
  }

  get(offset: number): number {
    return this.view.getUint32(offset, true);
  }

  set(offset: number, value: number): this {
    this.view.setUint32(offset, value, true);
    return this;
  }

  text(offset: number, byteLength: number): string {
    const bytes = Buffer.from(this.view.buffer, offset, byteLength);
    return bytes.toString('utf8', 0, bytes.indexOf(0));
  }
}

/** What a frame is. */
export interface Format {
  width: number;
  height: number;
  pixelFormat: number;
  bytesPerLine: number;
  byteLength: number;
}

/** A frame that has been written. */
export interface Frame {
  /** Which of the buffers it is in. */
  index: number;
  /** Counts all frames, also those for which no buffer was there. */
  sequence: number;
  /** The camera's driver reports that its content may be damaged. */
  damaged: boolean;
}

/** The cameras of a driver, `/dev/videoN`, in the order of their numbers. */
export function findCameras(driver: string): string[] {
  const numbers = readdirSync('/dev').flatMap((name) => /^video(\d+)$/.exec(name)?.[1] ?? []);
  return numbers
    .sort((left, right) => Number(left) - Number(right))
    .map((number) => `/dev/video${number}`)
    .filter((path) => {
      using camera = new Camera(path);
      return camera.driver === driver && camera.captures;
    });
}

/** A camera. Closing it ends its stream and lets go of the buffers. */
export class Camera {
  readonly #fd: number;
  /** Which driver it is of. */
  readonly driver: string;
  /** Whether it is one that frames can be streamed from: drivers have other files beside. */
  readonly captures: boolean;
  #closed = false;

  constructor(path: string) {
    this.#fd = open(path, O_RDWR | O_NONBLOCK);
    const capability = new Structure(104);
    this.#call(VIDIOC_QUERYCAP, capability);
    this.driver = capability.text(0, 16);
    const needed = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
    this.captures = (capability.get(88) & needed) === needed;
  }

  /** Sets what is nearest to what is asked for, and says what that is. */
  setFormat(width: number, height: number, pixelFormat: number): Format {
    const format = new Structure(208)
      .set(0, V4L2_BUF_TYPE_VIDEO_CAPTURE)
      .set(8, width)
      .set(12, height)
      .set(16, pixelFormat)
      .set(20, V4L2_FIELD_NONE);
    this.#call(VIDIOC_S_FMT, format);
    return {
      width: format.get(8),
      height: format.get(12),
      pixelFormat: format.get(16),
      bytesPerLine: format.get(24),
      byteLength: format.get(28),
    };
  }

  /** Says that frames go to `count` dma-bufs; 0 lets go of those there were. */
  useDmaBufs(count: number): void {
    const request = new Structure(20)
      .set(0, count)
      .set(4, V4L2_BUF_TYPE_VIDEO_CAPTURE)
      .set(8, V4L2_MEMORY_DMABUF);
    this.#call(VIDIOC_REQBUFS, request);
    if (request.get(0) < count) {
      throw new Error(`the camera takes ${request.get(0)} buffers, not ${count}`);
    }
  }

  start(): void {
    this.#call(VIDIOC_STREAMON, new Structure(4).set(0, V4L2_BUF_TYPE_VIDEO_CAPTURE));
  }

  stop(): void {
    this.#call(VIDIOC_STREAMOFF, new Structure(4).set(0, V4L2_BUF_TYPE_VIDEO_CAPTURE));
  }

  /** Gives a dma-buf to the camera, until {@link next} says that a frame is in it. */
  queue(index: number, fd: number): void {
    const buffer = this.#buffer().set(0, index).set(64, fd);
    this.#call(VIDIOC_QBUF, buffer);
  }

  /** Waits for the next frame. */
  next(timeout: number): Frame {
    if (poll([{ fd: this.#fd, events: POLLIN }], timeout).length === 0) {
      throw new Error(`no frame within ${timeout} ms`);
    }
    const buffer = this.#buffer();
    this.#call(VIDIOC_DQBUF, buffer);
    return {
      index: buffer.get(0),
      sequence: buffer.get(56),
      damaged: (buffer.get(12) & V4L2_BUF_FLAG_ERROR) !== 0,
    };
  }

  close(): void {
    if (!this.#closed) {
      this.#closed = true;
      close(this.#fd);
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #call(request: number, structure: Structure): void {
    ioctl(this.#fd, request, structure.view);
  }

  #buffer(): Structure {
    return new Structure(88).set(4, V4L2_BUF_TYPE_VIDEO_CAPTURE).set(60, V4L2_MEMORY_DMABUF);
  }
}
