/**
 * Asks whoever runs the machine what addresses of this process really are: `test/witness.ts` on the host reads the page
 * table from outside. Programs that ask are run by `test/guest.test.ts`.
 */

import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type DeviceInfo, listDevices, type MemoryType, type WindowType } from 'iospace';
import * as raw from 'iospace/raw';

/** A piece of a range that is of one type and contiguous in physical memory. */
export interface Piece {
  /** The architecture's word for the memory type, or `absent`. */
  type: string;
  /** Undefined where the page is absent. */
  physical: bigint | undefined;
  byteLength: number;
}

export interface Range {
  address: bigint;
  byteLength: number;
}

const { PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS } = raw.constants;
const { O_RDONLY, O_NONBLOCK } = constants;

/** Bytes of a page of this machine. */
export const pageSize = listDevices()[0]?.pageSize ?? 0;

/** Whether all devices work on copies, in bounce buffers, of what is not coherent. */
export const bounces = readFileSync('/proc/cmdline', 'utf8').includes('swiotlb=force');

/** By this page the process is known from outside. */
const secret = raw.mmap(-1, pageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
secret.bytes.set(randomBytes(32));

let answers: number | undefined;

/** Waits for a line without ever sleeping: a processor has to use this process's page table. */
function spinForLine(): string {
  answers ??= openSync('/proc/self/fd/0', O_RDONLY | O_NONBLOCK);
  const chunk = Buffer.alloc(65536);
  for (let line = ''; ; ) {
    try {
      const length = readSync(answers, chunk);
      if (length === 0) {
        throw new Error('nobody answers: test/guest.test.ts runs this program');
      }
      line += chunk.toString('latin1', 0, length);
      if (line.endsWith('\n')) {
        return line;
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') {
        throw error;
      }
    }
  }
}

/** What the page table says of each range, in one look. */
export function witness(ranges: readonly Range[]): Piece[][] {
  const question = {
    secret: {
      address: `0x${secret.address.toString(16)}`,
      bytes: Buffer.from(secret.bytes.subarray(0, 32)).toString('hex'),
    },
    ranges: ranges.map(({ address, byteLength }) => ({ address: `0x${address.toString(16)}`, byteLength })),
    pageSize,
  };
  writeSync(1, `\nwitness: ${JSON.stringify(question)}\n`);
  const answer = JSON.parse(spinForLine()) as { type: string; physical?: string; byteLength: number }[][];
  return answer.map((pieces) =>
    pieces.map(({ physical, ...piece }) => ({
      ...piece,
      physical: physical === undefined ? undefined : BigInt(physical),
    })),
  );
}

/** The architecture's word for each memory type of iospace, as this machine has it. */
export const words: Readonly<
  Record<'cached' | 'writecombine' | 'uncached' | 'writethrough' | 'device', string>
> = wordsOf(process.arch);

function wordsOf(arch: string) {
  switch (arch) {
    case 'x64': {
      // Without a page attribute table of the kernel's own there is no slot for write combining.
      const hasPat = !readFileSync('/proc/cmdline', 'utf8').split(/\s/).includes('nopat');
      const writecombine = hasPat ? 'WC' : 'UC-';
      return { cached: 'WB', writecombine, uncached: 'UC-', writethrough: 'WT', device: 'UC-' };
    }
    case 'arm64': {
      const noncacheable = { writecombine: 'Normal NC', uncached: 'Normal NC' };
      return { cached: 'Normal WB', ...noncacheable, writethrough: 'Normal WT', device: 'Device nGnRE' };
    }
    default:
      return { cached: 'PMA', writecombine: 'NC', uncached: 'NC', writethrough: 'none', device: 'IO' };
  }
}

/** The architecture's word for what a buffer of this type is on this device. */
export function wordOf(memory: MemoryType, { coherent }: DeviceInfo): string {
  if (memory !== 'coherent') {
    return words[memory];
  }
  // A PC's devices all snoop; elsewhere no cache may hold what a device that does not snoop shares.
  return coherent ? words.cached : words.uncached;
}

/** Where the kernel has a physical address in its map of all memory: a segment of `/proc/kcore`, an ELF file. */
export function linearAddress(physical: bigint): bigint {
  const core = openSync('/proc/kcore', O_RDONLY);
  const header = Buffer.alloc(65536);
  readSync(core, header, 0, header.length, 0);
  closeSync(core);
  const [table, size, count] = [header.readBigUInt64LE(32), header.readUInt16LE(54), header.readUInt16LE(56)];
  for (let index = 0; index < count; index++) {
    const entry = Number(table) + index * size;
    const virtual = header.readBigUInt64LE(entry + 16);
    const begin = header.readBigUInt64LE(entry + 24);
    const byteLength = header.readBigUInt64LE(entry + 32);
    // Segments of anything else than memory have the address -1, or 0.
    if (begin !== 0n && physical >= begin && physical < begin + byteLength) {
      return virtual + physical - begin;
    }
  }
  throw new Error(`0x${physical.toString(16)} is not in the kernel's map of memory`);
}

/** The types that a range has, each once. */
export function typesOf(range: Range): string[] {
  const [pieces = []] = witness([range]);
  return [...new Set(pieces.map(({ type }) => type))];
}

/** A mapping of a device in this process. */
export interface DeviceMapping extends Range {
  /** For another mapping of the same memory. */
  offset: bigint;
}

/** The mappings of a device in this process, from `/proc/self/maps`. */
export function mappingsOf(name: string): DeviceMapping[] {
  const lines = readFileSync('/proc/self/maps', 'utf8').matchAll(
    new RegExp(`^(\\w+)-(\\w+) \\S+ (\\w+) .*/dev/${name}$`, 'gm'),
  );
  return [...lines].map(([, ...numbers]) => {
    const [address = 0n, end = 0n, offset = 0n] = numbers.map((digits) => BigInt(`0x${digits}`));
    return { address, byteLength: Number(end - address), offset };
  });
}

/** `VmFlags` of `/proc/self/smaps`. */
export function flagsOf({ address }: Range): string[] {
  const entry = new RegExp(`^${address.toString(16).padStart(8, '0')}-(?:.*\n)*?VmFlags: (.*)$`, 'm');
  return entry.exec(readFileSync('/proc/self/smaps', 'utf8'))?.[1]?.trim().split(' ') ?? [];
}

/** Makes something, and finds the mapping of the device that it made. Registers make one of the status page beside. */
export function mapped<T>(name: string, make: () => T): { made: T; range: DeviceMapping } {
  const before = new Set(mappingsOf(name).map(({ address }) => address));
  const made = make();
  const [range, ...others] = mappingsOf(name).filter(
    ({ address, offset }) => !before.has(address) && offset !== 0n,
  );
  if (range === undefined || others.length > 0) {
    throw new Error(`${others.length + (range === undefined ? 0 : 1)} new mappings of ${name}, not one`);
  }
  return { made, range };
}

/** Numbers of `enum iospace_memory`, for programs that speak to the module themselves. */
export const memoryNumbers = {
  cached: 1,
  writecombine: 2,
  uncached: 3,
  writethrough: 4,
  coherent: 5,
  device: 6,
};

/**
 * Runs `mappings`, which has memory of a type, a buffer or a window at a physical address, over fork and mremap. Throws
 * if it was anything else than `word` at any time.
 */
export function surviveForkAndMremap(
  device: string,
  memory: MemoryType | WindowType,
  word: string,
  physicalAddress?: bigint,
): void {
  const program = fileURLToPath(new URL(`../mappings/${process.arch}/mappings`, import.meta.url));
  const address = physicalAddress === undefined ? [] : [`0x${physicalAddress.toString(16)}`];
  const { status, error } = spawnSync(
    program,
    [`/dev/${device}`, String(memoryNumbers[memory]), word, ...address],
    { stdio: 'inherit' },
  );
  if (status !== 0) {
    throw error ?? new Error(`mappings ended with ${status}`);
  }
}

/** What the kernel's own view of physical memory says, each type once. */
export function linearTypesOf(pieces: readonly Piece[]): string[] {
  const seen = witness(
    pieces.map(({ physical, byteLength }) => ({ address: linearAddress(physical ?? 0n), byteLength })),
  );
  return [...new Set(seen.flat().map(({ type }) => type))];
}

export function isFilledWith(bytes: Uint8Array, value: number): boolean {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).equals(Buffer.alloc(bytes.length, value));
}
