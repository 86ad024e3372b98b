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
    [{ unit: 's' }, /expected unit/],
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
