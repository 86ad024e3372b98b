/**
 * A program for a machine with an arena of the module: random calls of arenas over that, and over buffers of a device,
 * compared with an array of booleans as on the host.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Arena, DmaDevice } from 'iospace';
import type { Backing, Made } from '../unit/arena/backings.js';
import { doesAsModel } from '../unit/arena/calls.js';

const parameter = `arena=${readFileSync('/sys/module/iospace/parameters/arena', 'utf8').trim()}`;

function run(program: string, ...words: string[]): void {
  const { status, stderr } = spawnSync(program, words, { encoding: 'utf8' });
  if (status !== 0) {
    throw new Error(`${program} ${words.join(' ')}: ${stderr}`);
  }
}

/** Where the last arena of a backing begins. */
let base = 0;

const common = {
  reclaims: false,
  get base() {
    return base;
  },
};

/** The books of the module's arena are new where the module is: each arena of the test takes a module of its own. */
const reserved: Backing = Object.assign(Object.create(common) as typeof common, {
  name: 'the arena of the module',
  shared: true,
  guardPage: 4096,
  make({ byteLength = 0, granule = 4096 }): Made {
    run('rmmod', 'iospace');
    run('insmod', '/lab/iospace.ko', parameter);
    const arena = Arena.create({ backing: 'module', byteLength, granule });
    base = Number(arena.physicalAddress);
    return {
      arena,
      attach: () => Arena.attach('module:0'),
      [Symbol.dispose]: () => arena.close(),
    };
  },
});

const buffer: Backing = Object.assign(Object.create(common) as typeof common, {
  name: 'a coherent buffer',
  shared: false,
  guardPage: 0,
  make({ byteLength = 0, granule = 4096 }): Made {
    const device = DmaDevice.open('iospace0');
    const arena = Arena.create({ backing: device.alloc(byteLength), granule });
    base = Number(arena.dmaAddress);
    return {
      arena,
      attach() {
        throw new Error('the arena of a buffer has one attachment');
      },
      [Symbol.dispose]() {
        arena.close();
        device.close();
      },
    };
  },
});

for (const backing of [reserved, buffer]) {
  doesAsModel(backing, 5, 4 << 20);
  process.stdout.write(`${backing.name} does\n`);
}
