/**
 * Waits without futex_waitv, as on Linux before 5.16: a child for whom the call does not exist. Needs Python, which makes a
 * filter of system calls.
 */
import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { futex } from '../../../lib/shm/index.js';
import { child, delay, sleepers, until, words } from './futex-support.js';

/** Runs a command for which the call 449 is ENOSYS: load the number; is it this? fail; allow. */
const launcher = [
  'python3',
  '-c',
  `
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 449), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7fff0000)]
filters = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *one) for one in code))
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('filters', ctypes.c_void_p)]
program = Program(len(code), ctypes.addressof(filters))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
`,
];

const hasPython = spawnSync('python3', ['-c', '']).status === 0;

describe.skipIf(!hasPython)('without futex_waitv (needs python3)', () => {
  test('16 wait at a time, each with a thread, then EAGAIN; and none is left', async () => {
    const other = child(
      `
      import { setMaxListeners } from 'node:events';
      const abort = new AbortController();
      setMaxListeners(0, abort.signal);
      const waits = Array.from({ length: 16 }, (_, index) => futex.waitAsync(words, index, 0, { signal: abort.signal }));
      await futex.waitAsync(words, 16, 0).catch(({ code }) => console.log(code));
      await delay(200);
      console.log('waiting');
      console.log(await waits[3]);
      abort.abort();
      const outcomes = await Promise.allSettled(waits);
      console.log(outcomes.filter(({ status }) => status === 'rejected').length);
      console.log(await futex.waitAsync(words, 20, 0, { timeout: 150 }));`,
      launcher,
    );
    expect(await other.line()).toBe('EAGAIN');
    expect(await other.line()).toBe('waiting');
    expect(sleepers(other.process.pid)).toBe(16);
    await until(() => futex.wake(words, 3) === 1, 'it sleeps');
    expect(await other.line()).toBe('ok');
    expect(await other.line()).toBe('15');
    expect(await other.line()).toBe('timed-out');
    expect(await other.ended).toEqual({ code: 0, signal: null, stderr: '' });
  });

  test('a mutex and an event work, and workers end in the middle of it', async () => {
    const other = child(
      `
      import { Worker } from 'node:worker_threads';
      const mutex = new Mutex(words, 0, fd);
      const event = new CountingEvent(words, 1);
      const source = \`
        const { CountingEvent, Mutex, posix } = await import('file://' + \${JSON.stringify(process.cwd())} + '/dist/shm/index.js');
        const { openSync } = await import('node:fs');
        const { parentPort } = await import('node:worker_threads');
        const words = posix.open('\${memory.name}').view(Int32Array);
        const mutex = new Mutex(words, 0, openSync('/dev/shm\${memory.name}', 'r+'));
        parentPort.postMessage('ready');
        await Promise.all([mutex.lockAsync(), new CountingEvent(words, 1).waitAsync()]);\`;
      mutex.lock();
      for (let round = 0; round < 5; round++) {
        const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(source)));
        await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
        await delay(round * 3);
        await worker.terminate();
      }
      mutex.unlock();
      console.log('ready');
      console.log(await event.waitAsync(), await mutex.lockAsync());
      mutex.unlock();`,
      launcher,
    );
    expect(await other.line()).toBe('ready');
    await delay(50);
    Atomics.add(words, 1, 2);
    expect(await other.line()).toBe('2 locked');
    expect(await other.ended).toEqual({ code: 0, signal: null, stderr: '' });
  });

  test.each(['', 'process.exit(0);'])('the end comes all the same: %s', async (end) => {
    const other = child(
      `futex.waitAsync(words, 0, 0, { timeout: 30 }).then(() => { ${end} }); ${end && 'futex.waitAsync(words, 1, 0);'}`,
      launcher,
    );
    expect(await other.ended).toEqual({ code: 0, signal: null, stderr: '' });
  });
});
