/**
 * What the machine is on which something is measured, as far as figures depend on it.
 *
 * @module
 */
import { readdirSync, readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { type CacheCapabilities, capabilities } from '../cache/index.js';
import { type DeviceInfo, listDevices } from '../device/info.js';
import type { ProviderName } from '../device/provider.js';

/** One cache of the first processor. */
export interface CacheDescription {
  readonly level: number;
  readonly type: string;
  /** In bytes. */
  readonly size: number;
  /** Of a line, in bytes. */
  readonly line: number;
}

export interface MachineDescription {
  readonly cpu: string;
  readonly arch: string;
  /** Processors that this process may use. */
  readonly processors: number;
  /** The board, as its device tree calls it; `null` without one. */
  readonly board: string | null;
  /** In bytes. */
  readonly memory: number;
  readonly caches: readonly CacheDescription[];
  /** What cleans and flushes caches by range: names of instructions, or `'module'`; empty where nothing does. */
  readonly cacheMaintenance: readonly string[];
  /** The kernels of native copies. */
  readonly copies: string;
  /** `null` where the kernel does not scale the frequency. */
  readonly governor: string | null;
  /** The highest frequency in MHz; `null` where it is not known. */
  readonly megahertz: number | null;
  readonly kernel: string;
  readonly node: string;
  readonly provider: ProviderName;
  readonly device: string;
  /** The version of the module, also where its devices could not be used; empty where it is not loaded. */
  readonly module: string;
  /** Whether the device snoops the CPU's caches. */
  readonly coherent: boolean;
  readonly iommu: DeviceInfo['iommu'];
  /** The processor on which it was measured; `null` where it could not be kept on one. */
  readonly pinned: number | null;
  /** How it is known that the processor is emulated, so that times say nothing of memory; `null` where it is real. */
  readonly emulated: string | null;
  /** Whether the clock counts instructions, a nanosecond each. */
  readonly countsInstructions: boolean;
}

/** What the lab tells the machines that it boots: `lib/lab/guest/init`. */
const LAB_SETUP = 'lab/setup';

/** Names of Arm's processors, by the numbers that the kernel has for them. */
const armParts: Readonly<Record<string, string>> = {
  '0xc07': 'Cortex-A7',
  '0xc08': 'Cortex-A8',
  '0xc09': 'Cortex-A9',
  '0xc0f': 'Cortex-A15',
  '0xd03': 'Cortex-A53',
  '0xd04': 'Cortex-A35',
  '0xd05': 'Cortex-A55',
  '0xd07': 'Cortex-A57',
  '0xd08': 'Cortex-A72',
  '0xd09': 'Cortex-A73',
  '0xd0a': 'Cortex-A75',
  '0xd0b': 'Cortex-A76',
  '0xd0c': 'Neoverse-N1',
  '0xd40': 'Neoverse-V1',
  '0xd41': 'Cortex-A78',
  '0xd49': 'Neoverse-N2',
};

/** Files of the system, read from below a directory, so that tests can show another machine. */
export class SystemFiles {
  readonly #root: string;

  constructor(root = '/') {
    this.#root = root;
  }

  /** The text of a file, without space at its ends; undefined where there is none. */
  read(path: string): string | undefined {
    try {
      // Strings of a device tree end with a zero.
      return readFileSync(join(this.#root, path), 'utf8').replaceAll('\0', ' ').trim();
    } catch {
      return undefined;
    }
  }

  list(path: string): string[] {
    try {
      return readdirSync(join(this.#root, path)).sort();
    } catch {
      return [];
    }
  }
}

/** A line of `/proc/cpuinfo`. */
function cpuLine(files: SystemFiles, key: string): string | undefined {
  return new RegExp(`^${key}\\s*: (.*)$`, 'm').exec(files.read('proc/cpuinfo') ?? '')?.[1]?.trim();
}

export function cpuName(files: SystemFiles): string {
  const part = cpuLine(files, 'CPU part');
  const arm = part === undefined ? undefined : armParts[part];
  const [first] = cpus();
  return cpuLine(files, 'model name') ?? arm ?? cpuLine(files, 'uarch') ?? part ?? first?.model ?? 'unknown';
}

/** `32K` in bytes. */
function cacheBytes(text: string): number {
  const [, number, unit = ''] = /^(\d+)([KMG]?)$/.exec(text) ?? [];
  return Number(number ?? 0) * 1024 ** ['', 'K', 'M', 'G'].indexOf(unit);
}

export function cachesOf(files: SystemFiles): CacheDescription[] {
  const directory = 'sys/devices/system/cpu/cpu0/cache';
  return files
    .list(directory)
    .filter((name) => /^index\d+$/.test(name))
    .map((name) => {
      const attribute = (key: string): string => files.read(join(directory, name, key)) ?? '';
      return {
        level: Number(attribute('level')),
        type: attribute('type'),
        size: cacheBytes(attribute('size')),
        line: Number(attribute('coherency_line_size')),
      };
    })
    .filter(({ size }) => size > 0);
}

/**
 * How it is known that this machine's processor is emulated; `null` where nothing says so. A virtual machine whose processor
 * is real is none.
 */
export function emulationOf(files: SystemFiles): string | null {
  if (files.read(LAB_SETUP) !== undefined) {
    return 'iospace lab';
  }
  const name = cpuName(files);
  if (/QEMU|TCG/.test(name)) {
    return `the processor calls itself ${name}`;
  }
  // Arm gives no processor the implementer 0: QEMU's "max" has it.
  if (cpuLine(files, 'CPU implementer') === '0x00') {
    return "the processor has no maker, as QEMU's have none";
  }
  const clocks = files.read('sys/devices/system/clocksource/clocksource0/available_clocksource') ?? '';
  const vendor = files.read('sys/class/dmi/id/sys_vendor') ?? '';
  if (process.arch === 'x64' && vendor === 'QEMU' && !/kvm-clock|hyperv/.test(clocks)) {
    return 'QEMU, without the clock of KVM';
  }
  if (/riscv-virtio/.test(files.read('proc/device-tree/compatible') ?? '')) {
    return "QEMU's virt machine";
  }
  return null;
}

/** Whether the lab has said that the clock counts instructions. */
function clockCounts(files: SystemFiles): boolean {
  return /^icount$/m.test(files.read(LAB_SETUP) ?? '');
}

function cacheMaintenanceOf({ clean, instructions }: CacheCapabilities): string[] {
  return clean === 'instruction'
    ? [...new Set(Object.values(instructions))]
    : clean === 'module'
      ? ['module']
      : [];
}

export function describeMachine(
  { provider, info }: { provider: ProviderName; info: DeviceInfo },
  { processor: pinned, allowed }: { processor: number | null; allowed: readonly number[] },
  files = new SystemFiles(),
): MachineDescription {
  const cache = capabilities();
  const frequency = `sys/devices/system/cpu/cpu${pinned ?? 0}/cpufreq`;
  const kilohertz = files.read(`${frequency}/cpuinfo_max_freq`);
  return {
    cpu: cpuName(files),
    arch: process.arch,
    processors: allowed.length,
    board: files.read('proc/device-tree/model') ?? null,
    memory: totalmem(),
    caches: cachesOf(files),
    cacheMaintenance: cacheMaintenanceOf(cache),
    copies: cache.copies[0] ?? 'none',
    governor: files.read(`${frequency}/scaling_governor`) ?? null,
    megahertz: kilohertz === undefined ? null : Math.round(Number(kilohertz) / 1000),
    kernel: release(),
    node: process.version,
    provider,
    device: info.device === '' ? info.name : `${info.name} (${info.device})`,
    module: info.version || (listDevices()[0]?.version ?? ''),
    coherent: info.coherent,
    iommu: info.iommu,
    pinned,
    emulated: emulationOf(files),
    countsInstructions: clockCounts(files),
  };
}
