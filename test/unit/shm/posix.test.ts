/** POSIX objects: opening and making, names, resizing, and what ends a name. */
import { constants as buffers } from 'node:buffer';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, statfsSync, statSync, truncateSync } from 'node:fs';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type OpenOptions, type PosixMemory, posix } from '../../../lib/shm/index.js';
import { runChild, startChild } from '../child.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

let name: string;
let counter = 0;
beforeEach(() => {
  name = `/iospace-test-${process.pid}-${counter++}`;
});
afterEach(() => {
  if (existsSync(`/dev/shm${name}`)) {
    posix.unlink(name);
  }
});

const create = (options: OpenOptions = {}): PosixMemory =>
  posix.open(name, { create: true, size: 4096, ...options });

describe('posix.open', () => {
  test('makes an object of the size asked for, zeroed, its memory allocated', () => {
    using memory = create({ size: 100_000 });
    expect(memory).toMatchObject({
      name,
      byteLength: 100_000,
      created: true,
      readOnly: false,
      closed: false,
    });
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
    const { size, blocks, mode } = statSync(`/dev/shm${name}`);
    expect(size).toBe(100_000);
    expect(blocks * 512).toBeGreaterThanOrEqual(100_000);
    expect(mode & 0o777).toBe(0o600);
  });

  test('opens the one that there is, whole or in part', () => {
    using first = create();
    using second = posix.open(name);
    using again = create();
    using part = posix.open(name, { size: 100 });
    expect([second.created, again.created, part.byteLength]).toEqual([false, false, 100]);
    first.bytes[42] = 1;
    expect([second, again, part].map(({ bytes }) => bytes[42])).toEqual([1, 1, 1]);
    second.view(Int32Array)[0] = -5;
    expect(Atomics.load(first.view(Int32Array), 0)).toBe(-5);
  });

  test('adds a leading slash that is missing', () => {
    using memory = create();
    using same = posix.open(name.slice(1));
    expect(same.name).toBe(memory.name);
  });

  test('gives a new object the permissions asked for', () => {
    using _memory = create({ mode: 0o640 });
    expect(statSync(`/dev/shm${name}`).mode & 0o777).toBe(0o640);
  });

  test('is shared with other processes', async () => {
    using memory = create();
    const { code: exit, stderr } = await runChild(
      `import { posix } from 'iospace/shm';
       using_(posix.open(${JSON.stringify(name)}));
       function using_(memory) { memory.view(Uint32Array)[7] = process.pid; memory.close(); }`,
    );
    expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
    expect(memory.view(Uint32Array)[7]).toBeGreaterThan(0);
  });

  test.each([
    [{}, 'ENOENT'],
    [{ readOnly: true }, 'ENOENT'],
    [{ create: true }, 'ERR_INVALID_ARG_VALUE'],
    [{ create: true, size: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ create: true, size: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ create: true, size: 1.5 }, 'ERR_OUT_OF_RANGE'],
    [{ create: true, size: '4096' }, 'ERR_INVALID_ARG_TYPE'],
    [{ create: true, size: 4096, readOnly: true }, 'ERR_INVALID_ARG_VALUE'],
    [{ exclusive: true }, 'ERR_INVALID_ARG_VALUE'],
    [{ create: 1, size: 4096 }, 'ERR_INVALID_ARG_TYPE'],
    [{ create: true, size: 4096, mode: 0o1777 }, 'ERR_OUT_OF_RANGE'],
    [{ create: true, size: 4096, permissions: 0o600 }, 'ERR_INVALID_ARG_VALUE'],
  ])('%o of an object that is not there is %s', (options, expected) => {
    expect(() => posix.open(name, options as OpenOptions)).toThrow(code(expected));
    expect(existsSync(`/dev/shm${name}`)).toBe(false);
  });

  const room = statfsSync('/dev/shm');
  const tooMuch = room.blocks * room.bsize + 1;
  test.skipIf(tooMuch > buffers.MAX_LENGTH)(
    'more than there is room for is an error now, and leaves no object',
    () => {
      expect(() => create({ size: tooMuch })).toThrow(code('ENOSPC'));
      expect(existsSync(`/dev/shm${name}`)).toBe(false);
    },
  );

  test('of an object that is there: EEXIST with exclusive, ERR_OUT_OF_RANGE beyond its end', () => {
    using _memory = create();
    expect(() => create({ exclusive: true })).toThrow(code('EEXIST'));
    expect(() => posix.open(name, { size: 4097 })).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => create({ size: 4097 })).toThrow(code('ERR_OUT_OF_RANGE'));
    truncateSync(`/dev/shm${name}`, 0);
    expect(() => posix.open(name)).toThrow(code('EINVAL'));
  });

  test('an object whose maker stopped before it had a size gets one', () => {
    create().close();
    truncateSync(`/dev/shm${name}`, 0);
    using memory = create({ size: 8192 });
    expect(memory).toMatchObject({ created: false, byteLength: 8192 });
    expect(memory.bytes[8191]).toBe(0);
  });

  test.each(['', '/', '//a', '/a/b', 'a/b', '.', '/..', 'x'.repeat(256), 'ü'.repeat(128), 'a\0b'])(
    'the name %o is refused',
    (bad) => {
      expect(() => posix.open(bad)).toThrow(code('ERR_INVALID_ARG_VALUE'));
      expect(() => posix.unlink(bad)).toThrow(code('ERR_INVALID_ARG_VALUE'));
    },
  );

  test('a name of 255 bytes is not', () => {
    expect(() => posix.open('x'.repeat(255))).toThrow(code('ENOENT'));
    expect(() => posix.open(5 as unknown as string)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test('exactly one of those who race finds that it made the object', async () => {
    const program = `
      import { posix } from 'iospace/shm';
      console.log(posix.open(${JSON.stringify(name)}, { create: true, size: 4096 }).created);`;
    const outcomes = await Promise.all(Array.from({ length: 6 }, () => runChild(program)));
    expect(outcomes.map(({ stdout }) => stdout).sort()).toEqual([...Array(5).fill('false\n'), 'true\n']);
  });
});

describe('a read-only memory', () => {
  test('can be read by copying, and has no way to write', () => {
    using memory = create();
    memory.bytes.set([1, 2, 3], 10);
    using readOnly = posix.open(name, { readOnly: true });
    const copy = readOnly.read(10, 3);
    expect([...copy]).toEqual([1, 2, 3]);
    copy.fill(9);
    expect(memory.bytes[10]).toBe(1);
    expect(readOnly.read()).toHaveLength(4096);
    for (const write of [() => readOnly.buffer, () => readOnly.bytes, () => readOnly.view(Uint8Array)]) {
      expect(write).toThrow(code('EACCES'));
    }
  });

  test('reads inside its bounds', () => {
    using memory = create();
    expect(memory.read(4096)).toHaveLength(0);
    for (const [offset, length] of [
      [-1, 1],
      [4097, 0],
      [0, 4097],
      [1, 4096],
    ] as const) {
      expect(() => memory.read(offset, length)).toThrow(code('ERR_OUT_OF_RANGE'));
    }
  });
});

describe('stat() and resize()', () => {
  test('say how long the object is, and make it longer', () => {
    using memory = create({ size: 4096 });
    using other = posix.open(name);
    const { bytes } = memory;
    bytes.fill(3);
    memory.resize(10_000);
    expect([bytes.length, memory.byteLength, memory.bytes[4095], memory.bytes[9999]]).toEqual([
      0, 10_000, 3, 0,
    ]);
    expect(memory.stat()).toMatchObject({ size: 10_000, uid: process.getuid?.(), nlink: 1 });
    expect(memory.stat().blocks * 512).toBe(3 * 4096);
    // Another one still has what it had, until it asks for more.
    expect(other.byteLength).toBe(4096);
    memory.bytes[9999] = 9;
    other.resize(other.stat().size);
    expect(other.bytes[9999]).toBe(9);
    memory.unlink();
    memory.resize(20_000);
    expect(memory.stat()).toMatchObject({ size: 20_000, nlink: 0 });
  });

  test('never make it shorter', () => {
    using memory = create({ size: 8192 });
    expect(() => memory.resize(8191)).toThrow(code('ERR_OUT_OF_RANGE'));
    using part = posix.open(name, { size: 100 });
    part.resize(200);
    expect([part.byteLength, memory.stat().size]).toEqual([200, 8192]);
  });

  test('for reading only: as far as the object goes', () => {
    using memory = create({ size: 8192 });
    using part = posix.open(name, { size: 100, readOnly: true });
    part.resize(8192);
    expect(part.byteLength).toBe(8192);
    expect(() => part.resize(8193)).toThrow(code('EACCES'));
    expect(memory.stat().size).toBe(8192);
  });

  test('allocate: false leaves the pages to the first touch, also when it grows', () => {
    using memory = create({ size: 1 << 20, allocate: false });
    const kept = () => memory.stat().blocks * 512;
    expect([memory.byteLength, memory.stat().size]).toEqual([1 << 20, 1 << 20]);
    expect(kept()).toBeLessThanOrEqual(4096);
    memory.resize(2 << 20);
    expect(kept()).toBeLessThanOrEqual(8192);
    memory.bytes[0] = 1;
    expect(kept()).toBeLessThanOrEqual(12_288);
    expect(memory.bytes[(2 << 20) - 1]).toBe(0);
  });
});

describe('what the system forbids', () => {
  const attempt = (options: string) => `
    import { posix } from 'iospace/shm';
    try { posix.open(${JSON.stringify(name)}, ${options}); console.log('none'); }
    catch (error) { console.log(error.code, error.syscall); }`;
  const limited = (limit: string, options: string) =>
    spawnSync(
      'sh',
      ['-c', `${limit}; exec "$0" "$@"`, process.execPath, '--input-type=module', '--eval', attempt(options)],
      {
        encoding: 'utf8',
      },
    );

  test('longer than ulimit -f is EFBIG, not the end of the process, and leaves no object', () => {
    for (const allocate of [true, false]) {
      expect(limited('ulimit -f 8', `{ create: true, size: 1 << 20, allocate: ${allocate} }`)).toMatchObject({
        stdout: 'EFBIG fallocate\n',
        status: 0,
      });
      expect(existsSync(`/dev/shm${name}`)).toBe(false);
    }
  });

  const mounts = spawnSync('unshare', ['--mount', 'true']).status === 0;
  test.skipIf(!mounts)(
    'a full /dev/shm is ENOSPC, by now or by resize(); SIGBUS where nothing was allocated',
    () => {
      const full = (program: string) =>
        spawnSync(
          'unshare',
          [
            ...['--mount', 'sh', '-c', 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$0" "$@"'],
            ...[process.execPath, '--input-type=module', '--eval', program],
          ],
          { encoding: 'utf8' },
        );
      const { stdout, stderr } = full(`
      import { posix } from 'iospace/shm';
      try { posix.open('/a', { create: true, size: 65537 }); } catch (error) { console.log(error.message); }
      const memory = posix.open('/b', { create: true, size: 32768 });
      memory.bytes[0] = 5;
      try { memory.resize(65537); } catch (error) { console.log(error.code, error.path); }
      console.log(posix.list(), memory.byteLength, memory.bytes[0], memory.stat().size);
      memory.close();`);
      expect({ stdout, stderr }).toEqual({
        stdout: [
          "ENOSPC: no space left on device, fallocate '/a': there is no room for it: /dev/shm is full, or too few huge pages are set aside (vm.nr_hugepages)",
          'ENOSPC /b',
          "[ '/b' ] 32768 5 32768",
          '',
        ].join('\n'),
        stderr: '',
      });
      expect(
        full(`
      import { posix } from 'iospace/shm';
      posix.open('/a', { create: true, size: 1 << 20, allocate: false }).bytes.fill(1);`),
      ).toMatchObject({ status: null, signal: 'SIGBUS' });
    },
  );

  const limits = spawnSync('prlimit', ['--version']).status === 0;
  test.skipIf(!limits)('more address space than ulimit -v is ENOMEM, and leaves no object', async () => {
    const { stdout } = await runChild(`
      import { execFileSync } from 'node:child_process';
      import { readFileSync } from 'node:fs';
      const { 1: used } = /VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'latin1'));
      execFileSync('prlimit', ['--pid', process.pid, '--as=' + (used * 1024 + (512 << 20))]);
      ${attempt('{ create: true, size: 1 << 30, allocate: false }')}`);
    expect(stdout).toBe('ENOMEM mmap\n');
    expect(existsSync(`/dev/shm${name}`)).toBe(false);
  });

  test.skipIf(process.getuid?.() !== 0)("what is another user's is EACCES, or EPERM to unlink", async () => {
    using _memory = create();
    const { stdout } = await runChild(`
      import { posix } from 'iospace/shm';
      posix.list();
      try { posix.unlink('/not-there'); } catch {}
      process.setgid(65534);
      process.setuid(65534);
      for (const call of [
        () => posix.open(${JSON.stringify(name)}),
        () => posix.open(${JSON.stringify(name)}, { readOnly: true }),
        () => posix.open(${JSON.stringify(name)}, { create: true, size: 4096 }),
        () => posix.unlink(${JSON.stringify(name)}),
      ]) try { call(); console.log('none'); } catch (error) { console.log(error.code); }`);
    expect(stdout).toMatch(/^EACCES\nEACCES\nEACCES\n(EACCES|EPERM)\n$/);
  });

  test('the umask takes permissions away', async () => {
    await runChild(`
      import { posix } from 'iospace/shm';
      process.umask(0o027);
      posix.open(${JSON.stringify(name)}, { create: true, size: 4096, mode: 0o666 });`);
    expect(statSync(`/dev/shm${name}`).mode & 0o777).toBe(0o640);
  });

  test('a FIFO in the place of an object is EINVAL, and keeps nobody waiting', async () => {
    spawnSync('mkfifo', [`/dev/shm${name}`]);
    const outcome = await runChild(`
      import { posix } from 'iospace/shm';
      for (const options of [{ readOnly: true }, {}, { create: true, size: 4096 }]) {
        try {
          posix.open(${JSON.stringify(name)}, options);
        } catch (error) {
          console.log(error.code);
        }
      }`);
    expect(outcome).toMatchObject({ code: 0, stdout: 'EINVAL\nEINVAL\nEINVAL\n' });
    expect(existsSync(`/dev/shm${name}`)).toBe(true);
  });

  test('what another process has cut off kills the process that touches it: SIGBUS', async () => {
    using _memory = create({ size: 3 * 4096 });
    const outcome = await runChild(`
      import { truncateSync } from 'node:fs';
      import { posix } from 'iospace/shm';
      const memory = posix.open(${JSON.stringify(name)});
      truncateSync('/dev/shm${name}', 4096);
      console.log(memory.bytes[4095]);
      console.log(memory.bytes[4096]);`);
    expect(outcome).toMatchObject({ code: null, signal: 'SIGBUS', stdout: '0\n' });
  });
});

describe('unlinkAtExit', () => {
  const program = (then: string) => `
    import { existsSync } from 'node:fs';
    import { posix } from 'iospace/shm';
    const name = ${JSON.stringify(name)};
    const isThere = () => existsSync('/dev/shm' + name);
    const open = () => posix.open(name, { create: true, size: 4096, unlinkAtExit: true });
    ${then}`;
  const idle = "setInterval(() => {}, 1000); console.log('ready');";

  /** Runs a program, which is sent the signal once it is ready. */
  async function end(then: string, signal?: NodeJS.Signals) {
    const child = startChild(program(then));
    let stdout = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk;
      if (signal !== undefined && stdout === 'ready\n') {
        child.kill(signal);
      }
    });
    const [status, killed] = await once(child, 'close');
    return { status, killed, said: stdout, left: existsSync(`/dev/shm${name}`) };
  }

  test.each([
    ['the end of its work', 'open();', 0],
    ['process.exit()', 'open(); process.exit(3);', 3],
    ['an uncaught exception', "open(); throw new Error('on purpose');", 1],
    ['a rejection that nobody handles', "open(); Promise.reject(new Error('on purpose'));", 1],
    ['the end, long after close()', 'open().close(); setTimeout(() => {}, 50);', 0],
    ['the end, where it had been opened twice', 'open(); open();', 0],
    ['the end, where it had been unlinked', 'open().unlink();', 0],
    ['the end, of an object that there was', 'posix.open(name, { create: true, size: 4096 }); open();', 0],
  ])('removes the name at %s', async (_how, then, status) => {
    expect(await end(then)).toMatchObject({ status, killed: null, left: false });
  });

  test.each([
    ['SIGINT', 'an idle program', `open(); ${idle}`],
    ['SIGTERM', 'an idle program', `open(); ${idle}`],
    ['SIGHUP', 'an idle program', `open(); ${idle}`],
    ['SIGINT', 'a busy program', "open(); console.log('ready'); for (;;);"],
    [
      'SIGTERM',
      'one that no longer listens',
      `open(); process.once('SIGTERM', f); process.off('SIGTERM', f); function f() {} ${idle}`,
    ],
    [
      'SIGTERM',
      'one that stopped listening before',
      `process.on('SIGTERM', f); open(); process.removeAllListeners('SIGTERM'); function f() {} ${idle}`,
    ],
  ] as const)('removes the name when %s ends %s, by the same signal', async (signal, _what, then) => {
    expect(await end(then, signal)).toEqual({ status: null, killed: signal, said: 'ready\n', left: false });
  });

  test.each([
    ['before', 'on();', ''],
    ['after', '', 'on();'],
  ])('leaves a signal alone that the program has listened to from %s', async (_when, before, after) => {
    const on = `
      function on() {
        process.on('SIGTERM', () => {
          console.log(isThere());
          setTimeout(() => { console.log(isThere()); process.exit(4); }, 20);
        });
      }`;
    expect(await end(`${on} ${before} open(); ${after} ${idle}`, 'SIGTERM')).toEqual({
      status: 4,
      killed: null,
      said: 'ready\ntrue\ntrue\n',
      left: false,
    });
  });

  test('removes the name where the signal comes while the object is being made', async () => {
    const outcome = await end(`
      import { binding } from './build/lib/binding.js'; // the addon is one, whoever loads it
      binding().fallocate = () => {
        console.log(isThere());
        process.kill(process.pid, 'SIGTERM');
      };
      open();`);
    expect(outcome).toEqual({ status: null, killed: 'SIGTERM', said: 'true\n', left: false });
  });

  test('SIGKILL leaves the name, which is listed, and which the next start finds', async () => {
    expect(await end(`open(); ${idle}`, 'SIGKILL')).toMatchObject({ killed: 'SIGKILL', left: true });
    expect(posix.list()).toContain(name);
    using memory = create();
    expect(memory.created).toBe(false);
  });

  test('a name that is another object by then stays, as does one without the option', async () => {
    expect(
      await end('open(); posix.unlink(name); posix.open(name, { create: true, size: 1 });'),
    ).toMatchObject({
      status: 0,
      left: true,
    });
    posix.unlink(name);
    const replaced = `open(); const { unlinkSync } = await import('node:fs');
      unlinkSync('/dev/shm' + name); posix.open(name, { create: true, size: 1 });`;
    expect(await end(replaced)).toMatchObject({ status: 0, left: true });
  });

  test('is for the main thread', async () => {
    const said = await end(`
      import { Worker } from 'node:worker_threads';
      const library = import.meta.resolve('iospace/shm');
      const source = \`
        import { posix } from '\${library}';
        try { posix.open('\${name}', { create: true, size: 1, unlinkAtExit: true }); }
        catch (error) { console.log(error.message); }\`;
      new Worker(new URL('data:text/javascript,' + encodeURIComponent(source)));`);
    expect(said).toMatchObject({
      status: 0,
      said: 'expected false in a worker thread for unlinkAtExit, got true\n',
      left: false,
    });
    expect(() => create({ unlinkAtExit: 1 as unknown as boolean })).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });
});

describe('the end', () => {
  test('close() detaches, and may be called twice; the object stays', () => {
    const memory = create();
    const { bytes } = memory;
    bytes.fill(1);
    memory.close();
    memory.close();
    memory[Symbol.dispose]();
    expect(bytes).toHaveLength(0);
    for (const use of [
      () => memory.bytes,
      () => memory.buffer,
      () => memory.read(),
      () => memory.view(Uint8Array),
    ]) {
      expect(use).toThrow(code('ERR_INVALID_STATE'));
    }
    using again = posix.open(name);
    expect(again.bytes[4095]).toBe(1);
  });

  test('unlink() takes the name; those who have the memory keep it', () => {
    using memory = create();
    memory.unlink();
    expect(() => posix.open(name)).toThrow(code('ENOENT'));
    expect(() => memory.unlink()).toThrow(code('ENOENT'));
    expect(() => posix.unlink(name)).toThrow(code('ENOENT'));
    memory.bytes.fill(1);
    expect(memory.bytes[0]).toBe(1);
  });
});

test('posix.list() names what there is', () => {
  using _memory = create();
  expect(posix.list()).toContain(name);
  posix.unlink(name);
  expect(posix.list()).not.toContain(name);
});

test('inspecting touches no memory', () => {
  using memory = create();
  expect(inspect(memory)).toBe(
    `PosixMemory { name: '${name}', byteLength: 4096, readOnly: false, closed: false }`,
  );
});
