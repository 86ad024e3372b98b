/** Measuring: repeated until it is steady, or the time is over; on work whose time is made up. */
import { expect, test } from 'vitest';
import { type Effort, measure, prepared, repeated, type Work } from '../../../lib/bench/measure.js';

const effort: Effort = { warmUp: 0, sample: 0.01, most: 50, uncertainty: 0.01 };
const { signal } = new AbortController();

/** Work that says that it takes what the list says, over and over. */
function saying(times: readonly number[], scale = 1): Work & { calls: number } {
  const work = {
    calls: 0,
    scale,
    runs: 1,
    sample: () => times[work.calls++ % times.length] as number,
  };
  return work;
}

test('what always takes as long is measured a few times', async () => {
  const work = saying([100]);
  const measured = await measure(work, effort, signal);
  expect(measured).toMatchObject({ median: 100, low: 100, high: 100, stable: true });
  expect(measured?.samples).toBe(7);
});

test('what varies is measured until its time is over, or often enough, and is not called steady', async () => {
  const measured = await measure(saying([100, 500, 900, 200]), effort, signal);
  expect(measured?.stable).toBe(false);
  expect(measured?.samples).toBeGreaterThan(7);
});

test('a run that is a part of what is asked for is scaled', async () => {
  expect(await measure(saying([100], 16), effort, signal)).toMatchObject({ median: 1600 });
});

test('the time of one run is what is told, however many are in a sample', async () => {
  const work: Work = { scale: 1, sample: (runs) => runs * 100 };
  expect(await measure(work, effort, signal)).toMatchObject({ median: 100 });
});

test('what takes longer than all samples may is measured once', async () => {
  const work = saying([60e6, 1]);
  expect(await measure(work, effort, signal)).toMatchObject({ median: 60e6, samples: 1, stable: false });
  expect(work.calls).toBe(1);
});

test('a promise is waited for', async () => {
  const work: Work = { scale: 1, runs: 1, sample: async () => 100 };
  expect(await measure(work, effort, signal)).toMatchObject({ median: 100 });
});

test('the signal ends it, and half of a measurement is none', async () => {
  const stop = new AbortController();
  const work: Work = {
    scale: 1,
    runs: 1,
    sample() {
      stop.abort();
      return 100;
    },
  };
  expect(await measure(work, effort, stop.signal)).toBeUndefined();
});

test('work is repeated as often as it is told', () => {
  let runs = 0;
  repeated(() => runs++).sample(12);
  expect(runs).toBe(12);
});

test('what prepares and what follows is done at each run, and not timed', () => {
  const done: string[] = [];
  const wait = (milliseconds: number): void => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
  };
  const work = prepared(
    () => {
      wait(20);
      done.push('before');
      return 5;
    },
    (value) => done.push(`run ${value}`),
    () => done.push('after'),
  );
  const taken = work.sample(2);
  expect(done).toEqual(['before', 'run 5', 'after', 'before', 'run 5', 'after']);
  expect(taken).toBeLessThan(20e6);
});
