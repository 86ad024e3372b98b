/**
 * The standard's assertions on shmget(), shmat(), shmdt() and shmctl().
 *
 * What cannot be asserted from here:
 * - EIDRM: the standard does not have it. Linux gives it only where a segment ends while the call looks for it.
 * - shmaddr, SHM_RND, and EINVAL of an address that is no start of a segment: the address is always the system's choice, and
 *   an attachment is an object, which knows where it is.
 * - EMFILE of shmat(): Linux has no limit of attachments for each process.
 * - EOVERFLOW of IPC_STAT: all fields have room for what Linux has.
 * - That a child after fork() has the segments attached: Node has no fork() without exec().
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, test } from 'vitest';
import { type Segment, type SegmentStatus, sysv } from '../../../../lib/shm/index.js';
import {
  asNobody,
  code,
  hasIpc,
  hasLimits,
  isRoot,
  key,
  mappings,
  NOBODY,
  program,
  SHORT_OF_ADDRESSES,
  segment,
} from './support.js';

const { IPC_CREAT, IPC_EXCL, IPC_PRIVATE } = sysv;
const { stat, set, remove } = sysv.control;

const create = (size = 4096, mode = 0o600): number => sysv.get(key, size, IPC_CREAT | IPC_EXCL | mode);

/** The beginning of this second, as the kernel's clock has it: a tick behind at most. */
const now = () => Math.floor((Date.now() - 100) / 1000) * 1000;

/** Whether a time is one of those since then. */
const since = (start: number): unknown => ({
  asymmetricMatch: (time: unknown) =>
    time instanceof Date && time.getTime() >= start && time.getTime() <= Date.now(),
});

describe('shmget() shall', () => {
  test('return the identifier associated with key', () => {
    const id = create();
    expect([sysv.get(key), sysv.get(key, 4096, 0o600), sysv.get(key, 1)]).toEqual([id, id, id]);
  });

  test('create a new identifier for each call with IPC_PRIVATE', () => {
    const ids = new Set([segment(), segment(), segment(4096, IPC_CREAT | 0o600)]);
    expect(ids.size).toBe(3);
    expect([...ids].map((id) => stat(id).key)).toEqual([0, 0, 0]);
  });

  test('create one for a key that has none if IPC_CREAT is given, and only then', () => {
    expect(() => sysv.get(key, 4096)).toThrow(code('ENOENT'));
    const id = sysv.get(key, 4096, IPC_CREAT | 0o600);
    expect(sysv.get(key, 4096, IPC_CREAT | 0o600)).toBe(id);
  });

  test('create a segment of at least size bytes', () => {
    using memory = sysv.attach(segment(5000));
    memory.bytes.fill(1);
    expect([memory.byteLength, memory.bytes[4999]]).toEqual([5000, 1]);
  });

  test('initialize the new segment with all zero values', () => {
    using memory = sysv.attach(segment(3 * 4096));
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
  });

  describe('initialize of the new data structure', () => {
    let before: number;
    let status: SegmentStatus;
    beforeEach(() => {
      before = now();
      status = stat(create(5000, 0o642));
    });

    test('shm_perm.cuid and uid, cgid and gid to the effective IDs of the process', () => {
      const [uid, gid] = [process.geteuid?.(), process.getegid?.()];
      expect(status).toMatchObject({ uid, gid, creatorUid: uid, creatorGid: gid });
    });

    test('the low-order nine bits of shm_perm.mode to those of shmflg, whatever the umask', () => {
      expect(status.mode).toBe(0o642);
    });

    test('shm_segsz to size', () => {
      expect(status.size).toBe(5000);
    });

    test('shm_cpid to the process ID of the creator', () => {
      expect(status.creatorPid).toBe(process.pid);
    });

    test('shm_lpid, shm_nattch, shm_atime and shm_dtime to 0', () => {
      expect(status).toMatchObject({
        ...{ lastPid: 0, attached: 0 },
        ...{ attachTime: undefined, detachTime: undefined },
      });
    });

    test('shm_ctime to the current time', () => {
      expect(status.changeTime).toEqual(since(before));
    });
  });

  test.runIf(isRoot)('take the effective IDs, and not the real ones', () => {
    program(`
      raw.constants.PROT_READ;
      process.setegid(${NOBODY});
      process.seteuid(${NOBODY});
      sysv.get(${key}, 1, ${IPC_CREAT | 0o600});`);
    const { id } = sysv.list().find((listed) => listed.key === key) as SegmentStatus;
    expect(stat(id)).toMatchObject({ uid: NOBODY, gid: NOBODY, creatorUid: NOBODY, creatorGid: NOBODY });
  });
});

describe('shmget() shall fail with', () => {
  test('[EEXIST]: an identifier exists for key but IPC_CREAT and IPC_EXCL are both given', () => {
    create();
    expect(() => create()).toThrow(expect.objectContaining({ code: 'EEXIST', syscall: 'shmget' }));
  });

  test('[ENOENT]: no identifier exists for key and IPC_CREAT is not given', () => {
    expect(() => sysv.get(key, 4096, 0o600)).toThrow(code('ENOENT'));
  });

  test('[EINVAL]: a segment is to be created and size is less than the minimum', () => {
    expect(() => create(0)).toThrow(code('EINVAL'));
    expect(sysv.control.info().minBytes).toBe(1);
  });

  test('[EINVAL]: none is to be created and the segment of key has fewer than size bytes', () => {
    const id = create(4096);
    expect(() => sysv.get(key, 4097)).toThrow(code('EINVAL'));
    expect(sysv.get(key, 4096)).toBe(id);
  });

  test.runIf(isRoot)(
    '[EACCES]: one exists but the permission of the low-order nine bits is not granted',
    () => {
      create(4096, 0o604);
      expect(
        asNobody(
          `sysv.get(${key}, 0, 0o600)`,
          `sysv.get(${key}, 0, 0o200)`,
          `sysv.get(${key}, 0, 0o400)`,
          `sysv.get(${key})`,
        ),
      ).toEqual(['EACCES', 'EACCES', 'none', 'none']);
    },
  );

  // A namespace of its own has limits of its own.
  test.runIf(hasIpc).each([
    ['[EINVAL]: size is greater than the system-imposed maximum', 'shmmax', 8192, 8193, 'EINVAL'],
    ['[ENOSPC]: the maximum number of identifiers would be exceeded', 'shmmni', 1, 1, 'ENOSPC'],
    ['[ENOSPC]: the maximum of all segments together would be exceeded', 'shmall', 2, 8192, 'ENOSPC'],
  ])('%s', (_assertion, limit, value, size, expected) => {
    const lines = program(
      `
      fs.writeFileSync('/proc/sys/kernel/${limit}', '${value}');
      attempt(() => sysv.get(0, 1));
      attempt(() => sysv.get(0, ${size}));
      console.log(sysv.list().length);`,
      ['unshare', '--ipc'],
    );
    expect(lines).toEqual(['none', expected, '1']);
  });

  const overcommits = readFileSync('/proc/sys/vm/overcommit_memory', 'latin1').trim() === '1';
  test.skipIf(overcommits)('[ENOMEM]: the amount of memory is not sufficient (not with overcommit 1)', () => {
    expect(() => create(2 ** 50)).toThrow(code('ENOMEM'));
    expect(() => sysv.get(key)).toThrow(code('ENOENT'));
  });
});

describe('shmat() shall', () => {
  test('attach the segment at the first available address as selected by the system', () => {
    const id = segment();
    using first = sysv.attach(id);
    using second = sysv.attach(id);
    // The id stands where a file has its inode.
    const inode = new RegExp(` ${id} +/SYSV`);
    expect(mappings('/SYSV').filter((line) => inode.test(line))).toHaveLength(2);
    first.bytes[1] = 3;
    expect(second.bytes[1]).toBe(3);
  });

  test('attach for reading with SHM_RDONLY and read permission', () => {
    const id = segment();
    using memory = sysv.attach(id);
    memory.bytes[7] = 9;
    using readOnly = sysv.attach(id, { readOnly: true });
    expect([readOnly.readOnly, readOnly.reader().getUint8(7)]).toEqual([true, 9]);
    expect(() => readOnly.bytes).toThrow(code('EACCES'));
    expect(mappings('/SYSV').some((line) => / r--s /.test(line) && line.includes(` ${id} `))).toBe(true);
  });

  test('increment shm_nattch, and set shm_atime and shm_lpid', () => {
    const id = segment();
    const before = now();
    const counts = [stat(id).attached];
    const memories: Segment[] = [];
    for (let count = 0; count < 3; count++) {
      memories.push(sysv.attach(id, { readOnly: count === 1 }));
      counts.push(stat(id).attached);
    }
    expect(counts).toEqual([0, 1, 2, 3]);
    expect(stat(id)).toMatchObject({ lastPid: process.pid, detachTime: undefined });
    expect(stat(id).attachTime).toEqual(since(before));
    for (const memory of memories) {
      memory.detach();
    }
  });

  test('not attach to the new image of exec()', () => {
    using memory = sysv.attach(segment());
    const { stdout } = spawnSync('cat', ['/proc/self/maps'], { encoding: 'utf8' });
    expect(stdout).toContain('cat');
    expect(stdout).not.toContain('/SYSV');
    expect(stat(memory.id).attached).toBe(1);
  });
});

describe('shmat() shall fail, with shm_nattch as before, with', () => {
  test('[EINVAL]: the value of shmid is not a valid identifier', () => {
    const id = segment();
    remove(id);
    expect(() => sysv.attach(id)).toThrow(expect.objectContaining({ code: 'EINVAL', syscall: 'shmat' }));
  });

  test.runIf(isRoot)('[EACCES]: operation permission is denied to the calling process', () => {
    const id = create(4096, 0o604);
    expect(
      asNobody(
        `sysv.attach(${id})`,
        `sysv.attach(${id}, { readOnly: true })`,
        `sysv.attach(${segment()}, { readOnly: true })`,
      ),
    ).toEqual(['EACCES', 'none', 'EACCES']);
    expect(stat(id).attached).toBe(0);
  });

  test.runIf(hasLimits)('[ENOMEM]: the data space is not large enough for the segment', () => {
    const id = segment(1 << 30, sysv.SHM_NORESERVE | 0o600);
    const lines = program(`${SHORT_OF_ADDRESSES} attempt(() => sysv.attach(${id}));`);
    expect([...lines, stat(id).attached]).toEqual(['ENOMEM', 0]);
  });
});

describe('shmdt() shall', () => {
  test('detach the segment from the address space, and decrement shm_nattch', () => {
    const id = segment();
    using first = sysv.attach(id);
    const second = sysv.attach(id);
    const { bytes } = second;
    second.detach();
    expect([stat(id).attached, bytes.length, first.bytes.length]).toEqual([1, 0, 4096]);
    expect(mappings('/SYSV').filter((line) => line.includes(` ${id} `))).toHaveLength(1);
  });

  test('set shm_dtime and shm_lpid', () => {
    const id = segment();
    const memory = sysv.attach(id);
    program(`keep(sysv.attach(${id}));`);
    const before = now();
    expect(stat(id).lastPid).not.toBe(process.pid);
    memory.detach();
    expect(stat(id).lastPid).toBe(process.pid);
    expect(stat(id).detachTime).toEqual(since(before));
  });

  test('leave the segment, with all its data, for those who attach it later', () => {
    const id = segment();
    const memory = sysv.attach(id);
    memory.bytes.fill(6);
    memory.detach();
    expect(stat(id).attached).toBe(0);
    using again = sysv.attach(id);
    expect(again.bytes.every((byte) => byte === 6)).toBe(true);
  });

  test('fail with [EINVAL]: no segment is attached there (iospace: a second detach does nothing)', () => {
    const id = segment();
    using other = sysv.attach(id);
    const memory = sysv.attach(id);
    sysv.detach(memory);
    sysv.detach(memory);
    expect([stat(id).attached, other.closed]).toEqual([1, false]);
  });

  test.each([
    ['_exit()', '', null],
    ['abnormal termination', "process.kill(process.pid, 'SIGKILL');", 'SIGKILL'],
  ] as const)('happen for each attached segment at %s', (_how, then, signal) => {
    const id = segment();
    const source = `
      keep(sysv.attach(${id}));
      keep(sysv.attach(${id}));
      console.log(sysv.control.stat(${id}).attached);
      ${then}`;
    expect(program(source, [], signal)).toEqual(['2']);
    expect(stat(id)).toMatchObject({ attached: 0, detachTime: expect.any(Date) });
  });
});

describe('shmctl() with IPC_STAT shall', () => {
  test('give the current value of each member', () => {
    const id = create(4096, 0o640);
    using _memory = sysv.attach(id);
    const {
      residentBytes: _resident,
      swappedBytes: _swapped,
      ...listed
    } = sysv.list().find((entry) => entry.id === id) as ReturnType<typeof sysv.list>[0];
    expect(stat(id)).toEqual(listed);
    expect(stat(id)).toMatchObject({ id, key, mode: 0o640, size: 4096, attached: 1, removed: false });
  });

  test.runIf(isRoot)('fail with [EACCES]: the process does not have read permission', () => {
    const readable = create(4096, 0o604);
    expect(asNobody(`sysv.control.stat(${readable})`, `sysv.control.stat(${segment()})`)).toEqual([
      'none',
      'EACCES',
    ]);
  });
});

describe('shmctl() with IPC_SET shall', () => {
  test('set the low-order nine bits of shm_perm.mode, and shm_ctime, and nothing else', () => {
    const id = create();
    const before = stat(id);
    const start = now();
    set(id, { mode: 0o421 });
    expect(stat(id)).toEqual({ ...before, mode: 0o421, changeTime: since(start) });
    expect(() => set(id, { mode: 0o1000 })).toThrow(code('ERR_OUT_OF_RANGE'));
  });

  test.runIf(isRoot)('set shm_perm.uid and gid, and leave cuid and cgid', () => {
    const id = create();
    set(id, { uid: 12, gid: 34 });
    expect(stat(id)).toMatchObject({ uid: 12, gid: 34, creatorUid: 0, creatorGid: 0, mode: 0o600 });
  });

  test.runIf(isRoot)('take effect for who attaches from then on', () => {
    const id = create(4096, 0o600);
    set(id, { mode: 0o606 });
    expect(asNobody(`sysv.attach(${id})`)).toEqual(['none']);
    set(id, { mode: 0o600 });
    expect(asNobody(`sysv.attach(${id})`)).toEqual(['EACCES']);
  });

  test.runIf(isRoot)('be for who has the user ID of shm_perm.uid, or of shm_perm.cuid', () => {
    const id = create();
    set(id, { uid: NOBODY });
    // Its owner by then, and not its maker.
    expect(asNobody(`sysv.control.set(${id}, { mode: 0o660 })`)).toEqual(['none']);
    program(`
      raw.constants.PROT_READ;
      process.seteuid(${NOBODY});
      const id = sysv.get(${key + 1}, 1, ${IPC_CREAT | 0o600});
      process.seteuid(0);
      sysv.control.set(id, { uid: 1 });
      process.setuid(${NOBODY});
      sysv.control.set(id, { mode: 0o666 });
      sysv.control.remove(id);`);
    expect(stat(id)).toMatchObject({ uid: NOBODY, creatorUid: 0, mode: 0o660 });
  });
});

describe('shmctl() with IPC_RMID shall', () => {
  test('remove the identifier from the system and destroy the segment', () => {
    const id = create();
    remove(id);
    expect(() => sysv.get(key)).toThrow(code('ENOENT'));
    expect(() => stat(id)).toThrow(code('EINVAL'));
    expect(sysv.list().some((entry) => entry.id === id)).toBe(false);
  });

  test('destroy it with the last detach, and free its key at once, while it is attached (as Linux has it)', () => {
    const id = create();
    const first = sysv.attach(id);
    const second = sysv.attach(id);
    first.bytes.fill(8);
    remove(id);
    expect(() => sysv.get(key)).toThrow(code('ENOENT'));
    const young = create();
    expect(young).not.toBe(id);
    expect(stat(id)).toMatchObject({ removed: true, attached: 2, key: 0 });
    first.detach();
    expect(second.bytes.every((byte) => byte === 8)).toBe(true);
    expect(stat(id).attached).toBe(1);
    second.detach();
    expect(() => stat(id)).toThrow(code('EINVAL'));
    expect(stat(young)).toMatchObject({ removed: false, attached: 0 });
  });

  test('leave it attachable by its identifier until then (as Linux has it)', () => {
    const id = segment();
    using _first = sysv.attach(id);
    remove(id);
    using second = sysv.attach(id);
    expect(second.byteLength).toBe(4096);
  });

  test.runIf(isRoot)('be for who has the user ID of shm_perm.uid', () => {
    const id = create();
    set(id, { uid: NOBODY });
    expect(asNobody(`sysv.control.remove(${id})`)).toEqual(['none']);
    expect(() => stat(id)).toThrow(code('EINVAL'));
  });
});

describe('shmctl() shall fail with', () => {
  test('[EINVAL]: the value of shmid is not a valid identifier', () => {
    const id = segment();
    remove(id);
    for (const call of [() => stat(id), () => set(id, { mode: 0o600 }), () => remove(id)]) {
      expect(call).toThrow(expect.objectContaining({ code: 'EINVAL', syscall: 'shmctl' }));
    }
  });

  test('[EINVAL]: the value of cmd is not a valid command (iospace has a function for each)', () => {
    expect(Object.keys(sysv.control).sort()).toEqual(['info', 'lock', 'remove', 'set', 'stat', 'unlock']);
  });

  test.runIf(isRoot)('[EPERM]: IPC_SET or IPC_RMID by neither owner, nor maker, nor root', () => {
    const id = create(4096, 0o666);
    expect(asNobody(`sysv.control.set(${id}, { mode: 0o600 })`, `sysv.control.remove(${id})`)).toEqual([
      'EPERM',
      'EPERM',
    ]);
    expect(stat(id)).toMatchObject({ mode: 0o666, removed: false });
  });
});

test('IPC_PRIVATE is the key that no segment is found by', () => {
  expect([IPC_PRIVATE, sysv.ftok('/', 1) === IPC_PRIVATE]).toEqual([0, false]);
});
