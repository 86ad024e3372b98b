/**
 * `iospace arena`: what arenas there are on this machine and what they hold; making, sweeping and removing them.
 *
 * @module
 */
import type { Command } from 'commander';
import { Arena } from '../arena/arena.js';
import { unlinkNamed } from '../arena/file-backing.js';
import type { ArenaInfo, ArenaStats } from '../arena/stats.js';
import { errno, systemError } from '../errors.js';
import {
  cellsFor,
  cellsWith,
  differencesText,
  isUnicode,
  type ListedArena,
  listText,
  mapText,
  statsText,
  sweepable,
  sweptText,
  titleText,
} from './arena-text.js';
import { bytes, defaultCommand } from './commands.js';
import { printJson, progress, report } from './report.js';

/** What a check ends with that could not be made: 1 says that something differs. */
const checkFailed = 2;

interface JsonFlag {
  json?: boolean;
}

interface MapFlags extends JsonFlag {
  ascii?: boolean;
}

interface SweepFlags {
  yes?: boolean;
}

interface CreateFlags {
  size: number;
  granule?: number;
}

/**
 * Runs `use` with an attachment to the arena of that name.
 *
 * Not to one of the module's that nobody has used: by attaching we would say what granules it has.
 */
function withArena<T>(name: string, use: (arena: Arena) => T): T {
  const ofModule = name.startsWith('module:') ? Arena.list().find((info) => info.name === name) : undefined;
  if (ofModule !== undefined && isUnused(ofModule)) {
    throw systemError(errno.ENOENT, 'attach', { path: name, hint: 'nobody has used this arena yet' });
  }
  using arena = Arena.attach(name);
  return use(arena);
}

/** What an arena holds, but for our own attachment, which is there to look. */
function statsOf(arena: Arena, stats = arena.stats()): ArenaStats {
  return { ...stats, byOwner: stats.byOwner.filter(({ owner }) => owner !== arena.owner) };
}

/** Whether it is memory of the module that nobody has made an arena of blocks yet. */
function isUnused({ granule, error }: ArenaInfo): boolean {
  return granule === 0 && error === undefined;
}

/** An arena of the list with what it holds, or with why that cannot be said. */
function lookInto(info: ArenaInfo): ListedArena {
  if (info.error !== undefined || isUnused(info)) {
    return info;
  }
  try {
    return { ...info, stats: withArena(info.name, statsOf) };
  } catch (error) {
    return { ...info, error: error as Error };
  }
}

function list({ json }: JsonFlag): number {
  const arenas = Arena.list().map(lookInto);
  if (json) {
    printJson(arenas);
  } else {
    console.log(listText(arenas));
  }
  return 0;
}

function stats(name: string, { json }: JsonFlag): number {
  return withArena(name, (arena) => {
    if (json) {
      printJson(statsOf(arena));
    } else {
      console.log(statsText(arena, statsOf(arena)));
    }
    return 0;
  });
}

/** Of the arena's first byte; 0 where no address says anything. */
function addressOf(arena: Arena): bigint {
  return arena.backing === 'module' ? arena.physicalAddress : 0n;
}

/** Of each cell whether a dead owner has a block in it. */
function deadCells(arena: Arena, cells: number): boolean[] {
  const { blocks, stats } = arena.dump();
  const dead = new Set(stats.byOwner.filter(({ alive }) => !alive).map(({ owner }) => owner));
  return cellsWith(
    blocks.filter(({ owner }) => dead.has(owner)),
    arena.byteLength,
    cells,
  );
}

function map(name: string, { json, ascii }: MapFlags): number {
  return withArena(name, (arena) => {
    const { isTTY, columns = 80 } = process.stdout;
    const address = addressOf(arena);
    const number = cellsFor(arena, address, columns);
    const cells = arena.map(number);
    if (json) {
      const { backing, byteLength, granule } = arena;
      printJson({ name: arena.name, backing, byteLength, granule, address, cells });
      return 0;
    }
    const isColoured = isTTY && !process.env['NO_COLOR'];
    const drawn = { address, cells, ...(isColoured && { dead: deadCells(arena, number) }) };
    console.log(mapText(arena, drawn, { columns, ascii: ascii || !isUnicode(process.env) }));
    return 0;
  });
}

function check(name: string): number {
  return withArena(name, (arena) => {
    const differences = arena.check();
    console.log(differencesText(arena.name, differences));
    return differences.length === 0 ? 0 : 1;
  });
}

function dump(name: string): number {
  return withArena(name, (arena) => {
    const all = arena.dump();
    printJson({ ...all, stats: statsOf(arena, all.stats) });
    return 0;
  });
}

function sweep(name: string, { yes }: SweepFlags): number {
  return withArena(name, (arena) => {
    const found = sweepable(arena.stats());
    if (found.blocks === 0) {
      console.log(`${name}: nothing to give back: no dead owner has blocks`);
      return 0;
    }
    if (arena.backing === 'module' && !yes) {
      console.log(`${name}: would give back ${sweptText(found)}`);
      progress(
        'devices reach this arena, and one may still be writing into a block of a program that is dead: sweep it by --yes, once you know that the device is quiet',
      );
      return 1;
    }
    console.log(`${name}: gave back ${sweptText(arena.sweep())}`);
    return 0;
  });
}

function create(name: string, { size: byteLength, granule }: CreateFlags): number {
  using arena = Arena.create({ name, byteLength, backing: 'shm', ...(granule !== undefined && { granule }) });
  console.log(titleText(arena));
  return 0;
}

function remove(name: string): number {
  unlinkNamed(name);
  return 0;
}

/** Adds the commands to the program. */
export function addArenaCommands(program: Command): void {
  const arena = program
    .command('arena')
    .description('see what arenas hold; make, sweep and remove them')
    .addHelpText(
      'after',
      '\nNAME is that of an arena in shared memory, or module:0 for the first of the module.',
    );
  /** A command that looks at one arena. */
  const ofOne = (verb: string, description: string): Command =>
    arena.command(verb).description(description).argument('<name>', 'the arena');
  defaultCommand(arena, 'list')
    .description('show the arenas of this machine: those in shared memory, and those of the module')
    .option('--json', 'as JSON')
    .action((flags: JsonFlag) => report(1, async () => list(flags)));
  ofOne('stats', 'show what an arena holds: by tag, and by owner, alive or dead')
    .option('--json', 'as JSON')
    .action((name: string, flags: JsonFlag) => report(1, async () => stats(name, flags)));
  ofOne('map', 'draw what is used and what is free')
    .option('--json', 'as JSON: of each cell the share that is used')
    .option('--ascii', 'no signs outside of ASCII, whatever the locale says')
    .action((name: string, flags: MapFlags) => report(1, async () => map(name, flags)));
  ofOne(
    'check',
    `recompute the books and compare: exit code 1 if they differ, ${checkFailed} if that cannot be said`,
  ).action((name: string) => report(checkFailed, async () => check(name)));
  ofOne('dump', 'print all that there is of an arena, each block too, as JSON').action((name: string) =>
    report(1, async () => dump(name)),
  );
  ofOne('sweep', 'give back the blocks of dead owners')
    .option('--yes', 'also where devices reach the arena: you know that they are quiet')
    .action((name: string, flags: SweepFlags) => report(1, async () => sweep(name, flags)));
  ofOne('create', 'make an arena in shared memory')
    .requiredOption('--size <bytes>', 'how long it is: 67108864, or 64M', bytes(1))
    .option('--granule <bytes>', 'what blocks are made of, a power of two from 64 (default: 4096)', bytes(1))
    .action((name: string, flags: CreateFlags) => report(1, async () => create(name, flags)));
  ofOne('rm', 'remove the name of an arena in shared memory; programs that have it keep it').action(
    (name: string) => report(1, async () => remove(name)),
  );
}
