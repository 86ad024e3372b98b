// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A buffer: its handle, and how long it lives. Where its memory comes from, and
 * what is done with it, is its kind's: struct iospace_buffer_ops.
 *
 * The structure lives as long as its handle and its mappings. The memory lives
 * as long, and at most as long as the device is bound. It goes back to the
 * kernel only when the device can no longer write to it: the user said so
 * (FREE), or the device was made quiet at its last close. Until then a buffer
 * whose file has gone is held back.
 *
 * Takes memory_lock (also under mmap_lock), and charge_lock under it.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "iospace.h"

/**
 * iospace_buffer_init() - Begin a buffer, and charge for it
 * @buffer: The first member of its kind's structure, from kzalloc()
 * @file: Who is charged
 * @ops: Its kind
 * @memory: Type in effect
 * @size: Bytes; whole pages of what can be mapped
 * @charged: Bytes to charge
 *
 * The kind then gets its memory and tells how many segments it has. Until
 * iospace_buffer_add() it goes by iospace_buffer_abort().
 *
 * Return: 0; or -EDQUOT, and the buffer is gone.
 */
int iospace_buffer_init(struct iospace_buffer *buffer,
			struct iospace_file *file,
			const struct iospace_buffer_ops *ops,
			enum iospace_memory memory, size_t size, size_t charged)
{
	int ret;

	kref_init(&buffer->kref);
	buffer->idev = file->idev;
	buffer->file = file;
	buffer->ops = ops;
	buffer->memory = memory;
	buffer->size = size;
	iospace_charge_begin(&buffer->charge, file->account);
	ret = iospace_charge_more(&buffer->charge, charged);
	if (ret)
		iospace_buffer_abort(buffer);
	return ret;
}

/** iospace_buffer_abort() - End a buffer that has no memory and no handle */
void iospace_buffer_abort(struct iospace_buffer *buffer)
{
	iospace_charge_end(&buffer->charge);
	kfree(buffer);
}

static void iospace_buffer_release(struct iospace_buffer *buffer)
{
	lockdep_assert_held(&buffer->idev->memory_lock);
	if (buffer->released)
		return;

	list_del(&buffer->node);
	buffer->ops->release(buffer);
	buffer->released = true;
	iospace_charge_end(&buffer->charge);
}

static void iospace_buffer_destroy(struct kref *kref)
{
	struct iospace_buffer *buffer =
		container_of(kref, struct iospace_buffer, kref);

	iospace_buffer_release(buffer);
	kfree(buffer);
}

/** iospace_buffer_put_locked() - End a reference, with memory_lock held */
void iospace_buffer_put_locked(struct iospace_buffer *buffer)
{
	kref_put(&buffer->kref, iospace_buffer_destroy);
}

void iospace_buffer_put(struct iospace_buffer *buffer)
{
	struct iospace_device *idev = buffer->idev;

	/* Under the lock: remove() may be giving the same memory back. */
	if (kref_put_mutex(&buffer->kref, iospace_buffer_destroy,
			   &idev->memory_lock))
		mutex_unlock(&idev->memory_lock);
}

/* With the lock of the handles. NULL if user space was not told of it. */
static struct iospace_buffer *iospace_buffer_find(struct iospace_file *file,
						  u32 handle)
{
	struct iospace_buffer *buffer = xa_load(&file->buffers, handle);

	return buffer && buffer->published ? buffer : NULL;
}

/* The buffer of a handle, with a reference; or NULL. */
struct iospace_buffer *iospace_buffer_get(struct iospace_file *file, u32 handle)
{
	struct iospace_buffer *buffer;

	xa_lock(&file->buffers);
	buffer = iospace_buffer_find(file, handle);
	if (buffer)
		kref_get(&buffer->kref);
	xa_unlock(&file->buffers);
	return buffer;
}

/**
 * iospace_buffer_add() - Give a complete buffer to its file
 * @buffer: The buffer; its first reference is the handle's from here
 * @handle: Set to its handle, which is nobody's before iospace_buffer_publish()
 *
 * Return: 0; or an error, and the buffer is gone.
 */
int iospace_buffer_add(struct iospace_buffer *buffer, u32 *handle)
{
	struct iospace_device *idev = buffer->idev;
	int ret;

	if (!dev_is_dma_coherent(idev->dev) &&
	    buffer->direction != DMA_TO_DEVICE)
		buffer->line_mask = dma_get_cache_alignment() - 1;
	mutex_lock(&idev->memory_lock);
	list_add(&buffer->node, &idev->buffers);
	mutex_unlock(&idev->memory_lock);

	ret = xa_alloc(
		&buffer->file->buffers, handle, buffer,
		iospace_mmap_handles(buffer->ops->mmap ? buffer->size : 0),
		GFP_KERNEL_ACCOUNT);
	if (ret)
		iospace_buffer_put(buffer);
	return ret == -EBUSY ? -ENOSPC : ret;
}

/**
 * iospace_buffer_publish() - Let a handle be used, or end it
 * @file: The file
 * @handle: From iospace_buffer_add()
 * @answered: User space was told; otherwise nobody will ever free it
 */
void iospace_buffer_publish(struct iospace_file *file, u32 handle,
			    bool answered)
{
	struct iospace_buffer *buffer;

	xa_lock(&file->buffers);
	if (answered)
		buffer = xa_load(&file->buffers, handle);
	else
		buffer = __xa_erase(&file->buffers, handle);
	buffer->published = answered;
	xa_unlock(&file->buffers);

	if (!answered)
		iospace_buffer_put(buffer);
}

/* What it is to the DMA API; DMA_NONE if there is no such direction. */
enum dma_data_direction iospace_buffer_direction(u32 direction)
{
	switch (direction) {
	case IOSPACE_DIRECTION_TO_DEVICE:
		return DMA_TO_DEVICE;
	case IOSPACE_DIRECTION_FROM_DEVICE:
		return DMA_FROM_DEVICE;
	case IOSPACE_DIRECTION_BIDIRECTIONAL:
		return DMA_BIDIRECTIONAL;
	default:
		return DMA_NONE;
	}
}

static bool iospace_buffer_power_or_zero(u64 value)
{
	return !(value & (value - 1));
}

static int iospace_buffer_check(struct iospace_device *idev,
				const struct iospace_alloc *alloc)
{
	bool one_segment = alloc->flags & IOSPACE_ALLOC_CONTIGUOUS ||
			   alloc->memory == IOSPACE_MEMORY_COHERENT;

	if (alloc->flags & ~IOSPACE_ALLOC_CONTIGUOUS || alloc->__reserved ||
	    !alloc->length)
		return -EINVAL;
	if (alloc->memory < IOSPACE_MEMORY_CACHED ||
	    alloc->memory > IOSPACE_MEMORY_DEVICE)
		return -EINVAL;
	if (!iospace_buffer_power_or_zero(alloc->align) ||
	    !iospace_buffer_power_or_zero(alloc->boundary))
		return -EINVAL;
	if (alloc->boundary &&
	    (alloc->boundary < PAGE_SIZE ||
	     (one_segment && alloc->boundary < alloc->length)))
		return -EINVAL;
	if (alloc->zone > IOSPACE_ZONE_NORMAL)
		return -EINVAL;
	if (alloc->address_bits &&
	    (alloc->address_bits < 8 || alloc->address_bits > 64))
		return -EINVAL;
	if (!(iospace_device_memory_types(idev) & BIT(alloc->memory)))
		return -EOPNOTSUPP;
	if (alloc->zone && !(iospace_zone_all() & BIT(alloc->zone)))
		return -EOPNOTSUPP;
	if (alloc->length > IOSPACE_MMAP_MAX_BUFFER ||
	    alloc->align > IOSPACE_MMAP_MAX_BUFFER)
		return -EDQUOT;
	return 0;
}

/* By the kind of @alloc->memory, which this device can give. */
static struct iospace_buffer *
iospace_buffer_obtain(struct iospace_file *file,
		      const struct iospace_alloc *alloc)
{
	if (alloc->memory == IOSPACE_MEMORY_CACHED)
		return iospace_cached_alloc(file, alloc);
	if (iospace_converted_memory_types() & BIT(alloc->memory))
		return iospace_converted_alloc(file, alloc);
	return iospace_coherent_alloc(file, alloc);
}

int iospace_buffer_alloc(struct iospace_file *file, void *args)
{
	struct iospace_alloc *alloc = args;
	struct iospace_buffer *buffer;
	struct iospace_segment first;
	u32 handle;
	int ret;

	ret = iospace_buffer_check(file->idev, alloc);
	if (ret)
		return ret;
	buffer = iospace_buffer_obtain(file, alloc);
	if (IS_ERR(buffer))
		return PTR_ERR(buffer);

	buffer->ops->segments(buffer, 0, 1, &first);
	alloc->out_memory = buffer->memory;
	alloc->out_length = buffer->size;
	alloc->out_dma_addr = first.dma_addr;
	alloc->out_segments = buffer->segment_count;
	alloc->out_flags = buffer->needs_sync ? IOSPACE_ALLOC_NEEDS_SYNC : 0;

	ret = iospace_buffer_add(buffer, &handle);
	if (ret)
		return ret;
	alloc->out_handle = handle;
	alloc->out_mmap_offset = iospace_mmap_offset_of_handle(handle);
	return 0;
}

void iospace_buffer_alloc_finish(struct iospace_file *file, void *args,
				 bool answered)
{
	struct iospace_alloc *alloc = args;

	iospace_buffer_publish(file, alloc->out_handle, answered);
}

int iospace_buffer_free(struct iospace_file *file, void *args)
{
	struct iospace_free *free = args;
	struct iospace_buffer *buffer;

	if (free->flags || free->__reserved)
		return -EINVAL;

	xa_lock(&file->buffers);
	buffer = iospace_buffer_find(file, free->handle);
	if (buffer)
		__xa_erase(&file->buffers, free->handle);
	xa_unlock(&file->buffers);
	if (!buffer)
		return -ENOENT;
	iospace_buffer_put(buffer);
	return 0;
}

/* A buffer that the device has an address of, with a reference; or NULL. */
static struct iospace_buffer *
iospace_buffer_get_reached(struct iospace_file *file, u32 handle)
{
	struct iospace_buffer *buffer = iospace_buffer_get(file, handle);

	if (buffer && !buffer->ops->segments) {
		iospace_buffer_put(buffer);
		return NULL;
	}
	return buffer;
}

/* Some segments at a time, so that no user memory is touched on the way. */
static int iospace_buffer_copy_segments(struct iospace_buffer *buffer,
					struct iospace_segments *segments,
					unsigned int count)
{
	struct iospace_segment __user *to = u64_to_user_ptr(segments->segments);
	struct iospace_device *idev = buffer->idev;
	struct iospace_segment batch[16];
	unsigned int done, some;
	int index, dead;

	for (done = 0; done < count; done += some) {
		some = min_t(unsigned int, count - done, ARRAY_SIZE(batch));

		index = iospace_device_enter(idev);
		dead = iospace_device_is_dead(idev);
		if (!dead)
			buffer->ops->segments(buffer, segments->first + done,
					      some, batch);
		iospace_device_exit(idev, index);
		if (dead)
			return -ENODEV;

		if (copy_to_user(to + done, batch, some * sizeof(*batch)))
			return -EFAULT;
	}
	segments->out_count = count;
	return 0;
}

/* Called on a device that may be dead, because it writes to user space. */
int iospace_buffer_segments(struct iospace_file *file, void *args)
{
	struct iospace_segments *segments = args;
	struct iospace_buffer *buffer;
	int ret = -EINVAL;

	if (iospace_device_is_dead(file->idev))
		return -ENODEV;
	if (segments->flags || !segments->count)
		return -EINVAL;
	buffer = iospace_buffer_get_reached(file, segments->handle);
	if (!buffer)
		return -ENOENT;

	if (segments->first < buffer->segment_count)
		ret = iospace_buffer_copy_segments(
			buffer, segments,
			min(segments->count,
			    buffer->segment_count - segments->first));
	iospace_buffer_put(buffer);
	return ret;
}

static int iospace_buffer_check_sync(const struct iospace_buffer *buffer,
				     u64 offset, u64 length)
{
	u64 end;

	if (!length || offset > buffer->size || length > buffer->size - offset)
		return -EINVAL;
	/* A part of a line would take the CPU's data in the rest along. */
	end = offset + length;
	if (offset & buffer->line_mask ||
	    (end & buffer->line_mask && end != buffer->size))
		return -EINVAL;
	return 0;
}

static bool iospace_buffer_is_turn(u32 flags)
{
	return flags == IOSPACE_SYNC_FOR_DEVICE ||
	       flags == IOSPACE_SYNC_FOR_CPU;
}

/* Return: the buffer with a reference; NULL if it needs no SYNC; or an error. */
static struct iospace_buffer *
iospace_buffer_get_to_sync(struct iospace_file *file,
			   const struct iospace_sync *sync)
{
	struct iospace_buffer *buffer;
	int ret = -ENOENT;

	xa_lock(&file->buffers);
	buffer = iospace_buffer_find(file, sync->handle);
	if (buffer && buffer->ops->segments)
		ret = iospace_buffer_check_sync(buffer, sync->offset,
						sync->length);
	if (ret)
		buffer = ERR_PTR(ret);
	else if (buffer->needs_sync)
		kref_get(&buffer->kref);
	else
		buffer = NULL;
	xa_unlock(&file->buffers);
	return buffer;
}

/* Ranges may overlap, so each may be the whole buffer, which takes hours. */
static int iospace_buffer_sync_all(struct iospace_buffer *buffer, u32 flags,
				   const struct iospace_sync_range *ranges,
				   u32 count)
{
	u32 i;

	for (i = 0; i < count; i++) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (iospace_device_is_dead(buffer->idev))
			return -ENODEV;
		buffer->ops->sync(buffer, ranges[i].offset, ranges[i].length,
				  flags);
	}
	return 0;
}

/* Ranges that were checked, of a buffer that needs it. */
static int iospace_buffer_turn(struct iospace_buffer *buffer, u32 flags,
			       const struct iospace_sync_range *ranges,
			       u32 count)
{
	int index, ret;

	if (buffer->ops->turn)
		return buffer->ops->turn(buffer, flags);

	index = iospace_device_enter(buffer->idev);
	ret = iospace_buffer_sync_all(buffer, flags, ranges, count);
	iospace_device_exit(buffer->idev, index);
	return ret;
}

/*
 * Called on a device that may be dead: most programs call it for each transfer, and
 * most machines have nothing to do, for which they need not enter the device.
 */
int iospace_buffer_sync(struct iospace_file *file, void *args)
{
	struct iospace_sync *sync = args;
	const struct iospace_sync_range range = { sync->offset, sync->length };
	struct iospace_buffer *buffer;
	int ret;

	if (iospace_device_is_dead(file->idev))
		return -ENODEV;
	if (sync->__reserved || !iospace_buffer_is_turn(sync->flags))
		return -EINVAL;
	buffer = iospace_buffer_get_to_sync(file, sync);
	if (IS_ERR_OR_NULL(buffer))
		return PTR_ERR_OR_ZERO(buffer);

	ret = iospace_buffer_turn(buffer, sync->flags, &range, 1);
	iospace_buffer_put(buffer);
	return ret;
}

static int iospace_buffer_check_all(const struct iospace_buffer *buffer,
				    const struct iospace_sync_range *ranges,
				    u32 count)
{
	u32 i;
	int ret = 0;

	for (i = 0; !ret && i < count; i++)
		ret = iospace_buffer_check_sync(buffer, ranges[i].offset,
						ranges[i].length);
	return ret;
}

/* Called on a device that may be dead, because it reads from user space. */
int iospace_buffer_sync_ranges(struct iospace_file *file, void *args)
{
	struct iospace_sync_ranges *sync = args;
	struct iospace_sync_range *ranges;
	struct iospace_buffer *buffer;
	int ret;

	if (iospace_device_is_dead(file->idev))
		return -ENODEV;
	if (!iospace_buffer_is_turn(sync->flags) || !sync->count ||
	    sync->count > IOSPACE_MAX_SYNC_RANGES)
		return -EINVAL;
	buffer = iospace_buffer_get_reached(file, sync->handle);
	if (!buffer)
		return -ENOENT;

	ret = -ENOMEM;
	ranges = kvmalloc_array(sync->count, sizeof(*ranges),
				GFP_KERNEL_ACCOUNT);
	if (!ranges)
		goto put_buffer;
	ret = -EFAULT;
	if (copy_from_user(ranges, u64_to_user_ptr(sync->ranges),
			   sync->count * sizeof(*ranges)))
		goto free_ranges;
	ret = iospace_buffer_check_all(buffer, ranges, sync->count);
	if (!ret && buffer->needs_sync)
		ret = iospace_buffer_turn(buffer, sync->flags, ranges,
					  sync->count);

free_ranges:
	kvfree(ranges);
put_buffer:
	iospace_buffer_put(buffer);
	return ret;
}

static void iospace_buffer_hold(struct iospace_buffer *buffer)
{
	struct iospace_device *idev = buffer->idev;

	mutex_lock(&idev->memory_lock);
	if (!buffer->released) {
		iospace_charge_hold(&buffer->charge);
		buffer = NULL;
	}
	mutex_unlock(&idev->memory_lock);

	/* The device went meanwhile, and took the memory along. */
	if (buffer)
		iospace_buffer_put(buffer);
}

/**
 * iospace_buffer_close_file() - End the handles of a file
 * @file: The file; it has no mapping any more
 * @last: Nobody else has the device open, and it is quiet
 *
 * The user never said that the device is done with these: they wait for the
 * last close, and with @last also what earlier files left is given back. An
 * IOMMU changes nothing in that. It would unmap them, but hand out the same bus
 * addresses again, to the next buffer of this device.
 */
void iospace_buffer_close_file(struct iospace_file *file, bool last)
{
	struct iospace_buffer *buffer;
	unsigned long handle;

	xa_for_each(&file->buffers, handle, buffer) {
		/* What the device has no address of it does not write. */
		if (last || !buffer->ops->segments)
			iospace_buffer_put(buffer);
		else
			iospace_buffer_hold(buffer);
	}
	xa_destroy(&file->buffers);

	if (last)
		iospace_buffer_drain(file->idev);
}

/**
 * iospace_buffer_drain() - Give the memory of all buffers back
 * @idev: The device; quiet, and nothing of it is mapped
 */
void iospace_buffer_drain(struct iospace_device *idev)
{
	struct iospace_buffer *buffer;

	mutex_lock(&idev->memory_lock);
	/* From the head each time: with an import goes what it kept. */
	while (!list_empty(&idev->buffers)) {
		bool held;

		buffer = list_first_entry(&idev->buffers, struct iospace_buffer,
					  node);
		held = buffer->charge.held;
		iospace_buffer_release(buffer);
		/* The list had the reference of its handle. */
		if (held)
			iospace_buffer_put_locked(buffer);
	}
	mutex_unlock(&idev->memory_lock);
}
