/**
 * A process that has blocks of an arena, until its parent ends it. Started by the tests:
 *
 *     arena-owner.js ARENA COUNT BYTES TAG
 *
 * It allocates, fills each block with 0xa5, and says which it has. Told an offset in the arena, it says which byte it finds
 * there, by a window of its own; told `'die'`, it kills itself: from another container nobody can by its pid.
 */
import { Arena, DmaDevice, type WindowType } from 'iospace';

/** What it says first. */
export interface Owned {
  pid: number;
  offsets: number[];
}

const [name = '', count, byteLength, tag = ''] = process.argv.slice(2);

try {
  const arena = Arena.attach(name);
  const blocks = arena.allocateMany(Number(count), Number(byteLength), { tag });
  for (const { bytes } of blocks) {
    bytes.fill(0xa5);
  }
  process.on('message', (told: number | 'die') => {
    if (told === 'die') {
      process.kill(process.pid, 'SIGKILL');
      return;
    }
    using device = DmaDevice.open();
    using window = device.arenas[0]?.window(arena.memory as WindowType, { offset: told, length: 1 });
    process.send?.(window?.bytes[0]);
  });
  process.send?.({ pid: process.pid, offsets: blocks.map(({ offset }) => offset) } satisfies Owned);
} catch (error) {
  process.send?.(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
  process.disconnect();
}
