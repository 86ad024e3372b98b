/**
 * Random sequences of what a program may do with memory: allocate it, map it again, open windows, unmap, free, close while
 * things are mapped. Every so often the witness looks at all that is mapped. Started by `sequences.test.ts`:
 *
 *     sequences.js SEED COUNT
 *
 * By the bare calls, since the library pairs a buffer and its mapping.
 */
import assert from 'node:assert/strict';
import { DmaDevice, type MemoryType, type ReservedArena, type WindowType } from 'iospace';
import * as raw from 'iospace/raw';
import { counters, findEdu, NOTHING } from './edu.js';
import { randomFrom } from './random.js';
import { memoryNumbers, pageSize, witness, wordOf, words } from './witness.js';

const { PROT_READ, PROT_WRITE, MAP_SHARED } = raw.constants;

// `_IO('\xd5', number)` and the structures of uapi/iospace.h.
const ALLOC = 0xd501;
const FREE = 0xd502;
const WINDOW = 0xd509;

/** Most that is alive at a time: less than the limit of converted pages, whatever pieces they are in. */
const MAX_BYTES = 16 << 20;
const MAX_OBJECTS = 24;
const STEPS = 5;
/** Sequences between two looks, and between two closes. */
const LOOK = 40;
const CLOSE = 50;

/** Pages of a buffer, at least; less than twice as many at most. What must be in one piece is not to be had in any size. */
const inOnePiece = [1, 1, 1, 2, 3, 4, 8, 16, 17, 33];
const inSeveral = [...inOnePiece, 64, 600];

const [, , seed = '1', count = '1'] = process.argv;
const info = findEdu();

const { below, pick } = randomFrom(Number(seed));

/** A buffer or a window, until it is neither named nor mapped. */
interface Item {
  /** Undefined once it was freed. */
  handle: number | undefined;
  offset: bigint;
  byteLength: number;
  /** What the page table has to say of it. */
  word: string;
  /** Of a window: where in the arena it begins. */
  begin?: number;
  /** What its first and last byte have to be; a window's belong to others too. */
  tag: number | undefined;
  mappings: raw.Mapping[];
}

/** An open device with what was made of it. */
class Session {
  readonly items = new Set<Item>();
  readonly #device = DmaDevice.open(info.name);
  readonly #arena: ReservedArena | undefined = this.#device.arenas[0];
  #tags = 0;

  step(): void {
    const item = this.items.size === 0 ? undefined : pick([...this.items]);
    const choice = below(100);
    if (item === undefined || (choice < 30 && this.items.size < MAX_OBJECTS)) {
      this.#alloc();
    } else if (choice < 45 && this.#arena !== undefined) {
      this.#window(this.#arena);
    } else if (choice < 65) {
      this.#map(item);
    } else if (choice < 85) {
      this.#unmap(item);
    } else {
      this.#free(item);
    }
  }

  /** Ends a random part of what there is, or all. */
  thin(all: boolean): void {
    for (const item of [...this.items]) {
      if (all || below(4) > 0) {
        this.#free(item);
        while (item.mappings.length > 0) {
          this.#unmap(item);
        }
      }
    }
  }

  /** What was mapped before stays. */
  close(): void {
    this.#device.close();
    for (const item of this.items) {
      item.handle = undefined;
    }
  }

  get mapped(): Item[] {
    return [...this.items].filter(({ mappings }) => mappings.length > 0);
  }

  #alloc(): void {
    const memory = pick<MemoryType>(info.memoryTypes);
    const pages = pick(memory === 'coherent' ? inOnePiece : inSeveral);
    const byteLength = (pages + below(pages)) * pageSize;
    const held = [...this.items].reduce(
      (sum, item) => sum + (item.begin === undefined ? item.byteLength : 0),
      0,
    );
    if (held + byteLength > MAX_BYTES) {
      return;
    }
    const call = new DataView(new ArrayBuffer(88));
    call.setUint32(0, call.byteLength, true);
    call.setUint32(8, memoryNumbers[memory], true);
    call.setBigUint64(16, BigInt(byteLength), true);
    raw.ioctl(this.#device.fd, ALLOC, call);
    assert.equal(call.getUint32(12, true), memoryNumbers[memory]);
    const item: Item = {
      handle: call.getUint32(72, true),
      offset: call.getBigUint64(64, true),
      byteLength,
      word: wordOf(memory, info),
      tag: undefined,
      mappings: [],
    };
    this.items.add(item);
    this.#map(item);
  }

  /** Of any type, anywhere in the arena: what is open there decides whether it can be had. */
  #window(arena: ReservedArena): void {
    const memory = pick<WindowType>(arena.memoryTypes);
    const pages = 1 + below(16);
    const begin = below(64) * pageSize;
    const byteLength = pages * pageSize;
    const conflicts = [...this.items].some(
      (item) =>
        item.begin !== undefined &&
        item.begin < begin + byteLength &&
        begin < item.begin + item.byteLength &&
        item.word !== words[memory],
    );
    const call = new DataView(new ArrayBuffer(48));
    call.setUint32(0, call.byteLength, true);
    call.setUint32(8, memoryNumbers[memory], true);
    call.setBigUint64(16, arena.physicalAddress + BigInt(begin), true);
    call.setBigUint64(24, BigInt(byteLength), true);
    const open = () => raw.ioctl(this.#device.fd, WINDOW, call);
    if (conflicts && !arena.sideBySide) {
      assert.throws(open, { code: 'EBUSY' });
      return;
    }
    open();
    const item: Item = {
      handle: call.getUint32(40, true),
      offset: call.getBigUint64(32, true),
      byteLength,
      word: words[memory],
      begin,
      tag: undefined,
      mappings: [],
    };
    this.items.add(item);
    this.#map(item);
  }

  /** All of it, or its first part. What was freed is not mapped: somebody else may have its place by now. */
  #map(item: Item): void {
    if (item.handle === undefined) {
      return;
    }
    const byteLength = below(3) === 0 ? (1 + below(item.byteLength / pageSize)) * pageSize : item.byteLength;
    const mapping = raw.mmap(this.#device.fd, byteLength, PROT_READ | PROT_WRITE, MAP_SHARED, item.offset);
    const { bytes } = mapping;
    if (item.begin === undefined && item.tag === undefined) {
      for (const at of [0, below(byteLength), byteLength - 1]) {
        assert.equal(bytes[at], 0, `byte ${at} of new memory, ${item.word}`);
      }
      this.#tags = (this.#tags % 255) + 1;
      item.tag = this.#tags;
      bytes[0] = item.tag;
    }
    item.mappings.push(mapping);
    this.#check(item);
  }

  #unmap(item: Item): void {
    const mapping = item.mappings.splice(below(item.mappings.length), 1)[0];
    mapping?.release();
    this.#settle(item);
  }

  #free(item: Item): void {
    if (item.handle !== undefined) {
      const call = new DataView(new ArrayBuffer(16));
      call.setUint32(0, call.byteLength, true);
      call.setUint32(8, item.handle, true);
      raw.ioctl(this.#device.fd, FREE, call);
      item.handle = undefined;
    }
    this.#settle(item);
  }

  #settle(item: Item): void {
    if (item.mappings.length > 0) {
      this.#check(item);
    } else if (item.handle === undefined) {
      this.items.delete(item);
    }
  }

  #check({ tag, mappings, word }: Item): void {
    if (tag !== undefined) {
      assert.ok(
        mappings.every(({ bytes }) => bytes[0] === tag),
        `of ${word} memory another one's bytes show`,
      );
    }
  }
}

/** Every page that is mapped is of its type. Those of a window come when they are touched. */
function look(session: Session): number {
  const items = session.mapped;
  const ranges = items.flatMap(({ mappings, word }) => mappings.map((mapping) => ({ mapping, word })));
  for (const { mapping } of ranges) {
    for (let offset = 0; offset < mapping.byteLength; offset += pageSize) {
      Atomics.load(mapping.bytes, offset);
    }
  }
  const seen = witness(ranges.map(({ mapping }) => mapping));
  for (const [index, { mapping, word }] of ranges.entries()) {
    for (const { type } of seen[index] ?? []) {
      assert.equal(type, word, `0x${mapping.address.toString(16)} is not ${word}`);
    }
  }
  return ranges.length;
}

let session = new Session();
let looked = 0;
for (let sequence = 1; sequence <= Number(count); sequence++) {
  for (let step = 0; step < STEPS; step++) {
    session.step();
  }
  if (sequence % LOOK === 0) {
    looked += look(session);
  }
  session.thin(false);
  if (sequence % CLOSE === 0) {
    session.close();
    looked += look(session);
    session.thin(true);
    assert.deepEqual(counters(info.name), NOTHING);
    session = new Session();
  }
}
session.close();
session.thin(true);
console.log(`${count} sequences, ${looked} mappings looked at`);
