/**
 * The modules of the guest's own kernel: those that the lab needs, and those that a boot asks for.
 *
 * @module
 */

import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { wrongValue } from '../errors.js';
import { LabError } from './errors.js';
import { type Kernel, moduleClosure } from './kernels.js';
import { checkParameters } from './module.js';

/** The modules without which the guest reaches neither host nor files; where they are built in, none. */
export const baseModules = ['virtio_pci', 'virtio_console', '9p', '9pnet_virtio'] as const;

/** A module that a boot loads. */
export interface KernelModule {
  /** In the kernel's package, and compressed where that is. */
  file: string;
  /** As `insmod` takes them. */
  parameters: string;
}

/** What the file of a module is called in the guest, which has no xz. */
export const guestName = (file: string): string => basename(file).replace(/\.xz$/, '');

async function isBuiltIn(kernel: Kernel, name: string): Promise<boolean> {
  const list = await readFile(join(kernel.modules, 'modules.builtin'), 'utf8');
  return list
    .trim()
    .split('\n')
    .some((file) => basename(file, '.ko').replaceAll('-', '_') === name);
}

/**
 * What has to be loaded for a list of requests, each a name and parameters, in the order in which it can be.
 *
 * @throws LabError with code `ERR_IOSPACE_LAB_MISSING` for a module that the kernel does not have; TypeError with code
 *   `ERR_INVALID_ARG_VALUE` for parameters that it does not have, or that would come too late
 */
export async function requestedModules(kernel: Kernel, requests: readonly string[]): Promise<KernelModule[]> {
  const parametersOf = new Map<string, string>();
  const names: string[] = [];
  const base = new Set(await moduleClosure(kernel, baseModules));
  for (const request of requests) {
    const [, given = '', parameters = ''] = /^\s*(\S*)\s*(.*?)\s*$/s.exec(request) ?? [];
    const name = given.replaceAll('-', '_');
    const file = (await moduleClosure(kernel, [name])).at(-1);
    if (file === undefined && !(await isBuiltIn(kernel, name))) {
      throw new LabError('ERR_IOSPACE_LAB_MISSING', `Linux ${kernel.release} has no module '${given}'`);
    }
    if (parameters !== '') {
      if (file === undefined || base.has(file)) {
        const expected = `no parameters of ${name}, which this machine loads first (append has those of built-in modules)`;
        throw wrongValue('kernelModules', expected, parameters);
      }
      await checkParameters(file, parameters);
      parametersOf.set(file, parameters);
    }
    names.push(name);
  }
  const files = await moduleClosure(kernel, names);
  return files
    .filter((file) => !base.has(file))
    .map((file) => ({ file, parameters: parametersOf.get(file) ?? '' }));
}
