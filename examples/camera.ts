/**
 * Frames from a camera, straight into buffers of iospace: the camera's driver writes into the pages of the buffers, which it
 * gets as dma-bufs (V4L2_MEMORY_DMABUF), and this program reads them where they are. No pixel is copied on the way.
 *
 * The camera is the kernel's virtual one, vivid, which draws colour bars and a clock. In the lab:
 *
 *     npx iospace lab run --kernel 6.12 --kernel-module vivid --mount .:rw -- node build/examples/camera.js
 *
 * writes the last of 30 frames to `camera.png`. `--output FILE` writes it elsewhere, `--frames N` takes as many, `--camera FILE`
 * takes another camera than the first of vivid's, and `--device NAME` memory of another device than `iospace0`. `--contiguous`
 * allocates in one piece, which a camera wants whose DMA engine takes one address, as vivid's do with `allocators=1`. The PNG
 * is made by the package `fast-png`.
 */
import { closeSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { encode } from 'fast-png';
import { type DmaBuffer, DmaDevice } from 'iospace';
import { ioctl } from 'iospace/raw';
import { Camera, findCameras, V4L2_PIX_FMT_RGB24 } from './v4l2.js';

/** While one is read the camera writes the others. */
const BUFFERS = 4;
/** Milliseconds until a frame comes. */
const PATIENCE = 10_000;

// linux/dma-buf.h
const DMA_BUF_IOCTL_SYNC = 0x40086200;
const DMA_BUF_SYNC_READ = 1n;
const DMA_BUF_SYNC_END = 4n;

const { values: options } = parseArgs({
  options: {
    output: { type: 'string', default: 'camera.png' },
    frames: { type: 'string', default: '30' },
    camera: { type: 'string' },
    device: { type: 'string', default: 'iospace0' },
    contiguous: { type: 'boolean', default: false },
  },
});

/** A buffer, and the descriptor by which drivers know its memory. */
interface Exported {
  buffer: DmaBuffer;
  fd: number;
}

function exported(device: DmaDevice, byteLength: number): Exported {
  const buffer = device.alloc(byteLength, { memory: 'cached', contiguous: options.contiguous });
  return { buffer, fd: buffer.exportDmaBuf() };
}

/** Reads what another driver has written. What it takes that the CPU sees it is known to who exported the memory. */
function reading<T>({ buffer, fd }: Exported, read: (bytes: Uint8Array) => T): T {
  ioctl(fd, DMA_BUF_IOCTL_SYNC, new BigUint64Array([DMA_BUF_SYNC_READ]));
  try {
    return read(buffer.bytes);
  } finally {
    ioctl(fd, DMA_BUF_IOCTL_SYNC, new BigUint64Array([DMA_BUF_SYNC_READ | DMA_BUF_SYNC_END]));
  }
}

function theCamera(): string {
  const [first] = findCameras('vivid');
  if (first === undefined) {
    throw new Error('there is no virtual camera: sudo modprobe vivid');
  }
  return first;
}

const count = Number(options.frames);
if (!(Number.isInteger(count) && count > 0)) {
  throw new Error(`--frames: expected a number from 1, got ${options.frames}`);
}

using device = DmaDevice.open(options.device);
using camera = new Camera(options.camera ?? theCamera());
const { width, height, pixelFormat, bytesPerLine, byteLength } = camera.setFormat(
  640,
  360,
  V4L2_PIX_FMT_RGB24,
);
if (pixelFormat !== V4L2_PIX_FMT_RGB24 || bytesPerLine !== 3 * width) {
  throw new Error('the camera has no RGB of three bytes a pixel, line after line');
}

const buffers = Array.from({ length: BUFFERS }, () => exported(device, byteLength));
camera.useDmaBufs(BUFFERS);
for (const [index, { fd }] of buffers.entries()) {
  camera.queue(index, fd);
}
camera.start();
const begin = performance.now();
for (let taken = 1; ; taken++) {
  const { index, sequence, damaged } = camera.next(PATIENCE);
  const frame = buffers[index] as Exported;
  if (damaged) {
    throw new Error(`frame ${sequence} is damaged`);
  }
  if (taken === count) {
    camera.stop();
    const seconds = (performance.now() - begin) / 1000;
    reading(frame, (bytes) => {
      const data = bytes.subarray(0, byteLength);
      writeFileSync(options.output, encode({ width, height, data, channels: 3, depth: 8 }));
    });
    console.log(
      `${count} frames of ${width} x ${height} in ${seconds.toFixed(1)} s, ${sequence + 1 - count} missed; the last is ${options.output}`,
    );
    break;
  }
  camera.queue(index, frame.fd);
}

// The camera lets go of the memory before it is given back.
camera.useDmaBufs(0);
for (const { buffer, fd } of buffers) {
  closeSync(fd);
  buffer.free();
}
