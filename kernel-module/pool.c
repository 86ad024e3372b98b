// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The device's own pool: a "shared-dma-pool" region of the device tree that its
 * "memory-region" names.
 *
 * Owns which region that is, and what it can give. The kernel's DMA API takes
 * memory from it; but of a "reusable" region it says nothing when that is full,
 * and gives the system's memory instead. So whoever allocates asks
 * iospace_pool_holds() before anyone else sees the memory.
 */
#include <linux/dma-map-ops.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>

#include "iospace.h"

static enum iospace_pool iospace_pool_kind(struct device_node *region)
{
	if (!of_device_is_compatible(region, "shared-dma-pool") ||
	    !of_device_is_available(region))
		return IOSPACE_POOL_NONE;
	return of_property_read_bool(region, "reusable") ?
		       IOSPACE_POOL_CMA :
		       IOSPACE_POOL_COHERENT;
}

/**
 * iospace_pool_init() - Give a device its pool, if its node names one
 * @idev: The device, not yet published
 *
 * The first such region: the kernel has room for one in a device. Other regions
 * that the node names are not the DMA API's.
 *
 * Return: 0, with a pool or without; or why the kernel cannot use the region.
 */
int iospace_pool_init(struct iospace_device *idev)
{
	struct device_node *node = idev->dev->of_node, *region;
	enum iospace_pool kind;
	struct reserved_mem *memory;
	int i, ret;

	for (i = 0; (region = of_parse_phandle(node, "memory-region", i));
	     i++) {
		kind = iospace_pool_kind(region);
		memory = of_reserved_mem_lookup(region);
		of_node_put(region);
		if (kind == IOSPACE_POOL_NONE)
			continue;

		ret = -ENODEV;
		if (memory)
			ret = of_reserved_mem_device_init_by_idx(idev->dev,
								 node, i);
		if (ret)
			return dev_err_probe(
				idev->dev, ret,
				"memory-region %d cannot be used as a pool\n",
				i);
		idev->pool = (struct iospace_pool_region){
			.kind = kind,
			.start = memory->base,
			.bytes = memory->size,
		};
		return 0;
	}
	return 0;
}

/* All of its memory has been given back. Without a pool this does nothing. */
void iospace_pool_release(struct iospace_device *idev)
{
	of_reserved_mem_device_release(idev->dev);
}

bool iospace_pool_holds(struct iospace_device *idev, phys_addr_t start,
			u64 length)
{
	const struct iospace_pool_region *pool = &idev->pool;

	return start >= pool->start && length <= pool->bytes &&
	       start - pool->start <= pool->bytes - length;
}

/**
 * iospace_pool_memory_types() - What a pool leaves of a device's memory types
 * @idev: The device
 *
 * A pool is all the memory that its device shall have. Ordinary pages come from
 * elsewhere. And the kernel hands out a "no-map" region untranslated, behind an
 * IOMMU too; and zeroes it around the cache, through which programs would see
 * the memory of a device that snoops, and in it what an earlier owner left.
 *
 * Return: bits (1 << enum iospace_memory) that ALLOC may give.
 */
u32 iospace_pool_memory_types(struct iospace_device *idev)
{
	switch (idev->pool.kind) {
	case IOSPACE_POOL_NONE:
		return U32_MAX;
	case IOSPACE_POOL_COHERENT:
		if (dev_is_dma_coherent(idev->dev) ||
		    iospace_device_iommu(idev) == IOSPACE_IOMMU_TRANSLATING)
			return 0;
		break;
	case IOSPACE_POOL_CMA:
		break;
	}
	return ~(u32)BIT(IOSPACE_MEMORY_CACHED);
}
