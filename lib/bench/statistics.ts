/**
 * What many samples of one thing say: the middle, how far they spread, and whether more of them would say anything else.
 *
 * Medians and quartiles, because what disturbs a measurement only ever makes it longer.
 *
 * @module
 */

/** The middle of samples and their spread, in the unit of the samples. */
export interface Summary {
  readonly median: number;
  /** A quarter of the samples lies below. */
  readonly low: number;
  /** A quarter of the samples lies above. */
  readonly high: number;
  readonly least: number;
  readonly most: number;
  readonly samples: number;
}

/** The value below which that share of sorted samples lies; between two of them, in proportion. */
export function quantile(sorted: readonly number[], share: number): number {
  const place = (sorted.length - 1) * share;
  const below = sorted[Math.floor(place)] ?? Number.NaN;
  const above = sorted[Math.ceil(place)] ?? Number.NaN;
  return below + (above - below) * (place - Math.floor(place));
}

/** @param samples - at least one */
export function summarize(samples: readonly number[]): Summary {
  const sorted = [...samples].sort((a, b) => a - b);
  return {
    median: quantile(sorted, 0.5),
    low: quantile(sorted, 0.25),
    high: quantile(sorted, 0.75),
    least: quantile(sorted, 0),
    most: quantile(sorted, 1),
    samples: sorted.length,
  };
}

/** The distance of the quartiles, halved, as a share of the median: the number behind "±". */
export function spread({ median, low, high }: Pick<Summary, 'median' | 'low' | 'high'>): number {
  return median === 0 ? 0 : (high - low) / 2 / median;
}

/**
 * How far the median may be from that of endless samples, as a share of it: the notch of a box plot (McGill, Tukey and
 * Larsen, 1978), about the 95 % interval.
 */
export function uncertainty(summary: Summary): number {
  const { median, low, high, samples } = summary;
  return median === 0 ? 0 : (1.57 * (high - low)) / Math.sqrt(samples) / median;
}

/** Whether half of the samples of one lies outside of half of the samples of the other. */
export function isApart(one: Pick<Summary, 'low' | 'high'>, other: Pick<Summary, 'low' | 'high'>): boolean {
  return one.high < other.low || other.high < one.low;
}
