/**
 * How buffers end, as far as it can be seen without a device: `free()` and `close()` take the memory away at once and
 * leave every view empty; what was carried off reads as zeros; what is collected is warned of; and processes and
 * workers end whenever they like, kept alive by nothing but a wait.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  read,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { promisify } from 'node:util';
import * as workerThreads from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { DmaDevice } from '../../lib/index.js';
import { runChild, startChild } from './child.js';

let device: DmaDevice;
beforeEach(() => {
  device = DmaDevice.open({ provider: 'memfd' });
});
afterEach(() => {
  device.close();
});

/** Mappings of this process that are memory of the memfd provider. */
function mapped(): number {
  return readFileSync('/proc/self/maps', 'utf8').split('/memfd:iospace').length - 1;
}

/** The system calls that threads of this process are waiting in: number and arguments. */
function systemCalls(): string[] {
  return readdirSync('/proc/self/task').map((thread) =>
    readFileSync(`/proc/self/task/${thread}/syscall`, 'utf8'),
  );
}

describe('free()', () => {
  test('detaches, and takes the memory away, at once', () => {
    const before = mapped();
    const buffer = device.alloc(4096);
    const [bytes, words] = [buffer.bytes, buffer.view(Uint32Array)];
    bytes.fill(1);
    expect(mapped()).toBe(before + 1);
    buffer.free();
    expect([bytes.length, words.length, bytes[0]]).toEqual([0, 0, undefined]);
    expect(mapped()).toBe(before);
  });

  test('twice, and after close(), does nothing', () => {
    const [first, second] = [device.alloc(4096), device.alloc(4096)];
    first.free();
    first.free();
    first[Symbol.dispose]();
    device.close();
    device.close();
    second.free();
    expect(second.freed).toBe(true);
  });

  test('lets an fs.read that is under way write into nothing', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'iospace-'));
    const fifo = join(directory, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const fd = openSync(fifo, constants.O_RDWR);
    try {
      const victim = device.alloc(4096);
      const reading = promisify(read)(fd, victim.bytes, 0, 4096, null);
      const waiting = new RegExp(`^\\d+ 0x${fd.toString(16)} 0x\\w+ 0x1000 `);
      await vi.waitUntil(() => systemCalls().some((call) => waiting.test(call)));
      victim.free();
      const others = Array.from({ length: 64 }, () => device.alloc(4096));
      for (const { bytes } of others) {
        bytes[0] = 0; // exists
      }
      writeSync(fd, Buffer.alloc(4096, 0xee));
      // EFAULT where the range itself was given back meanwhile.
      await reading.catch((error) => expect(error).toMatchObject({ code: 'EFAULT' }));
      expect(others.every(({ bytes }) => bytes.every((byte) => byte === 0))).toBe(true);
    } finally {
      closeSync(fd);
      rmSync(directory, { recursive: true });
    }
  });

  test('a thousand times in one synchronous loop needs the memory of one', () => {
    const before = mapped();
    for (let n = 0; n < 1000; n++) {
      const buffer = device.alloc(16 << 20);
      buffer.bytes[n] = 1;
      buffer.free();
    }
    expect(mapped()).toBe(before);
  });
});

describe('what carries the memory off', () => {
  test('structuredClone copies', () => {
    const buffer = device.alloc(4096);
    buffer.bytes.fill(3);
    const copy = structuredClone(buffer.bytes);
    buffer.free();
    expect(copy).toHaveLength(4096);
    expect(copy.every((byte) => byte === 3)).toBe(true);
  });

  test('postMessage copies', async () => {
    const { port1, port2 } = new workerThreads.MessageChannel();
    const buffer = device.alloc(4096);
    buffer.bytes.fill(4);
    const arrived = new Promise<Uint8Array>((resolve) => port2.once('message', resolve));
    port1.postMessage(buffer.bytes);
    buffer.free();
    const copy = await arrived;
    expect(copy.every((byte) => byte === 4)).toBe(true);
    port1.close();
  });

  test('a transfer by postMessage copies or is refused, and the buffer is still the buffer', () => {
    const { port1 } = new workerThreads.MessageChannel();
    const buffer = device.alloc(4096);
    buffer.bytes[0] = 5;
    try {
      port1.postMessage(buffer.buffer, [buffer.buffer]);
    } catch (error) {
      expect((error as Error).name).toBe('DataCloneError');
    }
    buffer.free();
    expect(buffer.freed).toBe(true);
    port1.close();
  });

  test.skipIf(!('transfer' in ArrayBuffer.prototype))(
    'transfer() leaves zeros in what it carried off',
    async () => {
      const buffer = device.alloc(4096);
      buffer.bytes.fill(6);
      const carried = (buffer.buffer as ArrayBuffer & { transfer(): ArrayBuffer }).transfer();
      const bytes = new Uint8Array(carried);
      expect(bytes[0]).toBe(6);
      buffer.free();
      await turn();
      expect(bytes.every((byte) => byte === 0)).toBe(true);
      bytes.fill(1); // harmless
    },
  );

  test('a buffer that its user marked untransferable is emptied, and not detached where that would abort', () => {
    const buffer = device.alloc(4096);
    const { bytes } = buffer;
    bytes.fill(7);
    workerThreads.markAsUntransferable(buffer.buffer);
    buffer.free();
    expect(buffer.freed).toBe(true);
    expect(bytes.length === 0 || bytes.every((byte) => byte === 0)).toBe(true);
    // It can be detached until Node 24.
    expect(bytes).toHaveLength(Number(process.versions.node.split('.')[0]) < 24 ? 0 : 4096);
  });
});

test('close() ends buffers of which only the bytes are held', async () => {
  const held = await runChild(
    `import { DmaDevice } from 'iospace';
     const device = DmaDevice.open({ provider: 'memfd' });
     const bytes = (() => device.alloc(4096).bytes)();
     for (let n = 0; n < 5; n++) { gc(); await new Promise((resolve) => setTimeout(resolve, 10)); }
     console.log(bytes.length);
     device.close();
     console.log(bytes.length);`,
    ['--expose-gc'],
  );
  expect(held).toEqual({ code: 0, signal: null, stdout: '4096\n0\n', stderr: '' });
});

test('what is collected without free() is warned of, once each', async () => {
  const { code, stderr, stdout } = await runChild(
    `import { DmaDevice } from 'iospace';
     const device = DmaDevice.open({ provider: 'memfd' });
     (() => { device.alloc(4096); device.alloc(8192).bytes.fill(1); device.alloc(12288).free(); })();
     process.on('warning', ({ name, code }) => console.log(name, code));
     for (let n = 0; n < 10; n++) { gc(); await new Promise((resolve) => setTimeout(resolve, 10)); }`,
    ['--expose-gc'],
  );
  expect(code).toBe(0);
  expect(stdout).toBe('IospaceLeakWarning IOSPACE_LEAK\n'.repeat(2));
  expect(stderr).toMatch(/\(4096 bytes\) was collected without free\(\), unmap\(\) or close\(\)/);
  expect(stderr).toMatch(/\(8192 bytes\) was collected/);
  expect(stderr).not.toMatch(/12288/);
});

/** What a process or a worker may be doing when it ends. */
const stages: [string, string][] = [
  ['opened', ''],
  ['allocated', 'globalThis.keep = device.alloc(4096);'],
  ['in use', 'const buffer = device.alloc(4096); buffer.bytes.fill(1); globalThis.keep = buffer;'],
  ['freed', 'const buffer = device.alloc(4096); buffer.bytes.fill(1); buffer.free();'],
  ['closed', 'const { bytes } = device.alloc(4096); device.close(); globalThis.keep = bytes;'],
  [
    'being read into',
    `const { read } = await import('node:fs');
     globalThis.keep = device.alloc(4096);
     read(0, keep.bytes, 0, 4096, null, () => undefined);`,
  ],
];
const opened = `const { DmaDevice } = await import('iospace'); const device = DmaDevice.open({ provider: 'memfd' });`;

describe.concurrent('a process', () => {
  test.each(stages)('may end by itself when a device is %s', async (_stage, does) => {
    expect(await runChild(`${opened} ${does}`)).toMatchObject({ code: 0, signal: null, stderr: '' });
  });

  test.each(stages)('may exit when a device is %s', async (_stage, does) => {
    expect(await runChild(`${opened} ${does} process.exit(7);`)).toMatchObject({ code: 7, stderr: '' });
  });
});

describe.concurrent('a worker', () => {
  const worker = (does: string, then: string): string =>
    `import { Worker } from 'node:worker_threads';
     const program = ${JSON.stringify(`(async () => { ${opened} ${does}
       (await import('node:worker_threads')).parentPort.postMessage('there'); ${then} })();`)};
     for (let n = 0; n < 3; n++) {
       const worker = new Worker(program, { eval: true });
       const exit = new Promise((resolve) => worker.once('exit', resolve));
       await new Promise((resolve) => worker.once('message', resolve));
       ${then === '' ? '' : 'await worker.terminate();'}
       await exit;
     }
     ${opened}
     globalThis.keep = device.alloc(4096);
     keep.bytes.fill(1);
     console.log('fine');`;

  test.each(stages)('may end by itself when a device is %s', async (_stage, does) => {
    expect(await runChild(worker(does, ''))).toMatchObject({ code: 0, stdout: 'fine\n', stderr: '' });
  });

  test.each(stages)('may be terminated when a device is %s', async (_stage, does) => {
    expect(await runChild(worker(does, 'setInterval(() => undefined, 1000);'))).toMatchObject({
      code: 0,
      stdout: 'fine\n',
      stderr: '',
    });
  });
});

describe.concurrent('the event loop', () => {
  /** The real poller, on a counter that a thread could raise; what is counted is the test's. */
  const waiting = `
    import { Interrupts } from './build/lib/device/interrupts.js';
    import { binding } from './build/lib/binding.js';
    import { eventfd } from './build/lib/raw.js';
    import { writeSync } from 'node:fs';
    const fd = eventfd();
    let count = 0n;
    const native = {
      Poller: binding().Poller,
      deviceInterrupt: () => ({ flags: 0, count, name: '' }),
      deviceReadCounts: (_, counts) => counts[0] !== count && ((counts[0] = count), true),
    };
    const interrupts = new Interrupts(native, fd, 1);
    const wait = interrupts.wait().then(({ count }) => console.log('interrupt', count));`;

  test('is kept alive by a wait', async () => {
    const child = startChild(`${waiting} console.log('waiting');`);
    const exit = once(child, 'exit');
    await once(child.stdout, 'data');
    await new Promise((resolve) => setTimeout(resolve, 500)); // with nothing to keep it, it would end here
    child.kill('SIGKILL');
    expect(await exit).toEqual([null, 'SIGKILL']);
  });

  test('is not, by a device that is unreferenced', async () => {
    expect(await runChild(`${waiting} interrupts.unref();`)).toMatchObject({
      stdout: '',
      stderr: '',
      signal: null,
    });
  });

  test('is not, once the wait is over', async () => {
    const fire = `setTimeout(() => {
      count = 1n;
      writeSync(fd, new BigUint64Array([1n]));
    }, 50);`;
    expect(await runChild(`${waiting} ${fire}`)).toMatchObject({
      code: 0,
      stdout: 'interrupt 1n\n',
      stderr: '',
    });
  });

  test('nor by a time limit that an unreferenced device has', async () => {
    const limited = waiting.replace('wait()', 'wait({ timeout: 60_000 })');
    expect(await runChild(`${limited} interrupts.unref();`)).toMatchObject({
      stdout: '',
      stderr: '',
      signal: null,
    });
  });
});
