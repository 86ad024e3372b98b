/** `iospace bench` as a program: what it prints and how it ends. Needs `npm run build`. */
import { spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { makePlan } from '../../../lib/bench/plan.js';
import { checkResult } from '../../../lib/bench/result.js';
import { runPlan } from '../../../lib/bench/run.js';
import { DmaDevice } from '../../../lib/device/device.js';
import { boardResult, figure, KiB, resultOf } from './results.js';

// Each starts a program, and some of them measure.
vi.setConfig({ testTimeout: 60_000 });

const main = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'iospace-bench-'));
  writeFileSync(join(directory, 'board.json'), JSON.stringify(boardResult));
  writeFileSync(join(directory, 'counts.json'), JSON.stringify({ ...boardResult, unit: 'instructions' }));
  writeFileSync(join(directory, 'next.json'), JSON.stringify({ ...boardResult, version: 2 }));
});
afterAll(() => rmSync(directory, { recursive: true }));

function bench(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [main, 'bench', ...args], {
    cwd: directory,
    encoding: 'utf8',
    maxBuffer: 1 << 24,
  });
}

describe('measures', () => {
  test('a table of what was asked for, which names the machine', () => {
    const { status, stdout } = bench('--provider', 'memfd', '--quick', '--filter', 'js-copy-in,4K');
    expect(stdout).toMatch(/^processor +\S/);
    expect(stdout).toMatch(/\nkernel .*\nNode +v\d+.*\ndevice +memfd, no module: cached memory only\n/);
    expect(stdout).toMatch(/\ncached +4 KiB +spread\njs-copy-in +[\d.]+ [MG]B\/s\*? +±<?\d+ %\n/);
    expect(status).toBe(0);
  });

  test('as JSON, every operation that this machine can do; and why it cannot do the rest', () => {
    const { status, stdout } = bench('--provider', 'memfd', '--quick', '--json', '--filter', '4K');
    const result = checkResult('stdout', JSON.parse(stdout));
    expect(result).toMatchObject({ complete: true, quick: true, unit: 'ns', meaningless: false });
    const names = [...result.measurements, ...result.skipped].map(({ operation }) => operation);
    const plan = makePlan({ memory: ['cached'], filter: '4K' });
    expect(names.sort()).toEqual(plan.map(({ operation }) => operation).sort());
    expect(result.skipped).toMatchObject([
      {
        operation: 'map',
        memory: 'cached',
        size: 4 * KiB,
        reason: expect.stringMatching(/^EOPNOTSUPP.*memfd/),
      },
    ]);
    for (const { least, low, median, high, most } of result.measurements) {
      expect([least, low, median, high, most]).toEqual(
        [least, low, median, high, most].sort((a, b) => a - b),
      );
      expect(median).toBeGreaterThan(0);
    }
    expect(status).toBe(0);
  });
});

test('without other threads it measures what needs none, and ends', () => {
  const preload = join(directory, 'no-threads.cjs');
  writeFileSync(preload, "if (!require('node:worker_threads').isMainThread) throw new Error('no threads');");
  const args = ['--provider', 'memfd', '--quick', '--json', '--filter', 'interrupt'];
  const { status, stdout } = spawnSync(process.execPath, ['--require', preload, main, 'bench', ...args], {
    encoding: 'utf8',
    timeout: 30_000,
    killSignal: 'SIGKILL',
  });
  expect(status).toBe(0);
  const { measurements, skipped } = checkResult('stdout', JSON.parse(stdout));
  expect(measurements.map(({ operation }) => operation)).toEqual([
    'interrupt-rate-poll',
    'interrupt-rate-read',
  ]);
  expect(skipped).toHaveLength(3);
  for (const { reason } of skipped) {
    expect(reason).toMatch(/no other thread can raise events: no threads/);
  }
});

describe('refuses, before anything is measured', () => {
  test.each<[string, string[], RegExp]>([
    ['a filter that says nothing', ['--filter', 'jsread'], /words out of: .*got 'jsread'/],
    ['memory that is not here', ['--filter', 'uncached'], /measured here \(memory: cached\).*got 'uncached'/],
    ['a device with memfd', ['--device', 'iospace7'], /no device with the provider memfd/],
    [
      'to count by a clock that does not',
      ['--counts'],
      /EOPNOTSUPP.*lab run --icount -- node \S+iospace bench --counts/,
    ],
    ['to filter what was measured before', ['--from', 'board.json', '--quick'], /--from <file>.*--quick/],
    ['a comparison with nothing', ['--compare', 'none.json'], /ENOENT.*none\.json/],
    ['one with another version', ['--compare', 'next.json'], /next\.json: expected version 1 .*got 2/],
    ['one with counts', ['--compare', 'counts.json'], /expected a result in ns.*got 'instructions'/],
    ['one with a directory', ['--compare', '.'], /EISDIR.*'\.': name the file in it/],
    ['one with something else', ['--compare', main], /expected what iospace bench --json has written/],
    ['a report in no directory', ['--report', 'none/a.html'], /ENOENT.*'none\/a\.html': its directory/],
    ['a report without a name', ['--report', ''], /the path of a file for --report, got ''/],
    ['a report that is to be a directory', ['--report', 'new/'], /EISDIR.*'new\/': name a file in it/],
    ['a report that is a directory', ['--report', '.'], /EISDIR.*'\.'/],
  ])('%s', (_, args, message) => {
    const { status, stdout, stderr } = bench('--provider', 'memfd', ...args);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    // One line, and no stack.
    expect(stderr).toMatch(/^(?:iospace|error): [^\n]+\n$/);
    expect(stderr).toMatch(message);
  });
});

describe('interrupted', () => {
  test('SIGINT ends it, and what was measured is there', async () => {
    const child = spawn(process.execPath, [main, 'bench', '--provider', 'memfd', '--json'], {
      stdio: 'pipe',
    });
    let stdout = '';
    child.stdout.on('data', (text) => {
      stdout += text;
    });
    // It says so when it begins.
    child.stderr.once('data', () => child.kill('SIGINT'));
    const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
      child.once('close', (...end) => resolve(end));
    });
    expect([code, signal]).toEqual([130, null]);
    const result = checkResult('stdout', JSON.parse(stdout));
    expect(result.complete).toBe(false);
    expect(result.measurements.length).toBeLessThan(makePlan({ memory: ['cached'] }).length);
  });

  test('what was measured before the signal is kept, what was not finished is not', async () => {
    using device = DmaDevice.open({ provider: 'memfd' });
    const stop = new AbortController();
    const plan = makePlan({ memory: ['cached'], filter: 'js-copy-in,js-copy-out,js-fill,4K' });
    const { measurements, complete } = await runPlan({
      device,
      plan,
      signal: stop.signal,
      pinning: undefined,
      quick: true,
      counting: false,
      onCase: (_, done) => done === 2 && stop.abort(),
    });
    expect({ complete, names: measurements.map(({ operation }) => operation) }).toEqual({
      complete: false,
      names: plan.slice(0, 2).map(({ operation }) => operation),
    });
  });

  test('a result that is not whole says so, and is shown', () => {
    writeFileSync(
      join(directory, 'half.json'),
      JSON.stringify(resultOf([figure('js-read', 'cached', 4096, 1000)], { complete: false })),
    );
    const { status, stdout } = bench('--from', 'half.json');
    expect(stdout).toMatch(/Interrupted: not all that was planned is here/);
    expect(stdout).toMatch(/js-read +4\.10 GB\/s/);
    expect(status).toBe(0);
  });
});

describe('what was measured before', () => {
  test('is shown again', () => {
    const { status, stdout } = bench('--from', 'board.json');
    expect(stdout).toMatch(/board +Zynq <ZYBO>/);
    expect(stdout).toMatch(/\nwritecombine +4 KiB +64 KiB +1 MiB +64 MiB +spread\njs-read +70\.0 MB\/s/);
    expect(status).toBe(0);
  });

  test('is compared', () => {
    const { stdout } = bench('--from', 'board.json', '--compare', 'board.json');
    expect(stdout).toMatch(/compared: 0 of \d+ have changed/);
    const { comparison } = JSON.parse(
      bench('--from', 'board.json', '--compare', 'board.json', '--json').stdout,
    );
    expect(comparison.changes).toHaveLength(boardResult.measurements.length);
  });
});

describe('the report', () => {
  test('is one file, and leaves no other', () => {
    const { status, stderr } = bench('--from', 'board.json', '--report', 'report.html');
    expect({ status, stderr }).toEqual({ status: 0, stderr: 'iospace: wrote report.html\n' });
    const page = readFileSync(join(directory, 'report.html'), 'utf8');
    expect(page.slice(0, 15)).toBe('<!DOCTYPE html>');
    expect(readdirSync(directory).filter((name) => name.includes('.tmp'))).toEqual([]);
  });

  test('takes the place of what a link points at, never of the link, which may be /dev/stdout', () => {
    writeFileSync(join(directory, 'real.html'), 'before');
    symlinkSync('real.html', join(directory, 'link.html'));
    const { status } = bench('--from', 'board.json', '--report', 'link.html');
    expect(status).toBe(0);
    expect(readlinkSync(join(directory, 'link.html'))).toBe('real.html');
    expect(readFileSync(join(directory, 'real.html'), 'utf8')).toMatch(/^<!DOCTYPE html>/);
  });

  test('a full disk is ENOSPC, and what was measured is printed instead', () => {
    const { status, stdout, stderr } = bench(
      '--provider',
      'memfd',
      '--quick',
      '--filter',
      'js-fill,4K',
      '--report',
      '/dev/full',
    );
    expect(stderr).toMatch(
      /what was measured is the last line of stdout.*\niospace: ENOSPC[^\n]*'\/dev\/full'[^\n]*\n$/,
    );
    const [table, json = ''] = stdout.split('\n{');
    expect(table).toMatch(/js-fill/);
    expect(checkResult('stdout', JSON.parse(`{${json}`)).measurements).toHaveLength(1);
    expect(status).toBe(1);
  });

  test.each(['--json', '--compare=board.json'])(
    'what cannot be printed (%s) is said, and the report is written all the same',
    (flag) => {
      const full = openSync('/dev/full', 'w');
      const args = ['--from', 'board.json', flag, '--report', 'only.html'];
      const { status, stderr } = spawnSync(process.execPath, [main, 'bench', ...args], {
        cwd: directory,
        encoding: 'utf8',
        stdio: ['ignore', full, 'pipe'],
      });
      closeSync(full);
      expect(stderr).toMatch(/^iospace: wrote only\.html\niospace: ENOSPC[^\n]*\n$/);
      expect(status).toBe(1);
      expect(existsSync(join(directory, 'only.html'))).toBe(true);
      rmSync(join(directory, 'only.html'));
    },
  );

  const mounts = spawnSync('unshare', ['--mount', 'true']).status === 0;
  test.skipIf(!mounts)(
    'a full disk leaves the file as it was, and nothing beside it (skipped without the right to mount)',
    () => {
      const disk = join(directory, 'disk');
      const script = `mkdir -p ${disk} && mount -t tmpfs -o size=64k tmpfs ${disk} && echo before > ${disk}/report.html &&
      { "$@"; echo "code $?"; ls ${disk}; cat ${disk}/report.html; }`;
      const { stdout, stderr } = spawnSync(
        'unshare',
        [
          ...['--mount', 'sh', '-c', script, 'sh', process.execPath, main, 'bench'],
          ...['--json', '--from', join(directory, 'board.json'), '--report', join(disk, 'report.html')],
        ],
        { encoding: 'utf8' },
      );
      expect(stderr).toMatch(/ENOSPC/);
      expect(stdout).toMatch(/\ncode 1\nreport\.html\nbefore\n$/);
      expect(existsSync(join(disk, 'report.html'))).toBe(false);
    },
  );

  test.skipIf(!mounts)(
    'a full disk under stdout is an error, never half a result without a word (skipped without the right to mount)',
    () => {
      const disk = join(directory, 'stdout');
      // A page is left of the disk: less than the result, more than nothing.
      const script = `mkdir -p ${disk} && mount -t tmpfs -o size=64k tmpfs ${disk} && head -c 61440 /dev/zero > ${disk}/other &&
      { "$@" > ${disk}/result.json; echo "code $?"; }`;
      const { stdout, stderr } = spawnSync(
        'unshare',
        [
          ...['--mount', 'sh', '-c', script, 'sh', process.execPath, main, 'bench'],
          ...['--json', '--from', join(directory, 'board.json')],
        ],
        { encoding: 'utf8' },
      );
      expect(stderr).toMatch(/^iospace: ENOSPC[^\n]*'stdout': send the output elsewhere[^\n]*\n$/);
      expect(stdout).toBe('code 1\n');
    },
  );

  test('who reads only the first line has it, and nothing is wrong', () => {
    const script = '"$@" | head -n 1';
    const command = [process.execPath, main, 'bench', '--from', 'board.json'];
    const { stdout, stderr } = spawnSync('sh', ['-c', script, 'sh', ...command], {
      cwd: directory,
      encoding: 'utf8',
    });
    expect({ stdout, stderr }).toEqual({ stdout: expect.stringMatching(/^processor .*\n$/), stderr: '' });
  });
});
