/** The library's numbers are those of the contract. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import * as uapi from '../../lib/device/uapi.js';

const header = readFileSync(
  fileURLToPath(new URL('../../kernel-module/uapi/iospace.h', import.meta.url)),
  'utf8',
);

/** Each enumerator of the header, and each number that it defines, by its name. */
const numbers = Object.fromEntries(
  [...header.matchAll(/^(?:\t|#define )(IOSPACE_\w+) (?:= )?(\d+)(?: << (\d+))?,?$/gm)].map(
    ([, name, number, shift = 0]) => [name, Number(number) << Number(shift)],
  ),
);

test.each(Object.entries(uapi))('%s', (name, number) => {
  expect(numbers[name]).toBe(number);
});
