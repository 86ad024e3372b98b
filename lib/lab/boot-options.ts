/**
 * What a machine shall be.
 *
 * @module
 */
import { checkBoolean, checkOptions, checkSignal, checkString } from '../check.js';
import { outOfRange, wrongType, wrongValue } from '../errors.js';
import type { DeviceTreeChange } from './device-tree.js';
import type { NodeMajor } from './guest-node.js';
import type { Arch, KernelName } from './kernels.js';
import type { MachineName } from './machines.js';

/** What {@link Machine.boot} boots. */
export interface BootOptions {
  /** Default: `pc`. */
  machine?: MachineName | undefined;
  /** For a machine that is made for several: `virt` for `arm64`, its default, and `riscv64`. */
  arch?: Arch | undefined;
  /** Default: `6.1`; `6.12` on riscv64. */
  kernel?: KernelName | undefined;
  /** Node in the guest. Default: the major of the one that runs this, as far as the lab has it. */
  node?: NodeMajor | undefined;
  /** Devices as QEMU's `-device` takes them. An `edu` is bound to iospace. */
  devices?: readonly string[] | undefined;
  /** Added to QEMU's `-machine`: `iommu=smmuv3` puts the SMMU of `virt` before its devices. */
  machineOptions?: string | undefined;
  /**
   * Changes the machine's device tree before it boots. Called with the path of the tree that this very machine has, as
   * QEMU describes it; whatever the file holds when the promise resolves is what the kernel gets. `pc` has none.
   */
  deviceTree?: DeviceTreeChange | undefined;
  /**
   * Modules of the guest's own kernel, `'vivid n_devs=2'`: each a name and its parameters, as `modprobe` takes them. They
   * are loaded before iospace, what they need before them. One that is built into the kernel is there anyway.
   */
  kernelModules?: readonly string[] | undefined;
  /** Names of more devices that are handed to iospace: PCI functions or platform devices, `3f007000.dma`. */
  bind?: readonly string[] | undefined;
  /**
   * Host directories in the guest, `HOSTDIR[:GUESTDIR][:rw]`: read-only unless `rw`, at the same path unless
   * another is given. Default: the current directory. This package is always there. A machine without a way to
   * mount them (`raspi3b`) gets copies of at most 256 MiB, and no `rw`.
   */
  mounts?: readonly string[] | undefined;
  /** Added to the kernel's command line. */
  append?: string | undefined;
  /**
   * `true`: time in the guest is a count of its instructions, a nanosecond each, and passes at once while it idles. What
   * a program measures is then what it costs, the same in each run. Slower; one processor. Default: `false`.
   */
  icount?: boolean | undefined;
  /** As QEMU's `-m` takes it. Default: `1G`; with the debug kernel `2G`. */
  memory?: string | undefined;
  /** A socket that is made for QEMU's human monitor, for use by others. */
  monitor?: string | undefined;
  /** Parameters of the kernel module, as `insmod` takes them. One that it does not have is refused. */
  moduleParameters?: string | undefined;
  /** `false`: a machine without iospace; neither module nor addon is built, nothing is bound. Default: `true`. */
  loadModule?: boolean | undefined;
  /** Ends the machine; a boot in progress rejects with an AbortError, running commands too. */
  signal?: AbortSignal | undefined;
  /**
   * Seconds that the machine may take until it is ready; fetching and building is not counted. Default: 120; with the
   * debug kernel 600.
   */
  timeout?: number | undefined;
  /** Told what is being fetched, built, booted. */
  onProgress?: ((message: string) => void) | undefined;
  /** Gets each line of the kernel's log as it comes. */
  onKernelLog?: ((line: string) => void) | undefined;
}

/** Seconds that a timer can have. */
export const longestTimeout: number = Math.floor((2 ** 31 - 1) / 1000);

function checkStrings(name: string, value: unknown): void {
  if (!Array.isArray(value) || value.some((word) => typeof word !== 'string')) {
    throw wrongType(name, 'an array of strings', value);
  }
}

function checkFunction(name: string, value: unknown): void {
  if (typeof value !== 'function') {
    throw wrongType(name, 'a function', value);
  }
}

function checkMemory(name: string, value: unknown): void {
  if (!/^[1-9]\d*[KMGT]?$/i.test(checkString(name, value))) {
    throw wrongValue(name, "a size as QEMU takes it, '512M'", value);
  }
}

function checkTimeout(name: string, value: unknown): void {
  if (typeof value !== 'number') {
    throw wrongType(name, 'a number', value);
  }
  if (!(value > 0 && value <= longestTimeout)) {
    throw outOfRange(name, `seconds above 0 and at most ${longestTimeout}`, value);
  }
}

/** How each is checked, or `undefined` where whoever looks it up says what there is. */
const checks: Readonly<Record<keyof BootOptions, ((name: string, value: unknown) => unknown) | undefined>> = {
  machine: undefined,
  arch: undefined,
  kernel: undefined,
  node: undefined,
  devices: checkStrings,
  machineOptions: checkString,
  deviceTree: checkFunction,
  kernelModules: checkStrings,
  bind: checkStrings,
  mounts: checkStrings,
  append: checkString,
  icount: checkBoolean,
  memory: checkMemory,
  monitor: checkString,
  moduleParameters: checkString,
  loadModule: checkBoolean,
  signal: (_name, value) => checkSignal(value),
  timeout: checkTimeout,
  onProgress: checkFunction,
  onKernelLog: checkFunction,
};

/** Refuses what is no option, and what is none of its values, before anything is fetched or built. */
export function checkBootOptions(options: BootOptions): BootOptions {
  const names = Object.keys(checks) as (keyof BootOptions)[];
  const known = checkOptions(options, names);
  for (const name of names) {
    if (known[name] !== undefined) {
      checks[name]?.(name, known[name]);
    }
  }
  return known;
}
