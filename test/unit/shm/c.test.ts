/** The same memory, and the same futexes, in a program in C (`peer.c`): whoever makes them, both share them. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  fds,
  futex,
  memfd,
  type PosixMemory,
  posix,
  type SharedMemory,
  sysv,
} from '../../../lib/shm/index.js';
import { compiled, hasCompiler } from './c-program.js';

const SIZE = 5000;

describe.skipIf(!hasCompiler)('a program in C (needs cc)', () => {
  const program = compiled('peer.c');
  let socket: string;
  let name: string;
  let key: number;
  const peers = new Set<Peer>();

  beforeAll(() => {
    socket = join(program.directory, 'socket');
  });
  beforeEach(() => {
    name = `/iospace-c-${process.pid}-${randomInt(2 ** 40)}`;
    key = randomInt(1, 2 ** 31 - 1);
  });
  afterEach(() => {
    for (const peer of peers) {
      peer.kill('SIGKILL');
    }
    if (posix.list().includes(name)) {
      posix.unlink(name);
    }
    for (const { id } of sysv.list().filter((segment) => segment.key === key)) {
      sysv.control.remove(id);
    }
  });

  type Peer = ChildProcessByStdio<Writable, Readable, Readable>;

  /** Starts it. It is killed at the end of the test. */
  function start(kind: string, where: string | number, size: number, ...actions: string[]): Peer {
    const peer = spawn(program.path, [kind, `${where}`, `${size}`, ...actions]);
    peers.add(peer);
    peer.once('exit', () => peers.delete(peer));
    return peer;
  }

  /** What it prints, when it has ended. */
  async function answer(peer: Peer): Promise<string> {
    const [stdout, stderr, [status, signal]] = await Promise.all([
      text(peer.stdout),
      text(peer.stderr),
      once(peer, 'close'),
    ]);
    expect({ stderr, status, signal }).toEqual({ stderr: '', status: 0, signal: null });
    return stdout;
  }

  const ends = ({ bytes }: SharedMemory) => [bytes.length, bytes[0], bytes[bytes.length - 1]];

  /** Both ends are set here, seen there, changed there, seen here. */
  async function isShared(memory: SharedMemory, peer: () => Peer): Promise<void> {
    memory.bytes[0] = 10;
    memory.bytes[SIZE - 1] = 20;
    expect(await answer(peer())).toBe(`${SIZE} 10 20\n`);
    expect(ends(memory)).toEqual([SIZE, 11, 21]);
  }

  describe('shares what is made here:', () => {
    test('a POSIX object, by its name', async () => {
      using memory = posix.open(name, { create: true, size: SIZE });
      await isShared(memory, () => start('posix', name, 0, 'share'));
    });

    test('a segment of System V, by its key', async () => {
      using memory = sysv.attach(sysv.get(key, SIZE, sysv.IPC_CREAT | sysv.IPC_EXCL | 0o600));
      await isShared(memory, () => start('sysv', key, 0, 'share'));
      expect(sysv.control.stat(memory.id).attached).toBe(1);
    });

    test('a memfd, by SCM_RIGHTS', async () => {
      using memory = memfd.create('frames', { size: SIZE });
      const sent = fds.send(socket, [memory.fd], { timeout: 20_000 });
      await isShared(memory, () => start('passed', socket, 0, 'share'));
      await sent;
    });

    test('a memfd, by /proc/PID/fd', async () => {
      using memory = memfd.create('frames', { size: SIZE });
      await isShared(memory, () => start('file', `/proc/${process.pid}/fd/${memory.fd}`, 0, 'share'));
    });
  });

  describe('shares what is made there:', () => {
    test('a POSIX object, by its name', async () => {
      expect(await answer(start('posix', name, SIZE, 'share'))).toBe(`${SIZE} 0 0\n`);
      using memory = posix.open(name);
      expect(ends(memory)).toEqual([SIZE, 1, 1]);
      await isShared(memory, () => start('posix', name, 0, 'share'));
    });

    test('a segment of System V, by its key', async () => {
      expect(await answer(start('sysv', key, SIZE, 'share'))).toBe(`${SIZE} 0 0\n`);
      using memory = sysv.attach(sysv.get(key));
      expect(ends(memory)).toEqual([SIZE, 1, 1]);
      await isShared(memory, () => start('sysv', key, 0, 'share'));
    });

    test('a memfd, by SCM_RIGHTS', async () => {
      const peer = start('passed', socket, SIZE, 'share', 'stay');
      const [fd] = (await fds.receive(socket, { timeout: 20_000 })) as [number];
      using memory = memfd.open(fd);
      closeSync(fd);
      peer.stdin.end();
      expect(await answer(peer)).toMatch(`${SIZE} 0 0\n`);
      // It lives on without its maker.
      expect([ends(memory), memory.seals]).toEqual([[SIZE, 1, 1], ['shrink']]);
    });

    test('a memfd, by /proc/PID/fd', async () => {
      const peer = start('memfd', 'frames', SIZE, 'stay', 'share');
      const [line] = await once(peer.stdout, 'data');
      using memory = memfd.open(`${line}`.trim());
      memory.bytes[0] = 10;
      peer.stdin.end();
      expect(await answer(peer)).toBe(`${SIZE} 10 0\n`);
      expect([ends(memory), memory.seals]).toEqual([[SIZE, 11, 1], ['shrink']]);
    });
  });

  describe('sleeps and wakes by FUTEX_WAIT and FUTEX_WAKE, not private:', () => {
    let memory: PosixMemory;
    let words: Int32Array;
    beforeEach(() => {
      memory = posix.open(name, { create: true, size: 64 });
      words = memory.view(Int32Array);
    });
    afterEach(() => memory.close());

    test('futex.wake wakes it', async () => {
      const peer = start('posix', name, 0, 'wait', '3');
      const ended = answer(peer);
      // The word stays as it is, so that nothing else can end its sleep.
      while (futex.wake(words, 3, 1) === 0) {
        await delay(1);
      }
      expect(await ended).toBe('woken\n');
    });

    test('it does not sleep on a word of another value', async () => {
      Atomics.store(words, 3, -1);
      expect(await answer(start('posix', name, 0, 'wait', '3'))).toBe('not equal\n');
    });

    test('it wakes futex.wait', async () => {
      const ended = answer(start('posix', name, 0, 'wake', '2'));
      expect(futex.wait(words, 2, 0, { timeout: 20_000 })).toBe('ok');
      await ended;
    });

    test('it wakes futex.waitAsync', async () => {
      const ended = answer(start('posix', name, 0, 'wake', '2'));
      expect(await futex.waitAsync(words, 2, 0, { timeout: 20_000 })).toBe('ok');
      await ended;
    });

    test('in a segment of System V, too', async () => {
      using segment = sysv.attach(sysv.get(key, 64, sysv.IPC_CREAT | 0o600));
      const ended = answer(start('sysv', key, 0, 'wake', '5'));
      expect(futex.wait(segment.view(Int32Array), 5, 0, { timeout: 20_000 })).toBe('ok');
      await ended;
    });

    test('1000 times to and fro, none of it lost', async () => {
      const rounds = 1000;
      const ended = answer(start('posix', name, 0, 'rounds', `${rounds}`));
      for (let value = 1; value < 2 * rounds; value += 2) {
        for (let now = Atomics.load(words, 0); now !== value; now = Atomics.load(words, 0)) {
          expect(futex.wait(words, 0, now, { timeout: 20_000 })).not.toBe('timed-out');
        }
        Atomics.store(words, 0, value + 1);
        futex.wake(words, 0);
      }
      await ended;
      expect(words[0]).toBe(2 * rounds);
    });
  });
});
