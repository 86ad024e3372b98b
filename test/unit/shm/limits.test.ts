/**
 * What the limits of a process do to it (descriptors, address space, locked memory): errors, and nothing is left behind.
 *
 * A full /dev/shm and the limits of System V are in the tests of each
 * kind of memory.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const hasLimits = spawnSync('prlimit', ['--version']).status === 0;

/** Runs a program, in which `limit('nofile', 5)` sets a limit of its own process. Gives what it said. */
function run(program: string): string {
  const before = `
    import { execFileSync } from 'node:child_process';
    import { openSync, readdirSync, readFileSync } from 'node:fs';
    import { CountingEvent, fds, memfd, Mutex, posix, Ring, sysv } from 'iospace/shm';
    const limit = (name, value) => execFileSync('prlimit', ['--pid', process.pid, '--' + name + '=' + value]);
    const attempt = async (call) => {
      try { await call(); console.log('none'); } catch (error) { console.log(error.code, error.syscall); }
    };`;
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '--eval', before + program],
    {
      cwd: root,
      encoding: 'utf8',
    },
  );
  expect(stderr).toBe('');
  return stdout;
}

describe.skipIf(!hasLimits)('with no descriptor left (needs prlimit)', () => {
  test('each call that takes one is EMFILE, and nothing is made', () => {
    const name = `/iospace-limits-${process.pid}`;
    const said = run(`
      const memory = memfd.create('limits', { size: 4096 });
      Ring.create(memory);
      limit('nofile', 64);
      try { for (;;) openSync('/dev/null'); } catch {}
      await attempt(() => posix.open('${name}', { create: true, size: 4096 }));
      await attempt(() => memfd.create('more', { size: 4096 }));
      await attempt(() => memfd.open(memory.fd));
      await attempt(() => new Mutex(new Int32Array(new SharedArrayBuffer(4)), 0, memory.fd));
      await attempt(() => Ring.producer(memory));
      await attempt(() => fds.receive('${name.slice(1)}', { timeout: 1000 }));
      memory.bytes[0] = 1;
      memory.close();`);
    expect(said).toBe(
      [
        'EMFILE shm_open',
        'EMFILE memfd_create',
        'EMFILE fcntl',
        'EMFILE open',
        'EMFILE open',
        'EMFILE socket',
        '',
      ].join('\n'),
    );
    expect(existsSync(`/dev/shm${name}`)).toBe(false);
    expect(existsSync(`${root}${name.slice(1)}`)).toBe(false);
  });
});

describe.skipIf(!hasLimits)('beyond a limit of the process (needs prlimit)', () => {
  const descriptors = "readdirSync('/proc/self/fd').length";

  test('a memfd longer than ulimit -f is EFBIG, made or grown, and leaves nothing open', () => {
    const said = run(`
      const memory = memfd.create('limits', { size: 4096 });
      limit('fsize', 8192);
      const before = ${descriptors};
      await attempt(() => memfd.create('more', { size: 8193 }));
      await attempt(() => memfd.create('more', { size: 8193, allocate: false }));
      await attempt(() => memory.resize(8193));
      memory.bytes[4095] = 1;
      console.log(memory.byteLength, ${descriptors} - before);
      memory.close();`);
    expect(said).toBe('EFBIG fallocate\nEFBIG fallocate\nEFBIG fallocate\n4096 0\n');
  });

  test('more address space than ulimit -v is ENOMEM, of a memfd and of a segment, and leaves nothing behind', () => {
    const said = run(`
      const { 1: used } = /VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'latin1'));
      const id = sysv.get(sysv.IPC_PRIVATE, 1 << 30, sysv.SHM_NORESERVE | 0o600);
      try {
        const memory = memfd.create('limits', { size: 4096, allocate: false });
        limit('as', used * 1024 + (512 << 20));
        const before = ${descriptors};
        await attempt(() => memfd.create('more', { size: 1 << 30, allocate: false }));
        await attempt(() => memory.resize(1 << 30));
        await attempt(() => sysv.attach(id));
        memory.bytes[4095] = 1;
        console.log(memory.byteLength, sysv.control.stat(id).attached, ${descriptors} - before);
        memory.close();
      } finally {
        sysv.control.remove(id);
      }`);
    expect(said).toBe('ENOMEM mmap\nENOMEM mmap\nENOMEM shmat\n4096 0 0\n');
  });
});

describe.skipIf(!hasLimits || process.getuid?.() !== 0)(
  'without privilege (needs prlimit, and root to begin with)',
  () => {
    test('more locked memory than ulimit -l is ENOMEM', () => {
      const said = run(`
      const id = sysv.get(sysv.IPC_PRIVATE, 1 << 20);
      try {
        sysv.control.set(id, { uid: 65534, gid: 65534 });
        limit('memlock', 65536);
        process.seteuid(65534);
        await attempt(() => sysv.control.lock(id));
        process.seteuid(0);
        limit('memlock', 0);
        process.seteuid(65534);
        await attempt(() => sysv.control.lock(id));
      } finally {
        process.seteuid(0);
        sysv.control.remove(id);
      }`);
      expect(said).toBe('ENOMEM shmctl\nEPERM shmctl\n');
    });
  },
);
