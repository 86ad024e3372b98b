/**
 * What an arena shall do, as a plain array of booleans, one for each granule, and a list of blocks. It does not say where
 * a block goes, for that may depend on what was seen before; it says where one may go, and when there is no place.
 */

export interface Constraints {
  /** Granules. */
  length: number;
  /** Bytes, of the address. */
  align: number;
  /** Bytes that no block crosses a multiple of; 0 for none. */
  boundary: number;
}

export interface Placed {
  start: number;
  /** Granules. */
  length: number;
  /** Bytes, as asked for. */
  byteLength: number;
  tag: string;
  owner: number;
}

export interface Run {
  start: number;
  length: number;
}

/** Longest run that is placed where one just as long is free. */
const LONGEST_EXACT = 32;

export class Model {
  /** Whether a granule is in a block. */
  readonly used: Uint8Array;
  readonly blocks = new Map<number, Placed>();
  readonly granule: number;
  /** The address of the first granule, of which alignment and boundary are. */
  readonly base: number;
  usedGranules = 0;
  mostUsed = 0;
  /** Owners that are gone, and may have blocks. */
  readonly dead = new Set<number>();

  constructor(granule: number, granules: number, base: number) {
    this.granule = granule;
    this.base = base;
    this.used = new Uint8Array(granules);
  }

  get free(): number {
    return this.used.length - this.usedGranules;
  }

  *runs(): Generator<Run> {
    for (let start = this.used.indexOf(0); start !== -1; ) {
      const end = this.used.indexOf(1, start);
      yield { start, length: (end === -1 ? this.used.length : end) - start };
      start = end === -1 ? -1 : this.used.indexOf(0, end);
    }
  }

  get longestFree(): number {
    let longest = 0;
    for (const { length } of this.runs()) {
      longest = Math.max(longest, length);
    }
    return longest;
  }

  /** Whether a block may lie there, as far as addresses go. */
  fits(start: number, { length, align, boundary }: Constraints): boolean {
    const address = this.base + start * this.granule;
    const bytes = length * this.granule;
    return (
      Number.isInteger(start) &&
      address % align === 0 &&
      (boundary === 0 || Math.floor(address / boundary) === Math.floor((address + bytes - 1) / boundary))
    );
  }

  /** Whether a block may lie anywhere, were all free. */
  isPossible(request: Constraints): boolean {
    const places = Math.max(request.align, request.boundary) / this.granule;
    for (let start = 0; start <= places; start++) {
      if (this.fits(start, request)) {
        return true;
      }
    }
    return false;
  }

  /** The lowest place of a run, from `from` on. */
  placeIn(run: Run, request: Constraints, from = run.start): number | undefined {
    const { base, granule } = this;
    const last = run.start + run.length - request.length;
    const step = Math.max(1, request.align / granule);
    const lowest = step * Math.ceil((base / granule + from) / step) - base / granule;
    for (let start = step === 1 ? from : lowest; start <= last; start += step) {
      if (this.fits(start, request)) {
        return start;
      }
    }
    return undefined;
  }

  /** How many such blocks there is room for, up to `most`. */
  capacity(request: Constraints, most: number): number {
    let count = 0;
    for (const run of this.runs()) {
      for (let place = this.placeIn(run, request); place !== undefined; ) {
        count++;
        if (count === most) {
          return count;
        }
        place = this.placeIn(run, request, place + request.length);
      }
    }
    return count;
  }

  /**
   * What is wrong with a place that was given, if anything is: it is the lowest, or exact, but where addresses are asked
   * for.
   */
  fault(start: number, request: Constraints): string | undefined {
    const end = start + request.length;
    if (!Number.isInteger(start) || start < 0 || end > this.used.length) {
      return `the block at granule ${start} is not in the arena`;
    }
    if (this.used.subarray(start, end).includes(1)) {
      return `granules of ${start} to ${end} are in a block`;
    }
    if (!this.fits(start, request)) {
      return `granule ${start} is not aligned as asked, or crosses a boundary`;
    }
    if (request.align > this.granule || request.boundary > 0) {
      return undefined;
    }
    const first = [...this.runs()].find(({ length }) => length >= request.length);
    const isExact =
      request.length <= LONGEST_EXACT &&
      (start === 0 || this.used[start - 1] === 1) &&
      (end === this.used.length || this.used[end] === 1);
    return start === first?.start || isExact
      ? undefined
      : `granule ${start} is neither the lowest place, which is ${first?.start}, nor an exact one`;
  }

  place(block: Placed): void {
    this.used.fill(1, block.start, block.start + block.length);
    this.blocks.set(block.start, block);
    this.usedGranules += block.length;
    this.mostUsed = Math.max(this.mostUsed, this.usedGranules);
  }

  remove(start: number): void {
    const { length = 0 } = this.blocks.get(start) ?? {};
    this.used.fill(0, start, start + length);
    this.blocks.delete(start);
    this.usedGranules -= length;
  }

  /** Frees the blocks of dead owners. */
  sweep(): { blocks: number; granules: number; owners: number } {
    const swept = [...this.blocks.values()].filter(({ owner }) => this.dead.has(owner));
    for (const { start } of swept) {
      this.remove(start);
    }
    return {
      blocks: swept.length,
      granules: swept.reduce((sum, { length }) => sum + length, 0),
      owners: new Set(swept.map(({ owner }) => owner)).size,
    };
  }

  /** The block that a granule is in. */
  blockAt(granule: number): Placed | undefined {
    if (this.used[granule] !== 1) {
      return undefined;
    }
    for (let start = granule; start >= 0; start--) {
      const block = this.blocks.get(start);
      if (block !== undefined) {
        return block;
      }
    }
    return undefined;
  }
}
