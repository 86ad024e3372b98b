/**
 * What the commands print alike: sizes, counts, tables. Touches no terminal or environment.
 *
 * @module
 */

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** Bytes in the largest unit that leaves a whole part, with at most one digit after the point. */
export function sizeText(bytes: number): string {
  const power = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1);
  return `${Number((bytes / 1024 ** power).toFixed(1))} ${units[power]}`;
}

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
