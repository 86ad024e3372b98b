/**
 * A process that holds buffers of a device until it is killed. Started by the tests:
 *
 *     holder.js DEVICE COUNT BYTES [UID]
 *
 * With UID it gives root up first, but not before the library is loaded: where that lies, only root may be able to read.
 * It reports `'holding'`, or the message of the error that kept it from it, to its parent.
 */
import { type DmaBuffer, DmaDevice } from 'iospace';

const [device = '', count, bytes, user] = process.argv.slice(2);
const held: DmaBuffer[] = [];
try {
  if (user !== undefined) {
    DmaDevice.open({ provider: 'memfd' }).close();
    process.setgid?.(Number(user));
    process.setuid?.(Number(user));
  }
  const open = DmaDevice.open(device);
  for (let n = 0; n < Number(count); n++) {
    const buffer = open.alloc(Number(bytes));
    buffer.bytes.fill(0xa5);
    held.push(buffer);
  }
  // Keeps the process, and what it holds.
  setInterval(() => held.length, 1000);
  process.send?.('holding');
} catch (error) {
  process.send?.(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
  process.disconnect();
}
