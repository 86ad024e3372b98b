/** Results in words, for a terminal. */
import { describe, expect, test } from 'vitest';
import {
  bandwidthText,
  digits,
  figureText,
  spreadText,
  timesText,
  timeText,
} from '../../../lib/bench/quantity.js';
import { resultText } from '../../../lib/cli/bench-text.js';
import { sizeText } from '../../../lib/size-text.js';
import { board, boardResult, figure, KiB, MiB, resultOf } from './results.js';

test.each([
  [0, '0.00'],
  [0.05123, '0.051'],
  [0.5123, '0.512'],
  [5.123, '5.12'],
  [51.23, '51.2'],
  [512.3, '512'],
  [5123, '5123'],
])('%d has three digits that count: %s', (value, text) => {
  expect(digits(value)).toBe(text);
});

test.each<[string, string]>([
  [sizeText(4096), '4 KiB'],
  [sizeText(64 * MiB), '64 MiB'],
  [sizeText(23.5 * 1024 * MiB), '23.5 GiB'],
  [timeText(0.5), '0.500 ns'],
  [timeText(153), '153 ns'],
  [timeText(15_300), '15.3 µs'],
  [timeText(1_530_000), '1.53 ms'],
  [timeText(25e9), '25.0 s'],
  [bandwidthText(950e6), '950 MB/s'],
  [bandwidthText(9.5e9), '9.50 GB/s'],
  [spreadText(0), '±<1 %'],
  [spreadText(0.021), '±2 %'],
  [timesText(3.21), '3.2 times'],
  [timesText(12.3), '12 times'],
  [figureText('js-read', 4096, 4096, 'ns'), '1.00 GB/s'],
  [figureText('random-read', 4096, 4096, 'ns'), '4.10 µs'],
  [figureText('js-read', 4096, 1_234_567.4, 'instructions'), '1 234 567'],
])('%s', (text, expected) => {
  expect(text).toBe(expected);
});

test('a table for each type, with what was not measured left open', () => {
  const text = resultText(
    resultOf([
      figure('js-read', 'cached', 4 * KiB, 4096),
      figure('js-read', 'cached', 64 * KiB, 65536, 0.2),
      figure('js-sum', 'cached', 4 * KiB, 8192),
      figure('js-read', 'uncached', 4 * KiB, 40960),
      figure('interrupt-poll', null, null, 12_000),
    ]),
  );
  expect(text).toContain(
    [
      'cached       4 KiB      64 KiB  spread',
      'js-read  1.00 GB/s  1.00 GB/s*   ±10 %',
      'js-sum    500 MB/s           -    ±1 %',
      '',
      'uncached     4 KiB  spread',
      'js-read   100 MB/s    ±1 %',
      '',
      'interrupts               spread',
      'interrupt-poll  12.0 µs    ±1 %',
    ].join('\n'),
  );
});

test('the same reason stands there once', () => {
  const reason = 'ENOMEM: not enough memory';
  const skipped = [
    { operation: 'js-read', memory: 'coherent', size: 64 * MiB, reason },
    { operation: 'js-sum', memory: 'coherent', size: 64 * MiB, reason },
    { operation: 'map', memory: 'cached', size: 4096, reason: 'EOPNOTSUPP' },
    { operation: 'map', memory: 'cached', size: 65536, reason: 'EOPNOTSUPP' },
  ] as const;
  const lines = resultText(resultOf([], { skipped }))
    .split('\n')
    .filter((line) => line.startsWith('not measured'));
  expect(lines).toEqual([
    `not measured: js-read coherent, js-sum coherent: ${reason}`,
    'not measured: map cached: EOPNOTSUPP',
  ]);
});

describe('what has to be known first', () => {
  test('times of an emulated machine: each is marked', () => {
    const text = resultText(
      resultOf(boardResult.measurements, { machine: { ...board, emulated: 'iospace lab' } }),
    );
    expect(text).toMatch(/^EMULATED MACHINE \(iospace lab\): .*bench --counts$/m);
    const cells = text.split('\n').filter((line) => /^(js|random|sync|interrupt)-/.test(line));
    expect(cells.length).toBeGreaterThan(8);
    for (const line of cells) {
      expect(line).toMatch(/^\S+( +[\d.]+ \S+\?)+ +±/);
    }
  });

  test('instructions of one are not', () => {
    const machine = { ...board, emulated: 'iospace lab', countsInstructions: true };
    const text = resultText(resultOf(boardResult.measurements, { machine, unit: 'instructions' }));
    expect(text).not.toMatch(/EMULATED|\?/);
    expect(text).toMatch(/Counts of instructions/);
  });

  test.each([
    [{ governor: 'ondemand' }, /governor "ondemand" changes/],
    [{ pinned: null }, /Not kept on one processor/],
  ])('%o', (change, message) => {
    expect(resultText(resultOf([], { machine: { ...board, ...change } }))).toMatch(message);
    expect(resultText(resultOf([]))).not.toMatch(message);
  });
});

test('nothing of a file reaches the terminal as a command', () => {
  const text = resultText(resultOf([], { machine: { ...board, cpu: 'evil\x1b]0;title\x07' } }));
  expect(text).toContain('evil\\x1b]0;title\\x07,');
});
