/** Rings of one producer in one thread: their making, the fast calls, and what damage does to them. */
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { Ring, type RingMemory, type RingOptions } from '../../../lib/shm/index.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

const HEADER = 1024;
const TAIL = 32;
const HEAD = 64;

function memoryOf(capacity: number, options?: RingOptions): ArrayBuffer {
  const memory = new ArrayBuffer(HEADER + capacity);
  Ring.create(memory, options);
  return memory;
}

describe('Ring.create', () => {
  test.each([
    [HEADER + 64, 24],
    [HEADER + 127, 24],
    [HEADER + 128, 56],
    [HEADER + 4095, 1016],
  ])('of %i bytes takes the largest power of two: messages of %i', (byteLength, maxLength) => {
    const memory = new ArrayBuffer(byteLength);
    Ring.create(memory);
    expect(Ring.producer(memory)).toMatchObject({ maxLength, closed: false, peer: 'none' });
  });

  test('makes it in a part of memory, and touches no byte around it', () => {
    const all = new Uint8Array(64 + HEADER + 128 + 64).fill(7);
    const part = all.subarray(64, 64 + HEADER + 128).fill(0);
    Ring.create(part);
    const producer = Ring.producer(part);
    const consumer = Ring.consumer(part);
    for (let index = 0; index < 100; index++) {
      expect(producer.trySend(Uint8Array.of(index, 1, 2))).toBe(true);
      expect([...(consumer.tryReceive() ?? [])]).toEqual([index, 1, 2]);
    }
    expect([...all.subarray(0, 64), ...all.subarray(-64)]).toEqual(Array(128).fill(7));
  });

  test('refuses memory with anything in it, unless it is to be replaced', () => {
    const memory = memoryOf(128);
    Ring.producer(memory).trySend(new Uint8Array(9));
    expect(() => Ring.create(memory)).toThrow(code('EEXIST'));
    expect(Ring.consumer(memory).tryReceive()).toHaveLength(9);
    Ring.create(memory, { replace: true, kind: 'many' });
    expect(Ring.consumer(memory).tryReceive()).toBeUndefined();
    expect(Ring.sender(memory).trySend(new Uint8Array(56))).toBe(true);
    const foreign = new ArrayBuffer(HEADER + 64);
    new Uint8Array(foreign)[0] = 1;
    expect(() => Ring.create(foreign)).toThrow(code('EEXIST'));
  });

  test.each([
    [new ArrayBuffer(HEADER + 63), {}, 'ERR_OUT_OF_RANGE'],
    [new Uint8Array(new ArrayBuffer(4096), 32), {}, 'ERR_OUT_OF_RANGE'],
    [undefined, {}, 'ERR_INVALID_ARG_TYPE'],
    [null, {}, 'ERR_INVALID_ARG_TYPE'],
    [{ buffer: new ArrayBuffer(8), byteOffset: 0, byteLength: 4096 }, {}, 'ERR_OUT_OF_RANGE'],
    [new ArrayBuffer(4096), { kind: 'any' }, 'ERR_INVALID_ARG_VALUE'],
    [new ArrayBuffer(4096), { maxLength: 8 }, 'ERR_INVALID_ARG_VALUE'],
    [new ArrayBuffer(4096), { kind: 'many', maxLength: -1 }, 'ERR_OUT_OF_RANGE'],
    [new ArrayBuffer(4096), { kind: 'many', maxLength: 1017 }, 'ERR_OUT_OF_RANGE'],
    [new ArrayBuffer(4096), { kind: 'many', maxLength: 2 ** 31 }, 'ERR_OUT_OF_RANGE'],
    [new ArrayBuffer(4096), { replace: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [new ArrayBuffer(4096), { size: 1 }, 'ERR_INVALID_ARG_VALUE'],
  ])('case %#', (memory, options, expected) => {
    expect(() => Ring.create(memory as RingMemory, options as RingOptions)).toThrow(code(expected));
  });
});

describe('the header', () => {
  const enterings = { producer: Ring.producer, consumer: Ring.consumer };

  test.each(Object.entries(enterings))(
    'of nothing, and of something else, is refused to the %s',
    (_, enter) => {
      expect(() => enter(new ArrayBuffer(4096))).toThrow(code('EINVAL'));
      expect(() => enter(new Uint8Array(4096).fill(0xa5).buffer)).toThrow(code('EINVAL'));
    },
  );

  test.each(Object.entries(enterings))('of another version is refused to the %s', (_, enter) => {
    const memory = memoryOf(128);
    new Uint32Array(memory)[1] = 2;
    expect(() => enter(memory)).toThrow(code('EPROTO'));
  });

  test('whose maker has not come to its end is no ring yet', () => {
    const memory = memoryOf(128);
    const magic = new Int32Array(memory, 0, 1);
    const maker = new ArrayBuffer(memory.byteLength);
    // Dies at its first store.
    const store = Atomics.store;
    Atomics.store = () => {
      throw new Error('dead');
    };
    expect(() => Ring.create(maker)).toThrow('dead');
    Atomics.store = store;
    expect(() => Ring.producer(maker)).toThrow(code('EINVAL'));
    expect(() => Ring.create(maker)).toThrow(code('EEXIST'));
    Ring.create(maker, { replace: true });
    expect(new Int32Array(maker)[0]).toBe(magic[0]);
  });

  test.each(
    Array.from({ length: 6 }, (_, word) => word).flatMap((word) => [0, 7, 18, 31].map((bit) => [word, bit])),
  )('with bit %#: word %i, bit %i turned over is refused', (word, bit) => {
    for (const kind of ['single', 'many'] as const) {
      const memory = memoryOf(4096, { kind });
      const words = new Int32Array(memory);
      words[word as number] = (words[word as number] as number) ^ (1 << (bit as number));
      expect(() => Ring.consumer(memory)).toThrow(/EINVAL|EPROTO|EBADMSG/);
    }
  });

  test('that asks for more than the memory has is refused', () => {
    const memory = memoryOf(4096);
    expect(() => Ring.producer(memory.slice(0, HEADER + 4095))).toThrow(code('EBADMSG'));
    Ring.producer(memory.slice(0));
  });

  test.each([
    [TAIL, 8 * 100],
    [TAIL, -8],
    [TAIL, 4],
    [HEAD, 8],
    [HEAD, 1],
  ])('with index %i of %i is refused to both sides', (word, value) => {
    const memory = memoryOf(128);
    new Int32Array(memory)[word] = value;
    for (const enter of Object.values(enterings)) {
      expect(() => enter(memory)).toThrow(code('EBADMSG'));
    }
    const states = new Int32Array(memory, 4 * 96, 4);
    expect([states[0], states[2]]).toEqual([3, 3]);
  });

  test('of the other kind is refused to producer and sender', () => {
    expect(() => Ring.producer(memoryOf(4096, { kind: 'many' }))).toThrow(code('EPROTO'));
    expect(() => Ring.sender(memoryOf(4096))).toThrow(code('EPROTO'));
  });
});

describe('the fast layer', () => {
  test('reserve() gives places in bytes and u32; the consumer sees them after commit(), in place', () => {
    const memory = memoryOf(256);
    const producer = Ring.producer(memory);
    const consumer = Ring.consumer(memory);
    expect(consumer.peek()).toBe(-1);
    const first = producer.reserve(4);
    const second = producer.reserve(0);
    const third = producer.reserve(9);
    expect([first, second, third]).toEqual([8, 24, 32]);
    producer.u32[first >>> 2] = 0xffff_fffe;
    producer.bytes.fill(3, third, third + 9);
    expect(consumer.peek()).toBe(-1);
    producer.commit();
    expect([consumer.peek(), consumer.length, consumer.u32[first >>> 2]]).toEqual([first, 4, 0xffff_fffe]);
    expect([consumer.peek(), consumer.length]).toEqual([second, 0]);
    expect([consumer.peek(), consumer.length]).toEqual([third, 9]);
    expect(consumer.peek()).toBe(-1);
    consumer.rewind();
    expect([consumer.peek(), consumer.length]).toEqual([first, 4]);
    consumer.release();
    expect([...(consumer.peekView() ?? []), consumer.peekView()?.length]).toEqual([0, 9].slice(1));
  });

  test('a message goes never over the end, and the longest always has room in an empty ring', () => {
    for (let start = 0; start < 256; start += 8) {
      const memory = memoryOf(256);
      const words = new Int32Array(memory);
      // Both just before the indices turn over.
      words[TAIL] = start - 256;
      words[HEAD] = start - 256;
      const producer = Ring.producer(memory);
      const consumer = Ring.consumer(memory);
      for (let round = 0; round < 20; round++) {
        const offset = producer.reserve(producer.maxLength);
        expect(offset).toBeGreaterThanOrEqual(8);
        expect(offset + producer.maxLength).toBeLessThanOrEqual(256);
        producer.bytes.fill(round, offset, offset + producer.maxLength);
        producer.commit();
        const message = consumer.tryReceive();
        expect(message).toEqual(new Uint8Array(producer.maxLength).fill(round));
      }
    }
  });

  test('reserve() is -1 where there is no room, and takes nothing', () => {
    const memory = memoryOf(64);
    const producer = Ring.producer(memory);
    const consumer = Ring.consumer(memory);
    expect([producer.reserve(24), producer.reserve(24), producer.reserve(0)]).toEqual([8, 40, -1]);
    producer.abandon();
    // The last has its 8 bytes at the very end.
    expect([producer.reserve(16), producer.reserve(24), producer.reserve(0)]).toEqual([8, 32, 64]);
    producer.commit();
    expect(producer.reserve(0)).toBe(-1);
    expect(consumer.tryReceive()).toHaveLength(16);
    expect([producer.reserve(24), producer.reserve(16), producer.reserve(0)]).toEqual([-1, 8, -1]);
  });

  test('a view to write in place', () => {
    const memory = memoryOf(64);
    const producer = Ring.producer(memory);
    producer.reserveView(3)?.set([1, 2, 3]);
    producer.commit();
    expect([...(Ring.consumer(memory).tryReceive() ?? [])]).toEqual([1, 2, 3]);
    expect(producer.reserveView(24)?.byteLength).toBe(24);
    expect(producer.reserveView(24)).toBeUndefined();
  });

  test.each([-1, 25, 0.5, NaN, Infinity, 2 ** 32])('reserve(%d) is ERR_OUT_OF_RANGE', (length) => {
    expect(() => Ring.producer(memoryOf(64)).reserve(length)).toThrow(code('ERR_OUT_OF_RANGE'));
  });

  test.each(['8', null, undefined, {}, 8n])('reserve(%o) is ERR_INVALID_ARG_TYPE', (length) => {
    expect(() => Ring.producer(memoryOf(64)).reserve(length as number)).toThrow(code('ERR_INVALID_ARG_TYPE'));
  });

  test('a message that is none, or too long', () => {
    const producer = Ring.producer(memoryOf(64));
    expect(() => producer.trySend('abc' as never)).toThrow(code('ERR_INVALID_ARG_TYPE'));
    expect(() => producer.trySend(new Uint8Array(25))).toThrow(code('ERR_OUT_OF_RANGE'));
  });
});

test('inspecting touches no memory', () => {
  const memory = memoryOf(128);
  const many = memoryOf(128, { kind: 'many' });
  expect(
    [Ring.producer(memory), Ring.sender(many), Ring.consumer(memory)].map((side) => inspect(side)),
  ).toEqual([
    'RingProducer { maxLength: 56, closed: false }',
    'RingSender { maxLength: 56, closed: false }',
    'RingConsumer { byteLength: 128, closed: false }',
  ]);
});

describe('the end', () => {
  test('after close() each call is ERR_INVALID_STATE; what was sent stays', () => {
    const memory = memoryOf(128);
    const producer = Ring.producer(memory);
    const consumer = Ring.consumer(memory);
    producer.trySend(Uint8Array.of(1));
    producer.reserve(8);
    expect([producer.peer, consumer.peer]).toEqual(['open', 'open']);
    producer.close();
    producer.close();
    expect([producer.closed, consumer.peer]).toEqual([true, 'closed']);
    for (const use of [
      () => producer.reserve(1),
      () => producer.commit(),
      () => producer.trySend(new Uint8Array(1)),
    ]) {
      expect(use).toThrow(code('ERR_INVALID_STATE'));
    }
    expect(consumer.peek()).toBe(8);
    consumer[Symbol.dispose]();
    for (const use of [() => consumer.peek(), () => consumer.release(), () => consumer.tryReceive()]) {
      expect(use).toThrow(code('ERR_INVALID_STATE'));
    }
    expect(Ring.consumer(memory).tryReceive()).toEqual(Uint8Array.of(1));
  });

  test.each(['single', 'many'] as const)('of the memory of a ring of kind %s', (kind) => {
    const memory = memoryOf(128, { kind });
    const sending = kind === 'single' ? Ring.producer(memory) : Ring.sender(memory);
    const consumer = Ring.consumer(memory);
    sending.trySend(Uint8Array.of(1));
    structuredClone(memory, { transfer: [memory] });
    expect(() => {
      sending.trySend(Uint8Array.of(1));
    }).toThrow(code('ERR_INVALID_STATE'));
    expect(() => consumer.tryReceive()).toThrow(code('ERR_INVALID_STATE'));
    expect(() => consumer.release()).toThrow(code('ERR_INVALID_STATE'));
    sending.close();
    consumer.close();
  });
});
