/**
 * What streaming DMA costs, counted in instructions, each against a named alternative in the same machine and run:
 *
 *     npm run bench:streaming [-- --json] [-- --check] [-- CLAIM...]
 *
 * The programs are in `bench/streaming`, one for each claim with its alternative. In their machines the clock counts
 * instructions: the figures are the same in each run, and say nothing of caches. `--check` fails where a claim does not
 * hold.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type BootOptions, Machine } from 'iospace/lab';

/** A claim: that what iospace takes is at most so much of what the other takes. */
interface Claim {
  says: string;
  /** What it is compared with. */
  against: string;
  boot: BootOptions;
  /** In a shell, from the directory of the programs. */
  command: string;
  /** At most so many times the other; without it the ratio is only told. */
  ratio?: number;
  /** At most so many, by the name of the row. */
  most?: Readonly<Record<string, number>>;
}

/** One line of a program. */
interface Figures {
  name: string;
  iospace: number;
  other: number;
}

const root = fileURLToPath(new URL('../..', import.meta.url));
const programs = `${root}build/bench/streaming`;

const claims: Readonly<Record<string, Claim>> = {
  heap: {
    says: 'a cached buffer: allocate, map, touch, free',
    against: "dma-heap's system heap",
    boot: {},
    command: './heap',
    ratio: 1,
    // 0.8 times what dma-heap was measured to take when these limits were set.
    most: { '4 KiB': 52_640, '64 KiB': 147_600, '1 MiB': 2_272_000, '4 MiB': 7_752_000 },
  },
  call: {
    says: 'SYNC where there is nothing to do',
    against: 'getppid()',
    boot: {},
    command: './sync call',
    // u-dma-buf 5.5.0 takes 713.
    most: { 'for the device': 700, 'for the CPU': 700 },
  },
  range: {
    says: 'SYNC of 4 KiB of a buffer of 64 MiB, with bounce buffers',
    against: 'SYNC of a buffer of 4 KiB',
    // Slots of 2 KiB: the usual pool is as large as the buffer alone.
    boot: { append: 'swiotlb=65536,force' },
    command: './sync range',
    ratio: 1.2,
  },
  user: {
    says: "the program's own memory: map, unmap, behind an IOMMU",
    against: 'VFIO type 1',
    boot: {
      devices: ['intel-iommu,intremap=on', 'edu', 'edu'],
      append: 'intel_iommu=on iommu.strict=1',
      kernelModules: ['vfio_iommu_type1', 'vfio-pci'],
    },
    // The second edu goes from iospace to VFIO.
    command: `
      edu=$(basename $(readlink -f /sys/class/misc/iospace2/device)) &&
      cd /sys/bus/pci/devices/$edu && group=$(basename $(readlink iommu_group)) &&
      echo vfio-pci > driver_override && echo $edu > driver/unbind && echo $edu > /sys/bus/pci/drivers_probe &&
      ${programs}/user /dev/iospace1 $group`,
    ratio: 1,
  },
  library: {
    says: 'a sync from JavaScript, where the device snoops and sees the buffer itself',
    against: 'process.geteuid()',
    boot: {},
    command: "./calls 'system calls of three' node library.js parts && node library.js",
    most: { 'system calls of three': 0 },
  },
};

async function run(claim: Claim): Promise<Figures[]> {
  await using machine = await Machine.boot({
    kernel: '6.12',
    icount: true,
    ...claim.boot,
    mounts: [root],
    onProgress: (message) => console.error(message),
  });
  const { code, stdout, stderr } = await machine.run(['sh', '-c', claim.command], {
    cwd: programs,
    timeout: 300,
  });
  if (code !== 0) {
    throw new Error(`${claim.says}: exit code ${code}\n${stdout}${stderr}`);
  }
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Figures);
}

/** What of a claim does not hold for a row. */
function broken({ ratio, most }: Claim, { name, iospace, other }: Figures): string[] {
  const limit = most?.[name];
  return [
    ...(ratio !== undefined && iospace > ratio * other
      ? [`${(iospace / other).toFixed(2)} times the other, at most ${ratio}`]
      : []),
    ...(limit !== undefined && iospace > limit ? [`${iospace}, at most ${limit}`] : []),
  ];
}

const { values: options, positionals } = parseArgs({
  options: { json: { type: 'boolean', default: false }, check: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const unknown = positionals.filter((name) => !(name in claims));
if (unknown.length > 0) {
  throw new Error(`expected claims out of ${Object.keys(claims).join(', ')}, got ${unknown.join(', ')}`);
}

execFileSync('make', ['-s', '-C', `${root}bench/streaming`, `OUT=${programs}`]);
const results: Record<string, { says: string; against: string; rows: Figures[] }> = {};
const failures: string[] = [];
for (const [name, claim] of Object.entries(claims)) {
  if (positionals.length > 0 && !positionals.includes(name)) {
    continue;
  }
  const rows = await run(claim);
  results[name] = { says: claim.says, against: claim.against, rows };
  failures.push(...rows.flatMap((row) => broken(claim, row).map((what) => `${name}, ${row.name}: ${what}`)));
  if (!options.json) {
    console.log(`\n${claim.says}; against ${claim.against}`);
    console.table(
      Object.fromEntries(
        rows.map((row) => [
          row.name,
          { iospace: row.iospace, other: row.other, ratio: (row.iospace / row.other).toFixed(2) },
        ]),
      ),
    );
  }
}
if (options.json) {
  console.log(JSON.stringify({ results, failures }));
}
if (options.check) {
  for (const failure of failures) {
    console.error(failure);
  }
  process.exitCode = failures.length > 0 ? 1 : 0;
}
