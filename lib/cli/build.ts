/**
 * `iospace build`: builds the addon.
 *
 * @module
 */
import { type Command, Option } from 'commander';
import { type Arch, buildAddon } from '../lab/index.js';
import { progress, report } from './report.js';

const ownArch: Arch = process.arch === 'arm64' ? 'arm64' : 'amd64';

/** Adds the command to the program. */
export function addBuildCommand(program: Command): void {
  program
    .command('build')
    .description('build the native addon for this machine, or for another architecture')
    .addOption(new Option('--arch <arch>', 'architecture').choices(['amd64', 'arm64']).default(ownArch))
    .action(({ arch }: { arch: Arch }) =>
      report(1, async () => {
        progress(`the addon is ${await buildAddon(arch, { onProgress: progress })}`);
        return 0;
      }),
    );
}
