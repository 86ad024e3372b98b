/**
 * The page of a report: one file of HTML that needs nothing else, no network and no other file.
 *
 * All that is told can be read without the program in it, which only draws: advice, facts and figures stand in the page as text.
 *
 * @module
 */
import { type Advice, adviceOf } from './advice.js';
import { type Chart, chartsOf } from './charts.js';
import { type Comparison, changed, changeText, LEAST_CHANGE } from './comparison.js';
import { machineFacts, skippedByReason, warnings } from './facts.js';
import { operation, operationNames } from './operation.js';
import { published } from './published.js';
import { bandwidthText, figureText, timeText } from './quantity.js';
import { type BenchResult, caseText } from './result.js';

/** What is put into the page as it is. */
export interface Assets {
  readonly style: string;
  /** Apache ECharts. */
  readonly library: string;
  /** Draws the charts. */
  readonly program: string;
}

const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text as HTML; results may come from a file, so nothing of them is taken for markup. */
function text(value: unknown): string {
  return String(value).replace(/[&<>"']/g, (sign) => escapes[sign] ?? sign);
}

/** JSON inside of a script element, which nothing in it can end. */
function json(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c');
}

/** A program inside of a script element; neither of ours has a string that would end it. */
function script(program: string): string {
  return program.replaceAll('</script', '<\\/script');
}

function tableOf(head: readonly string[], rows: readonly (readonly string[])[], kind = 'facts'): string {
  const headers = head.map((cell) => `<th scope="col">${text(cell)}</th>`).join('');
  const body = rows
    .map(
      ([first = '', ...rest]) =>
        `<tr><th scope="row">${text(first)}</th>${rest.map((cell) => `<td>${text(cell)}</td>`).join('')}</tr>`,
    )
    .join('\n');
  return `<div class="scroll" role="region" tabindex="0" aria-label="table"><table class="${kind}"><thead><tr>${headers}</tr></thead><tbody>\n${body}\n</tbody></table></div>`;
}

function adviceMarkup(advice: readonly Advice[]): string {
  return advice.length === 0
    ? '<p>Nothing that was measured differs enough to say which to take.</p>'
    : `<div class="advice">${advice.map((one) => `<div><h3>${text(one.title)}</h3><p>${text(one.text)}</p></div>`).join('\n')}</div>`;
}

/** What a chart shows, for those who hear it: each series from its first to its last figure. */
function summaryOf(chart: Chart): string {
  const parts = chart.series.map(({ name, points }) => {
    const measured = points.flatMap((point, index) =>
      point === null ? [] : [`${point.text} at ${chart.categories[index]}`],
    );
    const [first = 'nothing measured', ...rest] = measured;
    const last = rest.at(-1);
    return chart.kind === 'bars'
      ? measured.join('; ')
      : `${name}: ${first}${last === undefined ? '' : `, ${last}`}`;
  });
  const others =
    chart.references.length === 0
      ? ''
      : ` ${chart.references.length} figures of other systems are marked as lines.`;
  return `Chart: ${chart.title}. ${parts.join('. ')}.${others} The left and right arrow keys say all figures.`;
}

function chartMarkup(chart: Chart): string {
  const names = chart.series.map(({ name }) => name);
  const rows = chart.categories.map((category, index) => [
    category,
    ...chart.series.map(({ points }) => points[index]?.text ?? '-'),
  ]);
  return `<figure id="chart-${text(chart.id)}">
<figcaption><h3>${text(chart.title)}</h3><p>${text(chart.says)}</p></figcaption>
<div class="chart" role="group" tabindex="0" aria-label="${text(summaryOf(chart))}"><div class="plot" aria-hidden="true"></div></div>
<p class="readout" aria-live="polite"></p>
<details><summary>The figures of this chart</summary>
${tableOf(['', ...names], rows, 'figures')}
</details>
</figure>`;
}

function comparisonMarkup(comparison: Comparison, { unit }: BenchResult): string {
  const { changes, differences } = comparison;
  const rows = changed(comparison).map((change) => [
    caseText(change),
    figureText(change.operation, change.size, change.before.median, unit),
    figureText(change.operation, change.size, change.after.median, unit),
    changeText(change),
  ]);
  return `<section aria-labelledby="compared"><h2 id="compared">Compared with an earlier run</h2>
<p>${rows.length} of ${changes.length} figures have changed: their quartiles are apart, and their medians by ${LEAST_CHANGE * 100} % or more.</p>
${differences.map(({ what, before, after }) => `<p class="warning">Another machine, ${text(what)}: ${text(before)} before, ${text(after)} now.</p>`).join('\n')}
${rows.length === 0 ? '' : tableOf(['', 'before', 'now', ''], rows, 'figures')}
</section>`;
}

function publishedMarkup(): string {
  const rows = published.map(({ system, group, memory, value, how, source }) => [
    system,
    memory === null ? group : `${group}, ${memory}`,
    group === 'read' || group === 'write' ? bandwidthText(value) : timeText(value),
    how,
    source,
  ]);
  return `<section aria-labelledby="others"><h2 id="others">Figures of other systems</h2>
<p>Published by others, measured in other ways: dotted lines in the charts, to see in which range a system is. Nothing is computed from them.</p>
${tableOf(['system', 'for', 'figure', 'how', 'source'], rows)}
</section>`;
}

function methodMarkup(result: BenchResult): string {
  const measured = operationNames.filter((name) => result.measurements.some((one) => one.operation === name));
  const skipped = skippedByReason(result.skipped).map(({ names, reason }) => [names.join(', '), reason]);
  return `<section aria-labelledby="how"><h2 id="how">How it was measured</h2>
<p>Each figure is the median of samples, after a warm-up, repeated until the median was steady or its time was over; ± is half the distance of the quartiles. "Not steady" says that more samples might have moved the median by more than ${result.quick ? 2 : 1} %.</p>
${tableOf(
  ['operation', 'what it is'],
  measured.map((name) => [name, operation(name).says]),
)}
${skipped.length === 0 ? '' : `<h3>Not measured</h3>${tableOf(['', 'why'], skipped)}`}
</section>`;
}

/** The whole page. */
export function pageOf(result: BenchResult, comparison: Comparison | undefined, assets: Assets): string {
  const charts = chartsOf(result);
  const { machine } = result;
  const title = `What memory costs on ${machine.board ?? machine.cpu}`;
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>${text(title)}</title>
<style>
${assets.style}</style>
</head>
<body>
<a class="skip" href="#figures">To the figures</a>
<header>
<h1>${text(title)}</h1>
<p class="quiet">Measured by iospace ${text(result.iospace)} on ${text(result.startedAt.replace('T', ' ').replace(/\..*/, ' UTC'))} in ${text(result.seconds)} s${result.quick ? ', quickly' : ''}.</p>
</header>
<main>
${warnings(result)
  .map((warning) => `<p class="warning" role="note">${text(warning)}</p>`)
  .join('\n')}
<section aria-labelledby="advice"><h2 id="advice">Advice</h2>
${adviceMarkup(adviceOf(result))}
</section>
<section aria-labelledby="figures"><h2 id="figures">Figures</h2>
<div class="charts">
${charts.map(chartMarkup).join('\n')}
</div>
</section>
${comparison === undefined ? '' : comparisonMarkup(comparison, result)}
<section aria-labelledby="machine"><h2 id="machine">The machine</h2>
${tableOf(['', ''], machineFacts(machine))}
</section>
${publishedMarkup()}
${methodMarkup(result)}
</main>
<footer><p class="quiet">Charts: Apache ECharts (Apache License 2.0), which is in this page.</p></footer>
<script type="application/json" id="result">${json(result)}</script>
<script type="application/json" id="charts">${json(charts)}</script>
<script>${script(assets.library)}</script>
<script type="module">${script(assets.program)}</script>
</body>
</html>
`;
}
