import { describe, expect, test } from 'vitest';
import { isFault, KernelLog } from '../../../lib/lab/kernel-log.js';

describe('a fault is', () => {
  test.each([
    '[    4.919759] WARNING: CPU: 0 PID: 91 at mm/page_alloc.c:5531 __alloc_pages+0x1d2/0x2a0',
    '[    1.000000] WARNING: possible circular locking dependency detected',
    '[    1.000000][    T1] BUG: KASAN: use-after-free in iospace_release+0x10/0x20 [iospace]',
    '[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000',
    '[   30.100000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [node:80]',
    '[    1.000000] kernel BUG at lib/list_debug.c:29!',
    '[    1.000000] Oops: 0002 [#1] PREEMPT SMP NOPTI',
    '[    1.000000] Internal error: Oops: 96000044 [#1] SMP',
    '[    1.000000] Unable to handle kernel paging request at virtual address ffff800008000000',
    '[    1.000000] general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1]',
    '[    1.000000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100',
    '[    1.000000] kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)',
    '[    1.000000] UBSAN: array-index-out-of-bounds in drivers/x.c:1:2',
    '[   60.000000] rcu: INFO: rcu_preempt self-detected stall on CPU',
    '[  243.000000] INFO: task node:80 blocked for more than 120 seconds.',
    '[    1.000000] DMA-API: edu 0000:00:04.0: device driver frees DMA memory with different size',
    '[    1.000000] DMA-API: edu 0000:00:04.0: cacheline tracking EEXIST, overlapping mappings are not supported',
    '[    1.000000] x86/PAT: node:80 map pfn RAM range req write-combining for [mem 0x1000-0x1fff], got write-back',
    '[    1.000000][   T80] INFO: trying to register non-static key.',
    '[    5.867442] iospace-lab failed: there is no device 3f007000.dma',
  ])('%s', (line) => {
    expect(isFault(line)).toBe(true);
  });
});

describe('no fault is', () => {
  test.each([
    '',
    '[    0.010000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on',
    '[    0.010000] x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WP  UC- WT  ',
    '[    0.010000] DMA-API: preallocated 65536 debug entries',
    '[    0.010000] DMA-API: debugging enabled by kernel config',
    '[    4.038258] iospace: loading out-of-tree module taints kernel.',
    '[    2.248308] Unstable clock detected, switching default tracing clock to "global"',
    '[    1.000000] rcu: Hierarchical RCU implementation.',
    '[    1.000000] iospace-lab: run 1 ended',
  ])('%s', (line) => {
    expect(isFault(line)).toBe(false);
  });
});

describe('a log', () => {
  test('has lines, however they arrive', () => {
    const lines: string[] = [];
    const log = new KernelLog((line) => lines.push(line));
    for (const piece of ['on', 'e\r\ntw', 'o\r', '\nthr']) {
      log.push(piece);
    }
    expect(lines).toEqual(['one', 'two']);
    expect(log.tail(2)).toBe('one\ntwo\nthr');
    expect(String(log)).toBe('one\ntwo');
  });

  test('keeps positions when old lines are dropped', () => {
    const log = new KernelLog(() => {}, 3);
    log.push('1\n2\n3\n4\n');
    const position = log.position;
    log.push('5\n6\n');
    expect(position).toBe(4);
    expect(log.since(position)).toBe('5\n6');
    expect(log.since(0)).toBe('4\n5\n6');
  });
});
