/** Random calls, against a list; what is in the memory without being published does not matter; garbage is an error. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Ring, type RingConsumer, type RingWriter } from '../../../lib/shm/index.js';

const HEADER = 1024;
const TAIL = 32;
const HEAD = 64;

const isDamaged = (error: unknown): boolean => (error as { code?: string }).code === 'EBADMSG';

/** What the single ring has published: the rest of its memory may be anything. */
function scribble(memory: ArrayBuffer, seed: number): void {
  const words = new Int32Array(memory);
  const capacity = memory.byteLength - HEADER;
  let random = seed | 1;
  for (let position = words[TAIL] as number; position !== (words[HEAD] as number) + capacity; position++) {
    random = Math.imul(random, 1_664_525) + 1_013_904_223;
    new Uint8Array(memory)[HEADER + (position & (capacity - 1))] = random >>> 24;
  }
}

const call = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('reserve' as const), length: fc.nat(72) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('commit' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('abandon' as const) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('peek' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('release' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('rewind' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom('producerDies' as const, 'consumerDies' as const),
      seed: fc.nat(),
    }),
  },
);

test('a ring of one producer is a list, also over the deaths of both sides', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(64, 128, 256),
      fc.integer({ min: -80, max: 80 }),
      fc.array(call, { maxLength: 120 }),
      (capacity, start, calls) => {
        const memory = new ArrayBuffer(HEADER + capacity);
        Ring.create(memory);
        new Int32Array(memory)[TAIL] = start * 8;
        new Int32Array(memory)[HEAD] = start * 8;
        let producer = Ring.producer(memory);
        let consumer = Ring.consumer(memory);
        let reserved: number[][] = [];
        /** What the consumer has not released; of these `peeked` were given. */
        const sent: number[][] = [];
        let peeked = 0;
        let serial = 0;
        for (const step of calls) {
          if (step.do === 'reserve') {
            const length = Math.min(step.length, producer.maxLength);
            const offset = producer.reserve(length);
            if (offset === -1) {
              expect(reserved.length + sent.length).toBeGreaterThan(0);
              continue;
            }
            const message = Array.from({ length }, (_, index) => (serial + index) & 0xff);
            serial++;
            producer.bytes.set(message, offset);
            reserved.push(message);
          } else if (step.do === 'commit') {
            producer.commit();
            sent.push(...reserved);
            reserved = [];
          } else if (step.do === 'abandon') {
            producer.abandon();
            reserved = [];
          } else if (step.do === 'peek') {
            const view = consumer.peekView();
            expect(view === undefined ? undefined : [...view]).toEqual(sent[peeked]);
            peeked += view === undefined ? 0 : 1;
          } else if (step.do === 'release') {
            consumer.release();
            sent.splice(0, peeked);
            peeked = 0;
          } else if (step.do === 'rewind') {
            consumer.rewind();
            peeked = 0;
          } else if (step.do === 'producerDies') {
            scribble(memory, step.seed);
            reserved = [];
            producer = Ring.producer(memory);
          } else {
            peeked = 0;
            consumer = Ring.consumer(memory);
          }
        }
      },
    ),
    { numRuns: 400 },
  );
});

test('a ring of many is a list', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -40, max: 40 }),
      fc.array(fc.record({ who: fc.nat(4), length: fc.nat(56) }), { maxLength: 120 }),
      (turns, calls) => {
        const memory = new ArrayBuffer(HEADER + 512);
        Ring.create(memory, { kind: 'many' });
        // All slots free, in the round where the positions are.
        const words = new Int32Array(memory);
        words[TAIL] = turns * 8;
        words[HEAD] = turns * 8;
        for (let slot = 0; slot < 8; slot++) {
          words[HEADER / 4 + slot * 16] = turns << 8;
        }
        const senders = [Ring.sender(memory), Ring.sender(memory), Ring.sender(memory)];
        const consumer = Ring.consumer(memory);
        const sent: number[][] = [];
        let peeked = 0;
        let serial = 0;
        for (const { who, length } of calls) {
          const sender = senders[who];
          if (sender !== undefined) {
            const message = Array.from({ length }, (_, index) => (serial + index) & 0xff);
            serial++;
            expect(sender.trySend(Uint8Array.from(message))).toBe(sent.length < 8);
            if (sent.length < 8) {
              sent.push(message);
            }
          } else if (who === 3) {
            const view = consumer.peekView();
            expect(view === undefined ? undefined : [...view]).toEqual(sent[peeked]);
            peeked += view === undefined ? 0 : 1;
          } else {
            consumer.release();
            sent.splice(0, peeked);
            peeked = 0;
          }
        }
      },
    ),
    { numRuns: 400 },
  );
});

test.each(['single', 'many'] as const)(
  'garbage anywhere in a ring of kind %s while it runs is EBADMSG at the most, and each call ends',
  (kind) => {
    let refused = 0;
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            word: fc.oneof(fc.constantFrom(TAIL, HEAD), fc.nat((HEADER + 512) / 4 - 1)),
            value: fc.oneof(fc.integer(), fc.integer({ min: -600, max: 600 })),
            calls: fc.array(fc.nat(4), { maxLength: 6 }),
          }),
          { maxLength: 20 },
        ),
        (writes) => {
          const memory = new ArrayBuffer(HEADER + 512);
          Ring.create(memory, { kind });
          const words = new Int32Array(memory);
          const writer: RingWriter = kind === 'single' ? Ring.producer(memory) : Ring.sender(memory);
          const consumer: RingConsumer = Ring.consumer(memory);
          const all = [
            () => writer.trySend(new Uint8Array(24).fill(7)),
            () => consumer.tryReceive(),
            () => consumer.peek(),
            () => consumer.release(),
            () => {
              const offset = consumer.peek();
              if (offset !== -1) {
                expect(offset + consumer.length).toBeLessThanOrEqual(512);
                expect(offset % 8).toBe(0);
              }
            },
          ];
          for (const { word, value, calls } of writes) {
            words[word] = value;
            for (const index of calls) {
              try {
                all[index]?.();
              } catch (error) {
                if (!isDamaged(error)) {
                  throw error;
                }
                refused++;
              }
            }
          }
        },
      ),
      { numRuns: 1000 },
    );
    expect(refused).toBeGreaterThan(100);
  },
);

test('any word in the place of a length is a message inside of what was sent, or EBADMSG', () => {
  const capacity = 128;
  let refused = 0;
  for (let start = 0; start < capacity; start += 8) {
    for (const lengths of [[0], [56], [17, 0], [40, 8], [0, 0, 0]]) {
      for (const word of [...Array(150).keys(), -1, -2, -9, 2 ** 31 - 1, 2 ** 31 - 8, -(2 ** 31)]) {
        const memory = new ArrayBuffer(HEADER + capacity);
        Ring.create(memory);
        const words = new Int32Array(memory);
        words.set([start], TAIL);
        words.set([start], HEAD);
        const producer = Ring.producer(memory);
        for (const length of lengths) {
          producer.trySend(new Uint8Array(length));
        }
        words[HEADER / 4 + start / 4] = word;
        const consumer = Ring.consumer(memory);
        try {
          for (let offset = consumer.peek(); offset !== -1; offset = consumer.peek()) {
            expect(offset % 8 === 0 && offset >= 8 && offset + consumer.length <= capacity).toBe(true);
          }
        } catch (error) {
          if (!isDamaged(error)) {
            throw error;
          }
          refused++;
        }
        consumer.release();
        expect((words[HEAD] as number) - start).toBeGreaterThanOrEqual(0);
        expect(words[HEAD]).toBeLessThanOrEqual(words[TAIL] as number);
      }
    }
  }
  expect(refused).toBeGreaterThan(1000);
});
