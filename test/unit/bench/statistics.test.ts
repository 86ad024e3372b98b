/** What samples say: the middle, the spread, whether it is enough. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isApart, quantile, spread, summarize, uncertainty } from '../../../lib/bench/statistics.js';

test.each([
  [[7], 0.5, 7],
  [[1, 2], 0.5, 1.5],
  [[1, 2, 3], 0.5, 2],
  [[1, 2, 3, 4], 0.25, 1.75],
  [[1, 2, 3, 4], 0, 1],
  [[1, 2, 3, 4], 1, 4],
])('of %j the quantile %d is %d', (sorted, share, value) => {
  expect(quantile(sorted, share)).toBeCloseTo(value, 12);
});

test('a summary does not depend on the order of the samples, and leaves them alone', () => {
  const samples = [5, 1, 4, 2, 3];
  expect(summarize(samples)).toEqual({ median: 3, low: 2, high: 4, least: 1, most: 5, samples: 5 });
  expect(samples).toEqual([5, 1, 4, 2, 3]);
});

test('a summary is in order, and inside of its samples', () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 1e12, noNaN: true }), { minLength: 1 }), (samples) => {
      const { least, low, median, high, most } = summarize(samples);
      expect([least, low, median, high, most]).toEqual(
        [least, low, median, high, most].sort((a, b) => a - b),
      );
      expect([least, most]).toEqual([Math.min(...samples), Math.max(...samples)]);
    }),
  );
});

test('one sample that took long moves neither the median nor the quartiles by much', () => {
  const calm = summarize(Array(20).fill(100));
  const disturbed = summarize([...Array(19).fill(100), 1e6]);
  expect(disturbed).toMatchObject({ median: calm.median, low: calm.low, high: calm.high });
});

describe('spread and uncertainty', () => {
  const summary = { median: 100, low: 90, high: 110, least: 1, most: 1000, samples: 25 };
  test('the spread is half the distance of the quartiles', () => {
    expect(spread(summary)).toBeCloseTo(0.1, 12);
  });
  test('the uncertainty falls with the root of the number of samples', () => {
    expect(uncertainty(summary)).toBeCloseTo((1.57 * 20) / 5 / 100, 12);
    expect(uncertainty({ ...summary, samples: 100 })).toBeCloseTo(uncertainty(summary) / 2, 12);
  });
  test('of what takes no time both are 0', () => {
    const nothing = { median: 0, low: 0, high: 0, least: 0, most: 0, samples: 7 };
    expect([spread(nothing), uncertainty(nothing)]).toEqual([0, 0]);
  });
});

test.each([
  [{ low: 1, high: 2 }, { low: 3, high: 4 }, true],
  [{ low: 3, high: 4 }, { low: 1, high: 2 }, true],
  [{ low: 1, high: 3 }, { low: 2, high: 4 }, false],
  [{ low: 1, high: 2 }, { low: 2, high: 4 }, false],
])('%o and %o are apart: %s', (one, other, apart) => {
  expect(isApart(one, other)).toBe(apart);
});
