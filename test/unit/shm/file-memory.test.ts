/** What becomes of a file of memory with the thread that has it. */
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { posix } from '../../../lib/shm/index.js';

/** How many descriptors of this process lead to a file whose name has this in it. */
function descriptorsOf(name: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes(name);
    } catch {
      return false;
    }
  }).length;
}

// Of workers that gave their descriptors as numbers, half left one.
test('a worker that is terminated while it opens memory leaves no descriptor', {
  timeout: 30_000,
}, async () => {
  const name = `iospace-files-${process.pid}`;
  using memory = posix.open(name, { create: true, size: 4096 });
  memory.unlink();
  const path = `/proc/self/fd/${memory.fd}`;
  const library = new URL('../../../dist/shm/index.js', import.meta.url);
  for (const opened of [`memfd.create('${name}', { size: 4096 })`, `memfd.open('${path}')`]) {
    for (let count = 0; count < 8; count++) {
      const source = `import { memfd } from '${library}';
        import { parentPort } from 'node:worker_threads';
        for (let count = 0; ; count++) {
          ${opened}.close();
          if (count === 20) parentPort.postMessage('ready');
        }`;
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`));
      await once(worker, 'message');
      await worker.terminate();
    }
  }
  expect(descriptorsOf(name)).toBe(1);
});
