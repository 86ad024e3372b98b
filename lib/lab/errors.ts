/**
 * The errors of the lab.
 *
 * @module
 */

/**
 * What went wrong in the lab itself, as opposed to the program in the machine.
 *
 * - `ERR_IOSPACE_LAB_MISSING`: a tool or a package that the lab needs is not there; the message says which
 * - `ERR_IOSPACE_LAB_BUILD`: the kernel module, the addon, the guest image or a device tree could not be built
 * - `ERR_IOSPACE_LAB_KERNEL`: the guest's kernel reported an oops, a warning, a bug or a panic
 * - `ERR_IOSPACE_LAB_TIMEOUT`: the boot or a command took longer than allowed
 * - `ERR_IOSPACE_LAB_QEMU`: QEMU ended, or could not be started
 * - `ERR_IOSPACE_LAB_OUTPUT`: a command wrote more than the lab collects
 */
export type LabErrorCode =
  | 'ERR_IOSPACE_LAB_MISSING'
  | 'ERR_IOSPACE_LAB_BUILD'
  | 'ERR_IOSPACE_LAB_KERNEL'
  | 'ERR_IOSPACE_LAB_TIMEOUT'
  | 'ERR_IOSPACE_LAB_QEMU'
  | 'ERR_IOSPACE_LAB_OUTPUT';

/** A failure of the lab; its message ends with the last lines of the kernel log. Match the `code`, never the text. */
export class LabError extends Error {
  override readonly name = 'LabError';
  readonly code: LabErrorCode;
  readonly #kernelLog: string;

  constructor(code: LabErrorCode, message: string, options: { kernelLog?: string; cause?: unknown } = {}) {
    const { kernelLog = '', cause } = options;
    const shown =
      kernelLog === '' ? message : `${message}\nThe last lines of the guest's kernel log:\n${kernelLog}`;
    super(shown, cause === undefined ? undefined : { cause });
    this.code = code;
    this.#kernelLog = kernelLog;
  }

  /** The last lines of the guest's kernel log, where there was a guest. */
  get kernelLog(): string {
    return this.#kernelLog;
  }
}
