/**
 * Host directories in the guest.
 *
 * @module
 */
import { realpathSync, statSync } from 'node:fs';
import { basename, dirname, isAbsolute, normalize, resolve } from 'node:path';
import { wrongValue } from '../errors.js';

/** A directory of the host that the guest sees. */
export interface Mount {
  /** Absolute path on the host. */
  host: string;
  /** Absolute path in the guest. */
  guest: string;
  writable: boolean;
}

/** What the guest itself is made of. */
const guestOwn = /^\/(?:(?:bin|dev|etc|lab|lib|lib64|proc|run|sbin|sys|usr|node_modules)(?:\/.*)?)?$/;
/** Below these a directory of the host does no harm. */
const harmlessBelow = /^\/(?:run|usr\/(?:local|src|share))\/./;

/**
 * Reads `HOSTDIR[:GUESTDIR][:rw]`. A relative host directory counts from the current one; without a guest
 * directory it is the same path.
 *
 * @throws TypeError with code `ERR_INVALID_ARG_VALUE` if there is no such directory, or if the guest needs that
 * path for itself
 */
export function parseMount(text: string): Mount {
  const parts = text.split(':');
  const writable = parts.length > 1 && parts.at(-1) === 'rw';
  const [hostPart = '', guestPart, ...rest] = writable ? parts.slice(0, -1) : parts;
  if (hostPart === '' || rest.length > 0 || (guestPart !== undefined && !isAbsolute(guestPart))) {
    throw wrongValue('mount', 'HOSTDIR[:GUESTDIR][:rw] with an absolute GUESTDIR', text);
  }
  const host = resolve(hostPart);
  if (!statSync(host, { throwIfNoEntry: false })?.isDirectory()) {
    throw wrongValue('mount', 'a directory that exists', host);
  }
  const guest = guestPart === undefined ? host : normalize(guestPart).replace(/(?<=.)\/$/, '');
  if (/[\n,]/.test(host + guest)) {
    throw wrongValue('mount', 'a path without commas and line breaks', text);
  }
  if (guestOwn.test(guest) && !harmlessBelow.test(guest)) {
    throw wrongValue('mount', 'a directory that the guest does not need for itself', guest);
  }
  return { host, guest, writable };
}

/** The outermost directory that a program must see for a package at `root` to find what it depends on. */
export function packageMount(root: string): string {
  const real = realpathSync(root);
  const above = dirname(real);
  return basename(above) === 'node_modules' ? above : real;
}

/** Whether a path of the host is visible in the guest under its own name. */
export function isMounted(path: string, mounts: readonly Mount[]): boolean {
  return mounts.some(({ host, guest }) => host === guest && (path === host || path.startsWith(`${host}/`)));
}
