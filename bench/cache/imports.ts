/**
 * How long `import 'iospace'` takes in a process of its own, and whether that loads native code.
 *
 *     node imports.js TIMES
 *
 * The shortest of so many times, for all that disturbs one adds to it.
 */
import { execFileSync } from 'node:child_process';
import { show } from '../measure.js';

const program = `
const begin = performance.now();
await import('iospace');
const milliseconds = performance.now() - begin;
const { readFileSync } = await import('node:fs');
const native = readFileSync('/proc/self/maps', 'utf8').includes('iospace.node');
console.log(JSON.stringify({ milliseconds, native }));
`;

interface Imported {
  milliseconds: number;
  native: boolean;
}

/** From this directory, which is in the package, the library is found by its name. */
function importOnce(): Imported {
  const args = ['--input-type=module', '--eval', program];
  const output = execFileSync(process.execPath, args, { cwd: import.meta.dirname, encoding: 'utf8' });
  return JSON.parse(output) as Imported;
}

const times = Number(process.argv[2]);
const imported = Array.from({ length: times }, importOnce);
show('iospace', 'import', { milliseconds: Math.min(...imported.map(({ milliseconds }) => milliseconds)) });
show('native code', 'import', { loads: imported.filter(({ native }) => native).length });
