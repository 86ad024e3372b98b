/** Every kind of memory that a program can have of a device, each to be held while something ends. */
import type { DmaDevice, MappedBytes } from 'iospace';

/** A kind of memory, and how it is made. */
export interface Kind {
  name: string;
  /** Whether it is new memory, and not a window on what was there before. */
  isNew: boolean;
  make(): MappedBytes;
}

/** The kinds that a device has: every type of buffer, blocks of a pool, every window of the first arena. */
export function kindsOf(device: DmaDevice, byteLength: number): Kind[] {
  const [arena] = device.arenas;
  return [
    ...device.info.memoryTypes.map((memory) => ({
      name: memory,
      isNew: true,
      make: () => device.alloc(byteLength, { memory }),
    })),
    { name: 'pool', isNew: true, make: () => device.pool(byteLength, { zero: true }).alloc() },
    ...(arena?.memoryTypes ?? []).map((memory, index) => ({
      name: `${memory} window`,
      isNew: false,
      make: () => arena?.window(memory, { offset: index * byteLength, length: byteLength }) as MappedBytes,
    })),
  ];
}

/** One of each kind. */
export function holdEach(device: DmaDevice, byteLength: number): { kind: Kind; memory: MappedBytes }[] {
  return kindsOf(device, byteLength).map((kind) => ({ kind, memory: kind.make() }));
}
