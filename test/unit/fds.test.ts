/** Descriptors between processes, through real sockets. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as raw from '../../lib/raw.js';
import { fds, type PassOptions } from '../../lib/shm/index.js';
import { runChild, startChild } from './child.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'iospace-fds-'));
  path = join(directory, 'socket');
});
afterEach(() => rmSync(directory, { recursive: true }));

/** A file in memory with an inode that tells it from others. */
function memory(): { fd: number; inode: number } {
  const fd = raw.memfdCreate('iospace-fds');
  return { fd, inode: fstatSync(fd).ino };
}

/** What this process has open, as far as this test could have left it open. */
function open(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return /^socket:|iospace-fds/.test(target) ? [target] : [];
    } catch {
      return [];
    }
  });
}

/** Runs `pass`, and finds that it leaves neither a descriptor nor a file behind. */
async function leavingNothing<T>(pass: () => Promise<T>): Promise<T> {
  const before = open();
  const result = await pass();
  await delay(10);
  expect(open()).toEqual(before);
  expect(readdirSync(directory)).toEqual([]);
  return result;
}

const closeAll = (received: readonly number[]) => received.forEach(raw.close);

/** A process that listens at the path. */
async function listening(): Promise<ReturnType<typeof startChild>> {
  const child = startChild(
    `import { fds } from 'iospace/shm'; fds.receive(${JSON.stringify(path)}); console.log('ready');`,
  );
  await once(child.stdout, 'data');
  return child;
}

async function kill(child: ReturnType<typeof startChild>): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'close');
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) {
    await delay(5);
  }
}

describe('descriptors', () => {
  test.each([1, 2, 253])('%i arrive in their order, and only there', async (count) => {
    const sent = Array.from({ length: count }, memory);
    await leavingNothing(async () => {
      const [received] = await Promise.all([
        fds.receive(path),
        fds.send(
          path,
          sent.map(({ fd }) => fd),
        ),
      ]);
      expect(received.map((fd) => fstatSync(fd).ino)).toEqual(sent.map(({ inode }) => inode));
      closeAll(received);
    });
    closeAll(sent.map(({ fd }) => fd));
  });

  test('are close-on-exec', async () => {
    const { fd } = memory();
    const [[received = -1]] = await Promise.all([fds.receive(path), fds.send(path, [fd])]);
    const { stdout } = await runChild(
      `import { readdirSync } from 'node:fs';
       console.log(readdirSync('/proc/self/fd').includes('${received}'));`,
    );
    expect(stdout).toBe('false\n');
    closeAll([fd, received]);
  });

  test('pass between processes, whichever comes first', async () => {
    const receiver = `
      import { readSync } from 'node:fs';
      import { fds } from 'iospace/shm';
      const [fd] = await fds.receive(${JSON.stringify(path)});
      const bytes = Buffer.alloc(5);
      readSync(fd, bytes, 0, 5, 0);
      console.log(bytes.toString());`;
    const file = join(directory, 'file');
    writeFileSync(file, 'hello');
    const fd = openSync(file, 'r');
    rmSync(file);

    const first = runChild(receiver);
    await until(() => existsSync(path));
    await fds.send(path, [fd]);
    expect(await first).toEqual({ code: 0, signal: null, stdout: 'hello\n', stderr: '' });

    const sending = fds.send(path, [fd]);
    await delay(100);
    expect(await runChild(receiver)).toMatchObject({ stdout: 'hello\n', stderr: '' });
    await sending;
    closeSync(fd);
  });

  test('of several senders go to one receive() each', async () => {
    const sent = Array.from({ length: 20 }, memory);
    await leavingNothing(async () => {
      const sending = sent.map(({ fd }) => fds.send(path, [fd]));
      const inodes: number[] = [];
      for (const _ of sent) {
        const received = await fds.receive(path);
        inodes.push(...received.map((fd) => fstatSync(fd).ino));
        closeAll(received);
      }
      await Promise.all(sending);
      expect(inodes.sort()).toEqual(sent.map(({ inode }) => inode).sort());
    });
    closeAll(sent.map(({ fd }) => fd));
  });

  test('keep the loop alive no longer than it takes', async () => {
    const pass = await runChild(`
      import { fds } from 'iospace/shm';
      fds.receive(${JSON.stringify(path)}, { timeout: 9e6 }).then(([fd]) => console.log(typeof fd));
      await fds.send(${JSON.stringify(path)}, [0], { timeout: 9e6 });`);
    expect(pass).toEqual({ code: 0, signal: null, stdout: 'number\n', stderr: '' });
  });
});

describe('the file of the socket', () => {
  test('is for its user alone from its first moment, whatever the umask', async () => {
    const umask = process.umask(0);
    try {
      const end = new AbortController();
      const receiving = fds.receive(path, { signal: end.signal });
      expect(statSync(path).mode & 0o777).toBe(0o600);
      end.abort();
      await expect(receiving).rejects.toThrow(code('ABORT_ERR'));
    } finally {
      process.umask(umask);
    }
  });

  test('is replaced where its listener has died', async () => {
    const child = await listening();
    await kill(child);
    expect(existsSync(path)).toBe(true);
    await leavingNothing(async () => {
      const [received] = await Promise.all([fds.receive(path), fds.send(path, [0])]);
      closeAll(received);
    });
  });

  test('is EADDRINUSE where somebody listens, who does not notice', async () => {
    await leavingNothing(async () => {
      const first = fds.receive(path);
      await expect(fds.receive(path)).rejects.toThrow(code('EADDRINUSE'));
      await expect(fds.receive(path)).rejects.toMatchObject({ path, syscall: 'bind' });
      await fds.send(path, [0]);
      closeAll(await first);
    });
  });

  test('exactly one of those who race for a stale one gets it', async () => {
    const stale = await listening();
    await kill(stale);
    const racer = `
      import { fds } from 'iospace/shm';
      console.log(await fds.receive(${JSON.stringify(path)}).then(() => 'received', ({ code }) => code));`;
    const racers = Array.from({ length: 5 }, () => runChild(racer));
    await Promise.race(racers);
    // All but the winner end at once.
    let ended = 0;
    for (const one of racers) {
      one.then(() => ended++);
    }
    await until(() => ended === racers.length - 1);
    await fds.send(path, [0]);
    const outcomes = (await Promise.all(racers)).map(({ stdout }) => stdout);
    expect(outcomes.sort()).toEqual([...Array(4).fill('EADDRINUSE\n'), 'received\n']);
  });

  test('stays if somebody has put another in its place', async () => {
    const end = new AbortController();
    const receiving = fds.receive(path, { signal: end.signal });
    rmSync(path);
    writeFileSync(path, '');
    end.abort();
    await expect(receiving).rejects.toThrow(code('ABORT_ERR'));
    expect(existsSync(path)).toBe(true);
  });

  test('is never anything but a socket', async () => {
    writeFileSync(path, 'precious');
    await expect(fds.receive(path)).rejects.toThrow(code('EADDRINUSE'));
    expect(statSync(path).size).toBe(8);
  });

  test('is found after the working directory has changed', async () => {
    const outcome = await runChild(`
      import { existsSync } from 'node:fs';
      import { fds } from 'iospace/shm';
      process.chdir(${JSON.stringify(directory)});
      const receiving = fds.receive('socket');
      console.log(existsSync(${JSON.stringify(path)}));
      process.chdir('/');
      await fds.send(${JSON.stringify(path)}, [0]);
      await receiving;
      console.log(existsSync(${JSON.stringify(path)}));`);
    expect(outcome).toMatchObject({ stdout: 'true\nfalse\n', stderr: '' });
  });
});

describe('an end before the end', () => {
  const operations: [string, (options: PassOptions) => Promise<unknown>][] = [
    ['receive', (options) => fds.receive(path, options)],
    ['send', (options) => fds.send(path, [0], options)],
  ];

  test.each(operations)('%s: ETIMEDOUT after the timeout', async (name, operation) => {
    await leavingNothing(async () => {
      const begin = performance.now();
      await expect(operation({ timeout: 100 })).rejects.toMatchObject({
        code: 'ETIMEDOUT',
        syscall: `fds.${name}`,
        path,
        message: expect.stringMatching(/: nobody (has sent anything|receives there)$/),
      });
      expect(performance.now() - begin).toBeGreaterThan(90);
      await expect(operation({ timeout: 0 })).rejects.toThrow(code('ETIMEDOUT'));
    });
  });

  test.each(operations)('%s: an AbortError with the reason as its cause', async (_name, operation) => {
    await leavingNothing(async () => {
      const reason = new Error('enough');
      const end = new AbortController();
      const passing = operation({ signal: end.signal });
      setTimeout(() => end.abort(reason), 20);
      const error = { name: 'AbortError', code: 'ABORT_ERR', cause: reason };
      await expect(passing).rejects.toMatchObject(error);
      await expect(operation({ signal: AbortSignal.abort(reason) })).rejects.toMatchObject(error);
    });
  });

  test('the wait of a sender whose receiver does not answer', async () => {
    // A listener that accepts nothing: its process is stopped.
    const child = await listening();
    child.kill('SIGSTOP');
    const { fd } = memory();
    const before = open();
    await expect(fds.send(path, [fd], { timeout: 100 })).rejects.toThrow('the receiver has not answered');
    expect(open()).toEqual(before);
    raw.close(fd);
    await kill(child);
  });

  test('a receiver waits on if a sender gave up, and does not take what that had sent', async () => {
    const program = (path: string) => `
      import { readSync } from 'node:fs';
      import { fds } from 'iospace/shm';
      const receiving = fds.receive(${JSON.stringify(path)});
      console.log('ready');
      console.log((await receiving).length);`;
    const child = startChild(program(path));
    let stdout = '';
    child.stdout.on('data', (text) => {
      stdout += text;
    });
    await until(() => stdout === 'ready\n');
    child.kill('SIGSTOP');
    await expect(fds.send(path, [0], { timeout: 50 })).rejects.toThrow(code('ETIMEDOUT'));
    child.kill('SIGCONT');
    await fds.send(path, [0, 0]);
    await once(child, 'close');
    expect(stdout).toBe('ready\n2\n');
  });

  test.each(['receive(path)', 'send(path, [0])'])('a worker that ends in %s leaves nothing', async (call) => {
    await leavingNothing(async () => {
      const worker = new Worker(
        `const path = ${JSON.stringify(path)};
         import(${JSON.stringify(new URL('../../dist/shm/index.js', import.meta.url).href)}).then(({ fds }) => {
           fds.${call};
           require('node:worker_threads').parentPort.postMessage('waiting');
         });`,
        { eval: true },
      );
      await once(worker, 'message');
      expect(existsSync(path)).toBe(call.startsWith('receive'));
      await worker.terminate();
    });
  });
});

/** A program of its own at the other end, which speaks as it likes: `s` is a socket of `type`. */
async function stranger(type: 'SEQPACKET' | 'STREAM', program: string): Promise<string> {
  const script = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_${type})
s.settimeout(5)
path = sys.argv[1]
${program}`;
  const { stdout } = await promisify(execFile)('python3', ['-c', script, path], { timeout: 10_000 });
  return stdout;
}

describe('what is refused', () => {
  const connect = 's.connect(path)';

  test.each([
    ['another byte', `${connect}; socket.send_fds(s, [b"2"], [1])`],
    ['more than a byte', `${connect}; socket.send_fds(s, [b"11"], [1])`],
    ['no descriptor', `${connect}; s.send(b"1")`],
  ])('%s is EPROTO, and is not answered', async (_what, program) => {
    await leavingNothing(async () => {
      const receiving = fds.receive(path);
      const [outcome, answer] = await Promise.allSettled([
        receiving,
        stranger('SEQPACKET', `${program}; print(s.recv(9))`),
      ]);
      expect(outcome).toMatchObject({ reason: { code: 'EPROTO', syscall: 'fds.receive', path } });
      expect(answer).toMatchObject({ value: "b''\n" });
    });
  });

  test('who connects and leaves is not heard of', async () => {
    await leavingNothing(async () => {
      const receiving = fds.receive(path);
      await stranger('SEQPACKET', `${connect}; s.close()`);
      await fds.send(path, [0]);
      closeAll(await receiving);
    });
  });

  test('who answers with another byte is EPROTO, who closes is ECONNABORTED', async () => {
    const listen = 's.bind(path); s.listen(); c, _ = s.accept(); c.recv(9)';
    for (const [answer, expected] of [
      ['c.send(b"2")', 'EPROTO'],
      ['c.send(b"11")', 'EPROTO'],
      ['c.close()', 'ECONNABORTED'],
    ]) {
      const [sent] = await Promise.allSettled([
        fds.send(path, [0]),
        stranger('SEQPACKET', `${listen}; ${answer}`),
      ]);
      expect(sent).toMatchObject({ reason: { code: expected, syscall: 'fds.send', path } });
      rmSync(path);
    }
  });

  test('a socket of another kind is EPROTOTYPE, and EADDRINUSE for a receiver', async () => {
    const server = createServer().listen(path);
    await once(server, 'listening');
    await expect(fds.send(path, [0])).rejects.toThrow(code('EPROTOTYPE'));
    await expect(fds.receive(path)).rejects.toThrow(code('EADDRINUSE'));
    server.close();
    await once(server, 'close');
    // Nor is there a way from the other side.
    const receiving = fds.receive(path);
    expect(await stranger('STREAM', 'print(s.connect_ex(path))')).toBe(`${constants.errno.EPROTOTYPE}\n`);
    await fds.send(path, [0]);
    closeAll(await receiving);
  });

  test('more than the receiver can open is EMFILE there, ECONNABORTED here, and none of them stays', async () => {
    const receiver = `
      import { closeSync, openSync, readdirSync } from 'node:fs';
      import { fds } from 'iospace/shm';
      const filled = [];
      const receiving = fds.receive(${JSON.stringify(path)});
      try { for (;;) filled.push(openSync('/dev/null')); } catch {}
      filled.splice(0, 5).forEach(closeSync);
      const { code } = await receiving.catch((error) => error);
      filled.forEach(closeSync);
      const open = readdirSync('/proc/self/fd').length;
      const again = await fds.receive(${JSON.stringify(path)});
      console.log(code, again.length, readdirSync('/proc/self/fd').length - open);`;
    const limited = 'ulimit -n 100; exec "$0" --input-type=module --eval "$1"';
    const outcome = promisify(execFile)('sh', ['-c', limited, process.execPath, receiver], {
      cwd: root,
      timeout: 10_000,
    });
    await until(() => existsSync(path));
    await expect(fds.send(path, Array(20).fill(0))).rejects.toThrow(code('ECONNABORTED'));
    await fds.send(path, [0, 0]);
    expect(await outcome).toEqual({ stdout: 'EMFILE 2 2\n', stderr: '' });
  });

  test('descriptors that are not open are EBADF at once, and a receiver waits on', async () => {
    await leavingNothing(async () => {
      await expect(fds.send(path, [0, 2 ** 31 - 1])).rejects.toThrow(code('EBADF'));
      const receiving = fds.receive(path);
      await expect(fds.send(path, [0, 2 ** 31 - 1])).rejects.toThrow(code('EBADF'));
      await fds.send(path, [0]);
      closeAll(await receiving);
    });
  });

  test.each([
    ['no list', 5, 'ERR_INVALID_ARG_TYPE'],
    ['an Int32Array', new Int32Array(1), 'ERR_INVALID_ARG_TYPE'],
    ['none', [], 'ERR_OUT_OF_RANGE'],
    ['254', Array(254).fill(0), 'ERR_OUT_OF_RANGE'],
    ['a negative one', [0, -1], 'ERR_OUT_OF_RANGE'],
    ['a file handle', [{ fd: 0 }], 'ERR_INVALID_ARG_TYPE'],
  ])('%s as descriptors', async (_what, bad, expected) => {
    await expect(fds.send(path, bad as number[])).rejects.toThrow(code(expected));
  });

  test.each<[unknown, string]>([
    [5, 'ERR_INVALID_ARG_TYPE'],
    ['', 'ERR_OUT_OF_RANGE'],
    [`/tmp/${'x'.repeat(103)}`, 'ERR_OUT_OF_RANGE'],
    [`/tmp/${'ü'.repeat(52)}`, 'ERR_OUT_OF_RANGE'],
    ['\0abstract', 'ERR_INVALID_ARG_VALUE'],
  ])('the path %j is %s', async (bad, expected) => {
    await expect(fds.receive(bad as string)).rejects.toThrow(code(expected));
    await expect(fds.send(bad as string, [0])).rejects.toThrow(code(expected));
  });

  test('a path of 107 bytes is not', async () => {
    const long = join(directory, 'x'.repeat(106 - directory.length));
    expect(long).toHaveLength(107);
    const [received] = await Promise.all([fds.receive(long), fds.send(long, [0])]);
    closeAll(received);
  });

  test('a receiver needs its directory', async () => {
    await expect(fds.receive(join(directory, 'none/socket'))).rejects.toThrow(code('ENOENT'));
    writeFileSync(path, '');
    await expect(fds.receive(join(path, 'socket'))).rejects.toThrow(code('ENOTDIR'));
  });

  test.each<[unknown, string]>([
    [5, 'ERR_INVALID_ARG_TYPE'],
    [{ timeout: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ timeout: 2 ** 31 }, 'ERR_OUT_OF_RANGE'],
    [{ timeout: '5' }, 'ERR_INVALID_ARG_TYPE'],
    [{ signal: {} }, 'ERR_INVALID_ARG_TYPE'],
    [{ mode: 0o666 }, 'ERR_INVALID_ARG_VALUE'],
  ])('the options %j are %s', async (bad, expected) => {
    await expect(fds.receive(path, bad as PassOptions)).rejects.toThrow(code(expected));
    await expect(fds.send(path, [0], bad as PassOptions)).rejects.toThrow(code(expected));
  });
});
