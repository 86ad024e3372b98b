/**
 * The device tree of a machine: QEMU's own for that very machine, changed before it boots.
 *
 * @module
 */
import { type FileHandle, mkdtemp, open, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tool } from './tools.js';

/** Changes a device tree in the file of that path, a `.dtb`: `fdtput` and `fdtoverlay` do, and {@link applyOverlay}. */
export type DeviceTreeChange = (file: string) => void | Promise<void>;

/**
 * The changed device tree of a machine, as an open file that has no name any more: however the machine ends, nothing
 * stays behind. The caller closes it.
 *
 * @param qemu - the program
 * @param machine - the arguments that make the machine, the kernel included: all of them may show in its device tree
 */
export async function changedDeviceTree(
  qemu: string,
  machine: readonly string[],
  change: DeviceTreeChange,
  signal: AbortSignal | undefined,
): Promise<FileHandle> {
  const directory = await mkdtemp(join(tmpdir(), 'iospace-lab-'));
  try {
    const file = join(directory, 'machine.dtb');
    await tool(qemu, [...machine, '-display', 'none', '-machine', `dumpdtb=${file}`], {
      signal,
      failure: 'ERR_IOSPACE_LAB_QEMU',
    });
    await change(file);
    return await open(file, 'r');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * Applies an overlay to a device tree.
 *
 * @param file - the tree, a `.dtb`
 * @param source - the overlay, a `.dts`. The trees of QEMU have no labels to refer to: its fragments name their
 * nodes with `target-path`, and interrupt controllers, clocks and the like by the phandles of the tree
 * @throws LabError with code `ERR_IOSPACE_LAB_BUILD` and what `dtc` or `fdtoverlay` say
 */
export async function applyOverlay(file: string, source: string): Promise<void> {
  const overlay = `${file}.overlay`;
  const changed = `${file}.changed`;
  await tool('dtc', ['-q', '-I', 'dts', '-O', 'dtb', '-o', overlay, source]);
  await tool('fdtoverlay', ['-i', file, '-o', changed, overlay]);
  await rename(changed, file);
}
