// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Pages: ordinary memory that a buffer and its dma-bufs share.
 *
 * Whoever uses them last puts them, and ends what is charged for them. Each page,
 * or block of pages that the allocator gave as one, has a count of its own: user
 * space may pin it, and it outlives them then. Used by more than one only under
 * memory_lock.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "iospace.h"

/** iospace_pages_create() - Room for @count pages, for one user; or NULL */
struct iospace_pages *iospace_pages_create(unsigned long count)
{
	struct iospace_pages *pages;

	pages = kvzalloc(struct_size(pages, array, count), GFP_KERNEL_ACCOUNT);
	if (!pages)
		return NULL;
	pages->users = 1;
	pages->count = count;
	return pages;
}

/** iospace_pages_clear() - Put the pages that there are, from the first on */
void iospace_pages_clear(struct iospace_pages *pages)
{
	unsigned long i, block;

	for (i = 0; i < pages->count && pages->array[i]; i += block) {
		block = compound_nr(pages->array[i]);
		put_page(pages->array[i]);
		cond_resched();
	}
	memset(pages->array, 0, i * sizeof(*pages->array));
}

/** iospace_pages_put() - End one use */
void iospace_pages_put(struct iospace_pages *pages)
{
	if (--pages->users)
		return;
	iospace_pages_clear(pages);
	iospace_charge_end(&pages->charge);
	kvfree(pages);
}
