/**
 * Mappings of the program's own memory, but for the data (`streaming.test.ts`): what is refused, and what it says; how long
 * they live; and that what was pinned is given back, exactly, however they end.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import type { Direction, DmaDevice } from 'iospace';
import * as raw from 'iospace/raw';
import { eventually, keepsItsUser, kill, start } from './children.js';
import { counters, deviceMemory, findEdu, gather, NOTHING, openEdu, pieces, scatter } from './edu.js';
import { filePages, pinnedPages, scratch, untouched, vmPin } from './user-memory.js';
import { bounces, isFilledWith, pageSize } from './witness.js';

const { PROT_NONE, PROT_READ, MAP_SHARED } = raw.constants;

const info = findEdu();
const directions: readonly Direction[] = ['toDevice', 'fromDevice', 'bidirectional'];
const MIB = 1 << 20;

/** Runs the test, and sees that all that it pinned is given back. */
async function givesBack(run: () => unknown): Promise<void> {
  const [mine, all] = [vmPin(), pinnedPages()];
  await run();
  assert.equal(vmPin(), mine);
  assert.ok(await eventually(() => pinnedPages() === all), `${all} pages were pinned, ${pinnedPages()} are`);
  assert.deepEqual(counters(info.name), NOTHING);
}

/** Opens the device for a test, which has nothing pinned at the end. */
function testMapped(name: string, run: (device: DmaDevice) => unknown): void {
  test(name, () =>
    givesBack(async () => {
      using device = openEdu();
      await run(device);
    }),
  );
}

testMapped('what is no view, has no bytes, or may lose its pages', (device) => {
  for (const view of [undefined, null, 5, 'memory', new ArrayBuffer(8), {}]) {
    assert.throws(() => device.mapUser(view as Uint8Array, 'toDevice'), { code: 'ERR_INVALID_ARG_TYPE' });
  }
  const detached = new Uint8Array(4096);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  const emptyDataView = new DataView(new ArrayBuffer(8), 8);
  for (const view of [detached, new Uint8Array(0), Buffer.alloc(0), emptyDataView]) {
    assert.throws(() => device.mapUser(view, 'toDevice'), { code: 'ERR_OUT_OF_RANGE' });
  }
  const Resizable = ArrayBuffer as new (byteLength: number, options: object) => ArrayBuffer;
  const Growable = SharedArrayBuffer as new (byteLength: number, options: object) => SharedArrayBuffer;
  for (const buffer of [
    new Resizable(64, { maxByteLength: 128 }),
    new Growable(64, { maxByteLength: 128 }),
  ]) {
    assert.throws(() => device.mapUser(new Uint8Array(buffer), 'toDevice'), {
      code: 'EINVAL',
      message: /resizable|growable/,
    });
  }
});

testMapped('a direction that is none', (device) => {
  const view = new Uint8Array(4096);
  for (const direction of [undefined, '', 'ToDevice', 1, 0, 3, 99, null]) {
    assert.throws(() => device.mapUser(view, direction as Direction), { code: 'ERR_INVALID_ARG_VALUE' });
  }
  assert.throws(() => device.mapUser(view, 'toDevice', { maxSegments: 0 }), { code: 'ERR_OUT_OF_RANGE' });
});

testMapped('memory that cannot be pinned, and why', (device) => {
  using coherent = device.alloc(pageSize);
  using nothing = untouched(pageSize, PROT_NONE);
  for (const direction of directions) {
    for (const { bytes } of [coherent, nothing]) {
      assert.throws(() => device.mapUser(bytes, direction), { code: 'EFAULT', errno: -14, syscall: /ioctl/ });
    }
    assert.throws(() => device.mapUser(coherent.bytes, direction), { message: /device|alloc/ });
  }
  const [arena] = device.arenas;
  if (arena !== undefined) {
    using window = arena.window('writecombine', { length: pageSize });
    assert.throws(() => device.mapUser(window.bytes, 'toDevice'), { code: 'EFAULT' });
  }
});

testMapped('memory that is only to be read is for a device that only reads', (device) => {
  using readOnly = untouched(pageSize, PROT_READ);
  assert.throws(() => device.mapUser(readOnly.bytes, 'fromDevice'), { code: 'EFAULT', message: /read-only/ });
  assert.throws(() => device.mapUser(readOnly.bytes, 'bidirectional'), { code: 'EFAULT' });
  device.mapUser(readOnly.bytes, 'toDevice').unmap();
});

test(
  'a device does not write the pages of a file on a disk',
  {
    skip: scratch === undefined ? 'this machine has no disk: test/guest.test.ts gives it one' : false,
  },
  () =>
    givesBack(() => {
      using device = openEdu();
      using pages = filePages(scratch ?? '', pageSize, MAP_SHARED);
      assert.throws(() => device.mapUser(pages.bytes, 'fromDevice'), { code: 'EFAULT', message: /file/ });
      device.mapUser(pages.bytes, 'toDevice').unmap();
    }),
);

testMapped('what a device writes is mapped once; what it only reads, as often as you like', (device) => {
  using memory = untouched(4 * pageSize);
  const part = (begin: number, end: number): Uint8Array => memory.bytes.subarray(begin, end);
  using written = device.mapUser(part(pageSize, 3 * pageSize), 'fromDevice');
  for (const direction of directions) {
    assert.throws(() => device.mapUser(part(3 * pageSize - info.cacheLine, 4 * pageSize), direction), {
      code: 'EBUSY',
    });
  }
  device.mapUser(part(0, pageSize), 'fromDevice').unmap();
  written.unmap();
  using read = device.mapUser(memory.bytes, 'toDevice');
  device.mapUser(part(pageSize, 2 * pageSize), 'toDevice').unmap();
  assert.throws(() => device.mapUser(part(pageSize, 2 * pageSize), 'bidirectional'), { code: 'EBUSY' });
  read.unmap();
  device.mapUser(part(pageSize, 2 * pageSize), 'bidirectional').unmap();
});

testMapped("a device's own buffer is mapped already", (device) => {
  using buffer = device.alloc(2 * pageSize, { memory: 'cached' });
  for (const direction of directions) {
    assert.throws(() => device.mapUser(buffer.bytes.subarray(pageSize), direction), {
      code: 'EBUSY',
      message: /buffer|segments/,
    });
  }
});

test('where the device does not snoop, what it writes shares no cache line with others', {
  skip: info.coherent ? 'the device snoops' : false,
}, () => {
  using device = openEdu();
  using memory = untouched(pageSize);
  const { cacheLine } = info;
  for (const [begin, end] of [
    [1, cacheLine],
    [0, cacheLine - 1],
    [cacheLine / 2, 2 * cacheLine],
  ]) {
    for (const direction of ['fromDevice', 'bidirectional'] as const) {
      assert.throws(() => device.mapUser(memory.bytes.subarray(begin, end), direction), {
        code: 'EINVAL',
        message: /alloc/,
      });
    }
    device.mapUser(memory.bytes.subarray(begin, end), 'toDevice').unmap();
  }
  using mapping = device.mapUser(memory.bytes.subarray(cacheLine, 4 * cacheLine), 'fromDevice');
  assert.throws(() => mapping.syncForCpu(1, cacheLine), { code: 'ERR_OUT_OF_RANGE' });
  mapping.syncForCpu(cacheLine);
});

test('more than the bounce buffers hold', { skip: bounces ? false : 'nothing bounces on this machine' }, () =>
  givesBack(() => {
    using device = openEdu();
    using memory = untouched(80 * MIB);
    assert.throws(() => device.mapUser(memory.bytes, 'bidirectional'), {
      code: 'ENOSPC',
      message: /bounce|swiotlb/,
    });
    device.mapUser(memory.bytes.subarray(0, MIB), 'bidirectional').unmap();
  }),
);

testMapped('syncs lie inside, and come before the end', (device) => {
  using memory = untouched(2 * pageSize);
  const mapping = device.mapUser(memory.bytes, 'bidirectional');
  assert.equal(mapping.byteLength, 2 * pageSize);
  for (const sync of ['syncForDevice', 'syncForCpu'] as const) {
    for (const [offset, length] of [
      [0, 2 * pageSize + 1],
      [2 * pageSize, 1],
      [-1, 1],
      [pageSize, 2 ** 53],
      [0.5, 1],
    ] as const) {
      assert.throws(() => mapping[sync](offset, length), { code: 'ERR_OUT_OF_RANGE' });
      assert.throws(
        () =>
          mapping[sync]([
            { offset: 0, length: pageSize },
            { offset, length },
          ]),
        {
          code: 'ERR_OUT_OF_RANGE',
        },
      );
    }
    mapping[sync](pageSize);
    mapping[sync]([]);
  }
  mapping.unmap();
  mapping.unmap();
  for (const use of [
    () => mapping.segments,
    () => mapping.dmaAddress,
    () => mapping.syncForCpu(),
    () => mapping.syncForDevice([{ offset: 0, length: pageSize }]),
  ]) {
    assert.throws(use, { code: 'ERR_INVALID_STATE' });
  }
});

testMapped('as many mappings as the module lets a file have', (device) => {
  const view = new Uint8Array(64);
  const { fileMappings } = device.info.limits;
  const mappings = Array.from({ length: fileMappings }, () => device.mapUser(view, 'toDevice'));
  assert.throws(() => device.mapUser(view, 'toDevice'), { code: 'EDQUOT' });
  mappings.pop()?.unmap();
  mappings.push(device.mapUser(view, 'toDevice'));
  assert.throws(() => device.mapUser(view, 'toDevice'), { code: 'EDQUOT' });
});

testMapped('what is pinned is what is mapped, page by page', (device) => {
  const base = vmPin();
  const pinned = (): number => (vmPin() - base) / pageSize;
  using memory = untouched(8 * pageSize);
  const map = (begin: number, end: number) => device.mapUser(memory.bytes.subarray(begin, end), 'toDevice');
  const one = map(100, 200);
  assert.equal(pinned(), 1);
  const two = map(pageSize - 1, pageSize + 1);
  assert.equal(pinned(), 3);
  const all = map(0, 8 * pageSize);
  assert.equal(pinned(), 11);
  two.unmap();
  two.unmap();
  assert.equal(pinned(), 9);
  all.unmap();
  one.unmap();
  assert.equal(pinned(), 0);
  assert.throws(() => map(100, 200) && device.mapUser(memory.bytes, 'fromDevice'), { code: 'EBUSY' });
  assert.equal(pinned(), 1);
  device.close();
  assert.equal(pinned(), 0);
});

test('over its limit of locked memory a process gets ENOMEM; killed, it gives back what it had pinned, at the last close', (context) =>
  givesBack(async () => {
    const before = pinnedPages();
    using device = openEdu();
    // Root has no limit.
    const [count, user] = keepsItsUser === false ? [100, [65534]] : [4, []];
    const { child, said } = await start('mapper.js', [info.name, count, MIB / 4, ...user], {
      execPath: '/bin/sh',
      execArgv: ['-c', 'ulimit -l 1024; exec "$0" "$@"', process.execPath],
    });
    const { mapped, message } = said as { mapped: number; message: string };
    assert.equal(mapped, 4, message);
    assert.equal(vmPin(child.pid), MIB);
    assert.equal(pinnedPages() - before, MIB / pageSize);
    await kill(child);
    assert.ok(await eventually(() => counters(info.name).open_files === 1));
    // The device may still be writing them.
    assert.equal(pinnedPages() - before, MIB / pageSize);
    device.close();
    if (keepsItsUser) {
      context.skip(`the limit: ${keepsItsUser}`);
      return;
    }
    assert.match(message, /^ENOMEM: .*RLIMIT_MEMLOCK is 1048576/);
  }));

test('a terminated worker gives back what it had mapped', () =>
  givesBack(async () => {
    const before = vmPin();
    const worker = new Worker(
      `import('iospace').then(async ({ DmaDevice }) => {
        const device = DmaDevice.open(${JSON.stringify(info.name)});
        const held = Array.from({ length: 8 }, () => device.mapUser(new Uint8Array(65536), 'toDevice'));
        setInterval(() => held.length, 1000);
        (await import('node:worker_threads')).parentPort.postMessage('mapped');
      });`,
      { eval: true },
    );
    await once(worker, 'message');
    const pinned = vmPin() - before;
    assert.ok(pinned >= 8 * 65536, `${pinned} bytes`);
    await worker.terminate();
    assert.ok(await eventually(() => vmPin() === before));
  }));

testMapped(
  'other programs are started meanwhile, and the device goes on with the same pages',
  async (device) => {
    using memory = untouched(2 * pageSize);
    memory.bytes.fill(0x11);
    using out = device.mapUser(memory.bytes.subarray(0, pageSize), 'toDevice');
    using back = device.mapUser(memory.bytes.subarray(pageSize), 'fromDevice');
    const pinned = vmPin();
    const { status, stdout } = spawnSync('/bin/sh', ['-c', 'ls -l /proc/self/fd; (true)'], {
      encoding: 'utf8',
    });
    assert.equal(status, 0);
    assert.ok(!stdout.includes(info.name), stdout);
    assert.equal(vmPin(), pinned);
    memory.bytes.fill(0x22, 0, pageSize);
    out.syncForDevice();
    await gather(device, [{ dmaAddress: out.dmaAddress, length: 512 }]);
    await scatter(device, [{ dmaAddress: back.dmaAddress, length: 512 }]);
    back.unmap();
    assert.ok(isFilledWith(memory.bytes.subarray(pageSize, pageSize + 512), 0x22));
    assert.ok(isFilledWith(memory.bytes.subarray(pageSize + 512), 0x11));
  },
);

testMapped('whoever detaches the memory is told at each sync, and by unmap, which ends it', (device) => {
  const view = new Uint8Array(16 * pageSize);
  const before = vmPin();
  const mapping = device.mapUser(view, 'toDevice');
  structuredClone(view.buffer, { transfer: [view.buffer] });
  for (const use of [() => mapping.syncForCpu(), () => mapping.syncForDevice(0, 8), () => mapping.unmap()]) {
    assert.throws(use, { code: 'ERR_INVALID_STATE', message: /detached/ });
  }
  assert.equal(vmPin(), before);
  mapping.unmap();
});

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

testMapped('what is mapped is not collected, though nobody else knows it', async (device) => {
  const [view, segments] = (() => {
    const { buffer } = new Uint8Array(64 * pageSize).fill(0x5a);
    const mapping = device.mapUser(new Uint8Array(buffer), 'toDevice');
    return [new WeakRef(buffer), mapping.segments];
  })();
  await new Promise(setImmediate);
  collect();
  await new Promise(setImmediate);
  collect();
  assert.ok(view.deref() !== undefined);
  // The first segment is shorter where the memory begins close to the end of a page.
  await gather(device, pieces(segments, 0, 64));
  assert.deepEqual(await deviceMemory(device, 64), Buffer.alloc(64, 0x5a));
});

testMapped('of a closed device nothing is mapped', (device) => {
  const mapping = device.mapUser(new Uint8Array(pageSize), 'toDevice');
  device.close();
  assert.throws(() => mapping.syncForCpu(), { code: 'ERR_INVALID_STATE' });
  mapping.unmap();
  assert.throws(() => device.mapUser(new Uint8Array(64), 'toDevice'), { code: 'ERR_INVALID_STATE' });
});
