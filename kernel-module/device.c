// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A bound device: how it comes to be, what it can do, and how it dies.
 *
 * Owns struct iospace_device and the mark that says "dead". Binders create and
 * remove; files only hold references. Takes open_lock, then what the others
 * take under it; see iospace.h.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/idr.h>
#include <linux/iommu.h>

#include "compat.h"
#include "iospace.h"

static DEFINE_IDA(iospace_ids);

/* What stands between memory and any device. */
enum iospace_iommu iospace_device_iommu_of(struct device *dev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);

	if (!domain)
		return IOSPACE_IOMMU_NONE;
#ifdef CONFIG_IOMMU_API
	if (domain->type == IOMMU_DOMAIN_IDENTITY)
		return IOSPACE_IOMMU_IDENTITY;
#endif
	return IOSPACE_IOMMU_TRANSLATING;
}

enum iospace_iommu iospace_device_iommu(struct iospace_device *idev)
{
	return iospace_device_iommu_of(idev->dev);
}

u32 iospace_device_memory_types(struct iospace_device *idev)
{
	u32 types = BIT(IOSPACE_MEMORY_CACHED) |
		    iospace_coherent_memory_types(idev);

	if (iospace_converted_limit())
		types |= iospace_converted_memory_types();
	return types & iospace_pool_memory_types(idev);
}

/* Highest bus address that it reaches, and that has so many bits; 0 for any. */
u64 iospace_device_limit(struct iospace_device *idev, u32 address_bits)
{
	return address_bits ? min(idev->dma_mask, DMA_BIT_MASK(address_bits)) :
			      idev->dma_mask;
}

/*
 * Not by dma_set_mask(): since 6.10 that forgets that bounce buffers are in use, and
 * SYNC would do nothing.
 */
static void iospace_device_store_mask(struct device *dev, u64 mask)
{
	*dev->dma_mask = mask;
	dev->coherent_dma_mask = mask;
}

/** iospace_device_restore_mask() - End what iospace_device_lower_mask() began */
void iospace_device_restore_mask(struct iospace_device *idev,
				 const struct iospace_lowered_mask *lowered)
{
	struct device *dev = idev->dev;

	iospace_device_store_mask(dev, lowered->mask);
	if (!dma_mapping_error(dev, lowered->addr))
		dma_unmap_single(dev, lowered->addr, PAGE_SIZE, DMA_TO_DEVICE);
	mutex_unlock(&idev->dma_lock);
}

/**
 * iospace_device_lower_mask() - Begin an allocation with a limit of its own
 * @idev: The device
 * @limit: Highest bus address; what is not below the device's own is no limit
 * @lowered: For iospace_device_restore_mask(), which ends it
 *
 * The DMA API goes by the device's mask alone, so that is lowered meanwhile, under
 * dma_lock. Where the addresses are an IOMMU's, the kernel remembers that it was
 * out of low ones, and refuses them to all until some low address comes back:
 * one does at the end, which was taken before.
 */
void iospace_device_lower_mask(struct iospace_device *idev, u64 limit,
			       struct iospace_lowered_mask *lowered)
{
	struct device *dev = idev->dev;

	mutex_lock(&idev->dma_lock);
	lowered->mask = dma_get_mask(dev);
	lowered->addr = DMA_MAPPING_ERROR;
	if (limit >= idev->dma_mask)
		return;

	if (iospace_device_iommu(idev) == IOSPACE_IOMMU_TRANSLATING)
		lowered->addr = dma_map_single(dev, idev->status, PAGE_SIZE,
					       DMA_TO_DEVICE);
	iospace_device_store_mask(dev, limit);
}

static int iospace_device_apply_dma_mask(struct iospace_device *idev, u64 mask)
{
	int ret = dma_set_mask_and_coherent(idev->dev, mask);

	if (ret)
		return ret;
	idev->dma_mask =
		min_not_zero(dma_get_mask(idev->dev), idev->dev->bus_dma_limit);
	idev->max_segment = min_t(size_t, dma_max_mapping_size(idev->dev),
				  UINT_MAX & PAGE_MASK);
	return 0;
}

/* What is allocated was chosen under the old mask, so not while it is open. */
int iospace_device_set_dma_mask(struct iospace_device *idev, u64 mask)
{
	int ret = 0;

	if (!mask || (mask & (mask + 1)))
		return -EINVAL;

	mutex_lock(&idev->open_lock);
	if (idev->dead)
		ret = -ENODEV;
	else if (!list_empty(&idev->files))
		ret = -EBUSY;
	else if (iospace_device_apply_dma_mask(idev, mask))
		ret = -EOPNOTSUPP;
	mutex_unlock(&idev->open_lock);
	return ret;
}

/** iospace_device_describe() - All of INFO but what the caller passed in */
void iospace_device_describe(struct iospace_device *idev,
			     struct iospace_info *info)
{
	*info = (struct iospace_info){
		.out_version = IOSPACE_VERSION,
		.out_bus = idev->ops->bus,
		.out_iommu = iospace_device_iommu(idev),
		.out_coherent = dev_is_dma_coherent(idev->dev),
		.out_memory_types = iospace_device_memory_types(idev),
		.out_page_size = PAGE_SIZE,
		.out_cache_line = dma_get_cache_alignment(),
		.out_registers = idev->regs_count,
		.out_vectors = idev->vector_count,
		.out_zones = iospace_zone_all(),
		.out_pool = idev->pool.kind,
		.out_arenas = iospace_arena_count(),
		.out_arena_max_blocks = iospace_arena_max_blocks,
		.out_arena_reserve_bytes = iospace_arena_reserve,
		.out_max_file_mappings = READ_ONCE(iospace_max_file_mappings),
		.out_dma_mask = idev->dma_mask,
		.out_max_file_bytes = READ_ONCE(iospace_max_file_bytes),
		.out_max_total_bytes = READ_ONCE(iospace_max_total_bytes),
		.out_max_converted_bytes = iospace_converted_limit(),
		.out_max_segment_bytes = idev->max_segment,
		.out_max_contiguous_bytes = MAX_ORDER_NR_PAGES * PAGE_SIZE,
		.out_pool_start = idev->pool.start,
		.out_pool_bytes = idev->pool.bytes,
	};
	if (idev->ops->bus != IOSPACE_BUS_NONE)
		strscpy(info->out_device, dev_name(idev->dev),
			sizeof(info->out_device));
}

int iospace_device_info(struct iospace_file *file, void *args)
{
	struct iospace_info *info = args;
	u32 size = info->size;

	if (info->flags)
		return -EINVAL;
	iospace_device_describe(file->idev, info);
	info->size = size;
	return 0;
}

static void iospace_device_free(struct kref *kref)
{
	struct iospace_device *idev =
		container_of(kref, struct iospace_device, kref);

	ida_free(&iospace_ids, idev->id);
	free_page((unsigned long)idev->status);
	cleanup_srcu_struct(&idev->srcu);
	kfree(idev);
}

void iospace_device_put(struct iospace_device *idev)
{
	kref_put(&idev->kref, iospace_device_free);
}

static void iospace_device_note_dma(struct iospace_device *idev)
{
	struct device *dev = idev->dev;

	idev->found = (struct iospace_dma_setting){
		.mask = dev->dma_mask,
		.mask_value = dev->dma_mask ? *dev->dma_mask : 0,
		.coherent_mask = dev->coherent_dma_mask,
		.max_segment = dma_get_max_seg_size(dev),
	};
}

/* The driver that comes next may take for granted what a device begins with. */
static void iospace_device_restore_dma(struct iospace_device *idev)
{
	struct device *dev = idev->dev;

	dev->dma_mask = idev->found.mask;
	if (dev->dma_mask)
		*dev->dma_mask = idev->found.mask_value;
	dev->coherent_dma_mask = idev->found.coherent_mask;
	dma_set_max_seg_size(dev, idev->found.max_segment);
}

/**
 * iospace_device_create() - Begin a device
 * @dev: The device; the binder has made it work
 * @ops: The binder's
 * @bus_data: The binder's
 * @first_id: Lowest N of iospaceN to take
 *
 * The binder then adds registers and vectors, and publishes or aborts.
 */
struct iospace_device *iospace_device_create(struct device *dev,
					     const struct iospace_bus_ops *ops,
					     void *bus_data, int first_id)
{
	struct iospace_device *idev;
	int ret;

	idev = kzalloc(sizeof(*idev), GFP_KERNEL);
	if (!idev)
		return ERR_PTR(-ENOMEM);

	kref_init(&idev->kref);
	idev->dev = dev;
	idev->ops = ops;
	idev->bus_data = bus_data;
	idev->ended = true;
	iospace_device_note_dma(idev);
	mutex_init(&idev->open_lock);
	INIT_LIST_HEAD(&idev->files);
	mutex_init(&idev->memory_lock);
	INIT_LIST_HEAD(&idev->buffers);
	INIT_LIST_HEAD(&idev->exports);
	INIT_LIST_HEAD(&idev->chunks);
	mutex_init(&idev->dma_lock);
	mutex_init(&idev->register_lock);
	spin_lock_init(&idev->irq_lock);
	init_waitqueue_head(&idev->irq_wait);

	ret = init_srcu_struct(&idev->srcu);
	if (ret)
		goto free_device;
	idev->status = (void *)get_zeroed_page(GFP_KERNEL);
	if (!idev->status) {
		ret = -ENOMEM;
		goto cleanup_srcu;
	}

	idev->id = ida_alloc_min(&iospace_ids, first_id, GFP_KERNEL);
	if (idev->id < 0) {
		ret = idev->id;
		goto free_status;
	}
	snprintf(idev->name, sizeof(idev->name), "iospace%d", idev->id);
	return idev;

free_status:
	free_page((unsigned long)idev->status);
cleanup_srcu:
	cleanup_srcu_struct(&idev->srcu);
free_device:
	kfree(idev);
	return ERR_PTR(ret);
}

/**
 * iospace_device_publish() - Let user space see a device
 * @idev: The device, complete
 *
 * Return: 0; or an error, and the binder aborts.
 */
int iospace_device_publish(struct iospace_device *idev)
{
	int ret;

	if (!idev->dev->dma_mask)
		idev->dev->dma_mask = &idev->dev->coherent_dma_mask;
	ret = iospace_device_apply_dma_mask(idev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	/* The length of a segment is for its program to bound. */
	dma_set_max_seg_size(idev->dev, UINT_MAX);

	idev->misc = (struct miscdevice){
		.minor = MISC_DYNAMIC_MINOR,
		.name = idev->name,
		.fops = &iospace_file_operations,
		.parent = idev->dev,
		.groups = iospace_sysfs_groups,
		.mode = 0600,
	};
	return misc_register(&idev->misc);
}

/** iospace_device_abort() - Undo iospace_device_create() and what was added */
void iospace_device_abort(struct iospace_device *idev)
{
	iospace_regs_release_all(idev);
	iospace_device_restore_dma(idev);
	iospace_device_put(idev);
}

/** iospace_device_start() - Let a device work, with open_lock held */
int iospace_device_start(struct iospace_device *idev)
{
	int ret;

	lockdep_assert_held(&idev->open_lock);
	ret = idev->ops->start(idev);
	if (ret)
		return ret;
	ret = iospace_irq_request(idev);
	if (ret)
		idev->ended = idev->ops->quiesce(idev, false);
	else
		idev->started = true;
	return ret;
}

/**
 * iospace_device_stop() - Make a device quiet, if it is not
 * @idev: The device, with open_lock held
 * @unbinding: In remove
 *
 * On return it interrupts no more and writes to no memory. What the last close
 * could not end, because remove was waiting with the device's lock held, is
 * ended by remove, before another driver has the device.
 */
void iospace_device_stop(struct iospace_device *idev, bool unbinding)
{
	lockdep_assert_held(&idev->open_lock);
	if (idev->started)
		iospace_irq_free(idev);
	else if (!unbinding || idev->ended)
		return;
	idev->ended = idev->ops->quiesce(idev, unbinding);
	idev->started = false;
}

/**
 * iospace_device_drain() - Give back what was kept while it was open
 * @idev: The device; quiet, without buffers, and nothing of it is mapped
 */
void iospace_device_drain(struct iospace_device *idev)
{
	iospace_converted_drain(idev);
	iospace_arena_detach_all(idev);
	iospace_regs_unmap_all(idev);
}

/**
 * iospace_device_end() - Make a published device dead, whoever still uses it
 * @idev: The device
 *
 * On return it is quiet, and none of its registers or memory is mapped.
 */
void iospace_device_end(struct iospace_device *idev)
{
	struct iospace_file *file;

	mutex_lock(&idev->open_lock);
	WRITE_ONCE(idev->status->gone, 1);
	/* Whoever sees it dead, as a fault does, sees it gone. */
	smp_store_release(&idev->dead, true);
	mutex_unlock(&idev->open_lock);

	/* From here on no call is under way that uses the device. */
	synchronize_srcu(&idev->srcu);
	wake_up_all(&idev->irq_wait);

	mutex_lock(&idev->open_lock);
	iospace_device_stop(idev, true);
	list_for_each_entry(file, &idev->files, node)
		iospace_mmap_revoke(file);
	mutex_unlock(&idev->open_lock);
	iospace_export_revoke(idev);
}

/**
 * iospace_device_remove() - End a published device, and give all of it back
 * @idev: The device
 */
void iospace_device_remove(struct iospace_device *idev)
{
	iospace_device_end(idev);

	/* A last close at the same time gives back the same. */
	mutex_lock(&idev->open_lock);
	iospace_buffer_drain(idev);
	iospace_device_drain(idev);
	iospace_regs_release_all(idev);
	mutex_unlock(&idev->open_lock);

	/* Last, so that nobody else has the minor while mappings are zapped. */
	misc_deregister(&idev->misc);
	iospace_device_restore_dma(idev);
	idev->ops->disable(idev);
	iospace_device_put(idev);
}
