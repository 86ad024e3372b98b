// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * An arena: physical memory that the system does not use, set aside for
 * windows for as long as the module is loaded.
 *
 * Owns the list of arenas, from the parameter "arena" and from the device tree,
 * the claim on their memory, and for each device the address at which it sees
 * them. The library divides an arena into blocks; the limits that it keeps are
 * published here. Takes memory_lock, and dma_lock under it.
 */
#define pr_fmt(format) KBUILD_MODNAME ": " format

#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/of.h>
#include <linux/of_address.h>
#include <linux/pci.h>

#include "compat.h"
#include "iospace.h"

#ifndef CONFIG_IOSPACE_ARENA_RESERVE_MIB
#define CONFIG_IOSPACE_ARENA_RESERVE_MIB 0
#endif
#ifndef CONFIG_IOSPACE_ARENA_MAX_BLOCKS
#define CONFIG_IOSPACE_ARENA_MAX_BLOCKS 0
#endif

/* Zeroed at once; then others may run. */
#define IOSPACE_ARENA_PIECE SZ_4M

static char *iospace_arena_parameter;
module_param_named(arena, iospace_arena_parameter, charp, 0444);
MODULE_PARM_DESC(
	arena,
	"Memory to set aside, which the system must not use: SIZE@ADDRESS[,...]");

unsigned long iospace_arena_reserve =
	CONFIG_IOSPACE_ARENA_RESERVE_MIB * (ulong)SZ_1M;
module_param_named(arena_reserve, iospace_arena_reserve, ulong, 0444);
MODULE_PARM_DESC(
	arena_reserve,
	"Bytes at the end of the arenas that are kept from general use");

unsigned int iospace_arena_max_blocks = CONFIG_IOSPACE_ARENA_MAX_BLOCKS;
module_param_named(arena_max_blocks, iospace_arena_max_blocks, uint, 0444);
MODULE_PARM_DESC(arena_max_blocks, "Most blocks of each arena, 0 for no limit");

static struct {
	struct iospace_range range;
	struct device_node *node; /* NULL if a parameter named it */
} iospace_arenas[IOSPACE_MAX_ARENAS];
static unsigned int iospace_arena_total;

unsigned int iospace_arena_count(void)
{
	return iospace_arena_total;
}

/** iospace_arena_bytes() - The size of an arena that there is */
u64 iospace_arena_bytes(u32 index)
{
	return iospace_range_size(&iospace_arenas[index].range);
}

/** iospace_arena_contains() - Is all of a range in one arena? */
bool iospace_arena_contains(const struct iospace_range *range)
{
	unsigned int i;

	for (i = 0; i < iospace_arena_total; i++) {
		if (iospace_range_contains(&iospace_arenas[i].range, range))
			return true;
	}
	return false;
}

/** iospace_arena_overlaps() - Is any of a range in an arena? */
bool iospace_arena_overlaps(const struct iospace_range *range)
{
	unsigned int i;

	for (i = 0; i < iospace_arena_total; i++) {
		if (iospace_range_overlaps(&iospace_arenas[i].range, range))
			return true;
	}
	return false;
}

/* Registers are no memory, and zeros in them may be orders. */
static bool iospace_arena_has_registers(const struct iospace_range *range)
{
	struct pci_dev *pdev = NULL;
	const struct resource *bar;
	int i;

	for_each_pci_dev(pdev) {
		for (i = 0; i < PCI_STD_NUM_BARS; i++) {
			bar = &pdev->resource[i];
			if (bar->parent &&
			    resource_type(bar) == IORESOURCE_MEM &&
			    bar->start <= range->end &&
			    bar->end >= range->start) {
				pci_dev_put(pdev);
				return true;
			}
		}
	}
	return false;
}

/* Does each page keep what is written to it? Not where there is nothing. */
static bool iospace_arena_is_memory(void *base, size_t size, u64 start)
{
	size_t at;

	for (at = 0; at < size; at += PAGE_SIZE)
		WRITE_ONCE(*(u64 *)(base + at), ~(start + at));
	iospace_memtype_flush(base, size);
	for (at = 0; at < size; at += PAGE_SIZE) {
		if (READ_ONCE(*(u64 *)(base + at)) != ~(start + at))
			return false;
	}
	return true;
}

/*
 * What a bootloader or an earlier owner left there is nobody's business. Where
 * caches are not coherent with what bypasses them, nothing must stay in one.
 * Return: NULL, or why it cannot be.
 */
static const char *iospace_arena_zero(const struct iospace_range *range)
{
	unsigned long type = IS_ENABLED(CONFIG_X86) ? MEMREMAP_WB : MEMREMAP_WC;
	u64 left = iospace_range_size(range);
	u64 at = range->start;

	while (left) {
		size_t size = min_t(u64, left, IOSPACE_ARENA_PIECE);
		void *base = memremap(at, size, type);
		bool is_memory;

		if (!base)
			return "cannot be mapped";
		is_memory = iospace_arena_is_memory(base, size, at);
		memset(base, 0, size);
		iospace_memtype_flush(base, size);
		memunmap(base);
		if (!is_memory)
			return "is no memory";
		at += size;
		left -= size;
		cond_resched();
	}
	return NULL;
}

static const char *iospace_arena_add_of(const struct iospace_range *range,
					struct device_node *node)
{
	const char *problem;

	if (iospace_arena_overlaps(range))
		return "overlaps another arena";
	if (iospace_arena_total == IOSPACE_MAX_ARENAS)
		return "is one arena too many";
	if (iospace_arena_has_registers(range))
		return "lies over registers of a device";
	if (!request_mem_region(range->start, iospace_range_size(range),
				"iospace arena"))
		return "belongs to another driver";
	problem = iospace_arena_zero(range);
	if (problem) {
		release_mem_region(range->start, iospace_range_size(range));
		return problem;
	}
	iospace_arenas[iospace_arena_total].range = *range;
	iospace_arenas[iospace_arena_total].node = of_node_get(node);
	iospace_arena_total++;
	return NULL;
}

/* For something else: whoever uses it need not have claimed it. */
static bool iospace_arena_is_reserved(const struct iospace_range *range)
{
	struct device_node *parent = of_find_node_by_path("/reserved-memory");
	struct device_node *node;
	struct resource res;
	bool found = false;

	if (!parent)
		return false;
	for_each_available_child_of_node(parent, node) {
		if (found || !of_find_property(node, "compatible", NULL) ||
		    of_device_is_compatible(node, "iospace,arena") ||
		    of_address_to_resource(node, 0, &res))
			continue;
		found = res.start <= range->end && res.end >= range->start;
	}
	of_node_put(parent);
	return found;
}

static const char *iospace_arena_add(const struct iospace_range *range)
{
	if (iospace_arena_is_reserved(range))
		return "is reserved by the device tree for something else";
	return iospace_arena_add_of(range, NULL);
}

/* A node of reserved memory. */
static const char *iospace_arena_add_node(struct device_node *node)
{
	struct iospace_range range;
	struct resource res;
	const char *problem;

	if (!of_property_read_bool(node, "no-map"))
		return "has no \"no-map\": the system uses its memory";
	if (of_address_to_resource(node, 0, &res))
		return "has no \"reg\"";
	problem = iospace_range_make(&range, res.start, resource_size(&res));
	if (!problem && iospace_range_is_ram(&range))
		problem = "lies over memory that the system uses";
	return problem ?: iospace_arena_add_of(&range, node);
}

static int iospace_arena_add_nodes(void)
{
	struct device_node *parent = of_find_node_by_path("/reserved-memory");
	struct device_node *node;
	const char *problem;
	int ret = 0;

	if (!parent)
		return 0;
	for_each_available_child_of_node(parent, node) {
		if (!of_device_is_compatible(node, "iospace,arena"))
			continue;
		problem = iospace_arena_add_node(node);
		if (!problem)
			continue;
		pr_err("arena %pOF %s\n", node, problem);
		of_node_put(node);
		ret = -EINVAL;
		break;
	}
	of_node_put(parent);
	return ret;
}

/* More than all of it cannot be kept. Where there is no arena nothing is. */
static int iospace_arena_check_reserve(void)
{
	u64 total = 0;
	unsigned int i;

	for (i = 0; i < iospace_arena_total; i++)
		total += iospace_range_size(&iospace_arenas[i].range);
	if (!total || iospace_arena_reserve <= total)
		return 0;
	pr_err("arena_reserve=%lu is more than the %llu bytes of the arenas\n",
	       iospace_arena_reserve, total);
	return -EINVAL;
}

int iospace_arena_init(void)
{
	int ret;

	ret = iospace_range_parse("arena", iospace_arena_parameter,
				  iospace_arena_add);
	if (!ret)
		ret = iospace_arena_add_nodes();
	if (!ret)
		ret = iospace_arena_check_reserve();
	if (ret)
		iospace_arena_exit();
	return ret;
}

void iospace_arena_exit(void)
{
	iospace_books_exit();
	while (iospace_arena_total) {
		struct iospace_range *range =
			&iospace_arenas[--iospace_arena_total].range;

		release_mem_region(range->start, iospace_range_size(range));
		of_node_put(iospace_arenas[iospace_arena_total].node);
	}
}

/*
 * Where the device sees an arena. Not through a mapping of pages: those may be
 * copied elsewhere, and arenas have no address in the kernel to copy from.
 */
static int iospace_arena_map(struct iospace_device *idev,
			     const struct iospace_range *range,
			     struct iospace_attachment *attachment)
{
	struct device *dev = idev->dev;
	size_t size = iospace_range_size(range);
	dma_addr_t addr;

	if (iospace_device_iommu(idev) == IOSPACE_IOMMU_TRANSLATING) {
		if (!iospace_can_map_resource(range->start))
			return -EOPNOTSUPP;
		/* Not under a mask that is lowered for someone else. */
		mutex_lock(&idev->dma_lock);
		addr = dma_map_resource(dev, range->start, size,
					DMA_BIDIRECTIONAL, 0);
		mutex_unlock(&idev->dma_lock);
		if (dma_mapping_error(dev, addr))
			return -ENOMEM;
		attachment->mapped = true;
	} else {
		dma_addr_t last = phys_to_dma(dev, range->end);

		addr = phys_to_dma(dev, range->start);
		/* An offset may hold for a part of it only, or for none. */
		if (addr == DMA_MAPPING_ERROR || last - addr != size - 1 ||
		    last > iospace_device_limit(idev, 0))
			return -EOPNOTSUPP;
	}
	attachment->addr = addr;
	attachment->attached = true;
	return 0;
}

static int iospace_arena_attach(struct iospace_device *idev, u32 index,
				u64 *addr)
{
	struct iospace_attachment *attachment = &idev->arenas[index];
	int ret = 0;

	mutex_lock(&idev->memory_lock);
	if (!attachment->attached)
		ret = iospace_arena_map(idev, &iospace_arenas[index].range,
					attachment);
	*addr = attachment->addr;
	mutex_unlock(&idev->memory_lock);
	return ret;
}

/**
 * iospace_arena_detach_all() - End the addresses that a device has of arenas
 * @idev: The device; quiet
 */
void iospace_arena_detach_all(struct iospace_device *idev)
{
	unsigned int i;

	mutex_lock(&idev->memory_lock);
	for (i = 0; i < iospace_arena_total; i++) {
		struct iospace_attachment *attachment = &idev->arenas[i];

		if (attachment->mapped)
			dma_unmap_resource(
				idev->dev, attachment->addr,
				iospace_range_size(&iospace_arenas[i].range),
				DMA_BIDIRECTIONAL, 0);
		*attachment = (struct iospace_attachment){};
	}
	mutex_unlock(&idev->memory_lock);
}

int iospace_arena_describe(struct iospace_file *file, void *args)
{
	struct iospace_arena *arena = args;
	u32 index = arena->index;
	u64 addr = 0;
	int ret;

	if (arena->flags & ~IOSPACE_ARENA_ATTACH || arena->__reserved)
		return -EINVAL;
	if (index >= iospace_arena_total)
		return -ENOENT;
	index = array_index_nospec(index, iospace_arena_total);

	if (arena->flags & IOSPACE_ARENA_ATTACH) {
		ret = iospace_arena_attach(file->idev, index, &addr);
		if (ret)
			return ret;
	}

	*arena = (struct iospace_arena){
		.size = arena->size,
		.flags = arena->flags,
		.index = arena->index,
		.out_address = iospace_arenas[index].range.start,
		.out_bytes = iospace_range_size(&iospace_arenas[index].range),
		.out_memory_types = iospace_memtype_all(),
		.out_dma_addr = addr,
	};
	if (iospace_memtype_side_by_side())
		arena->out_flags |= IOSPACE_ARENA_SIDE_BY_SIDE;
	if (iospace_arenas[index].node)
		strscpy(arena->out_name, iospace_arenas[index].node->full_name,
			sizeof(arena->out_name));
	return 0;
}
