/**
 * A machine that runs: booted once, for many commands.
 *
 * @module
 */
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { abortError, invalidState, wrongType, wrongValue } from '../errors.js';
import { packageRoot } from '../package-root.js';
import { buildAddon } from './addon.js';
import { type BootOptions, checkBootOptions } from './boot-options.js';
import { deferred } from './deferred.js';
import { changedDeviceTree } from './device-tree.js';
import { LabError, type LabErrorCode } from './errors.js';
import { encodeCommand, encodeFrame, type Frame, FrameDecoder, frameType } from './frames.js';
import { checkNodeMajor, defaultNodeMajor, type NodeMajor } from './guest-node.js';
import { baseImage, bootImage } from './image.js';
import { isFault, KernelLog } from './kernel-log.js';
import { guestName, type KernelModule, requestedModules } from './kernel-modules.js';
import { defaultKernel, fetchKernel, type Kernel } from './kernels.js';
import { eduMasks, findMachine, type MachineModel, reachingMemory } from './machines.js';
import { buildModule, checkParameters } from './module.js';
import { isMounted, type Mount, packageMount, parseMount } from './mounts.js';
import type { FetchOptions } from './packages.js';
import { agentPort, Qemu } from './qemu.js';
import { Run, type RunOptions, type RunResult } from './run.js';
import { throwIfAborted, tool } from './tools.js';

const defaultTimeout = 120;
/** How long a fault's lines are awaited, in milliseconds. */
const faultSettles = 500;
/** How long the log is awaited after a run: the console is slower than the agent's line. In milliseconds. */
const logSettles = 3000;
/** How much of the kernel's log an error shows, in lines. */
const shownLines = 60;

const guestEnvironment = {
  PATH: '/usr/local/bin:/usr/bin:/bin',
  HOME: '/root',
  USER: 'root',
  LANG: 'C.UTF-8',
  TERM: 'dumb',
};

/** The parts of a machine that is about to boot, everything fetched and built. */
interface Parts {
  model: MachineModel;
  kernel: Kernel;
  node: NodeMajor;
  image: string;
  kernelModules: readonly KernelModule[];
  module: string | undefined;
}

async function prepare(options: BootOptions): Promise<Parts> {
  const model = findMachine(options.machine ?? 'pc', options.arch);
  const { name, arch, qemu } = model;
  if (options.deviceTree !== undefined && !model.hasDeviceTree) {
    throw wrongValue('machine', 'one that has a device tree', name);
  }
  const node = checkNodeMajor(options.node ?? defaultNodeMajor(arch), arch);
  const fetch: FetchOptions = { signal: options.signal, onProgress: options.onProgress };
  // First of all, whether it can work at all: QEMU is what is most likely to be missing.
  await tool(qemu, ['--version'], { mayOutlive: true });
  const kernel = await fetchKernel(options.kernel ?? defaultKernel(arch), arch, fetch);
  const kernelModules = await requestedModules(kernel, options.kernelModules ?? []);
  const image = await baseImage(kernel, node, fetch);
  let module: string | undefined;
  if (options.loadModule !== false) {
    module = await buildModule(kernel, fetch);
    await checkParameters(module, options.moduleParameters ?? '');
    await buildAddon(arch, fetch);
  }
  return { model, kernel, node, image, kernelModules, module };
}

/** The host directories of a machine: those asked for, and this package. */
function mountsOf(options: BootOptions, { model }: Parts): Mount[] {
  const mounts = (options.mounts ?? [process.cwd()]).map(parseMount);
  const needed = packageMount(packageRoot());
  if (!isMounted(needed, mounts)) {
    mounts.push({ host: needed, guest: needed, writable: false });
  }
  const writable = mounts.find((mount) => mount.writable);
  if (model.files === 'copy' && writable !== undefined) {
    throw wrongValue('mounts', `read-only mounts (${model.name} gets copies of directories)`, writable.host);
  }
  return mounts;
}

/** The directives of `guest/init` for a machine. */
function setupOf(
  options: BootOptions,
  parts: Parts,
  mounts: readonly Mount[],
  devices: readonly string[],
): string[] {
  const masks = eduMasks(devices);
  const { agent, files } = parts.model;
  const mounted = files === 'mount' ? mounts : [];
  return [
    `clock ${Math.round(Date.now() / 1000)}`,
    // Not for init: programs read here that the clock counts instructions (`iospace bench --counts`).
    ...(options.icount ? ['icount'] : []),
    ...mounted.map(({ guest, writable }, index) => `mount mount${index} ${writable ? 'rw' : 'ro'} ${guest}`),
    ...(files === 'mount' ? [`mount modules ro /lib/modules`] : []),
    `package ${packageRoot()}`,
    ...parts.kernelModules.map(({ file, parameters }) => `module ${guestName(file)} ${parameters}`),
    ...(parts.module === undefined
      ? []
      : [
          `insmod ${options.moduleParameters ?? ''}`,
          ...(masks.length === 0 ? [] : [`edu ${masks.join(' ')}`]),
          ...(options.bind ?? []).map((device) => `bind ${device}`),
        ]),
    `port ${agent === 'virtio' ? `virtio ${agentPort}` : agent.serial}`,
  ];
}

function share(tag: string, path: string, writable: boolean): string[] {
  const backend = `local,id=${tag},path=${path},security_model=none,multidevs=remap${writable ? '' : ',readonly=on'}`;
  return ['-fsdev', backend, '-device', `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`];
}

function qemuArguments(
  options: BootOptions,
  parts: Parts,
  mounts: readonly Mount[],
  devices: readonly string[],
) {
  const { model, kernel } = parts;
  return [
    ...model.arguments(kernel),
    ...(options.machineOptions === undefined ? [] : ['-machine', options.machineOptions]),
    ...['-m', options.memory ?? kernel.demands?.memory ?? model.memory],
    ...devices.flatMap((device) => ['-device', device]),
    ...(model.files === 'mount'
      ? [
          ...mounts.flatMap(({ host, writable }, index) => share(`mount${index}`, host, writable)),
          ...share('modules', `${kernel.directory}/lib/modules`, false),
        ]
      : []),
  ];
}

function commandLine({ model }: Parts, append: string | undefined): string {
  // Warnings are always shown. Boot messages below them would only cost time.
  const words = [`console=${model.console}`, 'loglevel=5', 'printk.devkmsg=on', 'panic=-1'];
  return [...words, ...(append === undefined ? [] : [append])].join(' ');
}

/**
 * An emulated machine with Linux, Node and iospace. QEMU runs until {@link Machine.close} and never longer than
 * the thread that booted it.
 *
 * A fault of the guest's kernel (an oops, a warning, a bug, a panic, a stall) makes every command that runs
 * reject, and every later one: what such a machine shows proves nothing.
 *
 * @example
 * await using machine = await Machine.boot({ machine: 'pc', devices: ['edu'] });
 * const { code, stdout } = await machine.run(['node', '-p', 'process.arch']);
 */
export class Machine {
  /** What it is: `pc: Linux 6.1.0-56-amd64, Node 20`. */
  readonly description: string;
  /** What `uname -r` says in it. */
  readonly kernelRelease: string;
  readonly #qemu: Qemu;
  readonly #log: KernelLog;
  readonly #mounts: readonly Mount[];
  readonly #decoder = new FrameDecoder();
  readonly #runs = new Map<number, Run>();
  #lastRun = 0;
  /** Set at the first fault in the kernel's log; resolves when the rest of what it says has come. */
  #fault: Promise<LabError> | undefined;
  /** Why no command can run any more. */
  #failure: { reason: unknown } | undefined;
  #closing: Promise<void> | undefined;
  #bootSeconds = 0;
  readonly #ready = deferred<void>();
  #onSynced: (() => void) | undefined;

  private constructor(parts: Parts, qemu: Qemu, mounts: readonly Mount[], options: BootOptions) {
    const { model, kernel, node } = parts;
    this.description = `${model.name}: Linux ${kernel.release}, Node ${node}`;
    this.kernelRelease = kernel.release;
    this.#qemu = qemu;
    this.#mounts = mounts;
    this.#log = new KernelLog((line) => {
      options.onKernelLog?.(line);
      this.#onLine(line);
    });
    qemu.log.setEncoding('utf8').on('data', (text: string) => this.#log.push(text));
    qemu.agent.on('data', (bytes: Buffer) => this.#onAgent(bytes));
    qemu.ended.then(async (how) =>
      this.#fail((await this.#fault) ?? this.#error('ERR_IOSPACE_LAB_QEMU', how)),
    );
  }

  /**
   * Boots a machine and makes it ready: module loaded, devices bound, directories mounted. Fetches and builds
   * first what is not in the cache, which takes minutes the first time.
   *
   * @throws TypeError with code `ERR_INVALID_ARG_TYPE` or `ERR_INVALID_ARG_VALUE`, RangeError with code `ERR_OUT_OF_RANGE` for
   *   what no machine has; LabError for what fails
   */
  static async boot(options: BootOptions = {}): Promise<Machine> {
    const { signal } = checkBootOptions(options);
    throwIfAborted(signal);
    const parts = await prepare(options);
    const devices = (options.devices ?? []).map(reachingMemory);
    const mounts = mountsOf(options, parts);
    const qemuOptions = qemuArguments(options, parts, mounts, devices);
    const initrd = await bootImage(parts.image, {
      setup: setupOf(options, parts, mounts, devices),
      kernelModules: parts.kernelModules,
      module: parts.module,
      copies:
        parts.model.files === 'copy' ? mounts.map(({ host, guest }) => ({ from: host, to: guest })) : [],
    });
    let deviceTree: FileHandle | undefined;
    let begin: number;
    let machine: Machine;
    try {
      if (options.deviceTree !== undefined) {
        const described = [...qemuOptions, '-kernel', parts.kernel.image];
        deviceTree = await changedDeviceTree(parts.model.qemu, described, options.deviceTree, signal);
      }
      options.onProgress?.(`booting ${parts.model.name} with Linux ${parts.kernel.release}`);
      begin = performance.now();
      const qemu = new Qemu({
        program: parts.model.qemu,
        arguments: qemuOptions,
        kernel: parts.kernel.image,
        initrd,
        deviceTree,
        append: commandLine(parts, options.append),
        virtio: parts.model.agent === 'virtio',
        icount: options.icount ?? false,
        monitor: options.monitor,
      });
      machine = new Machine(parts, qemu, mounts, options);
    } finally {
      await initrd.close();
      await deviceTree?.close();
    }
    const timeout = options.timeout ?? parts.kernel.demands?.timeout ?? defaultTimeout;
    await machine.#untilReady(timeout, signal);
    machine.#bootSeconds = (performance.now() - begin) / 1000;
    return machine;
  }

  /** How long it took from the start of QEMU until the machine was ready, in seconds. */
  get bootSeconds(): number {
    return this.#bootSeconds;
  }

  /** The kernel's log so far: warnings from the boot, everything from the loading of iospace on. */
  get kernelLog(): string {
    return this.#log.toString();
  }

  /** QEMU's process. */
  get pid(): number | undefined {
    return this.#qemu.pid;
  }

  /**
   * Runs a command as root to its end. Up to 64 may run at a time. What a command leaves in the background goes
   * on, its output lost.
   *
   * @param argv - the program, looked up in the guest's PATH, and its arguments
   * @returns how it ended; a program that is not there is exit code 127, as in a shell
   * @throws LabError when the machine fails: see {@link LabErrorCode}
   */
  async run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    if (!Array.isArray(argv) || argv.length === 0 || argv.some((word) => typeof word !== 'string')) {
      throw wrongType('argv', 'at least one string', argv);
    }
    if (this.#closing !== undefined) {
      throw invalidState('the machine is closed');
    }
    throwIfAborted(options.signal);
    if (this.#failure !== undefined) {
      throw this.#failure.reason;
    }
    const directory = process.cwd();
    const cwd = options.cwd ?? (isMounted(directory, this.#mounts) ? directory : '/');
    const start = encodeCommand(argv, { ...guestEnvironment, ...options.env }, cwd);
    const position = this.#log.position;
    const id = ++this.#lastRun;
    const run = new Run(id, start, options, {
      send: (frame) => this.#qemu.agent.write(frame),
      error: (code, message) => this.#error(code, message),
    });
    this.#runs.set(id, run);
    try {
      const ending = await run.ended;
      await Promise.race([run.logged, delay(logSettles)]);
      const fault = await this.#fault;
      if (fault !== undefined) {
        throw fault;
      }
      return { ...ending, stdout: run.stdout, stderr: run.stderr, kernelLog: this.#log.since(position) };
    } finally {
      this.#runs.delete(id);
    }
  }

  /** Sends a signal to every command that runs, and to its children. */
  kill(signal: NodeJS.Signals): void {
    for (const run of this.#runs.values()) {
      run.kill(signal);
    }
  }

  /** What QEMU's human monitor answers to a command: `info tlb`, `xp /4xw 0x1000`. */
  monitor(command: string): Promise<string> {
    return this.#qemu.monitor(command);
  }

  /** Ends the machine: what was written to mounts and disks is there afterwards. Twice is as good as once. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #end(): Promise<void> {
    if (this.#failure === undefined && this.#mounts.some(({ writable }) => writable)) {
      const synced = new Promise<void>((resolve) => {
        this.#onSynced = resolve;
      });
      this.#qemu.agent.write(encodeFrame(frameType.sync, 0));
      await Promise.race([synced, delay(logSettles)]);
    }
    this.#fail(invalidState('the machine is closed'));
    await this.#qemu.stop();
  }

  async #untilReady(timeout: number, signal: AbortSignal | undefined): Promise<void> {
    const expired = setTimeout(() => {
      this.#fail(this.#error('ERR_IOSPACE_LAB_TIMEOUT', `the machine was not ready after ${timeout} s`));
    }, timeout * 1000);
    const abort = () => {
      this.#fail(abortError(signal as AbortSignal));
      this.#qemu.kill();
    };
    if (signal?.aborted) {
      abort();
    } else {
      signal?.addEventListener('abort', abort, { once: true });
    }
    this.#qemu.ended.then(() => signal?.removeEventListener('abort', abort));
    try {
      await this.#ready.promise;
    } catch (error) {
      this.#qemu.kill();
      await this.#qemu.ended;
      throw error;
    } finally {
      clearTimeout(expired);
    }
  }

  #error(code: LabErrorCode, message: string): LabError {
    return new LabError(code, message, { kernelLog: this.#log.tail(shownLines) });
  }

  /** Ends everything that waits for the machine. Only the first reason counts. */
  #fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#ready.reject(this.#failure.reason);
    for (const run of this.#runs.values()) {
      run.fail(this.#failure.reason);
    }
  }

  #onLine(line: string): void {
    const [, ended] = /iospace-lab: run (\d+) ended$/.exec(line) ?? [];
    if (ended !== undefined) {
      this.#runs.get(Number(ended))?.sawEndInLog();
    }
    if (this.#fault === undefined && isFault(line)) {
      const complete = delay(faultSettles).then(() =>
        this.#error('ERR_IOSPACE_LAB_KERNEL', `the guest failed: ${line}`),
      );
      this.#fault = complete;
      complete.then((error) => this.#fail(error));
    }
  }

  #onFrame(frame: Frame): void {
    switch (frame.type) {
      case frameType.ready:
        this.#ready.resolve();
        break;
      case frameType.synced:
        this.#onSynced?.();
        break;
      default:
        this.#runs.get(frame.run)?.receive(frame);
    }
  }

  #onAgent(bytes: Buffer): void {
    try {
      for (const frame of this.#decoder.push(bytes)) {
        this.#onFrame(frame);
      }
    } catch (error) {
      this.#fail(this.#error('ERR_IOSPACE_LAB_QEMU', `the line to the guest is broken: ${error}`));
    }
  }
}
