/**
 * The whole way in one command: boots an emulated machine, and in it moves data through a device's DMA and
 * shares memory between two processes.
 *
 *     npm run demo [-- --machine virt]
 *
 * Where no machine can be emulated it says what is missing, and shows what works without: memory.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { LabError, Machine, type MachineName } from 'iospace/lab';

const { values: options } = parseArgs({
  options: { machine: { type: 'string', default: 'pc' }, damage: { type: 'boolean', default: false } },
});

function example(name: string): string {
  return fileURLToPath(new URL(`${name}.js`, import.meta.url));
}

/** What each example has to show, and how it is started. */
const parts = [
  {
    title: 'A PCI function moves data by DMA (examples/edu.ts)',
    argv: ['node', example('edu'), ...(options.damage ? ['--damage'] : [])],
  },
  {
    title: 'Two processes share memory (examples/shared-memory.ts)',
    argv: ['node', example('shared-memory')],
  },
];

/** Runs every part in an emulated machine; the exit code of the first that fails, else 0. */
async function inMachine(): Promise<number> {
  const begin = performance.now();
  await using machine = await Machine.boot({
    machine: options.machine as MachineName,
    devices: ['edu'],
    onProgress: (message) => console.error(`demo: ${message}`),
  });
  console.log(`\n${machine.description}, booted in ${machine.bootSeconds.toFixed(1)} s`);
  for (const { title, argv } of parts) {
    console.log(`\n${title}`);
    const { code } = await machine.run(argv, {
      onStdout: (bytes) => process.stdout.write(bytes),
      onStderr: (bytes) => process.stderr.write(bytes),
    });
    if (code !== 0) {
      return code;
    }
  }
  console.log(`\nAll as it must be, in ${((performance.now() - begin) / 1000).toFixed(1)} s.`);
  return 0;
}

/** The memory part alone, on this machine. */
function withoutMachine(): number {
  console.log('\nWithout a machine: memory from memfd, no device.');
  const { status } = spawnSync(process.execPath, [example('edu'), '--provider', 'memfd'], {
    stdio: 'inherit',
  });
  return status ?? 1;
}

try {
  process.exitCode = await inMachine();
} catch (error) {
  if (!(error instanceof LabError && error.code === 'ERR_IOSPACE_LAB_MISSING')) {
    throw error;
  }
  console.error(`demo: ${error.message}`);
  process.exitCode = withoutMachine();
}
