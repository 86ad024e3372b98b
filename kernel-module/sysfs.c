// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What /sys/class/misc/iospaceN/ tells of a device without opening it.
 *
 * Owns the attributes and their text. The files go before the device does, and
 * their removal waits for whoever is reading them. Takes open_lock, memory_lock,
 * irq_lock or charge_lock.
 */
#include <linux/device.h>

#include "iospace.h"

static struct iospace_device *iospace_sysfs_device(struct device *dev)
{
	return container_of(dev_get_drvdata(dev), struct iospace_device, misc);
}

static struct iospace_info iospace_sysfs_info(struct device *dev)
{
	struct iospace_info info;

	iospace_device_describe(iospace_sysfs_device(dev), &info);
	return info;
}

/* The member of INFO that has the attribute's name. */
#define IOSPACE_SYSFS_NUMBER(name, format)                                   \
	static ssize_t name##_show(struct device *dev,                       \
				   struct device_attribute *attr, char *buf) \
	{                                                                    \
		return sysfs_emit(buf, format "\n",                          \
				  iospace_sysfs_info(dev).out_##name);       \
	}                                                                    \
	static DEVICE_ATTR_RO(name)

IOSPACE_SYSFS_NUMBER(coherent, "%u");
IOSPACE_SYSFS_NUMBER(page_size, "%u");
IOSPACE_SYSFS_NUMBER(cache_line, "%u");
IOSPACE_SYSFS_NUMBER(registers, "%u");
IOSPACE_SYSFS_NUMBER(vectors, "%u");
IOSPACE_SYSFS_NUMBER(arenas, "%u");
IOSPACE_SYSFS_NUMBER(arena_max_blocks, "%u");
IOSPACE_SYSFS_NUMBER(arena_reserve_bytes, "%llu");
IOSPACE_SYSFS_NUMBER(max_file_bytes, "%llu");
IOSPACE_SYSFS_NUMBER(max_total_bytes, "%llu");
IOSPACE_SYSFS_NUMBER(max_file_mappings, "%u");
IOSPACE_SYSFS_NUMBER(max_converted_bytes, "%llu");
IOSPACE_SYSFS_NUMBER(max_segment_bytes, "%llu");
IOSPACE_SYSFS_NUMBER(max_contiguous_bytes, "%llu");
IOSPACE_SYSFS_NUMBER(pool_start, "%#llx");
IOSPACE_SYSFS_NUMBER(pool_bytes, "%llu");

/* The names of the bits that are set, in a line. */
static ssize_t iospace_sysfs_names(char *buf, u32 bits,
				   const char *const *names, unsigned int count)
{
	const char *space = "";
	unsigned int i;
	int at = 0;

	for (i = 0; i < count; i++) {
		if (bits & BIT(i) && names[i]) {
			at += sysfs_emit_at(buf, at, "%s%s", space, names[i]);
			space = " ";
		}
	}
	return at + sysfs_emit_at(buf, at, "\n");
}

static ssize_t memory_types_show(struct device *dev,
				 struct device_attribute *attr, char *buf)
{
	static const char *const names[] = {
		[IOSPACE_MEMORY_CACHED] = "cached",
		[IOSPACE_MEMORY_WRITECOMBINE] = "writecombine",
		[IOSPACE_MEMORY_UNCACHED] = "uncached",
		[IOSPACE_MEMORY_COHERENT] = "coherent",
	};

	return iospace_sysfs_names(
		buf, iospace_device_memory_types(iospace_sysfs_device(dev)),
		names, ARRAY_SIZE(names));
}
static DEVICE_ATTR_RO(memory_types);

static ssize_t zones_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	static const char *const names[] = {
		[IOSPACE_ZONE_DMA] = "dma",
		[IOSPACE_ZONE_DMA32] = "dma32",
		[IOSPACE_ZONE_NORMAL] = "normal",
	};

	return iospace_sysfs_names(buf, iospace_zone_all(), names,
				   ARRAY_SIZE(names));
}
static DEVICE_ATTR_RO(zones);

static ssize_t bus_show(struct device *dev, struct device_attribute *attr,
			char *buf)
{
	static const char *const names[] = {
		[IOSPACE_BUS_NONE] = "none",
		[IOSPACE_BUS_PCI] = "pci",
		[IOSPACE_BUS_PLATFORM] = "platform",
	};

	return sysfs_emit(buf, "%s\n",
			  names[iospace_sysfs_device(dev)->ops->bus]);
}
static DEVICE_ATTR_RO(bus);

static ssize_t iommu_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	static const char *const names[] = {
		[IOSPACE_IOMMU_NONE] = "none",
		[IOSPACE_IOMMU_IDENTITY] = "identity",
		[IOSPACE_IOMMU_TRANSLATING] = "translating",
	};
	struct iospace_device *idev = iospace_sysfs_device(dev);

	return sysfs_emit(buf, "%s\n", names[iospace_device_iommu(idev)]);
}
static DEVICE_ATTR_RO(iommu);

static ssize_t pool_show(struct device *dev, struct device_attribute *attr,
			 char *buf)
{
	static const char *const names[] = {
		[IOSPACE_POOL_NONE] = "none",
		[IOSPACE_POOL_COHERENT] = "coherent",
		[IOSPACE_POOL_CMA] = "cma",
	};

	return sysfs_emit(buf, "%s\n",
			  names[iospace_sysfs_device(dev)->pool.kind]);
}
static DEVICE_ATTR_RO(pool);

static ssize_t device_name_show(struct device *dev,
				struct device_attribute *attr, char *buf)
{
	struct iospace_device *idev = iospace_sysfs_device(dev);

	return sysfs_emit(
		buf, "%s\n",
		idev->ops->bus == IOSPACE_BUS_NONE ? "" : dev_name(idev->dev));
}
static DEVICE_ATTR_RO(device_name);

static ssize_t dma_mask_show(struct device *dev, struct device_attribute *attr,
			     char *buf)
{
	struct iospace_device *idev = iospace_sysfs_device(dev);

	return sysfs_emit(buf, "%#llx\n", idev->dma_mask);
}

static ssize_t dma_mask_store(struct device *dev, struct device_attribute *attr,
			      const char *buf, size_t length)
{
	u64 mask;
	int ret;

	ret = kstrtou64(buf, 0, &mask);
	if (ret)
		return ret;
	ret = iospace_device_set_dma_mask(iospace_sysfs_device(dev), mask);
	return ret ?: length;
}
static DEVICE_ATTR_RW(dma_mask);

static ssize_t open_files_show(struct device *dev,
			       struct device_attribute *attr, char *buf)
{
	struct iospace_device *idev = iospace_sysfs_device(dev);
	struct list_head *node;
	unsigned int count = 0;

	mutex_lock(&idev->open_lock);
	list_for_each(node, &idev->files)
		count++;
	mutex_unlock(&idev->open_lock);
	return sysfs_emit(buf, "%u\n", count);
}
static DEVICE_ATTR_RO(open_files);

static ssize_t buffers_show(struct device *dev, struct device_attribute *attr,
			    char *buf)
{
	struct iospace_device *idev = iospace_sysfs_device(dev);
	struct list_head *node;
	unsigned int count = 0;

	mutex_lock(&idev->memory_lock);
	list_for_each(node, &idev->buffers)
		count++;
	mutex_unlock(&idev->memory_lock);
	return sysfs_emit(buf, "%u\n", count);
}
static DEVICE_ATTR_RO(buffers);

static ssize_t buffer_bytes_show(struct device *dev,
				 struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n",
			  iospace_charge_bytes(iospace_sysfs_device(dev)));
}
static DEVICE_ATTR_RO(buffer_bytes);

static ssize_t held_bytes_show(struct device *dev,
			       struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n",
			  iospace_charge_held_bytes(iospace_sysfs_device(dev)));
}
static DEVICE_ATTR_RO(held_bytes);

static ssize_t interrupts_show(struct device *dev,
			       struct device_attribute *attr, char *buf)
{
	struct iospace_device *idev = iospace_sysfs_device(dev);
	unsigned int i;
	u64 count = 0;

	spin_lock_irq(&idev->irq_lock);
	for (i = 0; i < idev->vector_count; i++)
		count += idev->vectors[i].count;
	spin_unlock_irq(&idev->irq_lock);
	return sysfs_emit(buf, "%llu\n", count);
}
static DEVICE_ATTR_RO(interrupts);

static struct attribute *iospace_sysfs_attrs[] = {
	&dev_attr_bus.attr,
	&dev_attr_device_name.attr,
	&dev_attr_dma_mask.attr,
	&dev_attr_coherent.attr,
	&dev_attr_iommu.attr,
	&dev_attr_page_size.attr,
	&dev_attr_cache_line.attr,
	&dev_attr_memory_types.attr,
	&dev_attr_zones.attr,
	&dev_attr_registers.attr,
	&dev_attr_vectors.attr,
	&dev_attr_pool.attr,
	&dev_attr_pool_start.attr,
	&dev_attr_pool_bytes.attr,
	&dev_attr_arenas.attr,
	&dev_attr_arena_max_blocks.attr,
	&dev_attr_arena_reserve_bytes.attr,
	&dev_attr_max_file_bytes.attr,
	&dev_attr_max_total_bytes.attr,
	&dev_attr_max_file_mappings.attr,
	&dev_attr_max_converted_bytes.attr,
	&dev_attr_max_segment_bytes.attr,
	&dev_attr_max_contiguous_bytes.attr,
	&dev_attr_open_files.attr,
	&dev_attr_buffers.attr,
	&dev_attr_buffer_bytes.attr,
	&dev_attr_held_bytes.attr,
	&dev_attr_interrupts.attr,
	NULL,
};

static const struct attribute_group iospace_sysfs_group = {
	.attrs = iospace_sysfs_attrs,
};

const struct attribute_group *iospace_sysfs_groups[] = {
	&iospace_sysfs_group,
	NULL,
};
