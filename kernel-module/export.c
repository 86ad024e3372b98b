// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Exports: a range of a cached buffer as a dma-buf, for other drivers and other
 * processes.
 *
 * A dma-buf shares the buffer's pages, and outlives the buffer, its file and its
 * device. Owns what other devices see of the pages, and user space's mappings of
 * them. Takes memory_lock, but not in operations that run with the dma-buf's
 * reservation lock held; and, apart from it, share_lock.
 */
#include <linux/dma-buf.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "iospace.h"

IOSPACE_IMPORT_DMA_BUF;

/**
 * struct iospace_share - What a dma-buf is made of
 * @idev: The device of the buffer, with a reference
 * @node: In its list
 * @pages: The buffer's pages
 * @first: Index of the first that is shared
 * @count: How many are
 * @read_only: Nobody writes
 * @zeros: What a mapping shows when the device is gone
 * @mappings: Those of user space, with a reference to their inode
 * @lock: For @reaches, and who has the turn
 * @reaches: What other devices see of it
 */
struct iospace_share {
	struct iospace_device *idev;
	struct list_head node;
	struct iospace_pages *pages;
	unsigned long first;
	unsigned long count;
	bool read_only;
	struct page *zeros;
	struct address_space *mappings;
	struct mutex lock; /* share_lock */
	struct list_head reaches;
};

/**
 * struct iospace_reach - What one device sees of a share
 * @node: In the share's list
 * @dev: The device
 * @direction: Who writes
 * @table: The mapping
 * @shown: A copy of it, the importer's: a kernel that debugs dma-bufs makes the pages
 *         in it unreadable meanwhile
 */
struct iospace_reach {
	struct list_head node;
	struct device *dev;
	enum dma_data_direction direction;
	struct sg_table table;
	struct sg_table shown;
};

static struct page **iospace_share_pages(struct iospace_share *share)
{
	return share->pages->array + share->first;
}

static size_t iospace_share_size(const struct iospace_share *share)
{
	return share->count << PAGE_SHIFT;
}

static int iospace_share_attach(struct dma_buf *dmabuf,
				struct dma_buf_attachment *attachment)
{
	struct iospace_share *share = dmabuf->priv;

	return iospace_device_is_dead(share->idev) ? -ENODEV : 0;
}

/*
 * Does the device reach all of it? The kernel warns of what is beyond its mask
 * where neither an IOMMU nor bounce buffers help.
 */
static bool iospace_share_is_near(struct iospace_share *share,
				  struct device *dev)
{
	u64 mask = min_not_zero(dma_get_mask(dev), dev->bus_dma_limit);
	struct page **pages = iospace_share_pages(share);
	unsigned long i;

	if (iospace_device_iommu_of(dev) == IOSPACE_IOMMU_TRANSLATING ||
	    dma_max_mapping_size(dev) != SIZE_MAX)
		return true;
	for (i = 0; i < share->count; i++) {
		if (!(i % 1024))
			cond_resched();
		if (phys_to_dma(dev, page_to_phys(pages[i])) + PAGE_SIZE - 1 >
		    mask)
			return false;
	}
	return true;
}

static int iospace_reach_show(struct iospace_reach *reach)
{
	struct scatterlist *from, *to;
	int i, ret;

	ret = sg_alloc_table(&reach->shown, reach->table.orig_nents,
			     GFP_KERNEL);
	if (ret)
		return ret;
	to = reach->shown.sgl;
	for_each_sgtable_sg(&reach->table, from, i) {
		sg_set_page(to, sg_page(from), from->length, from->offset);
		sg_dma_address(to) = sg_dma_address(from);
		sg_dma_len(to) = sg_dma_len(from);
		to = sg_next(to);
	}
	reach->shown.nents = reach->table.nents;
	return 0;
}

/*
 * The kernel's debugging takes several mappings of one page for a mistake, unless
 * they say that they see to the caches themselves: so do these.
 */
static int iospace_reach_map(struct iospace_reach *reach,
			     struct iospace_share *share)
{
	size_t most = min_t(size_t, dma_get_max_seg_size(reach->dev),
			    dma_max_mapping_size(reach->dev)) &
		      PAGE_MASK;
	int ret;

	if (!most || !iospace_share_is_near(share, reach->dev))
		return -EOPNOTSUPP;
	ret = sg_alloc_table_from_pages_segment(
		&reach->table, iospace_share_pages(share), share->count, 0,
		iospace_share_size(share), most, GFP_KERNEL);
	if (ret)
		return ret;
	ret = dma_map_sgtable(reach->dev, &reach->table, reach->direction,
			      DMA_ATTR_SKIP_CPU_SYNC | DMA_ATTR_NO_WARN);
	if (ret)
		goto free_table;
	ret = iospace_reach_show(reach);
	if (ret)
		goto unmap_table;

	mutex_lock(&share->lock);
	dma_sync_sgtable_for_device(reach->dev, &reach->table,
				    reach->direction);
	list_add_tail(&reach->node, &share->reaches);
	mutex_unlock(&share->lock);
	return 0;

unmap_table:
	dma_unmap_sgtable(reach->dev, &reach->table, reach->direction,
			  DMA_ATTR_SKIP_CPU_SYNC);
free_table:
	sg_free_table(&reach->table);
	return ret;
}

static struct sg_table *iospace_share_map(struct dma_buf_attachment *attachment,
					  enum dma_data_direction direction)
{
	struct iospace_share *share = attachment->dmabuf->priv;
	struct iospace_reach *reach;
	int ret;

	if (iospace_device_is_dead(share->idev))
		return ERR_PTR(-ENODEV);
	if (share->read_only && direction != DMA_TO_DEVICE)
		return ERR_PTR(-EACCES);
	reach = kzalloc(sizeof(*reach), GFP_KERNEL);
	if (!reach)
		return ERR_PTR(-ENOMEM);
	reach->dev = attachment->dev;
	reach->direction = direction;
	ret = iospace_reach_map(reach, share);
	if (!ret)
		return &reach->shown;

	kfree(reach);
	return ERR_PTR(ret);
}

/* Concerns the importer's device alone: this one may have gone. */
static void iospace_share_unmap(struct dma_buf_attachment *attachment,
				struct sg_table *table,
				enum dma_data_direction direction)
{
	struct iospace_share *share = attachment->dmabuf->priv;
	struct iospace_reach *reach =
		container_of(table, struct iospace_reach, shown);

	mutex_lock(&share->lock);
	list_del(&reach->node);
	dma_sync_sgtable_for_cpu(reach->dev, &reach->table, reach->direction);
	mutex_unlock(&share->lock);

	sg_free_table(&reach->shown);
	dma_unmap_sgtable(reach->dev, &reach->table, reach->direction,
			  DMA_ATTR_SKIP_CPU_SYNC);
	sg_free_table(&reach->table);
	kfree(reach);
}

/*
 * Of those who attached. Its own device is its owner's, who alone knows what that
 * has the turn of: to take what the device never had would put its stale copy, or
 * nothing, in the place of what the CPU wrote.
 */
static int iospace_share_begin_cpu_access(struct dma_buf *dmabuf,
					  enum dma_data_direction direction)
{
	struct iospace_share *share = dmabuf->priv;
	struct iospace_reach *reach;

	if (direction == DMA_TO_DEVICE)
		return 0;
	mutex_lock(&share->lock);
	list_for_each_entry(reach, &share->reaches, node)
		dma_sync_sgtable_for_cpu(reach->dev, &reach->table,
					 reach->direction);
	mutex_unlock(&share->lock);
	return 0;
}

static int iospace_share_end_cpu_access(struct dma_buf *dmabuf,
					enum dma_data_direction direction)
{
	struct iospace_share *share = dmabuf->priv;
	struct iospace_reach *reach;

	if (direction == DMA_FROM_DEVICE)
		return 0;
	mutex_lock(&share->lock);
	list_for_each_entry(reach, &share->reaches, node)
		dma_sync_sgtable_for_device(reach->dev, &reach->table,
					    reach->direction);
	mutex_unlock(&share->lock);
	return 0;
}

/*
 * Brings the page, and what comes after it in one table of pages. Inserted before
 * iospace_device_exit(), so that iospace_export_revoke() finds them.
 */
static vm_fault_t iospace_share_insert(struct iospace_share *share,
				       struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long at = vmf->address & PAGE_MASK;
	/* Of the last byte, which may be the last of all addresses. */
	unsigned long last = min(vma->vm_end - 1, at | ~PMD_MASK);
	unsigned long count = ((last - at) >> PAGE_SHIFT) + 1;
	int ret;

	ret = vm_insert_pages(vma, at, iospace_share_pages(share) + vmf->pgoff,
			      &count);
	/* Some were there already: another thread was faster. */
	if (!ret || ret == -EBUSY)
		return VM_FAULT_NOPAGE;
	return vmf_error(ret);
}

static vm_fault_t iospace_share_fault(struct vm_fault *vmf)
{
	struct iospace_share *share = vmf->vma->vm_private_data;
	vm_fault_t ret = 0;
	int index;

	index = iospace_device_enter(share->idev);
	if (iospace_device_is_dead(share->idev)) {
		get_page(share->zeros);
		vmf->page = share->zeros;
	} else {
		ret = iospace_share_insert(share, vmf);
	}
	iospace_device_exit(share->idev, index);
	return ret;
}

static const struct vm_operations_struct iospace_share_vm_ops = {
	.fault = iospace_share_fault,
};

/** iospace_export_is_mapped() - Is @vma a dma-buf of the device's memory? */
bool iospace_export_is_mapped(struct iospace_device *idev,
			      const struct vm_area_struct *vma)
{
	const struct iospace_share *share = vma->vm_private_data;

	return vma->vm_ops == &iospace_share_vm_ops && share->idev == idev;
}

/* @vma may be of another driver's file, which can be written. */
static int iospace_share_mmap(struct dma_buf *dmabuf,
			      struct vm_area_struct *vma)
{
	struct iospace_share *share = dmabuf->priv;

	if (!(vma->vm_flags & VM_MAYSHARE) || vma->vm_flags & VM_EXEC)
		return -EINVAL;
	if (share->read_only && vma->vm_flags & VM_WRITE)
		return -EACCES;
	if (iospace_device_is_dead(share->idev))
		return -ENODEV;

	iospace_vma_flags(vma, VM_MIXEDMAP | VM_DONTEXPAND | VM_DONTDUMP,
			  VM_MAYEXEC | (share->read_only ? VM_MAYWRITE : 0));
	vma->vm_private_data = share;
	vma->vm_ops = &iospace_share_vm_ops;
	return 0;
}

static int iospace_share_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct iospace_share *share = dmabuf->priv;
	void *address;

	if (iospace_device_is_dead(share->idev))
		return -ENODEV;
	/* Drivers write to what they map. */
	if (share->read_only)
		return -EACCES;
	address = vmap(iospace_share_pages(share), share->count, VM_MAP,
		       PAGE_KERNEL);
	if (!address)
		return -ENOMEM;
	iosys_map_set_vaddr(map, address);
	return 0;
}

static void iospace_share_vunmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	vunmap(map->vaddr);
}

static void iospace_share_free(struct iospace_share *share)
{
	mutex_lock(&share->idev->memory_lock);
	list_del(&share->node);
	iospace_pages_put(share->pages);
	mutex_unlock(&share->idev->memory_lock);

	__free_page(share->zeros);
	iospace_device_put(share->idev);
	kfree(share);
}

/* When the last descriptor, mapping and attachment is gone. */
static void iospace_share_release(struct dma_buf *dmabuf)
{
	struct iospace_share *share = dmabuf->priv;
	struct inode *inode = share->mappings->host;

	iospace_share_free(share);
	iput(inode);
}

IOSPACE_DMA_BUF_VMAP_OPS(iospace_share_vmap, iospace_share_vunmap)

static const struct dma_buf_ops iospace_share_ops = {
	.attach = iospace_share_attach,
	.map_dma_buf = iospace_share_map,
	.unmap_dma_buf = iospace_share_unmap,
	.begin_cpu_access = iospace_share_begin_cpu_access,
	.end_cpu_access = iospace_share_end_cpu_access,
	.mmap = iospace_share_mmap,
	.vmap = IOSPACE_DMA_BUF_OP(iospace_share_vmap),
	.vunmap = IOSPACE_DMA_BUF_OP(iospace_share_vunmap),
	.release = iospace_share_release,
};

/* A share of the buffer's pages from byte @offset on, for no dma-buf yet. */
static struct iospace_share *iospace_share_create(struct iospace_buffer *buffer,
						  u64 offset, u64 length)
{
	struct iospace_device *idev = buffer->idev;
	struct iospace_share *share;

	share = kzalloc(sizeof(*share), GFP_KERNEL_ACCOUNT);
	if (!share)
		return NULL;
	share->zeros = alloc_page(IOSPACE_GFP_MAPPED | __GFP_ZERO);
	if (!share->zeros) {
		kfree(share);
		return NULL;
	}
	share->idev = idev;
	share->first = offset >> PAGE_SHIFT;
	share->count = length >> PAGE_SHIFT;
	mutex_init(&share->lock);
	INIT_LIST_HEAD(&share->reaches);
	kref_get(&idev->kref);

	mutex_lock(&idev->memory_lock);
	share->pages = buffer->ops->pages(buffer);
	share->pages->users++;
	/* Not to be revoked before it has a dma-buf. */
	INIT_LIST_HEAD(&share->node);
	mutex_unlock(&idev->memory_lock);
	return share;
}

static struct dma_buf *iospace_export_make(struct iospace_buffer *buffer,
					   const struct iospace_export *export)
{
	bool read_only = export->flags & IOSPACE_EXPORT_READ_ONLY;
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct iospace_share *share;
	struct dma_buf *dmabuf;

	share = iospace_share_create(buffer, export->offset, export->length);
	if (!share)
		return ERR_PTR(-ENOMEM);
	share->read_only = read_only;

	info.ops = &iospace_share_ops;
	info.size = export->length;
	info.flags = read_only ? O_RDONLY : O_RDWR;
	info.priv = share;
	dmabuf = dma_buf_export(&info);
	if (IS_ERR(dmabuf)) {
		iospace_share_free(share);
		return dmabuf;
	}

	/* Its last part to go is the share, so this outlives the file. */
	share->mappings = dmabuf->file->f_mapping;
	ihold(share->mappings->host);
	mutex_lock(&share->idev->memory_lock);
	list_add(&share->node, &share->idev->exports);
	mutex_unlock(&share->idev->memory_lock);
	return dmabuf;
}

static int iospace_export_check(const struct iospace_buffer *buffer,
				const struct iospace_export *export)
{
	if (!buffer->ops->pages)
		return -EOPNOTSUPP;
	if (!export->length || offset_in_page(export->offset | export->length))
		return -EINVAL;
	if (export->offset > buffer->size ||
	    export->length > buffer->size - export->offset)
		return -EINVAL;
	return 0;
}

int iospace_export_open(struct iospace_file *file, void *args)
{
	struct iospace_export_call *call = args;
	struct iospace_export *export = &call->export;
	struct iospace_buffer *buffer;
	int ret;

	if (export->flags & ~IOSPACE_EXPORT_READ_ONLY)
		return -EINVAL;
	buffer = iospace_buffer_get(file, export->handle);
	if (!buffer)
		return -ENOENT;
	ret = iospace_export_check(buffer, export);
	if (ret)
		goto put_buffer;
	ret = get_unused_fd_flags(O_CLOEXEC);
	if (ret < 0)
		goto put_buffer;
	export->out_fd = ret;

	call->dmabuf = iospace_export_make(buffer, export);
	ret = PTR_ERR_OR_ZERO(call->dmabuf);
	if (ret)
		put_unused_fd(export->out_fd);
put_buffer:
	iospace_buffer_put(buffer);
	return ret;
}

/* @out_fd may have been changed in user space, not here. */
void iospace_export_finish(struct iospace_file *file, void *args, bool answered)
{
	struct iospace_export_call *call = args;

	if (answered) {
		fd_install(call->export.out_fd, call->dmabuf->file);
	} else {
		put_unused_fd(call->export.out_fd);
		dma_buf_put(call->dmabuf);
	}
}

/**
 * iospace_export_original() - The buffer that a dma-buf was exported from
 * @dmabuf: Any dma-buf
 * @idev: The device, entered and not dead
 * @slice: @size is set; gets what the device sees of the dma-buf
 *
 * Return: the buffer, with a reference, if it is this device's and still lives; else
 * NULL, or an error.
 */
struct iospace_buffer *iospace_export_original(struct dma_buf *dmabuf,
					       struct iospace_device *idev,
					       struct iospace_scatter *slice)
{
	struct iospace_buffer *buffer = NULL;
	struct iospace_share *share;
	int ret = 0;

	if (dmabuf->ops != &iospace_share_ops)
		return NULL;
	share = dmabuf->priv;
	if (share->idev != idev)
		return NULL;

	mutex_lock(&idev->memory_lock);
	if (share->pages->buffer)
		ret = iospace_scatter_slice(slice, share->pages->scatter,
					    (u64)share->first << PAGE_SHIFT);
	if (share->pages->buffer && !ret) {
		buffer = share->pages->buffer;
		kref_get(&buffer->kref);
	}
	mutex_unlock(&idev->memory_lock);
	return ret ? ERR_PTR(ret) : buffer;
}

/**
 * iospace_export_revoke() - Take user space's mappings of dma-bufs away
 * @idev: The device; dead, and nobody is between enter and exit
 */
void iospace_export_revoke(struct iospace_device *idev)
{
	struct iospace_share *share;

	mutex_lock(&idev->memory_lock);
	list_for_each_entry(share, &idev->exports, node)
		unmap_mapping_range(share->mappings, 0, 0, 1);
	mutex_unlock(&idev->memory_lock);
}
