// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Converted memory: pages that on x86-64 are uncached or write-combining.
 *
 * A page has one type there, everywhere: the kernel's own mapping of it is
 * changed before anyone else maps it, and changed back before the page is freed.
 * Each change stops all CPUs for a moment, so pages are converted in chunks, and
 * a device keeps its chunks until its last close.
 *
 * Owns the chunks of a device, and the parameter that limits them. Takes
 * memory_lock, and dma_lock under it.
 */
#include <linux/bitmap.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/set_memory.h>
#include <linux/slab.h>

#include "compat.h"
#include "iospace.h"

#ifndef CONFIG_IOSPACE_MAX_CONVERTED_MIB
#define CONFIG_IOSPACE_MAX_CONVERTED_MIB 64
#endif

/* 2 MiB: a large page of the kernel's mapping, which stays in one piece. */
#define IOSPACE_CHUNK_ORDER (PMD_SHIFT - PAGE_SHIFT)

static unsigned long iospace_max_converted_bytes =
	CONFIG_IOSPACE_MAX_CONVERTED_MIB * (ulong)SZ_1M;
module_param_named(max_converted_bytes, iospace_max_converted_bytes, ulong,
		   0644);
MODULE_PARM_DESC(
	max_converted_bytes,
	"Bytes of writecombine and uncached pages that one device may keep");

/**
 * struct iospace_chunk - Contiguous pages that were converted together
 * @node: In the device's list
 * @page: The first
 * @order: Of their number
 * @memory: Their type
 * @mapped: In the device's IOMMU
 * @addr: The first page as the device sees it
 * @used: Bit for each page that a buffer has
 * @stale: Bit for each page that a buffer had, and that is to be zeroed
 */
struct iospace_chunk {
	struct list_head node;
	struct page *page;
	unsigned int order;
	enum iospace_memory memory;
	bool mapped;
	dma_addr_t addr;
	unsigned long *used;
	unsigned long *stale;
};

/**
 * struct iospace_run - Pages of a buffer that follow one another: a segment
 * @chunk: Their chunk
 * @first: Index of the first in the chunk
 * @count: Their number
 */
struct iospace_run {
	struct iospace_chunk *chunk;
	unsigned int first;
	unsigned int count;
};

/**
 * struct iospace_converted - A buffer of converted pages
 * @buffer: Must be first
 * @runs: The buffer's segments
 */
struct iospace_converted {
	struct iospace_buffer buffer;
	struct iospace_run *runs;
};

/**
 * struct iospace_wish - What pages must be
 * @memory: Of this type
 * @zone: In this zone
 * @limit: Highest bus address
 * @step: Pages that a run's start is a multiple of, on the bus
 * @piece: Pages of each run, at least, but for the last
 * @boundary: Bus address, of which no run crosses a multiple; 0 for none
 */
struct iospace_wish {
	enum iospace_memory memory;
	enum iospace_zone zone;
	u64 limit;
	u64 step;
	u64 piece;
	u64 boundary;
};

/** iospace_converted_limit() - Bytes of them that a device may keep */
u64 iospace_converted_limit(void)
{
	return READ_ONCE(iospace_max_converted_bytes);
}

static size_t iospace_chunk_size(const struct iospace_chunk *chunk)
{
	return PAGE_SIZE << chunk->order;
}

static unsigned int iospace_chunk_pages(const struct iospace_chunk *chunk)
{
	return 1U << chunk->order;
}

static dma_addr_t iospace_chunk_addr(const struct iospace_chunk *chunk,
				     unsigned int page)
{
	return chunk->addr + ((dma_addr_t)page << PAGE_SHIFT);
}

/* Makes ordinary pages of them. False: some may not be, and stay for ever. */
static bool iospace_chunk_restore(struct iospace_device *idev,
				  struct iospace_chunk *chunk)
{
	if (!set_memory_wb((unsigned long)page_address(chunk->page),
			   iospace_chunk_pages(chunk)))
		return true;
	dev_err(idev->dev, "%zu bytes of pages stay converted, and are lost\n",
		iospace_chunk_size(chunk));
	return false;
}

static int iospace_chunk_convert(struct iospace_device *idev,
				 struct iospace_chunk *chunk)
{
	unsigned long address = (unsigned long)page_address(chunk->page);
	int count = iospace_chunk_pages(chunk);
	int ret;

	if (chunk->memory == IOSPACE_MEMORY_WRITECOMBINE)
		ret = set_memory_wc(address, count);
	else
		ret = set_memory_uc(address, count);
	if (ret)
		return -ENOMEM;

	/* To have asked is not enough: the page table must say so. */
	if (iospace_memtype_is((void *)address, chunk->memory) &&
	    iospace_memtype_is(
		    (void *)(address + iospace_chunk_size(chunk) - 1),
		    chunk->memory))
		return 0;
	return -EOPNOTSUPP;
}

/* Where the device sees it; never a copy elsewhere. -ERANGE: too high. */
static int iospace_chunk_map(struct iospace_device *idev,
			     struct iospace_chunk *chunk, u64 limit)
{
	size_t size = iospace_chunk_size(chunk);
	struct iospace_lowered_mask lowered;

	if (iospace_device_iommu(idev) != IOSPACE_IOMMU_TRANSLATING) {
		chunk->addr = phys_to_dma(idev->dev, page_to_phys(chunk->page));
		return chunk->addr + (size - 1) <= limit ? 0 : -ERANGE;
	}

	iospace_device_lower_mask(idev, limit, &lowered);
	chunk->addr = dma_map_page(idev->dev, chunk->page, 0, size,
				   DMA_BIDIRECTIONAL);
	chunk->mapped = !dma_mapping_error(idev->dev, chunk->addr);
	iospace_device_restore_mask(idev, &lowered);
	return chunk->mapped ? 0 : -ENOMEM;
}

/* Of a chunk in no list, whose pages are ordinary, or are lost. */
static void iospace_chunk_free(struct iospace_device *idev,
			       struct iospace_chunk *chunk, bool ordinary)
{
	if (chunk->mapped)
		dma_unmap_page(idev->dev, chunk->addr,
			       iospace_chunk_size(chunk), DMA_BIDIRECTIONAL);
	if (ordinary)
		__free_pages(chunk->page, chunk->order);
	bitmap_free(chunk->stale);
	bitmap_free(chunk->used);
	kfree(chunk);
}

static struct iospace_chunk *
iospace_chunk_alloc(struct iospace_device *idev,
		    const struct iospace_wish *wish, unsigned int order,
		    gfp_t gfp)
{
	struct iospace_chunk *chunk;
	bool ordinary = true;
	int ret = -ENOMEM;

	chunk = kzalloc(sizeof(*chunk), GFP_KERNEL_ACCOUNT);
	if (!chunk)
		return ERR_PTR(-ENOMEM);
	chunk->order = order;
	chunk->memory = wish->memory;
	chunk->used = bitmap_zalloc(1U << order, GFP_KERNEL_ACCOUNT);
	chunk->stale = bitmap_zalloc(1U << order, GFP_KERNEL_ACCOUNT);
	if (!chunk->used || !chunk->stale)
		goto free_chunk;
	chunk->page = alloc_pages(
		GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN | gfp, order);
	if (!chunk->page)
		goto free_chunk;

	ret = iospace_zone_has(wish->zone, chunk->page) ? 0 : -ENOMEM;
	if (!ret)
		ret = iospace_chunk_map(idev, chunk, wish->limit);
	if (ret)
		goto free_pages;
	ret = iospace_chunk_convert(idev, chunk);
	if (ret) {
		ordinary = iospace_chunk_restore(idev, chunk);
		goto free_pages;
	}
	list_add(&chunk->node, &idev->chunks);
	idev->converted_bytes += iospace_chunk_size(chunk);
	return chunk;

free_chunk:
	ordinary = false;
free_pages:
	iospace_chunk_free(idev, chunk, ordinary);
	return ERR_PTR(ret);
}

/* Makes ordinary pages of the chunks that nobody uses. False: of none. */
static bool iospace_converted_shrink(struct iospace_device *idev)
{
	struct iospace_chunk *chunk, *next;
	bool any = false;

	list_for_each_entry_safe(chunk, next, &idev->chunks, node) {
		if (!bitmap_empty(chunk->used, iospace_chunk_pages(chunk)))
			continue;
		list_del(&chunk->node);
		idev->converted_bytes -= iospace_chunk_size(chunk);
		iospace_chunk_free(idev, chunk,
				   iospace_chunk_restore(idev, chunk));
		any = true;
	}
	return any;
}

/**
 * iospace_converted_drain() - Give back what the device keeps for reuse
 * @idev: The device; quiet, and no buffer has any of it
 */
void iospace_converted_drain(struct iospace_device *idev)
{
	mutex_lock(&idev->memory_lock);
	iospace_converted_shrink(idev);
	mutex_unlock(&idev->memory_lock);
}

static bool iospace_wish_allows(const struct iospace_wish *wish,
				const struct iospace_chunk *chunk)
{
	return chunk->memory == wish->memory &&
	       iospace_zone_has(wish->zone, chunk->page) &&
	       chunk->addr + (iospace_chunk_size(chunk) - 1) <= wish->limit;
}

/*
 * Converts more pages: as many as a chunk has, or fewer where memory has no such
 * piece, or the limit no such room.
 */
static struct iospace_chunk *
iospace_converted_fill(struct iospace_device *idev,
		       const struct iospace_wish *wish)
{
	unsigned int least =
		max(order_base_2(wish->piece), order_base_2(wish->step));
	unsigned int order = max_t(unsigned int, least, IOSPACE_CHUNK_ORDER);
	u64 limit = iospace_converted_limit();
	enum iospace_zone zone = wish->zone;
	struct iospace_chunk *chunk;
	int ret;

	if (order >= BITS_PER_LONG - PAGE_SHIFT)
		return ERR_PTR(-ENOMEM);
	while ((PAGE_SIZE << order) + idev->converted_bytes > limit) {
		if (order == least)
			return ERR_PTR(-EDQUOT);
		order--;
	}

	for (;;) {
		/* Not to wait for what a smaller piece does as well. */
		gfp_t effort = order > least ? __GFP_NORETRY :
					       __GFP_RETRY_MAYFAIL;

		if (fatal_signal_pending(current))
			return ERR_PTR(-EINTR);
		cond_resched();
		chunk = iospace_chunk_alloc(idev, wish, order,
					    iospace_zone_gfp(zone) | effort);
		if (!IS_ERR(chunk))
			return chunk;

		ret = PTR_ERR(chunk);
		if (ret == -ERANGE)
			ret = iospace_zone_lower(&zone);
		else if (ret == -ENOMEM && order-- > least)
			ret = 0;
		if (ret)
			return ERR_PTR(ret);
	}
}

/* As iospace_converted_fill(), if need be with the room of what nobody uses. */
static struct iospace_chunk *
iospace_converted_grow(struct iospace_device *idev,
		       const struct iospace_wish *wish)
{
	struct iospace_chunk *chunk = iospace_converted_fill(idev, wish);

	if ((chunk == ERR_PTR(-EDQUOT) || chunk == ERR_PTR(-ENOMEM)) &&
	    iospace_converted_shrink(idev))
		chunk = iospace_converted_fill(idev, wish);
	return chunk;
}

static void iospace_converted_put(struct iospace_converted *converted)
{
	unsigned int i;

	for (i = 0; i < converted->buffer.segment_count; i++) {
		struct iospace_run *run = &converted->runs[i];

		bitmap_set(run->chunk->stale, run->first, run->count);
		bitmap_clear(run->chunk->used, run->first, run->count);
	}
	kvfree(converted->runs);
}

/* Pages from @page on that may be one run: up to the next boundary. */
static u64 iospace_wish_most(const struct iospace_wish *wish,
			     const struct iospace_chunk *chunk, u64 page)
{
	u64 within = iospace_chunk_addr(chunk, page) & (wish->boundary - 1);

	return wish->boundary ? (wish->boundary - within) >> PAGE_SHIFT :
				U64_MAX;
}

/* Takes free pages of a chunk, run by run, up to @left. Return: what is left. */
static u64 iospace_converted_take(struct iospace_converted *converted,
				  const struct iospace_wish *wish,
				  struct iospace_chunk *chunk, u64 left)
{
	u64 pages = iospace_chunk_pages(chunk);
	/* Where the first page lies between two places for a run to start. */
	u64 phase = (chunk->addr >> PAGE_SHIFT) & (wish->step - 1);
	u64 at = 0, count;

	for (; left; at += count) {
		at = find_next_zero_bit(chunk->used, pages, at);
		at = round_up(at + phase, wish->step) - phase;
		if (at >= pages)
			break;
		count = find_next_bit(chunk->used, pages, at) - at;
		count = min3(count, left, iospace_wish_most(wish, chunk, at));
		if (count < min(left, wish->piece))
			continue;

		bitmap_set(chunk->used, at, count);
		converted->runs[converted->buffer.segment_count++] =
			(struct iospace_run){ chunk, at, count };
		left -= count;
	}
	return left;
}

/* What is free is used first, however scattered; then more is converted. */
static int iospace_converted_gather(struct iospace_converted *converted,
				    const struct iospace_wish *wish)
{
	struct iospace_device *idev = converted->buffer.idev;
	u64 left = converted->buffer.size >> PAGE_SHIFT, before;
	struct iospace_chunk *chunk;

	list_for_each_entry(chunk, &idev->chunks, node) {
		if (iospace_wish_allows(wish, chunk))
			left = iospace_converted_take(converted, wish, chunk,
						      left);
	}
	while (left) {
		chunk = iospace_converted_grow(idev, wish);
		if (IS_ERR(chunk))
			return PTR_ERR(chunk);
		before = left;
		left = iospace_converted_take(converted, wish, chunk, left);
		/* The device may see it where an alignment cannot be had. */
		if (left == before)
			return -ENOMEM;
	}
	return 0;
}

/*
 * New pages are zeros. Others are made so through the kernel's mapping, which
 * has the type of all others: nothing of it stays in a cache.
 */
static void iospace_converted_zero(struct iospace_converted *converted)
{
	unsigned int i, page;

	for (i = 0; i < converted->buffer.segment_count; i++) {
		struct iospace_run *run = &converted->runs[i];

		for (page = run->first; page < run->first + run->count;
		     page++) {
			if (!test_bit(page, run->chunk->stale))
				continue;
			clear_page(page_address(run->chunk->page + page));
			cond_resched();
		}
	}
	/* What was combined in a buffer of the CPU is seen by all now. */
	wmb();
}

static void iospace_converted_release(struct iospace_buffer *buffer)
{
	iospace_converted_put(
		container_of(buffer, struct iospace_converted, buffer));
}

/*
 * In pieces, each of the type of its pages. The kernel keeps no books on a
 * mapping of RAM, and must not think that it does.
 */
static int iospace_converted_mmap(struct iospace_buffer *buffer,
				  struct vm_area_struct *vma)
{
	struct iospace_converted *converted =
		container_of(buffer, struct iospace_converted, buffer);
	pgprot_t prot = iospace_memtype_prot(buffer->memory, vma->vm_page_prot);
	unsigned long at = vma->vm_start;
	struct iospace_run *run;
	int ret;

	for (run = converted->runs; at < vma->vm_end; run++) {
		unsigned long size =
			min((unsigned long)run->count << PAGE_SHIFT,
			    vma->vm_end - at);

		ret = remap_pfn_range(
			vma, at, page_to_pfn(run->chunk->page) + run->first,
			size, prot);
		iospace_vma_untrack(vma);
		if (ret)
			return ret;
		at += size;
	}
	vma->vm_page_prot = prot;
	return 0;
}

static void iospace_converted_segments(struct iospace_buffer *buffer,
				       unsigned int first, unsigned int count,
				       struct iospace_segment *to)
{
	struct iospace_converted *converted =
		container_of(buffer, struct iospace_converted, buffer);
	struct iospace_run *run = &converted->runs[first];

	for (; count; count--, run++, to++) {
		to->dma_addr = iospace_chunk_addr(run->chunk, run->first);
		to->length = (u64)run->count << PAGE_SHIFT;
	}
}

static const struct iospace_buffer_ops iospace_converted_ops = {
	.release = iospace_converted_release,
	.mmap = iospace_converted_mmap,
	.segments = iospace_converted_segments,
};

/** iospace_converted_memory_types() - Bit for each type that pages can get */
u32 iospace_converted_memory_types(void)
{
	return iospace_memtype_all() & (BIT(IOSPACE_MEMORY_WRITECOMBINE) |
					BIT(IOSPACE_MEMORY_UNCACHED));
}

/* Of runs there are at most as many as pieces: the buffer has room for those. */
static struct iospace_wish
iospace_converted_wish(struct iospace_device *idev,
		       const struct iospace_alloc *alloc, size_t size)
{
	struct iospace_wish wish = {
		.memory = alloc->memory,
		.zone = alloc->zone,
		.limit = iospace_device_limit(idev, alloc->address_bits),
		.step = max_t(u64, alloc->align >> PAGE_SHIFT, 1),
		.boundary = alloc->boundary,
	};

	if (alloc->flags & IOSPACE_ALLOC_CONTIGUOUS)
		wish.piece = size >> PAGE_SHIFT;
	else
		wish.piece = wish.step;
	if (wish.boundary)
		wish.piece = min(wish.piece, wish.boundary >> PAGE_SHIFT);
	return wish;
}

/**
 * iospace_converted_alloc() - A buffer that no cache holds
 * @file: Who asks
 * @alloc: What was asked for; its form was checked
 *
 * Return: The buffer, or an error.
 */
struct iospace_buffer *
iospace_converted_alloc(struct iospace_file *file,
			const struct iospace_alloc *alloc)
{
	struct iospace_device *idev = file->idev;
	struct iospace_converted *converted;
	size_t size = PAGE_ALIGN(alloc->length);
	struct iospace_wish wish = iospace_converted_wish(idev, alloc, size);
	int ret;

	if (size > iospace_converted_limit())
		return ERR_PTR(-EDQUOT);

	converted = kzalloc(sizeof(*converted), GFP_KERNEL_ACCOUNT);
	if (!converted)
		return ERR_PTR(-ENOMEM);
	ret = iospace_buffer_init(&converted->buffer, file,
				  &iospace_converted_ops, alloc->memory, size,
				  size);
	if (ret)
		return ERR_PTR(ret);

	ret = -ENOMEM;
	converted->runs =
		kvmalloc_array(DIV_ROUND_UP(size >> PAGE_SHIFT, wish.piece),
			       sizeof(*converted->runs), GFP_KERNEL_ACCOUNT);
	if (!converted->runs)
		goto abort_buffer;

	mutex_lock(&idev->memory_lock);
	ret = iospace_converted_gather(converted, &wish);
	if (ret)
		iospace_converted_put(converted);
	mutex_unlock(&idev->memory_lock);
	if (ret)
		goto abort_buffer;

	iospace_converted_zero(converted);
	return &converted->buffer;

abort_buffer:
	iospace_buffer_abort(&converted->buffer);
	return ERR_PTR(ret);
}
