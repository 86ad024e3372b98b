// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Mappings of an open file: the status page, register ranges and buffers.
 *
 * Owns the meaning of mmap offsets, and how mappings are taken away when the
 * device goes: from then on a fault brings a page of the file's own. Buffers are
 * mapped by their kind, register ranges when they are touched.
 *
 * Runs under mmap_lock, and takes memory_lock (by a buffer's last reference),
 * register_lock and mms_lock; at open dma_lock.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "iospace.h"

/*
 * Offsets, in pages, below 2^44 bytes. The upper half is 16 slots for register
 * ranges. The lower half is 32 classes for buffers: class n has slots of 2^n
 * pages for buffers of up to that, so that no offset inside of a buffer is the
 * start of another. A handle is class and slot; slot 0 of class 0 is the
 * status page.
 */
#define IOSPACE_PGOFF_BITS  (44 - PAGE_SHIFT)
#define IOSPACE_PGOFF_REGS  (1UL << (IOSPACE_PGOFF_BITS - 1))
#define IOSPACE_REGS_SHIFT  (IOSPACE_PGOFF_BITS - 5)
#define IOSPACE_CLASS_SHIFT (IOSPACE_PGOFF_BITS - 6)
#define IOSPACE_CLASS_MASK  ((1UL << IOSPACE_CLASS_SHIFT) - 1)

static_assert(IOSPACE_MAX_REGS <= 16);

/* One address space that mapped a file. */
struct iospace_mm {
	struct list_head node;
	struct mm_struct *mm;
};

u64 iospace_mmap_offset_of_regs(unsigned int index)
{
	unsigned long pgoff = (unsigned long)index << IOSPACE_REGS_SHIFT;

	return (u64)(IOSPACE_PGOFF_REGS | pgoff) << PAGE_SHIFT;
}

u64 iospace_mmap_offset_of_handle(u32 handle)
{
	u32 class = handle >> IOSPACE_CLASS_SHIFT;
	unsigned long slot = handle & IOSPACE_CLASS_MASK;

	return (u64)((unsigned long)class << IOSPACE_CLASS_SHIFT | slot << class)
	       << PAGE_SHIFT;
}

/* The handles that a buffer of @size may have. */
struct xa_limit iospace_mmap_handles(size_t size)
{
	u32 class = order_base_2(size >> PAGE_SHIFT);
	u32 first = class << IOSPACE_CLASS_SHIFT;
	u32 slots = 1U << (IOSPACE_CLASS_SHIFT - class);

	return XA_LIMIT(max(first, 1U), first + slots - 1);
}

static bool iospace_mmap_handle_at(unsigned long pgoff, u32 *handle)
{
	unsigned long class = pgoff >> IOSPACE_CLASS_SHIFT;
	unsigned long rest = pgoff & IOSPACE_CLASS_MASK;

	if (class > IOSPACE_CLASS_SHIFT || rest & ((1UL << class) - 1))
		return false;
	*handle = class << IOSPACE_CLASS_SHIFT | rest >> class;
	return true;
}

/*
 * What a mapping shows when the device is gone. A PFN mapping gets the page with
 * no reference, and cached, whatever the type of the mapping was: the page was
 * filled through the cache. In a mapping of pages the page is counted.
 */
static vm_fault_t iospace_mmap_substitute(struct vm_fault *vmf,
					  struct page *page)
{
	struct vm_area_struct *vma = vmf->vma;

	if (vma->vm_flags & VM_PFNMAP)
		return vmf_insert_pfn_prot(vma, vmf->address, page_to_pfn(page),
					   vm_get_page_prot(vma->vm_flags));
	get_page(page);
	vmf->page = page;
	return 0;
}

static vm_fault_t iospace_mmap_status_fault(struct vm_fault *vmf)
{
	struct iospace_file *file = vmf->vma->vm_file->private_data;

	vmf->page = virt_to_page(file->idev->status);
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct iospace_mmap_status_ops = {
	.fault = iospace_mmap_status_fault,
};

static int iospace_mmap_status(struct vm_area_struct *vma)
{
	if (vma->vm_flags & VM_WRITE)
		return -EACCES;
	if (vma_pages(vma) != 1)
		return -EINVAL;

	iospace_vma_flags(vma, VM_DONTEXPAND | VM_DONTDUMP, VM_MAYWRITE);
	vma->vm_ops = &iospace_mmap_status_ops;
	return 0;
}

/* The range that @pgoff lies in, and which page of it; NULL if none. */
static struct iospace_regs *iospace_mmap_regs_at(struct iospace_file *file,
						 unsigned long pgoff,
						 unsigned long *page)
{
	pgoff -= IOSPACE_PGOFF_REGS;
	*page = pgoff & ((1UL << IOSPACE_REGS_SHIFT) - 1);
	return iospace_regs_find(file->idev, pgoff >> IOSPACE_REGS_SHIFT);
}

static vm_fault_t iospace_mmap_regs_fault(struct vm_fault *vmf)
{
	struct iospace_file *file = vmf->vma->vm_file->private_data;
	struct iospace_regs *regs;
	unsigned long page;
	vm_fault_t ret;
	int index;

	index = iospace_device_enter(file->idev);
	regs = iospace_mmap_regs_at(file, vmf->pgoff, &page);
	if (iospace_device_is_dead(file->idev))
		ret = iospace_mmap_substitute(vmf, file->ones);
	else
		ret = vmf_insert_pfn(vmf->vma, vmf->address,
				     PHYS_PFN(regs->start) + page);
	iospace_device_exit(file->idev, index);
	return ret;
}

/* No debugger looks at registers unasked: .access is left out. */
static const struct vm_operations_struct iospace_mmap_regs_ops = {
	.fault = iospace_mmap_regs_fault,
};

/*
 * The kernel's mapping keeps the range in the type of registers: on x86 what a
 * fault inserts has the type that the kernel holds, whatever was asked for. Not
 * by remap_pfn_range(): x86 would track the type of the whole mapping, lose
 * it when a part is unmapped, and complain when fork() meets a zapped one.
 */
static int iospace_mmap_regs(struct iospace_file *file,
			     struct vm_area_struct *vma)
{
	struct iospace_regs *regs;
	unsigned long page, pages;
	void __iomem *base;

	regs = iospace_mmap_regs_at(file, vma->vm_pgoff, &page);
	if (!regs || page || !(regs->flags & IOSPACE_REGISTERS_MMAP))
		return -EINVAL;
	pages = PHYS_PFN(regs->start + regs->length - 1) -
		PHYS_PFN(regs->start) + 1;
	/* What goes on beyond is the next slot. */
	pages = min(pages, 1UL << IOSPACE_REGS_SHIFT);
	if (vma_pages(vma) > pages)
		return -EINVAL;

	base = iospace_regs_base(file->idev, regs);
	if (IS_ERR(base))
		return PTR_ERR(base);

	iospace_vma_flags(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP,
			  0);
	vma->vm_page_prot = pgprot_decrypted(pgprot_device(vma->vm_page_prot));
	vma->vm_ops = &iospace_mmap_regs_ops;
	return 0;
}

static void iospace_mmap_buffer_open(struct vm_area_struct *vma)
{
	struct iospace_buffer *buffer = vma->vm_private_data;

	kref_get(&buffer->kref);
}

static void iospace_mmap_buffer_close(struct vm_area_struct *vma)
{
	iospace_buffer_put(vma->vm_private_data);
}

/*
 * A window stays in one piece: kernels that keep books on what is mapped of a
 * physical range lose them when a part of a mapping goes.
 */
static int iospace_mmap_buffer_may_split(struct vm_area_struct *vma,
					 unsigned long addr)
{
	struct iospace_buffer *buffer = vma->vm_private_data;

	return buffer->ops->segments ? 0 : -EINVAL;
}

/* A buffer's slot of offsets is a power of two of pages, and begins at one. */
static unsigned long iospace_mmap_buffer_page(struct iospace_buffer *buffer,
					      unsigned long pgoff)
{
	return pgoff & (roundup_pow_of_two(buffer->size >> PAGE_SHIFT) - 1);
}

static vm_fault_t iospace_mmap_buffer_fault(struct vm_fault *vmf)
{
	struct iospace_file *file = vmf->vma->vm_file->private_data;
	struct iospace_buffer *buffer = vmf->vma->vm_private_data;
	vm_fault_t ret = VM_FAULT_SIGBUS;
	int index;

	index = iospace_device_enter(file->idev);
	if (iospace_device_is_dead(file->idev))
		ret = iospace_mmap_substitute(
			vmf, buffer->memory == IOSPACE_MEMORY_DEVICE ?
				     file->ones :
				     file->zeros);
	else if (buffer->ops->fault)
		ret = buffer->ops->fault(
			buffer, vmf,
			iospace_mmap_buffer_page(buffer, vmf->pgoff));
	iospace_device_exit(file->idev, index);
	return ret;
}

static const struct vm_operations_struct iospace_mmap_buffer_ops = {
	.open = iospace_mmap_buffer_open,
	.close = iospace_mmap_buffer_close,
	.may_split = iospace_mmap_buffer_may_split,
	.fault = iospace_mmap_buffer_fault,
};

static int iospace_mmap_buffer(struct iospace_file *file,
			       struct vm_area_struct *vma)
{
	struct iospace_buffer *buffer;
	unsigned long pgoff = vma->vm_pgoff;
	int ret = -EINVAL;
	u32 handle;

	if (!iospace_mmap_handle_at(pgoff, &handle))
		return -EINVAL;
	buffer = iospace_buffer_get(file, handle);
	if (!buffer)
		return -EINVAL;
	if (!buffer->ops->mmap || vma_pages(vma) > buffer->size >> PAGE_SHIFT)
		goto put_buffer;

	/* To the kernel's own functions it is a place inside of the buffer. */
	vma->vm_pgoff = 0;
	ret = buffer->ops->mmap(buffer, vma);
	vma->vm_pgoff = pgoff;
	if (ret)
		goto put_buffer;

	/* The mapping owns the reference from here. */
	vma->vm_private_data = buffer;
	vma->vm_ops = &iospace_mmap_buffer_ops;
	return 0;

put_buffer:
	iospace_buffer_put(buffer);
	return ret;
}

static void iospace_mmap_forget(struct list_head *mms)
{
	struct iospace_mm *record, *next;

	list_for_each_entry_safe(record, next, mms, node) {
		mmdrop(record->mm);
		kfree(record);
	}
}

/*
 * Remembers who maps, for iospace_mmap_revoke(). Forgets who has ended, and can
 * be in no mmap(): a file may see many processes come and go.
 */
static int iospace_mmap_record(struct iospace_file *file, struct mm_struct *mm)
{
	struct iospace_mm *record, *known, *next;
	LIST_HEAD(ended);

	record = kmalloc(sizeof(*record), GFP_KERNEL_ACCOUNT);
	if (!record)
		return -ENOMEM;
	mmgrab(mm);
	record->mm = mm;

	spin_lock(&file->mms_lock);
	list_for_each_entry_safe(known, next, &file->mms, node) {
		if (known->mm == mm || !atomic_read(&known->mm->mm_users))
			list_move(&known->node, &ended);
	}
	list_add(&record->node, &file->mms);
	spin_unlock(&file->mms_lock);

	iospace_mmap_forget(&ended);
	return 0;
}

int iospace_mmap(struct file *filp, struct vm_area_struct *vma)
{
	struct iospace_file *file = filp->private_data;
	int index, ret;

	/* A descriptor opened for reading has VM_MAYSHARE without VM_SHARED. */
	if (!(vma->vm_flags & VM_MAYSHARE) || vma->vm_flags & VM_EXEC)
		return -EINVAL;
	iospace_vma_flags(vma, 0, VM_MAYEXEC);

	index = iospace_device_enter(file->idev);
	ret = -ENODEV;
	if (iospace_device_is_dead(file->idev))
		goto exit;
	ret = iospace_mmap_record(file, vma->vm_mm);
	if (ret)
		goto exit;

	if (vma->vm_pgoff == IOSPACE_STATUS_OFFSET >> PAGE_SHIFT)
		ret = iospace_mmap_status(vma);
	else if (vma->vm_pgoff >= IOSPACE_PGOFF_REGS)
		ret = iospace_mmap_regs(file, vma);
	else
		ret = iospace_mmap_buffer(file, vma);
exit:
	iospace_device_exit(file->idev, index);
	return ret;
}

/*
 * What was written through the cache would not be seen through a mapping that
 * bypasses it, as mprotect() makes one, but what was in memory before. Streaming
 * DMA writes it back. Not under a mask that is lowered for someone else.
 */
static int iospace_mmap_clean(struct iospace_device *idev, struct page *page)
{
	dma_addr_t addr;
	int ret;

	if (dev_is_dma_coherent(idev->dev))
		return 0;
	mutex_lock(&idev->dma_lock);
	addr = dma_map_page(idev->dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
	ret = dma_mapping_error(idev->dev, addr);
	if (!ret)
		dma_unmap_page(idev->dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
	mutex_unlock(&idev->dma_lock);
	return ret;
}

/* Where a page must lie that iospace_mmap_clean() can map. */
static gfp_t iospace_mmap_zone(struct iospace_device *idev)
{
	u64 mask = idev->dma_mask;

	if (dev_is_dma_coherent(idev->dev))
		return 0;
	if (mask < DMA_BIT_MASK(32))
		return GFP_DMA;
	return mask < DMA_BIT_MASK(64) ? GFP_DMA32 : 0;
}

int iospace_mmap_open_file(struct iospace_file *file)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT | iospace_mmap_zone(file->idev);
	int ret = -ENOMEM;

	INIT_LIST_HEAD(&file->mms);
	spin_lock_init(&file->mms_lock);

	file->zeros = alloc_page(gfp | __GFP_ZERO);
	if (!file->zeros)
		return -ENOMEM;
	file->ones = alloc_page(gfp);
	if (!file->ones)
		goto free_zeros;
	memset(page_address(file->ones), 0xff, PAGE_SIZE);
	ret = iospace_mmap_clean(file->idev, file->zeros);
	if (!ret)
		ret = iospace_mmap_clean(file->idev, file->ones);
	if (!ret)
		return 0;

	__free_page(file->ones);
free_zeros:
	__free_page(file->zeros);
	return ret;
}

void iospace_mmap_close_file(struct iospace_file *file)
{
	iospace_mmap_forget(&file->mms);
	__free_page(file->ones);
	__free_page(file->zeros);
}

/**
 * iospace_mmap_revoke() - Take all mappings of a file away
 * @file: An open file of a dead device
 *
 * The kernel links a mapping to its file only after iospace_mmap() has
 * returned, so one that saw a living device may not be there yet to be zapped.
 * It runs with mmap_lock held for writing until it is linked: taking the lock
 * waits for it. No new address space can be recorded any more.
 */
void iospace_mmap_revoke(struct iospace_file *file)
{
	struct iospace_mm *record;

	list_for_each_entry(record, &file->mms, node) {
		mmap_read_lock(record->mm);
		mmap_read_unlock(record->mm);
	}
	unmap_mapping_range(file->filp->f_mapping, 0, 0, 1);
}
