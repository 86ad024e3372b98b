/** The package and the module of one version belong together, so whatever states the version states the same one. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

const { version } = JSON.parse(read('package.json')) as { version: string };
const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
const number = (major << 16) | (minor << 8) | patch;

test.each([
  ['CHANGELOG.md', /^## (\S+)/m, version],
  ['kernel-module/dkms.conf', /^PACKAGE_VERSION="(.*)"$/m, version],
  ['kernel-module/main.c', /^MODULE_VERSION\("(.*)"\);$/m, version],
  [
    'kernel-module/uapi/iospace.h',
    /^#define IOSPACE_VERSION (\w+)$/m,
    `0x${number.toString(16).padStart(6, '0')}`,
  ],
])('%s has the version of package.json', (path, pattern, expected) => {
  expect(pattern.exec(read(path))?.[1]).toBe(expected);
});
