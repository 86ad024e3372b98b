/**
 * Descriptors for another process: memory, dma-bufs, devices, passed through a Unix socket of the file system.
 *
 * @module
 */
import { fstatSync } from 'node:fs';
import { binding, type NativeBinding, type NativeDescriptorSocket } from '../binding.js';
import { checkDescriptor, checkOptions, checkSignal, checkString, checkTimeout } from '../check.js';
import {
  abortError,
  errno,
  explained,
  isSystemError,
  outOfRange,
  systemError,
  wrongType,
} from '../errors.js';

/** How long to wait for the other side. */
export interface PassOptions {
  /** Ends the wait with an AbortError. */
  signal?: AbortSignal;
  /** Milliseconds, at most 2^31 - 1, after which it rejects with ETIMEDOUT. @defaultValue no limit */
  timeout?: number;
}

/** Most descriptors of one message: the kernel's SCM_MAX_FD. */
const MAX_DESCRIPTORS = 253;

/** Milliseconds between two looks whether the other side is there: few at first. */
const FIRST_PAUSE = 1;
const LONGEST_PAUSE = 50;

/** What the path of a sender without a receiver gives, and a receiver that ended before it came to this sender. */
const notYetThere = ['ENOENT', 'ECONNREFUSED', 'EAGAIN', 'EPIPE', 'ECONNRESET'];

const receiveHints = {
  EADDRINUSE: 'somebody listens there, or it is not a socket',
  EPROTO: 'what came is no message of fds.send',
  EMFILE: 'there is no room for more open files in this process (ulimit -n); those that came were closed',
};

const sendHints = {
  EBADF: 'not all of fds are open',
  EPROTOTYPE: 'the socket is not one of fds.receive',
  EPROTO: 'what answered is not fds.receive',
  ECONNABORTED: 'the receiver has refused the descriptors, and says why',
  ETOOMANYREFS: 'more descriptors are on their way than this user may have open (ulimit -n)',
};

/** The time that one call has for all that it waits for. */
class Limit {
  readonly #native: NativeBinding;
  readonly #operation: string;
  readonly #path: string;
  readonly #signal: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  /** What it waits for, as the error of the timeout says it. */
  missing = '';
  /** Why the call is over. */
  #reason: unknown;
  /** Rejects what is being waited for. */
  #fail: ((reason: unknown) => void) | undefined;

  constructor(native: NativeBinding, operation: string, path: string, options: PassOptions | undefined) {
    const { signal, timeout } = checkOptions(options, ['signal', 'timeout']);
    this.#native = native;
    this.#operation = operation;
    this.#path = path;
    this.#signal = signal === undefined ? undefined : checkSignal(signal);
    if (checkTimeout(timeout) !== undefined) {
      const timedOut = () => systemError(errno.ETIMEDOUT, operation, { path, hint: this.missing });
      this.#timer = setTimeout(() => this.#end(timedOut()), timeout);
    }
    this.#signal?.addEventListener('abort', this.#onAbort);
    if (this.#signal?.aborted === true) {
      this.#onAbort();
    }
  }

  /** Calls `make` until it does not fail any more by one of the codes. */
  async opened<T>(
    codes: readonly string[],
    hints: Readonly<Record<string, string>>,
    make: () => T,
  ): Promise<T> {
    for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
      this.#check();
      try {
        return explained({ path: this.#path }, hints, make);
      } catch (error) {
        if (!isSystemError(error, ...codes)) {
          throw error;
        }
      }
      await this.#wait((done) => {
        const timer = setTimeout(done, pause);
        return () => clearTimeout(timer);
      });
    }
  }

  /** Calls `look` whenever there is news at the socket, until it gives something. */
  async seen<T>(
    socket: NativeDescriptorSocket,
    hints: Readonly<Record<string, string>>,
    look: () => T | undefined,
  ): Promise<T> {
    for (;;) {
      this.#check();
      const result = explained({ syscall: this.#operation, path: this.#path }, hints, look);
      if (result !== undefined) {
        return result;
      }
      await this.#wait((done) => {
        const poller = new this.#native.Poller(socket.watched(), done);
        poller.start();
        return () => poller.close();
      });
    }
  }

  /** The call has ended. */
  end(): void {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener('abort', this.#onAbort);
  }

  readonly #onAbort = (): void => {
    if (this.#signal !== undefined) {
      this.#end(abortError(this.#signal));
    }
  };

  #end(reason: unknown): void {
    this.#reason ??= reason;
    this.#fail?.(this.#reason);
  }

  #check(): void {
    if (this.#reason !== undefined) {
      throw this.#reason;
    }
  }

  /** @param begin - begins the wait, and returns what ends it */
  async #wait(begin: (done: () => void) => () => void): Promise<void> {
    let stop: (() => void) | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#fail = reject;
        stop = begin(resolve);
      });
    } finally {
      this.#fail = undefined;
      stop?.();
    }
  }
}

/**
 * Waits for a sender and takes its descriptors. They are close-on-exec, and the caller's, who closes them: by `closeSync`,
 * or, in a worker, by `close` of `iospace/raw`, for there `closeSync` warns of what it has not opened itself.
 *
 * The socket's file at `path` is made here, for this user alone (mode 0600), and removed at the end. One whose listener
 * has died is replaced. Put it into a directory where others cannot put theirs, such as `$XDG_RUNTIME_DIR`.
 *
 * @param path - of a file that does not exist, at most 107 bytes
 * @returns the descriptors, in the sender's order
 * @throws EADDRINUSE if somebody listens there, or it is not a socket; ETIMEDOUT; an AbortError (ABORT_ERR) whose `cause`
 *   is the signal's reason; EMFILE if the descriptors are more than this process may still open; EPROTO if what came is
 *   no message of {@link send}; ENOENT, EACCES of the directory; ERR_OUT_OF_RANGE for the length of the path
 * @example
 * const [fd] = await fds.receive('/run/user/1000/frames', { timeout: 5000 });
 */
async function receive(path: string, options?: PassOptions): Promise<number[]> {
  checkString('path', path);
  const native = binding();
  const limit = new Limit(native, 'fds.receive', path, options);
  try {
    limit.missing = 'somebody has the lock of the directory';
    const receiver = await limit.opened(['EAGAIN'], receiveHints, () => new native.DescriptorReceiver(path));
    limit.missing = 'nobody has sent anything';
    try {
      return await limit.seen(receiver, receiveHints, () => receiver.receive());
    } finally {
      receiver.close();
    }
  } finally {
    limit.end();
  }
}

/**
 * Sends descriptors to the process that calls {@link receive} with the same path, and waits until it has them. Which of
 * the two comes first makes no difference. The caller's own descriptors stay open, and have to until this has settled.
 * After an error the receiver does not have them; only a time or a signal that ends the wait may do so when the
 * receiver has just answered.
 *
 * @param fds - 1 to 253 descriptors
 * @throws ETIMEDOUT; an AbortError (ABORT_ERR) whose `cause` is the signal's reason; EBADF; EPROTOTYPE if what listens
 *   there is no `fds.receive`; ECONNABORTED if it has refused them; EACCES if it is another user's
 * @example
 * await fds.send('/run/user/1000/frames', [fd], { timeout: 5000 });
 * closeSync(fd);
 */
async function send(path: string, fds: readonly number[], options?: PassOptions): Promise<void> {
  checkString('path', path);
  const descriptors = checkDescriptors(fds);
  // Now, and not when somebody receives, which may be never.
  explained({ path }, sendHints, () => {
    for (const fd of descriptors) {
      fstatSync(fd);
    }
  });
  const native = binding();
  const limit = new Limit(native, 'fds.send', path, options);
  const connect = () => new native.DescriptorSender(path, descriptors);
  try {
    for (;;) {
      limit.missing = 'nobody receives there';
      const sender = await limit.opened(notYetThere, sendHints, connect);
      limit.missing = 'the receiver has not answered';
      try {
        await limit.seen(sender, sendHints, () => sender.isAnswered() || undefined);
        return;
      } catch (error) {
        // It has taken another sender's: the next receiver takes these.
        if (!isSystemError(error, 'ECONNRESET')) {
          throw error;
        }
      } finally {
        sender.close();
      }
    }
  } finally {
    limit.end();
  }
}

function checkDescriptors(fds: unknown): Int32Array {
  if (!Array.isArray(fds)) {
    throw wrongType('fds', 'an array of numbers', fds);
  }
  if (fds.length === 0 || fds.length > MAX_DESCRIPTORS) {
    throw outOfRange('fds.length', `an integer from 1 to ${MAX_DESCRIPTORS}`, fds.length);
  }
  return Int32Array.from(fds, (fd, index) => checkDescriptor(fd, `fds[${index}]`));
}

/** Descriptors for another process (`SCM_RIGHTS`). */
export const fds = { send, receive } as const;
