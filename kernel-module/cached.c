// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Cached buffers: ordinary pages, perhaps scattered, that the device reaches by a
 * streaming mapping. The CPU and the device take turns by SYNC.
 *
 * Owns the pages, of which each has a count of its own: user space may pin them,
 * and they outlive the buffer then. Takes dma_lock; is released under
 * memory_lock.
 */
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "iospace.h"

#define IOSPACE_MAX_ORDER ilog2(MAX_ORDER_NR_PAGES)

/**
 * struct iospace_piece - What is contiguous for the device
 * @addr: Its first byte as the device sees it
 * @offset: Its first byte in the buffer
 */
struct iospace_piece {
	dma_addr_t addr;
	u64 offset;
};

/**
 * struct iospace_cached - A cached buffer
 * @buffer: What it is to others
 * @pages: Its pages, those that alignment costs beside included
 * @page_count: Of @pages
 * @table: Their mapping for the device
 * @pieces: The buffer's segments, and one more with the offset of its end
 */
struct iospace_cached {
	struct iospace_buffer buffer;
	struct page **pages;
	unsigned long page_count;
	struct sg_table table;
	struct iospace_piece *pieces;
};

/**
 * struct iospace_demand - What its pages and segments must be
 * @zone: In this zone
 * @limit: Highest bus address
 * @align: Of each segment's address, at least a page
 * @boundary: Which no segment crosses a multiple of; 0 for none
 * @one_block: All of it from one block of the page allocator
 * @translating: Behind an IOMMU, which puts scattered pages together
 */
struct iospace_demand {
	enum iospace_zone zone;
	u64 limit;
	size_t align;
	u64 boundary;
	bool one_block;
	bool translating;
};

static struct iospace_cached *iospace_cached_of(struct iospace_buffer *buffer)
{
	return container_of(buffer, struct iospace_cached, buffer);
}

static void iospace_cached_add_block(struct iospace_cached *cached,
				     struct page *page, unsigned int order,
				     unsigned long *count)
{
	unsigned long i;

	split_page(page, order);
	for (i = 0; i < 1UL << order; i++) {
		if (*count < cached->page_count)
			cached->pages[(*count)++] = page + i;
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
				    struct iospace_cached *cached,
				    const struct iospace_demand *demand)
{
	u64 highest = demand->translating ?
			      U64_MAX :
			      dma_to_phys(idev->dev, demand->limit);
	unsigned int order,
		least = get_order(demand->one_block ?
					  cached->page_count << PAGE_SHIFT :
					  demand->align);
	enum iospace_zone zone = demand->zone;
	unsigned long count = 0;
	struct page *page;

	if (least > IOSPACE_MAX_ORDER)
		return -ENOMEM;

	for (order = IOSPACE_MAX_ORDER; count < cached->page_count;) {
		gfp_t gfp = IOSPACE_GFP_MAPPED | __GFP_ZERO | __GFP_NOWARN |
			    iospace_zone_gfp(zone);

		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();

		order = max(least, min_t(unsigned int, order,
					 ilog2(cached->page_count - count)));
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
		iospace_cached_add_block(cached, page, order, &count);
		if (!iospace_zone_has(demand->zone, page))
			return -ENOMEM;
	}
	return 0;
}

static void iospace_cached_put_pages(struct iospace_cached *cached)
{
	unsigned long i;

	for (i = 0; i < cached->page_count && cached->pages[i]; i++) {
		put_page(cached->pages[i]);
		cached->pages[i] = NULL;
		if (!(i % 1024))
			cond_resched();
	}
}

/*
 * Pages from @first on that follow one another, and may be one segment. Behind
 * an IOMMU the buffer as a whole begins on a multiple of any boundary that is
 * less than it, so there the place in the buffer decides.
 */
static unsigned long iospace_cached_run(struct iospace_device *idev,
					struct iospace_cached *cached,
					const struct iospace_demand *demand,
					size_t max_segment, unsigned long first)
{
	unsigned long count, most = max_segment >> PAGE_SHIFT;
	u64 addr = demand->translating ?
			   (u64)first << PAGE_SHIFT :
			   phys_to_dma(idev->dev,
				       page_to_phys(cached->pages[first]));

	if (demand->boundary)
		most = min_t(
			u64, most,
			(demand->boundary - (addr & (demand->boundary - 1))) >>
				PAGE_SHIFT);
	most = min(most, cached->page_count - first);
	for (count = 1; count < most; count++) {
		if (page_to_pfn(cached->pages[first + count]) !=
		    page_to_pfn(cached->pages[first]) + count)
			break;
	}
	return count;
}

static int iospace_cached_make_table(struct iospace_device *idev,
				     struct iospace_cached *cached,
				     const struct iospace_demand *demand)
{
	size_t max_segment = idev->max_segment;
	unsigned long at, run;
	unsigned int count = 0;
	struct scatterlist *entry;
	int ret;

	/* Bounce buffers lose as much as they are aligned to. */
	if (demand->align > PAGE_SIZE && max_segment < (UINT_MAX & PAGE_MASK)) {
		if (max_segment < 2 * demand->align)
			return -EOPNOTSUPP;
		max_segment -= demand->align;
	}
	max_segment = round_down(max_segment, demand->align);
	/* If it must be bounced, mapping it fails. */
	if (demand->one_block)
		max_segment = UINT_MAX & PAGE_MASK;

	for (at = 0; at < cached->page_count; at += run) {
		run = iospace_cached_run(idev, cached, demand, max_segment, at);
		count++;
	}
	ret = sg_alloc_table(&cached->table, count, GFP_KERNEL_ACCOUNT);
	if (ret)
		return ret;

	entry = cached->table.sgl;
	for (at = 0; at < cached->page_count; at += run) {
		run = iospace_cached_run(idev, cached, demand, max_segment, at);
		sg_set_page(entry, cached->pages[at], run << PAGE_SHIFT, 0);
		entry = sg_next(entry);
	}
	return 0;
}

/*
 * What the segments must be is the device's own property to the DMA API, so it
 * is so for this one call: nothing else maps for this device meanwhile. Pages
 * that no IOMMU gives another address lie below the limit already.
 */
static int iospace_cached_map(struct iospace_device *idev,
			      struct iospace_cached *cached,
			      const struct iospace_demand *demand)
{
	struct device *dev = idev->dev;
	struct iospace_lowered_mask lowered;
	unsigned int align_mask;
	unsigned long boundary;
	int ret = 0;

	iospace_device_lower_mask(
		idev, demand->translating ? demand->limit : U64_MAX, &lowered);
	boundary = dma_get_seg_boundary(dev);
	align_mask = dma_get_min_align_mask(dev);
	dma_set_seg_boundary(dev, demand->boundary ? demand->boundary - 1 :
						     ULONG_MAX);
	if (demand->align > PAGE_SIZE)
		dma_set_min_align_mask(dev, demand->align - 1);
	if (dma_map_sgtable(dev, &cached->table, DMA_BIDIRECTIONAL,
			    DMA_ATTR_NO_WARN))
		ret = -ENOMEM;
	dma_set_min_align_mask(dev, align_mask);
	dma_set_seg_boundary(dev, boundary);
	iospace_device_restore_mask(idev, &lowered);
	return ret;
}

/* Notes the segments, and sees that they are what they must be. */
static int iospace_cached_make_pieces(struct iospace_cached *cached,
				      const struct iospace_demand *demand)
{
	struct device *dev = cached->buffer.idev->dev;
	size_t size = cached->buffer.size;
	struct iospace_piece *piece;
	struct scatterlist *entry;
	u64 offset = 0;
	int i;

	cached->pieces = kvmalloc_array(cached->table.nents + 1,
					sizeof(*cached->pieces),
					GFP_KERNEL_ACCOUNT);
	if (!cached->pieces)
		return -ENOMEM;

	piece = cached->pieces;
	cached->buffer.needs_sync = false;
	for_each_sgtable_dma_sg(&cached->table, entry, i) {
		u64 addr = sg_dma_address(entry);
		u64 last = addr + sg_dma_len(entry) - 1;

		if (offset >= size)
			break;
		if (addr & (demand->align - 1) || last > demand->limit ||
		    (demand->boundary &&
		     (addr ^ last) & ~(demand->boundary - 1)))
			return -EOPNOTSUPP;
		*piece++ = (struct iospace_piece){ addr, offset };
		/* Of bounce buffers each mapping may have some, or none. */
		if (dma_need_sync(dev, addr))
			cached->buffer.needs_sync = true;
		offset += sg_dma_len(entry);
	}
	*piece = (struct iospace_piece){ .offset = size };
	cached->buffer.segment_count = piece - cached->pieces;
	return 0;
}

static void iospace_cached_unmap(struct iospace_device *idev,
				 struct iospace_cached *cached)
{
	kvfree(cached->pieces);
	dma_unmap_sgtable(idev->dev, &cached->table, DMA_BIDIRECTIONAL, 0);
	sg_free_table(&cached->table);
}

/* Pages, and the device's view of them; or nothing. */
static int iospace_cached_obtain(struct iospace_device *idev,
				 struct iospace_cached *cached,
				 const struct iospace_demand *demand)
{
	int ret;

	ret = iospace_cached_get_pages(idev, cached, demand);
	if (ret)
		goto put_pages;
	ret = iospace_cached_make_table(idev, cached, demand);
	if (ret)
		goto put_pages;
	ret = iospace_cached_map(idev, cached, demand);
	if (ret)
		goto free_table;
	ret = iospace_cached_make_pieces(cached, demand);
	if (!ret)
		return 0;

	iospace_cached_unmap(idev, cached);
	goto put_pages;
free_table:
	sg_free_table(&cached->table);
put_pages:
	iospace_cached_put_pages(cached);
	return ret;
}

static void iospace_cached_release(struct iospace_buffer *buffer)
{
	struct iospace_cached *cached = iospace_cached_of(buffer);

	iospace_cached_unmap(buffer->idev, cached);
	iospace_cached_put_pages(cached);
	kvfree(cached->pages);
}

/* Ordinary memory, whole: reading it takes no fault, pinning it works. */
static int iospace_cached_mmap(struct iospace_buffer *buffer,
			       struct vm_area_struct *vma)
{
	unsigned long count = vma_pages(vma);

	iospace_vma_flags(vma, VM_DONTEXPAND | VM_DONTDUMP, 0);
	return vm_insert_pages(vma, vma->vm_start,
			       iospace_cached_of(buffer)->pages, &count);
}

/* madvise() took the page out. */
static vm_fault_t iospace_cached_fault(struct iospace_buffer *buffer,
				       struct vm_fault *vmf, unsigned long page)
{
	vmf->page = iospace_cached_of(buffer)->pages[page];
	get_page(vmf->page);
	return 0;
}

static void iospace_cached_segments(struct iospace_buffer *buffer,
				    unsigned int first, unsigned int count,
				    struct iospace_segment *to)
{
	const struct iospace_piece *piece =
		iospace_cached_of(buffer)->pieces + first;

	for (; count--; piece++)
		*to++ = (struct iospace_segment){
			.dma_addr = piece->addr,
			.length = piece[1].offset - piece->offset,
		};
}

/* The piece that the byte lies in. */
static const struct iospace_piece *
iospace_cached_piece_at(struct iospace_cached *cached, u64 offset)
{
	unsigned int low = 0, high = cached->buffer.segment_count;

	while (high - low > 1) {
		unsigned int middle = low + (high - low) / 2;

		if (cached->pieces[middle].offset <= offset)
			low = middle;
		else
			high = middle;
	}
	return &cached->pieces[low];
}

/*
 * Piece by piece. Behind an IOMMU the kernel looks the memory up by the first
 * address alone, so there page by page, where there are caches to maintain.
 */
static void iospace_cached_sync(struct iospace_buffer *buffer, u64 offset,
				u64 length, u32 flags)
{
	struct iospace_device *idev = buffer->idev;
	bool by_page = !dev_is_dma_coherent(idev->dev) &&
		       iospace_device_iommu(idev) == IOSPACE_IOMMU_TRANSLATING;
	const struct iospace_piece *piece =
		iospace_cached_piece_at(iospace_cached_of(buffer), offset);
	u64 end = offset + length, next;

	for (; offset < end; offset = next) {
		dma_addr_t addr = piece->addr + (offset - piece->offset);

		next = min(end, piece[1].offset);
		if (by_page)
			next = min(next,
				   round_down(offset, PAGE_SIZE) + PAGE_SIZE);
		if (flags & IOSPACE_SYNC_FOR_DEVICE)
			dma_sync_single_for_device(idev->dev, addr,
						   next - offset,
						   DMA_BIDIRECTIONAL);
		else
			dma_sync_single_for_cpu(idev->dev, addr, next - offset,
						DMA_BIDIRECTIONAL);
		if (next == piece[1].offset)
			piece++;
		cond_resched();
	}
}

static const struct iospace_buffer_ops iospace_cached_ops = {
	.release = iospace_cached_release,
	.mmap = iospace_cached_mmap,
	.fault = iospace_cached_fault,
	.segments = iospace_cached_segments,
	.sync = iospace_cached_sync,
};

/* An IOMMU may make one segment of scattered pages. If not, one block does. */
static int iospace_cached_fill(struct iospace_cached *cached,
			       const struct iospace_alloc *alloc)
{
	struct iospace_device *idev = cached->buffer.idev;
	bool contiguous = alloc->flags & IOSPACE_ALLOC_CONTIGUOUS;
	struct iospace_demand demand = {
		.zone = alloc->zone,
		.limit = iospace_device_limit(idev, alloc->address_bits),
		.align = max_t(u64, alloc->align, PAGE_SIZE),
		.boundary = alloc->boundary,
		.translating = iospace_device_iommu(idev) ==
			       IOSPACE_IOMMU_TRANSLATING,
	};
	int ret;

	demand.one_block = contiguous && !demand.translating;
	ret = iospace_cached_obtain(idev, cached, &demand);
	if (ret || !contiguous || cached->buffer.segment_count == 1)
		return ret;

	iospace_cached_unmap(idev, cached);
	iospace_cached_put_pages(cached);
	if (demand.one_block)
		return -ENOMEM;
	demand.one_block = true;
	return iospace_cached_obtain(idev, cached, &demand);
}

struct iospace_buffer *iospace_cached_alloc(struct iospace_file *file,
					    const struct iospace_alloc *alloc)
{
	size_t size = PAGE_ALIGN(alloc->length);
	size_t align = max_t(u64, alloc->align, PAGE_SIZE);
	struct iospace_cached *cached;
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
	cached->page_count = cached->buffer.charged >> PAGE_SHIFT;
	ret = -ENOMEM;
	if (cached->page_count > totalram_pages())
		goto abort_buffer;
	cached->pages = kvcalloc(cached->page_count, sizeof(*cached->pages),
				 GFP_KERNEL_ACCOUNT);
	if (!cached->pages)
		goto abort_buffer;
	ret = iospace_cached_fill(cached, alloc);
	if (ret)
		goto free_pages;
	return &cached->buffer;

free_pages:
	kvfree(cached->pages);
abort_buffer:
	iospace_buffer_abort(&cached->buffer);
	return ERR_PTR(ret);
}
