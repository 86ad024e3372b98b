/** Results as JSON: what is read back, and what is refused. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkResult, makeResult, readResult } from '../../../lib/bench/result.js';
import { board, boardResult, figure, resultOf } from './results.js';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'iospace-bench-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

function file(text: string): string {
  const path = join(directory, 'result.json');
  writeFileSync(path, text);
  return path;
}

/** The result with something else in it. */
const changed = (change: object): unknown => ({ ...JSON.parse(JSON.stringify(boardResult)), ...change });

test('what was written is what is read', () => {
  expect(readResult(file(JSON.stringify(boardResult)))).toEqual(boardResult);
});

test('times of an emulated machine are without meaning, counts of instructions are not', () => {
  const machine = { ...board, emulated: 'iospace lab' };
  expect(resultOf([], { machine }).meaningless).toBe(true);
  expect(resultOf([], { machine, unit: 'instructions' }).meaningless).toBe(false);
  expect(makeResult({ ...boardResult, machine: board }).meaningless).toBe(false);
});

test('a file that is not there is what Node says of it', () => {
  expect(() => readResult(join(directory, 'none.json'))).toThrow(expect.objectContaining({ code: 'ENOENT' }));
});

describe('refused, with the name of the file', () => {
  test.each<[string, string]>([
    ['nothing', ''],
    ['no JSON', 'cached 4 KiB'],
    ['half of a file', JSON.stringify(boardResult).slice(0, 500)],
    ['null', 'null'],
    ['a list', '[]'],
    ['something else', '{"format":"something else","version":1}'],
  ])('%s', (_, text) => {
    expect(() => readResult(file(text))).toThrow(
      /result\.json: expected what iospace bench --json has written/,
    );
  });

  test.each<[object, RegExp]>([
    [{ version: 2 }, /expected version 1 .*measure again.*got 2/],
    [{ version: '1' }, /expected version 1/],
    [{ version: undefined }, /expected version 1/],
    [{ unit: 's' }, /expected result\.unit: ns or instructions, got 's'/],
    [{ startedAt: undefined }, /expected result\.startedAt: a string/],
    [{ seconds: 'long' }, /expected result\.seconds/],
    [{ machine: { ...board, cpu: undefined } }, /expected machine\.cpu: a string, got undefined/],
    [{ machine: { ...board, cpu: {} } }, /expected machine\.cpu/],
    [{ machine: { ...board, board: 7 } }, /expected machine\.board: a string, or null/],
    [{ machine: { ...board, caches: [null] } }, /expected caches: an object, got null/],
    [{ machine: { ...board, caches: [{ level: 1 }] } }, /expected caches\.type/],
    [
      { machine: { ...board, cacheMaintenance: [{}] } },
      /expected machine\.cacheMaintenance: a list, each a string/,
    ],
    [{ measurements: [null] }, /expected measurements: an object, got null/],
    [{ measurements: Array(10_001).fill(figure('js-read', 'cached', 4096, 1)) }, /a list of at most 10000/],
    [{ measurements: [figure('js-read', 'cached', null, 1)] }, /js-read with memory and size/],
    [{ measurements: [figure('interrupt-poll', 'cached', 4096, 1)] }, /interrupt-poll without memory/],
    [{ skipped: [null] }, /expected skipped: an object, got null/],
    [
      { skipped: [{ operation: 'map', memory: 'cached', size: 4096, reason: {} }] },
      /expected skipped\.reason/,
    ],
    [{ measurements: {} }, /expected measurements: a list/],
    [{ skipped: null }, /expected skipped: a list/],
    [{ machine: null }, /expected machine/],
    [
      { measurements: [{ ...figure('js-read', 'cached', 4096, 1), median: 'fast' }] },
      /expected measurements/,
    ],
    [{ measurements: [{ ...figure('js-read', 'cached', 4096, 1), median: -1 }] }, /expected measurements/],
    [{ measurements: [{ ...figure('js-read', 'cached', 4096, 1), size: 0.5 }] }, /expected measurements/],
    [
      { measurements: [{ ...figure('js-read', 'cached', 4096, 1), memory: 'fast' }] },
      /expected measurements/,
    ],
  ])('%o', (change, message) => {
    const path = 'old.json';
    expect(() => checkResult(path, changed(change))).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE', message: expect.stringMatching(message) }),
    );
    expect(() => checkResult(path, changed(change))).toThrow(/^old\.json: /);
  });
});

test('an operation that only a newer version has is left out', () => {
  const newer = { ...figure('js-read', 'cached', 4096, 1), operation: 'quantum-read' };
  const { measurements } = checkResult(
    'new.json',
    changed({ measurements: [newer, figure('js-sum', 'cached', 4096, 1)] }),
  );
  expect(measurements.map(({ operation }) => operation)).toEqual(['js-sum']);
});

test('nothing else than what has a meaning is kept, however deep it is', () => {
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
  const text = JSON.stringify(boardResult).replaceAll(
    /("cpu"|"quick"|"stable"|"level"):/g,
    `"more":${deep},$1:`,
  );
  expect(readResult(file(text))).toEqual(boardResult);
});
