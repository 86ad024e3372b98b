// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A window: physical memory that the system does not use, in a mapping of the
 * type that was asked for.
 *
 * Owns who may open what, and the list of open windows, so that no range is open
 * in two types where the CPU cannot have both. As long as a window is open the
 * kernel holds its range in that type, and its pages are inserted one by one when
 * they are touched: each gets the type that is held, and no book of the kernel
 * is about the mapping itself. So a part of it may be unmapped, and it may be
 * moved, and inherited.
 *
 * Takes window_lock (also under memory_lock, hence mmap_lock), and range_lock
 * under it.
 */
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/slab.h>

#include "compat.h"
#include "iospace.h"

/**
 * struct iospace_view - An open window
 * @buffer: What it is to others
 * @node: In the list of all
 * @range: The physical memory
 * @claimed: The range was claimed for it
 * @mapped: It was mapped, so the caches may have a part of it
 * @held: What keeps the range in its type
 */
struct iospace_view {
	struct iospace_buffer buffer;
	struct list_head node;
	struct iospace_range range;
	bool claimed;
	bool mapped;
	void __iomem *held;
};

static DEFINE_MUTEX(iospace_window_lock);
static LIST_HEAD(iospace_windows);

static struct iospace_view *iospace_view_of(struct iospace_buffer *buffer)
{
	return container_of(buffer, struct iospace_view, buffer);
}

/* Are they the same to the page tables? */
static bool iospace_window_agrees(enum iospace_memory a, enum iospace_memory b)
{
	return pgprot_val(iospace_memtype_prot(a, PAGE_KERNEL)) ==
	       pgprot_val(iospace_memtype_prot(b, PAGE_KERNEL));
}

static bool iospace_window_conflicts(const struct iospace_view *view)
{
	const struct iospace_view *other;

	if (iospace_memtype_side_by_side())
		return false;
	list_for_each_entry(other, &iospace_windows, node) {
		if (iospace_range_overlaps(&other->range, &view->range) &&
		    !iospace_window_agrees(other->buffer.memory,
					   view->buffer.memory))
			return true;
	}
	return false;
}

static void iospace_window_release(struct iospace_buffer *buffer)
{
	struct iospace_view *view = iospace_view_of(buffer);

	/* As long as it is in the list nobody opens the range in another type. */
	if (view->mapped && (buffer->memory == IOSPACE_MEMORY_CACHED ||
			     buffer->memory == IOSPACE_MEMORY_WRITETHROUGH))
		iospace_memtype_flush((__force void *)view->held, buffer->size);

	mutex_lock(&iospace_window_lock);
	list_del(&view->node);
	iospace_memtype_unreserve(view->held);
	if (view->claimed)
		iospace_range_unclaim(&view->range);
	mutex_unlock(&iospace_window_lock);
}

static int iospace_window_mmap(struct iospace_buffer *buffer,
			       struct vm_area_struct *vma)
{
	iospace_view_of(buffer)->mapped = true;
	iospace_vma_flags(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP,
			  0);
	vma->vm_page_prot = pgprot_decrypted(
		iospace_memtype_prot(buffer->memory, vma->vm_page_prot));
	return 0;
}

/* Brings the page, and what else one table of pages has of the mapping. */
static vm_fault_t iospace_window_fault(struct iospace_buffer *buffer,
				       struct vm_fault *vmf, unsigned long page)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long pfn =
		PHYS_PFN(iospace_view_of(buffer)->range.start) + page;
	unsigned long table = vmf->address & PMD_MASK;
	unsigned long at = max(vma->vm_start, table);
	/* Of the last byte, which may be the last of all addresses. */
	unsigned long last = min(vma->vm_end - 1, table + (PMD_SIZE - 1));
	vm_fault_t ret;

	ret = vmf_insert_pfn(vma, vmf->address, pfn);
	pfn -= (vmf->address - at) >> PAGE_SHIFT;
	for (; ret == VM_FAULT_NOPAGE && at < last; at += PAGE_SIZE, pfn++) {
		if (vmf_insert_pfn(vma, at, pfn) != VM_FAULT_NOPAGE)
			break;
	}
	return ret;
}

static const struct iospace_buffer_ops iospace_window_ops = {
	.release = iospace_window_release,
	.mmap = iospace_window_mmap,
	.fault = iospace_window_fault,
};

/* The types that the caller may have there, or an error. */
static int iospace_window_permit(struct iospace_device *idev,
				 struct iospace_view *view, u32 *types)
{
	const struct iospace_regs *regs;

	*types = iospace_memtype_all();
	if (iospace_arena_contains(&view->range))
		return 0;
	if (!iospace_range_may_access())
		return -EPERM;

	*types |= BIT(IOSPACE_MEMORY_DEVICE);
	regs = iospace_regs_around(idev, &view->range);
	if (regs) {
		if (!(regs->flags & IOSPACE_REGISTERS_PREFETCHABLE))
			*types = 0;
		*types &= BIT(IOSPACE_MEMORY_WRITECOMBINE);
		*types |= BIT(IOSPACE_MEMORY_DEVICE);
		return 0;
	}
	if (!iospace_range_is_allowed(&view->range) ||
	    iospace_range_is_ram(&view->range))
		return -EPERM;
	view->claimed = true;
	return 0;
}

/* Puts it in the list, and makes true what it says. */
static int iospace_window_take(struct iospace_view *view)
{
	int ret;

	lockdep_assert_held(&iospace_window_lock);
	if (iospace_window_conflicts(view))
		return -EBUSY;
	ret = view->claimed ? iospace_range_claim(&view->range) : 0;
	if (ret)
		return ret;
	view->held = iospace_memtype_reserve(
		view->range.start, view->buffer.size, view->buffer.memory);
	if (IS_ERR(view->held)) {
		if (view->claimed)
			iospace_range_unclaim(&view->range);
		return PTR_ERR(view->held);
	}
	list_add(&view->node, &iospace_windows);
	return 0;
}

static int iospace_window_check(const struct iospace_window *window,
				struct iospace_range *range)
{
	if (window->flags || window->__reserved)
		return -EINVAL;
	if (window->memory < IOSPACE_MEMORY_CACHED ||
	    window->memory > IOSPACE_MEMORY_DEVICE)
		return -EINVAL;
	if (iospace_range_make(range, window->address, window->length))
		return -EINVAL;
	if (window->length > IOSPACE_MMAP_MAX_BUFFER)
		return -EDQUOT;
	return 0;
}

/* A window of the caller's, complete but for its handle. */
static struct iospace_view *
iospace_window_make(struct iospace_file *file,
		    const struct iospace_window *window)
{
	struct iospace_view *view;
	u32 types;
	int ret;

	view = kzalloc(sizeof(*view), GFP_KERNEL_ACCOUNT);
	if (!view)
		return ERR_PTR(-ENOMEM);
	ret = iospace_window_check(window, &view->range);
	if (ret)
		goto free_view;
	ret = iospace_window_permit(file->idev, view, &types);
	if (ret)
		goto free_view;
	ret = -EOPNOTSUPP;
	if (!(types & BIT(window->memory)))
		goto free_view;
	ret = iospace_buffer_init(&view->buffer, file, &iospace_window_ops,
				  window->memory, window->length, PAGE_SIZE);
	if (ret)
		return ERR_PTR(ret);

	mutex_lock(&iospace_window_lock);
	ret = iospace_window_take(view);
	mutex_unlock(&iospace_window_lock);
	if (!ret)
		return view;

	iospace_buffer_abort(&view->buffer);
	return ERR_PTR(ret);

free_view:
	kfree(view);
	return ERR_PTR(ret);
}

int iospace_window_open(struct iospace_file *file, void *args)
{
	struct iospace_window *window = args;
	struct iospace_view *view;
	u32 handle;
	int ret;

	view = iospace_window_make(file, window);
	if (IS_ERR(view))
		return PTR_ERR(view);
	ret = iospace_buffer_add(&view->buffer, &handle);
	if (ret)
		return ret;

	window->out_memory = window->memory;
	window->out_handle = handle;
	window->out_mmap_offset = iospace_mmap_offset_of_handle(handle);
	return 0;
}

void iospace_window_finish(struct iospace_file *file, void *args, bool answered)
{
	struct iospace_window *window = args;

	iospace_buffer_publish(file, window->out_handle, answered);
}
