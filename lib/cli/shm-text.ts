/**
 * What `iospace shm` prints: text made of what there is. Touches no memory, terminal or environment.
 *
 * @module
 */
import { styleText } from 'node:util';
import type { SharedObject } from '../shm/inventory/inventory.js';
import { sizeText } from '../size-text.js';
import { type Column, tableText } from './text.js';

/** Shared memory of a list, with what people know it by. */
export type ListedObject = SharedObject & {
  /** The owner's name, or its number. */
  readonly owner: string;
  /** What iospace finds in it. */
  readonly holds: 'arena' | 'ring' | undefined;
};

/** `0600`. */
export function modeText(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}

/** `0x01050abc`; of a segment without a key nothing. */
export function keyText(key: number): string {
  return key === 0 ? '' : `0x${(key >>> 0).toString(16).padStart(8, '0')}`;
}

/** A number with a plus where there may be more of them. */
function attachedText(object: SharedObject, unseen: number): string {
  const isLeast =
    object.kind !== 'sysv' && object.state !== 'leaked' && (unseen > 0 || object.attached === 0);
  return `${object.attached}${isLeast ? '+' : ''}`;
}

function creatorText(object: SharedObject): string {
  if (object.kind !== 'sysv') {
    return '';
  }
  const { creatorPid, creatorAlive } = object;
  return creatorPid === 0 ? '?' : creatorAlive ? String(creatorPid) : `${creatorPid} (gone)`;
}

function calledText(object: SharedObject): string {
  return object.kind === 'sysv' ? keyText(object.key) : object.kind === 'memfd' ? object.label : '';
}

function sealsText(object: SharedObject): string {
  return object.kind === 'memfd' ? (object.seals?.join(',') ?? '?') : '';
}

const colours = { leaked: 'red', removed: 'yellow' } as const;

function columnsFor(unseen: number, isColoured: boolean): Column<ListedObject>[] {
  return [
    { head: 'name', cell: ({ name }) => name },
    { head: 'size', right: true, cell: ({ byteLength }) => sizeText(byteLength) },
    { head: 'owner', cell: ({ owner }) => owner },
    { head: 'mode', cell: ({ mode }) => modeText(mode) },
    { head: 'attached', right: true, cell: (object) => attachedText(object, unseen) },
    { head: 'creator', cell: creatorText },
    { head: 'seals', cell: sealsText },
    { head: 'key or label', cell: calledText },
    { head: 'holds', cell: ({ holds = '' }) => holds },
    {
      head: 'state',
      cell: ({ state }) => state,
      ...(isColoured && {
        colour: (text: string, { state }: ListedObject) => {
          const colour = colours[state as keyof typeof colours];
          // Whether to colour is decided by who calls.
          return colour === undefined ? text : styleText(colour, text, { validateStream: false });
        },
      }),
    },
  ];
}

/**
 * All shared memory, one piece a line.
 *
 * @param unseen - how many processes could not be looked at
 */
export function listText(objects: readonly ListedObject[], unseen: number, isColoured: boolean): string {
  return objects.length === 0
    ? 'no shared memory: nothing in /dev/shm, no segment, no memfd of a process that may be looked at'
    : tableText(columnsFor(unseen, isColoured), objects);
}

/** What it means that processes could not be looked at; undefined if all could. */
export function unseenText(unseen: number): string | undefined {
  if (unseen === 0) {
    return undefined;
  }
  const who = !Number.isFinite(unseen)
    ? 'the processes of others'
    : `${unseen} process${unseen === 1 ? '' : 'es'}`;
  return `${who} may not be looked at (root may at most): what they have is not counted, and their memfds are not listed`;
}

/** `3 pieces of shared memory (12 KiB)`. */
export function sumText(objects: readonly SharedObject[]): string {
  const number = objects.length === 1 ? '1 piece' : `${objects.length} pieces`;
  return `${number} of shared memory (${sizeText(objects.reduce((sum, { byteLength }) => sum + byteLength, 0))})`;
}

/** Bytes of a line of a dump. */
const LINE = 16;

/**
 * Bytes as `hexdump -C` shows them, made piece by piece: lines that are the same as the one before are one `*`.
 *
 * @param offset - of the first byte
 */
export class HexDump {
  #offset: number;
  #previous: Buffer | undefined;
  #isSkipping = false;

  constructor(offset: number) {
    this.#offset = offset;
  }

  /** The lines of further bytes; only the last piece may have others than whole lines. */
  lines(bytes: Uint8Array): string {
    let text = '';
    for (let start = 0; start < bytes.byteLength; start += LINE) {
      const line = Buffer.from(bytes.subarray(start, start + LINE));
      if (this.#previous?.equals(line)) {
        text += this.#isSkipping ? '' : '*\n';
        this.#isSkipping = true;
      } else {
        text += `${this.#address()}  ${lineText(line)}\n`;
        this.#isSkipping = false;
      }
      this.#previous = line;
      this.#offset += line.byteLength;
    }
    return text;
  }

  /** The last line: where the bytes end. */
  end(): string {
    return `${this.#address()}\n`;
  }

  #address(): string {
    return this.#offset.toString(16).padStart(8, '0');
  }
}

function lineText(line: Buffer): string {
  const cells = Array.from(
    { length: LINE },
    (_, index) => line[index]?.toString(16).padStart(2, '0') ?? '  ',
  );
  const signs = line.toString('latin1').replace(/[^\x20-\x7e]/g, '.');
  return `${cells.slice(0, LINE / 2).join(' ')}  ${cells.slice(LINE / 2).join(' ')}  |${signs}|`;
}
