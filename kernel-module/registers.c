// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Regs: one range of the device's registers, a BAR or a "reg" entry.
 *
 * Owns the claim on the range, and on the rest of its pages: a mapping shows
 * whole pages, so a range can be mapped only if nobody else has registers in
 * them. Others are reached one access at a time. Takes register_lock.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/nospec.h>

#include "iospace.h"

/* Claims [@start, @end] beside a range, if it is anything at all. */
static int iospace_regs_claim_rest(const struct resource *res,
				   struct resource *rest, resource_size_t start,
				   resource_size_t end)
{
	if (start > end)
		return 0;
	*rest = (struct resource){
		.name = res->name,
		.start = start,
		.end = end,
		.flags = res->flags | IORESOURCE_BUSY,
	};
	return request_resource(res->parent ?: &iomem_resource, rest);
}

static void iospace_regs_release_rest(struct resource *rest)
{
	if (rest->parent)
		release_resource(rest);
}

static bool iospace_regs_claim_pages(struct iospace_regs *regs,
				     const struct resource *res)
{
	resource_size_t first = round_down(res->start, PAGE_SIZE);
	resource_size_t last = res->end | (PAGE_SIZE - 1);

	if (iospace_regs_claim_rest(res, &regs->before, first, res->start - 1))
		return false;
	if (iospace_regs_claim_rest(res, &regs->after, res->end + 1, last)) {
		iospace_regs_release_rest(&regs->before);
		return false;
	}
	return true;
}

/**
 * iospace_regs_claim() - Add a range of registers to a device
 * @idev: The device, not yet published
 * @index: Of the range
 * @res: The range, or NULL if there is none at this index
 * @name: As in struct iospace_registers; lives as long as the device is bound
 *
 * Return: 0, or -EBUSY if another driver has the range (or the kernel has no
 * memory to write the claim down, which it does not tell).
 */
int iospace_regs_claim(struct iospace_device *idev, unsigned int index,
		       const struct resource *res, const char *name)
{
	struct iospace_regs *regs = &idev->regs[index];
	bool port;

	if (!res || !resource_size(res))
		return 0;

	port = resource_type(res) == IORESOURCE_IO;
	if (port ? !request_region(res->start, resource_size(res), idev->name) :
		   !request_mem_region(res->start, resource_size(res),
				       idev->name)) {
		dev_err(idev->dev, "registers %pR belong to another driver\n",
			res);
		return -EBUSY;
	}

	idev->regs_count = index + 1;
	regs->start = res->start;
	regs->length = resource_size(res);
	regs->name = name;
	if (port)
		regs->flags = IOSPACE_REGISTERS_PORT;
	else if (iospace_regs_claim_pages(regs, res))
		regs->flags = IOSPACE_REGISTERS_MMAP;
	if (!port && res->flags & IORESOURCE_PREFETCH)
		regs->flags |= IOSPACE_REGISTERS_PREFETCHABLE;
	return 0;
}

static void iospace_regs_unmap(struct iospace_regs *regs)
{
	if (regs->base && regs->flags & IOSPACE_REGISTERS_PORT)
		ioport_unmap(regs->base);
	else if (regs->base)
		iounmap(regs->base);
	regs->base = NULL;
}

/* At the last close: nobody uses them, and windows may have another type. */
void iospace_regs_unmap_all(struct iospace_device *idev)
{
	unsigned int i;

	for (i = 0; i < idev->regs_count; i++)
		iospace_regs_unmap(&idev->regs[i]);
}

static void iospace_regs_release(struct iospace_regs *regs)
{
	iospace_regs_unmap(regs);
	if (regs->flags & IOSPACE_REGISTERS_PORT) {
		release_region(regs->start, regs->length);
		return;
	}
	iospace_regs_release_rest(&regs->after);
	iospace_regs_release_rest(&regs->before);
	release_mem_region(regs->start, regs->length);
}

/* Nobody can be using them: before publishing, or after remove's barrier. */
void iospace_regs_release_all(struct iospace_device *idev)
{
	unsigned int i;

	for (i = idev->regs_count; i-- > 0;) {
		if (idev->regs[i].length)
			iospace_regs_release(&idev->regs[i]);
	}
}

/* NULL if the device has no such range. */
struct iospace_regs *iospace_regs_find(struct iospace_device *idev, u32 index)
{
	struct iospace_regs *regs;

	if (index >= idev->regs_count)
		return NULL;
	regs = &idev->regs[array_index_nospec(index, idev->regs_count)];
	return regs->length ? regs : NULL;
}

/* What can be mapped that has all of @range in its pages; NULL if nothing. */
const struct iospace_regs *
iospace_regs_around(struct iospace_device *idev,
		    const struct iospace_range *range)
{
	unsigned int i;

	for (i = 0; i < idev->regs_count; i++) {
		const struct iospace_regs *regs = &idev->regs[i];
		const struct iospace_range pages = {
			.start = round_down(regs->start, PAGE_SIZE),
			.end = (regs->start + regs->length - 1) |
			       (PAGE_SIZE - 1),
		};

		if (regs->length && regs->flags & IOSPACE_REGISTERS_MMAP &&
		    iospace_range_contains(&pages, range))
			return regs;
	}
	return NULL;
}

int iospace_regs_describe(struct iospace_file *file, void *args)
{
	struct iospace_registers *registers = args;
	struct iospace_regs *regs;

	if (registers->flags || registers->__reserved)
		return -EINVAL;
	regs = iospace_regs_find(file->idev, registers->index);
	if (!regs)
		return -ENOENT;

	*registers = (struct iospace_registers){
		.size = registers->size,
		.index = registers->index,
		.out_flags = regs->flags,
		.out_length = regs->length,
	};
	if (regs->flags & IOSPACE_REGISTERS_MMAP) {
		registers->out_mmap_offset =
			iospace_mmap_offset_of_regs(registers->index);
		registers->out_page_offset = offset_in_page(regs->start);
	}
	if (regs->name)
		strscpy(registers->out_name, regs->name,
			sizeof(registers->out_name));
	return 0;
}

/* Of the type of registers, or -EBUSY: someone may hold them in another. */
static void __iomem *iospace_regs_map(const struct iospace_regs *regs)
{
	void __iomem *base;

	if (regs->flags & IOSPACE_REGISTERS_PORT)
		return ioport_map(regs->start, regs->length);

	base = ioremap(regs->start, regs->length);
	if (!base ||
	    iospace_memtype_is((__force void *)base, IOSPACE_MEMORY_DEVICE))
		return base;
	iounmap(base);
	return IOMEM_ERR_PTR(-EBUSY);
}

/**
 * iospace_regs_base() - The kernel's own mapping of a range of registers
 * @idev: The device
 * @regs: Its range
 *
 * Not made before it is needed: a range may be larger than what is to spare. As
 * long as it is there, every mapping of the range has the type of registers.
 *
 * Return: The mapping; -EBUSY if the range is held in another type; -ENOMEM.
 */
void __iomem *iospace_regs_base(struct iospace_device *idev,
				struct iospace_regs *regs)
{
	void __iomem *base;

	mutex_lock(&idev->register_lock);
	base = regs->base ?: iospace_regs_map(regs);
	if (!base)
		base = IOMEM_ERR_PTR(-ENOMEM);
	if (!IS_ERR(base))
		regs->base = base;
	mutex_unlock(&idev->register_lock);
	return base;
}

static u64 iospace_regs_read(void __iomem *addr, u32 width)
{
	switch (width) {
	case 1:
		return ioread8(addr);
	case 2:
		return ioread16(addr);
	case 4:
		return ioread32(addr);
#ifdef CONFIG_64BIT
	case 8:
		return readq(addr);
#endif
	}
	return 0;
}

static void iospace_regs_write(void __iomem *addr, u32 width, u64 value)
{
	switch (width) {
	case 1:
		iowrite8(value, addr);
		break;
	case 2:
		iowrite16(value, addr);
		break;
	case 4:
		iowrite32(value, addr);
		break;
#ifdef CONFIG_64BIT
	case 8:
		writeq(value, addr);
		break;
#endif
	}
}

static int iospace_regs_check(const struct iospace_regs *regs,
			      const struct iospace_register_access *access)
{
	u32 width = access->width;

	if (width != 1 && width != 2 && width != 4 && width != 8)
		return -EINVAL;
	if (!IS_ALIGNED(access->offset, width) ||
	    !IS_ALIGNED(regs->start, width) || access->offset > regs->length ||
	    width > regs->length - access->offset)
		return -EINVAL;
	if (access->flags & IOSPACE_REGISTER_WRITE && width < 8 &&
	    access->value >> (8 * width))
		return -EINVAL;
	if (width == 8 &&
	    (!IS_ENABLED(CONFIG_64BIT) || regs->flags & IOSPACE_REGISTERS_PORT))
		return -EOPNOTSUPP;
	return 0;
}

int iospace_regs_access(struct iospace_file *file, void *args)
{
	struct iospace_register_access *access = args;
	struct iospace_regs *regs;
	void __iomem *base;
	int ret;

	if (access->flags & ~IOSPACE_REGISTER_WRITE)
		return -EINVAL;
	regs = iospace_regs_find(file->idev, access->index);
	if (!regs)
		return -ENOENT;
	ret = iospace_regs_check(regs, access);
	if (ret)
		return ret;
	if (access->flags & IOSPACE_REGISTER_WRITE &&
	    !(file->filp->f_mode & FMODE_WRITE))
		return -EACCES;

	base = iospace_regs_base(file->idev, regs);
	if (IS_ERR(base))
		return PTR_ERR(base);
	if (access->flags & IOSPACE_REGISTER_WRITE)
		iospace_regs_write(base + access->offset, access->width,
				   access->value);
	else
		access->value =
			iospace_regs_read(base + access->offset, access->width);
	return 0;
}
