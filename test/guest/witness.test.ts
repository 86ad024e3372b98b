/** The witness itself, on mappings whose types are known without it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as raw from 'iospace/raw';
import { openEdu } from './edu.js';
import { linearAddress, mappingsOf, pageSize, typesOf, witness, words } from './witness.js';

const { PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS } = raw.constants;

test('an ordinary page is write-back; one never touched is absent', () => {
  using mapping = raw.mmap(-1, 2 * pageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  mapping.bytes[0] = 1;
  const [pieces = []] = witness([mapping]);
  assert.deepEqual(
    pieces.map(({ type, byteLength }) => ({ type, byteLength })),
    [
      { type: words.cached, byteLength: pageSize },
      { type: 'absent', byteLength: pageSize },
    ],
  );
});

test('registers are as strict as the architecture has it', () => {
  using device = openEdu();
  const { byteLength } = device.registers(0);
  const [window, ...others] = mappingsOf(device.info.name).filter(
    (mapping) => mapping.byteLength === byteLength,
  );
  assert.ok(window !== undefined && others.length === 0);
  // The page that was read.
  assert.deepEqual(typesOf({ address: window.address, byteLength: pageSize }), [words.device]);
});

const onlyX86 =
  process.arch === 'x64' ? false : 'only x86 changes the type of memory where the kernel sees it';

test("the kernel's own view of a page is found", { skip: onlyX86 }, () => {
  using mapping = raw.mmap(-1, pageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  mapping.bytes[0] = 1;
  const [[{ physical = 0n } = {}] = []] = witness([mapping]);
  assert.deepEqual(witness([{ address: linearAddress(physical), byteLength: pageSize }]), [
    [{ type: words.cached, physical, byteLength: pageSize }],
  ]);
});
