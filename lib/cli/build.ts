/**
 * `iospace build`: builds the addon.
 *
 * @module
 */
import { type Command, Option } from 'commander';
import { type Arch, architectures, buildAddon } from '../lab/index.js';
import { progress, report } from './report.js';

/** Adds the command to the program. */
export function addBuildCommand(program: Command): void {
  program
    .command('build')
    .description('build the native addon for this machine, or for another architecture')
    .addOption(
      new Option('--arch <arch>', `architecture (default: this machine's, ${process.arch})`).choices(
        architectures,
      ),
    )
    .action(({ arch }: { arch?: Arch }) =>
      report(1, async () => {
        console.log(await buildAddon(arch, { onProgress: progress }));
        return 0;
      }),
    );
}
