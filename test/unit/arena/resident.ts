/**
 * A user of an arena that does what it is told, a line of JSON at a time: in a container of its own, or in none. Its
 * arguments are what it attaches to, as JSON, and a name for its blocks.
 */
import { createInterface } from 'node:readline';
import { Arena, type DmaBlock } from 'iospace';

/** What it can be told; `intact` is answered whether its blocks are as it wrote them. */
export type Order = 'sweep' | 'owners' | 'intact' | 'pid' | { allocate: number };

const arena = Arena.attach(JSON.parse(process.argv[2] ?? '""'));
const tag = process.argv[3] ?? '';
const blocks: DmaBlock[] = [];

function obey(order: Order): unknown {
  switch (order) {
    case 'sweep':
      return arena.sweep();
    case 'owners':
      return arena.stats().byOwner;
    case 'intact':
      return blocks.every(({ bytes }) => bytes.every((byte) => byte === tag.charCodeAt(0)));
    case 'pid':
      return process.pid;
    default:
      for (let count = 0; count < order.allocate; count++) {
        const block = arena.allocate(arena.granule, { tag });
        block.bytes.fill(tag.charCodeAt(0));
        blocks.push(block);
      }
      return blocks.map(({ offset }) => offset);
  }
}

for await (const line of createInterface(process.stdin)) {
  console.log(JSON.stringify(obey(JSON.parse(line))));
}
