/**
 * What there is to draw: which figures stand in one chart, in which unit, beside which published ones. How a chart looks is
 * the page's business (`page/`), which gets these as JSON.
 *
 * @module
 */
import { sizeText } from '../size-text.js';
import { type Group, operation, operationNames } from './operation.js';
import { type Published, publishedOf } from './published.js';
import { bandwidth, figureText, isBandwidth, spreadText, type Unit } from './quantity.js';
import type { BenchResult, Measurement } from './result.js';
import { spread } from './statistics.js';

/** One figure as it is drawn and said. */
export interface ChartPoint {
  /** In the unit of the chart. */
  readonly value: number;
  /** Of half of the samples, in the unit of the chart. */
  readonly low: number;
  readonly high: number;
  /** With its unit and spread: `9.02 GB/s ±1 %`. */
  readonly text: string;
}

export interface ChartSeries {
  readonly name: string;
  /** By category; `null` where nothing was measured. */
  readonly points: readonly (ChartPoint | null)[];
}

export type ChartUnit = 'MB/s' | 'ns' | 'µs' | 'instructions';

export interface Chart {
  readonly id: string;
  readonly title: string;
  /** What is measured, and whether more or less is better. */
  readonly says: string;
  /** Lines over sizes, or bars of things that are no quantity. */
  readonly kind: 'lines' | 'bars';
  readonly unit: ChartUnit;
  readonly categories: readonly string[];
  readonly series: readonly ChartSeries[];
  /** In the unit of the chart. */
  readonly references: readonly (Omit<Published, 'value'> & { readonly value: number })[];
}

const titles: Readonly<Record<Group, string>> = {
  read: 'Reading',
  write: 'Writing',
  random: 'Random reads: latency',
  sync: 'Handing over: what a sync costs',
  memory: 'Allocating, freeing, mapping',
  interrupt: 'From interrupt to JavaScript',
};

/** Nanoseconds and bytes a second in the unit of a chart. */
const scales: Readonly<Record<ChartUnit, number>> = { 'MB/s': 1e-6, ns: 1, µs: 1e-3, instructions: 1 };

function unitOf(group: Group, unit: Unit): ChartUnit {
  if (unit === 'instructions') {
    return 'instructions';
  }
  const isOfBandwidth = operationNames.some(
    (name) => operation(name).group === group && isBandwidth(name, unit),
  );
  return isOfBandwidth ? 'MB/s' : group === 'random' ? 'ns' : 'µs';
}

function pointOf(measurement: Measurement, chart: ChartUnit, unit: Unit): ChartPoint {
  const { operation: name, size, median, low, high } = measurement;
  const inUnit = (figure: number): number =>
    (chart === 'MB/s' ? bandwidth(size ?? 0, figure) : figure) * scales[chart];
  // The longer the time, the lower the bandwidth.
  const ends = [inUnit(low), inUnit(high)].sort((a, b) => a - b) as [number, number];
  const text = `${figureText(name, size, median, unit)}${unit === 'instructions' ? ' instructions' : ''}`;
  return {
    value: inUnit(median),
    low: ends[0],
    high: ends[1],
    text: `${text} ${spreadText(spread(measurement))}${measurement.stable ? '' : ', not steady'}`,
  };
}

/** The name of the series that a measurement belongs to. */
type Key = (measurement: Measurement) => string;

const byMemory: Key = ({ memory }) => memory ?? '';
const byOperation: Key = ({ operation: name }) => operation(name).label;

function unique<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}

function linesOf(
  measurements: readonly Measurement[],
  key: Key,
  chart: ChartUnit,
  unit: Unit,
): Pick<Chart, 'categories' | 'series'> {
  const sizes = unique(measurements.map(({ size }) => size ?? 0)).sort((a, b) => a - b);
  const series = unique(measurements.map(key)).map((name) => ({
    name,
    points: sizes.map((size) => {
      const found = measurements.find((one) => key(one) === name && one.size === size);
      return found === undefined ? null : pointOf(found, chart, unit);
    }),
  }));
  return { categories: sizes.map(sizeText), series };
}

function references(group: Group, chart: ChartUnit): Chart['references'] {
  return chart === 'instructions'
    ? []
    : publishedOf(group).map((figure) => ({ ...figure, value: figure.value * scales[chart] }));
}

function directionText(chart: ChartUnit): string {
  return chart === 'MB/s' ? 'More is better.' : 'Less is better.';
}

/** The charts of a group: one with all of its operations where memory is of one type, else one for each operation. */
function chartsOfGroup(result: BenchResult, group: Group): Chart[] {
  const here = result.measurements.filter((one) => operation(one.operation).group === group);
  if (here.length === 0) {
    return [];
  }
  const unit = unitOf(group, result.unit);
  const common = { unit, references: references(group, unit) };
  if (group === 'interrupt') {
    return [barsOfInterrupts(here, unit, result.unit)];
  }
  const types = unique(here.map(byMemory));
  const names = unique(here.map(({ operation: name }) => name));
  const says = directionText(unit);
  if (types.length === 1) {
    return [
      {
        id: group,
        title: `${titles[group]}, ${types[0]} memory`,
        says,
        kind: 'lines',
        ...common,
        ...linesOf(here, byOperation, unit, result.unit),
      },
    ];
  }
  return names.map((name) => ({
    id: name,
    title: `${titles[group]}: ${operation(name).label}`,
    says: `By memory type: ${operation(name).says}. ${says}`,
    kind: 'lines',
    ...common,
    ...linesOf(
      here.filter((one) => one.operation === name),
      byMemory,
      unit,
      result.unit,
    ),
  }));
}

function barsOfInterrupts(measurements: readonly Measurement[], chart: ChartUnit, unit: Unit): Chart {
  const labels = measurements.map(byOperation);
  return {
    id: 'interrupt',
    title: titles.interrupt,
    says: `The time of one event, for which an eventfd that another thread writes stands in. ${directionText(chart)}`,
    kind: 'bars',
    unit: chart,
    categories: labels,
    series: [{ name: 'time of one event', points: measurements.map((one) => pointOf(one, chart, unit)) }],
    references: references('interrupt', chart),
  };
}

/** All charts of a result, in the order of the page. */
export function chartsOf(result: BenchResult): Chart[] {
  return (Object.keys(titles) as Group[]).flatMap((group) => chartsOfGroup(result, group));
}
