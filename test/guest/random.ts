/** Random numbers that can be had again, by their seed. */
import { randomInt } from 'node:crypto';

/** Where the numbers of a run begin: a test that uses it has it in its name. */
export const seed = Number(process.env['IOSPACE_SEED'] ?? randomInt(1, 2 ** 31));

export interface Random {
  /** From 0 to `limit - 1`. */
  below(limit: number): number;
  pick<T>(from: readonly T[]): T;
  /** Bytes none of which is 0 or 0xee: memory that nobody wrote is told from them. */
  bytes(length: number): Uint8Array;
}

export function randomFrom(start: number): Random {
  let state = start;
  /** A number of 32 bits. Marsaglia, "Xorshift RNGs", 2003. */
  const random = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  const below = (limit: number): number => random() % limit;
  return {
    below,
    pick: <T>(from: readonly T[]): T => from[below(from.length)] as T,
    bytes: (length) => new Uint8Array(length).map(() => 1 + below(0xed)),
  };
}
