/** What waits for the other side of a ring: blocking calls, promises, iteration, streams. */
import { Readable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { expect, test, vi } from 'vitest';
import { binding } from '../../../lib/binding.js';
import { futex, Ring, type RingConsumer, type RingProducer } from '../../../lib/shm/index.js';

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

function ends(capacity = 64): { producer: RingProducer; consumer: RingConsumer; memory: ArrayBuffer } {
  const memory = new ArrayBuffer(1024 + capacity);
  Ring.create(memory);
  return { producer: Ring.producer(memory), consumer: Ring.consumer(memory), memory };
}

const text = (message: Uint8Array | undefined): string | undefined =>
  message === undefined ? undefined : Buffer.from(message).toString();

test('send() waits for room, and messages keep their order', async () => {
  const { producer, consumer } = ends();
  const sent = ['aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbb', 'c', 'dddddddddddddddddddd', ''].map(
    (message) => producer.send(Buffer.from(message)),
  );
  const received: (string | undefined)[] = [];
  for (let count = 0; count < 5; count++) {
    received.push(text(await consumer.receive({ timeout: 5000 })));
  }
  await Promise.all(sent);
  expect(received).toEqual(['aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbb', 'c', 'dddddddddddddddddddd', '']);
});

test('a send that gives up lets the next one go', async () => {
  const { producer, consumer } = ends();
  producer.trySend(new Uint8Array(24));
  producer.trySend(new Uint8Array(24));
  const ending = new AbortController();
  const first = producer.send(Buffer.from('first'), { signal: ending.signal });
  const second = producer.send(Buffer.from('second'));
  const third = producer.send(Buffer.from('third'), { timeout: 5000 });
  ending.abort('enough');
  await expect(first).rejects.toMatchObject({ code: 'ABORT_ERR', cause: 'enough' });
  consumer.tryReceive();
  await second;
  await third;
  expect([text(consumer.tryReceive()), text(consumer.tryReceive())]).toEqual(['\0'.repeat(24), 'second']);
  expect(text(consumer.tryReceive())).toBe('third');
});

test('a send that waits for its turn ends by its own signal and time, and nobody takes its place', async () => {
  const { producer, consumer } = ends();
  while (producer.trySend(Buffer.from('full'))) {}
  const ending = new AbortController();
  const first = producer.send(Buffer.from('first'));
  const second = producer.send(Buffer.from('second'), { signal: ending.signal });
  const third = producer.send(Buffer.from('third'), { timeout: 5 });
  const fourth = producer.send(Buffer.from('fourth'), { timeout: 10_000, signal: ending.signal });
  const last = producer.send(Buffer.from('last'));
  await expect(third).rejects.toThrow(code('ETIMEDOUT'));
  ending.abort('enough');
  await expect(second).rejects.toMatchObject({ code: 'ABORT_ERR', cause: 'enough' });
  await expect(fourth).rejects.toMatchObject({ code: 'ABORT_ERR', cause: 'enough' });
  const received: (string | undefined)[] = [];
  for await (const message of consumer) {
    received.push(text(message));
    if (received.at(-1) === 'last') {
      break;
    }
  }
  await Promise.all([first, last]);
  expect(received.filter((message) => message !== 'full')).toEqual(['first', 'last']);
});

test.each(['single', 'many'] as const)('the memory of a ring of kind %s goes at any time', async (kind) => {
  const invalid = code('ERR_INVALID_STATE');
  const sides = () => {
    const memory = new ArrayBuffer(1024 + 128);
    Ring.create(memory, { kind });
    const sending = kind === 'single' ? Ring.producer(memory) : Ring.sender(memory);
    return { memory, sending, consumer: Ring.consumer(memory) };
  };
  const full = sides();
  while (full.sending.trySend(new Uint8Array(8))) {}
  const sent = full.sending.send(new Uint8Array(8));
  structuredClone(full.memory, { transfer: [full.memory] });
  await expect(sent).rejects.toThrow(invalid);

  const { memory, sending, consumer } = sides();
  const received = consumer.receive();
  structuredClone(memory, { transfer: [memory] });
  await expect(received).rejects.toThrow(invalid);
  await expect(consumer.receive()).rejects.toThrow(invalid);
  expect(() => consumer.receiveSync()).toThrow(invalid);
  expect(() => consumer.peer).toThrow(invalid);
  await expect(sending.send(new Uint8Array(8))).rejects.toThrow(invalid);
  expect(() => sending.sendSync(new Uint8Array(8))).toThrow(invalid);
  expect(() => sending.peer).toThrow(invalid);
});

test.each(['send', 'sendSync'] as const)('%s() into a full ring: timeout, closed consumer', async (name) => {
  const { producer, consumer } = ends();
  while (producer.trySend(new Uint8Array(8))) {}
  const send = async (): Promise<void> => producer[name](new Uint8Array(8), { timeout: 20 });
  const start = performance.now();
  await expect(send()).rejects.toThrow(code('ETIMEDOUT'));
  expect(performance.now() - start).toBeGreaterThanOrEqual(19);
  consumer.close();
  await expect(send()).rejects.toThrow(code('EPIPE'));
});

test.each(['receive', 'receiveSync'] as const)(
  '%s() of an empty ring: timeout, closed producer',
  async (name) => {
    const { producer, consumer } = ends();
    const receive = async (timeout: number): Promise<Uint8Array | undefined> => consumer[name]({ timeout });
    await expect(receive(20)).rejects.toThrow(code('ETIMEDOUT'));
    await expect(receive(0)).rejects.toThrow(code('ETIMEDOUT'));
    producer.trySend(Buffer.from('last'));
    producer.close();
    expect(text(await receive(1000))).toBe('last');
    expect(await receive(1000)).toBeUndefined();
  },
);

test.each(['closed', 'dead'] as const)(
  'what was sent after the last look at a producer that is %s',
  async (peer) => {
    for (const name of ['receive', 'receiveSync'] as const) {
      const { producer, consumer } = ends();
      Object.defineProperty(consumer, 'peer', {
        get: () => {
          if (!producer.closed) {
            producer.trySend(Buffer.from('late'));
            producer.close();
          }
          return peer;
        },
      });
      expect(text(await consumer[name]())).toBe('late');
      if (peer === 'closed') {
        expect(await consumer[name]()).toBeUndefined();
      } else {
        await expect((async () => consumer[name]())()).rejects.toThrow(code('EOWNERDEAD'));
      }
    }
  },
);

const CONSUMER_SLEEPS = 240;
const SENDERS_SLEEP = 244;

test('who sleeps says so, and is woken by whoever has news, also from the fast half', async () => {
  const { producer, consumer, memory } = ends();
  const words = new Int32Array(memory);
  const wake = vi.spyOn(binding(), 'futexWake');
  const isAsleep = (word: number) => ((words[word] as number) & 1) !== 0;
  const asleep = (word: number) => vi.waitFor(() => expect(isAsleep(word)).toBe(true), { interval: 1 });

  const message = consumer.receive();
  await asleep(CONSUMER_SLEEPS);
  producer.reserve(8);
  expect(wake).not.toHaveBeenCalled();
  producer.commit();
  expect(isAsleep(CONSUMER_SLEEPS)).toBe(false);
  expect(await message).toHaveLength(8);

  while (producer.trySend(new Uint8Array(8))) {}
  const sent = producer.send(Buffer.from('more'));
  await asleep(SENDERS_SLEEP);
  consumer.peek();
  consumer.release();
  expect(isAsleep(SENDERS_SLEEP)).toBe(false);
  await sent;
  expect(wake).toHaveBeenCalledTimes(2);

  while (consumer.tryReceive() !== undefined) {}
  const end = consumer.receive();
  await asleep(CONSUMER_SLEEPS);
  producer.close();
  expect(isAsleep(CONSUMER_SLEEPS)).toBe(false);
  expect(await end).toBeUndefined();
  wake.mockRestore();
});

test('who is about to sleep when the news comes does not, though another sleeps by then', () => {
  const memory = new ArrayBuffer(1024 + 128);
  Ring.create(memory, { kind: 'many' });
  const [one, other] = [Ring.sender(memory), Ring.sender(memory)];
  const consumer = Ring.consumer(memory);
  while (one.trySend(new Uint8Array(8))) {}
  const wait = vi.spyOn(binding(), 'futexWait');
  const sleep = binding().futexWait;
  const outcomes: number[] = [];
  wait.mockImplementationOnce((...parameters) => {
    expect(consumer.tryReceive()).toHaveLength(8);
    expect(other.trySend(new Uint8Array(8))).toBe(true);
    expect(() => other.sendSync(new Uint8Array(8), { timeout: 1 })).toThrow(code('ETIMEDOUT'));
    consumer.tryReceive();
    wait.mockRestore();
    const words = new Int32Array(memory);
    words[SENDERS_SLEEP] = (words[SENDERS_SLEEP] as number) | 1;
    outcomes.push(sleep(...parameters));
    return outcomes[0] as number;
  });
  one.sendSync(new Uint8Array(8));
  // Of native code: another value than expected.
  expect(outcomes).toEqual([1]);
});

test('a word that others write all the time leaves the event loop its turns', async () => {
  const { consumer } = ends();
  let calls = 0;
  const wait = vi.spyOn(futex, 'waitAsync').mockImplementation(async () => {
    if (++calls > 100_000) {
      throw new Error('nothing else had its turn');
    }
    return 'not-equal';
  });
  const ending = new AbortController();
  setTimeout(() => ending.abort(), 5);
  await expect(consumer.receive({ signal: ending.signal })).rejects.toThrow(code('ABORT_ERR'));
  wait.mockRestore();
});

test.each(['single', 'many'] as const)(
  'who sleeps in a ring of kind %s, and more than may sleep',
  async (kind) => {
    const rings = Array.from({ length: 200 }, () => {
      const memory = new ArrayBuffer(1024 + 128);
      Ring.create(memory, { kind });
      return {
        sending: kind === 'single' ? Ring.producer(memory) : Ring.sender(memory),
        consumer: Ring.consumer(memory),
      };
    });
    const received = rings.map(({ consumer }) => consumer.receive({ timeout: 5000 }));
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (const { sending } of rings) {
      sending.trySend(Buffer.from('news'));
    }
    expect((await Promise.all(received)).map(text)).toEqual(Array(200).fill('news'));
  },
);

test('an aborted wait is an AbortError; one aborted before takes nothing', async () => {
  const { producer, consumer } = ends();
  const ending = new AbortController();
  const waiting = consumer.receive({ signal: ending.signal });
  setTimeout(() => ending.abort(), 30);
  await expect(waiting).rejects.toThrow(code('ABORT_ERR'));
  producer.trySend(Buffer.from('there'));
  await expect(consumer.receive({ signal: ending.signal })).rejects.toThrow(code('ABORT_ERR'));
  expect(text(consumer.tryReceive())).toBe('there');
});

test.each([
  [{ timeout: -1 }, 'ERR_OUT_OF_RANGE'],
  [{ timeout: '1' }, 'ERR_INVALID_ARG_TYPE'],
  [{ signal: {} }, 'ERR_INVALID_ARG_TYPE'],
  [{ wait: 1 }, 'ERR_INVALID_ARG_VALUE'],
])('%o is refused', async (options, expected) => {
  const { producer, consumer } = ends();
  await expect(producer.send(new Uint8Array(1), options as never)).rejects.toThrow(code(expected));
  await expect(consumer.receive(options as never)).rejects.toThrow(code(expected));
});

test('an iteration gives all messages, and ends with the producer', async () => {
  const { producer, consumer } = ends(1024);
  const all = Array.from({ length: 3000 }, (_, index) => `${index}`);
  const sending = (async () => {
    for (const message of all) {
      await producer.send(Buffer.from(message));
    }
    producer.close();
  })();
  const received: (string | undefined)[] = [];
  for await (const message of consumer) {
    received.push(text(message));
  }
  await sending;
  expect(received).toEqual(all);
});

test('an iteration over messages that never end lets the event loop run', async () => {
  const { producer, consumer } = ends();
  let isOver = false;
  setTimeout(() => {
    isOver = true;
  }, 1);
  producer.trySend(Uint8Array.of(1));
  let count = 0;
  for await (const message of consumer) {
    if (isOver || ++count === 3_000_000) {
      break;
    }
    producer.trySend(message);
  }
  expect(isOver).toBe(true);
});

test('streams carry bytes, in pieces of any length', async () => {
  const { producer, consumer } = ends(256);
  const bytes = Buffer.from(Array.from({ length: 10_000 }, (_, index) => (index * 7) & 0xff));
  const chunks = [bytes.subarray(0, 1), bytes.subarray(1, 5000), Buffer.alloc(0), bytes.subarray(5000)];
  const written = pipeline(Readable.from(chunks, { objectMode: false }), producer.writable());
  const read: Buffer[] = [];
  for await (const chunk of consumer.readable()) {
    read.push(chunk as Buffer);
  }
  await written;
  expect(Buffer.concat(read).equals(bytes)).toBe(true);
  expect([producer.closed, consumer.closed]).toEqual([true, true]);
});

test('a destroyed stream leaves the ring, also while it waits', async () => {
  const { producer, consumer } = ends();
  const readable = consumer.readable();
  readable.resume();
  const writable = producer.writable();
  setTimeout(() => readable.destroy(), 20);
  await finished(readable).catch(() => {});
  writable.write(Buffer.alloc(1000));
  await expect(finished(writable)).rejects.toThrow(code('EPIPE'));
  expect([producer.closed, consumer.closed]).toEqual([true, true]);
});
