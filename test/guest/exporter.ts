/**
 * A process that exports a cached buffer full of 0x5a, hands the descriptor to whoever waits at PATH, and stays until it
 * is killed. Started by the tests:
 *
 *     exporter.js DEVICE BYTES PATH
 *
 * It says `'sent'` to its parent, and answers each message of it by what the buffer's last byte is then.
 */
import { DmaDevice } from 'iospace';
import { fds } from 'iospace/shm';

const [name, bytes, path = ''] = process.argv.slice(2);
const device = DmaDevice.open(name);
const buffer = device.alloc(Number(bytes), { memory: 'cached' });
buffer.bytes.fill(0x5a);
buffer.syncForDevice();
await fds.send(path, [buffer.exportDmaBuf()]);
process.on('message', () => process.send?.(buffer.bytes.at(-1)));
process.send?.('sent');
