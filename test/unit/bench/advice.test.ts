/** Advice in words, from figures whose winner is known. */
import { describe, expect, test } from 'vitest';
import { adviceOf } from '../../../lib/bench/advice.js';
import type { Measurement } from '../../../lib/bench/result.js';
import { at, board, boardResult, figure, KiB, MiB, resultOf } from './results.js';

function texts(measurements: readonly Measurement[]): Record<string, string> {
  return Object.fromEntries(adviceOf(resultOf(measurements)).map(({ title, text }) => [title, text]));
}

const reads = 'A device writes, the CPU reads all of it';
const writes = 'The CPU writes, a device reads';

test('a board as published: cached memory to read, write-combining to write', () => {
  const advice = texts(boardResult.measurements);
  // 349 MB/s and a sync of 0.5 ns a byte: 297 MB/s, 4.2 times 70.
  expect(advice[reads]).toMatch(
    /From 4 KiB to 64 MiB take cached: .* is 4\.2 times as fast as writecombine \(297 MB\/s at 64 MiB, its sync included\)/,
  );
  // 1000 MB/s with its sync are 667; 1137 have none.
  expect(advice[writes]).toMatch(
    /take writecombine: .* is 1\.7 times as fast as cached, its sync included \(1\.14 GB\/s/,
  );
  expect(advice['Single reads here and there']).toMatch(
    /take cached: .* 4\.0 times as fast as writecombine \(60\.0 ns in 64 MiB\)/,
  );
  expect(advice['Interrupts']).toMatch(
    /uv_poll takes 4\.0 times as many events as fs\.read: about 50000 a second/,
  );
});

test('what a sync costs can turn it round, from a size on', () => {
  const advice = texts(
    [4 * KiB, 64 * KiB, MiB].flatMap((size) => [
      figure('js-read', 'cached', size, at(300, size)),
      figure('js-read', 'uncached', size, at(200, size)),
      // 20 µs, whatever the size.
      figure('sync-for-cpu', 'cached', size, 20_000),
    ]),
  );
  expect(advice[reads]).toMatch(/^At 4 KiB take uncached: .* From 64 KiB to 1 MiB take cached: /);
});

test('what hardly differs is not made a winner', () => {
  const advice = texts([
    figure('js-write', 'cached', MiB, 1000, 0.1),
    figure('js-write', 'writecombine', MiB, 1050, 0.1),
  ]);
  expect(advice[writes]).toBe('At 1 MiB cached and writecombine hardly differ.');
});

test('of three types the best is compared with the next and with the last', () => {
  const advice = texts([
    figure('random-read', 'cached', MiB, 100),
    figure('random-read', 'coherent', MiB, 200),
    figure('random-read', 'uncached', MiB, 1000),
  ]);
  expect(advice['Single reads here and there']).toMatch(
    /2\.0 times as fast as coherent, and 10 times as fast as uncached/,
  );
});

test('what hardly differs from the best is as good, and what is worse is told all the same', () => {
  const advice = texts(
    [MiB, 64 * MiB].flatMap((size) => [
      figure('random-read', 'cached', size, size === MiB ? 100 : 101, 0.001),
      // Surely a little slower, or faster: nobody should care.
      figure('random-read', 'coherent', size, size === MiB ? 104 : 100, 0.001),
      figure('random-read', 'uncached', size, 1000),
    ]),
  );
  expect(advice['Single reads here and there']).toBe(
    'From 1 MiB to 64 MiB take coherent or cached, which hardly differ: a random read of 8 bytes is 10 times as fast as uncached (100 ns in 64 MiB).',
  );
});

describe('one type only', () => {
  const measurements = [
    figure('js-copy-out', 'cached', MiB, at(20_000, MiB)),
    figure('js-read', 'cached', MiB, at(5000, MiB)),
  ];
  test('nothing is compared, and the ways to use it are', () => {
    const advice = texts(measurements);
    expect(advice['Which memory type']).toBe(
      'Only cached memory was measured, so nothing can be compared with it.',
    );
    expect(advice['How to copy out']).toMatch(/cached: TypedArray\.set is 4\.0 times as fast at 1 MiB\.$/);
  });
  test('without the module it says how to have the others', () => {
    const [first] = adviceOf(resultOf(measurements, { machine: { ...board, provider: 'memfd' } }));
    expect(first?.text).toMatch(/modprobe iospace/);
  });
});

test('of an emulated machine nothing is said but why', () => {
  const machine = { ...board, emulated: 'iospace lab' };
  expect(adviceOf(resultOf(boardResult.measurements, { machine }))).toMatchObject([{ title: 'No advice' }]);
});

test('instructions make no winner', () => {
  const advice = adviceOf(resultOf(boardResult.measurements, { unit: 'instructions' }));
  expect(advice).toMatchObject([{ title: 'No advice', text: expect.stringMatching(/Instructions/) }]);
});

test('nothing measured, nothing said', () => {
  expect(adviceOf(resultOf([]))).toEqual([]);
});

test('without a device it says what handing over would cost: the maintenance of caches', () => {
  const measurements = [4 * KiB, MiB].flatMap((size) => [
    figure('clean', 'cached', size, size / 4),
    figure('invalidate', 'cached', size, size / 2),
  ]);
  const handing = (provider: 'iospace' | 'memfd'): string[] =>
    adviceOf(resultOf(measurements, { machine: { ...board, provider } }))
      .filter(({ title }) => title === 'Handing over to a device')
      .map(({ text }) => text);
  expect(handing('memfd')).toEqual([
    expect.stringMatching(
      /clean and invalidate take 1\.02 µs and 2\.05 µs at 4 KiB, 262 µs and 524 µs at 1 MiB\.$/,
    ),
  ]);
  expect(handing('iospace')).toEqual([]);
});
