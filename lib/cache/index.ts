/**
 * `iospace/cache`: cache maintenance by range, and copies in and out of memory that no cache holds, at the speed that the
 * hardware allows.
 *
 * @module
 */
export type { CodedError, SystemError } from '../errors.js';
export {
  type CompareOptions,
  type CopyFromOptions,
  type CopyToOptions,
  compare,
  copyFrom,
  copyTo,
  type FillOptions,
  fill,
} from './copy.js';
export {
  type CacheCapabilities,
  type CacheRange,
  capabilities,
  clean,
  /** As older texts call {@link clean}. */
  clean as dmaCacheWback,
  flush,
  /** As older texts call {@link flush}. */
  flush as dmaCacheWbackInv,
  invalidate,
  /** As older texts call {@link invalidate}. */
  invalidate as dmaCacheInv,
  type MaintainedBy,
} from './maintenance.js';
export type { CopyMemory, Memory } from './memory.js';
