/** Bits, compared with a bitmap that is looked at bit by bit; and the examples of the documentation. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as bits from '../../lib/bits.js';
import { randomFrom, seed } from '../guest/random.js';

const {
  findNextBit,
  findNextZeroBit,
  hammingDistance,
  hammingWeight8,
  hammingWeight16,
  hammingWeight32,
  hammingWeight64,
} = bits;

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

/** A bitmap as an array of booleans, from the view's bytes: the model. */
function modelOf({ buffer, byteOffset, byteLength }: ArrayBufferView): boolean[] {
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  return Array.from(
    { length: 8 * byteLength },
    (_, bit) => ((bytes[bit >> 3] ?? 0) & (1 << (bit % 8))) !== 0,
  );
}

function next(model: boolean[], sought: boolean, size: number, offset: number): number {
  const found = model.slice(0, size).indexOf(sought, offset);
  return found < 0 ? size : found;
}

function distance(a: boolean[], b: boolean[], size: number): number {
  return a.slice(0, size).filter((bit, at) => bit !== b[at]).length;
}

/** The digits that are one: the model of a weight. */
const ones = (value: number | bigint): number => value.toString(2).replaceAll('0', '').length;

/** Every type of view, over bytes. */
const views: Record<string, (bytes: Uint8Array) => ArrayBufferView> = {
  Uint8Array: (bytes) => bytes,
  Buffer: ({ buffer, byteOffset, length }) => Buffer.from(buffer, byteOffset, length),
  DataView: ({ buffer, byteOffset, length }) => new DataView(buffer, byteOffset, length),
};
for (const Type of [
  Int8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
]) {
  views[Type.name] = ({ buffer, byteOffset, length }) =>
    new Type(buffer as ArrayBuffer, byteOffset, length / Type.BYTES_PER_ELEMENT);
}
const unaligned = new Set(['Uint8Array', 'Buffer', 'DataView', 'Int8Array', 'Uint8ClampedArray']);
const names = Object.keys(views);

describe(`bitmaps, IOSPACE_SEED=${seed}`, () => {
  const random = randomFrom(seed);

  /** Bytes that are all ones or all zeros but for a few bits, or random; what lies around them is the contrary. */
  function bitmap(name: string, byteLength: number, Memory: typeof ArrayBuffer | typeof SharedArrayBuffer) {
    const fill = random.pick([0, 0xff]);
    const before = unaligned.has(name) ? random.below(9) : 8 * random.below(2);
    const all = new Uint8Array(new Memory(before + byteLength + 8)).fill(0xff - fill);
    const bytes = all.subarray(before, before + byteLength).fill(fill);
    if (random.below(3) === 0) {
      bytes.set(random.bytes(byteLength));
    }
    for (let changes = random.below(4); byteLength > 0 && changes > 0; changes--) {
      const at = random.below(byteLength);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    }
    return (views[name] ?? (() => bytes))(bytes);
  }

  test.each(names)('%s', (name) => {
    for (let round = 0; round < 500; round++) {
      const byteLength = unaligned.has(name) ? random.below(70) : 8 * random.below(9);
      const a = bitmap(name, byteLength, random.pick([ArrayBuffer, SharedArrayBuffer]));
      const b = bitmap(random.pick(names), 8 * Math.ceil(byteLength / 8), ArrayBuffer);
      const [ours, theirs] = [modelOf(a), modelOf(b)];
      const size = random.below(ours.length + 1);
      const offset = random.below(ours.length + 40);

      expect(findNextBit(a, size, offset)).toBe(next(ours, true, size, offset));
      expect(findNextZeroBit(a, size, offset)).toBe(next(ours, false, size, offset));
      expect(findNextBit(a)).toBe(next(ours, true, ours.length, 0));
      expect(findNextZeroBit(a)).toBe(next(ours, false, ours.length, 0));
      expect(hammingDistance(a, b, size)).toBe(distance(ours, theirs, size));
      expect(hammingDistance(b, a, size)).toBe(distance(ours, theirs, size));
      expect(hammingDistance(a, a)).toBe(0);
      expect(hammingDistance(a, new Uint8Array(byteLength))).toBe(ours.filter(Boolean).length);
    }
  });

  test('every size and offset of short ones', () => {
    for (let byteLength = 0; byteLength <= 12; byteLength++) {
      const a = bitmap('Uint8Array', byteLength, ArrayBuffer);
      const model = modelOf(a);
      for (let size = 0; size <= model.length; size++) {
        for (let offset = 0; offset <= size + 1; offset++) {
          const found = [findNextBit(a, size, offset), findNextZeroBit(a, size, offset)];
          const expected = [next(model, true, size, offset), next(model, false, size, offset)];
          if (found.join() !== expected.join()) {
            expect.fail(`${a}, ${size}, ${offset}: ${found} instead of ${expected}`);
          }
        }
      }
    }
  });
});

test('bits are numbered as in words of any size', () => {
  expect(findNextBit(BigUint64Array.of(0n, 1n << 63n))).toBe(127);
  expect(findNextBit(Uint32Array.of(0, 0x8000_0000))).toBe(63);
  expect(findNextBit(Uint16Array.of(0, 0x100))).toBe(24);
  expect(findNextBit(Uint8Array.of(0, 0x80))).toBe(15);
});

test('bits beyond 32 bits have their own numbers', () => {
  const bitmap = new Uint8Array(2 ** 29 + 8);
  const words = new Uint32Array(bitmap.buffer);
  bitmap[2 ** 29] = 0b0010_0000;
  bitmap.fill(0xff, 2 ** 28 - 8, 2 ** 28 + 1);
  for (const view of [bitmap, words, new DataView(bitmap.buffer)]) {
    expect(findNextBit(view, 2 ** 32 + 64, 2 ** 32 - 100)).toBe(2 ** 32 + 5);
    expect(findNextBit(view, 2 ** 32 + 3, 2 ** 32 - 100)).toBe(2 ** 32 + 3);
    expect(findNextBit(view, undefined, 2 ** 32 + 6)).toBe(2 ** 32 + 64);
    expect(findNextZeroBit(view, undefined, 2 ** 31 - 64)).toBe(2 ** 31 + 8);
  }
});

test('an offset after the size finds nothing', () => {
  const bitmap = Uint8Array.of(0xff);
  expect(findNextBit(bitmap, 4, 4)).toBe(4);
  expect(findNextBit(bitmap, 0, 0)).toBe(0);
  expect(findNextBit(bitmap, 4, Number.MAX_SAFE_INTEGER)).toBe(4);
});

test.each(['Uint8Array', 'Uint32Array', 'DataView', 'BigInt64Array'])(
  '%s: detached, it has no bits',
  (name) => {
    const bytes = new Uint8Array(64).fill(0xff);
    const view = views[name]?.(bytes) ?? bytes;
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    expect(findNextBit(view)).toBe(0);
    expect(hammingDistance(view, new Uint8Array(0))).toBe(0);
    expect(() => findNextBit(view, 1)).toThrow(code('ERR_OUT_OF_RANGE'));
  },
);

describe('the weight', () => {
  test('of 8 and 16 bits, all of them', () => {
    for (let value = 0; value <= 0xffff; value++) {
      const expected = ones(value);
      if (hammingWeight16(value) !== expected || (value <= 0xff && hammingWeight8(value) !== expected)) {
        expect.fail(`${value}`);
      }
    }
  });

  test(`of 32 and 64 bits, and the distance, IOSPACE_SEED=${seed}`, () => {
    const random = randomFrom(seed);
    const word = () => random.pick([0, 1, 2 ** 31, 2 ** 32 - 1, random.below(2 ** 32)]);
    for (let round = 0; round < 2000; round++) {
      const [a, b, c, d] = [word(), word(), word(), word()];
      const [ab, cd] = [(BigInt(a) << 32n) | BigInt(b), (BigInt(c) << 32n) | BigInt(d)];
      expect(hammingWeight32(a)).toBe(ones(a));
      expect(hammingWeight32(a | 0)).toBe(ones(a));
      expect(hammingWeight64(ab)).toBe(ones(ab));
      expect(hammingDistance(a, b)).toBe(ones(BigInt(a) ^ BigInt(b)));
      expect(hammingDistance(a | 0, b)).toBe(ones(BigInt(a) ^ BigInt(b)));
      expect(hammingDistance(ab, cd)).toBe(ones(ab ^ cd));
      expect(hammingDistance(a, cd)).toBe(ones(BigInt(a) ^ cd));
      // A number of more than 32 bits, beside one of fewer.
      const long = (a & 0x1f_ffff) * 2 ** 32 + b;
      expect(hammingWeight64(long)).toBe(ones(long));
      expect(hammingDistance(long, c)).toBe(ones(BigInt(long) ^ BigInt(c)));
    }
  });
});

test('strings differ by characters', () => {
  expect(hammingDistance('', '')).toBe(0);
  expect(hammingDistance('1011101', '1001001')).toBe(2);
  expect(hammingDistance('a😀c', 'a😁d')).toBe(2);
  expect(hammingDistance('\0', 'x')).toBe(1);
  expect(() => hammingDistance('😀', 'ab')).toThrow('expected 1, as a has, for the characters of b, got 2');
});

describe('wrong arguments', () => {
  type Case = readonly [call: () => unknown, code: string, message: RegExp];
  const any = (value: unknown): never => value as never;
  const type = 'ERR_INVALID_ARG_TYPE';
  const value = 'ERR_INVALID_ARG_VALUE';
  const range = 'ERR_OUT_OF_RANGE';
  const byte = Uint8Array.of(0);
  const cases: readonly Case[] = [
    [
      () => findNextBit(any([1])),
      type,
      /^expected a typed array, Buffer or DataView for bitmap, got \[ 1 \]$/,
    ],
    [() => findNextZeroBit(any(byte.buffer)), type, /for bitmap/],
    [() => findNextBit(byte, 9), range, /^expected an integer from 0 to 8 for size, got 9$/],
    [() => findNextBit(byte, -1), range, /for size/],
    [() => findNextBit(byte, any('8')), type, /for size/],
    [() => findNextZeroBit(byte, 8, -1), range, /for offset/],
    [() => findNextZeroBit(byte, 8, 0.5), range, /for offset/],
    [() => findNextZeroBit(byte, 8, any(1n)), type, /for offset/],
    [() => hammingWeight8(256), range, /^expected an integer from 0 to 255 for value, got 256$/],
    [() => hammingWeight8(-1), range, /for value/],
    [() => hammingWeight16(65_536), range, /from 0 to 65535/],
    [() => hammingWeight32(2 ** 32), range, /from -2147483648 to 4294967295/],
    [() => hammingWeight32(-(2 ** 31) - 1), range, /for value/],
    [() => hammingWeight32(any(1n)), type, /a number for value, got 1n/],
    [() => hammingWeight64(1n << 64n), range, /0 to 2\^64 - 1 for value/],
    [() => hammingWeight64(-1n), range, /for value/],
    [() => hammingWeight64(2 ** 53), range, /for value/],
    [() => hammingWeight64(any('1')), type, /a bigint or a number for value/],
    [
      () => hammingDistance(any(null), 1),
      type,
      /a number, a bigint, a string, a typed array or a DataView for a/,
    ],
    [() => hammingDistance(1, any('1')), type, /a bigint or a number for b/],
    [() => hammingDistance(any('1'), any(1)), type, /a string, as a is for b/],
    [() => hammingDistance(any(byte), any('1')), type, /a typed array, Buffer or DataView for b/],
    [() => hammingDistance(1.5, 1), range, /for a/],
    [() => hammingDistance(-1, 2 ** 40), range, /for a, got -1/],
    [() => hammingDistance(any(1), any(2), any(8)), type, /only bitmaps have a size/],
    [() => hammingDistance('toned', 'rose'), value, /^expected 5, as a has, for the characters of b, got 4$/],
    [
      () => hammingDistance(byte, new Uint16Array(1)),
      value,
      /^expected 1, as a has .*, for the bytes of b, got 2$/,
    ],
    [() => hammingDistance(byte, new Uint16Array(1), 9), range, /from 0 to 8 for size/],
    [() => hammingDistance(new Uint16Array(1), byte, 9), range, /from 0 to 8 for size/],
  ];
  test.each(cases)('%s', (call, expected, message) => {
    expect(call).toThrow(code(expected));
    expect(call).toThrow(message);
  });
});

/** Runs an example, a statement a line; a number in the comment after it says what its value is. */
function runExample(lines: string[]): void {
  const body = lines.map((line) => {
    const [, name, expression, said] =
      line.match(/^(?:const (\w+) = )?(.*);(?: \/\/ (\d+).*)?$/) ?? expect.fail(line);
    if (said === undefined) {
      return line;
    }
    return name === undefined ? `check(${expression}, ${said});` : `${line}\ncheck(${name}, ${said});`;
  });
  const check = (value: unknown, said: number) => expect(value).toBe(said);
  new Function('check', ...Object.keys(bits), body.join('\n'))(check, ...Object.values(bits));
  expect.hasAssertions();
}

describe('examples', () => {
  const source = readFileSync(new URL('../../lib/bits.ts', import.meta.url), 'utf8');
  const examples = [...source.matchAll(/@example\n((?: \* .*\n)+) \*\//g)].map(([, text = '']) =>
    text
      .trimEnd()
      .split('\n')
      .map((line) => line.slice(3)),
  );
  test('each function has one, and strings and bitmaps too', () => expect(examples).toHaveLength(9));
  test.each(examples.map((lines) => [lines[0], lines] as const))('%s', (_first, lines) => {
    runExample(lines);
  });
  test('of the README', () => {
    const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
    const [, text] = readme.match(/from 'iospace\/bits';\n\n([\s\S]*?)\n```/) ?? expect.fail('none');
    runExample(text?.split('\n') ?? []);
  });
});
