/** No argument from JavaScript may crash the process: each function gets every kind of wrong one, in each place. */
import { describe, expect, test } from 'vitest';
import { map, memfd, native, turns } from './support.js';

const fd = memfd(8192);
const mapping = map(8192);
const other = map(4096);
const info = { flags: 0, byteLength: 4096, mmapOffset: 4096n, pageOffset: 0, name: '' };
const registers = new native.Registers(fd, 0, info);
const poller = new native.Poller(native.eventfd(0, 0), () => {});

/** What each function takes; every place is then filled with what it does not take. */
const functions: readonly (readonly [
  name: string,
  call: (...args: never[]) => unknown,
  good: readonly unknown[],
])[] = [
  ['initialize', native.initialize, [{ systemError: Error, leaked: () => {} }]],
  ['open', native.open, ['/nope', 0, 0]],
  ['close', native.close, [2 ** 31 - 1]],
  ['ioctl', native.ioctl, [fd, 0, 0]],
  ['mmap', native.mmap, [-1, 4096, 1, 1, 0n]],
  ['poll', native.poll, [new Int32Array(0), new Int16Array(0), new Int16Array(0), 0]],
  ['ftruncate', native.ftruncate, [2 ** 31 - 1, 0]],
  ['fallocate', native.fallocate, [2 ** 31 - 1, 0, 1]],
  ['shmOpen', native.shmOpen, ['/nope', 0, 0]],
  ['shmUnlink', native.shmUnlink, ['/nope']],
  ['memfdCreate', native.memfdCreate, ['x'.repeat(300), 0]],
  ['eventfd', native.eventfd, [0, 2]],
  ['deviceInfo', native.deviceInfo, [fd]],
  ['deviceAlloc', native.deviceAlloc, [fd, 5, 4096, 0, 0, 0, 0, 0]],
  ['deviceSegments', native.deviceSegments, [fd, 1, 0, new BigUint64Array(2)]],
  ['deviceSync', native.deviceSync, [fd, 1, 1, 0, 4096]],
  ['deviceSyncRanges', native.deviceSyncRanges, [fd, 1, 1, new BigUint64Array(2)]],
  ['deviceMapUser', native.deviceMapUser, [fd, 1, new Uint8Array(8)]],
  ['deviceExport', native.deviceExport, [fd, 1, 0, 0, 4096]],
  ['deviceImport', native.deviceImport, [fd, fd, 3]],
  ['deviceArena', native.deviceArena, [fd, 0, 0]],
  ['deviceArenaBooks', native.deviceArenaBooks, [fd, 0]],
  ['deviceWindow', native.deviceWindow, [fd, 1, 0n, 4096]],
  ['deviceFree', native.deviceFree, [fd, 1]],
  ['deviceRegisters', native.deviceRegisters, [fd, 0]],
  ['deviceInterrupt', native.deviceInterrupt, [fd, 0, 0, -1]],
  ['deviceReadCounts', native.deviceReadCounts, [2 ** 31 - 1, new BigUint64Array(1)]],
  [
    'new Registers',
    (...args) => new native.Registers(...(args as unknown as [number, number, typeof info])),
    [fd, 0, info],
  ],
  [
    'new Poller',
    (...args) => new native.Poller(...(args as unknown as [number, () => void])),
    [fd, () => {}],
  ],
  ['Mapping.renew', mapping.renew.bind(mapping), [true]],
  ['Mapping.release', mapping.release.bind(other), [true]],
  ['Mapping.protect', mapping.protect.bind(mapping), [3, 0, 4096]],
  ['Mapping.sync', mapping.sync.bind(mapping), [4, 0, 4096]],
  ['Mapping.advise', mapping.advise.bind(mapping), [0, 0, 4096]],
  ['Mapping.lock', mapping.lock.bind(mapping), [0, 4096]],
  ['Mapping.unlock', mapping.unlock.bind(mapping), [0, 4096]],
  ['Registers.read8', registers.read8.bind(registers), [0]],
  ['Registers.read16', registers.read16.bind(registers), [0]],
  ['Registers.read32', registers.read32.bind(registers), [0]],
  ['Registers.read64', registers.read64.bind(registers), [0]],
  ['Registers.write8', registers.write8.bind(registers), [0, 0]],
  ['Registers.write16', registers.write16.bind(registers), [0, 0]],
  ['Registers.write32', registers.write32.bind(registers), [0, 0]],
  ['Registers.write64', registers.write64.bind(registers), [0, 0n]],
];

const trap = new Proxy(
  {},
  {
    get() {
      throw new Error('a getter ran');
    },
  },
);

/** Of a type that nothing takes. */
const alien: readonly (readonly [name: string, value: unknown])[] = [
  ['undefined', undefined],
  ['null', null],
  ['a symbol', Symbol('x')],
  ['an array', []],
  ['a Date', new Date()],
  ['an object with valueOf', { valueOf: () => 0 }],
  ['an object with toString', { toString: () => '/nope' }],
  ['an ArrayBuffer', new ArrayBuffer(8)],
  ['a Float64Array', new Float64Array(1)],
];

/** Numbers that no integer argument takes. */
const unfit = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  0.5,
  -(2 ** 53),
  2 ** 53,
  1e300,
  -1e300,
];

const invalid = expect.toSatisfy(
  (error: unknown) =>
    (error instanceof TypeError && 'code' in error && error.code === 'ERR_INVALID_ARG_TYPE') ||
    (error instanceof RangeError && 'code' in error && error.code === 'ERR_OUT_OF_RANGE'),
  'an error about an argument',
);

describe.each(functions)('%s', (_name, call, good) => {
  const cases = good.flatMap((fit, place) => {
    const wrong: (readonly [string, unknown])[] = [...alien];
    if (typeof fit === 'number')
      wrong.push(['a bigint', 0n], ['a string', '0'], ...unfit.map((n) => [`${n}`, n] as const));
    if (typeof fit === 'bigint')
      wrong.push(['a number', 0], ['-1n', -1n], ['2n ** 64n', 2n ** 64n], ['-(2n ** 70n)', -(2n ** 70n)]);
    if (typeof fit === 'string') wrong.push(['a number', 0], ['a string with NUL', 'a\0b']);
    if (typeof fit === 'boolean') wrong.push(['a number', 0]);
    return (
      wrong
        // These take any view.
        .filter(
          ([name]) =>
            !(
              (call === native.ioctl || call === native.deviceMapUser) &&
              place === 2 &&
              name === 'a Float64Array'
            ),
        )
        .map(([name, value]) => ({ name, value, place }))
    );
  });

  test.each(cases)('refuses $name in place $place', ({ value, place }) => {
    const args = good.map((fit, index) => (index === place ? value : fit));
    expect(() => Reflect.apply(call, undefined, args)).toThrow(invalid);
  });

  test.runIf(good.length > 0)('refuses to be called without arguments', () => {
    expect(() => Reflect.apply(call, undefined, [])).toThrow(invalid);
  });
});

describe('messages', () => {
  test.each([
    [() => native.close(-1), 'expected an integer from 0 to 2147483647 for fd, got -1'],
    [() => native.close('1' as never), 'expected an integer for fd, got a string'],
    [() => registers.write8(0, 256), 'expected an integer from 0 to 255 for value, got 256'],
    [() => registers.write64(0, 2n ** 64n), 'for value, got 18446744073709551616n'],
    [() => registers.read32(4096), 'expected a place in a window of 4096 bytes for offset, got 4096'],
    [() => native.mmap(fd, 0, 3, 1, 0n), 'for byteLength, got 0'],
    [() => native.open(null as never, 0, 0), 'expected a string for path, got null'],
  ])('name the argument and what it was', (call, message) => {
    expect(call).toThrow(message);
  });
});

describe('objects of arguments', () => {
  test.each([
    ['byteLength', 0],
    ['byteLength', 2 ** 53],
    ['byteLength', '1'],
    ['mmapOffset', 4096],
    ['mmapOffset', -1n],
    ['mmapOffset', 2n ** 63n],
    ['pageOffset', -1],
    ['pageOffset', native.pageSize],
    ['pageOffset', undefined],
  ])('of Registers with %s %s are refused', (field, value) => {
    expect(() => new native.Registers(fd, 0, { ...info, [field]: value })).toThrow(invalid);
  });

  test('that throw when they are read throw that', () => {
    expect(() => new native.Registers(fd, 0, trap as never)).toThrow('a getter ran');
    expect(() => native.initialize(trap as never)).toThrow('a getter ran');
  });

  test('of initialize must be functions', () => {
    expect(() => native.initialize({ systemError: 1, leaked: 1 } as never)).toThrow(invalid);
  });
});

describe('mmap', () => {
  test.each([
    ['MAP_FIXED', 0x10],
    ['MAP_FIXED_NOREPLACE', 0x100000],
    ['MAP_GROWSDOWN', 0x100],
    ['MAP_STACK', 0x20000],
    ['MAP_HUGETLB', 0x40000],
  ])('refuses %s', (_name, flag) => {
    expect(() => native.mmap(-1, 4096, 3, 0x22 | flag, 0n)).toThrow(invalid);
  });

  test('takes anonymous memory', () => {
    const anonymous = native.mmap(-1, 4096, 3, 0x22, 0n);
    expect(new Uint8Array(anonymous.buffer()).every((byte) => byte === 0)).toBe(true);
    anonymous.release(true);
  });
});

test('a constructor called as a function is refused', () => {
  expect(() => Reflect.apply(native.Registers, undefined, [fd, 0, info])).toThrow(TypeError);
  expect(() => Reflect.apply(native.Poller, undefined, [fd, () => {}])).toThrow(TypeError);
});

test('what is left works', async () => {
  await turns(2);
  poller.close();
  registers.write32(0, 1);
  expect(registers.read32(0)).toBe(1);
  registers.close();
  mapping.release(true);
  other.release(true);
});
