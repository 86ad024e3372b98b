// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Coherent buffers: the DMA API's own memory, which makes the device and the
 * CPU agree with no further call.
 *
 * The device's own: it lives at most as long as the device is bound. Takes no
 * lock; is released under memory_lock.
 */
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "iospace.h"

/**
 * struct iospace_coherent - A coherent buffer
 * @buffer: What it is to others
 * @cpu_addr: The kernel's view
 * @dma_addr: The device's view
 */
struct iospace_coherent {
	struct iospace_buffer buffer;
	void *cpu_addr;
	dma_addr_t dma_addr;
};

static struct iospace_coherent *
iospace_coherent_of(struct iospace_buffer *buffer)
{
	return container_of(buffer, struct iospace_coherent, buffer);
}

u32 iospace_coherent_memory_types(struct iospace_device *idev)
{
	return dma_can_mmap(idev->dev) ? BIT(IOSPACE_MEMORY_COHERENT) : 0;
}

static void iospace_coherent_release(struct iospace_buffer *buffer)
{
	struct iospace_coherent *coherent = iospace_coherent_of(buffer);

	dma_free_attrs(buffer->idev->dev, buffer->size, coherent->cpu_addr,
		       coherent->dma_addr, 0);
}

static int iospace_coherent_mmap(struct iospace_buffer *buffer,
				 struct vm_area_struct *vma)
{
	struct iospace_coherent *coherent = iospace_coherent_of(buffer);
	int ret;

	iospace_vma_flags(vma, VM_IO | VM_DONTEXPAND | VM_DONTDUMP, 0);
	ret = dma_mmap_attrs(buffer->idev->dev, vma, coherent->cpu_addr,
			     coherent->dma_addr, buffer->size, 0);
	iospace_vma_untrack(vma);
	return ret;
}

/*
 * Behind an IOMMU the memory may be scattered pages, which madvise() can take
 * out of a mapping. It leaves PFN mappings alone.
 */
static vm_fault_t iospace_coherent_fault(struct iospace_buffer *buffer,
					 struct vm_fault *vmf,
					 unsigned long page)
{
	struct iospace_coherent *coherent = iospace_coherent_of(buffer);
	void *address = coherent->cpu_addr + (page << PAGE_SHIFT);

	if (vmf->vma->vm_flags & VM_PFNMAP)
		return VM_FAULT_SIGBUS;
	vmf->page = is_vmalloc_addr(address) ? vmalloc_to_page(address) :
					       virt_to_page(address);
	get_page(vmf->page);
	return 0;
}

static void iospace_coherent_segments(struct iospace_buffer *buffer,
				      unsigned int first, unsigned int count,
				      struct iospace_segment *to)
{
	to->dma_addr = iospace_coherent_of(buffer)->dma_addr;
	to->length = buffer->size;
}

static const struct iospace_buffer_ops iospace_coherent_ops = {
	.release = iospace_coherent_release,
	.mmap = iospace_coherent_mmap,
	.fault = iospace_coherent_fault,
	.segments = iospace_coherent_segments,
};

struct iospace_buffer *iospace_coherent_alloc(struct iospace_file *file,
					      const struct iospace_alloc *alloc)
{
	struct iospace_coherent *coherent;
	size_t size = PAGE_ALIGN(alloc->length);
	int ret;

	coherent = kzalloc(sizeof(*coherent), GFP_KERNEL_ACCOUNT);
	if (!coherent)
		return ERR_PTR(-ENOMEM);
	ret = iospace_buffer_init(&coherent->buffer, file,
				  &iospace_coherent_ops, alloc->memory, size,
				  size);
	if (ret) {
		kfree(coherent);
		return ERR_PTR(ret);
	}

	/* The allocator zeroes. Failing is an answer, not worth a warning. */
	coherent->cpu_addr = dma_alloc_attrs(
		file->idev->dev, size, &coherent->dma_addr,
		GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN,
		DMA_ATTR_NO_WARN);
	if (!coherent->cpu_addr) {
		iospace_buffer_abort(&coherent->buffer);
		return ERR_PTR(-ENOMEM);
	}
	coherent->buffer.segment_count = 1;
	return &coherent->buffer;
}
