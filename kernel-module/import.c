// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Imports: a dma-buf, of whatever driver, as a device sees it.
 *
 * Owns the attachment to the dma-buf. Where the dma-buf is of this same device there
 * is none: the import keeps the buffer, and has its addresses. Takes dma_lock, and
 * the dma-buf's reservation lock under it; is released under memory_lock.
 */
#include <linux/dma-buf.h>
#include <linux/dma-map-ops.h>
#include <linux/fs.h>
#include <linux/slab.h>

#include "compat.h"
#include "iospace.h"

/**
 * struct iospace_imported - A dma-buf that a device reaches
 * @buffer: What it is to others
 * @scatter: What the device sees of it
 * @original: The buffer of this device that it is a part of, with a reference; or
 *            NULL, and the other members are set
 * @dmabuf: With a reference
 * @attachment: To @dmabuf
 * @table: Of @attachment, and the exporter's
 * @bounced: The device works on a copy
 */
struct iospace_imported {
	struct iospace_buffer buffer;
	struct iospace_scatter scatter;
	struct iospace_buffer *original;
	struct dma_buf *dmabuf;
	struct dma_buf_attachment *attachment;
	struct sg_table *table;
	bool bounced;
};

static struct iospace_imported *
iospace_imported_of(struct iospace_buffer *buffer)
{
	return container_of(buffer, struct iospace_imported, buffer);
}

static void iospace_import_detach(struct iospace_imported *imported)
{
	dma_buf_unmap_attachment_unlocked(imported->attachment, imported->table,
					  imported->scatter.direction);
	dma_buf_detach(imported->dmabuf, imported->attachment);
}

static void iospace_import_release(struct iospace_buffer *buffer)
{
	struct iospace_imported *imported = iospace_imported_of(buffer);

	iospace_scatter_forget(&imported->scatter);
	if (imported->original) {
		iospace_buffer_put_locked(imported->original);
		return;
	}
	iospace_import_detach(imported);
	dma_buf_put(imported->dmabuf);
}

static void iospace_import_segments(struct iospace_buffer *buffer,
				    unsigned int first, unsigned int count,
				    struct iospace_segment *to)
{
	iospace_scatter_segments(&iospace_imported_of(buffer)->scatter, first,
				 count, to);
}

/* The device's own part of a turn. */
static int iospace_import_sync(struct iospace_imported *imported, u32 flags)
{
	struct iospace_scatter *scatter = &imported->scatter;
	struct iospace_device *idev = scatter->idev;
	int index, ret = 0;

	index = iospace_device_enter(idev);
	if (iospace_device_is_dead(idev))
		ret = -ENODEV;
	else if (imported->original || imported->bounced)
		iospace_scatter_sync(scatter, 0, scatter->size, flags);
	iospace_device_exit(idev, index);
	return ret;
}

/* The dma-buf, with a reference of its own; NULL when the device is dead. */
static struct dma_buf *iospace_import_get(struct iospace_imported *imported)
{
	struct iospace_device *idev = imported->scatter.idev;
	struct dma_buf *dmabuf = NULL;
	int index;

	index = iospace_device_enter(idev);
	if (!iospace_device_is_dead(idev)) {
		dmabuf = imported->dmabuf;
		get_dma_buf(dmabuf);
	}
	iospace_device_exit(idev, index);
	return dmabuf;
}

/*
 * Exporters see to the caches for those who attached, but not all do to their bounce
 * buffers. To copy twice is no harm; in the CPU's favour it comes last, because an
 * exporter may have a copy of its own. The beginning waits for whoever works on the
 * dma-buf, perhaps for ever, and so not between enter and exit.
 */
static int iospace_import_turn(struct iospace_buffer *buffer, u32 flags)
{
	struct iospace_imported *imported = iospace_imported_of(buffer);
	enum dma_data_direction direction = imported->scatter.direction;
	struct dma_buf *dmabuf;
	int ret = 0;

	if (imported->original)
		return iospace_import_sync(imported, flags);
	dmabuf = iospace_import_get(imported);
	if (!dmabuf)
		return -ENODEV;

	if (flags & IOSPACE_SYNC_FOR_CPU)
		ret = dma_buf_begin_cpu_access(dmabuf, direction);
	if (!ret)
		ret = iospace_import_sync(imported, flags);
	if (!ret && flags & IOSPACE_SYNC_FOR_DEVICE)
		ret = dma_buf_end_cpu_access(dmabuf, direction);
	dma_buf_put(dmabuf);
	return ret;
}

static const struct iospace_buffer_ops iospace_import_ops = {
	.release = iospace_import_release,
	.segments = iospace_import_segments,
	.turn = iospace_import_turn,
};

static bool iospace_import_is_whole(const struct iospace_imported *imported)
{
	struct scatterlist *entry;
	u64 bytes = 0;
	int i;

	for_each_sgtable_dma_sg(imported->table, entry, i)
		bytes += sg_dma_len(entry);
	return bytes >= imported->scatter.size;
}

/* Not under a mask that is lowered for someone else. */
static int iospace_import_attach(struct iospace_imported *imported)
{
	struct iospace_device *idev = imported->buffer.idev;
	struct iospace_scatter *scatter = &imported->scatter;
	const struct dma_buf_ops *ops = imported->dmabuf->ops;
	int ret;

	imported->attachment = dma_buf_attach(imported->dmabuf, idev->dev);
	if (IS_ERR(imported->attachment))
		return PTR_ERR(imported->attachment);

	mutex_lock(&idev->dma_lock);
	imported->table = dma_buf_map_attachment_unlocked(imported->attachment,
							  scatter->direction);
	mutex_unlock(&idev->dma_lock);
	if (IS_ERR(imported->table)) {
		dma_buf_detach(imported->dmabuf, imported->attachment);
		return PTR_ERR(imported->table);
	}

	ret = -EOPNOTSUPP;
	if (iospace_import_is_whole(imported))
		ret = iospace_scatter_note(scatter, imported->table);
	if (ret) {
		iospace_import_detach(imported);
		return ret;
	}
	imported->bounced = dev_is_dma_coherent(idev->dev) &&
			    scatter->needs_sync;
	imported->buffer.needs_sync = imported->bounced ||
				      ops->begin_cpu_access ||
				      ops->end_cpu_access;
	return 0;
}

/* Lets the device reach it; takes over the caller's reference to the dma-buf. */
static int iospace_import_reach(struct iospace_imported *imported)
{
	struct iospace_scatter *scatter = &imported->scatter;
	struct iospace_buffer *original;
	int ret;

	original = iospace_export_original(imported->dmabuf,
					   imported->buffer.idev, scatter);
	if (IS_ERR(original))
		return PTR_ERR(original);
	if (original) {
		imported->original = original;
		imported->buffer.needs_sync = scatter->needs_sync;
		dma_buf_put(imported->dmabuf);
	} else {
		ret = iospace_import_attach(imported);
		if (ret)
			return ret;
		imported->buffer.charge.kept = scatter->size;
	}
	imported->buffer.segment_count = scatter->segment_count;
	return 0;
}

/* Complete but for its handle; or an error, and the dma-buf is still the caller's. */
static struct iospace_imported *
iospace_import_make(struct iospace_file *file, struct dma_buf *dmabuf,
		    enum dma_data_direction direction)
{
	struct iospace_imported *imported;
	int ret;

	if (direction != DMA_TO_DEVICE && !(dmabuf->file->f_mode & FMODE_WRITE))
		return ERR_PTR(-EACCES);
	if (dmabuf->size > IOSPACE_MMAP_MAX_BUFFER)
		return ERR_PTR(-EDQUOT);

	imported = kzalloc(sizeof(*imported), GFP_KERNEL_ACCOUNT);
	if (!imported)
		return ERR_PTR(-ENOMEM);
	ret = iospace_buffer_init(&imported->buffer, file, &iospace_import_ops,
				  IOSPACE_MEMORY_CACHED, dmabuf->size,
				  PAGE_SIZE);
	if (ret)
		return ERR_PTR(ret);
	imported->buffer.direction = direction;
	imported->dmabuf = dmabuf;
	imported->scatter = (struct iospace_scatter){
		.idev = file->idev,
		.direction = direction,
		.size = dmabuf->size,
	};
	ret = iospace_import_reach(imported);
	if (!ret)
		return imported;

	iospace_buffer_abort(&imported->buffer);
	return ERR_PTR(ret);
}

int iospace_import_open(struct iospace_file *file, void *args)
{
	struct iospace_import *import = args;
	struct iospace_imported *imported;
	enum dma_data_direction direction;
	struct iospace_segment first;
	struct dma_buf *dmabuf;

	direction = iospace_buffer_direction(import->direction);
	if (import->flags || import->__reserved || direction == DMA_NONE)
		return -EINVAL;
	dmabuf = dma_buf_get(import->fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	imported = iospace_import_make(file, dmabuf, direction);
	if (IS_ERR(imported)) {
		dma_buf_put(dmabuf);
		return PTR_ERR(imported);
	}

	iospace_import_segments(&imported->buffer, 0, 1, &first);
	import->out_length = imported->scatter.size;
	import->out_dma_addr = first.dma_addr;
	import->out_segments = imported->buffer.segment_count;
	import->out_flags =
		imported->buffer.needs_sync ? IOSPACE_ALLOC_NEEDS_SYNC : 0;
	return iospace_buffer_add(&imported->buffer, &import->out_handle);
}

void iospace_import_finish(struct iospace_file *file, void *args, bool answered)
{
	struct iospace_import *import = args;

	iospace_buffer_publish(file, import->out_handle, answered);
}
