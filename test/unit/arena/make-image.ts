/**
 * Makes the stored image of an arena that image.test.ts attaches to: for x86-64 with glibc, by
 * `npx tsc --build && node build/test/unit/arena/make-image.js`. It is made anew for a new version of the layout, and
 * for nothing else.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { Arena } from 'iospace';

const image = fileURLToPath(new URL('../../../../test/unit/arena/arena.img.gz', import.meta.url));

const name = `image-${process.pid}`;
const first = Arena.create({ name, backing: 'shm', byteLength: 1 << 20, granule: 4096 });
const second = Arena.attach(name);

// More blocks than one node of their records has, and a hole where every second of them was.
const singles = first.allocateMany(24, 4096, { tag: 'singles' });
first.freeMany(singles.filter((_, index) => index % 2 === 1));
const frame = second.allocate(3 * 4096 + 1, { tag: 'frames', align: 65_536 });
frame.bytes.fill(0xf0);
// Across three words of the bitmap.
second.allocate(140 * 4096).bytes.fill(0xcc);
second.allocate(4096, { tag: 'singles' });

const file = readFileSync(`/dev/shm/iospace-arena.${name}`);
first.unlink();
writeFileSync(image, gzipSync(file, { level: 9 }));
console.log(`${image}: ${file.length} bytes`);
