/**
 * What the commands take: numbers of bytes, and the names of commands.
 *
 * @module
 */
import { type Command, InvalidArgumentError } from 'commander';

const powers = { '': 0, K: 1, M: 2, G: 3, T: 4 };

/**
 * What reads `64M`, `64MiB`, `67108864` or `0x4000000`.
 *
 * @param least - 0 or 1
 */
export function bytes(least: 0 | 1): (value: string) => number {
  return (value) => {
    const [, hex, digits, unit = ''] = /^(?:(0x[\da-f]+)|(\d+)([KMGT]?)(?:i?B)?)$/i.exec(value) ?? [];
    const number = Number(hex ?? digits) * 1024 ** powers[unit.toUpperCase() as keyof typeof powers];
    if (!(number >= least && Number.isSafeInteger(number))) {
      throw new InvalidArgumentError(
        `expected a number of bytes${least === 0 ? '' : ', above 0'}: 67108864, or 64M`,
      );
    }
    return number;
  };
}

/** Adds a command that a group of commands runs where none is named; a word that is none of them is refused as that. */
export function defaultCommand(group: Command, name: string): Command {
  group.hook('preSubcommand', (_, chosen) => {
    const [word] = group.args;
    if (
      word !== undefined &&
      chosen.name() === name &&
      ![name, 'help'].includes(word) &&
      !word.startsWith('-')
    ) {
      const names = group.commands.map((command) => command.name());
      group.error(`error: unknown command '${word}': expected one of ${names.join(', ')}`);
    }
  });
  return group.command(name, { isDefault: true });
}
