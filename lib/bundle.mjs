/**
 * Joins the compiled library into what is published: a file for each entry of package.json, and in `dist/chunks` what
 * several of them share.
 *
 *     node lib/bundle.mjs
 *
 * Part of the build: Node takes about a millisecond to find and load a module, and the library has many.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, 'dist');
const { exports, bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** The entries, without `dist/` and `.js`. */
const names = [...Object.values(exports).map((entry) => entry.default), ...Object.values(bin)].flatMap(
  (path) => /^(?:\.\/)?dist\/(.*)\.js$/.exec(path)?.[1] ?? [],
);

const bundle = await rolldown({
  cwd: root,
  input: Object.fromEntries(names.map((name) => [name, `./build/lib/${name}.js`])),
  // Packages, and what Node has.
  external: /^[^./]/,
  platform: 'node',
  onLog(level, { message }) {
    if (level === 'warn') {
      throw new Error(message);
    }
  },
});
const { output } = await bundle.generate({
  chunkFileNames: 'chunks/[name].js',
  // For those who read it, and its stack traces.
  keepNames: true,
  minifyInternalExports: false,
});
await bundle.close();

for (const { fileName, code } of output) {
  const path = join(dist, fileName);
  // Programs may be starting from these files: what is the same stays, and the others change at once.
  if (!existsSync(path) || readFileSync(path, 'utf8') !== code) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(`${path}.new`, code);
    renameSync(`${path}.new`, path);
  }
}

/** What an earlier build has left. */
const written = new Set(output.map(({ fileName }) => fileName));
for (const name of readdirSync(dist, { recursive: true })) {
  if (/\.js(\.map|\.new)?$/.test(name) && !written.has(name) && !name.startsWith('bench/page/')) {
    rmSync(join(dist, name));
  }
}
