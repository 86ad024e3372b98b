/** What no machine can be is refused at once: nothing is fetched, built or booted. */
import { expect, test } from 'vitest';
import { type BootOptions, Machine } from '../../../lib/lab/index.js';

test.each<[unknown, string]>([
  [5, 'ERR_INVALID_ARG_TYPE'],
  [null, 'ERR_INVALID_ARG_TYPE'],
  [[], 'ERR_INVALID_ARG_TYPE'],
  [{ device: ['edu'] }, 'ERR_INVALID_ARG_VALUE'],
  [{ devices: 'edu' }, 'ERR_INVALID_ARG_TYPE'],
  [{ bind: [5] }, 'ERR_INVALID_ARG_TYPE'],
  [{ kernelModules: 'vivid' }, 'ERR_INVALID_ARG_TYPE'],
  [{ mounts: '/' }, 'ERR_INVALID_ARG_TYPE'],
  [{ append: 5 }, 'ERR_INVALID_ARG_TYPE'],
  [{ moduleParameters: 5 }, 'ERR_INVALID_ARG_TYPE'],
  [{ icount: 'yes' }, 'ERR_INVALID_ARG_TYPE'],
  [{ memory: '0' }, 'ERR_INVALID_ARG_VALUE'],
  [{ memory: '1X' }, 'ERR_INVALID_ARG_VALUE'],
  [{ timeout: Number.NaN }, 'ERR_OUT_OF_RANGE'],
  [{ timeout: 1e99 }, 'ERR_OUT_OF_RANGE'],
  [{ timeout: '5' }, 'ERR_INVALID_ARG_TYPE'],
  [{ deviceTree: 'virt.dtb' }, 'ERR_INVALID_ARG_TYPE'],
  [{ signal: {} }, 'ERR_INVALID_ARG_TYPE'],
  [{ machine: 'vax' }, 'ERR_INVALID_ARG_VALUE'],
])('%o is %s', async (options, code) => {
  await expect(Machine.boot(options as BootOptions)).rejects.toMatchObject({ code });
});
