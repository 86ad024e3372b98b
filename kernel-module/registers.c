// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A window: one range of the device's registers, a BAR or a "reg" entry.
 *
 * Owns the claim on the range, and on the rest of its pages: a mapping shows
 * whole pages, so a window can be mapped only if nobody else has registers in
 * them. Others are reached one access at a time. Takes register_lock.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/nospec.h>

#include "iospace.h"

/* Claims [@start, @end] beside a window, if it is anything at all. */
static int iospace_window_claim_rest(const struct resource *res,
				     struct resource *rest,
				     resource_size_t start, resource_size_t end)
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

static void iospace_window_release_rest(struct resource *rest)
{
	if (rest->parent)
		release_resource(rest);
}

static bool iospace_window_claim_pages(struct iospace_window *window,
				       const struct resource *res)
{
	resource_size_t first = round_down(res->start, PAGE_SIZE);
	resource_size_t last = res->end | (PAGE_SIZE - 1);

	if (iospace_window_claim_rest(res, &window->before, first,
				      res->start - 1))
		return false;
	if (iospace_window_claim_rest(res, &window->after, res->end + 1,
				      last)) {
		iospace_window_release_rest(&window->before);
		return false;
	}
	return true;
}

/**
 * iospace_window_claim() - Add a window to a device
 * @idev: The device, not yet published
 * @index: Of the window; the device has at least @index + 1 from now on
 * @res: The range, or NULL if there is none at this index
 * @name: As in struct iospace_registers; lives as long as the device is bound
 *
 * Return: 0, or -EBUSY if another driver has the range.
 */
int iospace_window_claim(struct iospace_device *idev, unsigned int index,
			 const struct resource *res, const char *name)
{
	struct iospace_window *window = &idev->windows[index];
	bool port;

	idev->window_count = max(idev->window_count, index + 1);
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

	window->start = res->start;
	window->length = resource_size(res);
	window->name = name;
	if (port)
		window->flags = IOSPACE_REGISTERS_PORT;
	else if (iospace_window_claim_pages(window, res))
		window->flags = IOSPACE_REGISTERS_MMAP;
	if (!port && res->flags & IORESOURCE_PREFETCH)
		window->flags |= IOSPACE_REGISTERS_PREFETCHABLE;
	return 0;
}

static void iospace_window_release(struct iospace_window *window)
{
	if (window->flags & IOSPACE_REGISTERS_PORT) {
		if (window->base)
			ioport_unmap(window->base);
		release_region(window->start, window->length);
		return;
	}
	if (window->base)
		iounmap(window->base);
	iospace_window_release_rest(&window->after);
	iospace_window_release_rest(&window->before);
	release_mem_region(window->start, window->length);
}

/* Nobody can be using them: before publishing, or after remove's barrier. */
void iospace_window_release_all(struct iospace_device *idev)
{
	unsigned int i;

	for (i = idev->window_count; i-- > 0;) {
		if (idev->windows[i].length)
			iospace_window_release(&idev->windows[i]);
	}
}

/* NULL if the device has no such window. */
struct iospace_window *iospace_window_find(struct iospace_device *idev,
					   u32 index)
{
	struct iospace_window *window;

	if (index >= idev->window_count)
		return NULL;
	window = &idev->windows[array_index_nospec(index, idev->window_count)];
	return window->length ? window : NULL;
}

int iospace_window_describe(struct iospace_file *file, void *args)
{
	struct iospace_registers *registers = args;
	struct iospace_window *window;

	if (registers->flags || registers->__reserved)
		return -EINVAL;
	window = iospace_window_find(file->idev, registers->index);
	if (!window)
		return -ENOENT;

	*registers = (struct iospace_registers){
		.size = registers->size,
		.index = registers->index,
		.out_flags = window->flags,
		.out_length = window->length,
	};
	if (window->flags & IOSPACE_REGISTERS_MMAP) {
		registers->out_mmap_offset =
			iospace_mmap_offset_of_window(registers->index);
		registers->out_page_offset = offset_in_page(window->start);
	}
	if (window->name)
		strscpy(registers->out_name, window->name,
			sizeof(registers->out_name));
	return 0;
}

/* Not made before it is needed: a window may be larger than what is to spare. */
static void __iomem *iospace_window_base(struct iospace_device *idev,
					 struct iospace_window *window)
{
	void __iomem *base;

	mutex_lock(&idev->register_lock);
	if (!window->base && window->flags & IOSPACE_REGISTERS_PORT)
		window->base = ioport_map(window->start, window->length);
	else if (!window->base)
		window->base = ioremap(window->start, window->length);
	base = window->base;
	mutex_unlock(&idev->register_lock);
	return base;
}

static u64 iospace_window_read(void __iomem *addr, u32 width)
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

static void iospace_window_write(void __iomem *addr, u32 width, u64 value)
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

static int iospace_window_check(const struct iospace_window *window,
				const struct iospace_register_access *access)
{
	u32 width = access->width;

	if (width != 1 && width != 2 && width != 4 && width != 8)
		return -EINVAL;
	if (access->offset % width || window->start % width ||
	    access->offset > window->length ||
	    width > window->length - access->offset)
		return -EINVAL;
	if (access->flags & IOSPACE_REGISTER_WRITE && width < 8 &&
	    access->value >> (8 * width))
		return -EINVAL;
	if (width == 8 && (!IS_ENABLED(CONFIG_64BIT) ||
			   window->flags & IOSPACE_REGISTERS_PORT))
		return -EOPNOTSUPP;
	return 0;
}

int iospace_window_access(struct iospace_file *file, void *args)
{
	struct iospace_register_access *access = args;
	struct iospace_window *window;
	void __iomem *base;
	int ret;

	if (access->flags & ~IOSPACE_REGISTER_WRITE)
		return -EINVAL;
	window = iospace_window_find(file->idev, access->index);
	if (!window)
		return -ENOENT;
	ret = iospace_window_check(window, access);
	if (ret)
		return ret;
	if (access->flags & IOSPACE_REGISTER_WRITE &&
	    !(file->filp->f_mode & FMODE_WRITE))
		return -EPERM;

	base = iospace_window_base(file->idev, window);
	if (!base)
		return -ENOMEM;
	if (access->flags & IOSPACE_REGISTER_WRITE)
		iospace_window_write(base + access->offset, access->width,
				     access->value);
	else
		access->value = iospace_window_read(base + access->offset,
						    access->width);
	return 0;
}
