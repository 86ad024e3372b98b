/**
 * The errors of this library, in the shapes that Node's own have: system errors, wrong arguments, wrong
 * state, aborts. Callers and tests match the `code`, never the text.
 *
 * @module
 */
import { constants as system } from 'node:os';
import { getSystemErrorMap, inspect } from 'node:util';

/** What a system error is about, beside its number and system call. */
export interface SystemErrorDetail {
  path?: string;
  /** The address concerned, as the caller gave it. */
  address?: bigint;
  /** The ioctl request number. */
  request?: number;
}

/** What a failed system call throws, or what behaves like one. */
export interface SystemError extends Error, SystemErrorDetail {
  /** The name of the error: `'EBUSY'`. */
  code: string;
  /** Its number, negative as Node has it. */
  errno: number;
  /** What failed: a system call, or an operation of this library. */
  syscall: string;
}

/** An error that carries a `code`, as all of this library's do. */
export interface CodedError extends Error {
  code: string;
}

/** The numbers that this library itself raises; positive, as the C library has them. */
export const errno = {
  ECANCELED: system.errno.ECANCELED,
  EINVAL: system.errno.EINVAL,
  EACCES: system.errno.EACCES,
  EBADMSG: system.errno.EBADMSG,
  EBUSY: system.errno.EBUSY,
  EDQUOT: system.errno.EDQUOT,
  EEXIST: system.errno.EEXIST,
  EISDIR: system.errno.EISDIR,
  ENOENT: system.errno.ENOENT,
  ENOSPC: system.errno.ENOSPC,
  EOPNOTSUPP: system.errno.EOPNOTSUPP,
  // These two are not in os.constants; the same numbers on every architecture that iospace supports.
  EUSERS: 87,
  EOWNERDEAD: 130,
  EPERM: system.errno.EPERM,
  EPIPE: system.errno.EPIPE,
  EPROTO: system.errno.EPROTO,
  ETIMEDOUT: system.errno.ETIMEDOUT,
} as const;

/** What Node's own table lacks, or words as if every file were a socket. */
const ownTexts = new Map<number, readonly [code: string, text: string]>([
  [system.errno.EOPNOTSUPP, ['EOPNOTSUPP', 'operation not supported']],
  [system.errno.ETIMEDOUT, ['ETIMEDOUT', 'operation timed out']],
  [system.errno.EDQUOT, ['EDQUOT', 'quota exceeded']],
  [system.errno.ESTALE, ['ESTALE', 'stale file handle']],
  [system.errno.EBADMSG, ['EBADMSG', 'bad message']],
  [errno.EUSERS, ['EUSERS', 'too many users']],
  [errno.EOWNERDEAD, ['EOWNERDEAD', 'owner died']],
  // Not in os.constants, either.
  [131, ['ENOTRECOVERABLE', 'state not recoverable']],
]);

function nameAndText(number: number): readonly [code: string, text: string] {
  return (
    ownTexts.get(number) ??
    getSystemErrorMap().get(-number) ?? [`Unknown system error ${-number}`, 'unknown system error']
  );
}

/**
 * Makes the error of a failed system call.
 *
 * @param number - errno, positive
 * @param syscall - what failed
 * @param detail - what it was about; `hint` ends the message and says what helps
 * @example
 * systemError(16, 'mmap_iospace', { address: 0x10000000n });
 * // Error: EBUSY: resource busy or locked, mmap_iospace 0x10000000
 */
export function systemError(
  number: number,
  syscall: string,
  detail: SystemErrorDetail & { hint?: string } = {},
): SystemError {
  const [code, text] = nameAndText(number);
  const { path, address, request, hint } = detail;
  let message = `${code}: ${text}, ${syscall}`;
  if (address !== undefined) {
    message += ` 0x${address.toString(16)}`;
  }
  if (request !== undefined) {
    message += ` 0x${request.toString(16)}`;
  }
  if (path !== undefined) {
    message += ` '${path}'`;
  }
  if (hint !== undefined) {
    message += `: ${hint}`;
  }
  return Object.assign(new Error(message), {
    errno: -number,
    code,
    syscall,
    ...(path !== undefined && { path }),
    ...(address !== undefined && { address }),
    ...(request !== undefined && { request }),
  });
}

/**
 * Runs `call`; a system error that it throws is thrown with what it was about, and what helps.
 *
 * @param about - the file or address concerned; `syscall` where the operation has a name of its own
 * @param hints - by code, made when they are needed; an error of another code is thrown as it is
 */
export function explained<T>(
  about: { syscall?: string; path?: string; address?: bigint },
  hints: Readonly<Record<string, string | (() => string)>>,
  call: () => T,
): T {
  try {
    return call();
  } catch (error) {
    if (!isSystemError(error, ...Object.keys(hints))) {
      throw error;
    }
    const { syscall = error.syscall, ...detail } = about;
    const hint = hints[error.code] ?? '';
    throw systemError(-error.errno, syscall, {
      ...(error.address !== undefined && { address: error.address }),
      ...detail,
      // The number of the system call says nothing of an operation.
      ...(about.syscall === undefined && error.request !== undefined && { request: error.request }),
      hint: typeof hint === 'string' ? hint : hint(),
    });
  }
}

/** What this device, machine or provider cannot do. */
export function notSupported(operation: string, reason: string): SystemError {
  return systemError(errno.EOPNOTSUPP, operation, { hint: reason });
}

/** Whether something caught is a system error of one of these codes. */
export function isSystemError(error: unknown, ...codes: string[]): error is SystemError {
  return (
    error instanceof Error && 'syscall' in error && 'code' in error && codes.includes(String(error.code))
  );
}

/** An argument of the wrong type. */
export function wrongType(name: string, expected: string, value: unknown): TypeError & CodedError {
  return Object.assign(new TypeError(unexpected(name, expected, value)), { code: 'ERR_INVALID_ARG_TYPE' });
}

/** An argument of the right type that is none of the known values. */
export function wrongValue(name: string, expected: string, value: unknown): TypeError & CodedError {
  return Object.assign(new TypeError(unexpected(name, expected, value)), { code: 'ERR_INVALID_ARG_VALUE' });
}

/** A number outside of what is allowed. */
export function outOfRange(name: string, expected: string, value: unknown): RangeError & CodedError {
  return Object.assign(new RangeError(unexpected(name, expected, value)), { code: 'ERR_OUT_OF_RANGE' });
}

function unexpected(name: string, expected: string, value: unknown): string {
  return `expected ${expected} for ${name}, got ${inspect(value, { depth: 0, maxArrayLength: 5, breakLength: Infinity })}`;
}

/** A use after `close()` or `free()`. */
export function invalidState(message: string): CodedError {
  return Object.assign(new Error(message), { code: 'ERR_INVALID_STATE' });
}

/** What a wait rejects with once its signal has aborted. */
export function abortError(signal: AbortSignal): CodedError {
  const error = new Error('the operation was aborted', { cause: signal.reason });
  error.name = 'AbortError';
  return Object.assign(error, { code: 'ABORT_ERR' });
}

/** Warns that memory was collected which nobody had given back. */
export function reportLeak(description: string, byteLength: number): void {
  process.emitWarning(
    `${description} (${byteLength} bytes) was collected without free(), unmap() or close()`,
    {
      type: 'IospaceLeakWarning',
      code: 'IOSPACE_LEAK',
      detail:
        'What a device may still use stays allocated, and a window open in its type, until the device is closed. ' +
        'Shared memory is closed by being collected, whenever that is.',
    },
  );
}
