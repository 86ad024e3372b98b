/**
 * A reporter of Vitest that writes what works where: a row for each machine of `test/machines.ts` and each board of
 * `test/boards.ts`, a column for each test that it runs. On the screen and in `build/matrix.json` and
 * `build/matrix.md`, from which the README has it. Below it stands what the programs skipped, and why.
 *
 * A machine that cannot be made has failed all its tests; one that ran none at all fails the run.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Reporter, TestCase, TestModule, TestSuite } from 'vitest/node';
import { chosenBoards } from './boards.js';
import { chosenMachines, kernelOf } from './machines.js';

const build = fileURLToPath(new URL('../build', import.meta.url));

declare module 'vitest' {
  interface TaskMeta {
    /** Why a program skipped some of its tests, once for each. */
    skips?: string[];
  }
}

/** `absent`: this machine has no such test. */
type State = 'passed' | 'failed' | 'absent';

/** The first column: whether the module builds for the row's kernel without a warning. */
const builds = 'module builds';

/** Whether something around the test failed, and with it the test, though Vitest has skipped it. */
function isBroken(parent: TestSuite | TestModule): boolean {
  return parent.errors().length > 0 || (parent.type === 'suite' && isBroken(parent.parent));
}

function stateOf(test: TestCase): State {
  const { state } = test.result();
  if (state === 'passed') {
    return 'passed';
  }
  return state === 'skipped' && !isBroken(test.parent) ? 'absent' : 'failed';
}

/** Each reason for which tests of a row's programs were skipped, and how often. */
function skipsOf(tests: readonly TestCase[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const reason of tests.flatMap((test) => test.meta().skips ?? [])) {
    counts[reason] = (counts[reason] ?? 0) + 1;
  }
  return counts;
}

/** Tests that differ by what follows a colon share a column. */
const columnOf = (test: TestCase) => test.name.replace(/: .*/, '');

class Table {
  /** By the row. */
  readonly skips = new Map<string, Record<string, number>>();
  readonly #cells = new Map<string, Map<string, State>>();
  readonly #columns = new Set<string>();

  /** Of several results for one cell, the worst counts. */
  add(row: string, column: string, state: State): void {
    this.#columns.add(column);
    const cells = this.#cells.get(row) ?? new Map<string, State>();
    const before = cells.get(column);
    if (before === undefined || before === 'absent' || state === 'failed') {
      cells.set(column, state);
    }
    this.#cells.set(row, cells);
  }

  get columns(): string[] {
    return [...this.#columns];
  }

  rows(): { row: string; cells: Record<string, State>; skips: Record<string, number> }[] {
    return [...this.#cells].map(([row, cells]) => ({
      row,
      skips: this.skips.get(row) ?? {},
      cells: Object.fromEntries(this.columns.map((column) => [column, cells.get(column) ?? 'absent'])),
    }));
  }

  markdown(): string {
    const line = (words: string[]) => `| ${words.join(' | ')} |`;
    const head = [line(['machine', ...this.columns]), line(['---', ...this.columns.map(() => '---')])];
    const shown = { passed: 'passed', failed: '**failed**', absent: '–' };
    const body = this.rows().map(({ row, cells }) =>
      line([row, ...this.columns.map((column) => shown[cells[column] ?? 'absent'])]),
    );
    const skips = this.rows().flatMap(({ row, skips }) =>
      Object.entries(skips).map(([reason, count]) => `- ${row}: ${count} skipped: ${reason}`),
    );
    return [...head, ...body, '', ...skips, ''].join('\n');
  }
}

/** What `test/lab/kernel-module.test.ts` says of a kernel: its tests are called `KERNEL ARCH: ...`. */
function buildStates(modules: readonly TestModule[]): Map<string, State> {
  const tests = modules
    .filter(({ moduleId }) => moduleId.endsWith('/kernel-module.test.ts'))
    .flatMap((module) => [...module.children.allTests()]);
  return new Map(tests.map((test) => [columnOf(test), stateOf(test)]));
}

export default class Matrix implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const table = new Table();
    const built = buildStates(modules);
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const missing: string[] = [];
    for (const [row, { boot }] of [...chosenMachines, ...chosenBoards]) {
      const { name, arch } = kernelOf(boot);
      table.add(row, builds, built.get(`${name} ${arch}`) ?? 'absent');
      const own = tests.filter(({ parent }) => parent.type === 'suite' && parent.name === row);
      for (const test of own) {
        table.add(row, columnOf(test), stateOf(test));
      }
      table.skips.set(row, skipsOf(own));
      if (own.every((test) => stateOf(test) === 'absent')) {
        missing.push(row);
      }
    }
    mkdirSync(build, { recursive: true });
    writeFileSync(`${build}/matrix.json`, `${JSON.stringify(table.rows(), null, 2)}\n`);
    writeFileSync(`${build}/matrix.md`, table.markdown());
    console.log(`\n${table.markdown()}`);
    if (missing.length > 0) {
      console.error(`no test ran on ${missing.join(', ')}`);
      process.exitCode = 1;
    }
  }
}
