// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What /sys/class/misc/iospaceN/ tells of a device without opening it.
 *
 * Owns the attributes and their text. The files go before the device does, and
 * their removal waits for whoever is reading them. Takes open_lock.
 */
#include <linux/device.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>

#include "iospace.h"

static struct iospace_device *iospace_sysfs_device(struct device *dev)
{
	return container_of(dev_get_drvdata(dev), struct iospace_device, misc);
}

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

	return sysfs_emit(buf, "%#llx\n", iospace_device_dma_mask(idev));
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

static ssize_t coherent_show(struct device *dev, struct device_attribute *attr,
			     char *buf)
{
	struct iospace_device *idev = iospace_sysfs_device(dev);

	return sysfs_emit(buf, "%d\n", dev_is_dma_coherent(idev->dev));
}
static DEVICE_ATTR_RO(coherent);

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

static ssize_t cache_line_show(struct device *dev,
			       struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", dma_get_cache_alignment());
}
static DEVICE_ATTR_RO(cache_line);

static ssize_t memory_types_show(struct device *dev,
				 struct device_attribute *attr, char *buf)
{
	u32 types = iospace_device_memory_types(iospace_sysfs_device(dev));

	return sysfs_emit(buf, "%s\n",
			  types & BIT(IOSPACE_MEMORY_COHERENT) ? "coherent" :
								 "");
}
static DEVICE_ATTR_RO(memory_types);

static ssize_t vectors_show(struct device *dev, struct device_attribute *attr,
			    char *buf)
{
	return sysfs_emit(buf, "%u\n", iospace_sysfs_device(dev)->vector_count);
}
static DEVICE_ATTR_RO(vectors);

static ssize_t registers_show(struct device *dev, struct device_attribute *attr,
			      char *buf)
{
	return sysfs_emit(buf, "%u\n", iospace_sysfs_device(dev)->regs_count);
}
static DEVICE_ATTR_RO(registers);

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
			  iospace_buffer_bytes(iospace_sysfs_device(dev)));
}
static DEVICE_ATTR_RO(buffer_bytes);

static ssize_t held_bytes_show(struct device *dev,
			       struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n",
			  iospace_buffer_held_bytes(iospace_sysfs_device(dev)));
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
	&dev_attr_cache_line.attr,
	&dev_attr_memory_types.attr,
	&dev_attr_vectors.attr,
	&dev_attr_registers.attr,
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
