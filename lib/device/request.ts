/**
 * A request for memory: its options, and how it is met.
 *
 * @module
 */
import { checkBoolean, checkInteger, checkOneOf, checkOptions, checkPowerOfTwo } from '../check.js';
import { isSystemError, outOfRange } from '../errors.js';
import { type MemoryType, memoryTypes, type Zone, zones } from './memory.js';
import type { MemoryRequest, ProvidedMemory, Provider } from './provider.js';
import { alternatives } from './refusal.js';

/** Who watches whose turn it is. */
const ownerships = ['unchecked', 'checked'] as const;

/** What memory to allocate. */
export interface AllocOptions {
  /** @defaultValue `'coherent'`; `'cached'` with memfd */
  memory?: MemoryType;
  /** Whether it must be in one piece for the device. Coherent memory always is. @defaultValue false */
  contiguous?: boolean;
  /** What its bus address, and that of each further segment, is a multiple of: a power of two. @defaultValue a page */
  align?: number;
  /**
   * No segment crosses a multiple of this bus address: a power of two, at least a page, and at least `byteLength` where it
   * must be in one piece. @defaultValue none
   */
  boundary?: number;
  /** Where in physical memory it lies. @defaultValue wherever the device reaches */
  zone?: Zone;
  /** All of its bus addresses are below 2 to the power of this: 8 to 64. @defaultValue what the device reaches */
  addressBits?: number;
  /**
   * Whether to take the next best type where the one asked for cannot be had: `buffer.memory.effective` names it. One that
   * needs `sync` is taken in place of one that does not only where there is no other. @defaultValue false
   *
   * | asked for | next best, in this order |
   * |---|---|
   * | `cached` | `coherent`, `writecombine`, `uncached` |
   * | `writecombine` | `coherent`, `uncached`, `cached` |
   * | `uncached` | `writecombine`, `coherent`, `cached` |
   * | `writethrough` | `cached`, `coherent`, `writecombine`, `uncached` |
   * | `coherent` | `writecombine`, `uncached`, `cached`, in one piece |
   */
  fallback?: boolean;
  /**
   * With `'checked'`, for debugging, the memory is not there in the device's turn: `syncForDevice()` detaches the
   * ArrayBuffer, so that every view of it has length 0, and `buffer`, `bytes` and `view()` throw ERR_INVALID_STATE;
   * `syncForCpu()` makes another one over the same memory. Two syncs of the same kind in a row throw too. It begins in the
   * CPU's turn, and changes hands as a whole: no ranges, no slices. @defaultValue `'unchecked'`
   */
  ownership?: (typeof ownerships)[number];
}

/** The options, every one checked and filled in. */
export function checkAllocOptions(
  byteLength: number,
  options: AllocOptions | undefined,
  { defaultMemory, info }: Provider,
): MemoryRequest & { readonly fallback: boolean; readonly checked: boolean } {
  const known = checkOptions(options, [
    'memory',
    'contiguous',
    'align',
    'boundary',
    'zone',
    'addressBits',
    'fallback',
    'ownership',
  ]);
  const {
    memory = defaultMemory,
    contiguous = false,
    align,
    boundary,
    zone,
    addressBits,
    fallback = false,
    ownership = 'unchecked',
  } = known;
  checkOneOf('memory', memory, memoryTypes);
  checkBoolean('contiguous', contiguous);
  checkBoolean('fallback', fallback);
  checkOneOf('ownership', ownership, ownerships);
  if (align !== undefined) {
    checkPowerOfTwo('align', align, 1);
  }
  if (boundary !== undefined) {
    checkPowerOfTwo('boundary', boundary, info.pageSize);
    if (boundary < byteLength && (contiguous || memory === 'coherent')) {
      throw outOfRange('boundary', `at least the ${byteLength} bytes, which must be in one piece`, boundary);
    }
  }
  if (zone !== undefined) {
    checkOneOf('zone', zone, zones);
  }
  if (addressBits !== undefined) {
    checkInteger('addressBits', addressBits, 8, 64);
  }
  return {
    memory,
    contiguous,
    align: align ?? 0,
    boundary: boundary ?? 0,
    zone,
    addressBits: addressBits ?? 0,
    fallback,
    checked: ownership === 'checked',
  };
}

/** Has a provider give memory: what was asked for, or, with `fallback`, the next best that there is. */
export function allocate(
  provider: Provider,
  byteLength: number,
  request: MemoryRequest,
  fallback: boolean,
): ProvidedMemory {
  try {
    return provider.alloc(byteLength, request);
  } catch (error) {
    if (!fallback || !isSystemError(error, 'EOPNOTSUPP')) {
      throw error;
    }
    // What stands for coherent memory has one address, as that has.
    const contiguous = request.contiguous || request.memory === 'coherent';
    // Coherent memory, in one piece, cannot keep a boundary that is shorter.
    const { boundary } = request;
    const fits = (memory: MemoryType): boolean =>
      memory !== 'coherent' || boundary === 0 || boundary >= byteLength;
    for (const memory of alternatives(request.memory, provider.info).filter(fits)) {
      try {
        return provider.alloc(byteLength, { ...request, memory, contiguous });
      } catch (other) {
        if (!isSystemError(other, 'EOPNOTSUPP')) {
          throw other;
        }
      }
    }
    throw error;
  }
}
