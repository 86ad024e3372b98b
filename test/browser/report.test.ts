/**
 * The report in a real browser, Debian's Chromium: what is drawn, what it says, and that it asks nobody for anything.
 *
 * Needs `npm run build` and the Debian package chromium.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Chart, chartsOf } from '../../lib/bench/charts.js';
import { compare } from '../../lib/bench/comparison.js';
import { makePlan } from '../../lib/bench/plan.js';
import { writeReport } from '../../lib/bench/report.js';
import type { BenchResult } from '../../lib/bench/result.js';
import { board, boardResult, figure, resultOf } from '../unit/bench/results.js';

const executablePath = '/usr/bin/chromium';

let directory: string;
let browser: Browser;

beforeAll(async () => {
  if (!existsSync(executablePath)) {
    throw new Error(`${executablePath} is missing: as root, apt-get install chromium`);
  }
  directory = mkdtempSync(join(tmpdir(), 'iospace-report-'));
  // Nothing of it may look for a network while it is tested; the sandbox needs what containers seldom have.
  const quiet = [
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-quic',
  ];
  browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', ...quiet],
  });
});
afterAll(async () => {
  await browser?.close();
  rmSync(directory, { recursive: true, force: true });
});

/** A report that is open, and what the browser had to say of it. */
interface Opened {
  page: Page;
  complaints: string[];
  requests: string[];
}

interface View {
  width?: number;
  colorScheme?: 'light' | 'dark';
  media?: 'screen' | 'print';
}

async function open(result: BenchResult, view: View = {}, before?: BenchResult): Promise<Opened> {
  const { width = 1280, colorScheme = 'light', media = 'screen' } = view;
  const path = join(directory, 'report.html');
  writeReport(path, result, before && compare(before, result));
  const page = await browser.newPage({ viewport: { width, height: 900 } });
  const complaints: string[] = [];
  const requests: string[] = [];
  page.on('console', (message) => complaints.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => requests.push(request.url()));
  await page.emulateMedia({ colorScheme, media });
  await page.goto(pathToFileURL(path).href);
  return { page, complaints, requests };
}

/** A series as ECharts has it; with lines of others it has no data. */
interface DrawnOption {
  name: string;
  data: (number | null)[];
  markLine?: { data: { yAxis: number }[] };
}

/** What ECharts has been given to draw, chart by chart. */
function drawnSeries(
  page: Page,
): Promise<{ id: string; series: { name: string; data: (number | null)[] }[]; lines: number[] }[]> {
  return page.evaluate(() => {
    // Inside of the page: its own globals.
    const { echarts, document } = globalThis as unknown as {
      echarts: { getInstanceByDom(element: unknown): { getOption(): { series: DrawnOption[] } } };
      document: {
        querySelectorAll(
          selector: string,
        ): Iterable<{ id: string; querySelector(selector: string): unknown }>;
      };
    };
    return [...document.querySelectorAll('figure')].map((figure) => {
      const { series } = echarts.getInstanceByDom(figure.querySelector('.plot')).getOption();
      const measured = series.filter(({ markLine }) => markLine === undefined);
      const lines = series.flatMap(({ markLine }) => markLine?.data ?? []);
      return {
        id: figure.id,
        series: measured.map(({ name, data }) => ({ name, data })),
        lines: lines.map(({ yAxis }) => yAxis),
      };
    });
  });
}

/** The same, from the result. */
function expectedSeries(charts: readonly Chart[]): Awaited<ReturnType<typeof drawnSeries>> {
  return charts.map(({ id, series, references }) => ({
    id: `chart-${id}`,
    series: series.map(({ name, points }) => ({ name, data: points.map((point) => point?.value ?? null) })),
    lines: references.map(({ value }) => value).sort((a, b) => a - b),
  }));
}

test('nothing goes wrong in it, and nothing is asked for but itself', async () => {
  const { page, complaints, requests } = await open(boardResult);
  expect(complaints).toEqual([]);
  expect(requests.filter((url) => !url.startsWith('data:'))).toEqual([page.url()]);
  await page.close();
});

test('every chart is drawn, with the values of the result', async () => {
  const { page } = await open(boardResult);
  const charts = chartsOf(boardResult);
  expect(charts.length).toBeGreaterThan(5);
  expect(await drawnSeries(page)).toEqual(expectedSeries(charts));
  // From the JSON itself, by hand: 64 KiB at 349 MB/s.
  const embedded = JSON.parse((await page.textContent('#result')) ?? '') as BenchResult;
  expect(embedded).toEqual(boardResult);
  const reads = (await drawnSeries(page)).find(({ id }) => id === 'chart-js-read');
  expect(reads?.series.find(({ name }) => name === 'cached')?.data[1]).toBeCloseTo(349, 6);
  // It is a picture: each line of it has its points.
  for (const { id, series } of charts) {
    const drawn = await page.locator(`#chart-${id} .plot svg path`).count();
    expect(drawn, id).toBeGreaterThan(series.length * 2);
  }
  await page.close();
});

test('what was not measured is a gap, not a zero', async () => {
  const result = resultOf([
    figure('js-read', 'cached', 4096, 1000),
    figure('js-read', 'uncached', 65536, 64_000),
    figure('js-sum', 'cached', 4096, 1000),
  ]);
  const { page, complaints } = await open(result);
  const [reads] = await drawnSeries(page);
  expect(reads?.series).toEqual([
    { name: 'cached', data: [4096, null] },
    { name: 'uncached', data: [null, 1024] },
  ]);
  expect(complaints).toEqual([]);
  await page.close();
});

describe('read and heard', () => {
  test('tables have every figure of the charts', async () => {
    const { page } = await open(boardResult);
    for (const chart of chartsOf(boardResult)) {
      const cells = await page.locator(`#chart-${chart.id} td`).allTextContents();
      expect(cells).toEqual(
        chart.categories.flatMap((_, index) => chart.series.map(({ points }) => points[index]?.text ?? '-')),
      );
    }
    await page.close();
  });

  test('each chart says what it shows, in the tree that a screen reader has', async () => {
    const { page } = await open(boardResult);
    for (const { title, series } of chartsOf(boardResult)) {
      const chart = page.getByRole('group', { name: `Chart: ${title}.` });
      expect(await chart.count(), title).toBe(1);
      const label = (await chart.getAttribute('aria-label')) ?? '';
      const [first] = series[0]?.points ?? [];
      expect(label).toContain(first?.text ?? 'none');
    }
    expect(await page.getByRole('heading', { level: 1 }).count()).toBe(1);
    expect(await page.locator('html').getAttribute('lang')).toBe('en');
    await page.close();
  });

  test('the keyboard reaches each chart, and the arrow keys say its figures', async () => {
    const { page } = await open(boardResult);
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement.textContent')).toBe('To the figures');
    const chart = page.locator('#chart-js-read .chart');
    await chart.focus();
    const readout = page.locator('#chart-js-read .readout');
    expect(await readout.getAttribute('aria-live')).toBe('polite');
    const said: (string | null)[] = [];
    for (const key of ['ArrowRight', 'ArrowRight', 'End', 'ArrowRight', 'ArrowLeft', 'Home']) {
      await page.keyboard.press(key);
      said.push(await readout.textContent());
    }
    const figures = 'cached: 349 MB/s ±1 %. writecombine: 70.0 MB/s ±1 %.';
    const sizes = ['4 KiB', '64 KiB', '64 MiB', '64 MiB', '1 MiB', '4 KiB'];
    expect(said).toEqual(sizes.map((size) => `${size}. ${figures}`));
    await page.close();
  });

  test('series differ in more than colour', async () => {
    const { page } = await open(boardResult);
    const looks = await page.evaluate(() => {
      const { echarts, document } = globalThis as unknown as {
        echarts: {
          getInstanceByDom(element: unknown): {
            getOption(): { series: { symbol: string; lineStyle: { type: unknown } }[] };
          };
        };
        document: { querySelector(selector: string): unknown };
      };
      const { series } = echarts.getInstanceByDom(document.querySelector('#chart-js-read .plot')).getOption();
      return series.map(({ symbol, lineStyle }) => `${symbol} ${JSON.stringify(lineStyle.type)}`);
    });
    expect(new Set(looks).size).toBe(looks.length);
    await page.close();
  });

  test('text and lines stand out from what is behind them, by 4.5 and by 3 to 1', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      const { page } = await open(boardResult, { colorScheme });
      const names = [
        'background',
        'card',
        'text',
        'quiet',
        'reference',
        'accent',
        ...[1, 2, 3, 4, 5, 6, 7].map((n) => `series-${n}`),
      ];
      const colours: Record<string, string> = await page.evaluate(
        `Object.fromEntries(${JSON.stringify(names)}.map((name) => [name, getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()]))`,
      );
      for (const name of ['text', 'quiet', 'reference', 'accent']) {
        expect(contrast(colours[name], colours['card']), `${colorScheme} ${name}`).toBeGreaterThan(4.5);
        expect(contrast(colours[name], colours['background']), `${colorScheme} ${name}`).toBeGreaterThan(4.5);
      }
      for (const name of names.filter((name) => name.startsWith('series'))) {
        expect(contrast(colours[name], colours['card']), `${colorScheme} ${name}`).toBeGreaterThan(3);
      }
      await page.close();
    }
  });
});

/** Of WCAG 2: from 1 to 21. */
function contrast(one = '', other = ''): number {
  const luminance = (colour: string): number => {
    const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((place) => {
      const value = Number.parseInt(colour.slice(place, place + 2), 16) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [dark = 0, light = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

/** Every operation in every size, with the longest words that figures have. */
const fullResult = resultOf(
  makePlan({ memory: ['cached'] }).map(({ operation, memory, size }) =>
    figure(operation, memory, size, 123_456, 0.9),
  ),
);

describe('looks right', () => {
  test.each<[string, View]>([
    ['on a phone', { width: 360 }],
    ['on a desk', { width: 1440 }],
    ['in the dark', { width: 1024, colorScheme: 'dark' }],
    ['on paper', { width: 700, media: 'print' }],
  ])('%s: nothing is wider than the page, every chart is inside of its frame', async (_, view) => {
    const { page, complaints } = await open(fullResult, view);
    expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0);
    for (const figure of await page.locator('figure').all()) {
      const frame = await figure.boundingBox();
      const picture = await figure.locator('svg').boundingBox();
      expect(picture?.width).toBeGreaterThan(200);
      expect((picture?.x ?? 0) + (picture?.width ?? 0)).toBeLessThanOrEqual(
        (frame?.x ?? 0) + (frame?.width ?? 0),
      );
    }
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('dark is dark, and is followed while the page is open; paper is light, with all tables open', async () => {
    const { page } = await open(boardResult, { colorScheme: 'dark' });
    const text = (): Promise<string | null> =>
      page.locator('#chart-js-read svg text').first().getAttribute('fill');
    const openTables = (): Promise<number> => page.locator('details[open]').count();
    // What has changed is drawn with the next frame.
    await expect.poll(text).toBe('#e8ecf0');
    await page.emulateMedia({ colorScheme: 'light' });
    await expect.poll(text).toBe('#1b1f24');
    await page.emulateMedia({ colorScheme: 'dark' });
    await expect.poll(text).toBe('#e8ecf0');
    await page.emulateMedia({ colorScheme: 'dark', media: 'print' });
    await expect.poll(text).toBe('#1b1f24');
    await expect.poll(openTables).toBe(chartsOf(boardResult).length);
    await page.emulateMedia({ colorScheme: 'dark', media: 'screen' });
    await expect.poll(openTables).toBe(0);
    await page.close();
  });

  test('it prints', async () => {
    const { page } = await open(boardResult, { colorScheme: 'dark' });
    const paper = await page.pdf({ format: 'A4' });
    expect(paper.subarray(0, 5).toString()).toBe('%PDF-');
    await page.close();
  });
});

describe('says what it must', () => {
  test('advice, in words', async () => {
    const { page } = await open(boardResult);
    expect(await page.locator('.advice').textContent()).toMatch(
      /take cached: .*4\.2 times as fast as writecombine/,
    );
    await page.close();
  });

  test('figures of others are marked as such, and can be taken away', async () => {
    const { page } = await open(boardResult);
    const lines = page.locator('#chart-js-read svg text', { hasText: 'Zynq-7000, uncached: 70 MB/s' });
    expect(await lines.count()).toBe(1);
    await page.locator('#chart-js-read svg text', { hasText: 'published by others' }).click();
    expect(await lines.count()).toBe(0);
    await page.close();
  });

  test('an emulated machine is named above everything, and gets no advice', async () => {
    const machine = { ...board, emulated: 'iospace lab' };
    const { page } = await open(resultOf(boardResult.measurements, { machine }));
    expect(await page.getByRole('note').first().textContent()).toMatch(/^EMULATED MACHINE/);
    expect(await page.locator('.advice').textContent()).toMatch(/No advice/);
    await page.close();
  });

  test('what a comparison has found', async () => {
    const before = resultOf(
      boardResult.measurements.map((one) => (one.operation === 'js-sum' ? one : { ...one })),
    );
    const slower = resultOf(
      boardResult.measurements.map((one) =>
        one.operation === 'js-write' && one.memory === 'cached'
          ? figure('js-write', 'cached', one.size, one.median * 2)
          : one,
      ),
    );
    const { page } = await open(slower, {}, before);
    const section = page.locator('section', { has: page.locator('#compared') });
    expect(await section.locator('tbody tr').count()).toBe(4);
    expect(await section.textContent()).toMatch(/js-write cached 64 KiB.*2\.0 times slower/s);
    await page.close();
  });

  test('nothing of a result is taken for markup', async () => {
    const evil = `</script><script>document.title = 'taken'</script><img src=x onerror="document.title = 'taken'">`;
    const machine = { ...board, board: evil, cpu: evil, governor: evil };
    const { page, complaints } = await open(
      resultOf(boardResult.measurements, { machine, iospace: evil, startedAt: evil }),
    );
    expect(await page.locator('h1').textContent()).toBe(`What memory costs on ${evil}`);
    expect(await page.title()).toContain('What memory costs on');
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('a result with nothing in it is a page all the same', async () => {
    const { page, complaints } = await open(resultOf([], { complete: false }));
    expect(await page.getByRole('note').textContent()).toMatch(/Interrupted/);
    expect(complaints).toEqual([]);
    await page.close();
  });
});

test.each([375, 1280])('at %i pixels the names of published lines do not hide each other', async (width) => {
  const { page } = await open(boardResult, { width });
  const named = await page.locator('figure').evaluateAll((figures) =>
    figures.map((figure) => {
      const boxes = [...figure.querySelectorAll('svg text')]
        .filter((text) => /^[^:]+: [\d.]+ .?(?:B\/s|s)$/.test(text.textContent ?? ''))
        .map((text) => text.getBoundingClientRect());
      const hidden = boxes.filter((one, index) =>
        boxes.some(
          (other, before) =>
            before < index &&
            // The boxes of letters have some air above and below.
            Math.abs(one.top - other.top) < 10 &&
            one.left < other.right &&
            other.left < one.right,
        ),
      );
      return { names: boxes.length, hidden: hidden.length };
    }),
  );
  expect(named.reduce((sum, { names }) => sum + names, 0)).toBeGreaterThan(5);
  expect(named.filter(({ hidden }) => hidden > 0)).toEqual([]);
  await page.close();
});
