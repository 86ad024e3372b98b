/**
 * Page tables as the processor reads them: what physical memory a virtual address is, and of which memory type.
 *
 * x86-64: Intel's manual, volume 3, 4.5 and 12.12. arm64: Arm ARM, D8.3. riscv64: the privileged architecture, 12.4.
 */
import type { StoppedMachine } from './gdb.js';

/** A memory type, in the architecture's words. */
export type PageType =
  | 'absent'
  // x86-64
  | 'WB'
  | 'WC'
  | 'UC-'
  | 'UC'
  | 'WT'
  | 'WP'
  // arm64
  | 'Normal WB'
  | 'Normal WT'
  | 'Normal NC'
  | 'Device nGnRnE'
  | 'Device nGnRE'
  // riscv64
  | 'PMA'
  | 'NC'
  | 'IO'
  | `unknown ${string}`;

/** What an address is. */
export interface Translation {
  type: PageType;
  /** Undefined where the page is absent. */
  physical?: bigint;
}

/** Looks an address up in the page table of one address space. */
export type Translate = (address: bigint) => Promise<Translation>;

/** Finds the translation that a processor uses at the moment. */
export type PageTables = (machine: StoppedMachine, processor: string) => Promise<Translate>;

const bit = (word: bigint, number: number): number => Number((word >> BigInt(number)) & 1n);
const bits = (word: bigint, low: number, count: number): bigint =>
  (word >> BigInt(low)) & ((1n << BigInt(count)) - 1n);

/** What an entry says: that nothing is there, where the next table is, or where the page is. */
type Entry = { next: bigint } | { page: bigint; type: PageType } | undefined;

/** A tree of tables, each of one page. */
interface Tree {
  root: bigint;
  /** log2 of the page size. */
  pageBits: number;
  /** Levels of tables; the last, which holds pages, is 0. */
  levels: number;
  entry(word: bigint, level: number): Entry;
}

/** Tables are read once: nothing changes while the machine stands still. */
function walker(machine: StoppedMachine, { root, pageBits, levels, entry }: Tree): Translate {
  const tables = new Map<bigint, Promise<Buffer>>();
  const tableAt = (physical: bigint): Promise<Buffer> => {
    const known = tables.get(physical);
    if (known !== undefined) {
      return known;
    }
    const table = machine.read(physical, 1 << pageBits);
    tables.set(physical, table);
    return table;
  };
  return async (address) => {
    let table = root;
    for (let level = levels - 1; level >= 0; level--) {
      const shift = pageBits + level * (pageBits - 3);
      const index = Number(bits(address, shift, pageBits - 3));
      const found = entry((await tableAt(table)).readBigUInt64LE(index * 8), level);
      if (found === undefined) {
        break;
      }
      if ('page' in found) {
        const within = bits(address, 0, shift);
        return { type: found.type, physical: (found.page & ~((1n << BigInt(shift)) - 1n)) | within };
      }
      table = found.next;
    }
    return { type: 'absent' };
  };
}

/**
 * x86-64.
 *
 * @param slots - the eight memory types of the PAT register, in their order
 */
export function x86(slots: readonly PageType[]): PageTables {
  const address = (word: bigint): bigint => bits(word, 12, 40) << 12n;
  return async (machine, processor) => {
    const hasFiveLevels = bit(await machine.register(processor, 'cr4'), 12) === 1;
    return walker(machine, {
      root: address(await machine.register(processor, 'cr3')),
      pageBits: 12,
      levels: hasFiveLevels ? 5 : 4,
      entry(word, level) {
        if (bit(word, 0) === 0) {
          return undefined;
        }
        const isLarge = level > 0 && bit(word, 7) === 1;
        if (level > 0 && !isLarge) {
          return { next: address(word) };
        }
        const slot = bit(word, 3) | (bit(word, 4) << 1) | (bit(word, isLarge ? 12 : 7) << 2);
        return { page: address(word), type: slots[slot] ?? `unknown slot ${slot}` };
      },
    });
  };
}

const armTypes: Readonly<Record<string, PageType>> = {
  ff: 'Normal WB',
  // With tags beside the bytes.
  f0: 'Normal WB',
  bb: 'Normal WT',
  '44': 'Normal NC',
  '0': 'Device nGnRnE',
  '4': 'Device nGnRE',
};

/** arm64, with pages of any size and at most 48 bits of physical address: the lower half, which is the program's. */
export const arm64: PageTables = async (machine, processor) => {
  const control = await machine.register(processor, 'TCR_EL1');
  const attributes = await machine.register(processor, 'MAIR_EL1');
  const addressBits = 64 - Number(bits(control, 0, 6));
  const pageBits = [12, 16, 14][Number(bits(control, 14, 2))] ?? 12;
  const address = (word: bigint): bigint => bits(word, pageBits, 48 - pageBits) << BigInt(pageBits);
  return walker(machine, {
    root: bits(await machine.register(processor, 'TTBR0_EL1'), 1, 47) << 1n,
    pageBits,
    levels: Math.ceil((addressBits - pageBits) / (pageBits - 3)),
    entry(word, level) {
      if (bit(word, 0) === 0) {
        return undefined;
      }
      if (level > 0 && bit(word, 1) === 1) {
        return { next: address(word) };
      }
      const attribute = bits(attributes, 8 * Number(bits(word, 2, 3)), 8).toString(16);
      return { page: address(word), type: armTypes[attribute] ?? `unknown attribute ${attribute}` };
    },
  });
};

/** riscv64, with Svpbmt or without: then every page is of the type that physical memory attributes give it. */
export const riscv64: PageTables = async (machine, processor) => {
  const satp = await machine.register(processor, 'satp');
  const address = (word: bigint): bigint => bits(word, 10, 44) << 12n;
  return walker(machine, {
    root: bits(satp, 0, 44) << 12n,
    pageBits: 12,
    // Mode 8 is Sv39, 9 Sv48, 10 Sv57.
    levels: Number(bits(satp, 60, 4)) - 5,
    entry(word) {
      if (bit(word, 0) === 0) {
        return undefined;
      }
      // Neither readable, writable nor executable: a table.
      if (bits(word, 1, 3) === 0n) {
        return { next: address(word) };
      }
      const types: readonly PageType[] = ['PMA', 'NC', 'IO'];
      return { page: address(word), type: types[Number(bits(word, 61, 2))] ?? 'unknown Svpbmt 3' };
    },
  });
};
