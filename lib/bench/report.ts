/**
 * The report as a file.
 *
 * @module
 */
import {
  accessSync,
  constants,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { errno, explained, systemError, wrongValue } from '../errors.js';
import { packageRoot } from '../package-root.js';
import type { Comparison } from './comparison.js';
import { type Assets, pageOf } from './markup.js';
import type { BenchResult } from './result.js';

/** What the build has put beside the library. */
function readAssets(): Assets {
  const directory = join(packageRoot(), 'dist/bench/page');
  const asset = (name: string): string => {
    const path = join(directory, name);
    return explained({ path }, { ENOENT: 'it is made by npm run build' }, () => readFileSync(path, 'utf8'));
  };
  return { style: asset('page.css'), library: asset('echarts.js'), program: asset('page.js') };
}

function statOf(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

/** Where the new file is made until it is whole: beside what it takes the place of. */
function unfinishedOf(path: string): string {
  return `${path}.${process.pid}.tmp`;
}

/**
 * The file that a report takes the place of: what a link points at, not the link, which may be another's, as `/dev/stdout`
 * is. Undefined for a pipe or a device, whose place nothing can take.
 */
function fileAt(path: string): string | undefined {
  const found = statOf(path);
  if (found === undefined) {
    return path;
  }
  return found.isFile() ? realpathSync(path) : undefined;
}

/** Errors about the unfinished file are about the report: with its path, and what helps. */
function naming(path: string, call: () => void): void {
  const elsewhere = 'choose another place';
  explained(
    { path },
    {
      ENOENT: 'its directory must be there',
      ...Object.fromEntries(
        ['EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EDQUOT', 'EFBIG', 'EIO'].map((code) => [code, elsewhere]),
      ),
    },
    call,
  );
}

/**
 * Finds out whether a report could be written there, before what takes minutes: by making a file there, which is removed.
 *
 * @throws the errors of the file system; ERR_INVALID_ARG_VALUE for no path
 */
export function checkReportPath(path: string): void {
  if (path === '') {
    throw wrongValue('--report', 'the path of a file', path);
  }
  readAssets();
  if (path.endsWith('/') || statOf(path)?.isDirectory()) {
    throw systemError(errno.EISDIR, 'open', { path, hint: 'name a file in it' });
  }
  const file = fileAt(path);
  if (file === undefined) {
    naming(path, () => accessSync(path, constants.W_OK));
    return;
  }
  const unfinished = unfinishedOf(file);
  naming(path, () => writeFileSync(unfinished, '', { flag: 'wx' }));
  rmSync(unfinished);
}

/**
 * Writes the report. What stood in the file before stays there until the new one is whole.
 *
 * @throws the errors of the file system: ENOSPC on a full disk, which leaves nothing behind
 */
export function writeReport(path: string, result: BenchResult, comparison: Comparison | undefined): void {
  const page = pageOf(result, comparison, readAssets());
  const file = fileAt(path);
  if (file === undefined) {
    naming(path, () => writeFileSync(path, page));
    return;
  }
  const unfinished = unfinishedOf(file);
  try {
    naming(path, () => writeFileSync(unfinished, page, { flag: 'wx' }));
    renameSync(unfinished, file);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw error;
  }
}
