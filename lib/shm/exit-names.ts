/**
 * Names that this process removes when it ends: at `process.exit()`, at the end of its work, by an uncaught exception, and
 * by SIGHUP, SIGINT and SIGTERM, also while JavaScript is busy. Not by SIGKILL or a crash.
 *
 * A signal is left alone where the program listens to it itself, for then it does not end the process, and where it is
 * ignored.
 *
 * @module
 */
import { constants } from 'node:os';
import type { NativeBinding } from '../binding.js';

const signals = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const;

let watching = false;

/**
 * Removes the name of an open file when the process ends, if it still is that file's. For the main thread.
 *
 * @param path - of the file
 */
export function removeAtExit(native: NativeBinding, path: string, fd: number): void {
  native.addExitName(path, fd);
  if (!watching) {
    watching = true;
    process.once('exit', () => native.removeExitNames());
    // Node gives the signal back to the system with the last listener, before this is called.
    process.on('removeListener', (event) => {
      if (signals.some((signal) => signal === event)) {
        guard(native);
      }
    });
  }
  guard(native);
}

function guard(native: NativeBinding): void {
  for (const signal of signals) {
    if (process.listenerCount(signal) === 0) {
      native.guardExitNames(constants.signals[signal]);
    }
  }
}
