/**
 * `iospace shm`: what shared memory there is on this machine, who has it, and what nobody has any more; its bytes, and its
 * end.
 *
 * @module
 */
import { readFileSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { type Command, Option } from 'commander';
import { isArena } from '../arena/file-backing.js';
import { checkRange } from '../check.js';
import { errno, explained, isSystemError, notSupported, systemError, wrongValue } from '../errors.js';
import { type Contents, openMemfd, openPosix, openSegment } from '../shm/inventory/contents.js';
import { findHolders, type Holders } from '../shm/inventory/holders.js';
import { lookAtPosix, lookAtSegment, type SharedObject, takeInventory } from '../shm/inventory/inventory.js';
import { posix } from '../shm/posix.js';
import { isRing } from '../shm/ring/layout.js';
import { sysv } from '../shm/sysv.js';
import { bytes, defaultCommand } from './commands.js';
import { printJson, progress, report } from './report.js';
import { type Found, find } from './shm-names.js';
import { HexDump, keyText, type ListedObject, listText, modeText, sumText, unseenText } from './shm-text.js';

interface ListFlags {
  json?: boolean;
}

interface CatFlags {
  offset: number;
  length?: number;
  raw?: boolean;
}

interface RemoveFlags {
  leaked?: boolean;
  yes?: boolean;
  force?: boolean;
}

/** What is read and written at once. */
const CHUNK_BYTES = 2 ** 18;

/** What users are called; a number where /etc/passwd does not say. */
function userNames(): (uid: number) => string {
  const names = new Map<string, string>();
  try {
    for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
      const [name = '', , uid = ''] = line.split(':');
      // As the C library: the first counts.
      if (!names.has(uid)) {
        names.set(uid, name);
      }
    }
  } catch (error) {
    if (!isSystemError(error, 'ENOENT', 'EACCES')) {
      throw error;
    }
  }
  return (uid) => names.get(String(uid)) ?? String(uid);
}

function listed(objects: readonly SharedObject[]): ListedObject[] {
  const nameOf = userNames();
  return objects.map((object) => {
    const head = object.head ?? new Uint8Array();
    const holds = isArena(head) ? 'arena' : isRing(head) ? 'ring' : undefined;
    return { ...object, owner: nameOf(object.uid), holds };
  });
}

/** Without what only this program needs, and numbers as people write them. */
function jsonOf({ head: _, ...object }: ListedObject): object {
  return {
    ...object,
    mode: modeText(object.mode),
    ...(object.kind === 'sysv' && { key: keyText(object.key) || null }),
    holds: object.holds ?? null,
  };
}

/** Whether what is printed goes to a terminal that wants colours. */
function isColoured(): boolean {
  return process.stdout.isTTY === true && !process.env['NO_COLOR'];
}

function list({ json }: ListFlags): number {
  const holders = findHolders();
  const { unseen } = holders;
  const { objects, errors } = takeInventory(holders);
  if (json) {
    // JSON has no infinity: null says that the number is not known.
    printJson({ objects: listed(objects).map(jsonOf), unseenProcesses: unseen, errors });
    return 0;
  }
  console.log(listText(listed(objects), unseen, isColoured()));
  for (const error of errors) {
    progress(error.message);
  }
  const note = unseenText(unseen);
  if (note !== undefined) {
    progress(note);
  }
  return 0;
}

function open(found: Found): Contents {
  switch (found.kind) {
    case 'posix':
      return openPosix(found.name);
    case 'sysv':
      return openSegment(found.segment.id);
    case 'memfd':
      return openMemfd(found.pid, found.fd);
  }
}

function* chunks(contents: Contents, offset: number, length: number): Generator<Uint8Array> {
  const end = offset + length;
  for (let place = offset; place < end; ) {
    // What is written is still read after this goes on.
    const chunk = new Uint8Array(Math.min(CHUNK_BYTES, end - place));
    const read = contents.read(chunk, place);
    if (read === 0) {
      throw systemError(errno.EINVAL, 'read', {
        hint: `the memory was made shorter meanwhile: it ends at ${place}`,
      });
    }
    yield chunk.subarray(0, read);
    place += read;
  }
}

function* dumped(pieces: Iterable<Uint8Array>, offset: number): Generator<string> {
  const dump = new HexDump(offset);
  for (const piece of pieces) {
    yield dump.lines(piece);
  }
  yield dump.end();
}

async function cat(name: string, { offset, length, raw }: CatFlags): Promise<number> {
  using contents = open(find(name));
  const pieces = chunks(contents, offset, checkRange(offset, length, contents.byteLength));
  try {
    const isDump = process.stdout.isTTY === true && !raw;
    await pipeline(isDump ? dumped(pieces, offset) : pieces, process.stdout, { end: false });
  } catch (error) {
    // Who reads it has seen enough: `iospace shm cat NAME | head`.
    if (!isSystemError(error, 'EPIPE')) {
      throw error;
    }
  }
  return 0;
}

const notOurs = 'it takes its owner, or root';

/** Ends a name or a segment, whoever has it. */
function end(object: SharedObject): void {
  const { name: path } = object;
  explained({ path }, { EPERM: notOurs, EACCES: notOurs }, () => {
    if (object.kind === 'posix') {
      posix.unlink(object.name);
    } else if (object.kind === 'sysv') {
      sysv.control.remove(object.id);
    }
  });
}

/** As it is now. @throws EOPNOTSUPP for what has no name that could be removed */
function removable(found: Found, holders: Holders): SharedObject {
  switch (found.kind) {
    case 'posix':
      return lookAtPosix(found.name, holders);
    case 'sysv':
      return lookAtSegment(found.segment);
    case 'memfd':
      throw notSupported(
        'rm',
        `a memfd has no name: memfd:${found.pid}/${found.fd} ends when no process has it any more`,
      );
  }
}

/** @throws EBUSY if there is nothing left to remove */
function checkPresent({ name: path, state, attached }: SharedObject): void {
  if (state === 'removed') {
    const hint = `it is removed already, and ends with the last of its attachments (${attached})`;
    throw systemError(errno.EBUSY, 'rm', { path, hint });
  }
}

/** Those who have it, in words. */
function usersText(object: SharedObject): string {
  if (object.kind === 'sysv') {
    return `it is attached (${object.attached})`;
  }
  const { pids } = object;
  return pids.length === 0 ? 'a process has it that cannot be seen' : `process ${pids.join(', ')} has it`;
}

/** @throws EBUSY if somebody has it, or may have */
function checkUnused(object: SharedObject): void {
  const { kind, name: path, state } = object;
  const force = 'to remove it nevertheless, which takes it from nobody: --force';
  if (state === 'used') {
    throw systemError(errno.EBUSY, 'rm', { path, hint: `${usersText(object)}; ${force}` });
  }
  if (kind === 'posix' && state === 'unknown') {
    throw systemError(errno.EBUSY, 'rm', { path, hint: `whether somebody has it cannot be said; ${force}` });
  }
}

/** Runs `call` for each; what goes wrong with one is said and does not keep the others. */
function forEach<T>(all: readonly T[], call: (one: T) => void): number {
  let code = 0;
  for (const one of all) {
    try {
      call(one);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error)) {
        throw error;
      }
      progress(error.message);
      code = 1;
    }
  }
  return code;
}

/** Whether this user may end it. */
function isOurs(object: SharedObject): boolean {
  const uid = process.geteuid?.();
  return uid === 0 || object.uid === uid || (object.kind === 'sysv' && object.creatorUid === uid);
}

function removeLeaked({ yes }: RemoveFlags): number {
  const holders = findHolders();
  const leaked = takeInventory(holders).objects.filter(({ state }) => state === 'leaked');
  const ours = leaked.filter(isOurs);
  const others = leaked.length - ours.length;
  if (others > 0) {
    progress(`${others} more, leaked by others, are theirs to remove, or root's`);
  }
  if (ours.length === 0) {
    console.log('nothing to remove: nothing is leaked');
    return 0;
  }
  if (!yes) {
    console.log(listText(listed(ours), holders.unseen, isColoured()));
    console.log(`would remove ${sumText(ours)}`);
    progress('nobody has them now; if no program is to come back to them, remove them by --yes');
    return 1;
  }
  const removed: SharedObject[] = [];
  const code = forEach(ours, (object) => {
    const now = removable(find(object.name), holders);
    checkPresent(now);
    checkUnused(now);
    end(now);
    removed.push(now);
  });
  console.log(`removed ${sumText(removed)}`);
  return code;
}

function remove(names: readonly string[], flags: RemoveFlags): number {
  const { leaked, force } = flags;
  if (leaked) {
    if (names.length > 0) {
      throw wrongValue('names', 'none together with --leaked', names);
    }
    return removeLeaked(flags);
  }
  if (names.length === 0) {
    throw wrongValue('what to remove', 'names (iospace shm ls), or --leaked,', names);
  }
  // A name that is wrong keeps all of them.
  const found = names.map(find);
  return forEach(found, (one) => {
    const object = removable(one, findHolders());
    checkPresent(object);
    if (!force) {
      checkUnused(object);
    }
    end(object);
  });
}

/** Adds the commands to the program. */
export function addShmCommands(program: Command): void {
  const shm = program
    .command('shm')
    .description('see what shared memory there is, and who has it; print and remove it')
    .addHelpText(
      'after',
      '\nNAME is /NAME (POSIX), sysv:ID or sysv:0xKEY (System V), memfd:PID/FD; prefixes can be left out where that means one thing.',
    );
  defaultCommand(shm, 'ls')
    .description('show the shared memory of this machine: POSIX objects, System V segments, memfds')
    .option('--json', 'as JSON')
    .action((flags: ListFlags) => report(1, async () => list(flags)));
  shm
    .command('cat')
    .description('print the bytes of one; on a terminal as hexadecimal numbers')
    .argument('<name>', 'the shared memory')
    .option('--offset <bytes>', 'the first byte: 4096, 4K or 0x1000', bytes(0), 0)
    .option('--length <bytes>', 'how many bytes (default: all that follow)', bytes(0))
    .option('--raw', 'the bytes themselves, on a terminal too')
    .action((name: string, flags: CatFlags) => report(1, () => cat(name, flags)));
  shm
    .command('rm')
    .description('remove what nobody has; whoever has it nevertheless keeps it')
    .argument('[names...]', 'the shared memory')
    .option('--leaked', 'all that is leaked, once --yes is said too')
    .option('--yes', 'remove what --leaked has found')
    .addOption(new Option('--force', 'also what somebody has').conflicts('leaked'))
    .action((names: string[], flags: RemoveFlags) => report(1, async () => remove(names, flags)));
}
