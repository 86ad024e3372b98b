/**
 * `iospace bench`: what memory costs on this machine, by type, size and way of access.
 *
 * @module
 */
import { type Command, Option } from 'commander';
import { type Comparison, checkComparable, compare } from '../bench/comparison.js';
import { describeMachine } from '../bench/machine.js';
import { Pinning } from '../bench/pinning.js';
import { makePlan } from '../bench/plan.js';
import type { Unit } from '../bench/quantity.js';
import { checkReportPath, writeReport } from '../bench/report.js';
import { type BenchResult, caseText, makeResult, readResult } from '../bench/result.js';
import { runPlan } from '../bench/run.js';
import { DmaDevice } from '../device/device.js';
import { listDevices } from '../device/info.js';
import { type ProviderName, providerNames } from '../device/provider.js';
import { isSystemError, notSupported } from '../errors.js';
import { comparisonText, resultText } from './bench-text.js';
import { ProgressBar } from './progress-bar.js';
import { print, progress, report } from './report.js';

/** What a run ends with that SIGINT has ended: as a shell has it. */
const interrupted = 130;

interface BenchFlags {
  json?: boolean;
  compare?: string;
  filter?: string;
  quick?: boolean;
  counts?: boolean;
  report?: string;
  from?: string;
  device?: string;
  provider: ProviderName | 'auto';
}

/** A signal of the first SIGINT or SIGTERM; the second one ends the process as it always does. */
function untilInterrupted(): { signal: AbortSignal; release: () => void } {
  const stop = new AbortController();
  const end = (): void => {
    release();
    stop.abort();
  };
  const release = (): void => {
    process.off('SIGINT', end).off('SIGTERM', end);
  };
  process.on('SIGINT', end).on('SIGTERM', end);
  return { signal: stop.signal, release };
}

/** Opens what is measured. Where the module may not be used, that is said: what is measured then is less. */
function openDevice({ device, provider }: BenchFlags): DmaDevice {
  if (provider !== 'auto' || device !== undefined) {
    return DmaDevice.open({
      provider: provider === 'auto' ? 'iospace' : provider,
      ...(device !== undefined && { device }),
    });
  }
  try {
    return DmaDevice.open();
  } catch (error) {
    if (!isSystemError(error, 'ENOENT', 'EACCES', 'ENODEV', 'ENXIO')) {
      throw error;
    }
    if (listDevices().length > 0) {
      progress(error.message);
      progress('measuring without it: cached memory only');
    }
    return DmaDevice.open({ provider: 'memfd' });
  }
}

function unitOf({ counts = false }: BenchFlags): Unit {
  return counts ? 'instructions' : 'ns';
}

async function measure(flags: BenchFlags, version: string): Promise<BenchResult> {
  const { filter, quick = false, counts: counting = false } = flags;
  using device = openDevice(flags);
  const { info } = device;
  const plan = makePlan({
    memory: info.memoryTypes,
    quick,
    counting,
    ...(filter !== undefined && { filter }),
  });
  using pinning = new Pinning();
  const machine = describeMachine({ provider: device.provider, info }, pinning);
  if (counting && !machine.countsInstructions) {
    throw notSupported(
      'bench --counts',
      'the clock of this machine does not count instructions; in one of the lab it does: npx iospace lab run --icount -- node node_modules/.bin/iospace bench --counts',
    );
  }
  const bar = new ProgressBar(plan.length);
  const stop = untilInterrupted();
  const startedAt = new Date();
  const began = performance.now();
  try {
    const outcome = await runPlan({
      device,
      plan,
      signal: stop.signal,
      pinning,
      quick,
      counting,
      onCase: (one, done) => bar.show(done, caseText(one)),
    });
    return makeResult({
      iospace: version,
      startedAt: startedAt.toISOString(),
      seconds: Math.round((performance.now() - began) / 100) / 10,
      quick,
      unit: unitOf(flags),
      machine,
      ...outcome,
    });
  } finally {
    bar.end();
    stop.release();
  }
}

function show(result: BenchResult, comparison: Comparison | undefined, { json }: BenchFlags): void {
  if (json) {
    print(JSON.stringify(comparison === undefined ? result : { ...result, comparison }));
  } else {
    print(resultText(result));
    if (comparison !== undefined) {
      print(`\n${comparisonText(comparison, result)}`);
    }
  }
}

function save(
  path: string,
  result: BenchResult,
  comparison: Comparison | undefined,
  { json }: BenchFlags,
): void {
  try {
    writeReport(path, result, comparison);
    progress(`wrote ${path}`);
  } catch (error) {
    if (!json) {
      print(JSON.stringify(result));
      progress(
        'the report could not be written; what was measured is the last line of stdout, as JSON: for --from',
      );
    }
    throw error;
  }
}

async function bench(flags: BenchFlags, version: string): Promise<number> {
  // What is wrong is said before minutes are spent.
  if (flags.report !== undefined) {
    checkReportPath(flags.report);
  }
  const before = flags.compare === undefined ? undefined : readResult(flags.compare);
  if (before !== undefined && flags.from === undefined) {
    checkComparable(before, unitOf(flags));
  }
  const result = flags.from === undefined ? await measure(flags, version) : readResult(flags.from);
  const comparison = before === undefined ? undefined : compare(before, result);
  try {
    show(result, comparison, flags);
  } finally {
    // Also where nothing could be printed: one of the two keeps what was measured.
    if (flags.report !== undefined) {
      save(flags.report, result, comparison, flags);
    }
  }
  return result.complete || flags.from !== undefined ? 0 : interrupted;
}

/** Adds the command to the program. */
export function addBenchCommand(program: Command): void {
  program
    .command('bench')
    .description('measure memory: by type, size and way of access; which one to take, and by how much')
    .option('--quick', 'fewer sizes and less exact, in less than 30 seconds')
    .option('--filter <words>', 'only these operations, groups, memory types and sizes: "read,cached,64K"')
    .option('--json', 'as JSON')
    .option('--compare <file>', 'say what has changed against a file that --json has written')
    .option('--report <file>', 'write a page with charts and advice, for a browser')
    .addOption(
      new Option(
        '--from <file>',
        'measure nothing: show, compare or report what --json has written',
      ).conflicts(['quick', 'filter', 'counts', 'device']),
    )
    .option('--counts', 'count instructions instead of time, in a machine of iospace lab run --icount')
    .option('--device <name>', 'the device whose memory is measured (default: iospace0)')
    .addOption(
      new Option('--provider <name>', 'what the memory comes from')
        .choices([...providerNames, 'auto'])
        .default('auto'),
    )
    .action((flags: BenchFlags) => report(1, () => bench(flags, program.version() ?? '')));
}
