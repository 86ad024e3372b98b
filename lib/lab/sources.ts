/**
 * Files of this package that the lab builds from, and a name for their content.
 *
 * @module
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';

/** What a build leaves beside the sources. */
const isBuilt = /(^|\/)(\..*|.*\.(o|ko|mod|mod\.c|cmd|order|symvers|a)|build)(\/|$)/;

/** The source files below a directory, as sorted paths relative to it. */
export async function sourceFiles(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))
    .filter((path) => !isBuilt.test(path))
    .sort();
}

/** A short name for the content of files and for words that matter as much. */
export async function contentKey(files: readonly string[], words: readonly string[] = []): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([files.length, ...words]));
  for (const file of files) {
    hash.update(
      createHash('sha256')
        .update(await readFile(file))
        .digest(),
    );
  }
  return hash.digest('hex').slice(0, 16);
}

/** A short name for the sources below a directory, their names included. */
export async function directoryKey(directory: string, words: readonly string[] = []): Promise<string> {
  const files = await sourceFiles(directory);
  return contentKey(
    files.map((file) => join(directory, file)),
    [...files, ...words],
  );
}
