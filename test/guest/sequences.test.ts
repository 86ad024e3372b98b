/**
 * A thousand random sequences of what a program may do with memory (`sequences.ts`): no wrong type, no complaint of the
 * kernel, and no memory lost. IOSPACE_SEED repeats a run, whose seed is its name.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { eventually } from './children.js';
import { counters, findEdu, memFree, NOTHING } from './edu.js';
import { seed } from './random.js';

const COUNT = 1000;

/** What else a machine does meanwhile with its memory. */
const NOISE = 4 << 20;

/** Bytes of the tables that the kernel's map of all memory has for small pages; each of 4 KiB maps 2 MiB. */
function linearTables(): number {
  const [, kilobytes = '0'] = /^DirectMap4k:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? [];
  return (Number(kilobytes) / 2048) * 4096;
}

function patLines(): string[] {
  const { stdout } = spawnSync('dmesg', { encoding: 'utf8', maxBuffer: 1 << 26 });
  return stdout.split('\n').filter((line) => line.includes('x86/PAT'));
}

/** Free, once caches are dropped. */
function free(): number {
  writeFileSync('/proc/sys/vm/drop_caches', '3');
  return memFree();
}

test(`${COUNT} sequences, IOSPACE_SEED=${seed}`, async () => {
  const program = fileURLToPath(new URL('sequences.js', import.meta.url));
  const [said, tables, before] = [patLines(), linearTables(), free()];
  const { status } = spawnSync(process.execPath, [program, String(seed), String(COUNT)], {
    stdio: 'inherit',
  });
  assert.equal(status, 0);

  assert.deepEqual(counters(findEdu().name), NOTHING);
  assert.deepEqual(patLines(), said);
  const kept = linearTables() - tables;
  assert.ok(
    await eventually(() => free() >= before - kept - NOISE),
    `${before} bytes were free, ${free()} are, and ${kept} are page tables`,
  );
});
