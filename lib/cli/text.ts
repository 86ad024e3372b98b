/**
 * What the commands print alike: counts, tables, and text of others without what a terminal takes for a command. Touches no
 * terminal or environment.
 *
 * @module
 */

/** `1 block`, `2 blocks`. */
export function countText(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

/** A column of a table; numbers stand to the right. */
export interface Column<Row> {
  head: string;
  right?: boolean;
  cell: (row: Row) => string;
  /** What becomes of the cell where there are colours. */
  colour?: (text: string, row: Row) => string;
}

/**
 * Names, tags and programs are what anybody called them: nothing of them reaches the terminal as a command, or turns the
 * line around.
 */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (sign) => {
    const code = sign.codePointAt(0) ?? 0;
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  });
}

/** The same of text that has lines of its own. */
export function plainLines(text: string): string {
  return text.split('\n').map(plain).join('\n');
}

export function tableText<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const filled = columns.map(({ head, right, cell, colour }) => {
    const cells = [head, ...rows.map((row) => plain(cell(row)))];
    const width = Math.max(...cells.map(({ length }) => length));
    return cells.map((text, line) => {
      const row = rows[line - 1];
      const shown = colour === undefined || row === undefined ? text : colour(text, row);
      const space = ' '.repeat(width - text.length);
      return right ? space + shown : shown + space;
    });
  });
  return [...Array(rows.length + 1).keys()]
    .map((line) =>
      filled
        .map((cells) => cells[line])
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
