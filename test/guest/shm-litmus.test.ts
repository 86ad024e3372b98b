/**
 * Shared memory between processes on the machine at hand: what one process publishes another sees in its order.
 *
 * What this can show: V8's code for the architecture, and the library's, with real interleavings, on as many threads of the
 * host as it has processors. What it cannot: QEMU lets a guest's accesses keep the order of its host. On an x86 host the only
 * reordering that an arm64 guest sees is a load before an earlier store; that a missing barrier would let two stores or two
 * loads change places on an arm64 board stays unseen. Code that publishes too early, or reads too early, is found on both.
 */
import { availableParallelism } from 'node:os';
import { test } from 'node:test';
import { run } from './litmus.js';

test(`what must not be seen is not, with ${availableParallelism()} processors`, () =>
  run(
    {
      passing: 200_000,
      coherence: 200_000,
      'store-buffering': 20_000,
      'load-buffering': 20_000,
      single: 500_000,
      many: 20_000,
    },
    ['mapped', 'mapped'],
  ));
