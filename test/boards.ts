/**
 * Boards whose device with DMA is no PCI function but their own controller, one row for each kernel: what they can be
 * asked is the example made for them.
 */
import type { BootOptions, KernelName } from '../lib/lab/index.js';

/** A board of the matrix. */
export interface Board {
  boot: BootOptions;
  /** Of `examples`, without its suffix. */
  example: string;
  /** What the example says of itself where it is right. */
  says: RegExp;
}

const raspi3b = (kernel: KernelName, dma: string): Board => ({
  boot: { machine: 'raspi3b', kernel, bind: [`3f007000.${dma}`] },
  example: 'raspi3b-dma',
  // Not the physical addresses, of which the board has a gibibyte.
  says: /^65536 bytes copied from 0x[c-f]\w{7} to 0x[c-f]\w{7},/,
});

const boards: Record<string, Board> = {
  'raspi3b 6.1': raspi3b('6.1', 'dma'),
  'raspi3b 6.12': raspi3b('6.12', 'dma-controller'),
  'raspi3b 7': raspi3b('7', 'dma-controller'),
};

/** How many of them each choice has (IOSPACE_MACHINES; `test/machines.ts` says what it means). */
const counts: Record<string, number | undefined> = { core: 1, debug: 0 };

/** The boards to run. */
export const chosenBoards = Object.entries(boards).slice(
  0,
  counts[process.env['IOSPACE_MACHINES'] ?? 'core'],
);
