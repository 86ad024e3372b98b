/**
 * The packages that shared memory is set beside. They are no dependencies of iospace: both are compiled when they are
 * installed, by the compiler and for the Node that are there, which is much to ask of every clone and can fail.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const versions: Readonly<Record<string, string>> = {
  'shm-typed-array': '0.1.1',
  '@riaskov/mmap-io': '1.4.3',
};

/** A package, or undefined where it could not be installed. */
export function load<Package>(directory: string, name: string): Package | undefined {
  try {
    return createRequire(join(directory, name, 'index.js'))(name) as Package;
  } catch (error) {
    console.error(`${name} cannot be loaded: ${String(error)}`);
    return undefined;
  }
}

/**
 * Installs them, once for each Node; what cannot be installed is told, and is missing afterwards.
 *
 * @param parent - where to; another program may delete it
 * @returns the directory to give to {@link load}
 */
export function install(parent: string): string {
  const directory = join(parent, `packages-${process.versions.modules}-${process.arch}`);
  for (const [name, version] of Object.entries(versions)) {
    const own = join(directory, name);
    if (installed(own, name) === version) {
      continue;
    }
    console.error(`installing ${name} ${version}`);
    rmSync(own, { recursive: true, force: true });
    mkdirSync(own, { recursive: true });
    // Later versions of npm run scripts only of packages that are named here.
    const manifest = { private: true, dependencies: { [name]: version }, allowScripts: { [name]: true } };
    writeFileSync(join(own, 'package.json'), JSON.stringify(manifest));
    try {
      execFileSync('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error'], {
        cwd: own,
        stdio: ['ignore', 'ignore', 'inherit'],
        // Not a binary that somebody else has built, with another compiler.
        env: { ...process.env, npm_config_build_from_source: 'true' },
        timeout: 300_000,
      });
    } catch (error) {
      console.error(`${name} could not be installed: ${String(error)}`);
    }
  }
  return directory;
}

/** The version that is there. */
function installed(own: string, name: string): string | undefined {
  try {
    const require = createRequire(join(own, 'index.js'));
    require(name);
    return (require(`${name}/package.json`) as { version: string }).version;
  } catch {
    return undefined;
  }
}
