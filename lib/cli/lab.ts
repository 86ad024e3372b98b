/**
 * `iospace lab`: emulated machines.
 *
 * @module
 */
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { longestTimeout } from '../lab/boot-options.js';
import {
  type Arch,
  applyOverlay,
  architectures,
  cacheDirectory,
  cleanCache,
  type DeviceTreeChange,
  fetchedKernels,
  fetchKernel,
  type KernelName,
  kernelNames,
  kernelsFor,
  listCache,
  Machine,
  type MachineName,
  machineNames,
  machineSummary,
  type NodeMajor,
  nodeMajors,
} from '../lab/index.js';
import { progress, report } from './report.js';

/** What a run ends with where the lab itself fails: as `env` and `timeout` have it. */
const labFailed = 125;

interface RunFlags {
  machine: MachineName;
  arch?: Arch;
  kernel?: KernelName;
  node?: string;
  append?: string;
  icount?: boolean;
  memory?: string;
  machineOptions?: string;
  device: string[];
  deviceTreeOverlay: string[];
  kernelModule: string[];
  bind: string[];
  mount: string[];
  env: Record<string, string>;
  module: boolean;
  moduleParameters?: string;
  monitor?: string;
  timeout?: number;
  json?: boolean;
}

function repeated(value: string, before: string[]): string[] {
  return [...before, value];
}

function seconds(value: string): number {
  const number = Number(value);
  if (!(number > 0 && number <= longestTimeout)) {
    throw new InvalidArgumentError(`expected a number of seconds, above 0 and at most ${longestTimeout}`);
  }
  return number;
}

/** `NAME=VALUE`, or `NAME` for the value that it has here. */
function variable(word: string, before: Record<string, string>): Record<string, string> {
  const [name = '', ...rest] = word.split('=');
  const value = rest.length === 0 ? process.env[name] : rest.join('=');
  if (name === '' || value === undefined) {
    throw new InvalidArgumentError('expected NAME=VALUE, or the NAME of a variable that is set');
  }
  return { ...before, [name]: value };
}

/** Applies overlays in their order. */
function overlays(sources: readonly string[]): DeviceTreeChange {
  return async (file) => {
    for (const source of sources) {
      await applyOverlay(file, source);
    }
  };
}

/** The first SIGINT is for the program in the guest, the second for the machine. So is SIGTERM. */
function passSignals(machine: Machine, stop: AbortController): () => void {
  let passed = false;
  const pass = (signal: NodeJS.Signals) => {
    if (passed) {
      stop.abort(new Error(`${signal}, twice`));
    } else {
      passed = true;
      machine.kill(signal);
    }
  };
  process.on('SIGINT', pass).on('SIGTERM', pass);
  return () => process.off('SIGINT', pass).off('SIGTERM', pass);
}

/** Writes to one of our own streams, and leaves what the reader does not want. */
function forward(stream: NodeJS.WriteStream): (bytes: Buffer) => void {
  stream.on('error', () => {});
  return (bytes) => stream.write(bytes);
}

/** What `--json` ends stdout with. */
interface Outcome {
  /** Undefined where the command line was wrong. */
  machine?: MachineName;
  /** Undefined where it did not boot; so is `bootSeconds`. */
  kernel?: string;
  bootSeconds?: number;
  exitCode: number;
  /** What failed in the lab itself. */
  error?: { code: string | undefined; message: string };
}

/** Boots the machine, runs the command and returns its exit code. */
async function runInMachine(argv: string[], flags: RunFlags, outcome: Outcome): Promise<number> {
  const stop = new AbortController();
  const interrupted = (signal: NodeJS.Signals) => stop.abort(new Error(signal));
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  await using machine = await Machine.boot({
    machine: flags.machine,
    arch: flags.arch,
    kernel: flags.kernel,
    node: flags.node === undefined ? undefined : (Number(flags.node) as NodeMajor),
    append: flags.append,
    icount: flags.icount,
    memory: flags.memory,
    machineOptions: flags.machineOptions,
    devices: flags.device,
    deviceTree: flags.deviceTreeOverlay.length > 0 ? overlays(flags.deviceTreeOverlay) : undefined,
    kernelModules: flags.kernelModule,
    bind: flags.bind,
    mounts: flags.mount.length > 0 ? flags.mount : undefined,
    monitor: flags.monitor,
    loadModule: flags.module,
    moduleParameters: flags.moduleParameters,
    onProgress: progress,
    signal: stop.signal,
  });
  process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
  progress(`${machine.description}, booted in ${machine.bootSeconds.toFixed(1)} s`);
  outcome.kernel = machine.kernelRelease;
  outcome.bootSeconds = machine.bootSeconds;
  const release = passSignals(machine, stop);
  try {
    const { code } = await machine.run(argv, {
      env: flags.env,
      stdin: process.stdin.isTTY ? undefined : process.stdin,
      signal: stop.signal,
      timeout: flags.timeout,
      onStdout: forward(process.stdout),
      onStderr: forward(process.stderr),
    });
    return code;
  } finally {
    release();
  }
}

async function run(argv: string[], flags: RunFlags): Promise<number> {
  const outcome: Outcome = { machine: flags.machine, exitCode: labFailed };
  try {
    outcome.exitCode = await runInMachine(argv, flags, outcome);
    return outcome.exitCode;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    outcome.error = { code, message };
    throw error;
  } finally {
    if (flags.json) {
      console.log(JSON.stringify(outcome));
    }
  }
}

/** Ends a run whose command line is wrong; commander has said so on stderr. */
function refuse(message: string): never {
  // What is wrong may stand before `--json`, and then commander has not come to it.
  const end = process.argv.indexOf('--');
  if (process.argv.slice(0, end === -1 ? undefined : end).includes('--json')) {
    const error = { code: 'ERR_INVALID_ARG_VALUE', message: message.replace(/^error: /, '') };
    console.log(JSON.stringify({ exitCode: labFailed, error } satisfies Outcome));
  }
  process.exit(labFailed);
}

function mebibytes(byteLength: number): string {
  return `${Math.ceil(byteLength / 2 ** 20)} MiB`.padStart(9);
}

async function list(): Promise<number> {
  console.log('machines');
  for (const name of machineNames) {
    console.log(`  ${name.padEnd(10)} ${machineSummary(name)}`);
  }
  const fetched = await fetchedKernels();
  console.log('kernels');
  for (const name of kernelNames) {
    const here = fetched.filter((kernel) => kernel.name === name).map(({ release }) => release);
    console.log(`  ${name.padEnd(10)} ${here.length === 0 ? 'not fetched' : here.join(', ')}`);
  }
  console.log(`cache: ${cacheDirectory()}`);
  for (const { kind, name, byteLength } of await listCache()) {
    console.log(`  ${mebibytes(byteLength)}  ${join(kind, name)}`);
  }
  return 0;
}

async function fetch(names: string[], { arch }: { arch: readonly Arch[] }): Promise<number> {
  for (const name of names) {
    if (!(kernelNames as string[]).includes(name)) {
      throw new InvalidArgumentError(`expected kernels out of ${kernelNames.join(', ')}, got ${name}`);
    }
  }
  for (const one of arch) {
    const wanted = kernelsFor(one).filter((name) =>
      names.length === 0 ? name !== 'debug' : names.includes(name),
    );
    for (const name of wanted) {
      const { release, directory } = await fetchKernel(name, one, { onProgress: progress });
      console.log(`${release}: ${directory}`);
    }
  }
  return 0;
}

/** Adds the commands to the program. */
export function addLabCommands(program: Command): void {
  const lab = program
    .command('lab')
    .description('run programs in emulated machines')
    .enablePositionalOptions();
  lab
    .command('run')
    .description('boot a machine, run a command in it as root, and exit with its exit code')
    .argument('<command...>', 'the command and its arguments, after --')
    .addOption(new Option('--machine <name>', 'machine').choices(machineNames).default('pc'))
    .addOption(
      new Option(
        '--arch <arch>',
        'for a machine that is made for several: virt for arm64 or riscv64',
      ).choices(architectures),
    )
    .addOption(
      new Option('--kernel <version>', "Debian's kernel, or the debug kernel")
        .choices(kernelNames)
        .default(undefined, '6.1; 6.12 on riscv64'),
    )
    .addOption(
      new Option('--node <major>', 'Node in the guest')
        .choices(nodeMajors.map(String))
        .default(undefined, "this one's major; 20 on riscv64"),
    )
    .option('--append <args>', "added to the kernel's command line")
    .option('--icount', "the guest's clock counts instructions, a nanosecond each")
    .option('--memory <size>', "the machine's memory, as QEMU takes it: 1G")
    .option('--machine-options <options>', "added to QEMU's -machine: iommu=smmuv3")
    .option(
      '--device <device>',
      'a device, as QEMU takes it; edu is bound to iospace (repeatable)',
      repeated,
      [],
    )
    .option(
      '--device-tree-overlay <file>',
      "a .dts that is applied to the machine's device tree before it boots (repeatable)",
      repeated,
      [],
    )
    .option(
      '--kernel-module <module>',
      'a module of the guest\'s kernel, loaded before iospace: "NAME [PARAMETER=VALUE ...]" (repeatable)',
      repeated,
      [],
    )
    .option('--bind <name>', 'a PCI or platform device to hand to iospace (repeatable)', repeated, [])
    .option('--mount <dir>', 'HOSTDIR[:GUESTDIR][:rw]; default: the current one (repeatable)', repeated, [])
    .option('--env <name>', 'NAME=VALUE, or NAME as it is here (repeatable)', variable, {})
    .option('--module-parameters <text>', 'parameters of iospace.ko: "NAME=VALUE ..."')
    .addOption(new Option('--no-module', 'do not load iospace.ko').conflicts(['moduleParameters', 'bind']))
    .option('--monitor <socket>', "make a socket for QEMU's monitor")
    .option('--timeout <seconds>', 'how long the command may take', seconds)
    .option(
      '--json',
      'end stdout with one line of JSON: machine, kernel, bootSeconds, exitCode, and error where the lab failed',
    )
    .passThroughOptions()
    // Any other code could be the command's own.
    .exitOverride(({ exitCode, message }) => (exitCode === 0 ? process.exit() : refuse(message)))
    .action((argv: string[], flags: RunFlags) => report(labFailed, () => run(argv, flags)));
  lab
    .command('list')
    .description('show machines, kernels and what the cache holds')
    .action(() => report(1, list));
  lab
    .command('fetch')
    .description("fetch kernels; all of Debian's where none is named; the debug kernel is built, for amd64")
    .argument('[kernels...]', kernelNames.join(', '))
    .addOption(new Option('--arch <arch...>', 'architectures').choices(architectures).default(architectures))
    .action((names: string[], flags: { arch: readonly Arch[] }) => report(1, () => fetch(names, flags)));
  lab
    .command('clean')
    .description('remove everything that was fetched and built, while no machine needs it')
    .action(() =>
      report(1, async () => {
        await cleanCache();
        console.log(`removed what was in ${cacheDirectory()}`);
        return 0;
      }),
    );
}
