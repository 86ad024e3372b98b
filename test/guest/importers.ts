/**
 * Buffers in the hands of other drivers of the kernel, which know nothing of iospace: vgem, a graphics driver without
 * hardware, and vivid, the virtual camera. `test/lab/camera.test.ts` makes the machine that has them.
 */
import assert from 'node:assert/strict';
import { closeSync, readdirSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { type DmaBuffer, listDevices } from 'iospace';
import { close, constants, ioctl, type Mapping, mmap, open } from 'iospace/raw';
import { eventually } from './children.js';
import { counters, findEdu, NOTHING, openEdu, SOON } from './edu.js';
import { isFilledWith } from './witness.js';

/** The example's V4L2, from where it is built. */
const { Camera, findCameras, V4L2_PIX_FMT_RGB24 } = (await import(
  new URL('../examples/v4l2.js', import.meta.url).href
)) as typeof import('../../examples/v4l2.js');

const { MAP_SHARED, O_RDWR, PROT_READ, PROT_WRITE } = constants;
const { device: busName } = findEdu();

const BYTES = 64 * 1024;

// drm.h, drm_mode.h
const DRM_IOCTL_GEM_CLOSE = 0x40086409;
const DRM_IOCTL_PRIME_FD_TO_HANDLE = 0xc00c642e;
const DRM_IOCTL_MODE_CREATE_DUMB = 0xc02064b2;
const DRM_IOCTL_MODE_MAP_DUMB = 0xc01064b3;

/** vgem, by its card. */
class Card implements Disposable {
  readonly #fd: number;

  constructor() {
    const [card = 'none'] = readdirSync('/dev/dri').filter((file) => file.startsWith('card'));
    this.#fd = open(`/dev/dri/${card}`, O_RDWR);
  }

  /** Attaches to a dma-buf, and maps it for its device. Returns its handle. */
  import(fd: number): number {
    const prime = new Int32Array([0, 0, fd]);
    ioctl(this.#fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, prime);
    return prime[0] as number;
  }

  /** What is imported next, as programs see it through the card. `use` imports it. */
  mapNext(byteLength: number, use: () => number): { handle: number; mapping: Mapping } {
    // Nobody is told the place of what was imported. It is the place of what was there before, and is gone.
    const dumb = new Uint32Array([1, byteLength / 4, 32, 0, 0, 0, 0, 0]);
    ioctl(this.#fd, DRM_IOCTL_MODE_CREATE_DUMB, dumb);
    const place = new BigUint64Array([BigInt(dumb[4] as number), 0n]);
    ioctl(this.#fd, DRM_IOCTL_MODE_MAP_DUMB, place);
    this.release(dumb[4] as number);
    const handle = use();
    return { handle, mapping: mmap(this.#fd, byteLength, PROT_READ | PROT_WRITE, MAP_SHARED, place[1]) };
  }

  release(handle: number): void {
    ioctl(this.#fd, DRM_IOCTL_GEM_CLOSE, new Uint32Array([handle, 0]));
  }

  [Symbol.dispose](): void {
    close(this.#fd);
  }
}

const pattern = (byteLength: number) => Buffer.from(Array.from({ length: byteLength }, (_, i) => i % 251));

test('vgem attaches to a buffer, and shows what is in it', () => {
  using card = new Card();
  using device = openEdu();
  const buffer = device.alloc(BYTES, { memory: 'cached' });
  const expected = pattern(BYTES);
  buffer.bytes.set(expected);
  const fd = buffer.exportDmaBuf();
  const { handle, mapping } = card.mapNext(BYTES, () => card.import(fd));
  assert.ok(expected.equals(mapping.bytes));
  mapping.bytes.fill(0x5a);
  assert.ok(isFilledWith(buffer.bytes, 0x5a));
  // Once more is the same.
  assert.equal(card.import(fd), handle);

  // It outlives everything of ours.
  buffer.free();
  closeSync(fd);
  device.close();
  assert.ok(isFilledWith(mapping.bytes, 0x5a));
  mapping.release();
  card.release(handle);
});

test('vgem attaches to a part of a buffer', () => {
  using card = new Card();
  using device = openEdu();
  using buffer = device.alloc(BYTES, { memory: 'cached' });
  const expected = pattern(BYTES);
  buffer.bytes.set(expected);
  const [offset, length] = [3 * 4096, 5 * 4096];
  const fd = buffer.exportDmaBuf({ offset, length });
  const { handle, mapping } = card.mapNext(length, () => card.import(fd));
  assert.ok(expected.subarray(offset, offset + length).equals(mapping.bytes));
  mapping.release();
  card.release(handle);
  closeSync(fd);
});

test('the device goes while the camera writes into its buffers: the stream goes on, and ends', async () => {
  // The second one takes one address of each buffer: it has them attached and mapped for its device.
  const path = findCameras('vivid')[1];
  assert(path !== undefined);
  using camera = new Camera(path);
  using device = openEdu();
  const { byteLength } = camera.setFormat(640, 360, V4L2_PIX_FMT_RGB24);
  camera.useDmaBufs(3);
  const buffers: { buffer: DmaBuffer; fd: number }[] = [];
  for (let index = 0; index < 3; index++) {
    const buffer = device.alloc(byteLength, { memory: 'cached', contiguous: true });
    const fd = buffer.exportDmaBuf();
    camera.queue(index, fd);
    buffers.push({ buffer, fd });
  }
  const turn = () => {
    const { index } = camera.next(SOON);
    const { buffer, fd } = buffers[index] as (typeof buffers)[number];
    const blank = isFilledWith(buffer.bytes, 0);
    camera.queue(index, fd);
    return blank;
  };
  camera.start();
  assert.deepEqual([turn(), turn(), turn()], [false, false, false], 'frames are seen in the buffers');

  writeFileSync(`/sys/bus/pci/devices/${busName}/driver/unbind`, busName);
  try {
    for (let taken = 0; taken < 6; taken++) {
      assert.ok(turn(), 'what is mapped shows zeros');
    }
    using card = new Card();
    for (const { buffer, fd } of buffers) {
      assert.throws(() => card.import(fd), { code: 'ENODEV' });
      assert.ok(isFilledWith(buffer.bytes, 0));
      buffer.free();
      closeSync(fd);
    }
    assert.throws(() => device.alloc(4096), { code: 'ENODEV' });
    device.close();
    camera.stop();
    camera.useDmaBufs(0);
  } finally {
    writeFileSync('/sys/bus/pci/drivers_probe', busName);
    assert.ok(await eventually(() => listDevices().some((found) => found.device === busName)));
  }
});

test('nothing is left', async () => {
  const { name } = findEdu();
  await eventually(() => counters(name).held_bytes === 0);
  assert.deepEqual(counters(name), NOTHING);
});
