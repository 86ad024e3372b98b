// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Coherent buffers: the DMA API's own memory, which makes the device and the CPU
 * agree with no further call. And, but for x86, writecombine and uncached ones,
 * which are the same for a device that does not snoop.
 *
 * Such memory is the device's: it lives at most as long as the device is bound.
 * Takes dma_lock; is released under memory_lock.
 */
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/slab.h>

#include "compat.h"
#include "iospace.h"

/**
 * struct iospace_coherent - A coherent buffer
 * @buffer: What it is to others
 * @cpu_addr: The kernel's view of all that was allocated
 * @dma_addr: The device's view of it
 * @bytes: Allocated
 * @offset: Where the buffer begins in it, for its alignment
 * @piece: Bytes of each segment, but for the last: all, or what a boundary leaves
 * @attrs: To the DMA API
 */
struct iospace_coherent {
	struct iospace_buffer buffer;
	void *cpu_addr;
	dma_addr_t dma_addr;
	size_t bytes;
	size_t offset;
	size_t piece;
	unsigned long attrs;
};

static struct iospace_coherent *
iospace_coherent_of(struct iospace_buffer *buffer)
{
	return container_of(buffer, struct iospace_coherent, buffer);
}

/*
 * Uncached memory of a device that snoops would be in two minds: the device asks
 * the caches, which the CPU goes around.
 */
static bool iospace_coherent_has_uncached(struct iospace_device *idev)
{
	return !IS_ENABLED(CONFIG_X86) && !dev_is_dma_coherent(idev->dev) &&
	       iospace_memtype_all() & BIT(IOSPACE_MEMORY_WRITECOMBINE);
}

/** iospace_coherent_memory_types() - Bits of the types that are made here */
u32 iospace_coherent_memory_types(struct iospace_device *idev)
{
	u32 types = BIT(IOSPACE_MEMORY_COHERENT);

	if (!dma_can_mmap(idev->dev))
		return 0;
	if (iospace_coherent_has_uncached(idev))
		types |= BIT(IOSPACE_MEMORY_WRITECOMBINE) |
			 BIT(IOSPACE_MEMORY_UNCACHED);
	return types;
}

static void iospace_coherent_free(struct iospace_coherent *coherent)
{
	dma_free_attrs(coherent->buffer.idev->dev, coherent->bytes,
		       coherent->cpu_addr, coherent->dma_addr, coherent->attrs);
}

static void iospace_coherent_release(struct iospace_buffer *buffer)
{
	iospace_coherent_free(iospace_coherent_of(buffer));
}

/*
 * Behind an IOMMU the memory may be scattered pages, and the DMA API would map
 * them as such: programs could pin them, and have them written to around the
 * type of this mapping. So here they are mapped as all other memory of a device
 * is, by their numbers alone.
 */
static int iospace_coherent_mmap_scattered(struct iospace_coherent *coherent,
					   struct vm_area_struct *vma)
{
	void *address = coherent->cpu_addr + coherent->offset;
	pgprot_t prot = vma->vm_page_prot;
	unsigned long at, pfn;
	int ret;

	if (!dev_is_dma_coherent(coherent->buffer.idev->dev))
		prot = coherent->attrs & DMA_ATTR_WRITE_COMBINE ?
			       pgprot_writecombine(prot) :
			       pgprot_dmacoherent(prot);
	for (at = vma->vm_start; at < vma->vm_end; at += PAGE_SIZE) {
		pfn = is_vmalloc_addr(address) ?
			      vmalloc_to_pfn(address) :
			      page_to_pfn(virt_to_page(address));
		ret = remap_pfn_range(vma, at, pfn, PAGE_SIZE, prot);
		if (ret)
			return ret;
		address += PAGE_SIZE;
	}
	vma->vm_page_prot = prot;
	return 0;
}

static int iospace_coherent_mmap(struct iospace_buffer *buffer,
				 struct vm_area_struct *vma)
{
	struct iospace_coherent *coherent = iospace_coherent_of(buffer);
	int ret;

	if (iospace_device_iommu(buffer->idev) == IOSPACE_IOMMU_TRANSLATING) {
		ret = iospace_coherent_mmap_scattered(coherent, vma);
	} else {
		vma->vm_pgoff = coherent->offset >> PAGE_SHIFT;
		ret = dma_mmap_attrs(buffer->idev->dev, vma, coherent->cpu_addr,
				     coherent->dma_addr, coherent->bytes,
				     coherent->attrs);
	}
	/* Where x86 is concerned it is RAM, always. */
	iospace_vma_untrack(vma);
	return ret;
}

static void iospace_coherent_segments(struct iospace_buffer *buffer,
				      unsigned int first, unsigned int count,
				      struct iospace_segment *to)
{
	struct iospace_coherent *coherent = iospace_coherent_of(buffer);
	size_t at = first * coherent->piece;

	for (; count--; at += coherent->piece)
		*to++ = (struct iospace_segment){
			.dma_addr = coherent->dma_addr + coherent->offset + at,
			.length = min(coherent->piece, buffer->size - at),
		};
}

static const struct iospace_buffer_ops iospace_coherent_ops = {
	.release = iospace_coherent_release,
	.mmap = iospace_coherent_mmap,
	.segments = iospace_coherent_segments,
};

/* Of a byte of what was allocated, which lies in one piece but for an IOMMU. */
static phys_addr_t iospace_coherent_phys(struct iospace_coherent *coherent,
					 size_t offset)
{
	struct device *dev = coherent->buffer.idev->dev;
	dma_addr_t addr = coherent->dma_addr + offset;

	if (iospace_device_iommu(coherent->buffer.idev) ==
	    IOSPACE_IOMMU_TRANSLATING)
		return iommu_iova_to_phys(iommu_get_domain_for_dev(dev), addr);
	return dma_to_phys(dev, addr);
}

static bool iospace_coherent_in_pool(struct iospace_coherent *coherent)
{
	struct iospace_device *idev = coherent->buffer.idev;
	size_t at;

	for (at = 0; at < coherent->bytes; at += PAGE_SIZE) {
		if (!iospace_pool_holds(idev,
					iospace_coherent_phys(coherent, at),
					PAGE_SIZE))
			return false;
	}
	return true;
}

static bool iospace_coherent_in_zone(struct iospace_coherent *coherent,
				     enum iospace_zone zone)
{
	return zone == IOSPACE_ZONE_ANY ||
	       iospace_zone_has(zone,
				pfn_to_page(PHYS_PFN(
					iospace_coherent_phys(coherent, 0))));
}

/* The allocator zeroes. Failing is an answer, not worth a warning. */
static int iospace_coherent_get(struct iospace_coherent *coherent, u64 limit)
{
	struct iospace_device *idev = coherent->buffer.idev;
	struct iospace_lowered_mask lowered;

	iospace_device_lower_mask(idev, limit, &lowered);
	coherent->cpu_addr = dma_alloc_attrs(
		idev->dev, coherent->bytes, &coherent->dma_addr,
		IOSPACE_GFP_MAPPED | __GFP_RETRY_MAYFAIL | __GFP_NOWARN,
		coherent->attrs);
	iospace_device_restore_mask(idev, &lowered);
	if (coherent->cpu_addr)
		return 0;
	return idev->pool.kind == IOSPACE_POOL_NONE ? -ENOMEM : -ENOSPC;
}

/* Allocates @bytes, of which the buffer gets what is aligned; or -EAGAIN. */
static int iospace_coherent_try(struct iospace_coherent *coherent, size_t bytes,
				size_t align, u64 limit, enum iospace_zone zone)
{
	struct iospace_device *idev = coherent->buffer.idev;
	size_t size = coherent->buffer.size;
	int ret;

	if (bytes > coherent->buffer.charge.bytes) {
		ret = iospace_charge_more(
			&coherent->buffer.charge,
			bytes - coherent->buffer.charge.bytes);
		if (ret)
			return ret;
	}
	coherent->bytes = bytes;
	ret = iospace_coherent_get(coherent, limit);
	if (ret)
		return ret;

	coherent->offset = -coherent->dma_addr & (align - 1);
	if (idev->pool.kind != IOSPACE_POOL_NONE &&
	    !iospace_coherent_in_pool(coherent))
		ret = -ENOSPC;
	else if (coherent->dma_addr + bytes - 1 > limit)
		ret = -EOPNOTSUPP;
	else if (!iospace_coherent_in_zone(coherent, zone))
		ret = -ENOMEM;
	else if (coherent->offset > bytes - size)
		ret = -EAGAIN;
	if (ret)
		iospace_coherent_free(coherent);
	return ret;
}

/* Highest bus address that is asked for, and why there is none. */
static int iospace_coherent_limit(struct iospace_device *idev,
				  const struct iospace_alloc *alloc, u64 *limit)
{
	bool translating = iospace_device_iommu(idev) ==
			   IOSPACE_IOMMU_TRANSLATING;
	u64 highest = iospace_zone_limit(alloc->zone), least;

	*limit = iospace_device_limit(idev, alloc->address_bits);
	/* An IOMMU's own allocator, and a pool, know no zones. */
	if (alloc->zone != IOSPACE_ZONE_ANY &&
	    (translating || idev->pool.kind != IOSPACE_POOL_NONE))
		return -EOPNOTSUPP;
	if (translating || idev->pool.kind != IOSPACE_POOL_NONE)
		return 0;
	if (highest != U64_MAX) {
		highest = phys_to_dma(idev->dev, highest);
		*limit = min(*limit, DMA_BIT_MASK(fls64(highest)));
	}

	/* Within its lowest zone the page allocator takes what comes. */
	least = phys_to_dma_unencrypted(idev->dev, iospace_zone_least_limit());
	return *limit < min3(idev->dma_mask, least, DMA_BIT_MASK(32)) ?
		       -EOPNOTSUPP :
		       0;
}

/*
 * The allocators align what they give to its size, but for what is larger than
 * a limit of theirs. What is tried last has room for every case.
 */
static int iospace_coherent_fill(struct iospace_coherent *coherent,
				 const struct iospace_alloc *alloc)
{
	size_t size = coherent->buffer.size;
	size_t align = max_t(u64, alloc->align, PAGE_SIZE);
	u64 limit;
	int ret;

	ret = iospace_coherent_limit(coherent->buffer.idev, alloc, &limit);
	if (ret)
		return ret;

	/*
	 * Where a boundary leaves several segments they begin on its multiples.
	 * What begins on a multiple of its own size crosses none.
	 */
	coherent->piece = size;
	if (alloc->boundary && alloc->boundary < size) {
		if (alloc->boundary < align)
			return -EOPNOTSUPP;
		coherent->piece = alloc->boundary;
		align = alloc->boundary;
	} else if (alloc->boundary) {
		align = max_t(u64, align, roundup_pow_of_two(size));
	}
	coherent->buffer.segment_count = DIV_ROUND_UP(size, coherent->piece);

	ret = iospace_coherent_try(coherent, size, align, limit, alloc->zone);
	if (ret == -EAGAIN)
		ret = iospace_coherent_try(coherent, max(size, align), align,
					   limit, alloc->zone);
	if (ret == -EAGAIN)
		ret = iospace_coherent_try(coherent, size + align - PAGE_SIZE,
					   align, limit, alloc->zone);
	return ret == -EAGAIN ? -ENOMEM : ret;
}

struct iospace_buffer *iospace_coherent_alloc(struct iospace_file *file,
					      const struct iospace_alloc *alloc)
{
	size_t size = PAGE_ALIGN(alloc->length);
	struct iospace_coherent *coherent;
	int ret;

	coherent = kzalloc(sizeof(*coherent), GFP_KERNEL_ACCOUNT);
	if (!coherent)
		return ERR_PTR(-ENOMEM);
	ret = iospace_buffer_init(&coherent->buffer, file,
				  &iospace_coherent_ops, alloc->memory, size,
				  size);
	if (ret)
		return ERR_PTR(ret);

	coherent->attrs = DMA_ATTR_NO_WARN;
	if (alloc->memory != IOSPACE_MEMORY_COHERENT)
		coherent->attrs |= DMA_ATTR_WRITE_COMBINE;
	/* Behind an IOMMU a reusable pool is passed over without it. */
	if (file->idev->pool.kind == IOSPACE_POOL_CMA)
		coherent->attrs |= DMA_ATTR_FORCE_CONTIGUOUS;

	ret = iospace_coherent_fill(coherent, alloc);
	if (ret) {
		iospace_buffer_abort(&coherent->buffer);
		return ERR_PTR(ret);
	}
	return &coherent->buffer;
}
