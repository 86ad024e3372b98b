/** How long `import 'iospace'` takes in a process of its own, in milliseconds, and whether that loads native code. */
import { readFileSync } from 'node:fs';

const begin = performance.now();
await import('iospace');
const value = performance.now() - begin;
const native = readFileSync('/proc/self/maps', 'utf8').includes('iospace.node') ? 1 : 0;
console.log(JSON.stringify({ of: 'iospace', in: 'import', value }));
console.log(JSON.stringify({ of: 'native code', in: 'import', value: native }));
