import { openSync } from 'node:fs';
import { assert, describe, expect, test } from 'vitest';
import { abortError, explained, outOfRange, systemError, wrongType } from '../../lib/errors.js';

describe('a system error', () => {
  test('is what Node itself would throw', () => {
    let node: Error | undefined;
    try {
      openSync('/no/such/file', 'r');
    } catch (error) {
      node = error as Error;
    }
    const own = systemError(2, 'open', { path: '/no/such/file' });
    expect(own.message).toBe(node?.message);
    expect({ ...own }).toEqual({ ...node });
    expect(own.name).toBe('Error');
  });

  test('is explained where its code has a hint, and thrown as it is where not', () => {
    const failed = systemError(122, 'ioctl', { request: 0xd501 });
    const fail = () => {
      throw failed;
    };
    expect(() => explained({ path: '/dev/iospace1' }, { ENOMEM: 'none left' }, fail)).toThrow(failed);
    expect(() => explained({ path: '/dev/iospace1' }, { EDQUOT: '1 byte' }, fail)).toThrow(
      expect.objectContaining({
        message: "EDQUOT: quota exceeded, ioctl 0xd501 '/dev/iospace1': 1 byte",
        errno: -122,
        request: 0xd501,
        path: '/dev/iospace1',
      }),
    );
    expect(() =>
      explained({ syscall: 'mmap_iospace', address: 0x1000n }, { EDQUOT: () => 'made then' }, fail),
    ).toThrow(/^EDQUOT: quota exceeded, mmap_iospace 0x1000: made then$/);
    expect(explained({ path: '/dev/iospace1' }, { EDQUOT: () => assert.fail() }, () => 7)).toBe(7);
  });

  test('names the address and the request', () => {
    const mapping = systemError(16, 'mmap_iospace', { address: 0x10000000n });
    expect(mapping.message).toBe('EBUSY: resource busy or locked, mmap_iospace 0x10000000');
    expect({ ...mapping }).toEqual({
      errno: -16,
      code: 'EBUSY',
      syscall: 'mmap_iospace',
      address: 0x10000000n,
    });
    const ioctl = systemError(25, 'ioctl', { request: 0xd501 });
    expect(ioctl.message).toBe('ENOTTY: inappropriate ioctl for device, ioctl 0xd501');
    expect(ioctl.request).toBe(0xd501);
  });

  test.each([
    [95, 'EOPNOTSUPP', 'operation not supported'],
    [122, 'EDQUOT', 'quota exceeded'],
    [130, 'EOWNERDEAD', 'owner died'],
    [116, 'ESTALE', 'stale file handle'],
    [110, 'ETIMEDOUT', 'operation timed out'],
    [19, 'ENODEV', 'no such device'],
    [12, 'ENOMEM', 'not enough memory'],
  ])('%i is %s', (number, code, text) => {
    expect(systemError(number, 'ioctl')).toMatchObject({
      code,
      errno: -number,
      message: `${code}: ${text}, ioctl`,
    });
  });

  test('with a number that nobody knows is still an error', () => {
    expect(systemError(4000, 'ioctl')).toMatchObject({ errno: -4000, code: 'Unknown system error -4000' });
  });
});

test('argument errors have a class, a code and one shape', () => {
  expect(wrongType('byteLength', 'a number', '4096')).toMatchObject({
    name: 'TypeError',
    code: 'ERR_INVALID_ARG_TYPE',
    message: "expected a number for byteLength, got '4096'",
  });
  expect(outOfRange('offset', 'an integer from 0 to 7', 8)).toMatchObject({
    name: 'RangeError',
    code: 'ERR_OUT_OF_RANGE',
    message: 'expected an integer from 0 to 7 for offset, got 8',
  });
});

test('an abort carries the reason', () => {
  const reason = { why: 'because' };
  expect(abortError(AbortSignal.abort(reason))).toMatchObject({
    name: 'AbortError',
    code: 'ABORT_ERR',
    cause: reason,
  });
});
