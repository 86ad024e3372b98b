/** What there is to draw: which figures stand together, and in which unit. */
import { expect, test } from 'vitest';
import { chartsOf } from '../../../lib/bench/charts.js';
import { boardResult, figure, KiB, resultOf } from './results.js';

test('of several types one chart for each operation, of one type one for each group', () => {
  const ids = chartsOf(boardResult).map(({ id }) => id);
  expect(ids).toEqual(['js-read', 'js-copy-out', 'js-write', 'random-read', 'sync', 'interrupt']);
  const cached = boardResult.measurements.filter(({ memory }) => memory === 'cached' || memory === null);
  expect(chartsOf(resultOf(cached)).map(({ id }) => id)).toEqual([
    'read',
    'write',
    'random',
    'sync',
    'interrupt',
  ]);
});

test('a bandwidth of MB/s, whose ends change places; a latency of ns', () => {
  const [read, random] = chartsOf(
    resultOf([
      figure('js-read', 'cached', 4 * KiB, 4096, 0.5),
      figure('random-read', 'cached', 4 * KiB, 80, 0.1),
    ]),
  );
  expect(read?.unit).toBe('MB/s');
  const [point] = read?.series[0]?.points ?? [];
  expect(point?.value).toBeCloseTo(1000, 9);
  expect(point?.low).toBeCloseTo(1000 / 1.5, 9);
  expect(point?.high).toBeCloseTo(2000, 9);
  expect(point?.text).toBe('1.00 GB/s ±50 %, not steady');
  expect(random).toMatchObject({
    unit: 'ns',
    series: [{ points: [{ value: 80, text: '80.0 ns ±10 %, not steady' }] }],
  });
});

test('figures of others stand in the unit of the chart, and never beside instructions', () => {
  const measured = [figure('js-read', 'cached', 4 * KiB, 4096)];
  const [times] = chartsOf(resultOf(measured));
  expect(times?.references).toContainEqual(
    expect.objectContaining({ system: 'Zynq-7000, uncached', value: 70 }),
  );
  const [counts] = chartsOf(resultOf(measured, { unit: 'instructions' }));
  expect(counts).toMatchObject({
    unit: 'instructions',
    references: [],
    series: [{ points: [{ value: 4096 }] }],
  });
});

test('sizes are in order, whatever was measured first; a gap is a gap', () => {
  const [chart] = chartsOf(
    resultOf([
      figure('js-read', 'cached', 64 * KiB, 1),
      figure('js-sum', 'cached', 4 * KiB, 1),
      figure('js-read', 'cached', 4 * KiB, 1),
    ]),
  );
  expect(chart?.categories).toEqual(['4 KiB', '64 KiB']);
  expect(chart?.series.map(({ points }) => points.map((point) => point !== null))).toEqual([
    [true, true],
    [true, false],
  ]);
});

test('nothing measured, nothing drawn', () => {
  expect(chartsOf(resultOf([]))).toEqual([]);
});
