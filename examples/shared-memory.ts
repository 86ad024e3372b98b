/**
 * Two Node processes and one piece of memory: POSIX shared memory by name.
 *
 * The parent creates the memory and starts this same program as a child; the child writes into it; the
 * parent sees what was written with nothing copied between them.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { posix } from 'iospace/shm';

const GREETING = 'written by another process';
const childOf = process.argv[2];

if (childOf === undefined) {
  const name = `/iospace-example-${process.pid}`;
  using memory = posix.open(name, { create: true, exclusive: true, size: 4096 });
  try {
    const child = fork(new URL(import.meta.url), [name]);
    const [code] = await once(child, 'exit');
    const text = Buffer.from(memory.bytes.subarray(4, 4 + GREETING.length)).toString();
    const writer = memory.view(Uint32Array)[0];
    if (code !== 0 || text !== GREETING || writer !== child.pid) {
      throw new Error(
        `the child (exit code ${code}) should have left its greeting, found ${JSON.stringify(text)}`,
      );
    }
    console.table([{ name, bytes: memory.byteLength, parent: process.pid, child: writer, text }]);
  } finally {
    posix.unlink(name);
  }
} else {
  using memory = posix.open(childOf);
  memory.bytes.set(Buffer.from(GREETING), 4);
  memory.view(Uint32Array)[0] = process.pid;
}
