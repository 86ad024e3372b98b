/** What is measured, and what filters leave of it. */
import { describe, expect, test } from 'vitest';
import { makePlan } from '../../../lib/bench/plan.js';
import { keyOf } from '../../../lib/bench/result.js';
import { KiB, MiB } from './results.js';

const memory = ['cached', 'uncached'] as const;

function keys(filter: string, options: { quick?: boolean; counting?: boolean } = {}): string[] {
  return makePlan({ memory, filter, ...options }).map(keyOf);
}

test('all of it: every size from 4 KiB to 64 MiB of every type, and interrupts once', () => {
  const plan = makePlan({ memory });
  const sizes = [...new Set(plan.flatMap(({ size }) => size ?? []))];
  expect([sizes.at(0), sizes.at(-1), sizes.length]).toEqual([4 * KiB, 64 * MiB, 8]);
  expect(new Set(plan.map(keyOf)).size).toBe(plan.length);
  expect(plan.filter(({ operation }) => operation === 'js-read')).toHaveLength(16);
  expect(plan.filter(({ operation }) => operation === 'interrupt-poll')).toHaveLength(1);
});

test('a type is finished before the next, and a size too, so that a buffer is made once', () => {
  const places = makePlan({ memory }).map(({ memory: type, size }) => `${type} ${size}`);
  const changes = places.filter((place, index) => place !== places[index - 1]);
  expect(changes).toHaveLength(new Set(places).size);
});

test('a sync is measured where it does something', () => {
  expect(keys('sync-for-cpu,4K')).toEqual(['sync-for-cpu cached 4096']);
});

test('a quick run has fewer sizes; one that is asked for is measured all the same', () => {
  expect(keys('js-read cached', { quick: true })).toHaveLength(4);
  expect(keys('js-read cached 16M', { quick: true })).toEqual([`js-read cached ${16 * MiB}`]);
});

test('counting leaves out what waits for another thread', () => {
  expect(keys('interrupt', { counting: true })).toEqual([
    'interrupt-rate-poll - -',
    'interrupt-rate-read - -',
  ]);
});

describe('filters', () => {
  test.each([
    ['js-read,cached,4K', ['js-read cached 4096']],
    ['js-read js-write cached 4KiB', ['js-read cached 4096', 'js-write cached 4096']],
    ['js-read,4096', ['js-read cached 4096', 'js-read uncached 4096']],
    ['random,uncached,64M,4k', [`random-read uncached 4096`, `random-read uncached ${64 * MiB}`]],
    ['interrupt-poll', ['interrupt-poll - -']],
    // Words of operations add up, whatever has no size.
    ['interrupt-poll,js-read,cached,4K', ['js-read cached 4096', 'interrupt-poll - -']],
  ])('%s', (filter, expected) => {
    expect(keys(filter)).toEqual(expected);
  });

  test('a type or a size alone has nothing that is of no memory', () => {
    expect(keys('uncached').some((key) => key.startsWith('interrupt'))).toBe(false);
    expect(keys('4K').some((key) => key.startsWith('interrupt'))).toBe(false);
  });

  test.each(['jsread', 'cached,quickly', '5K', '128M', '-1', '4K..1M', ''])('%j says nothing', (filter) => {
    expect(() => keys(filter)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
  });

  test('a word that says nothing is named, beside those that would', () => {
    expect(() => keys('read,jsread')).toThrow(/js-read.*writecombine.*4KiB.*got 'jsread'/);
  });

  test('a type that this machine does not have leaves nothing, and those that there are are named', () => {
    expect(() => keys('writecombine')).toThrow(/memory: cached, uncached.*got 'writecombine'/);
  });
});
