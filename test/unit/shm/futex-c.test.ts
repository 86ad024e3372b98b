/** Mutex and CountingEvent with a program in C: `futex-peer.c`, written from what docs/futex.md says of the words. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { CountingEvent, Mutex } from '../../../lib/shm/index.js';
import { compiled, hasCompiler } from './c-program.js';
import { delay, fd, memory, until, words } from './futex-support.js';

const TIMES = 50_000;

describe.skipIf(!hasCompiler)('a program in C (needs cc)', () => {
  const program = compiled('futex-peer.c');

  /** Starts it. Resolves with how it ended. */
  async function peer(what: string, count = 0) {
    const child = spawn(program.path, [`/dev/shm${memory.name}`, what, `${count}`]);
    let said = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        said += chunk;
      });
    }
    const [code, signal] = await once(child, 'close');
    return { code, signal, said };
  }
  const says = (said: string) => ({ code: 0, signal: null, said });

  test('takes turns: no count is lost', async () => {
    const ended = peer('add', TIMES);
    using mutex = new Mutex(words, 0, fd);
    let ours = 0;
    // The other side signals once for each of its turns.
    for (; Atomics.load(words, 1) < TIMES; ours++) {
      expect(mutex.lock({ timeout: 20_000 })).toBe('locked');
      words[2] = (words[2] ?? 0) + 1;
      mutex.unlock();
    }
    expect(await ended).toEqual(says(''));
    expect(words[2]).toBe(TIMES + ours);
  });

  test('waits for the mutex, says so, and is woken', async () => {
    using mutex = new Mutex(words, 0, fd);
    mutex.lock();
    const ended = peer('lock');
    await until(() => ((words[0] ?? 0) & 3) === 2, 'it says that it sleeps');
    mutex.unlock();
    expect(await ended).toEqual(says('locked\n'));
  });

  test('signals, and is heard', async () => {
    const event = new CountingEvent(words, 1);
    const ended = peer('add', TIMES);
    for (let heard = 0; heard < TIMES; ) {
      heard += await event.waitAsync({ timeout: 20_000 });
    }
    expect(await ended).toEqual(says(''));
    expect(event.pending).toBe(0);
  });

  test('hears signals', async () => {
    const event = new CountingEvent(words, 1);
    const ended = peer('hear', 20);
    for (let signal = 0; signal < 20; signal++) {
      event.signal();
      await delay(1);
    }
    expect(await ended).toEqual(says('20\n'));
  });

  test('that dies with the mutex is noticed here, and the other way round', async () => {
    expect(await peer('die')).toMatchObject({ signal: 'SIGKILL' });
    const mutex = new Mutex(words, 0, fd);
    expect(mutex.lock({ timeout: 20_000 })).toBe('owner-died');
    mutex.unlock();
    expect(await peer('lock')).toEqual(says('locked\n'));
    mutex.lock();
    mutex.close();
    expect(await peer('lock')).toEqual(says('owner-died\n'));
    expect(await peer('lock')).toEqual(says('locked\n'));
  });
});
