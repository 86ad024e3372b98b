/**
 * The standard's assertions on mmap() and munmap() over shared memory: objects of `shm_open()`, and memfds, which are the same
 * to mmap(). `iospace/shm` maps whole objects, shared; what else the standard says goes through `iospace/raw`.
 *
 * What cannot be asserted from here:
 * - MAP_FIXED, and munmap() of a part of a mapping: iospace refuses the first and has no way to ask for the second, since
 *   an ArrayBuffer lies over all of it.
 * - SIGSEGV of a reference after munmap(), or of a write without PROT_WRITE: JavaScript cannot make one (the views are empty, or
 *   there are none); that it cannot is asserted instead.
 * - EAGAIN (a mapping that mlockall() wants locked), EMFILE and ENXIO: Node has no mlockall(); Linux has ENOMEM instead of
 *   EMFILE, and maps what lies beyond an object's end.
 * - Timestamps: tmpfs marks the last data modification only where the first reference to a page is a write; the last data access
 *   need not be marked.
 * - That writes beyond the end of an object, in its last page, are never written out: tmpfs writes nothing out.
 * - fork(): Node has none without exec().
 */
import { spawnSync } from 'node:child_process';
import { readSync, truncateSync, writeSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as raw from '../../../../lib/raw.js';
import { memfd, type PosixMemory, posix } from '../../../../lib/shm/index.js';
import { code, hasLimits, mappings, name, program, SHORT_OF_ADDRESSES } from './support.js';

const { PROT_READ, PROT_WRITE, MAP_SHARED, MAP_PRIVATE, O_RDONLY, O_WRONLY } = raw.constants;
const READ_WRITE = PROT_READ | PROT_WRITE;
const PAGE = 4096;

const create = (size = PAGE): PosixMemory => posix.open(name, { create: true, size });
const file = () => `/dev/shm${name}`;

/** What the object has, by read(). */
function stored(memory: { fd: number }, offset: number): number {
  const byte = new Uint8Array(1);
  readSync(memory.fd, byte, 0, 1, offset);
  return byte[0] as number;
}

/** A descriptor of the object, which the caller closes. */
const reopened = (flags: number) => raw.open(file(), flags);

describe('mmap() shall', () => {
  test('establish a mapping between the address space and a memory object', () => {
    using memory = create(3 * PAGE);
    writeSync(memory.fd, Uint8Array.of(1, 2, 3), 0, 3, 2 * PAGE);
    expect([...memory.bytes.subarray(2 * PAGE, 2 * PAGE + 3)]).toEqual([1, 2, 3]);
    expect(mappings(name)).toHaveLength(1);
  });

  test('with MAP_SHARED: let write references change the underlying object', () => {
    using memory = create();
    memory.bytes[100] = 7;
    expect(stored(memory, 100)).toBe(7);
  });

  test('with MAP_SHARED: let modifications be seen by all who have the object mapped', () => {
    using first = create();
    using second = posix.open(name);
    first.bytes[5] = 1;
    program(`posix.open('${name}').close(); const memory = keep(posix.open('${name}'));
      memory.bytes[6] = memory.bytes[5] + 1;`);
    expect([...second.bytes.subarray(5, 7)]).toEqual([1, 2]);
  });

  test('with MAP_PRIVATE: let modifications be seen by the calling process only, and not change the object', () => {
    using memory = create();
    memory.bytes.fill(3);
    using mapping = raw.mmap(memory.fd, PAGE, READ_WRITE, MAP_PRIVATE);
    mapping.bytes[0] = 4;
    expect([mapping.bytes[0], mapping.bytes[1], memory.bytes[0], stored(memory, 0)]).toEqual([4, 3, 3, 3]);
  });

  test('map the bytes from off on', () => {
    using memory = create(2 * PAGE);
    memory.bytes[PAGE] = 9;
    using mapping = raw.mmap(memory.fd, PAGE, PROT_READ, MAP_SHARED, PAGE);
    expect(mapping.bytes[0]).toBe(9);
  });

  test('use the address of a page, where the system chooses it', () => {
    using memory = create();
    using mapping = raw.mmap(memory.fd, 1, PROT_READ, MAP_SHARED);
    expect(mapping.address % BigInt(PAGE)).toBe(0n);
    expect(mapping.address).not.toBe(0n);
  });

  test('not place a mapping over another one', () => {
    using memory = create();
    using first = raw.mmap(memory.fd, PAGE, PROT_READ, MAP_SHARED);
    using second = raw.mmap(memory.fd, PAGE, PROT_READ, MAP_SHARED);
    expect(second.address).not.toBe(first.address);
  });

  test('zero-fill the partial page at the end of an object', () => {
    using memory = create(100);
    memory.bytes.fill(0xff);
    using page = raw.mmap(memory.fd, PAGE, PROT_READ, MAP_SHARED);
    expect(page.bytes.subarray(0, 100).every((byte) => byte === 0xff)).toBe(true);
    expect(page.bytes.subarray(100).every((byte) => byte === 0)).toBe(true);
  });

  test('add a reference to the file which a subsequent close() does not remove', () => {
    const memory = create();
    const fd = reopened(raw.constants.O_RDWR);
    using mapping = raw.mmap(fd, PAGE, READ_WRITE, MAP_SHARED);
    raw.close(fd);
    memory.bytes[3] = 5;
    memory.unlink();
    memory.close();
    expect(mapping.bytes[3]).toBe(5);
    mapping.bytes[3] = 6;
    expect(mapping.bytes[3]).toBe(6);
  });

  test('not map into the new image of exec()', () => {
    using _memory = create();
    expect(spawnSync('cat', ['/proc/self/maps'], { encoding: 'utf8' }).stdout).not.toContain(name);
  });

  test('permit reading and not writing with PROT_READ (iospace gives no views of it)', () => {
    create().close();
    using memory = posix.open(name, { readOnly: true });
    expect(mappings(name)).toEqual([expect.stringMatching(/ r--s /)]);
    expect(memory.reader().getUint8(0)).toBe(0);
    expect(() => memory.bytes).toThrow(code('EACCES'));
  });
});

describe('references shall', () => {
  const touch = (offset: number) => `
    const memory = keep(posix.open('${name}'));
    fs.truncateSync('${file()}', ${PAGE + 1});
    console.log(memory.bytes[${offset}]);`;

  test('deliver SIGBUS to whole pages following the end of an object', () => {
    using memory = create(3 * PAGE);
    memory.bytes.fill(1);
    expect(program(touch(2 * PAGE), [], 'SIGBUS')).toEqual([]);
  });

  test('give zeros in the rest of the last page, when the object was made shorter', () => {
    using memory = create(3 * PAGE);
    memory.bytes.fill(1);
    expect(program(touch(2 * PAGE - 1))).toEqual(['0']);
  });

  test('find zeros where an object was made shorter and longer again', () => {
    using memory = create(2 * PAGE);
    memory.bytes.fill(1);
    truncateSync(file(), PAGE);
    truncateSync(file(), 2 * PAGE);
    expect([memory.bytes[PAGE - 1], memory.bytes[PAGE], memory.bytes[2 * PAGE - 1]]).toEqual([1, 0, 0]);
  });
});

describe('mmap() shall fail with', () => {
  const attempt = (fd: number, protection: number, flags: number, length = PAGE, offset = 0n) => {
    const call = () => raw.mmap(fd, length, protection, flags, offset).release();
    return expect(call);
  };

  /** Calls `use` with a descriptor of the object. */
  function withFile(flags: number, use: (fd: number) => void): void {
    create().close();
    const fd = reopened(flags);
    try {
      use(fd);
    } finally {
      raw.close(fd);
    }
  }

  test('[EACCES]: fildes is not open for read, regardless of the protection specified', () => {
    withFile(O_WRONLY, (fd) => {
      for (const protection of [PROT_READ, PROT_WRITE, READ_WRITE]) {
        attempt(fd, protection, MAP_SHARED).toThrow(code('EACCES'));
        attempt(fd, protection, MAP_PRIVATE).toThrow(code('EACCES'));
      }
    });
  });

  test('[EACCES]: it is not open for write and PROT_WRITE was specified for MAP_SHARED', () => {
    withFile(O_RDONLY, (fd) => {
      attempt(fd, READ_WRITE, MAP_SHARED).toThrow(code('EACCES'));
      attempt(fd, READ_WRITE, MAP_PRIVATE).not.toThrow();
      attempt(fd, PROT_READ, MAP_SHARED).not.toThrow();
    });
  });

  test('[EBADF]: the fildes argument is not a valid open file descriptor', () => {
    attempt(2 ** 20, PROT_READ, MAP_SHARED).toThrow(
      expect.objectContaining({ code: 'EBADF', syscall: 'mmap' }),
    );
    expect(() => memfd.open(2 ** 20)).toThrow(code('EBADF'));
  });

  test('[EINVAL]: the value of len is zero (iospace: ERR_OUT_OF_RANGE)', () => {
    withFile(O_RDONLY, (fd) => attempt(fd, PROT_READ, MAP_SHARED, 0).toThrow(code('ERR_OUT_OF_RANGE')));
    expect(() => posix.open(name, { size: 0 })).toThrow(code('ERR_OUT_OF_RANGE'));
  });

  test('[EINVAL]: neither MAP_PRIVATE nor MAP_SHARED is set', () => {
    withFile(O_RDONLY, (fd) => attempt(fd, PROT_READ, 0).toThrow(code('EINVAL')));
  });

  test('[EINVAL]: off is not a multiple of the page size', () => {
    withFile(O_RDONLY, (fd) => attempt(fd, PROT_READ, MAP_SHARED, PAGE, 1n).toThrow(code('EINVAL')));
  });

  test('[ENODEV]: fildes refers to a file whose type is not supported', () => {
    const fd = raw.open('/dev/shm', O_RDONLY);
    attempt(fd, PROT_READ, MAP_SHARED).toThrow(code('ENODEV'));
    raw.close(fd);
  });

  test('[EOVERFLOW]: off plus len exceeds the offset maximum of the file', () => {
    withFile(O_RDONLY, (fd) => {
      attempt(fd, PROT_READ, MAP_SHARED, 2 * PAGE, 2n ** 63n - BigInt(PAGE)).toThrow(code('EOVERFLOW'));
    });
  });

  test.runIf(hasLimits)('[ENOMEM]: the range exceeds that allowed for the address space', () => {
    create().close();
    const lines = program(`
      const fd = raw.open('${file()}', raw.constants.O_RDONLY);
      const { PROT_READ, MAP_SHARED } = raw.constants;
      ${SHORT_OF_ADDRESSES}
      attempt(() => raw.mmap(fd, 2 ** 30, PROT_READ, MAP_SHARED));
      attempt(() => memfd.create('standard', { size: 2 ** 30, allocate: false }));
      attempt(() => raw.mmap(fd, 4096, PROT_READ, MAP_SHARED));`);
    expect(lines).toEqual(['ENOMEM', 'ENOMEM', 'none']);
  });
});

describe('munmap() shall', () => {
  test('remove the mapping, so that nothing refers to the object (the views are empty)', () => {
    const memory = create();
    const { bytes } = memory;
    bytes.fill(1);
    memory.close();
    expect([bytes.length, bytes[0], mappings(name).length]).toEqual([0, undefined, 0]);
    expect(() => memory.bytes).toThrow(code('ERR_INVALID_STATE'));
  });

  test('leave the object, and the other mappings of it, as they are', () => {
    const first = create();
    using second = posix.open(name);
    first.bytes.fill(2);
    first.close();
    expect([second.bytes[PAGE - 1], stored(second, 0), mappings(name).length]).toEqual([2, 2, 1]);
  });

  test('discard modifications of a MAP_PRIVATE mapping', () => {
    using memory = create();
    const mapping = raw.mmap(memory.fd, PAGE, READ_WRITE, MAP_PRIVATE);
    mapping.bytes.fill(9);
    raw.munmap(mapping);
    expect([memory.bytes[0], stored(memory, 0)]).toEqual([0, 0]);
  });

  test('have no effect if there are no mappings in the range (a second call does nothing)', () => {
    const memory = create();
    using other = posix.open(name);
    memory.close();
    memory.close();
    expect([memory.closed, other.bytes.length]).toEqual([true, PAGE]);
  });
});
