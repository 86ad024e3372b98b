/** What a program does with the descriptor of a dma-buf by the kernel's own calls: `linux/dma-buf.h`, `linux/dma-heap.h`. */
import { existsSync } from 'node:fs';
import * as raw from 'iospace/raw';

const DMA_BUF_IOCTL_SYNC = 0x4008_6200;
const DMA_BUF_SYNC_RW = 3n;
const DMA_BUF_SYNC_END = 4n;

const DMA_HEAP_IOCTL_ALLOC = 0xc018_4800;
const HEAP = '/dev/dma_heap/system';

/** The CPU's turn begins. */
export function beginCpuAccess(fd: number): void {
  raw.ioctl(fd, DMA_BUF_IOCTL_SYNC, BigUint64Array.of(DMA_BUF_SYNC_RW));
}

/** The CPU's turn ends. */
export function endCpuAccess(fd: number): void {
  raw.ioctl(fd, DMA_BUF_IOCTL_SYNC, BigUint64Array.of(DMA_BUF_SYNC_RW | DMA_BUF_SYNC_END));
}

/** A dma-buf of the kernel's own heap; undefined where it has none. */
export function heapDmaBuf(byteLength: number): number | undefined {
  if (!existsSync(HEAP)) {
    return undefined;
  }
  const { O_RDWR, O_CLOEXEC } = raw.constants;
  const heap = raw.open(HEAP, O_RDWR);
  try {
    const call = new DataView(new ArrayBuffer(24));
    call.setBigUint64(0, BigInt(byteLength), true);
    call.setUint32(12, O_RDWR | O_CLOEXEC, true);
    raw.ioctl(heap, DMA_HEAP_IOCTL_ALLOC, call);
    return call.getUint32(8, true);
  } finally {
    raw.close(heap);
  }
}
