/**
 * A process that holds memory of a device until it is killed: COUNT buffers, or one `each` of every kind. Started by the
 * tests:
 *
 *     holder.js DEVICE COUNT|each BYTES [UID]
 *
 * With UID it gives root up first, but not before the library is loaded: where that lies, only root may be able to read.
 * It reports `'holding'`, or the message of the error that kept it from it, to its parent.
 */
import { DmaDevice, type MappedBytes } from 'iospace';
import { holdEach } from './holdings.js';

const [device = '', count, bytes, user] = process.argv.slice(2);
const held: MappedBytes[] = [];
try {
  if (user !== undefined) {
    DmaDevice.open({ provider: 'memfd' }).close();
    process.setgid?.(Number(user));
    process.setuid?.(Number(user));
  }
  const open = DmaDevice.open(device);
  if (count === 'each') {
    held.push(...holdEach(open, Number(bytes)).map(({ memory }) => memory));
    open.registers(0).read32(0);
  }
  for (let n = 0; n < Number(count); n++) {
    held.push(open.alloc(Number(bytes)));
  }
  for (const memory of held) {
    memory.bytes.fill(0xa5);
  }
  // Keeps the process, and what it holds.
  setInterval(() => held.length, 1000);
  process.send?.('holding');
} catch (error) {
  process.send?.(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
  process.disconnect();
}
