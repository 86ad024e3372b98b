/**
 * Where a device finds memory: the pieces that are contiguous for it.
 *
 * @module
 */
import { notSupported } from '../errors.js';

/** One piece of a buffer that is contiguous for the device. */
export interface DmaSegment {
  /** Its first byte as the device sees it. */
  readonly dmaAddress: bigint;
  /** Bytes, at least 1. */
  readonly length: number;
}

/**
 * The address of memory that is in one piece.
 *
 * @param instead - what else helps: `', or ...'`
 * @throws EOPNOTSUPP where there is no address (memfd), or no single one
 */
export function onlyAddress(segments: readonly DmaSegment[], instead = ''): bigint {
  const [first] = segments;
  if (first === undefined) {
    throw notSupported('dmaAddress', 'no device reaches this memory');
  }
  if (segments.length > 1) {
    throw notSupported(
      'dmaAddress',
      `this memory is in ${segments.length} pieces: tell the device its segments${instead}`,
    );
  }
  return first.dmaAddress;
}

/** The pieces of `segments` that lie in a range of the bytes which they make up together. */
export function cut(
  segments: readonly DmaSegment[],
  byteOffset: number,
  byteLength: number,
): readonly DmaSegment[] {
  const pieces: DmaSegment[] = [];
  let position = 0;
  for (const { dmaAddress, length } of segments) {
    const begin = Math.max(byteOffset, position);
    const end = Math.min(byteOffset + byteLength, position + length);
    if (begin < end) {
      pieces.push({ dmaAddress: dmaAddress + BigInt(begin - position), length: end - begin });
    }
    position += length;
  }
  return Object.freeze(pieces);
}

/** The same bytes, in pieces of at most `most`. */
export function split(segments: readonly DmaSegment[], most: number): readonly DmaSegment[] {
  const pieces: DmaSegment[] = [];
  for (const { dmaAddress, length } of segments) {
    for (let at = 0; at < length; at += most) {
      pieces.push({ dmaAddress: dmaAddress + BigInt(at), length: Math.min(most, length - at) });
    }
  }
  return Object.freeze(pieces);
}

/** What `console.log` shows of where memory lies; empty where no device reaches it. */
export function describePlace(segments: readonly DmaSegment[]): string {
  if (segments.length === 0) {
    return '';
  }
  return segments.length === 1
    ? `, dmaAddress: 0x${segments[0]?.dmaAddress.toString(16)}`
    : `, segments: ${segments.length}`;
}
