/**
 * Where this package is installed.
 *
 * @module
 */
import { createRequire } from 'node:module';
import { dirname } from 'node:path';

/** The package's directory, as Node finds it by name: the bundler moves this line to whatever file it likes. */
export function packageRoot(): string {
  return dirname(createRequire(import.meta.url).resolve('iospace/package.json'));
}
