/** The same memory in a Python program, by its standard library and by the C library: whoever makes it, both share it. */
import { spawnSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { posix, sysv } from '../../../lib/shm/index.js';

const hasPython = spawnSync('python3', ['-c', 'import ctypes, multiprocessing.shared_memory']).status === 0;

function python(program: string): string {
  const { stdout, stderr, status } = spawnSync('python3', ['-c', program], { encoding: 'utf8' });
  expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  return stdout;
}

describe.skipIf(!hasPython)('POSIX objects', () => {
  const name = `/iospace-test-${process.pid}-python`;
  afterEach(() => posix.unlink(name));

  /** `memory` is the object. Python would unlink it at its end, even where another program made it. */
  const opened = (options: string, then: string) => `
from multiprocessing import resource_tracker, shared_memory
memory = shared_memory.SharedMemory(name='${name.slice(1)}'${options})
resource_tracker.unregister('${name}', 'shared_memory')
${then}
memory.close()`;

  test('made here', () => {
    using memory = posix.open(name, { create: true, size: 5000 });
    memory.bytes.set([1, 2, 3], 4997);
    const answer = python(opened('', 'print(memory.size, *memory.buf[4997:5000]); memory.buf[0] = 42'));
    expect(answer).toBe('5000 1 2 3\n');
    expect(memory.bytes[0]).toBe(42);
  });

  test('made there', () => {
    python(opened(', create=True, size=5000', 'memory.buf[4999] = 7'));
    using memory = posix.open(name);
    expect([memory.byteLength, memory.bytes[4999]]).toEqual([5000, 7]);
  });
});

describe.skipIf(!hasPython)('segments of System V', () => {
  let key: number;
  beforeEach(() => {
    key = 0x1051_0000 + (process.pid & 0xffff);
  });
  afterEach(() => sysv.control.remove(sysv.get(key)));

  /** `memory` is the attached segment of the key. */
  const attached = (flags: string, then: string) => `
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
libc.shmdt.argtypes = [ctypes.c_void_p]
id = libc.shmget(${key}, 5000, ${flags})
assert id >= 0, ctypes.get_errno()
address = libc.shmat(id, None, 0)
memory = (ctypes.c_ubyte * 5000).from_address(address)
${then}
assert libc.shmdt(address) == 0`;

  test('made here', () => {
    using memory = sysv.attach(sysv.get(key, 5000, sysv.IPC_CREAT | sysv.IPC_EXCL | 0o600));
    memory.bytes.set([1, 2, 3], 4997);
    const answer = python(attached('0', 'print(id, *memory[4997:5000]); memory[0] = 42'));
    expect(answer).toBe(`${memory.id} 1 2 3\n`);
    expect(memory.bytes[0]).toBe(42);
    expect(sysv.control.stat(memory.id).attached).toBe(1);
  });

  test('made there', () => {
    python(attached('0o1600', 'memory[4999] = 7'));
    using memory = sysv.attach(sysv.get(key), { readOnly: true });
    expect([memory.byteLength, memory.reader().getUint8(4999)]).toEqual([5000, 7]);
  });
});
