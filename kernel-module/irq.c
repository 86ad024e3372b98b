// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Interrupts: counted for each open file, told by read(), poll() and eventfds.
 *
 * Owns vectors and subscriptions. A handler only counts and wakes; it queues
 * nothing, so nothing is lost, and a slow reader sees how far the counts moved.
 * A level-triggered line is masked when it fires, until a file asks for more.
 * Lines are requested while the device is open, so that nobody's device cannot
 * storm. Everything is under irq_lock.
 */
#include <linux/eventfd.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/nospec.h>

#include "compat.h"
#include "iospace.h"

/* Edges and messages: nothing to mask, a device sends each one once. */
const struct iospace_vector_ops iospace_edge_ops = {};

static void iospace_line_mask(struct iospace_vector *vector)
{
	disable_irq_nosync(vector->irq);
}

static void iospace_line_unmask(struct iospace_vector *vector)
{
	enable_irq(vector->irq);
}

static bool iospace_line_claim(struct iospace_vector *vector)
{
	iospace_line_mask(vector);
	return true;
}

/* A level-triggered line that is this device's alone. */
const struct iospace_vector_ops iospace_line_ops = {
	.level = true,
	.claim = iospace_line_claim,
	.mask = iospace_line_mask,
	.unmask = iospace_line_unmask,
};

/**
 * iospace_vector_add() - Add a vector to a device
 * @idev: The device, not yet published, with room for it
 * @ops: The kind of interrupt
 * @irq: The kernel's number
 * @name: As in struct iospace_interrupt; lives as long as the device is bound
 */
void iospace_vector_add(struct iospace_device *idev,
			const struct iospace_vector_ops *ops, unsigned int irq,
			const char *name)
{
	struct iospace_vector *vector = &idev->vectors[idev->vector_count++];
	struct iospace_vector *line = idev->vectors;

	while (line < vector && line->irq != irq)
		line++;

	vector->idev = idev;
	vector->ops = ops;
	vector->irq = irq;
	vector->line = line;
	vector->name = name;
	INIT_LIST_HEAD(&vector->subscriptions);
}

static bool iospace_line_is_wanted(struct iospace_vector *line)
{
	struct iospace_device *idev = line->idev;
	unsigned int i;

	for (i = 0; i < idev->vector_count; i++) {
		if (idev->vectors[i].line == line &&
		    !list_empty(&idev->vectors[i].subscriptions))
			return true;
	}
	return false;
}

/* Makes the vector's line masked or not, as it must be now. */
static void iospace_vector_update(struct iospace_vector *vector)
{
	struct iospace_vector *line = vector->line;
	bool masked = line->fired || !iospace_line_is_wanted(line);

	lockdep_assert_held(&vector->idev->irq_lock);
	if (!line->ops->level || masked == line->masked)
		return;
	line->masked = masked;
	if (masked)
		line->ops->mask(line);
	else
		line->ops->unmask(line);
}

static void iospace_vector_count(struct iospace_vector *vector)
{
	struct iospace_subscription *subscription;

	vector->count++;
	list_for_each_entry(subscription, &vector->subscriptions, node) {
		subscription->count++;
		subscription->file->events++;
		if (subscription->eventfd)
			iospace_eventfd_signal(subscription->eventfd);
	}
}

static irqreturn_t iospace_irq_handle(int irq, void *data)
{
	struct iospace_vector *line = data;
	struct iospace_device *idev = line->idev;
	unsigned long flags;
	unsigned int i;

	spin_lock_irqsave(&idev->irq_lock, flags);
	if (line->ops->level) {
		/* While it is masked, a shared line speaks of others. */
		if (line->masked || !line->ops->claim(line)) {
			spin_unlock_irqrestore(&idev->irq_lock, flags);
			return IRQ_NONE;
		}
		line->fired = true;
		line->masked = true;
	}

	/* Which of the vectors on one line it was, only the program can tell. */
	for (i = 0; i < idev->vector_count; i++) {
		if (idev->vectors[i].line == line)
			iospace_vector_count(&idev->vectors[i]);
	}
	spin_unlock_irqrestore(&idev->irq_lock, flags);

	wake_up_all(&idev->irq_wait);
	return IRQ_HANDLED;
}

/* Ends the lines of the first @count vectors. */
static void iospace_irq_free_first(struct iospace_device *idev,
				   unsigned int count)
{
	struct iospace_vector *vector;

	while (count-- > 0) {
		vector = &idev->vectors[count];
		if (vector->line != vector)
			continue;
		spin_lock_irq(&idev->irq_lock);
		vector->fired = true;
		iospace_vector_update(vector);
		spin_unlock_irq(&idev->irq_lock);
		free_irq(vector->irq, vector);
	}
}

/* With the first open file, which has subscribed already. */
int iospace_irq_request(struct iospace_device *idev)
{
	struct iospace_vector *vector;
	unsigned int i;
	int ret;

	for (i = 0; i < idev->vector_count; i++) {
		vector = &idev->vectors[i];
		if (vector->line != vector)
			continue;
		vector->fired = false;
		vector->masked = vector->ops->born_masked;
		ret = request_irq(vector->irq, iospace_irq_handle,
				  vector->ops->request_flags, idev->name,
				  vector);
		if (ret) {
			iospace_irq_free_first(idev, i);
			return ret;
		}

		spin_lock_irq(&idev->irq_lock);
		iospace_vector_update(vector);
		spin_unlock_irq(&idev->irq_lock);
	}
	return 0;
}

/* With the last open file, or at remove. */
void iospace_irq_free(struct iospace_device *idev)
{
	iospace_irq_free_first(idev, idev->vector_count);
}

/* Counts begin with open(). */
void iospace_irq_subscribe(struct iospace_file *file)
{
	struct iospace_device *idev = file->idev;
	unsigned int i;

	spin_lock_irq(&idev->irq_lock);
	for (i = 0; i < idev->vector_count; i++) {
		file->subscriptions[i].file = file;
		list_add(&file->subscriptions[i].node,
			 &idev->vectors[i].subscriptions);
	}
	spin_unlock_irq(&idev->irq_lock);
}

void iospace_irq_unsubscribe(struct iospace_file *file)
{
	struct iospace_device *idev = file->idev;
	unsigned int i;

	spin_lock_irq(&idev->irq_lock);
	for (i = 0; i < idev->vector_count; i++)
		list_del_init(&file->subscriptions[i].node);
	spin_unlock_irq(&idev->irq_lock);

	for (i = 0; i < idev->vector_count; i++) {
		if (file->subscriptions[i].eventfd)
			eventfd_ctx_put(file->subscriptions[i].eventfd);
	}
}

/* Lines are masked that no file wants any more, and unmasked for a new one. */
void iospace_irq_update(struct iospace_device *idev)
{
	unsigned int i;

	spin_lock_irq(&idev->irq_lock);
	for (i = 0; i < idev->vector_count; i++)
		iospace_vector_update(&idev->vectors[i]);
	spin_unlock_irq(&idev->irq_lock);
}

static int iospace_irq_check(struct iospace_file *file,
			     const struct iospace_interrupt *interrupt)
{
	const u32 both = IOSPACE_INTERRUPT_ENABLE | IOSPACE_INTERRUPT_DISABLE;

	if (interrupt->flags & ~(both | IOSPACE_INTERRUPT_EVENTFD) ||
	    interrupt->__reserved || (interrupt->flags & both) == both)
		return -EINVAL;
	if (interrupt->flags & IOSPACE_INTERRUPT_EVENTFD) {
		if (interrupt->eventfd < -1)
			return -EINVAL;
	} else if (interrupt->eventfd) {
		return -EINVAL;
	}
	return interrupt->vector < file->idev->vector_count ? 0 : -ENOENT;
}

int iospace_irq_control(struct iospace_file *file, void *args)
{
	struct iospace_device *idev = file->idev;
	struct iospace_interrupt *interrupt = args;
	struct iospace_subscription *subscription;
	struct iospace_vector *vector;
	struct eventfd_ctx *eventfd = NULL;
	int ret;

	ret = iospace_irq_check(file, interrupt);
	if (ret)
		return ret;
	interrupt->vector =
		array_index_nospec(interrupt->vector, idev->vector_count);
	vector = &idev->vectors[interrupt->vector];
	subscription = &file->subscriptions[interrupt->vector];

	if (interrupt->flags & IOSPACE_INTERRUPT_EVENTFD &&
	    interrupt->eventfd >= 0) {
		eventfd = eventfd_ctx_fdget(interrupt->eventfd);
		if (IS_ERR(eventfd))
			return PTR_ERR(eventfd);
	}

	spin_lock_irq(&idev->irq_lock);
	if (interrupt->flags & IOSPACE_INTERRUPT_EVENTFD)
		swap(subscription->eventfd, eventfd);
	if (interrupt->flags & IOSPACE_INTERRUPT_DISABLE)
		list_del_init(&subscription->node);
	if (interrupt->flags & IOSPACE_INTERRUPT_ENABLE) {
		vector->line->fired = false;
		list_move(&subscription->node, &vector->subscriptions);
	}
	iospace_vector_update(vector);

	interrupt->out_flags =
		(vector->ops->level ? IOSPACE_INTERRUPT_LEVEL : 0) |
		(vector->line->fired ? IOSPACE_INTERRUPT_MASKED : 0);
	interrupt->out_count = subscription->count;
	spin_unlock_irq(&idev->irq_lock);

	memset(interrupt->out_name, 0, sizeof(interrupt->out_name));
	if (vector->name)
		strscpy(interrupt->out_name, vector->name,
			sizeof(interrupt->out_name));
	if (eventfd)
		eventfd_ctx_put(eventfd);
	return 0;
}

/* Copies the counts, and returns the number of events that they stand for. */
static u64 iospace_irq_counts(struct iospace_file *file, u64 *counts)
{
	u64 events;
	unsigned int i;

	spin_lock_irq(&file->idev->irq_lock);
	for (i = 0; i < file->idev->vector_count; i++)
		counts[i] = file->subscriptions[i].count;
	events = file->events;
	spin_unlock_irq(&file->idev->irq_lock);
	return events;
}

static bool iospace_irq_pending(struct iospace_file *file)
{
	bool pending;

	spin_lock_irq(&file->idev->irq_lock);
	pending = file->events != file->seen;
	spin_unlock_irq(&file->idev->irq_lock);
	return pending;
}

ssize_t iospace_irq_read(struct file *filp, char __user *to, size_t length,
			 loff_t *position)
{
	struct iospace_file *file = filp->private_data;
	struct iospace_device *idev = file->idev;
	u64 counts[IOSPACE_MAX_VECTORS];
	u64 events;
	int ret;

	if (iospace_device_is_dead(idev))
		return -ENODEV;
	if (!idev->vector_count)
		return -EOPNOTSUPP;
	if (!length || length % sizeof(u64) ||
	    length / sizeof(u64) > idev->vector_count)
		return -EINVAL;

	/* Not both: what is pending now may be another reader's by then. */
	if (filp->f_flags & O_NONBLOCK)
		ret = iospace_irq_pending(file) ? 0 : -EAGAIN;
	else
		ret = wait_event_interruptible(
			idev->irq_wait, iospace_device_is_dead(idev) ||
						iospace_irq_pending(file));
	if (iospace_device_is_dead(idev))
		return -ENODEV;
	if (ret)
		return ret;

	events = iospace_irq_counts(file, counts);
	if (copy_to_user(to, counts, length))
		return -EFAULT;

	/* Another reader may have been faster, and have seen more. */
	spin_lock_irq(&idev->irq_lock);
	file->seen = max(file->seen, events);
	spin_unlock_irq(&idev->irq_lock);
	return length;
}

__poll_t iospace_irq_poll(struct file *filp, poll_table *wait)
{
	struct iospace_file *file = filp->private_data;

	poll_wait(filp, &file->idev->irq_wait, wait);
	if (iospace_device_is_dead(file->idev))
		return EPOLLHUP | EPOLLERR;
	return iospace_irq_pending(file) ? EPOLLIN | EPOLLRDNORM : 0;
}
