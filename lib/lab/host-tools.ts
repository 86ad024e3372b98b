/**
 * Programs of a newer Debian, made to run on this system: each gets the dynamic loader and the libraries that were
 * unpacked beside it, instead of this system's, which may be older than what it was linked with.
 *
 * @module
 */
import { chmod, open, readdir, rename, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';

/** Where Debian's `libc6` and the libraries beside it lie in a directory that they were unpacked to. */
const libraries = 'usr/lib/x86_64-linux-gnu';
const loader = 'ld-linux-x86-64.so.2';

async function isElf(file: string): Promise<boolean> {
  const handle = await open(file);
  try {
    const { buffer } = await handle.read(Buffer.alloc(4), 0, 4, 0);
    return buffer.toString('latin1') === '\x7fELF';
  } finally {
    await handle.close();
  }
}

/**
 * Puts a script in the place of each program below a directory. The script finds everything relative to itself, so
 * that all of it may be moved, and tells the program the name that it was called by: some look for others beside it.
 *
 * @param directory - the programs
 * @param root - what they and their libraries were unpacked to
 */
export async function useOwnLibraries(directory: string, root: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    const program = join(entry.parentPath, entry.name);
    if (!entry.isFile() || !(await isElf(program))) {
      continue;
    }
    const hidden = `.${basename(program)}`;
    const script = [
      '#!/bin/sh',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's
      'here=${0%/*}',
      `libraries=$here/${join(relative(dirname(program), root), libraries)}`,
      `exec "$libraries/${loader}" --library-path "$libraries" --argv0 "$0" "$here/${hidden}" "$@"`,
      '',
    ];
    await rename(program, join(dirname(program), hidden));
    await writeFile(program, script.join('\n'));
    await chmod(program, 0o755);
  }
}
