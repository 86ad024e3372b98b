// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A buffer: memory that the device reaches, and who is charged for it.
 *
 * The structure lives as long as its handle and its mappings. The memory lives
 * as long, and at most as long as the device is bound. It goes back to the
 * kernel only when the device can no longer write to it: the user said so
 * (FREE), or an IOMMU forbids it, or the device was made quiet at its last
 * close. Until then a buffer whose file has gone is held back.
 *
 * Takes memory_lock (also under mmap_lock), and a lock of its own for charges.
 */
#include <linux/dma-mapping.h>
#include <linux/module.h>

#include "compat.h"
#include "iospace.h"

#ifndef CONFIG_IOSPACE_MAX_FILE_MIB
#define CONFIG_IOSPACE_MAX_FILE_MIB 256
#endif
#ifndef CONFIG_IOSPACE_MAX_TOTAL_MIB
#define CONFIG_IOSPACE_MAX_TOTAL_MIB 1024
#endif

unsigned long iospace_max_file_bytes =
	CONFIG_IOSPACE_MAX_FILE_MIB * (ulong)SZ_1M;
module_param_named(max_file_bytes, iospace_max_file_bytes, ulong, 0644);
MODULE_PARM_DESC(max_file_bytes,
		 "Bytes of buffers that one open file may have");

unsigned long iospace_max_total_bytes =
	CONFIG_IOSPACE_MAX_TOTAL_MIB * (ulong)SZ_1M;
module_param_named(max_total_bytes, iospace_max_total_bytes, ulong, 0644);
MODULE_PARM_DESC(max_total_bytes,
		 "Bytes of buffers that all open files may have");

/* Guards all byte counts: of files, of devices, and the total. */
static DEFINE_SPINLOCK(iospace_charge_lock);
static u64 iospace_total_bytes;

/* Would @used + @bytes be over @limit? Cannot wrap. */
static bool iospace_charge_exceeds(u64 used, u64 bytes, u64 limit)
{
	return bytes > limit || used > limit - bytes;
}

static int iospace_charge(struct iospace_file *file, size_t bytes)
{
	int ret = -EDQUOT;

	spin_lock(&iospace_charge_lock);
	if (!iospace_charge_exceeds(file->bytes, bytes,
				    READ_ONCE(iospace_max_file_bytes)) &&
	    !iospace_charge_exceeds(iospace_total_bytes, bytes,
				    READ_ONCE(iospace_max_total_bytes))) {
		file->bytes += bytes;
		file->idev->bytes += bytes;
		iospace_total_bytes += bytes;
		ret = 0;
	}
	spin_unlock(&iospace_charge_lock);
	return ret;
}

/* @file: NULL if it has gone, and the bytes were held back for the device. */
static void iospace_uncharge(struct iospace_device *idev,
			     struct iospace_file *file, size_t bytes)
{
	spin_lock(&iospace_charge_lock);
	if (file)
		file->bytes -= bytes;
	else
		idev->held_bytes -= bytes;
	idev->bytes -= bytes;
	iospace_total_bytes -= bytes;
	spin_unlock(&iospace_charge_lock);
}

/* Gives the memory back, once. */
static void iospace_buffer_give_back(struct iospace_buffer *buffer)
{
	struct iospace_device *idev = buffer->idev;

	lockdep_assert_held(&idev->memory_lock);
	if (!buffer->cpu_addr)
		return;

	list_del(&buffer->node);
	dma_free_attrs(idev->dev, buffer->size, buffer->cpu_addr,
		       buffer->dma_addr, 0);
	buffer->cpu_addr = NULL;
	iospace_uncharge(idev, buffer->file, buffer->size);
}

static void iospace_buffer_destroy(struct kref *kref)
{
	struct iospace_buffer *buffer =
		container_of(kref, struct iospace_buffer, kref);

	/* Under the lock: remove() may be giving the same memory back. */
	mutex_lock(&buffer->idev->memory_lock);
	iospace_buffer_give_back(buffer);
	mutex_unlock(&buffer->idev->memory_lock);
	kfree(buffer);
}

void iospace_buffer_put(struct iospace_buffer *buffer)
{
	kref_put(&buffer->kref, iospace_buffer_destroy);
}

/* The buffer whose mapping begins at @pgoff, with a reference; or NULL. */
struct iospace_buffer *iospace_buffer_get(struct iospace_file *file,
					  unsigned long pgoff)
{
	struct iospace_buffer *buffer = NULL;
	u32 handle;

	if (!iospace_mmap_handle_at(pgoff, &handle))
		return NULL;

	xa_lock(&file->buffers);
	buffer = xa_load(&file->buffers, handle);
	if (buffer)
		kref_get(&buffer->kref);
	xa_unlock(&file->buffers);
	return buffer;
}

static int iospace_buffer_check(struct iospace_device *idev,
				const struct iospace_alloc *alloc)
{
	if (alloc->flags || !alloc->length)
		return -EINVAL;
	if (alloc->memory < IOSPACE_MEMORY_CACHED ||
	    alloc->memory > IOSPACE_MEMORY_COHERENT)
		return -EINVAL;
	if (!(iospace_device_memory_types(idev) & BIT(alloc->memory)))
		return -EOPNOTSUPP;
	if (alloc->length > IOSPACE_MMAP_MAX_BUFFER)
		return -EDQUOT;
	return 0;
}

int iospace_buffer_alloc(struct iospace_file *file, void *args)
{
	struct iospace_device *idev = file->idev;
	struct iospace_alloc *alloc = args;
	struct iospace_buffer *buffer;
	size_t size;
	u32 handle;
	int ret;

	ret = iospace_buffer_check(idev, alloc);
	if (ret)
		return ret;

	size = PAGE_ALIGN(alloc->length);
	ret = iospace_charge(file, size);
	if (ret)
		return ret;

	buffer = kzalloc(sizeof(*buffer), GFP_KERNEL_ACCOUNT);
	if (!buffer) {
		ret = -ENOMEM;
		goto uncharge;
	}
	kref_init(&buffer->kref);
	buffer->idev = idev;
	buffer->file = file;
	buffer->size = size;

	/* The allocator zeroes. Failing is an answer, not worth a warning. */
	buffer->cpu_addr = dma_alloc_attrs(
		idev->dev, size, &buffer->dma_addr,
		GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN,
		DMA_ATTR_NO_WARN);
	if (!buffer->cpu_addr) {
		ret = -ENOMEM;
		goto free_buffer;
	}

	alloc->out_memory = IOSPACE_MEMORY_COHERENT;
	alloc->out_length = size;
	alloc->out_dma_addr = buffer->dma_addr;

	mutex_lock(&idev->memory_lock);
	list_add(&buffer->node, &idev->buffers);
	mutex_unlock(&idev->memory_lock);

	ret = xa_alloc(&file->buffers, &handle, buffer,
		       iospace_mmap_handles(size), GFP_KERNEL_ACCOUNT);
	if (ret) {
		iospace_buffer_put(buffer);
		return ret == -EBUSY ? -ENOSPC : ret;
	}

	/* The file owns it from here, and another thread may have freed it. */
	alloc->out_handle = handle;
	alloc->out_mmap_offset = iospace_mmap_offset_of_handle(handle);
	return 0;

free_buffer:
	kfree(buffer);
uncharge:
	iospace_uncharge(idev, file, size);
	return ret;
}

static int iospace_buffer_free_handle(struct iospace_file *file, u32 handle)
{
	struct iospace_buffer *buffer = xa_erase(&file->buffers, handle);

	if (!buffer)
		return -ENOENT;
	iospace_buffer_put(buffer);
	return 0;
}

/* The answer could not be written, so nobody knows the handle. */
void iospace_buffer_alloc_undo(struct iospace_file *file, void *args)
{
	struct iospace_alloc *alloc = args;

	iospace_buffer_free_handle(file, alloc->out_handle);
}

int iospace_buffer_free(struct iospace_file *file, void *args)
{
	struct iospace_free *free = args;

	if (free->flags || free->__reserved)
		return -EINVAL;
	return iospace_buffer_free_handle(file, free->handle);
}

static void iospace_buffer_hold(struct iospace_buffer *buffer)
{
	struct iospace_device *idev = buffer->idev;

	mutex_lock(&idev->memory_lock);
	if (buffer->cpu_addr) {
		spin_lock(&iospace_charge_lock);
		idev->held_bytes += buffer->size;
		spin_unlock(&iospace_charge_lock);
		buffer->file = NULL;
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
		if (last)
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
	struct iospace_buffer *buffer, *next;

	mutex_lock(&idev->memory_lock);
	list_for_each_entry_safe(buffer, next, &idev->buffers, node) {
		bool held = !buffer->file;

		iospace_buffer_give_back(buffer);
		/* A held one has no owner but this list. */
		if (held)
			kfree(buffer);
	}
	mutex_unlock(&idev->memory_lock);
}

u64 iospace_buffer_bytes(struct iospace_device *idev)
{
	u64 bytes;

	spin_lock(&iospace_charge_lock);
	bytes = idev->bytes;
	spin_unlock(&iospace_charge_lock);
	return bytes;
}

u64 iospace_buffer_held_bytes(struct iospace_device *idev)
{
	u64 bytes;

	spin_lock(&iospace_charge_lock);
	bytes = idev->held_bytes;
	spin_unlock(&iospace_charge_lock);
	return bytes;
}
