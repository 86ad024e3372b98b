/**
 * Cache maintenance through the kernel module, where the processor or its kernel keeps the instructions from programs:
 * memory that is mapped for a device that does not snoop, and unmapped, has been written back and invalidated.
 *
 * @module
 */
import { binding } from '../binding.js';
import { DEFAULT_DEVICE, openIospace } from '../device/iospace.js';
import type { Provider } from '../device/provider.js';
import { isSystemError, notSupported } from '../errors.js';

/** What becomes of the lines of a range. */
export type Operation = 'clean' | 'invalidate' | 'flush';

/** What of the module's own device this takes. */
export type Maintainer = Pick<Provider, 'info' | 'mapUser'>;

let opened: Provider | undefined;

/**
 * The module's own device, opened at the first use.
 *
 * @throws EACCES where this user may not open it; EOPNOTSUPP, with the reason, where the module cannot do it either
 */
export function maintainer(open: () => Maintainer = openOnce): Maintainer {
  let device: Maintainer;
  try {
    device = open();
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) {
      throw notSupported(
        'cache',
        'this processor has no cache maintenance for programs, and the kernel module, which has, is not loaded: sudo modprobe iospace',
      );
    }
    throw error;
  }
  if (device.info.coherent) {
    throw notSupported(
      'cache',
      'this processor has no cache maintenance for programs, and to the kernel all devices snoop here: it has none either',
    );
  }
  return device;
}

function openOnce(): Provider {
  opened ??= openIospace(binding(), DEFAULT_DEVICE);
  return opened;
}

/** Maintains the lines of some bytes, by two system calls. */
export function maintainByModule(device: Maintainer, operation: Operation, bytes: Uint8Array): void {
  try {
    // What a device only reads is written back, and not looked at again.
    device.mapUser(bytes, operation === 'clean' ? 'toDevice' : 'bidirectional').free();
  } catch (error) {
    if (device === opened && isSystemError(error, 'ENODEV')) {
      // It was unbound; when it is bound again it is another one.
      opened.close();
      opened = undefined;
    }
    throw error;
  }
}
