/**
 * Locks of bytes of a file, which end with who has them: what a mutex and the sides of a ring are held by.
 *
 * @module
 */
import { binding, type NativeByteLocks } from '../binding.js';
import { explained } from '../errors.js';

/**
 * Opens the file of a descriptor anew, for locks of its own.
 *
 * @throws EACCES, EBADF of the descriptor; EMFILE
 */
export function openByteLocks(fd: number): NativeByteLocks {
  const hints = {
    EACCES: `the file of descriptor ${fd} may not be opened for reading and writing`,
    EBADF: `descriptor ${fd} is not open`,
  };
  return explained({}, hints, () => new (binding().ByteLocks)(fd));
}
