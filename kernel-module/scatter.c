// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A scatter: a list of pages, as one device sees it. A streaming mapping: the CPU
 * and the device take turns by iospace_scatter_sync().
 *
 * Owns what the DMA API knows of the pages, and the segments that came of it; not
 * the pages. Takes dma_lock.
 */
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "iospace.h"

/**
 * struct iospace_piece - What is contiguous for the device
 * @addr: Its first byte as the device sees it
 * @offset: Its first byte in the scatter
 */
struct iospace_piece {
	dma_addr_t addr;
	u64 offset;
};

/**
 * struct iospace_run - What the runs of a list of pages may be
 * @idev: For this device
 * @demand: What its segments must be
 * @pages: The pages
 * @page_count: Of @pages
 * @max_pages: Of a run
 */
struct iospace_run {
	struct iospace_device *idev;
	const struct iospace_demand *demand;
	struct page **pages;
	unsigned long page_count;
	unsigned long max_pages;
};

/*
 * Pages from @first on that follow one another, and may be one segment. Behind
 * an IOMMU the whole begins on a multiple of any boundary that is less than it,
 * so there the place in the whole decides.
 */
static unsigned long iospace_scatter_run(const struct iospace_run *run,
					 unsigned long first)
{
	struct page **pages = run->pages + first;
	unsigned long pfn = page_to_pfn(*pages);
	u64 boundary = run->demand->boundary;
	unsigned long count, most = run->max_pages;
	u64 addr = run->demand->translating ?
			   (u64)first << PAGE_SHIFT :
			   phys_to_dma(run->idev->dev, PFN_PHYS(pfn));

	if (boundary)
		most = min_t(u64, most,
			     (boundary - (addr & (boundary - 1))) >>
				     PAGE_SHIFT);
	most = min(most, run->page_count - first);
	for (count = 1; count < most; count++) {
		if (page_to_pfn(pages[count]) != pfn + count)
			break;
	}
	return count;
}

/*
 * Can the device's bounce buffers be reached? They lie below 4 GiB, or, where the
 * kernel takes the lowest zone for what all devices reach, in that.
 */
static bool iospace_scatter_can_bounce(struct iospace_device *idev)
{
	u64 highest = IS_ENABLED(CONFIG_X86) ?
			      iospace_zone_limit(IOSPACE_ZONE_DMA32) :
			      iospace_zone_least_limit();

	return idev->max_segment < (UINT_MAX & PAGE_MASK) &&
	       phys_to_dma(idev->dev, highest) <= idev->dma_mask;
}

/* Highest address of pages that can be mapped: beyond it the kernel warns. */
static u64 iospace_scatter_reach(struct iospace_device *idev,
				 const struct iospace_demand *demand)
{
	return demand->translating || iospace_scatter_can_bounce(idev) ?
		       U64_MAX :
		       idev->dma_mask;
}

/* Longest entry of the table, or 0 if there can be none. */
static size_t iospace_scatter_max_entry(struct iospace_device *idev,
					const struct iospace_demand *demand)
{
	size_t most = idev->max_segment;

	/* Bounce buffers lose as much as they are aligned to. */
	if (demand->align > PAGE_SIZE && most < (UINT_MAX & PAGE_MASK)) {
		if (most < 2 * demand->align)
			return 0;
		most -= demand->align;
	}
	/* If it must be bounced, mapping it fails. */
	if (demand->one_block)
		return UINT_MAX & PAGE_MASK;
	return round_down(most, demand->align);
}

static int iospace_scatter_make_table(struct iospace_scatter *scatter,
				      struct page **pages, size_t length,
				      const struct iospace_demand *demand)
{
	struct iospace_run run = {
		.idev = scatter->idev,
		.demand = demand,
		.pages = pages,
		.page_count = PFN_UP(scatter->offset + length),
		.max_pages = iospace_scatter_max_entry(scatter->idev, demand) >>
			     PAGE_SHIFT,
	};
	u64 reach = iospace_scatter_reach(scatter->idev, demand);
	unsigned long at, pages_of;
	size_t offset = scatter->offset;
	struct scatterlist *entry;
	unsigned int count = 0;
	int ret;

	if (!run.max_pages)
		return -EOPNOTSUPP;

	for (at = 0; at < run.page_count; at += pages_of) {
		pages_of = iospace_scatter_run(&run, at);
		if (phys_to_dma(scatter->idev->dev,
				page_to_phys(pages[at + pages_of - 1])) > reach)
			return -EOPNOTSUPP;
		if (!(++count % 1024))
			cond_resched();
	}
	ret = sg_alloc_table(&scatter->table, count, GFP_KERNEL_ACCOUNT);
	if (ret)
		return ret;

	entry = scatter->table.sgl;
	for (at = 0; at < run.page_count; at += pages_of) {
		size_t bytes;

		pages_of = iospace_scatter_run(&run, at);
		bytes = min((pages_of << PAGE_SHIFT) - offset, length);
		sg_set_page(entry, pages[at], bytes, offset);
		entry = sg_next(entry);
		length -= bytes;
		offset = 0;
		if (!(--count % 1024))
			cond_resched();
	}
	return 0;
}

/*
 * What the segments must be is the device's own property to the DMA API, so it
 * is so for this one call: nothing else maps for this device meanwhile, nor is
 * copied between bounce buffers and what does not begin with a page. Pages that no
 * IOMMU gives another address lie below the limit already.
 */
static int iospace_scatter_map_table(struct iospace_scatter *scatter,
				     const struct iospace_demand *demand)
{
	struct iospace_device *idev = scatter->idev;
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
	/* No IOMMU gives out addresses, so it is bounce buffers that are full. */
	if (dma_map_sgtable(dev, &scatter->table, scatter->direction,
			    DMA_ATTR_NO_WARN))
		ret = demand->translating || demand->one_block ? -ENOMEM :
								 -ENOSPC;
	dma_set_min_align_mask(dev, align_mask);
	dma_set_seg_boundary(dev, boundary);
	iospace_device_restore_mask(idev, &lowered);
	return ret;
}

/**
 * iospace_scatter_note() - Note the segments of a table that is mapped
 * @scatter: @idev, @direction and @size are set; gets all else but the table
 * @table: The table: its own, or one that somebody else mapped, of @size bytes at
 *         least
 *
 * Undone by iospace_scatter_forget().
 */
int iospace_scatter_note(struct iospace_scatter *scatter,
			 struct sg_table *table)
{
	struct iospace_piece *piece;
	struct scatterlist *entry;
	u64 offset = 0;
	int i;

	piece = kvmalloc_array(table->nents + 1, sizeof(*piece),
			       GFP_KERNEL_ACCOUNT);
	if (!piece)
		return -ENOMEM;

	scatter->pieces = piece;
	scatter->needs_sync = false;
	for_each_sgtable_dma_sg(table, entry, i) {
		dma_addr_t addr = sg_dma_address(entry);

		if (offset >= scatter->size)
			break;
		*piece++ = (struct iospace_piece){ addr, offset };
		/* Of bounce buffers each mapping may have some, or none. */
		if (!scatter->needs_sync)
			scatter->needs_sync =
				dma_need_sync(scatter->idev->dev, addr);
		offset += sg_dma_len(entry);
	}
	*piece = (struct iospace_piece){ .offset = scatter->size };
	scatter->segment_count = piece - scatter->pieces;
	return 0;
}

void iospace_scatter_forget(struct iospace_scatter *scatter)
{
	kvfree(scatter->pieces);
}

/*
 * The kernel finds the bytes of a bounce buffer by the alignment that the device
 * demands at the time, as if they had been mapped with that. Only pages lie the
 * same with any.
 */
static void iospace_scatter_lock_bounce(const struct iospace_scatter *scatter)
{
	if (scatter->offset)
		mutex_lock(&scatter->idev->dma_lock);
}

static void iospace_scatter_unlock_bounce(const struct iospace_scatter *scatter)
{
	if (scatter->offset)
		mutex_unlock(&scatter->idev->dma_lock);
}

static void iospace_scatter_unmap_table(struct iospace_scatter *scatter,
					unsigned long attributes)
{
	iospace_scatter_lock_bounce(scatter);
	dma_unmap_sgtable(scatter->idev->dev, &scatter->table,
			  scatter->direction, attributes);
	iospace_scatter_unlock_bounce(scatter);
}

/* Are the segments what they must be? */
static int iospace_scatter_check(const struct iospace_scatter *scatter,
				 const struct iospace_demand *demand)
{
	const struct iospace_piece *piece = scatter->pieces;
	const struct iospace_piece *end = piece + scatter->segment_count;

	for (; piece < end; piece++) {
		u64 last = piece->addr + (piece[1].offset - piece->offset) - 1;

		if (piece->addr & (demand->align - 1) || last > demand->limit ||
		    (demand->boundary &&
		     (piece->addr ^ last) & ~(demand->boundary - 1)))
			return -EOPNOTSUPP;
	}
	return 0;
}

/**
 * iospace_scatter_map() - Map pages for the device
 * @scatter: @idev, @direction and @size are set, and @offset: where in the first
 *           page it begins. Gets the rest
 * @pages: The pages, which stay where they are until iospace_scatter_unmap()
 * @length: Bytes to map, @size at least: of more, the device is told only of @size
 * @demand: What the segments must be
 *
 * The device's turn begins. Return: 0; or an error, and nothing is mapped.
 */
int iospace_scatter_map(struct iospace_scatter *scatter, struct page **pages,
			size_t length, const struct iospace_demand *demand)
{
	int ret;

	ret = iospace_scatter_make_table(scatter, pages, length, demand);
	if (ret)
		return ret;
	ret = iospace_scatter_map_table(scatter, demand);
	if (ret)
		goto free_table;
	ret = iospace_scatter_note(scatter, &scatter->table);
	if (ret)
		goto unmap_table;
	ret = iospace_scatter_check(scatter, demand);
	if (!ret)
		return 0;

	iospace_scatter_forget(scatter);
unmap_table:
	iospace_scatter_unmap_table(scatter, 0);
free_table:
	sg_free_table(&scatter->table);
	return ret;
}

/**
 * iospace_scatter_unmap() - Undo iospace_scatter_map()
 * @scatter: The scatter
 * @take: The CPU's turn begins, if it has not; otherwise the pages stay as the CPU
 *        sees them
 */
void iospace_scatter_unmap(struct iospace_scatter *scatter, bool take)
{
	iospace_scatter_forget(scatter);
	iospace_scatter_unmap_table(scatter, take ? 0 : DMA_ATTR_SKIP_CPU_SYNC);
	sg_free_table(&scatter->table);
}

/* As the operation of a buffer. */
void iospace_scatter_segments(const struct iospace_scatter *scatter,
			      unsigned int first, unsigned int count,
			      struct iospace_segment *to)
{
	const struct iospace_piece *piece = scatter->pieces + first;

	for (; count--; piece++)
		*to++ = (struct iospace_segment){
			.dma_addr = piece->addr,
			.length = piece[1].offset - piece->offset,
		};
}

/* The piece that the byte lies in. */
static const struct iospace_piece *
iospace_scatter_piece_at(const struct iospace_scatter *scatter, u64 offset)
{
	unsigned int low = 0, high = scatter->segment_count;

	while (high - low > 1) {
		unsigned int middle = low + (high - low) / 2;

		if (scatter->pieces[middle].offset <= offset)
			low = middle;
		else
			high = middle;
	}
	return &scatter->pieces[low];
}

/**
 * iospace_scatter_slice() - Note the segments of a part of a scatter
 * @slice: @size is set; gets all else but the table
 * @whole: Its pages stay mapped until iospace_scatter_forget()
 * @offset: Where in @whole it begins, a whole page
 */
int iospace_scatter_slice(struct iospace_scatter *slice,
			  const struct iospace_scatter *whole, u64 offset)
{
	const struct iospace_piece *first =
		iospace_scatter_piece_at(whole, offset);
	const struct iospace_piece *last =
		iospace_scatter_piece_at(whole, offset + slice->size - 1);
	unsigned int i, count = last - first + 1;

	slice->pieces = kvmalloc_array(count + 1, sizeof(*slice->pieces),
				       GFP_KERNEL_ACCOUNT);
	if (!slice->pieces)
		return -ENOMEM;
	for (i = 1; i < count; i++)
		slice->pieces[i] =
			(struct iospace_piece){ first[i].addr,
						first[i].offset - offset };
	slice->pieces[0] = (struct iospace_piece){
		.addr = first->addr + (offset - first->offset),
	};
	slice->pieces[count] = (struct iospace_piece){ .offset = slice->size };
	slice->idev = whole->idev;
	slice->direction = whole->direction;
	slice->offset = whole->offset;
	slice->segment_count = count;
	slice->needs_sync = whole->needs_sync;
	return 0;
}

/*
 * As the operation of a buffer: piece by piece. Behind an IOMMU the kernel looks
 * the memory up by the first address alone, so there page by page, where there are
 * caches to maintain.
 */
void iospace_scatter_sync(const struct iospace_scatter *scatter, u64 offset,
			  u64 length, u32 flags)
{
	struct iospace_device *idev = scatter->idev;
	bool by_page = !dev_is_dma_coherent(idev->dev) &&
		       iospace_device_iommu(idev) == IOSPACE_IOMMU_TRANSLATING;
	const struct iospace_piece *piece =
		iospace_scatter_piece_at(scatter, offset);
	u64 end = offset + length, next;

	for (; offset < end; offset = next) {
		dma_addr_t addr = piece->addr + (offset - piece->offset);

		next = min(end, piece[1].offset);
		if (by_page)
			next = min_t(u64, next,
				     offset + PAGE_SIZE -
					     offset_in_page(scatter->offset +
							    offset));
		iospace_scatter_lock_bounce(scatter);
		if (flags & IOSPACE_SYNC_FOR_DEVICE)
			dma_sync_single_for_device(idev->dev, addr,
						   next - offset,
						   scatter->direction);
		else
			dma_sync_single_for_cpu(idev->dev, addr, next - offset,
						scatter->direction);
		iospace_scatter_unlock_bounce(scatter);
		if (next == piece[1].offset)
			piece++;
		cond_resched();
	}
}
