/**
 * The checking mode of a buffer: whoever touches it in the device's turn finds that it is not there.
 *
 * @module
 */
import { invalidState, notSupported } from '../errors.js';
import type { Mapping } from '../mapping.js';
import type { SyncRange, Turn } from './turn.js';

/** Who has a buffer that was allocated with `ownership: 'checked'`. The CPU has it first. */
export class Ownership {
  readonly #mapping: Mapping;
  #turn: Turn = 'cpu';

  constructor(mapping: Mapping) {
    this.#mapping = mapping;
  }

  get turn(): Turn {
    return this.#turn;
  }

  /** @throws ERR_INVALID_STATE in the device's turn */
  checkTurnOfCpu(): void {
    if (this.#turn === 'device') {
      throw invalidState("it is the device's turn: syncForCpu() ends it");
    }
  }

  /**
   * Begins a turn; in that of the device nobody has a view of the memory.
   *
   * @throws ERR_INVALID_STATE, changing nothing, if it is that turn already, or the ArrayBuffer cannot be detached;
   *   EOPNOTSUPP for less than the whole buffer
   */
  begin(turn: Turn, ranges: readonly SyncRange[]): void {
    const [range] = ranges;
    if (ranges.length !== 1 || range?.offset !== 0 || range.length !== this.#mapping.byteLength) {
      throw notSupported(
        turn === 'device' ? 'syncForDevice' : 'syncForCpu',
        "with ownership: 'checked' a buffer changes hands as a whole: no range of it, and no slice",
      );
    }
    if (turn === this.#turn) {
      throw invalidState(
        turn === 'device'
          ? "it is the device's turn already: syncForDevice() was called twice"
          : "it is the CPU's turn already: syncForCpu() without a syncForDevice() before",
      );
    }
    if (turn === 'device') {
      this.#mapping.takeBack();
    }
    this.#turn = turn;
  }
}
