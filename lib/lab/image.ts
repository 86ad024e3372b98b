/**
 * What the guest starts from: archives of files that the kernel unpacks, one after another, into memory. The
 * first is cached, with everything that does not depend on the run: busybox, Node, its libraries, the kernel
 * modules that reach the host. It is not compressed: emulated, unpacking takes longer than loading.
 *
 * @module
 */
import {
  appendFile,
  constants,
  copyFile,
  type FileHandle,
  mkdtemp,
  open,
  readFile,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { packageRoot } from '../package-root.js';
import { cached, exists } from './cache.js';
import { LabError } from './errors.js';
import { fetchNode, type NodeMajor } from './guest-node.js';
import { baseModules, guestName, type KernelModule } from './kernel-modules.js';
import { type Arch, type Kernel, moduleClosure } from './kernels.js';
import { type FetchOptions, unpackedPackage } from './packages.js';
import { contentKey } from './sources.js';
import { loaderPath, toolPrefix } from './toolchain.js';
import { tool } from './tools.js';

const guestSources = join(packageRoot(), 'lib/lab/guest');

/** A file of the guest: its path without the leading slash, and where its content is. */
export interface GuestFile {
  path: string;
  from: string;
  mode?: number;
}

const directories = ['bin', 'dev', 'lab', 'lab/modules', 'lib', 'lib64', 'usr', 'usr/bin', 'usr/lib'];

/** mtree separates words by spaces, and has an escape for what stands in a name. */
const escaped = (path: string) =>
  path.replace(/[^\w./+-]/g, (letter) =>
    [...Buffer.from(letter)].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join(''),
  );

/** Writes an archive of files that belong to root, whoever writes it. */
async function writeArchive(archive: string, files: readonly GuestFile[], others: readonly string[] = []) {
  const specification = [
    '#mtree',
    ...others,
    ...files.map(
      ({ path, from, mode = 0o644 }) =>
        `./${escaped(path)} type=file uid=0 gid=0 mode=0${mode.toString(8)} contents=${escaped(from)}`,
    ),
    '',
  ].join('\n');
  await writeFile(`${archive}.mtree`, specification);
  await tool('bsdtar', ['-cf', archive, '--format', 'newc', `@${archive}.mtree`]);
}

/** A module as the guest can load it: Debian compresses them since 6.12, and the guest has no xz. */
async function plainModule(file: string, directory: string): Promise<string> {
  if (!file.endsWith('.xz')) {
    return file;
  }
  const copy = join(directory, basename(file));
  await copyFile(file, copy);
  await tool('xz', ['-d', copy]);
  return join(directory, guestName(file));
}

/** Modules in their place in the guest. */
async function moduleFiles(files: readonly string[], directory: string): Promise<GuestFile[]> {
  const modules: GuestFile[] = [];
  for (const file of files) {
    const from = await plainModule(file, directory);
    modules.push({ path: `lab/modules/${basename(from)}`, from });
  }
  return modules;
}

/** The directories above files, outermost first: the kernel makes none by itself. */
function directoriesOf(files: readonly { path: string }[]): string[] {
  const above = files.flatMap(({ path }) => {
    const parts = path.split('/').filter((part) => part !== '');
    return parts.slice(0, -1).map((_part, index) => parts.slice(0, index + 1).join('/'));
  });
  return [...new Set(above)];
}

/** Libraries stand where the loader looks without a cache. */
const libraryFile = (path: string, arch: Arch): GuestFile => {
  const name = basename(path);
  const isLoader = name === basename(loaderPath[arch]);
  return { path: isLoader ? loaderPath[arch] : `usr/lib/${name}`, from: path, mode: 0o755 };
};

/** Debian moved /bin into /usr with trixie. */
async function busyboxFor(arch: Arch, options: FetchOptions): Promise<string> {
  const directory = await unpackedPackage(`busybox-static:${arch}`, options);
  const merged = join(directory, 'usr/bin/busybox');
  return (await exists(merged)) ? merged : join(directory, 'bin/busybox');
}

/**
 * The archive for a kernel and a major of Node, from the cache.
 *
 * @returns the path of the archive
 */
export async function baseImage(
  kernel: Kernel,
  nodeMajor: NodeMajor,
  options: FetchOptions = {},
): Promise<string> {
  const { arch, release } = kernel;
  const node = await fetchNode(nodeMajor, arch, options);
  const busybox = await busyboxFor(arch, options);
  const kernelModules = await moduleClosure(kernel, baseModules);
  const agentSource = join(guestSources, 'agent.c');
  const init = join(guestSources, 'init');
  const key = await contentKey(
    [agentSource, init, busybox, ...node.libraries],
    [node.program, ...kernelModules],
  );
  const build = async (directory: string) => {
    options.onProgress?.(`building the guest image: ${release}, Node ${nodeMajor}`);
    const agent = join(directory, 'agent');
    await tool(`${toolPrefix(arch)}gcc`, ['-static', '-O2', '-s', '-Wall', '-o', agent, agentSource]);
    const order = join(directory, 'order');
    const loaded = await moduleFiles(kernelModules, directory);
    await writeFile(order, loaded.map(({ from }) => `${basename(from)}\n`).join(''));
    await writeArchive(
      join(directory, 'base.cpio'),
      [
        { path: 'init', from: init, mode: 0o755 },
        { path: 'bin/busybox', from: busybox, mode: 0o755 },
        { path: 'lab/agent', from: agent, mode: 0o755 },
        { path: 'lab/modules/order', from: order },
        { path: 'usr/bin/node', from: node.program, mode: 0o755 },
        ...node.libraries.map((path) => libraryFile(path, arch)),
        ...node.scripts,
        ...loaded,
      ],
      [
        ...[...directories, ...directoriesOf(node.scripts)].map(
          (path) => `./${escaped(path)} type=dir uid=0 gid=0 mode=0755`,
        ),
        // Where the first process writes before there is a /dev.
        './dev/console type=char uid=0 gid=0 mode=0600 device=native,5,1',
      ],
    );
  };
  const entry = await cached('images', `${release}-node${nodeMajor}-${key}`, build, options.signal);
  return join(entry, 'base.cpio');
}

/** What one boot adds to the base. */
export interface BootFiles {
  /** The directives that `guest/init` follows. */
  setup: readonly string[];
  /** Those of the kernel that this boot asks for. */
  kernelModules: readonly KernelModule[];
  /** `iospace.ko`, where it is loaded. */
  module: string | undefined;
  /** Host directories whose content is copied, for machines that cannot mount. */
  copies: readonly { from: string; to: string }[];
}

/** Beyond this a machine of 1 GiB has no room left to work in. */
const mostCopied = 256 << 20;

/** An archive of a directory's content. Revision control and what only the development of a package needs stay behind. */
async function writeCopy(archive: string, { from, to }: { from: string; to: string }): Promise<void> {
  const excluded = ['.git', ...(await developmentPackages(from))].map((path) => `--exclude=./${path}`);
  const root = to.slice(1).replace(/[\\,&~]/g, '\\$&');
  const names = ['--uid', '0', '--gid', '0', '-s', `,^\\.,${root},`];
  await tool('bsdtar', ['-cf', archive, '--format', 'newc', ...names, ...excluded, '-C', from, '.']);
  const { size } = await stat(archive);
  if (size > mostCopied) {
    throw new LabError(
      'ERR_IOSPACE_LAB_BUILD',
      `this machine gets copies of the mounted directories, at most ${mostCopied >> 20} MiB; ${from} has ${size >> 20} MiB`,
    );
  }
}

/** The packages that npm installed below a directory for its development alone. */
async function developmentPackages(directory: string): Promise<string[]> {
  const lock = join(directory, 'node_modules/.package-lock.json');
  if (!(await exists(lock))) {
    return [];
  }
  const { packages } = JSON.parse(await readFile(lock, 'utf8')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  return Object.keys(packages).filter((path) => packages[path]?.dev === true);
}

/**
 * The whole initial file system of one boot, as an open file that has no name any more: however the machine ends,
 * nothing stays behind. The caller closes it. (Killed while it is made, it stays in the system's directory for
 * temporary files.)
 */
export async function bootImage(
  base: string,
  { setup, kernelModules, module, copies }: BootFiles,
): Promise<FileHandle> {
  const directory = await mkdtemp(join(tmpdir(), 'iospace-lab-'));
  try {
    const setupFile = join(directory, 'setup');
    await writeFile(setupFile, setup.map((line) => `${line}\n`).join(''));
    const added = join(directory, 'added.cpio');
    const loaded = kernelModules.map(({ file }) => file);
    const files: GuestFile[] = [
      { path: 'lab/setup', from: setupFile },
      ...(await moduleFiles(loaded, directory)),
    ];
    if (module !== undefined) {
      files.push({ path: 'lab/iospace.ko', from: module });
    }
    await writeArchive(
      added,
      files,
      directoriesOf(copies.map(({ to }) => ({ path: to }))).map(
        (path) => `./${escaped(path)} type=dir uid=0 gid=0 mode=0755`,
      ),
    );
    const whole = join(directory, 'whole.cpio');
    await copyFile(base, whole, constants.COPYFILE_FICLONE);
    await appendFile(whole, await readFile(added));
    for (const [index, copy] of copies.entries()) {
      const archive = join(directory, `copy${index}.cpio`);
      await writeCopy(archive, copy);
      await appendFile(whole, await readFile(archive));
    }
    return await open(whole, 'r');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
