/**
 * A promise and the functions that settle it; `Promise.withResolvers()` came with Node 22.
 *
 * @module
 */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(reason: unknown): void;
}

/** A new, unsettled one. Its rejection is never reported as unhandled: who waits, sees it. */
export function deferred<T>(): Deferred<T> {
  let settle: Omit<Deferred<T>, 'promise'> | undefined;
  const promise = new Promise<T>((resolve, reject) => {
    settle = { resolve, reject };
  });
  promise.catch(() => {});
  return { promise, ...(settle as Omit<Deferred<T>, 'promise'>) };
}
