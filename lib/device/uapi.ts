/**
 * The numbers of the contract with the kernel module that this library uses, under the names that they have in
 * kernel-module/uapi/iospace.h; a test compares the two.
 *
 * @module
 */
export const IOSPACE_MEMORY_CACHED = 1;
export const IOSPACE_MEMORY_WRITECOMBINE = 2;
export const IOSPACE_MEMORY_UNCACHED = 3;
export const IOSPACE_MEMORY_WRITETHROUGH = 4;
export const IOSPACE_MEMORY_COHERENT = 5;
export const IOSPACE_MEMORY_DEVICE = 6;

export const IOSPACE_ZONE_ANY = 0;
export const IOSPACE_ZONE_DMA = 1;
export const IOSPACE_ZONE_DMA32 = 2;
export const IOSPACE_ZONE_NORMAL = 3;

export const IOSPACE_POOL_NONE = 0;
export const IOSPACE_POOL_COHERENT = 1;
export const IOSPACE_POOL_CMA = 2;

export const IOSPACE_BUS_NONE = 0;
export const IOSPACE_BUS_PCI = 1;
export const IOSPACE_BUS_PLATFORM = 2;

export const IOSPACE_IOMMU_NONE = 0;
export const IOSPACE_IOMMU_IDENTITY = 1;
export const IOSPACE_IOMMU_TRANSLATING = 2;

export const IOSPACE_DIRECTION_TO_DEVICE = 1;
export const IOSPACE_DIRECTION_FROM_DEVICE = 2;
export const IOSPACE_DIRECTION_BIDIRECTIONAL = 3;

export const IOSPACE_ALLOC_CONTIGUOUS = 1 << 0;
export const IOSPACE_ALLOC_NEEDS_SYNC = 1 << 0;
export const IOSPACE_SYNC_FOR_DEVICE = 1 << 0;
export const IOSPACE_SYNC_FOR_CPU = 1 << 1;
export const IOSPACE_MAX_SYNC_RANGES = 65536;
export const IOSPACE_EXPORT_READ_ONLY = 1 << 0;
export const IOSPACE_ARENA_ATTACH = 1 << 0;
export const IOSPACE_ARENA_SIDE_BY_SIDE = 1 << 0;
export const IOSPACE_REGISTERS_MMAP = 1 << 0;
export const IOSPACE_REGISTERS_PORT = 1 << 1;
export const IOSPACE_REGISTERS_PREFETCHABLE = 1 << 2;
export const IOSPACE_INTERRUPT_ENABLE = 1 << 0;
export const IOSPACE_INTERRUPT_LEVEL = 1 << 0;
