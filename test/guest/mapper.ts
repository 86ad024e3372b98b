/**
 * A process that maps memory of its own for a device, and keeps it until it is killed: as many pieces as COUNT says, or as
 * it is let. Started by the tests:
 *
 *     mapper.js DEVICE COUNT BYTES [UID]
 *
 * With UID it gives root up before it maps, and after the device is open. It reports how many pieces are mapped, and the
 * message of the error that ended it, to its parent.
 */
import { DmaDevice, type UserMapping } from 'iospace';
import { untouched } from './user-memory.js';

const [name, count, bytes, user] = process.argv.slice(2);
const device = DmaDevice.open(name);
if (user !== undefined) {
  process.setgid?.(Number(user));
  process.setuid?.(Number(user));
}
const mapped: UserMapping[] = [];
let message = '';
try {
  while (mapped.length < Number(count)) {
    mapped.push(device.mapUser(untouched(Number(bytes)).bytes, 'bidirectional'));
  }
} catch (error) {
  message = (error as Error).message;
}
// Keeps the process, and what it maps.
setInterval(() => mapped.length, 1000);
process.send?.({ mapped: mapped.length, message });
