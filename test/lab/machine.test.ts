/**
 * The lab itself, on `pc` and without the kernel module: what a program in the machine gets, what its caller
 * learns, and that nothing stays behind.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type BootOptions, Machine } from '../../lib/lab/index.js';

const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const scratch = realpathSync(mkdtempSync(join(tmpdir(), 'iospace-lab-test-')));
afterAll(() => rmSync(scratch, { recursive: true }));

const bare: BootOptions = { machine: 'pc', loadModule: false };

/** Whether a process is there and has not ended. */
function isAlive(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

async function untilGone(pid: number | undefined): Promise<void> {
  for (let tries = 0; pid !== undefined && isAlive(pid) && tries < 50; tries++) {
    await delay(100);
  }
  expect(pid === undefined || isAlive(pid)).toBe(false);
}

describe('a machine', () => {
  let machine: Machine;
  const socket = join(scratch, 'monitor');

  beforeAll(async () => {
    machine = await Machine.boot({ ...bare, mounts: [root, `${scratch}:/data:rw`], monitor: socket });
  });
  afterAll(() => machine?.close());

  const shell = (script: string, options = {}) => machine.run(['sh', '-c', script], options);

  test('says what it is', () => {
    expect(machine.description).toMatch(/^pc: Linux 6\.1\.\S+, Node \d+$/);
    expect(machine.bootSeconds).toBeGreaterThan(0);
  });

  test('runs Node', async () => {
    const result = await machine.run(['node', '-p', 'process.arch']);
    expect(result).toMatchObject({ code: 0, signal: null, stdout: 'x64\n', stderr: '' });
  });

  test.each([0, 1, 42, 255])('exit code %i is the exit code', async (code) => {
    expect(await shell(`exit ${code}`)).toMatchObject({ code, signal: null });
  });

  test('a signal is 128 and its number', async () => {
    expect(await shell('kill -SEGV $$')).toMatchObject({ code: 139, signal: 'SIGSEGV' });
  });

  test('a program that is not there is 127, one that cannot be run 126, and stderr says so', async () => {
    expect(await machine.run(['nothing'])).toMatchObject({
      code: 127,
      stderr: expect.stringContaining('nothing'),
    });
    expect(await machine.run(['/root'])).toMatchObject({ code: 126 });
    expect(await machine.run(['true'], { cwd: '/none' })).toMatchObject({ code: 127 });
  });

  test('arguments arrive as they are', async () => {
    const words = ['', 'a b', '"', '$HOME', '\n', 'ü'];
    const { stdout } = await machine.run([
      'node',
      '-p',
      'JSON.stringify(process.argv.slice(1))',
      '--',
      ...words,
    ]);
    expect(JSON.parse(stdout)).toEqual(words);
  });

  test('no command at all is refused', async () => {
    await expect(machine.run([])).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    await expect(machine.run(['a\0b'])).rejects.toThrow(TypeError);
  });

  test('the environment is the chosen one', async () => {
    const { stdout } = await shell('env', { env: { CHOSEN: 'a=b c', HOME: '/tmp' } });
    const names = stdout.trim().split('\n');
    expect(names).toEqual(expect.arrayContaining(['CHOSEN=a=b c', 'HOME=/tmp', 'USER=root']));
    expect(names.map((line) => line.split('=')[0])).not.toContain('npm_config_cache');
  });

  test('it starts in our directory, or in the one that is named', async () => {
    expect((await shell('pwd')).stdout).toBe(`${root}\n`);
    expect((await shell('pwd', { cwd: '/tmp' })).stdout).toBe('/tmp\n');
  });

  test('stdin arrives: text, bytes, a stream, nothing', async () => {
    expect((await machine.run(['cat'], { stdin: 'text' })).stdout).toBe('text');
    expect((await machine.run(['cat'], { stdin: Uint8Array.of(65, 66) })).stdout).toBe('AB');
    expect((await machine.run(['cat'], { stdin: Readable.from(['one ', 'two']) })).stdout).toBe('one two');
    expect((await machine.run(['cat'])).stdout).toBe('');
  });

  test('stdin larger than every buffer arrives whole, and slowly read stdin does not stop others', async () => {
    const stdin = Buffer.alloc(1 << 20, 'x');
    const slow = shell('sleep 1; wc -c', { stdin });
    expect((await machine.run(['echo', 'meanwhile'])).stdout).toBe('meanwhile\n');
    expect((await slow).stdout).toBe(`${1 << 20}\n`);
  });

  test('stdin that nobody reads is no error', async () => {
    expect(await machine.run(['true'], { stdin: Buffer.alloc(1 << 20) })).toMatchObject({ code: 0 });
    expect(await shell('exec <&-; sleep 0.2; exit 5', { stdin: Buffer.alloc(1 << 20) })).toMatchObject({
      code: 5,
    });
  });

  test('a megabyte of stdout and one of stderr arrive apart and whole', async () => {
    const script =
      'head -c 1048576 /dev/zero | tr "\\0" o & head -c 1048576 /dev/zero | tr "\\0" e >&2; wait';
    const { stdout, stderr } = await shell(script);
    expect([stdout.length, stderr.length]).toEqual([1 << 20, 1 << 20]);
    expect([stdout.replaceAll('o', ''), stderr.replaceAll('e', '')]).toEqual(['', '']);
  });

  test('output is streamed', async () => {
    let first: (() => void) | undefined;
    const seen = new Promise<void>((resolve) => {
      first = resolve;
    });
    const running = shell('echo first; read line; echo "$line"', {
      stdin: (async function* () {
        await seen;
        yield 'second\n';
      })(),
      onStdout: () => first?.(),
    });
    expect(await running).toMatchObject({ code: 0, stdout: '' });
  });

  test('commands run at the same time', async () => {
    await shell('mkfifo /tmp/there /tmp/back');
    const results = await Promise.all([
      shell('echo one > /tmp/there; cat /tmp/back; exit 1', { timeout: 60 }),
      shell('cat /tmp/there; echo two > /tmp/back; exit 2', { timeout: 60 }),
    ]);
    expect(results.map(({ code, stdout }) => [code, stdout])).toEqual([
      [1, 'two\n'],
      [2, 'one\n'],
    ]);
  });

  test('what a command leaves in the background does not hold it', async () => {
    expect(await shell('sleep 600 & echo done')).toMatchObject({ code: 0, stdout: 'done\n' });
  });

  test('SIGINT reaches a command and its children', async () => {
    const child = `sh -c 'trap "exit 3" INT; echo up; while :; do sleep 0.1; done'`;
    let stdout = '';
    const running = shell(`trap : INT; ${child}; exit $((4 + $?))`, {
      onStdout: (bytes: Buffer) => {
        stdout += bytes;
        machine.kill('SIGINT');
      },
      timeout: 60,
    });
    expect(await running).toMatchObject({ code: 7 });
    expect(stdout).toBe('up\n');
  });

  test('a command that takes too long is killed; the machine goes on', async () => {
    await expect(shell('sleep 602', { timeout: 0.5 })).rejects.toMatchObject({
      code: 'ERR_IOSPACE_LAB_TIMEOUT',
    });
    expect((await shell('ps')).stdout).not.toContain('sleep 602');
  });

  test('a command that is aborted is killed; the machine goes on', async () => {
    const signal = AbortSignal.timeout(300);
    await expect(shell('sleep 601', { signal })).rejects.toMatchObject({ code: 'ABORT_ERR' });
    expect((await shell('ps')).stdout).not.toContain('sleep 601');
  });

  test('what the kernel logs meanwhile is in the result', async () => {
    const { kernelLog } = await shell('echo "<6>hello from the test" > /dev/kmsg');
    expect(kernelLog).toContain('hello from the test');
    expect((await machine.run(['true'])).kernelLog).not.toContain('hello from the test');
  });

  test('mounts are read-only', async () => {
    const { code, stderr } = await shell('echo x > lab-test-file');
    expect([code, stderr]).toEqual([1, expect.stringContaining('Read-only')]);
    expect(existsSync(join(root, 'lab-test-file'))).toBe(false);
  });

  test('rw mounts are written, and what the host changes is seen', async () => {
    expect(await shell('echo from the guest > /data/file')).toMatchObject({ code: 0 });
    expect(readFileSync(join(scratch, 'file'), 'utf8')).toBe('from the guest\n');
    writeFileSync(join(scratch, 'file'), 'from the host');
    expect((await shell('cat /data/file')).stdout).toBe('from the host');
  });

  test("import 'iospace' resolves from anywhere", async () => {
    const script = 'console.log(import.meta.resolve("iospace"))';
    const { stdout } = await machine.run(['node', '--input-type=module', '-e', script], { cwd: '/tmp' });
    expect(stdout).toBe(`file://${root}/dist/index.js\n`);
  });

  test('the monitor answers, to us and on its socket', async () => {
    expect(await machine.monitor('info status')).toContain('running');
    const client = connect(socket).setEncoding('utf8');
    let answer = '';
    client.on('data', (text: string) => {
      answer += text;
      if (answer.includes('VM status')) {
        client.destroy();
      }
    });
    client.write('info status\n');
    await once(client, 'close');
    expect(answer).toContain('running');
  });
});

describe('a machine whose kernel fails', () => {
  test('a warning fails the command that ran, and every later one', async () => {
    await using machine = await Machine.boot(bare);
    const warned = machine.run([
      'sh',
      '-c',
      'echo "<4>WARNING: CPU: 0 PID: 1 at x.c:1 x+0x1/0x2" > /dev/kmsg',
    ]);
    await expect(warned).rejects.toMatchObject({
      code: 'ERR_IOSPACE_LAB_KERNEL',
      message: /x\.c:1[\s\S]*last lines/,
    });
    await expect(machine.run(['true'])).rejects.toMatchObject({ code: 'ERR_IOSPACE_LAB_KERNEL' });
  });

  test('a crash fails all that ran, and QEMU ends', async () => {
    await using machine = await Machine.boot(bare);
    const other = expect(machine.run(['sleep', '600'])).rejects.toMatchObject({
      code: 'ERR_IOSPACE_LAB_KERNEL',
    });
    const crashed = machine.run(['sh', '-c', 'echo c > /proc/sysrq-trigger'], { timeout: 60 });
    await expect(crashed).rejects.toMatchObject({
      code: 'ERR_IOSPACE_LAB_KERNEL',
      kernelLog: expect.stringContaining('sysrq'),
    });
    await other;
    await machine.close();
    await untilGone(machine.pid);
  });
});

describe('nothing stays behind', () => {
  test('when QEMU is killed', async () => {
    await using machine = await Machine.boot(bare);
    const running = machine.run(['sleep', '600']);
    process.kill(machine.pid as number, 'SIGKILL');
    await expect(running).rejects.toMatchObject({ code: 'ERR_IOSPACE_LAB_QEMU', message: /SIGKILL/ });
  });

  test('when the machine switches itself off', async () => {
    await using machine = await Machine.boot(bare);
    await expect(machine.run(['poweroff', '-f'])).rejects.toMatchObject({ code: 'ERR_IOSPACE_LAB_QEMU' });
  });

  test('when it is closed, twice, with a command that runs', async () => {
    const machine = await Machine.boot(bare);
    const running = expect(machine.run(['sleep', '600'])).rejects.toMatchObject({
      code: 'ERR_INVALID_STATE',
    });
    await Promise.all([machine.close(), machine.close()]);
    await running;
    await untilGone(machine.pid);
    await expect(machine.run(['true'])).rejects.toMatchObject({ code: 'ERR_INVALID_STATE' });
  });

  test('when a boot takes too long, or its machine cannot be', async () => {
    await expect(Machine.boot({ ...bare, timeout: 0.2 })).rejects.toMatchObject({
      code: 'ERR_IOSPACE_LAB_TIMEOUT',
    });
    await expect(Machine.boot({ ...bare, devices: ['no-such-device'] })).rejects.toMatchObject({
      code: 'ERR_IOSPACE_LAB_QEMU',
      message: /no-such-device/,
    });
  });

  test('when the signal of the boot aborts', async () => {
    const abort = new AbortController();
    const machine = await Machine.boot({ ...bare, signal: abort.signal });
    const running = expect(machine.run(['sleep', '600'])).rejects.toMatchObject({ code: 'ABORT_ERR' });
    abort.abort();
    await running;
    await untilGone(machine.pid);
  });

  test('when the signal aborts before QEMU has started', async () => {
    const abort = new AbortController();
    const onProgress = (message: string) => message.startsWith('booting') && abort.abort();
    await expect(Machine.boot({ ...bare, signal: abort.signal, onProgress })).rejects.toMatchObject({
      code: 'ABORT_ERR',
    });
  });

  test('when the process that booted it is killed', async () => {
    const script = `
      import { Machine } from ${JSON.stringify(`${root}/dist/lab/index.js`)};
      const machine = await Machine.boot({ machine: 'pc', loadModule: false });
      console.log(machine.pid);
      await machine.run(['sleep', '600']);`;
    const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [pid] = await once(parent.stdout, 'data');
    expect(isAlive(Number(pid))).toBe(true);
    parent.kill('SIGKILL');
    await untilGone(Number(pid));
  });
});

describe('iospace lab run', () => {
  /** Runs the command; `onOutput` is called once its first output has come. */
  async function lab(
    args: string[],
    { stdin = '', onOutput }: { stdin?: string; onOutput?: (pid: number) => void } = {},
  ) {
    const child = spawn(process.execPath, [join(root, 'dist/cli/main.js'), 'lab', 'run', ...args], {
      cwd: root,
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      onOutput?.(child.pid as number);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.stdin.end(stdin);
    const [code] = await once(child, 'close');
    return { code, stdout, stderr };
  }

  test('passes stdin, environment, streams and exit code, and reports in JSON', async () => {
    const script = 'cat; echo "$WORD" >&2; exit 9';
    const args = ['--no-module', '--json', '--env', 'WORD=chosen', '--', 'sh', '-c', script];
    const { code, stdout, stderr } = await lab(args, { stdin: 'input\n' });
    expect(code).toBe(9);
    const [first, last] = stdout.trim().split('\n');
    expect(first).toBe('input');
    expect(JSON.parse(last ?? '')).toEqual({
      machine: 'pc',
      kernel: expect.stringMatching(/^6\.1\./),
      bootSeconds: expect.any(Number),
      exitCode: 9,
    });
    expect(stderr).toContain('\nchosen\n');
  });

  test('passes the first SIGINT to the program', async () => {
    const script =
      'process.on("SIGINT", () => process.exit(7)); setInterval(() => {}, 1000); console.log("up")';
    const { code } = await lab(['--no-module', '--', 'node', '-e', script], {
      onOutput: (pid) => process.kill(pid, 'SIGINT'),
    });
    expect(code).toBe(7);
  });

  test('ends the machine at the second SIGINT', async () => {
    const script =
      'process.on("SIGINT", () => console.log("no")); setInterval(() => {}, 1000); console.log("up")';
    const { code, stderr } = await lab(['--no-module', '--', 'node', '-e', script], {
      onOutput: (pid) => process.kill(pid, 'SIGINT'),
    });
    expect([code, stderr]).toEqual([125, expect.stringContaining('aborted')]);
  });

  test('ends with 125 where the lab fails', async () => {
    const args = ['--no-module', '--json', '--timeout', '0.5', '--', 'sleep', '600'];
    const { code, stdout, stderr } = await lab(args);
    expect([code, stderr]).toEqual([125, expect.stringContaining('the command took longer than 0.5 s')]);
    expect(JSON.parse(stdout)).toMatchObject({
      exitCode: 125,
      error: { code: 'ERR_IOSPACE_LAB_TIMEOUT', message: expect.stringContaining('0.5 s') },
    });
  });

  test.each([
    ['an option', ['--no-such', '--json', '--', 'true'], "unknown option '--no-such'"],
    ['a value', ['--json', '--machine', 'apple1', '--', 'true'], "'apple1' is invalid"],
    ['no command', ['--json'], "missing required argument 'command'"],
  ])('ends with 125 where %s is wrong, and says so in JSON too', async (_what, args, message) => {
    const { code, stdout, stderr } = await lab(args);
    expect([code, stderr]).toEqual([125, expect.stringContaining(message)]);
    expect(JSON.parse(stdout)).toEqual({
      exitCode: 125,
      error: { code: 'ERR_INVALID_ARG_VALUE', message: expect.stringContaining(message) },
    });
  });
});
