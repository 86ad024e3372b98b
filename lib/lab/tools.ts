/**
 * Running the tools that the lab is made of. A tool that is not there is reported with the Debian package that
 * has it.
 *
 * @module
 */
import { execFile } from 'node:child_process';
import { abortError } from '../errors.js';
import { LabError, type LabErrorCode } from './errors.js';

/** The Debian package of each tool that a machine may lack. */
const packageOf: Readonly<Record<string, string>> = {
  'aarch64-linux-gnu-gcc': 'g++-aarch64-linux-gnu',
  'aarch64-linux-gnu-g++': 'g++-aarch64-linux-gnu',
  'aarch64-linux-gnu-readelf': 'binutils-aarch64-linux-gnu',
  'aarch64-linux-gnu-strip': 'binutils-aarch64-linux-gnu',
  'apt-get': 'apt',
  bc: 'bc',
  bison: 'bison',
  bsdtar: 'libarchive-tools',
  cmake: 'cmake',
  depmod: 'kmod',
  flex: 'flex',
  dtc: 'device-tree-compiler',
  fdtoverlay: 'device-tree-compiler',
  flock: 'util-linux',
  gcc: 'g++',
  make: 'make',
  modinfo: 'kmod',
  'qemu-system-aarch64': 'qemu-system-arm',
  'qemu-system-riscv64': 'qemu-system-misc (since Debian 13: qemu-system-riscv)',
  'qemu-system-x86_64': 'qemu-system-x86',
  'riscv64-linux-gnu-g++': 'g++-riscv64-linux-gnu',
  'riscv64-linux-gnu-gcc': 'g++-riscv64-linux-gnu',
  'riscv64-linux-gnu-readelf': 'binutils-riscv64-linux-gnu',
  readelf: 'binutils',
  setpriv: 'util-linux',
  strip: 'binutils',
  xz: 'xz-utils',
};

/** The error for a tool that could not be started. */
export function missingTool(name: string, cause?: unknown): LabError {
  const from = packageOf[name];
  return new LabError(
    'ERR_IOSPACE_LAB_MISSING',
    `${name} is missing${from === undefined ? '' : `; on Debian: apt-get install ${from}`}`,
    { cause },
  );
}

/** How {@link tool} runs its command. */
export interface ToolOptions {
  cwd?: string;
  env?: Readonly<Record<string, string>>;
  /** Ends the tool; the call then rejects with an AbortError. */
  signal?: AbortSignal | undefined;
  /** The code of the error when the tool fails. Default: `ERR_IOSPACE_LAB_BUILD`. */
  failure?: LabErrorCode;
  /** `true`: it may outlive this process, and needs no `setpriv`, which small systems lack. Default: `false`. */
  mayOutlive?: boolean;
  /** Gets what it writes to stdout as it comes, too. */
  onStdout?: (text: string) => void;
}

/**
 * What `setpriv` is told before a command that the kernel is to kill when the thread that started it ends, however
 * that happens. The command's own children are not reached.
 */
export const endsWithUs = ['--pdeathsig', 'KILL', '--'] as const;

/** The end of a text, long enough for a compiler's complaint. */
function lastLines(text: string, count = 30): string {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}

/**
 * Runs a tool to its end and returns what it wrote to stdout.
 *
 * @throws LabError with code `ERR_IOSPACE_LAB_MISSING` where there is no such tool, with
 * {@link ToolOptions.failure} and the end of its output where it fails
 */
export function tool(name: string, args: readonly string[], options: ToolOptions = {}): Promise<string> {
  const { cwd, env, signal, failure = 'ERR_IOSPACE_LAB_BUILD', mayOutlive = false, onStdout } = options;
  const [program, words] = mayOutlive ? [name, args] : ['setpriv', [...endsWithUs, name, ...args]];
  return new Promise((resolve, reject) => {
    const { stdout: output } = execFile(
      program,
      words,
      {
        ...(cwd !== undefined && { cwd }),
        ...(signal !== undefined && { signal }),
        // Messages in English, sorting by byte: both are read by this program.
        env: { ...process.env, LC_ALL: 'C', ...env },
        maxBuffer: 64 << 20,
      },
      (error, stdout, stderr) => {
        if (error === null) {
          resolve(stdout);
        } else if (signal?.aborted) {
          reject(abortError(signal));
        } else if (error.code === 'ENOENT') {
          reject(missingTool(program, error));
        } else if (error.code === 127 && stderr.startsWith(`setpriv: failed to execute ${name}: `)) {
          reject(missingTool(name, error));
        } else {
          const shown = lastLines(stderr.trim() === '' ? stdout : stderr);
          reject(new LabError(failure, `${[name, ...args].join(' ')} failed:\n${shown}`, { cause: error }));
        }
      },
    );
    if (onStdout !== undefined) {
      output?.on('data', onStdout);
    }
  });
}

/** Throws the AbortError of a signal that has aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw abortError(signal);
  }
}
