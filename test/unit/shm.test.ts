import { constants as limits } from 'node:buffer';
import { existsSync, statfsSync, statSync, truncateSync } from 'node:fs';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type OpenOptions, posix, type SharedMemory } from '../../lib/shm/index.js';
import { runChild } from './child.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

let name: string;
let counter = 0;
beforeEach(() => {
  name = `/iospace-test-${process.pid}-${counter++}`;
});
afterEach(() => {
  if (existsSync(`/dev/shm${name}`)) {
    posix.unlink(name);
  }
});

const create = (options: OpenOptions = {}): SharedMemory =>
  posix.open(name, { create: true, size: 4096, ...options });

describe('posix.open', () => {
  test('makes an object of the size asked for, zeroed, its memory allocated', () => {
    using memory = create({ size: 100_000 });
    expect(memory).toMatchObject({
      name,
      byteLength: 100_000,
      created: true,
      readOnly: false,
      closed: false,
    });
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
    const { size, blocks, mode } = statSync(`/dev/shm${name}`);
    expect(size).toBe(100_000);
    expect(blocks * 512).toBeGreaterThanOrEqual(100_000);
    expect(mode & 0o777).toBe(0o600);
  });

  test('opens the one that there is, whole or in part', () => {
    using first = create();
    using second = posix.open(name);
    using again = create();
    using part = posix.open(name, { size: 100 });
    expect([second.created, again.created, part.byteLength]).toEqual([false, false, 100]);
    first.bytes[42] = 1;
    expect([second, again, part].map(({ bytes }) => bytes[42])).toEqual([1, 1, 1]);
    second.view(Int32Array)[0] = -5;
    expect(Atomics.load(first.view(Int32Array), 0)).toBe(-5);
  });

  test('adds a leading slash that is missing', () => {
    using memory = create();
    using same = posix.open(name.slice(1));
    expect(same.name).toBe(memory.name);
  });

  test('gives a new object the permissions asked for', () => {
    using _memory = create({ mode: 0o640 });
    expect(statSync(`/dev/shm${name}`).mode & 0o777).toBe(0o640);
  });

  test('is shared with other processes', async () => {
    using memory = create();
    const { code: exit, stderr } = await runChild(
      `import { posix } from 'iospace/shm';
       using_(posix.open(${JSON.stringify(name)}));
       function using_(memory) { memory.view(Uint32Array)[7] = process.pid; memory.close(); }`,
    );
    expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
    expect(memory.view(Uint32Array)[7]).toBeGreaterThan(0);
  });

  test.each([
    [{}, 'ENOENT'],
    [{ readOnly: true }, 'ENOENT'],
    [{ create: true }, 'ERR_INVALID_ARG_VALUE'],
    [{ create: true, size: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ create: true, size: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ create: true, size: 1.5 }, 'ERR_OUT_OF_RANGE'],
    [{ create: true, size: '4096' }, 'ERR_INVALID_ARG_TYPE'],
    [{ create: true, size: 4096, readOnly: true }, 'ERR_INVALID_ARG_VALUE'],
    [{ exclusive: true }, 'ERR_INVALID_ARG_VALUE'],
    [{ create: 1, size: 4096 }, 'ERR_INVALID_ARG_TYPE'],
    [{ create: true, size: 4096, mode: 0o1777 }, 'ERR_OUT_OF_RANGE'],
    [{ create: true, size: 4096, permissions: 0o600 }, 'ERR_INVALID_ARG_VALUE'],
  ])('%o of an object that is not there is %s', (options, expected) => {
    expect(() => posix.open(name, options as OpenOptions)).toThrow(code(expected));
    expect(existsSync(`/dev/shm${name}`)).toBe(false);
  });

  const room = statfsSync('/dev/shm');
  const tooMuch = room.blocks * room.bsize + 1;
  test.skipIf(tooMuch > limits.MAX_LENGTH)(
    'more than there is room for is an error now, and leaves no object',
    () => {
      expect(() => create({ size: tooMuch })).toThrow(code('ENOSPC'));
      expect(existsSync(`/dev/shm${name}`)).toBe(false);
    },
  );

  test('of an object that is there: EEXIST with exclusive, ERR_OUT_OF_RANGE beyond its end', () => {
    using _memory = create();
    expect(() => create({ exclusive: true })).toThrow(code('EEXIST'));
    expect(() => posix.open(name, { size: 4097 })).toThrow(code('ERR_OUT_OF_RANGE'));
    expect(() => create({ size: 4097 })).toThrow(code('ERR_OUT_OF_RANGE'));
    truncateSync(`/dev/shm${name}`, 0);
    expect(() => posix.open(name)).toThrow(code('EINVAL'));
  });

  test('an object whose maker stopped before it had a size gets one', () => {
    create().close();
    truncateSync(`/dev/shm${name}`, 0);
    using memory = create({ size: 8192 });
    expect(memory).toMatchObject({ created: false, byteLength: 8192 });
    expect(memory.bytes[8191]).toBe(0);
  });

  test.each(['', '/', '//a', '/a/b', 'a/b', '.', '/..', 'x'.repeat(256), 'ü'.repeat(128), 'a\0b'])(
    'the name %o is refused',
    (bad) => {
      expect(() => posix.open(bad)).toThrow(code('ERR_INVALID_ARG_VALUE'));
      expect(() => posix.unlink(bad)).toThrow(code('ERR_INVALID_ARG_VALUE'));
    },
  );

  test('a name of 255 bytes is not', () => {
    expect(() => posix.open('x'.repeat(255))).toThrow(code('ENOENT'));
    expect(() => posix.open(5 as unknown as string)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test('exactly one of those who race finds that it made the object', async () => {
    const program = `
      import { posix } from 'iospace/shm';
      console.log(posix.open(${JSON.stringify(name)}, { create: true, size: 4096 }).created);`;
    const outcomes = await Promise.all(Array.from({ length: 6 }, () => runChild(program)));
    expect(outcomes.map(({ stdout }) => stdout).sort()).toEqual([...Array(5).fill('false\n'), 'true\n']);
  });
});

describe('a read-only memory', () => {
  test('can be read by copying, and has no way to write', () => {
    using memory = create();
    memory.bytes.set([1, 2, 3], 10);
    using readOnly = posix.open(name, { readOnly: true });
    const copy = readOnly.read(10, 3);
    expect([...copy]).toEqual([1, 2, 3]);
    copy.fill(9);
    expect(memory.bytes[10]).toBe(1);
    expect(readOnly.read()).toHaveLength(4096);
    for (const write of [() => readOnly.buffer, () => readOnly.bytes, () => readOnly.view(Uint8Array)]) {
      expect(write).toThrow(code('EACCES'));
    }
  });

  test('reads inside its bounds', () => {
    using memory = create();
    expect(memory.read(4096)).toHaveLength(0);
    for (const [offset, length] of [
      [-1, 1],
      [4097, 0],
      [0, 4097],
      [1, 4096],
    ] as const) {
      expect(() => memory.read(offset, length)).toThrow(code('ERR_OUT_OF_RANGE'));
    }
  });
});

describe('the end', () => {
  test('close() detaches, and may be called twice; the object stays', () => {
    const memory = create();
    const { bytes } = memory;
    bytes.fill(1);
    memory.close();
    memory.close();
    memory[Symbol.dispose]();
    expect(bytes).toHaveLength(0);
    for (const use of [
      () => memory.bytes,
      () => memory.buffer,
      () => memory.read(),
      () => memory.view(Uint8Array),
    ]) {
      expect(use).toThrow(code('ERR_INVALID_STATE'));
    }
    using again = posix.open(name);
    expect(again.bytes[4095]).toBe(1);
  });

  test('unlink() takes the name; those who have the memory keep it', () => {
    using memory = create();
    memory.unlink();
    expect(() => posix.open(name)).toThrow(code('ENOENT'));
    expect(() => memory.unlink()).toThrow(code('ENOENT'));
    expect(() => posix.unlink(name)).toThrow(code('ENOENT'));
    memory.bytes.fill(1);
    expect(memory.bytes[0]).toBe(1);
  });
});

test('posix.list() names what there is', () => {
  using _memory = create();
  expect(posix.list()).toContain(name);
  posix.unlink(name);
  expect(posix.list()).not.toContain(name);
});

test('inspecting touches no memory', () => {
  using memory = create();
  expect(inspect(memory)).toBe(
    `SharedMemory { name: '${name}', byteLength: 4096, readOnly: false, closed: false }`,
  );
});
