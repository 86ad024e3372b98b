import { expect, test } from 'vitest';
import { LabError } from '../../../lib/lab/errors.js';
import { Machine } from '../../../lib/lab/machine.js';
import { eduMasks, reachingMemory } from '../../../lib/lab/machines.js';

test('the masks of edu functions, in their order', () => {
  const devices = ['edu', 'nvme,drive=d', 'edu,dma_mask=0xffffffff', 'edu,addr=5'];
  expect(eduMasks(devices)).toEqual(['0xfffffff', '0xffffffff', '0xfffffff']);
});

test('an edu with nothing said of it reaches the memory of its machine', () => {
  expect(['edu', 'edu,dma_mask=0xfff', 'nvme'].map(reachingMemory)).toEqual([
    'edu,dma_mask=0xffffffff',
    'edu,dma_mask=0xfff',
    'nvme',
  ]);
});

test.each([
  { machine: 'vax' },
  { machine: 'pc', arch: 'arm64' },
  { machine: 'pc', kernel: '2.4' },
  { machine: 'pc', node: 18 },
])('what no machine has is refused: %j', async (options) => {
  await expect(Machine.boot(options as object)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
});

test('a boot that is aborted before it begins', async () => {
  await expect(Machine.boot({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORT_ERR' });
});

test('an error of the lab ends with the kernel log', () => {
  const error = new LabError('ERR_IOSPACE_LAB_KERNEL', 'failed', { kernelLog: 'one\ntwo' });
  expect(error.message).toBe("failed\nThe last lines of the guest's kernel log:\none\ntwo");
  expect(error).toMatchObject({ name: 'LabError', kernelLog: 'one\ntwo' });
});
