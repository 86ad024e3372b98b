/**
 * What of shared memory depends on the machine: how its kernel sleeps and wakes across processes, what becomes of a mutex whose
 * holder dies, and huge pages, which few systems set aside.
 */
import assert from 'node:assert/strict';
import { on } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { after, before, describe, test } from 'node:test';
import { futex, Mutex, memfd, posix, type SharedMemory, sysv } from 'iospace/shm';
import { eventually, kill, start } from './children.js';

const [major = 0, minor = 0] = release().split('.').map(Number);
const hasWaitv = major > 5 || (major === 5 && minor >= 16);

/** The threads of a process that sleep for waits which do not block. */
function sleepers(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).filter((task) =>
    readFileSync(`${tasks}/${task}/comm`, 'utf8').startsWith('iospace-futex'),
  ).length;
}

test('a process that sleeps is woken by another, and a mutex goes on when its holder is killed', async () => {
  const name = `/iospace-shm-${process.pid}`;
  using memory = posix.open(name, { create: true, exclusive: true, size: 4096 });
  const words = memory.view(Int32Array);
  const { child, said } = await start('sleeper.js', [name]);
  const messages = on(child, 'message');
  try {
    memory.unlink();
    assert.equal(said, 'there');
    // The words stay as they are: nothing but the wake ends a sleep.
    const woken = (word: number) => eventually(() => futex.wake(words, word, 1) === 1);
    assert.ok(await woken(0));
    await eventually(() => sleepers(child.pid as number) === (hasWaitv ? 1 : 3));
    assert.equal(sleepers(child.pid as number), hasWaitv ? 1 : 3, `on Linux ${release()}`);
    // The last wait first: where one thread sleeps for all, a wake may end those that began later, too.
    for (const word of [3, 2, 1]) {
      assert.ok(await woken(word), `word ${word}`);
    }
    assert.deepEqual((await messages.next()).value[0], ['ok', 'ok', 'ok', 'ok']);
    assert.equal((await messages.next()).value[0], 'locked');

    using mutex = new Mutex(words, 4, memory.fd);
    assert.equal(mutex.tryLock(), undefined);
    const locked = mutex.lockAsync({ timeout: 30_000 });
    await kill(child);
    assert.equal(await locked, 'owner-died');
    mutex.unlock();
    assert.equal(mutex.tryLock(), 'locked');
  } finally {
    await kill(child);
  }
});

describe('huge pages', () => {
  const reserved = '/proc/sys/vm/nr_hugepages';
  const WANTED = 3;

  /** What the system says of them. */
  function pages(): { size: number; total: number; free: number } {
    const text = readFileSync('/proc/meminfo', 'latin1');
    const number = (name: string) => Number(new RegExp(`^${name}: +(\\d+)`, 'm').exec(text)?.[1] ?? 0);
    return {
      size: number('Hugepagesize') * 1024,
      total: number('HugePages_Total'),
      free: number('HugePages_Free'),
    };
  }

  /** How large the pages of a mapping are, by what the system calls it. */
  function pageSize(what: string): number {
    const text = readFileSync('/proc/self/smaps', 'latin1');
    const [, size = ''] = new RegExp(`${what}[^]*?^KernelPageSize: +(\\d+) kB`, 'm').exec(text) ?? [];
    return Number(size) * 1024;
  }

  /** Writes to each page, and reads it again. */
  function use({ bytes }: SharedMemory): void {
    bytes.fill(0x5a);
    assert.ok(bytes.every((byte) => byte === 0x5a));
  }

  let missing: string | false = false;
  before(() => {
    try {
      writeFileSync(reserved, String(WANTED));
    } catch {
      missing = 'this kernel has no huge pages';
      return;
    }
    if (pages().total < WANTED) {
      missing = 'too little memory is in one piece for huge pages';
    }
  });
  after(() => {
    if (missing === false) {
      writeFileSync(reserved, '0');
    }
  });

  test('a memfd has whole ones, grows by them, and gives them back', (context) => {
    if (missing !== false) {
      context.skip(missing);
      return;
    }
    const { size } = pages();
    const memory = memfd.create('iospace-huge', { size: 100_000, hugePages: true });
    assert.equal(memory.byteLength, 100_000);
    assert.equal(memory.stat().size, size);
    assert.equal(pageSize('memfd:iospace-huge'), size);
    assert.equal(pages().free, WANTED - 1);
    use(memory);
    memory.resize(size + 1);
    assert.equal(memory.stat().size, 2 * size);
    assert.equal(memory.bytes[99_999], 0x5a);
    use(memory);
    using other = memfd.open(memory.fd, { readOnly: true });
    assert.equal(other.reader().getUint8(size), 0x5a);
    assert.throws(() => memory.resize(WANTED * size + 1), /^Error: (ENOSPC|ENOMEM): .*vm\.nr_hugepages/);
    assert.equal(memory.bytes[size], 0x5a);
    memory.close();
    other.close();
    assert.equal(pages().free, WANTED);
    using sized = memfd.create('iospace-huge', { size, hugePages: size });
    use(sized);
  });

  test('a segment has whole ones, is attached whole, and gives them back', (context) => {
    if (missing !== false) {
      context.skip(missing);
      return;
    }
    const { size } = pages();
    const flags = sysv.IPC_CREAT | sysv.SHM_HUGETLB | 0o600;
    const id = sysv.get(sysv.IPC_PRIVATE, size + 1, flags);
    try {
      const memory = sysv.attach(id);
      assert.equal(memory.byteLength, size + 1);
      assert.equal(pageSize('SYSV00000000'), size);
      use(memory);
      assert.equal(pages().free, WANTED - 2);
      using other = sysv.attach(id, { readOnly: true });
      assert.equal(other.reader().getUint8(size), 0x5a);
      assert.equal(sysv.control.stat(id).attached, 2);
      // While an ArrayBuffer points there, zero memory takes the place of huge pages.
      memory.close();
      assert.equal(sysv.control.stat(id).attached, 1);
      other.close();
      assert.equal(sysv.control.stat(id).attached, 0);
      assert.throws(() => sysv.get(sysv.IPC_PRIVATE, WANTED * size, flags), { code: 'ENOMEM' });
    } finally {
      sysv.control.remove(id);
    }
    assert.equal(pages().free, WANTED);
  });
});
