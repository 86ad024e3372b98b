// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The books of an arena: a file in memory, in which the library writes what is
 * allocated there.
 *
 * The module keeps the file, for as long as it has the arena, so that nobody
 * ever finds books of another arena, and all find the same. It never looks
 * inside. Owns the files; whoever has a descriptor of one keeps it beyond the
 * module, of which nothing is in it. Takes books_lock.
 */
#include <linux/cred.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/nospec.h>
#include <linux/shmem_fs.h>

#include "compat.h"
#include "iospace.h"

/* By index of the arena, from the first call for it on. */
static struct file *iospace_books[IOSPACE_MAX_ARENAS];
static DEFINE_MUTEX(iospace_books_lock);

/* A file in which nothing has a page yet, and whose size nobody can change. */
static struct file *iospace_books_create(u32 index)
{
	u64 size = PAGE_ALIGN(iospace_arena_bytes(index) / 4 + SZ_1M);
	struct file *books;
	char name[32];

	snprintf(name, sizeof(name), "iospace-books%u", index);
	books = shmem_file_setup(name, size, IOSPACE_SHMEM_NORESERVE);
	if (!IS_ERR(books))
		SHMEM_I(file_inode(books))->seals |= F_SEAL_SHRINK |
						     F_SEAL_GROW | F_SEAL_SEAL;
	return books;
}

/* Stays until iospace_books_exit(). */
static struct file *iospace_books_get(u32 index)
{
	struct file *books;

	mutex_lock(&iospace_books_lock);
	books = iospace_books[index];
	if (!books) {
		books = iospace_books_create(index);
		if (!IS_ERR(books))
			iospace_books[index] = books;
	}
	mutex_unlock(&iospace_books_lock);
	return books;
}

int iospace_books_open(struct iospace_file *file, void *args)
{
	struct iospace_books_call *call = args;
	u32 index = call->books.index;
	struct file *books;
	int ret;

	if (call->books.flags)
		return -EINVAL;
	if (index >= iospace_arena_count())
		return -ENOENT;
	index = array_index_nospec(index, iospace_arena_count());
	if (!(file->filp->f_mode & FMODE_WRITE))
		return -EACCES;
	/* There such a file is another file system's, without seals. */
	if (!IS_ENABLED(CONFIG_SHMEM))
		return -EOPNOTSUPP;

	books = iospace_books_get(index);
	if (IS_ERR(books))
		return PTR_ERR(books);
	ret = get_unused_fd_flags(O_CLOEXEC);
	if (ret < 0)
		return ret;
	call->books.out_fd = ret;

	/* A description of its own, because locks are a description's. */
	call->opened = dentry_open(&books->f_path, O_RDWR | O_LARGEFILE,
				   current_cred());
	ret = PTR_ERR_OR_ZERO(call->opened);
	if (ret)
		put_unused_fd(call->books.out_fd);
	return ret;
}

/* @out_fd may have been changed in user space, not here. */
void iospace_books_finish(struct iospace_file *file, void *args, bool answered)
{
	struct iospace_books_call *call = args;

	if (answered) {
		fd_install(call->books.out_fd, call->opened);
	} else {
		put_unused_fd(call->books.out_fd);
		fput(call->opened);
	}
}

/** iospace_books_exit() - Let go of all books, with their arenas */
void iospace_books_exit(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(iospace_books); i++) {
		if (iospace_books[i])
			fput(iospace_books[i]);
		iospace_books[i] = NULL;
	}
}
