// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Mappings of the caller's memory: its pages, pinned where they are, and mapped
 * for the device.
 *
 * Owns the pins, what they count for in the process that asked, and which ranges
 * of it an open file has mapped. Pinning may wait for user space, so it is done
 * before the device is entered. Takes mmap_lock, and memory_lock and dma_lock
 * after it; is released under memory_lock.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/interval_tree_generic.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "iospace.h"

#ifndef CONFIG_IOSPACE_MAX_FILE_MAPPINGS
#define CONFIG_IOSPACE_MAX_FILE_MAPPINGS 4096
#endif

unsigned int iospace_max_file_mappings = CONFIG_IOSPACE_MAX_FILE_MAPPINGS;
module_param_named(max_file_mappings, iospace_max_file_mappings, uint, 0644);
MODULE_PARM_DESC(max_file_mappings,
		 "Mappings of its callers' memory that one open file may have");

/* Pages that are pinned or unpinned at a time, the first with interrupts off. */
#define IOSPACE_USER_BATCH 512

/**
 * struct iospace_user - A mapping of the caller's memory
 * @buffer: What it is to others
 * @node: In its file's tree; under memory_lock
 * @subtree_last: For the tree
 * @mm: Whose memory it is, and who is charged
 * @first: Its first byte there
 * @last: Its last byte there
 * @pages: The pages, @pinned of them pinned
 * @page_count: Of @pages
 * @pinned: See @pages
 * @scatter: What the device sees of them
 */
struct iospace_user {
	struct iospace_buffer buffer;
	struct rb_node node;
	unsigned long subtree_last;
	struct mm_struct *mm;
	unsigned long first;
	unsigned long last;
	struct page **pages;
	unsigned long page_count;
	unsigned long pinned;
	struct iospace_scatter scatter;
};

#define IOSPACE_USER_FIRST(user) ((user)->first)
#define IOSPACE_USER_LAST(user)	 ((user)->last)

INTERVAL_TREE_DEFINE(struct iospace_user, node, unsigned long, subtree_last,
		     IOSPACE_USER_FIRST, IOSPACE_USER_LAST, static,
		     iospace_user_tree)

static struct iospace_user *iospace_user_of(struct iospace_buffer *buffer)
{
	return container_of(buffer, struct iospace_user, buffer);
}

static bool iospace_user_is_written(const struct iospace_user *user)
{
	return user->buffer.direction != DMA_TO_DEVICE;
}

/* Is a part of the range mapped already, by the same process? */
static bool iospace_user_meets(const struct iospace_user *user,
			       struct rb_root_cached *tree)
{
	struct iospace_user *other =
		iospace_user_tree_iter_first(tree, user->first, user->last);

	while (other && other->mm != user->mm)
		other = iospace_user_tree_iter_next(other, user->first,
						    user->last);
	return other;
}

/*
 * Mappings that the device only reads may overlap one another. They are kept
 * apart from the rest, so that none looks through many that do not matter.
 */
static int iospace_user_enter_file(struct iospace_user *user)
{
	struct iospace_device *idev = user->buffer.idev;
	struct iospace_mappings *mappings = &user->buffer.file->mappings;
	int ret = 0;

	mutex_lock(&idev->memory_lock);
	if (mappings->count >= READ_ONCE(iospace_max_file_mappings))
		ret = -EDQUOT;
	else if (iospace_user_meets(user, &mappings->written) ||
		 (iospace_user_is_written(user) &&
		  iospace_user_meets(user, &mappings->read)))
		ret = -EBUSY;
	if (!ret) {
		mappings->count++;
		iospace_user_tree_insert(user, iospace_user_is_written(user) ?
						       &mappings->written :
						       &mappings->read);
	}
	mutex_unlock(&idev->memory_lock);
	return ret;
}

static void iospace_user_leave_file(struct iospace_user *user)
{
	struct iospace_mappings *mappings;

	lockdep_assert_held(&user->buffer.idev->memory_lock);
	/* Held back, and the file has gone. */
	if (user->buffer.charge.held)
		return;
	mappings = &user->buffer.file->mappings;
	mappings->count--;
	iospace_user_tree_remove(user, iospace_user_is_written(user) ?
					       &mappings->written :
					       &mappings->read);
}

static void iospace_user_uncharge(struct iospace_user *user)
{
	atomic64_sub(user->page_count, &user->mm->pinned_vm);
	mmdrop(user->mm);
}

static int iospace_user_charge(struct iospace_user *user)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;

	mmgrab(user->mm);
	if (atomic64_add_return(user->page_count, &user->mm->pinned_vm) >
		    limit &&
	    !capable(CAP_IPC_LOCK)) {
		iospace_user_uncharge(user);
		return -ENOMEM;
	}
	return 0;
}

static void iospace_user_unpin(struct iospace_user *user, bool written)
{
	unsigned long at, count;

	for (at = 0; at < user->pinned; at += count) {
		count = min_t(unsigned long, user->pinned - at,
			      IOSPACE_USER_BATCH);
		unpin_user_pages_dirty_lock(user->pages + at, count, written);
		cond_resched();
	}
}

/* Memory of this device that can be pinned: a cached buffer, also as a dma-buf. */
static bool iospace_user_is_own(struct iospace_device *idev,
				struct vm_area_struct *vma)
{
	struct iospace_file *file;

	if (iospace_export_is_mapped(idev, vma))
		return true;
	if (!vma->vm_file || vma->vm_file->f_op != &iospace_file_operations ||
	    vma->vm_flags & (VM_IO | VM_PFNMAP))
		return false;
	file = vma->vm_file->private_data;
	return file->idev == idev;
}

/* From @at on, what of the range before @end is one mapping of the process. */
static int iospace_user_part(struct iospace_user *user, unsigned long at,
			     unsigned long *end)
{
	struct vm_area_struct *vma;
	int ret = 0;

	if (mmap_read_lock_killable(user->mm))
		return -EINTR;
	vma = find_vma(user->mm, at);
	if (!vma || at < vma->vm_start)
		/* Nothing; or a stack, which grows when it is pinned. */
		*end = at + PAGE_SIZE;
	else if (iospace_user_is_own(user->buffer.idev, vma))
		ret = -EBUSY;
	else
		*end = min(*end, vma->vm_end);
	mmap_read_unlock(user->mm);
	return ret;
}

/*
 * For writing, also what the device only reads: of a page that was never written,
 * and is pinned for reading, the process would get a copy when it writes, and
 * the device would go on to see the page from before.
 */
static int iospace_user_pin_part(struct iospace_user *user, unsigned long at,
				 unsigned long end)
{
	unsigned int flags = FOLL_LONGTERM | FOLL_WRITE;
	long count;

	while (at < end) {
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();

		count = min_t(unsigned long, (end - at) >> PAGE_SHIFT,
			      IOSPACE_USER_BATCH);
		count = pin_user_pages_fast(at, count, flags,
					    user->pages + user->pinned);
		if (count == -EFAULT && flags & FOLL_WRITE &&
		    !iospace_user_is_written(user)) {
			flags = FOLL_LONGTERM;
			continue;
		}
		if (count == -ENOMEM || count == -EINTR)
			return count;
		if (count <= 0)
			return -EFAULT;
		user->pinned += count;
		at += count << PAGE_SHIFT;
	}
	return 0;
}

static int iospace_user_check_pages(struct iospace_user *user)
{
	unsigned long i;

	if (!iospace_user_is_written(user))
		return 0;
	for (i = 0; i < user->pinned; i++) {
		if (!(i % 1024))
			cond_resched();
		if (!iospace_page_may_be_written(user->pages[i]))
			return -EFAULT;
	}
	return 0;
}

static int iospace_user_pin(struct iospace_user *user)
{
	unsigned long at = user->first & PAGE_MASK;
	unsigned long end = (user->last | ~PAGE_MASK) + 1;
	unsigned long next;
	int ret;

	for (; at < end; at = next) {
		next = end;
		ret = iospace_user_part(user, at, &next);
		if (ret)
			return ret;
		ret = iospace_user_pin_part(user, at, next);
		if (ret)
			return ret;
	}
	return iospace_user_check_pages(user);
}

/* @written: By the device */
static void iospace_user_put_pages(struct iospace_user *user, bool written)
{
	iospace_user_unpin(user, written);
	kvfree(user->pages);
	iospace_user_uncharge(user);
}

/* Charges for the pages, and pins them; or nothing. */
static int iospace_user_get_pages(struct iospace_user *user)
{
	int ret;

	/* More than there is at all would push out everything else first. */
	if (user->page_count > min_t(unsigned long, totalram_pages(), INT_MAX))
		return -ENOMEM;
	ret = iospace_user_charge(user);
	if (ret)
		return ret;

	user->pages = kvmalloc_array(user->page_count, sizeof(*user->pages),
				     GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	ret = user->pages ? iospace_user_pin(user) : -ENOMEM;
	if (ret)
		iospace_user_put_pages(user, false);
	return ret;
}

static void iospace_user_release(struct iospace_buffer *buffer)
{
	struct iospace_user *user = iospace_user_of(buffer);

	iospace_scatter_unmap(&user->scatter, true);
	iospace_user_put_pages(user, iospace_user_is_written(user));
	iospace_user_leave_file(user);
}

static void iospace_user_segments(struct iospace_buffer *buffer,
				  unsigned int first, unsigned int count,
				  struct iospace_segment *to)
{
	iospace_scatter_segments(&iospace_user_of(buffer)->scatter, first,
				 count, to);
}

static void iospace_user_sync(struct iospace_buffer *buffer, u64 offset,
			      u64 length, u32 flags)
{
	iospace_scatter_sync(&iospace_user_of(buffer)->scatter, offset, length,
			     flags);
}

static const struct iospace_buffer_ops iospace_user_ops = {
	.release = iospace_user_release,
	.segments = iospace_user_segments,
	.sync = iospace_user_sync,
};

/* What is pinned, for the device; it is not dead. */
static int iospace_user_map_pages(struct iospace_user *user)
{
	struct iospace_buffer *buffer = &user->buffer;
	struct iospace_demand demand = {
		.limit = buffer->idev->dma_mask,
		.align = 1,
		.translating = iospace_device_iommu(buffer->idev) ==
			       IOSPACE_IOMMU_TRANSLATING,
	};
	int ret;

	user->scatter = (struct iospace_scatter){
		.idev = buffer->idev,
		.direction = buffer->direction,
		.offset = offset_in_page(user->first),
		.size = buffer->size,
	};
	ret = iospace_scatter_map(&user->scatter, user->pages, buffer->size,
				  &demand);
	if (ret)
		return ret;
	buffer->segment_count = user->scatter.segment_count;
	buffer->needs_sync = user->scatter.needs_sync;
	return 0;
}

static int iospace_user_check(struct iospace_device *idev,
			      const struct iospace_map_user *map)
{
	u64 line = dma_get_cache_alignment();

	if (map->flags ||
	    iospace_buffer_direction(map->direction) == DMA_NONE ||
	    !map->length || map->length - 1 > U64_MAX - map->address)
		return -EINVAL;
	/* A part of a line would take the CPU's data in the rest along. */
	if (!dev_is_dma_coherent(idev->dev) &&
	    map->direction != IOSPACE_DIRECTION_TO_DEVICE &&
	    (map->address | map->length) & (line - 1))
		return -EINVAL;
	return 0;
}

/* A mapping that pins nothing yet, in its file; or an error. */
static struct iospace_user *
iospace_user_create(struct iospace_file *file,
		    const struct iospace_map_user *map)
{
	unsigned long first = iospace_untagged(map->address);
	struct iospace_user *user;
	int ret;

	if (map->address != (unsigned long)map->address || first >= TASK_SIZE ||
	    map->length > TASK_SIZE - first)
		return ERR_PTR(-EFAULT);

	user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
	if (!user)
		return ERR_PTR(-ENOMEM);
	ret = iospace_buffer_init(&user->buffer, file, &iospace_user_ops,
				  IOSPACE_MEMORY_CACHED, map->length, 0);
	if (ret)
		return ERR_PTR(ret);

	user->buffer.direction = iospace_buffer_direction(map->direction);
	user->mm = current->mm;
	user->first = first;
	user->last = first + map->length - 1;
	user->page_count =
		(user->last >> PAGE_SHIFT) - (first >> PAGE_SHIFT) + 1;
	user->buffer.charge.kept = user->page_count << PAGE_SHIFT;
	ret = iospace_user_enter_file(user);
	if (!ret)
		return user;

	iospace_buffer_abort(&user->buffer);
	return ERR_PTR(ret);
}

/* Ends a mapping that the device knows nothing of. */
static void iospace_user_abort(struct iospace_user *user)
{
	struct iospace_device *idev = user->buffer.idev;

	mutex_lock(&idev->memory_lock);
	iospace_user_leave_file(user);
	mutex_unlock(&idev->memory_lock);
	iospace_buffer_abort(&user->buffer);
}

int iospace_user_map(struct iospace_file *file, void *args)
{
	struct iospace_map_user *map = args;
	struct iospace_device *idev = file->idev;
	struct iospace_segment first;
	struct iospace_user *user;
	int index, ret;

	index = iospace_device_enter(idev);
	ret = iospace_device_is_dead(idev) ? -ENODEV :
					     iospace_user_check(idev, map);
	iospace_device_exit(idev, index);
	if (ret)
		return ret;
	user = iospace_user_create(file, map);
	if (IS_ERR(user))
		return PTR_ERR(user);
	ret = iospace_user_get_pages(user);
	if (ret)
		goto abort_user;

	index = iospace_device_enter(idev);
	ret = iospace_device_is_dead(idev) ? -ENODEV :
					     iospace_user_map_pages(user);
	if (ret)
		goto put_pages;

	iospace_user_segments(&user->buffer, 0, 1, &first);
	map->out_flags = user->buffer.needs_sync ? IOSPACE_ALLOC_NEEDS_SYNC : 0;
	map->out_dma_addr = first.dma_addr;
	map->out_segments = user->buffer.segment_count;
	/* It is the file's from here, also if there is no handle left. */
	ret = iospace_buffer_add(&user->buffer, &map->out_handle);
	iospace_device_exit(idev, index);
	return ret;

put_pages:
	iospace_device_exit(idev, index);
	iospace_user_put_pages(user, false);
abort_user:
	iospace_user_abort(user);
	return ret;
}

void iospace_user_finish(struct iospace_file *file, void *args, bool answered)
{
	struct iospace_map_user *map = args;

	iospace_buffer_publish(file, map->out_handle, answered);
}
