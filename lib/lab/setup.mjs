/**
 * What a fresh clone lacks: Debian packages, npm packages, the compiled library, the addon.
 *
 *     node lib/lab/setup.mjs demo | bench | test | matrix
 *
 * Plain JavaScript without dependencies, because it runs before there is a compiler or a package. Each step
 * looks first whether there is anything to do. Without the packages of the lab, and without the right to
 * install them, `demo` still goes on (it shows what works without), the others do not.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** The package of QEMU's riscv64, which left that of the rarer machines with Debian 13. */
function riscvEmulator() {
  const system = '/etc/os-release';
  const isBookworm = existsSync(system) && /^VERSION_ID="12"/m.test(readFileSync(system, 'utf8'));
  return isBookworm ? 'qemu-system-misc' : 'qemu-system-riscv';
}

/** Debian packages by what needs them. */
const packages = {
  addon: ['g++', 'make', 'python3'],
  lab: [
    'cmake',
    'g++-aarch64-linux-gnu',
    'kmod',
    'libarchive-tools',
    'libelf-dev',
    'qemu-system-arm',
    'qemu-system-x86',
    'xz-utils',
  ],
  debugKernel: ['bc', 'bison', 'flex'],
  riscv64: ['g++-riscv64-linux-gnu', riscvEmulator()],
  tests: ['chromium', 'clang-format', 'clang-tidy', 'device-tree-compiler', 'sparse'],
};

const purposes = {
  demo: ['addon', 'lab'],
  bench: ['addon', 'lab'],
  test: ['addon', 'lab', 'debugKernel', 'tests'],
  matrix: ['addon', 'lab', 'debugKernel', 'tests', 'riscv64'],
};

function fail(message) {
  console.error(`setup: ${message}`);
  process.exit(1);
}

/** Runs a command, its output shown, and ends the set-up if it fails. */
function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) {
    fail(`${[command, ...args].join(' ')} failed${error ? `: ${error.message}` : ''}`);
  }
}

function isInstalled(name) {
  const { status, stdout } = spawnSync('dpkg-query', ['-s', name], { encoding: 'utf8' });
  return status === 0 && /^Status: .* installed$/m.test(stdout);
}

/** The words before apt-get that give it the right to install, or undefined where there are none. */
function privilege() {
  if (process.getuid() === 0) {
    return [];
  }
  const asked = process.stdin.isTTY ? ['sudo'] : ['sudo', '-n'];
  return spawnSync(asked[0], [...asked.slice(1), 'true'], { stdio: 'inherit' }).status === 0
    ? asked
    : undefined;
}

function aptGet(prefix, args) {
  const [command, ...rest] = [...prefix, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', ...args];
  return spawnSync(command, rest, { stdio: ['inherit', 'ignore', 'inherit'] }).status === 0;
}

/** Installs what is missing, and returns what still is. */
function installPackages(names) {
  const missing = names.filter((name) => !isInstalled(name));
  const prefix = missing.length > 0 && existsSync('/usr/bin/apt-get') ? privilege() : undefined;
  if (prefix === undefined) {
    return missing;
  }
  console.error(`setup: installing ${missing.join(' ')}`);
  const install = ['install', '-y', '--no-install-recommends', ...missing];
  if (!aptGet(prefix, ['update']) || !aptGet(prefix, install)) {
    console.error('setup: apt-get could not install them');
  }
  return missing.filter((name) => !isInstalled(name));
}

function setUpDebian(purpose) {
  const missing = installPackages(purposes[purpose].flatMap((need) => packages[need]));
  if (missing.length === 0) {
    return;
  }
  const advice = `missing Debian packages; as root: apt-get install ${missing.join(' ')}`;
  const addonTools = [['g++'], ['make'], ['python3']];
  const canBuild = addonTools.every(
    ([tool]) => spawnSync(tool, ['--version'], { stdio: 'ignore' }).status === 0,
  );
  if (purpose !== 'demo' || !canBuild) {
    fail(advice);
  }
  console.error(`setup: ${advice}`);
}

/** npm packages exactly as the lock file has them; a copy of its hash tells when that was done. */
function setUpNpm() {
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  const mark = join(root, 'node_modules', '.iospace-lock');
  if (existsSync(mark) && readFileSync(mark, 'utf8') === lock) {
    return;
  }
  console.error('setup: installing npm packages');
  run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']);
  writeFileSync(mark, lock);
}

const [major, minor] = process.versions.node.split('.').map(Number);
if (process.platform !== 'linux' || major < 20 || (major === 20 && minor < 19)) {
  fail(`expected Linux and Node 20.19 or later, got ${process.platform} and Node ${process.versions.node}`);
}
const purpose = process.argv[2];
if (!Object.hasOwn(purposes, purpose)) {
  fail(`expected one of ${Object.keys(purposes).join(', ')}, got ${purpose}`);
}
setUpDebian(purpose);
setUpNpm();
run('npm', ['run', '--silent', 'build']);
