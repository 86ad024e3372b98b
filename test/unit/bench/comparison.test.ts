/** What has changed between two results, and what is only noise. */
import { expect, test } from 'vitest';
import { compare } from '../../../lib/bench/comparison.js';
import { comparisonText } from '../../../lib/cli/bench-text.js';
import { board, figure, MiB, resultOf } from './results.js';

const one = (median: number, spread?: number) => figure('js-read', 'cached', 4096, median, spread);

test.each([
  [one(100), one(100), 'same'],
  [one(100), one(50), 'faster'],
  [one(100), one(300), 'slower'],
  // Steady, and less than what another run of the same program differs by.
  [one(100, 0.001), one(104, 0.001), 'same'],
  [one(100, 0.001), one(106, 0.001), 'slower'],
  // Far apart, but what is in between belongs to both.
  [one(100, 0.3), one(150, 0.3), 'same'],
])('%o, then %o', (before, after, verdict) => {
  const { changes } = compare(resultOf([before]), resultOf([after]));
  expect(changes).toMatchObject([{ verdict, ratio: after.median / before.median }]);
});

test('cases are found by operation, type and size; what is on one side only is told', () => {
  const before = resultOf([
    one(100),
    figure('js-read', 'uncached', 4096, 1),
    figure('js-read', 'cached', 8192, 1),
  ]);
  const after = resultOf([figure('js-sum', 'cached', 4096, 1), one(200)]);
  const { changes, onlyBefore, onlyAfter } = compare(before, after);
  expect(changes).toHaveLength(1);
  expect(onlyBefore).toEqual([
    { operation: 'js-read', memory: 'uncached', size: 4096 },
    { operation: 'js-read', memory: 'cached', size: 8192 },
  ]);
  expect(onlyAfter).toEqual([{ operation: 'js-sum', memory: 'cached', size: 4096 }]);
});

test('another machine is told of', () => {
  const { differences } = compare(
    resultOf([], { machine: { ...board, governor: null } }),
    resultOf([], { machine: { ...board, cpu: 'Cortex-A53' } }),
  );
  expect(differences).toEqual([
    { what: 'cpu', before: 'Cortex-A9', after: 'Cortex-A53' },
    { what: 'governor', before: 'null', after: 'performance' },
  ]);
});

test('times are not compared with instructions', () => {
  expect(() => compare(resultOf([], { unit: 'instructions' }), resultOf([]))).toThrow(
    expect.objectContaining({
      code: 'ERR_INVALID_ARG_VALUE',
      message: expect.stringMatching(/in ns.*got 'instructions'/),
    }),
  );
});

test('in words: the greatest change first, and how many there are', () => {
  const before = resultOf([
    one(1000),
    figure('js-sum', 'cached', 4096, 1000),
    figure('js-fill', 'cached', 4096, 1000),
  ]);
  const after = resultOf([
    one(800),
    figure('js-sum', 'cached', 4096, 4000),
    figure('js-fill', 'cached', 4096, 1000),
  ]);
  const lines = comparisonText(compare(before, after), after).split('\n');
  expect(lines[1]).toMatch(/^js-sum .* 4\.10 GB\/s +1\.02 GB\/s +4\.0 times slower$/);
  expect(lines[2]).toMatch(/^js-read .* 1\.3 times faster$/);
  expect(lines[3]).toMatch(/^compared: 2 of 3 have changed/);
});

test('figures that were not steady are marked, before and now', () => {
  const before = resultOf([figure('js-read', 'cached', MiB, 1000, 0.1)]);
  const after = resultOf([figure('js-read', 'cached', MiB, 2000)]);
  expect(comparisonText(compare(before, after), after)).toMatch(/ GB\/s\* +524 GB\/s +2\.0 times slower/);
});
