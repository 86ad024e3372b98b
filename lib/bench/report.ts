/**
 * The report as a file.
 *
 * @module
 */
import {
  accessSync,
  constants,
  readFileSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { errno, explained, systemError } from '../errors.js';
import type { Comparison } from './comparison.js';
import { type Assets, pageOf } from './markup.js';
import type { BenchResult } from './result.js';

/** What the build has put beside the library, seen from `lib/` and from `dist/`. */
const assetDirectory = fileURLToPath(new URL('../../dist/bench/page', import.meta.url));

function readAssets(): Assets {
  const asset = (name: string): string => {
    const path = join(assetDirectory, name);
    return explained({ path }, { ENOENT: 'it is made by npm run build' }, () => readFileSync(path, 'utf8'));
  };
  return { style: asset('page.css'), library: asset('echarts.js'), program: asset('page.js') };
}

function statOf(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

/**
 * Finds out whether a report could be written there, before what takes minutes.
 *
 * @throws the errors of the file system
 */
export function checkReportPath(path: string): void {
  readAssets();
  const found = statOf(path);
  if (found?.isDirectory()) {
    throw systemError(errno.EISDIR, 'open', { path });
  }
  accessSync(found === undefined || found.isFile() ? dirname(path) : path, constants.W_OK);
}

/**
 * Writes the report. What stood in the file before stays there until the new one is whole.
 *
 * @throws the errors of the file system: ENOSPC on a full disk, which leaves nothing behind
 */
export function writeReport(path: string, result: BenchResult, comparison: Comparison | undefined): void {
  const page = pageOf(result, comparison, readAssets());
  const found = statOf(path);
  if (found !== undefined && !found.isFile()) {
    // A pipe, or a device: nothing can take its place.
    writeFileSync(path, page);
    return;
  }
  const unfinished = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(unfinished, page, { flag: 'wx' });
    renameSync(unfinished, path);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw error;
  }
}
