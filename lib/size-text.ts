/**
 * A number of bytes in words.
 *
 * @module
 */

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** Bytes in the largest unit that leaves a whole part, with at most one digit after the point: `4 KiB`. */
export function sizeText(bytes: number): string {
  const power = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1);
  return `${Number((bytes / 1024 ** power).toFixed(1))} ${units[power]}`;
}
