import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test, vi } from 'vitest';
import { tool } from '../../../lib/lab/tools.js';

test('a tool gives what it wrote', async () => {
  expect(await tool('echo', ['a b'])).toBe('a b\n');
});

test('a tool that is not there is named, and so is its package', async () => {
  await expect(tool('no-such-tool', [])).rejects.toMatchObject({
    code: 'ERR_IOSPACE_LAB_MISSING',
    message: 'no-such-tool is missing',
  });
});

test('a tool that fails tells why', async () => {
  await expect(tool('sh', ['-c', 'echo why >&2; exit 127'])).rejects.toMatchObject({
    code: 'ERR_IOSPACE_LAB_BUILD',
    message: expect.stringMatching(/failed:\nwhy$/),
  });
});

test('a tool that is aborted ends', async () => {
  const aborted = tool('sleep', ['600'], { signal: AbortSignal.timeout(50) });
  await expect(aborted).rejects.toMatchObject({ code: 'ABORT_ERR' });
});

test('a tool ends with the process that runs it, however that ends', async () => {
  const tools = fileURLToPath(new URL('../../../build/lib/lab/tools.js', import.meta.url));
  // The tool is a child of that process, and writes nothing until it ends: its parent's list of children has it.
  const script = `
    import { readFileSync } from 'node:fs';
    import { tool } from ${JSON.stringify(tools)};
    tool('sleep', ['600']);
    console.log(readFileSync('/proc/thread-self/children', 'utf8'));`;
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [text] = await once(parent.stdout, 'data');
  const child = `/proc/${Number(text)}`;
  await vi.waitFor(async () => expect(await tool('cat', [`${child}/cmdline`])).toMatch(/^sleep/));
  parent.kill('SIGKILL');
  await vi.waitFor(() => expect(existsSync(child)).toBe(false), 5000);
});
