// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Cached buffers: ordinary pages, perhaps scattered, that the device reaches by a
 * streaming mapping. The CPU and the device take turns by SYNC.
 *
 * Chooses the pages, and shares them with the dma-bufs that were exported of them.
 * Takes dma_lock; is released under memory_lock.
 */
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "iospace.h"

#define IOSPACE_MAX_ORDER ilog2(MAX_ORDER_NR_PAGES)

/*
 * Largest block of pages that have one count. To unmap and free such a block takes
 * a fraction of what its pages take one by one, but a pinned page keeps all of it.
 * Less than a huge page: a fault must never map one by a single entry, which the
 * kernel does not count in mappings like ours.
 */
#define IOSPACE_BLOCK_ORDER get_order(SZ_1M)

/**
 * struct iospace_cached - A cached buffer
 * @buffer: What it is to others
 * @pages: Its pages, those that alignment costs beside included
 * @scatter: What the device sees of them
 */
struct iospace_cached {
	struct iospace_buffer buffer;
	struct iospace_pages *pages;
	struct iospace_scatter scatter;
};

static struct iospace_cached *iospace_cached_of(struct iospace_buffer *buffer)
{
	return container_of(buffer, struct iospace_cached, buffer);
}

/* Of what is more than it takes only the beginning is kept. */
static void iospace_cached_add_block(struct iospace_pages *pages,
				     struct page *page, unsigned int order,
				     unsigned long *count)
{
	unsigned long i;

	if (!PageCompound(page))
		split_page(page, order);
	for (i = 0; i < 1UL << order; i++) {
		if (*count < pages->count)
			pages->array[(*count)++] = page + i;
		else
			__free_page(page + i);
	}
}

/*
 * Large blocks first, for few segments; the larger ones only where they cost no
 * reclaiming. Where the device reaches less than all memory, the page allocator
 * is led there by its zones, as the DMA API does it.
 */
static int iospace_cached_get_pages(struct iospace_device *idev,
				    struct iospace_pages *pages,
				    const struct iospace_demand *demand,
				    enum iospace_zone zone)
{
	const enum iospace_zone asked = zone;
	u64 highest = demand->translating ?
			      U64_MAX :
			      dma_to_phys(idev->dev, demand->limit);
	unsigned int order,
		least = get_order(demand->one_block ?
					  pages->count << PAGE_SHIFT :
					  demand->align);
	unsigned long count = 0;
	struct page *page;

	if (least > IOSPACE_MAX_ORDER)
		return -ENOMEM;

	for (order = IOSPACE_BLOCK_ORDER; count < pages->count;) {
		gfp_t gfp = IOSPACE_GFP_MAPPED | __GFP_ZERO | __GFP_NOWARN |
			    iospace_zone_gfp(zone);
		unsigned long missing = pages->count - count;

		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();

		order = max(least, min_t(unsigned int, order, ilog2(missing)));
		if (order <= IOSPACE_BLOCK_ORDER && 1UL << order <= missing)
			gfp |= __GFP_COMP;
		page = alloc_pages(gfp | (order > least ? __GFP_NORETRY :
							  __GFP_RETRY_MAYFAIL),
				   order);
		if (!page && order == least)
			return -ENOMEM;
		if (!page) {
			order--;
			continue;
		}
		if (page_to_phys(page) + (PAGE_SIZE << order) - 1 > highest) {
			__free_pages(page, order);
			if (iospace_zone_lower(&zone))
				return -ENOMEM;
			continue;
		}
		iospace_cached_add_block(pages, page, order, &count);
		if (!iospace_zone_has(asked, page))
			return -ENOMEM;
	}
	return 0;
}

/* Pages, and the device's view of them; or nothing. */
static int iospace_cached_obtain(struct iospace_device *idev,
				 struct iospace_cached *cached,
				 const struct iospace_demand *demand,
				 enum iospace_zone zone)
{
	int ret;

	ret = iospace_cached_get_pages(idev, cached->pages, demand, zone);
	if (ret)
		goto put_pages;
	cached->scatter = (struct iospace_scatter){
		.idev = idev,
		.direction = DMA_BIDIRECTIONAL,
		.size = cached->buffer.size,
	};
	ret = iospace_scatter_map(&cached->scatter, cached->pages->array,
				  cached->pages->count << PAGE_SHIFT, demand);
	if (ret)
		goto put_pages;

	cached->buffer.segment_count = cached->scatter.segment_count;
	cached->buffer.needs_sync = cached->scatter.needs_sync;
	return 0;

put_pages:
	iospace_pages_clear(cached->pages);
	return ret;
}

static void iospace_cached_release(struct iospace_buffer *buffer)
{
	struct iospace_cached *cached = iospace_cached_of(buffer);

	iospace_scatter_unmap(&cached->scatter, false);
	cached->pages->buffer = NULL;
	cached->pages->scatter = NULL;
	/* Charged are now the pages, until their last user has gone. */
	iospace_charge_move(&cached->pages->charge, &buffer->charge);
	iospace_pages_put(cached->pages);
}

/* Ordinary memory, whole: reading it takes no fault, pinning it works. */
static int iospace_cached_mmap(struct iospace_buffer *buffer,
			       struct vm_area_struct *vma)
{
	unsigned long count = vma_pages(vma);

	iospace_vma_flags(vma, VM_DONTEXPAND | VM_DONTDUMP, 0);
	return vm_insert_pages(vma, vma->vm_start,
			       iospace_cached_of(buffer)->pages->array, &count);
}

/* madvise() took the page out. */
static vm_fault_t iospace_cached_fault(struct iospace_buffer *buffer,
				       struct vm_fault *vmf, unsigned long page)
{
	vmf->page = iospace_cached_of(buffer)->pages->array[page];
	get_page(vmf->page);
	return 0;
}

static void iospace_cached_segments(struct iospace_buffer *buffer,
				    unsigned int first, unsigned int count,
				    struct iospace_segment *to)
{
	iospace_scatter_segments(&iospace_cached_of(buffer)->scatter, first,
				 count, to);
}

static void iospace_cached_sync(struct iospace_buffer *buffer, u64 offset,
				u64 length, u32 flags)
{
	iospace_scatter_sync(&iospace_cached_of(buffer)->scatter, offset,
			     length, flags);
}

static struct iospace_pages *iospace_cached_pages(struct iospace_buffer *buffer)
{
	return iospace_cached_of(buffer)->pages;
}

static const struct iospace_buffer_ops iospace_cached_ops = {
	.release = iospace_cached_release,
	.mmap = iospace_cached_mmap,
	.fault = iospace_cached_fault,
	.segments = iospace_cached_segments,
	.sync = iospace_cached_sync,
	.pages = iospace_cached_pages,
};

/* An IOMMU may make one segment of scattered pages. If not, one block does. */
static int iospace_cached_fill(struct iospace_cached *cached,
			       const struct iospace_alloc *alloc)
{
	struct iospace_device *idev = cached->buffer.idev;
	bool contiguous = alloc->flags & IOSPACE_ALLOC_CONTIGUOUS;
	struct iospace_demand demand = {
		.limit = iospace_device_limit(idev, alloc->address_bits),
		.align = max_t(u64, alloc->align, PAGE_SIZE),
		.boundary = alloc->boundary,
		.translating = iospace_device_iommu(idev) ==
			       IOSPACE_IOMMU_TRANSLATING,
	};
	int ret;

	demand.one_block = contiguous && !demand.translating;
	ret = iospace_cached_obtain(idev, cached, &demand, alloc->zone);
	if (ret || !contiguous || cached->buffer.segment_count == 1)
		return ret;

	iospace_scatter_unmap(&cached->scatter, false);
	iospace_pages_clear(cached->pages);
	if (demand.one_block)
		return -ENOMEM;
	demand.one_block = true;
	return iospace_cached_obtain(idev, cached, &demand, alloc->zone);
}

struct iospace_buffer *iospace_cached_alloc(struct iospace_file *file,
					    const struct iospace_alloc *alloc)
{
	size_t size = PAGE_ALIGN(alloc->length);
	size_t align = max_t(u64, alloc->align, PAGE_SIZE);
	struct iospace_cached *cached;
	unsigned long count;
	int ret;

	/* Each segment would be smaller than what it is aligned to. */
	if (alloc->boundary && alloc->boundary < min(align, size))
		return ERR_PTR(-EOPNOTSUPP);

	cached = kzalloc(sizeof(*cached), GFP_KERNEL_ACCOUNT);
	if (!cached)
		return ERR_PTR(-ENOMEM);
	ret = iospace_buffer_init(&cached->buffer, file, &iospace_cached_ops,
				  alloc->memory, size, round_up(size, align));
	if (ret)
		return ERR_PTR(ret);

	/* More than there is at all would push out everything else first. */
	count = cached->buffer.charge.bytes >> PAGE_SHIFT;
	ret = -ENOMEM;
	if (count > totalram_pages())
		goto abort_buffer;
	cached->pages = iospace_pages_create(count);
	if (!cached->pages)
		goto abort_buffer;
	ret = iospace_cached_fill(cached, alloc);
	if (ret)
		goto put_pages;
	cached->pages->buffer = &cached->buffer;
	cached->pages->scatter = &cached->scatter;
	return &cached->buffer;

put_pages:
	iospace_pages_put(cached->pages);
abort_buffer:
	iospace_buffer_abort(&cached->buffer);
	return ERR_PTR(ret);
}
