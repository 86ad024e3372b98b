/**
 * Shows what memory this machine gives a device: of each type a buffer, what it got or why not, and each arena through
 * each window that it can have. In the lab, or on a board:
 *
 *     npx iospace lab run -- node build/examples/memory-types.js
 *     node build/examples/memory-types.js [DEVICE]
 *
 * `--provider memfd` runs it on any machine, where there is one type. `--fallback` takes the next best.
 */
import { parseArgs } from 'node:util';
import { DmaDevice, type MemoryType, type ReservedArena, type SystemError, type WindowType } from 'iospace';

const LENGTH = 64 * 1024;
const TYPES: readonly MemoryType[] = ['coherent', 'cached', 'writecombine', 'uncached', 'writethrough'];

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    provider: { type: 'string', default: 'iospace' },
    fallback: { type: 'boolean', default: false },
  },
});

function hex(address: bigint): string {
  return `0x${address.toString(16)}`;
}

/** What cannot be had here; the messages say why, and what to use instead. */
const refusals: string[] = [];

function refused(error: unknown): string {
  const { code, message } = error as SystemError;
  if (code !== 'EOPNOTSUPP') {
    throw error;
  }
  refusals.push(message);
  return code;
}

/** Writes the memory and reads it back, as the CPU sees it. */
function fill(bytes: Uint8Array): void {
  bytes.fill(0x5a);
  if (bytes.some((byte) => byte !== 0x5a)) {
    throw new Error('what was read is not what was written');
  }
}

function buffer(device: DmaDevice, memory: MemoryType): object {
  try {
    using buffer = device.alloc(LENGTH, { memory, fallback: options.fallback });
    fill(buffer.bytes);
    buffer.syncForDevice();
    const [first] = buffer.segments;
    return {
      asked: memory,
      got: buffer.memory.effective,
      pieces: buffer.segments.length,
      'bus address': first === undefined ? '' : hex(first.dmaAddress),
    };
  } catch (error) {
    return { asked: memory, got: refused(error) };
  }
}

/** An arena is shared: what others keep there is not overwritten, only looked at. */
function window(arena: ReservedArena, memory: WindowType): object {
  using mapping = arena.window(memory, { length: 4096 });
  const first = memory === 'device' ? mapping.registers.read32(0) : mapping.view(Uint32Array)[0];
  return { asked: memory, got: mapping.memory.effective, address: hex(mapping.physicalAddress), first };
}

using device = DmaDevice.open(
  options.provider === 'memfd' ? { provider: 'memfd' } : (positionals[0] ?? 'iospace0'),
);
const { name, coherent, iommu, pageSize, cacheLine, zones, pool, limits } = device.info;
console.log(`${name}: ${coherent ? 'snoops' : 'does not snoop'}, IOMMU: ${iommu}, zones: ${zones.join(' ')}`);
console.log(
  `pages of ${pageSize}, sync in multiples of ${cacheLine}, pieces of at most ${limits.contiguousBytes}`,
);
console.log(pool.kind === 'none' ? 'no pool' : `${pool.kind} pool: ${pool.byteLength} at ${hex(pool.start)}`);
console.table(TYPES.map((memory) => buffer(device, memory)));
for (const message of refusals) {
  console.log(message);
}

for (const [index, arena] of device.arenas.entries()) {
  console.log(`arena ${arena.name || index}: ${arena.byteLength} at ${hex(arena.physicalAddress)}`);
  console.table(arena.memoryTypes.map((memory) => window(arena, memory)));
}
