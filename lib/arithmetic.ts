/**
 * Arithmetic on sizes, exact for all integers that a `number` holds.
 *
 * @module
 */

/** The least multiple of `unit` that is not below `value`. */
export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** The least power of two that is not below `value`, which is at least 1. */
export function nextPowerOfTwo(value: number): number {
  const near = 2 ** Math.round(Math.log2(value));
  return near < value ? 2 * near : near;
}
