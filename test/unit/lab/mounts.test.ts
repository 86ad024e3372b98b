import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { isMounted, packageMount, parseMount } from '../../../lib/lab/mounts.js';

const host = realpathSync(mkdtempSync(join(tmpdir(), 'iospace-mounts-')));
afterAll(() => rmSync(host, { recursive: true }));

describe('a mount', () => {
  test.each([
    [host, { host, guest: host, writable: false }],
    [`${host}:rw`, { host, guest: host, writable: true }],
    [`${host}:/data`, { host, guest: '/data', writable: false }],
    [`${host}:/data/../other/:rw`, { host, guest: '/other', writable: true }],
    [`${host}:/usr/local/data`, { host, guest: '/usr/local/data', writable: false }],
    ['.', { host: process.cwd(), guest: process.cwd(), writable: false }],
  ])('%s', (text, expected) => {
    expect(parseMount(text)).toEqual(expected);
  });

  test.each([
    '',
    ':/data',
    `${host}/absent`,
    `${host}:data`,
    `${host}:/a:/b`,
    `${host}:/`,
    `${host}:/usr`,
    `${host}:/usr/bin`,
    `${host}:/proc/self`,
    `${host}:/a,b`,
    '/etc',
  ])('%j is refused', (text) => {
    expect(() => parseMount(text)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
  });
});

test('a path is mounted only under its own name', () => {
  const mounts = [parseMount(host), parseMount(`${process.cwd()}:/elsewhere`)];
  expect(isMounted(join(host, 'below'), mounts)).toBe(true);
  expect(isMounted(`${host}-other`, mounts)).toBe(false);
  expect(isMounted(process.cwd(), mounts)).toBe(false);
});

test('an installed package is mounted with its neighbours', () => {
  const installed = join(host, 'node_modules/iospace');
  mkdirSync(installed, { recursive: true });
  expect(packageMount(installed)).toBe(join(host, 'node_modules'));
  expect(packageMount(host)).toBe(host);
});
