/** Senders that die at any of their writes, told by the locks of a real file. */
import { closeSync } from 'node:fs';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { binding, type NativeByteLocks } from '../../../lib/binding.js';
import { mapShared } from '../../../lib/mapping.js';
import { Ring, type RingConsumer, type RingProducer, type RingSender } from '../../../lib/shm/index.js';

const SIZE = 1024 + 512;
const code = (expected: string): unknown => expect.objectContaining({ code: expected });

let fd: number;
let memory: ReturnType<typeof mapShared>;
beforeEach(() => {
  const native = binding();
  fd = native.memfdCreate('ring-many', 0);
  native.ftruncate(fd, SIZE);
  memory = mapShared(native, fd, SIZE, 0n, 'write');
  Ring.create(memory, { kind: 'many' });
});
afterEach(() => {
  vi.restoreAllMocks();
  memory.release();
  closeSync(fd);
});

/** A sender whose lock can be ended as the system ends it, without a word in the memory. */
function mortalSender(): { sender: RingSender; die: () => void } {
  const native = binding();
  const { ByteLocks } = native;
  const made: NativeByteLocks[] = [];
  native.ByteLocks = class extends ByteLocks {
    constructor(file: number) {
      super(file);
      made.push(this);
    }
  };
  const sender = Ring.sender(memory, { fd });
  native.ByteLocks = ByteLocks;
  return { sender, die: () => made.at(-1)?.close() };
}

/** Throws at the `count`th write of `call` to a shared word, before it or after it; false if there are fewer. */
function dieAt(count: number, when: 'before' | 'after', call: () => void): boolean {
  let writes = 0;
  for (const name of ['store', 'compareExchange'] as const) {
    const original = Atomics[name] as (...all: unknown[]) => number;
    vi.spyOn(Atomics, name).mockImplementation(((...all: unknown[]) => {
      const isLast = ++writes === count;
      if (isLast && when === 'before') {
        throw new Error('dead');
      }
      const result = original(...all);
      if (isLast) {
        throw new Error('dead');
      }
      return result;
    }) as never);
  }
  try {
    call();
    return false;
  } catch (error) {
    expect((error as Error).message).toBe('dead');
    return true;
  } finally {
    vi.restoreAllMocks();
  }
}

function drain(consumer: RingConsumer, looks = 200): string[] {
  const messages: string[] = [];
  for (let look = 0; look < looks; look++) {
    const message = consumer.tryReceive();
    if (message !== undefined) {
      messages.push(Buffer.from(message).toString());
    }
  }
  return messages;
}

const stages = [1, 2, 3].flatMap((count) =>
  (['before', 'after'] as const).map((when) => [count, when] as const),
);

test.each(stages)('who dies at write %i, %s it, stops nobody: the consumer goes on', (count, when) => {
  const { sender, die } = mortalSender();
  const other = Ring.sender(memory, { fd });
  const consumer = Ring.consumer(memory, { fd });
  expect(sender.trySend(Buffer.from('first'))).toBe(true);
  expect(dieAt(count, when, () => sender.trySend(Buffer.from('lost')))).toBe(true);
  expect(other.trySend(Buffer.from('second'))).toBe(true);
  // It lives: its slot may get ready yet.
  const wasSent = count === 3 && when === 'after';
  const isStuck = !(count === 1 && when === 'before') && !wasSent;
  const before = wasSent ? ['first', 'lost', 'second'] : isStuck ? ['first'] : ['first', 'second'];
  expect(drain(consumer)).toEqual(before);
  die();
  expect(drain(consumer)).toEqual(isStuck ? ['second'] : []);
  for (let round = 0; round < 20; round++) {
    expect(other.trySend(Buffer.from(`${round}`))).toBe(true);
    expect(drain(consumer, 2)).toEqual([`${round}`]);
  }
  other.close();
  consumer.close();
});

test.each(stages)('who dies at write %i, %s it: the next with its number puts it right', (count, when) => {
  const { sender, die } = mortalSender();
  dieAt(count, when, () => sender.trySend(Buffer.from('lost')));
  die();
  const next = Ring.sender(memory, { fd });
  expect(next.trySend(Buffer.from('second'))).toBe(true);
  // Without a descriptor: it can learn of no death, and needs not.
  const consumer = Ring.consumer(memory);
  expect(drain(consumer)).toEqual(count === 3 && when === 'after' ? ['lost', 'second'] : ['second']);
  next.close();
  consumer.close();
});

test('a ring full of what the dead left has room again', () => {
  const consumer = Ring.consumer(memory, { fd });
  const mortals = Array.from({ length: 8 }, mortalSender);
  for (const { sender } of mortals) {
    expect(dieAt(2, 'after', () => sender.trySend(Buffer.from('lost')))).toBe(true);
  }
  const other = Ring.sender(memory, { fd });
  expect(other.trySend(Buffer.from('x'))).toBe(false);
  expect(drain(consumer)).toEqual([]);
  expect(other.trySend(Buffer.from('x'))).toBe(false);
  for (const { die } of mortals) {
    die();
  }
  expect(consumer.peer).toBe('open');
  expect(drain(consumer, 600)).toEqual([]);
  expect(other.trySend(Buffer.from('x'))).toBe(true);
  expect(drain(consumer)).toEqual(['x']);
  other.close();
  expect(consumer.peer).toBe('closed');
  consumer.close();
});

test('between messages that were only peeked at, a slot of the dead stays until they are released', () => {
  const { sender, die } = mortalSender();
  const other = Ring.sender(memory, { fd });
  const consumer = Ring.consumer(memory, { fd });
  other.trySend(Buffer.from('a'));
  dieAt(2, 'after', () => sender.trySend(Buffer.from('lost')));
  die();
  other.trySend(Buffer.from('b'));
  expect(consumer.peekView()).toEqual(new Uint8Array([97]));
  const seen = Array.from({ length: 100 }, () => consumer.peekView()).filter((view) => view !== undefined);
  expect(seen).toEqual([new Uint8Array([98])]);
  consumer.rewind();
  expect(drain(consumer, 3)).toEqual(['a', 'b']);
  other.close();
  consumer.close();
});

test.each([1, 2, 3, 4])(
  'a consumer that dies at write %i of a release leaves what was not released',
  (count) => {
    const sender = Ring.sender(memory, { fd });
    for (const text of ['a', 'b', 'c', 'd']) {
      sender.trySend(Buffer.from(text));
    }
    const first = Ring.consumer(memory);
    for (let peeks = 0; peeks < 3; peeks++) {
      first.peek();
    }
    expect(dieAt(count, 'before', () => first.release())).toBe(true);
    const next = Ring.consumer(memory);
    expect(drain(next)).toEqual(['a', 'b', 'c', 'd'].slice(count - 1));
    for (let round = 0; round < 20; round++) {
      expect(sender.trySend(Buffer.from('e'))).toBe(true);
      expect(drain(next, 2)).toEqual(['e']);
    }
    sender.close();
  },
);

test('64 senders have room, the next is EUSERS until one leaves or dies', () => {
  const senders = Array.from({ length: 62 }, () => Ring.sender(memory, { fd }));
  senders.push(Ring.sender(memory));
  const { die } = mortalSender();
  expect(() => Ring.sender(memory, { fd })).toThrow(code('EUSERS'));
  expect(() => Ring.sender(memory)).toThrow(code('EUSERS'));
  die();
  expect(() => Ring.sender(memory)).toThrow(code('EUSERS'));
  senders.push(Ring.sender(memory, { fd }));
  senders[5]?.close();
  senders.push(Ring.sender(memory));
  for (const sender of senders) {
    sender.close();
  }
});

test('all slots peeked at: there is no further message', () => {
  const sender = Ring.sender(memory);
  const consumer = Ring.consumer(memory);
  for (let slot = 0; slot < 8; slot++) {
    expect(sender.trySend(Uint8Array.of(slot))).toBe(true);
    expect(consumer.peekView()).toEqual(Uint8Array.of(slot));
  }
  expect(consumer.peek()).toBe(-1);
  expect(sender.trySend(Uint8Array.of(8))).toBe(false);
  consumer.release();
  expect(sender.trySend(Uint8Array.of(8))).toBe(true);
  expect(consumer.tryReceive()).toEqual(Uint8Array.of(8));
});

const FIRST_SLOT = 1024 / 4;
const TAIL = 32;

test.each([
  ['a length beyond the slot', FIRST_SLOT + 1, 57],
  ['a negative length', FIRST_SLOT + 1, -1],
  ['an earlier round', FIRST_SLOT, (-1 << 8) | 2],
  ['a later round', FIRST_SLOT, (1 << 8) | 2],
])('%s is EBADMSG to the consumer, each time', (_, word, value) => {
  Ring.sender(memory).trySend(new Uint8Array(56));
  const consumer = Ring.consumer(memory);
  memory.view(Int32Array)[word] = value;
  for (let look = 0; look < 3; look++) {
    expect(() => consumer.peek()).toThrow(code('EBADMSG'));
  }
  memory.view(Int32Array).set([2, 56], FIRST_SLOT);
  expect(consumer.tryReceive()).toHaveLength(56);
});

test.each([8, 16, 1000])('a tail moved by %i is EBADMSG to senders', (tail) => {
  const sender = Ring.sender(memory);
  memory.view(Int32Array)[TAIL] = tail;
  expect(() => sender.trySend(new Uint8Array(1))).toThrow(code('EBADMSG'));
});

test('a tail that never stands still is no endless loop', () => {
  const sender = Ring.sender(memory);
  const { load } = Atomics;
  let tail = 1000;
  vi.spyOn(Atomics, 'load').mockImplementation(((words: Int32Array, index: number) =>
    index === TAIL ? tail++ : load(words, index)) as never);
  expect(sender.trySend(new Uint8Array(1))).toBe(false);
});

test('with a descriptor a side has one holder, and its peer learns how that ended', () => {
  Ring.create(memory, { replace: true });
  const producer = Ring.producer(memory, { fd });
  expect(() => Ring.producer(memory, { fd })).toThrow(code('EBUSY'));
  const consumer = Ring.consumer(memory, { fd });
  expect(() => Ring.consumer(memory, { fd })).toThrow(code('EBUSY'));
  expect([producer.peer, consumer.peer]).toEqual(['open', 'open']);
  consumer.close();
  expect(producer.peer).toBe('closed');
  Ring.consumer(memory, { fd }).close();
  producer.close();
  expect(() => Ring.producer(memory, { fd: 2 ** 30 })).toThrow(code('EBADF'));
  expect(() => Ring.producer(memory, { fd: -1 })).toThrow(code('ERR_OUT_OF_RANGE'));
});

test('a side that another takes while its peer asks is not dead', () => {
  Ring.create(memory, { replace: true });
  const first = Ring.producer(memory, { fd });
  const native = binding();
  const { ByteLocks } = native;
  let second: RingProducer | undefined;
  native.ByteLocks = class extends ByteLocks {
    override isHeld(byte: number): boolean {
      if (second === undefined) {
        first.close();
        native.ByteLocks = ByteLocks;
        second = Ring.producer(memory, { fd });
        return false;
      }
      return super.isHeld(byte);
    }
  };
  const consumer = Ring.consumer(memory, { fd });
  expect(consumer.peer).toBe('open');
  second?.close();
  expect(consumer.peer).toBe('closed');
});

test('who puts the slots of the dead right wakes the consumer for what is behind them', () => {
  const CONSUMER_SLEEPS = 240;
  const { sender, die } = mortalSender();
  expect(dieAt(2, 'before', () => sender.trySend(new Uint8Array(8)))).toBe(true);
  die();
  const words = memory.view(Int32Array);
  words[CONSUMER_SLEEPS] = 5;
  Ring.sender(memory, { fd });
  expect(words[CONSUMER_SLEEPS]).toBe(6);
});
