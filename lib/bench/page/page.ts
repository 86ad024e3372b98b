/**
 * The program of the report, which runs in a browser: draws the charts that stand in the page as JSON, in the colours of the
 * page, and says their figures to those who use a keyboard or hear them. Tables of the same figures are in the page without it.
 */
import type * as Echarts from 'echarts';
import type { Chart, ChartPoint, ChartUnit } from '../charts.js';

declare const echarts: typeof Echarts;

/** Told apart without colour: by the shape of the points, the line, and the pattern of bars. */
const symbols = ['circle', 'triangle', 'rect', 'diamond', 'emptyCircle', 'emptyTriangle', 'arrow'] as const;
const dashes: readonly ('solid' | number[])[] = [
  'solid',
  [9, 4],
  [2, 3],
  [9, 3, 2, 3],
  [14, 4],
  [5, 2, 1, 2, 1, 2],
];

/** Pixels above the plot of a chart, and of the words of its axis below. */
const ABOVE = 16;
const CATEGORIES = 24;

/** Pixels of a chart on paper, whose page is narrower than most windows. */
const PAPER_WIDTH = 660;
const PAPER_HEIGHT = 300;

type LabelPlace = 'insideStartTop' | 'insideEndTop';

/** The name of all lines of others. */
const OTHERS = 'published by others';

const paper = matchMedia('print');
const darkness = matchMedia('(prefers-color-scheme: dark)');

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const seriesColours = (): string[] => [1, 2, 3, 4, 5, 6, 7].map((number) => colour(`series-${number}`));

/** A value on an axis: `10 GB/s`, `2 ms`. */
function axisText(value: number, unit: ChartUnit): string {
  const steps: Readonly<Record<ChartUnit, readonly string[]>> = {
    'MB/s': ['MB/s', 'GB/s', 'TB/s'],
    ns: ['ns', 'µs', 'ms', 's'],
    µs: ['µs', 'ms', 's'],
    instructions: ['', 'k', 'M', 'G'],
  };
  const names = steps[unit];
  const power = value < 1000 ? 0 : Math.min(Math.floor(Math.log10(value) / 3), names.length - 1);
  return `${Number((value / 1000 ** power).toPrecision(3))} ${names[power]}`.trim();
}

/** Where an axis begins and ends, so that what others have published is on it. */
function bounds(chart: Chart): { min: number; max: number } {
  const values = [
    ...chart.series.flatMap(({ points }) => points.flatMap((point) => (point === null ? [] : [point.value]))),
    ...chart.references.map(({ value }) => value),
  ].filter((value) => value > 0);
  return {
    min: 10 ** Math.floor(Math.log10(Math.min(...values))),
    max: 10 ** Math.ceil(Math.log10(Math.max(...values))),
  };
}

function pointText(name: string, point: ChartPoint | null | undefined): string {
  return `${name}: ${point?.text ?? 'not measured'}`;
}

/** All figures of a category, in words. */
function categoryTexts(chart: Chart, index: number): string[] {
  return chart.series.map(({ name, points }) => pointText(name, points[index]));
}

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => escapes[sign] ?? sign);
}

/** Pixels from one line of small text to the next. */
const LABEL_HEIGHT = 13;

/**
 * Where the names of lines stand, from the lowest: at the right or the left, wherever the one below leaves room; a narrow chart
 * has one side. Undefined where there is none: the table below the charts has all of them.
 */
function labelPlaces(heights: readonly number[], isNarrow: boolean): (LabelPlace | undefined)[] {
  const taken = new Map<LabelPlace, number>();
  const sides: readonly LabelPlace[] = isNarrow ? ['insideEndTop'] : ['insideEndTop', 'insideStartTop'];
  return heights.map((height) => {
    const side = sides.find((one) => height - (taken.get(one) ?? Number.NEGATIVE_INFINITY) >= LABEL_HEIGHT);
    if (side !== undefined) {
      taken.set(side, height);
    }
    return side;
  });
}

/** The lines of others: a series without points, so that the legend can take them away. */
function referenceSeries(chart: Chart, isNarrow: boolean, plotHeight: number): Echarts.SeriesOption[] {
  if (chart.references.length === 0) {
    return [];
  }
  const sorted = [...chart.references].sort((a, b) => a.value - b.value);
  const { min, max } = bounds(chart);
  const places = labelPlaces(
    sorted.map(({ value }) => (plotHeight * Math.log(value / min)) / Math.log(max / min)),
    isNarrow,
  );
  return [
    {
      name: OTHERS,
      type: 'line',
      data: [],
      symbol: 'none',
      itemStyle: { color: colour('reference') },
      lineStyle: { color: colour('reference'), type: 'dotted', width: 1 },
      markLine: {
        silent: true,
        symbol: 'none',
        // Below what was measured here.
        z: 1,
        lineStyle: { color: colour('reference'), type: 'dotted', width: 1 },
        label: {
          color: colour('reference'),
          fontSize: isNarrow ? 9 : 11,
          textBorderWidth: 0,
          // Over lines of the grid it could not be read.
          backgroundColor: colour('card'),
          padding: [1, 2],
        },
        data: sorted.map(({ value, system }, index) => ({
          yAxis: value,
          name: system,
          label: {
            show: places[index] !== undefined,
            formatter: `${system}: ${axisText(value, chart.unit)}`,
            position: places[index] ?? 'insideEndTop',
          },
        })),
      },
    },
  ];
}

function measuredSeries(chart: Chart): Echarts.SeriesOption[] {
  const colours = seriesColours();
  return chart.series.map(({ name, points }, index): Echarts.SeriesOption => {
    const data = points.map((point) => point?.value ?? null);
    const own = colours[index % colours.length] ?? '';
    return chart.kind === 'bars'
      ? {
          name,
          type: 'bar',
          data,
          barMaxWidth: 56,
          itemStyle: { color: own, borderColor: colour('text'), borderWidth: 1 },
          label: {
            show: true,
            position: 'top',
            color: colour('text'),
            formatter: ({ dataIndex }) => axisText(points[dataIndex]?.value ?? 0, chart.unit),
          },
        }
      : {
          name,
          type: 'line',
          data,
          symbol: symbols[index % symbols.length] ?? 'circle',
          symbolSize: 9,
          showAllSymbol: true,
          itemStyle: { color: own },
          lineStyle: { color: own, width: 2, type: dashes[index % dashes.length] ?? 'solid' },
        };
  });
}

/** Pixels that a legend takes below a chart, each of its names with its sign. */
function legendHeight(names: readonly string[], width: number): number {
  const rowHeight = 22;
  let rows = 1;
  let filled = 0;
  for (const name of names) {
    const item = 56 + 7 * name.length;
    if (filled > 0 && filled + item > width) {
      rows++;
      filled = 0;
    }
    filled += item;
  }
  return rows * rowHeight;
}

function optionOf(chart: Chart, width: number, height: number): Echarts.EChartsOption {
  const isNarrow = width < 520;
  const text = colour('text');
  const line = colour('line');
  const isBars = chart.kind === 'bars';
  const names = [...chart.series.map(({ name }) => name), ...(chart.references.length > 0 ? [OTHERS] : [])];
  const below = isBars ? 8 : legendHeight(names, width) + 10;
  const axis = { axisLine: { lineStyle: { color: line } }, axisTick: { lineStyle: { color: line } } };
  return {
    animation: false,
    // The wrapper says what this is; patterns are for bars.
    aria: { enabled: true, label: { enabled: false }, decal: { show: isBars } },
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: text },
    grid: {
      left: 8,
      right: 16,
      top: ABOVE,
      bottom: below,
      containLabel: true,
    },
    legend: {
      show: !isBars,
      bottom: 0,
      itemWidth: 36,
      textStyle: { color: text, fontSize: isNarrow ? 11 : 12 },
      inactiveColor: line,
    },
    tooltip: {
      trigger: 'axis',
      confine: true,
      backgroundColor: colour('card'),
      borderColor: line,
      textStyle: { color: text },
      formatter: (shown) => {
        const [first] = Array.isArray(shown) ? shown : [shown];
        const index = first?.dataIndex ?? 0;
        return [
          `<b>${escaped(chart.categories[index] ?? '')}</b>`,
          ...categoryTexts(chart, index).map(escaped),
        ].join('<br>');
      },
    },
    xAxis: {
      type: 'category',
      data: [...chart.categories],
      ...axis,
      axisLabel: {
        color: text,
        fontSize: isNarrow ? 10 : 12,
        interval: 0,
        hideOverlap: !isBars,
        ...(isBars && {
          width: Math.max(width / chart.categories.length - 24, 40),
          overflow: 'break',
        }),
      },
    },
    yAxis: {
      type: 'log',
      ...bounds(chart),
      ...axis,
      axisLabel: {
        color: text,
        fontSize: isNarrow ? 10 : 12,
        formatter: (value: number) => axisText(value, chart.unit),
      },
      splitLine: { lineStyle: { color: line, opacity: 0.6 } },
    },
    series: [
      ...measuredSeries(chart),
      ...referenceSeries(chart, isNarrow, height - ABOVE - below - CATEGORIES),
    ],
  };
}

/** One chart in its place on the page. */
class Drawn {
  readonly #chart: Chart;
  readonly #plot: HTMLElement;
  readonly #readout: HTMLElement;
  readonly #instance: Echarts.ECharts;
  #shown = -1;

  constructor(chart: Chart, figure: HTMLElement) {
    this.#chart = chart;
    this.#plot = part(figure, '.plot');
    this.#readout = part(figure, '.readout');
    this.#instance = echarts.init(this.#plot, null, { renderer: 'svg' });
    this.draw();
    const focus = part(figure, '.chart');
    focus.addEventListener('keydown', (event) => this.#onKey(event));
    focus.addEventListener('blur', () => this.#instance.dispatchAction({ type: 'hideTip' }));
    new ResizeObserver(() => this.draw()).observe(this.#plot);
  }

  /** Draws it for where the page is shown now. */
  draw(): void {
    this.#instance.resize(
      paper.matches ? { width: PAPER_WIDTH, height: PAPER_HEIGHT } : { width: 'auto', height: 'auto' },
    );
    this.#instance.setOption(optionOf(this.#chart, this.#instance.getWidth(), this.#instance.getHeight()), {
      notMerge: true,
    });
  }

  /** The arrow keys go from one category to the next, and say its figures. */
  #onKey(event: KeyboardEvent): void {
    const last = this.#chart.categories.length - 1;
    const places: Readonly<Record<string, number>> = {
      ArrowRight: Math.min(this.#shown + 1, last),
      ArrowLeft: Math.max(this.#shown - 1, 0),
      Home: 0,
      End: last,
    };
    const place = places[event.key];
    if (place === undefined) {
      return;
    }
    event.preventDefault();
    this.#shown = place;
    this.#readout.textContent = `${this.#chart.categories[place]}. ${categoryTexts(this.#chart, place).join('. ')}.`;
    this.#instance.dispatchAction({ type: 'showTip', seriesIndex: 0, dataIndex: place });
  }
}

function part(parent: ParentNode, selector: string): HTMLElement {
  const found = parent.querySelector<HTMLElement>(selector);
  if (found === null) {
    throw new Error(`the page has no ${selector}`);
  }
  return found;
}

const charts = JSON.parse(part(document, '#charts').textContent ?? '[]') as Chart[];
const drawn = charts.map((chart) => new Drawn(chart, part(document, `#chart-${CSS.escape(chart.id)}`)));

function drawAll(): void {
  for (const one of drawn) {
    one.draw();
  }
}

/** On paper nothing can be opened. */
function fitMedium(): void {
  for (const details of document.querySelectorAll('details')) {
    details.open = paper.matches;
  }
  drawAll();
}

darkness.addEventListener('change', drawAll);
paper.addEventListener('change', fitMedium);
if (paper.matches) {
  fitMedium();
}
