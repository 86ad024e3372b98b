/**
 * The standard's assertions on shm_open() and shm_unlink(), and on ftruncate() and fstat() of what they open.
 *
 * What cannot be asserted from here:
 * - EINTR of shm_open(): nothing that it does on Linux waits, so that a signal could interrupt it.
 * - ENFILE: it takes all files that the system may have open, also from those who run beside the test.
 * - That state persists over a reboot: the standard leaves it open, and Linux keeps nothing.
 * - O_TRUNC, and O_EXCL without O_CREAT: `posix.open` has no way to ask for them (the latter is undefined).
 * - That a child after fork() shares the open file description: Node has no fork() without exec().
 */

import { spawnSync } from 'node:child_process';
import { closeSync, constants, existsSync, fstatSync, readSync, statSync, writeSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { binding } from '../../../../lib/binding.js';
import { memfd, type OpenOptions, type PosixMemory, posix } from '../../../../lib/shm/index.js';
import { runChild } from '../../child.js';
import { asNobody, code, descriptor, hasMounts, isRoot, NOBODY, name, program } from './support.js';

const create = (options: OpenOptions = {}): PosixMemory =>
  posix.open(name, { create: true, size: 4096, ...options });

const file = () => `/dev/shm${name}`;
const quoted = () => JSON.stringify(name);

describe('shm_open() shall', () => {
  test('establish a connection between a shared memory object and a file descriptor', () => {
    using memory = create();
    memory.bytes.set([1, 2, 3]);
    const read = new Uint8Array(3);
    readSync(memory.fd, read, 0, 3, 0);
    expect([...read]).toEqual([1, 2, 3]);
    writeSync(memory.fd, Uint8Array.of(4), 0, 1, 2);
    expect(memory.bytes[2]).toBe(4);
  });

  test('return the lowest numbered file descriptor not currently open for that process', () => {
    const lines = program(`
      const [first, second] = [0, 1].map(() => fs.openSync('/dev/null'));
      raw.constants.PROT_READ;
      fs.closeSync(first);
      const memory = keep(posix.open(${quoted()}, { create: true, size: 1 }));
      console.log(memory.fd === first && first < second);`);
    expect(lines).toEqual(['true']);
  });

  test('refer to the same object whenever name begins with a slash and is the same', () => {
    using first = create();
    using second = posix.open(name);
    first.bytes[5] = 7;
    expect(second.bytes[5]).toBe(7);
    expect(second.stat().ino).toBe(first.stat().ino);
  });

  test('have an implementation-defined effect if name begins with no slash (iospace adds one)', () => {
    using memory = create();
    using same = posix.open(name.slice(1));
    expect(same.stat().ino).toBe(memory.stat().ino);
  });

  test('interpret further slashes in name in an implementation-defined way (iospace refuses them)', () => {
    for (const bad of [`${name}/a`, `/${name}`, `${name}/`]) {
      expect(() => posix.open(bad, { create: true, size: 1 })).toThrow(code('ERR_INVALID_ARG_VALUE'));
    }
  });

  test('create an open file description that is new, so that its offset is not shared', () => {
    using first = create();
    using second = posix.open(name);
    readSync(first.fd, new Uint8Array(10), 0, 10, null);
    expect([descriptor(first.fd).position, descriptor(second.fd).position]).toEqual([10, 0]);
  });

  test('set the FD_CLOEXEC flag of the new descriptor', () => {
    using memory = create();
    using readOnly = posix.open(name, { readOnly: true });
    using sealed = memfd.create('standard', { size: 1 });
    for (const { fd } of [memory, readOnly, sealed]) {
      expect(descriptor(fd).closedOnExec).toBe(true);
    }
    expect(spawnSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' }).stdout).not.toContain(name);
  });

  test.each([
    [false, constants.O_RDWR],
    [true, constants.O_RDONLY],
  ])('set the access mode according to oflag (readOnly: %o)', (readOnly, access) => {
    create().close();
    using memory = posix.open(name, { readOnly });
    expect(descriptor(memory.fd).access).toBe(access);
  });
});

describe('shm_open() with O_CREAT shall', () => {
  test('have no effect on an object that exists', () => {
    using memory = create({ mode: 0o640 });
    memory.bytes.fill(5);
    using again = create({ mode: 0o600 });
    expect([again.created, again.bytes[4095], again.byteLength]).toEqual([false, 5, 4096]);
    expect(again.stat()).toMatchObject({ ino: memory.stat().ino, mode: constants.S_IFREG | 0o640 });
  });

  test('create an object with the effective user ID of the process, and its effective group ID', () => {
    using memory = create();
    expect(memory.stat()).toMatchObject({ uid: process.geteuid?.(), gid: process.getegid?.() });
  });

  test.runIf(isRoot)('take the effective IDs, and not the real ones', () => {
    program(`
      process.setegid(${NOBODY});
      process.seteuid(${NOBODY});
      keep(posix.open(${quoted()}, { create: true, size: 1 }));`);
    expect(statSync(file())).toMatchObject({ uid: NOBODY, gid: NOBODY });
  });

  test.each([
    ['0o666', '0o000', 0o666],
    ['0o666', '0o027', 0o640],
    ['0o777', '0o077', 0o700],
    ['0o000', '0o022', 0o000],
  ])('set the permissions to mode %s but for those in umask %s', (mode, umask, expected) => {
    program(`
      process.umask(${umask});
      keep(posix.open(${quoted()}, { create: true, size: 1, mode: ${mode} }));`);
    expect(statSync(file()).mode & 0o777).toBe(expected);
  });

  test('leave bits in mode other than the permissions unspecified (iospace refuses them)', () => {
    expect(() => create({ mode: 0o4600 })).toThrow(code('ERR_OUT_OF_RANGE'));
  });

  test('open for reading and writing whatever mode is', () => {
    const lines = program(`
      if (process.getuid() === 0) process.seteuid(${NOBODY});
      const memory = keep(posix.open(${quoted()}, { create: true, size: 1, mode: 0 }));
      memory.bytes[0] = 9;
      console.log(memory.bytes[0]);
      attempt(() => posix.open(${quoted()}));`);
    expect(lines).toEqual(['9', 'EACCES']);
  });

  test('make an object with a size of zero (posix.open gives it one in the same call)', () => {
    const fd = binding().shmOpen(name, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    expect(fstatSync(fd).size).toBe(0);
    closeSync(fd);
    // Until then nobody can map it.
    expect(() => posix.open(name)).toThrow(code('EINVAL'));
    using memory = create();
    expect([memory.created, memory.stat().size]).toEqual([false, 4096]);
  });
});

describe('shm_open() with O_CREAT and O_EXCL shall', () => {
  test('fail if the object exists', () => {
    using memory = create({ exclusive: true });
    expect(() => create({ exclusive: true })).toThrow(code('EEXIST'));
    expect(memory.stat().size).toBe(4096);
  });

  test('check and create atomically with respect to other processes doing the same', async () => {
    const processes = 3;
    const rounds = 300;
    using start = posix.open(`${name}-start`, { create: true, size: 4 });
    const outcomes = await Promise.all(
      Array.from({ length: processes }, () =>
        runChild(`
          import { futex, posix } from 'iospace/shm';
          const start = posix.open('${name}-start');
          const words = start.view(Int32Array);
          Atomics.add(words, 0, 1);
          futex.wake(words, 0);
          for (let there; (there = Atomics.load(words, 0)) < ${processes};) futex.wait(words, 0, there);
          start.close();
          const won = [];
          for (let round = 0; round < ${rounds}; round++) {
            try {
              posix.open('${name}-' + round, { create: true, exclusive: true, size: 1, allocate: false }).close();
              won.push(round);
            } catch (error) { if (error.code !== 'EEXIST') throw error; }
          }
          console.log(JSON.stringify(won));`),
      ),
    );
    expect(outcomes.map(({ stderr }) => stderr).join('')).toBe('');
    const winners = outcomes.flatMap(({ stdout }) => JSON.parse(stdout) as number[]);
    expect(winners.sort((a, b) => a - b)).toEqual(Array.from({ length: rounds }, (_, round) => round));
    expect(start.view(Int32Array)[0]).toBe(processes);
  });

  test('be undefined for O_EXCL without O_CREAT (iospace refuses it)', () => {
    expect(() => posix.open(name, { exclusive: true })).toThrow(code('ERR_INVALID_ARG_VALUE'));
  });
});

describe('a shared memory object', () => {
  test('persists, with all its data, when nobody has it open, until it is unlinked', () => {
    program(`keep(posix.open(${quoted()}, { create: true, size: 10_000 })).bytes.fill(7);`);
    using memory = posix.open(name);
    expect([memory.byteLength, memory.bytes.every((byte) => byte === 7)]).toEqual([10_000, true]);
  });

  test.runIf(hasMounts)('gives its memory back when it is unlinked and all other references are gone', () => {
    const lines = program(
      `
      const free = () => { const { bfree, ffree } = fs.statfsSync('/dev/shm'); return [bfree, ffree].join(); };
      const before = free();
      const memory = posix.open('/a', { create: true, size: 1 << 20 });
      const mapped = memfd.open('/dev/shm/a');
      memory.unlink();
      memory.bytes.fill(1);
      memory.close();
      console.log(free() === before, mapped.bytes[(1 << 20) - 1]);
      mapped.close();
      console.log(free() === before);`,
      ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs tmpfs /dev/shm && exec "$0" "$@"'],
    );
    expect(lines).toEqual(['false 1', 'true']);
  });

  test('has the size that ftruncate() sets, and what is added reads as zeros', () => {
    using memory = create({ size: 100 });
    memory.bytes.fill(9);
    memory.resize(9000);
    expect(memory.stat().size).toBe(9000);
    expect(memory.bytes.subarray(0, 100).every((byte) => byte === 9)).toBe(true);
    expect(memory.bytes.subarray(100).every((byte) => byte === 0)).toBe(true);
  });

  test('can be made smaller by ftruncate() (not by iospace: resize() only grows)', () => {
    using memory = create({ size: 8192 });
    expect(() => memory.resize(4096)).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(memory.stat().size).toBe(8192);
  });

  test('has st_mode, st_uid, st_gid and st_size in fstat()', () => {
    using memory = create({ size: 5, mode: 0o604 });
    expect(memory.stat()).toMatchObject({
      ...{ size: 5, uid: process.geteuid?.(), gid: process.getegid?.() },
      mode: constants.S_IFREG | (0o604 & ~process.umask()),
    });
  });
});

describe('shm_open() shall fail with', () => {
  test('[EEXIST]: O_CREAT and O_EXCL are set and the named object exists', () => {
    create().close();
    expect(() => create({ exclusive: true })).toThrow(
      expect.objectContaining({ code: 'EEXIST', syscall: 'shm_open', path: name }),
    );
  });

  test('[ENOENT]: O_CREAT is not set and the named object does not exist', () => {
    for (const readOnly of [false, true]) {
      expect(() => posix.open(name, { readOnly })).toThrow(
        expect.objectContaining({ code: 'ENOENT', syscall: 'shm_open', path: name }),
      );
    }
  });

  test.runIf(isRoot)('[EACCES]: the object exists and the permissions specified by oflag are denied', () => {
    create().close();
    const read = `${name}-r`;
    posix.open(read, { create: true, size: 1, mode: 0o644 }).close();
    const outcome = asNobody(
      `posix.open(${quoted()})`,
      `posix.open(${quoted()}, { readOnly: true })`,
      `posix.open('${read}')`,
      `posix.open('${read}', { create: true, size: 1 })`,
      `posix.open('${read}', { readOnly: true })`,
    );
    expect(outcome).toEqual(['EACCES', 'EACCES', 'EACCES', 'EACCES', 'none']);
  });

  test.runIf(hasMounts)('[EACCES]: it does not exist and permission to create it is denied', () => {
    const lines = program(
      `
      raw.constants.PROT_READ;
      process.setuid(${NOBODY});
      attempt(() => posix.open('/a', { create: true, size: 1 }));
      console.log(posix.list().length);`,
      ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs -o mode=755 tmpfs /dev/shm && exec "$0" "$@"'],
    );
    expect(lines).toEqual(['EACCES', '0']);
  });

  test('[EINVAL]: the operation is not supported for the given name (iospace: ERR_INVALID_ARG_VALUE)', () => {
    for (const bad of ['', '/', '.', '/..', 'a\0b']) {
      expect(() => posix.open(bad, { create: true, size: 1 })).toThrow(code('ERR_INVALID_ARG_VALUE'));
    }
  });

  test('[ENAMETOOLONG]: a component of name is longer than {NAME_MAX} (iospace: ERR_INVALID_ARG_VALUE)', () => {
    const longest = name.padEnd(256, 'x');
    posix.open(longest, { create: true, size: 1 }).close();
    expect(posix.list()).toContain(longest);
    expect(() => posix.open(`${longest}x`, { create: true, size: 1 })).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(() => binding().shmOpen(`${longest}x`, constants.O_RDWR, 0)).toThrow(code('ENAMETOOLONG'));
  });

  test('[EMFILE]: all file descriptors available to the process are currently open', () => {
    const lines = program(
      `
      raw.constants.PROT_READ;
      const taken = [];
      try { for (;;) taken.push(fs.openSync('/dev/null')); } catch {}
      attempt(() => posix.open(${quoted()}, { create: true, size: 1 }));
      fs.closeSync(taken.pop());
      attempt(() => posix.open(${quoted()}, { create: true, size: 1 }));`,
      ['sh', '-c', 'ulimit -n 100 && exec "$0" "$@"'],
    );
    expect(lines).toEqual(['EMFILE', 'none']);
  });

  test.runIf(hasMounts)('[ENOSPC]: there is insufficient space for the creation of the object', () => {
    const lines = program(
      `
      attempt(() => posix.open('/a', { create: true, size: 1 }));
      attempt(() => posix.open('/b', { create: true, size: 1 }));
      console.log(posix.list().join());`,
      // One for the directory itself.
      ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs -o nr_inodes=2 tmpfs /dev/shm && exec "$0" "$@"'],
    );
    expect(lines).toEqual(['none', 'ENOSPC', '/a']);
  });
});

describe('shm_unlink() shall', () => {
  test('remove the name of the object', () => {
    create().close();
    posix.unlink(name);
    expect([existsSync(file()), posix.list().includes(name)]).toEqual([false, false]);
  });

  test('remove the name before it returns, and the contents with the last open or map reference', () => {
    const memory = create();
    using mapped = memfd.open(memory.fd);
    memory.bytes.fill(4);
    memory.unlink();
    expect(existsSync(file())).toBe(false);
    memory.close();
    expect(mapped.bytes.every((byte) => byte === 4)).toBe(true);
    expect(mapped.stat().nlink).toBe(0);
  });

  test('make shm_open() behave as if there were none, although the object lives on', () => {
    using old = create();
    old.bytes.fill(1);
    old.unlink();
    expect(() => posix.open(name)).toThrow(code('ENOENT'));
    using young = create({ exclusive: true });
    expect([young.created, young.bytes[0], old.bytes[0]]).toEqual([true, 0, 1]);
    expect(young.stat().ino).not.toBe(old.stat().ino);
  });

  test('fail with [ENOENT]: the named object does not exist', () => {
    expect(() => posix.unlink(name)).toThrow(
      expect.objectContaining({ code: 'ENOENT', syscall: 'shm_unlink', path: name }),
    );
  });

  test.runIf(isRoot)('fail with [EACCES]: permission is denied, and leave the object as it was', () => {
    using memory = create({ mode: 0o666 });
    const { ino } = memory.stat();
    expect(asNobody(`posix.unlink(${quoted()})`)).toEqual(['EACCES']);
    expect(statSync(file()).ino).toBe(ino);
  });

  test('fail with [ENAMETOOLONG]: name is too long (iospace: ERR_INVALID_ARG_VALUE)', () => {
    expect(() => posix.unlink('x'.repeat(256))).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(() => binding().shmUnlink(`/${'x'.repeat(256)}`)).toThrow(code('ENAMETOOLONG'));
  });
});
