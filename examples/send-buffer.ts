/**
 * One buffer of a device, two processes: the parent allocates and exports it, and sends the descriptor to the child, which
 * maps the same pages and fills them. Nothing is copied. In the lab:
 *
 *     npx iospace lab run -- node build/examples/send-buffer.js
 *
 * A descriptor has no name that a child could open, and Node's own sockets pass none: `fds` of `iospace/shm` does.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DmaDevice } from 'iospace';
import { constants, ioctl, mmap } from 'iospace/raw';
import { fds } from 'iospace/shm';

const { MAP_SHARED, PROT_READ, PROT_WRITE } = constants;
const BYTES = 1 << 20;
/** Milliseconds: an emulated machine takes its time to start a process. */
const PATIENCE = 60_000;
const GREETING = 'written by another process';

// linux/dma-buf.h
const DMA_BUF_IOCTL_SYNC = 0x40086200;
const DMA_BUF_SYNC_WRITE = 2n;
const DMA_BUF_SYNC_END = 4n;

/** The parent, who has the device. */
async function parent(): Promise<void> {
  // Where nobody else can put a socket.
  const directory = mkdtempSync(join(tmpdir(), 'iospace-'));
  const path = join(directory, 'socket');
  using device = DmaDevice.open('iospace0');
  using buffer = device.alloc(BYTES, { memory: 'cached' });
  const fd = buffer.exportDmaBuf();
  try {
    const child = fork(new URL(import.meta.url), [path]);
    const ended = once(child, 'exit');
    await fds.send(path, [fd], { timeout: PATIENCE });
    const [code] = await ended;
    const text = Buffer.from(buffer.bytes.subarray(0, GREETING.length)).toString();
    if (code !== 0 || text !== GREETING || buffer.bytes[BYTES - 1] !== 0xff) {
      throw new Error(`the child (exit code ${code}) should have filled the buffer, found '${text}'`);
    }
    console.log(`${buffer.byteLength} bytes in ${buffer.segments.length} segments: ${text}`);
  } finally {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  }
}

/** The child, who has nothing but the path. */
async function child(path: string): Promise<void> {
  const [fd = -1] = await fds.receive(path, { timeout: PATIENCE });
  using memory = mmap(fd, fstatSync(fd).size, PROT_READ | PROT_WRITE, MAP_SHARED);
  ioctl(fd, DMA_BUF_IOCTL_SYNC, new BigUint64Array([DMA_BUF_SYNC_WRITE]));
  memory.bytes.fill(0xff);
  memory.bytes.set(Buffer.from(GREETING));
  ioctl(fd, DMA_BUF_IOCTL_SYNC, new BigUint64Array([DMA_BUF_SYNC_WRITE | DMA_BUF_SYNC_END]));
  closeSync(fd);
}

const path = process.argv[2];
await (path === undefined ? parent() : child(path));
