// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * iospace: memory that devices reach, their registers and their interrupts,
 * for programs.
 *
 * This file owns the character device: open and close, the table of ioctls, and
 * the module's start and end. It knows no bus and no device; whoever may open
 * the file can make the device write anywhere that no IOMMU forbids, so the
 * file is root's until an administrator decides otherwise. The contract with
 * user space is uapi/iospace.h. Takes open_lock.
 */
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "iospace.h"

static_assert(sizeof(struct iospace_info) == 200);
static_assert(sizeof(struct iospace_alloc) == 88);
static_assert(sizeof(struct iospace_free) == 16);
static_assert(sizeof(struct iospace_segments) == 32);
static_assert(sizeof(struct iospace_segment) == 16);
static_assert(sizeof(struct iospace_sync) == 32);
static_assert(sizeof(struct iospace_registers) == 72);
static_assert(sizeof(struct iospace_register_access) == 32);
static_assert(sizeof(struct iospace_interrupt) == 64);
static_assert(sizeof(struct iospace_arena) == 80);
static_assert(sizeof(struct iospace_arena_books) == 16);
static_assert(sizeof(struct iospace_window) == 48);
static_assert(sizeof(struct iospace_sync_range) == 16);
static_assert(sizeof(struct iospace_sync_ranges) == 24);
static_assert(sizeof(struct iospace_map_user) == 48);
static_assert(sizeof(struct iospace_export) == 32);
static_assert(sizeof(struct iospace_import) == 48);
static_assert(sizeof(struct iospace_status) == 8);

static int iospace_open(struct inode *inode, struct file *filp)
{
	struct iospace_device *idev =
		container_of(filp->private_data, struct iospace_device, misc);
	struct iospace_file *file;
	int ret;

	file = kzalloc(struct_size(file, subscriptions, idev->vector_count),
		       GFP_KERNEL_ACCOUNT);
	if (!file)
		return -ENOMEM;
	file->account = iospace_account_create(idev);
	if (!file->account) {
		kfree(file);
		return -ENOMEM;
	}
	file->idev = idev;
	file->filp = filp;
	xa_init_flags(&file->buffers, XA_FLAGS_ALLOC);

	/* The opening of every misc device waits for this one. */
	if (mutex_lock_killable(&idev->open_lock)) {
		ret = -EINTR;
		goto free_file;
	}
	ret = -ENODEV;
	if (idev->dead)
		goto unlock;
	ret = iospace_mmap_open_file(file);
	if (ret)
		goto unlock;

	iospace_irq_subscribe(file);
	if (idev->started)
		iospace_irq_update(idev);
	else
		ret = iospace_device_start(idev);
	if (ret)
		goto unsubscribe;

	kref_get(&idev->kref);
	list_add(&file->node, &idev->files);
	filp->private_data = file;
	mutex_unlock(&idev->open_lock);
	return nonseekable_open(inode, filp);

unsubscribe:
	iospace_irq_unsubscribe(file);
	iospace_mmap_close_file(file);
unlock:
	mutex_unlock(&idev->open_lock);
free_file:
	iospace_account_put(file->account);
	kfree(file);
	return ret;
}

/* Runs when no descriptor and no mapping is left. */
static int iospace_release(struct inode *inode, struct file *filp)
{
	struct iospace_file *file = filp->private_data;
	struct iospace_device *idev = file->idev;
	bool last;

	mutex_lock(&idev->open_lock);
	list_del(&file->node);
	last = list_empty(&idev->files);
	iospace_irq_unsubscribe(file);

	/* First the device is made quiet, then memory goes back. */
	if (last)
		iospace_device_stop(idev, false);
	else if (idev->started)
		iospace_irq_update(idev);
	iospace_buffer_close_file(file, last);
	if (last)
		iospace_device_drain(idev);
	mutex_unlock(&idev->open_lock);

	iospace_mmap_close_file(file);
	iospace_account_put(file->account);
	kfree(file);
	iospace_device_put(idev);
	return 0;
}

/**
 * struct iospace_ioctl - One row of the table of ioctls
 * @size: Of the structure
 * @handler: Runs on a copy of the structure, and while the device lives
 * @enters: @handler sees to that itself, because it touches user space, often needs
 *          no device, or waits for other drivers
 * @answers: The structure has members that the module writes
 * @finish: After @handler has succeeded: the answer was written, or could not be,
 *          and is to be undone. The device may be gone
 */
struct iospace_ioctl {
	size_t size;
	int (*handler)(struct iospace_file *file, void *args);
	bool enters;
	bool answers;
	void (*finish)(struct iospace_file *file, void *args, bool answered);
};

static const struct iospace_ioctl iospace_ioctls[] = {
	[IOSPACE_CMD_INFO] = {
		.size = sizeof(struct iospace_info),
		.handler = iospace_device_info,
		.answers = true,
	},
	[IOSPACE_CMD_ALLOC] = {
		.size = sizeof(struct iospace_alloc),
		.handler = iospace_buffer_alloc,
		.answers = true,
		.finish = iospace_buffer_alloc_finish,
	},
	[IOSPACE_CMD_FREE] = {
		.size = sizeof(struct iospace_free),
		.handler = iospace_buffer_free,
	},
	[IOSPACE_CMD_REGISTERS] = {
		.size = sizeof(struct iospace_registers),
		.handler = iospace_regs_describe,
		.answers = true,
	},
	[IOSPACE_CMD_REGISTER_ACCESS] = {
		.size = sizeof(struct iospace_register_access),
		.handler = iospace_regs_access,
		.answers = true,
	},
	[IOSPACE_CMD_INTERRUPT] = {
		.size = sizeof(struct iospace_interrupt),
		.handler = iospace_irq_control,
		.answers = true,
	},
	[IOSPACE_CMD_SEGMENTS] = {
		.size = sizeof(struct iospace_segments),
		.handler = iospace_buffer_segments,
		.enters = true,
		.answers = true,
	},
	[IOSPACE_CMD_SYNC] = {
		.size = sizeof(struct iospace_sync),
		.handler = iospace_buffer_sync,
		.enters = true,
	},
	[IOSPACE_CMD_ARENA] = {
		.size = sizeof(struct iospace_arena),
		.handler = iospace_arena_describe,
		.answers = true,
	},
	[IOSPACE_CMD_WINDOW] = {
		.size = sizeof(struct iospace_window),
		.handler = iospace_window_open,
		.answers = true,
		.finish = iospace_window_finish,
	},
	[IOSPACE_CMD_MAP_USER] = {
		.size = sizeof(struct iospace_map_user),
		.handler = iospace_user_map,
		.enters = true,
		.answers = true,
		.finish = iospace_user_finish,
	},
	[IOSPACE_CMD_SYNC_RANGES] = {
		.size = sizeof(struct iospace_sync_ranges),
		.handler = iospace_buffer_sync_ranges,
		.enters = true,
	},
	[IOSPACE_CMD_EXPORT] = {
		.size = sizeof(struct iospace_export),
		.handler = iospace_export_open,
		.answers = true,
		.finish = iospace_export_finish,
	},
	[IOSPACE_CMD_IMPORT] = {
		.size = sizeof(struct iospace_import),
		.handler = iospace_import_open,
		.answers = true,
		.finish = iospace_import_finish,
	},
	[IOSPACE_CMD_ARENA_BOOKS] = {
		.size = sizeof(struct iospace_arena_books),
		.handler = iospace_books_open,
		.answers = true,
		.finish = iospace_books_finish,
	},
};

static int iospace_ioctl_run(const struct iospace_ioctl *ioctl,
			     struct iospace_file *file, void *args)
{
	int index, ret;

	if (ioctl->enters)
		return ioctl->handler(file, args);

	index = iospace_device_enter(file->idev);
	ret = iospace_device_is_dead(file->idev) ? -ENODEV :
						   ioctl->handler(file, args);
	iospace_device_exit(file->idev, index);
	return ret;
}

/*
 * Reads a structure, word by word: of a copy whose size it cannot know, the kernel
 * first checks whose memory it is, which costs more than all else of a small call.
 */
static int iospace_ioctl_read(unsigned long *to, const void __user *user,
			      size_t size)
{
	const unsigned long __user *from = user;

	/* All sizes above are whole words. */
	if (!user_access_begin(from, size))
		return -EFAULT;
	for (; size; size -= sizeof(*to))
		unsafe_get_user(*to++, from++, fault);
	user_access_end();
	return 0;

fault:
	user_access_end();
	return -EFAULT;
}

static long iospace_unlocked_ioctl(struct file *filp, unsigned int request,
				   unsigned long argument)
{
	struct iospace_file *file = filp->private_data;
	void __user *user = (void __user *)argument;
	const struct iospace_ioctl *ioctl;
	union {
		u32 size;
		unsigned long words[sizeof(struct iospace_info) / sizeof(long)];
		struct iospace_info info;
		struct iospace_alloc alloc;
		struct iospace_free free;
		struct iospace_registers registers;
		struct iospace_register_access access;
		struct iospace_interrupt interrupt;
		struct iospace_segments segments;
		struct iospace_sync sync;
		struct iospace_arena arena;
		struct iospace_window window;
		struct iospace_map_user map_user;
		struct iospace_sync_ranges sync_ranges;
		struct iospace_export_call export;
		struct iospace_import import;
		struct iospace_books_call books;
	} args IOSPACE_UNINITIALIZED;
	unsigned int command = _IOC_NR(request);
	bool answered;
	int ret;

	if (request != _IO(IOSPACE_TYPE, command) ||
	    command >= ARRAY_SIZE(iospace_ioctls))
		return -ENOTTY;
	ioctl = &iospace_ioctls[array_index_nospec(command,
						   ARRAY_SIZE(iospace_ioctls))];
	if (!ioctl->handler)
		return -ENOTTY;

	ret = iospace_ioctl_read(args.words, user, ioctl->size);
	if (ret)
		return ret;
	/* Every structure is as it was first published. */
	if (args.size < ioctl->size)
		return -EINVAL;
	/* A tail that nobody will ever have is not worth looking through. */
	if (args.size > PAGE_SIZE)
		return -E2BIG;
	if (args.size > ioctl->size) {
		ret = check_zeroed_user(user + ioctl->size,
					args.size - ioctl->size);
		if (ret <= 0)
			return ret ?: -E2BIG;
	}

	/* Not around the copying, which may wait for user space for ever. */
	ret = iospace_ioctl_run(ioctl, file, &args);
	if (ret || !ioctl->answers)
		return ret;

	answered = !copy_to_user(user, &args, ioctl->size);
	if (ioctl->finish)
		ioctl->finish(file, &args, answered);
	return answered ? 0 : -EFAULT;
}

const struct file_operations iospace_file_operations = {
	.owner = THIS_MODULE,
	.open = iospace_open,
	.release = iospace_release,
	.read = iospace_irq_read,
	.poll = iospace_irq_poll,
	.unlocked_ioctl = iospace_unlocked_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = iospace_mmap,
};

static int __init iospace_init(void)
{
	int ret;

	ret = iospace_arena_init();
	if (ret)
		return ret;
	ret = iospace_range_init();
	if (ret)
		goto exit_arena;
	ret = iospace_bind_platform_init();
	if (ret)
		goto exit_arena;
	ret = iospace_bind_pci_init();
	if (ret)
		goto exit_platform;
	return 0;

exit_platform:
	iospace_bind_platform_exit();
exit_arena:
	iospace_arena_exit();
	return ret;
}
module_init(iospace_init);

static void __exit iospace_exit(void)
{
	iospace_bind_pci_exit();
	iospace_bind_platform_exit();
	iospace_arena_exit();
}
module_exit(iospace_exit);

MODULE_DESCRIPTION(
	"DMA memory, registers and interrupts of devices for programs");
MODULE_VERSION("0.1.0");
MODULE_LICENSE("Dual MIT/GPL");
