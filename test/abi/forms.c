// SPDX-License-Identifier: MIT
/*
 * The form of each call: sizes, flags, reserved members, pointers. One row for
 * each ioctl, the same cases for all of them.
 */
#include "abi.h"

struct form {
	const char *name;
	unsigned long request;
	uint32_t size;
	/* Offset of the reserved member; 0 if it is no input. */
	uint32_t reserved;
	/* A structure that works, or fails only with @expected. */
	union {
		uint32_t words[64];
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
		struct iospace_export export;
		struct iospace_import import;
		struct iospace_arena_books books;
	} good;
	int expected;
};

static const struct form forms[] = {
	{
		.name = "INFO", .request = IOSPACE_INFO,
		.size = sizeof(struct iospace_info),
	}, {
		.name = "ALLOC", .request = IOSPACE_ALLOC,
		.size = sizeof(struct iospace_alloc),
		.reserved = offsetof(struct iospace_alloc, __reserved),
		.good.alloc = { .memory = IOSPACE_MEMORY_COHERENT, .length = 1 },
	}, {
		.name = "FREE", .request = IOSPACE_FREE,
		.size = sizeof(struct iospace_free),
		.reserved = offsetof(struct iospace_free, __reserved),
		.good.free = { .handle = 0 },
		.expected = ENOENT,
	}, {
		.name = "REGISTERS", .request = IOSPACE_REGISTERS,
		.size = sizeof(struct iospace_registers),
		.reserved = offsetof(struct iospace_registers, __reserved),
	}, {
		.name = "REGISTER_ACCESS", .request = IOSPACE_REGISTER_ACCESS,
		.size = sizeof(struct iospace_register_access),
		.good.access = { .width = 4 },
	}, {
		.name = "INTERRUPT", .request = IOSPACE_INTERRUPT,
		.size = sizeof(struct iospace_interrupt),
		.reserved = offsetof(struct iospace_interrupt, __reserved),
	}, {
		.name = "SEGMENTS", .request = IOSPACE_SEGMENTS,
		.size = sizeof(struct iospace_segments),
		.good.segments = { .count = 1 },
		.expected = ENOENT,
	}, {
		.name = "SYNC", .request = IOSPACE_SYNC,
		.size = sizeof(struct iospace_sync),
		.reserved = offsetof(struct iospace_sync, __reserved),
		.good.sync = { .flags = IOSPACE_SYNC_FOR_CPU, .length = 1 },
		.expected = ENOENT,
	}, {
		.name = "ARENA", .request = IOSPACE_ARENA,
		.size = sizeof(struct iospace_arena),
		.reserved = offsetof(struct iospace_arena, __reserved),
		.good.arena = { .index = UINT32_MAX },
		.expected = ENOENT,
	}, {
		.name = "WINDOW", .request = IOSPACE_WINDOW,
		.size = sizeof(struct iospace_window),
		.reserved = offsetof(struct iospace_window, __reserved),
		.good.window = { .memory = IOSPACE_MEMORY_CACHED,
				 .length = 65536 },
		.expected = EPERM,
	}, {
		.name = "MAP_USER", .request = IOSPACE_MAP_USER,
		.size = sizeof(struct iospace_map_user),
		.good.map_user = { .direction = IOSPACE_DIRECTION_TO_DEVICE,
				   .length = 1 },
		.expected = EFAULT,
	}, {
		.name = "SYNC_RANGES", .request = IOSPACE_SYNC_RANGES,
		.size = sizeof(struct iospace_sync_ranges),
		.good.sync_ranges = { .flags = IOSPACE_SYNC_FOR_CPU, .count = 1 },
		.expected = ENOENT,
	}, {
		.name = "EXPORT", .request = IOSPACE_EXPORT,
		.size = sizeof(struct iospace_export),
		.good.export = { .length = 65536 },
		.expected = ENOENT,
	}, {
		.name = "IMPORT", .request = IOSPACE_IMPORT,
		.size = sizeof(struct iospace_import),
		.reserved = offsetof(struct iospace_import, __reserved),
		.good.import = { .fd = -1,
				 .direction = IOSPACE_DIRECTION_TO_DEVICE },
		.expected = EBADF,
	}, {
		.name = "ARENA_BOOKS", .request = IOSPACE_ARENA_BOOKS,
		.size = sizeof(struct iospace_arena_books),
		.good.books = { .index = UINT32_MAX },
		.expected = ENOENT,
	},
};

/* Calls with the structure ending right before memory that is not there. */
static int call(int fd, const struct form *form, uint32_t size, uint32_t flags,
		int reserved, uint8_t tail)
{
	static char *page;
	uint32_t length = size > form->size ? size : form->size;
	char *at;

	if (!page) {
		page = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		mprotect(page + page_size, page_size, PROT_NONE);
	}
	at = page + page_size - length;
	memcpy(at, &form->good, form->size);
	memset(at + form->size, 0, length - form->size);
	if (length > form->size)
		at[length - 1] = tail;
	((uint32_t *)at)[0] = size;
	((uint32_t *)at)[1] |= flags;
	if (reserved)
		*(uint32_t *)(at + form->reserved) = reserved;
	return ioctl(fd, form->request, at);
}

static void test_form(int fd, const struct form *form)
{
	const char *name = form->name;
	uint32_t size = form->size;

	is_errno(call(fd, form, size, 0, 0, 0), form->expected,
		 "%s: its own size", name);
	is_errno(call(fd, form, 0, 0, 0, 0), EINVAL, "%s: size 0", name);
	is_errno(call(fd, form, 4, 0, 0, 0), EINVAL, "%s: size 4", name);
	is_errno(call(fd, form, size - 1, 0, 0, 0), EINVAL,
		 "%s: a byte short", name);
	is_errno(call(fd, form, size + 8, 0, 0, 0), form->expected,
		 "%s: longer, tail zero", name);
	is_errno(call(fd, form, size + 8, 0, 0, 1), E2BIG,
		 "%s: longer, tail not zero", name);
	is_errno(call(fd, form, size, 1U << 31, 0, 0), EINVAL,
		 "%s: unknown flag", name);
	if (form->reserved)
		is_errno(call(fd, form, size, 0, 1, 0), EINVAL,
			 "%s: reserved member", name);
	is_errno(ioctl(fd, form->request, NULL), EFAULT, "%s: null", name);
	is_errno(ioctl(fd, form->request, (void *)-4096L), EFAULT,
		 "%s: an address of the kernel's", name);
}

/* The answer cannot be written: the buffer must not stay behind. */
static void test_unwritable_answer(int fd)
{
	struct iospace_alloc *request = mmap(NULL, page_size,
					     PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long long buffers = counter("buffers");

	*request = (struct iospace_alloc){
		.size = sizeof(*request),
		.memory = IOSPACE_MEMORY_COHERENT,
		.length = 1,
	};
	mprotect(request, page_size, PROT_READ);
	is_errno(ioctl(fd, IOSPACE_ALLOC, request), EFAULT,
		 "ALLOC: read-only structure");
	ok(counter("buffers") == buffers, "ALLOC: and no buffer stays behind");
	munmap(request, page_size);
}

void test_forms(void)
{
	int fd = open_device(O_RDWR);
	char buffer[256] = { 0 };

	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++)
		test_form(fd, &forms[i]);
	test_unwritable_answer(fd);

	is_errno(ioctl(fd, _IO(IOSPACE_TYPE, IOSPACE_CMD_ARENA_BOOKS + 1), buffer), ENOTTY,
		 "a number after the last");
	is_errno(ioctl(fd, _IO(IOSPACE_TYPE, 255), buffer), ENOTTY,
		 "number 255");
	is_errno(ioctl(fd, _IO('x', 0), buffer), ENOTTY, "another type");
	is_errno(ioctl(fd, _IOR(IOSPACE_TYPE, 0, uint32_t), buffer), ENOTTY,
		 "a number with a direction");
	close(fd);
}
