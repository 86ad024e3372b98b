// SPDX-License-Identifier: MIT
/*
 * Arenas, and windows on them, on ranges that the parameter "allow" declares and
 * on registers. What the machine has not is left out.
 */
#include "abi.h"

#include <linux/capability.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int arena(int fd, uint32_t index, uint32_t flags, struct iospace_arena *arena)
{
	*arena = (struct iospace_arena){
		.size = sizeof(*arena),
		.flags = flags,
		.index = index,
	};
	return ioctl(fd, IOSPACE_ARENA, arena);
}

static int window(int fd, uint32_t memory, uint64_t address, uint64_t length,
		  struct iospace_window *window)
{
	*window = (struct iospace_window){
		.size = sizeof(*window),
		.memory = memory,
		.address = address,
		.length = length,
	};
	return ioctl(fd, IOSPACE_WINDOW, window);
}

static uint64_t *map_window(int fd, const struct iospace_window *window)
{
	void *at = map(fd, window->length, window->out_mmap_offset);

	if (at == MAP_FAILED)
		die("mmap of a window");
	return at;
}

/* Opens and maps a window, or ends the program. */
static uint64_t *open_window(int fd, uint32_t memory, uint64_t address,
			     uint64_t length, struct iospace_window *view)
{
	if (window(fd, memory, address, length, view))
		die("WINDOW");
	return map_window(fd, view);
}

/* The child's own, for the rest of its life. */
static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2] = {};

	if (syscall(SYS_capset, &header, data))
		die("capset");
}

/* WINDOW, by a process without capabilities: its errno. */
static int window_without_capabilities(int fd, uint32_t memory,
				       uint64_t address, uint64_t length)
{
	struct iospace_window view;
	int status;
	pid_t child = fork();

	if (!child) {
		drop_capabilities();
		if (window(fd, memory, address, length, &view))
			_exit(errno);
		free_handle(fd, view.out_handle);
		_exit(0);
	}
	waitpid(child, &status, 0);
	errno = WEXITSTATUS(status);
	return errno ? -1 : 0;
}

/*
 * What the kernel holds of [@start, @end): the lines of its list of types, where
 * it keeps one. -1: it does not.
 */
static int held(uint64_t start, uint64_t end)
{
	static const char path[] = "/sys/kernel/debug/x86/pat_memtype_list";
	FILE *list;
	char line[256];
	int count = 0;

	list = fopen(path, "r");
	if (!list && !mount("none", "/sys/kernel/debug", "debugfs", 0, NULL))
		list = fopen(path, "r");
	if (!list)
		return -1;
	while (fgets(line, sizeof(line), list)) {
		unsigned long long first, last;

		if (sscanf(line, "PAT: [mem %llx-%llx]", &first, &last) == 2 &&
		    first < end && last > start)
			count++;
	}
	fclose(list);
	return count;
}

static bool is_all(const uint64_t *at, uint64_t bytes, uint64_t value)
{
	for (uint64_t i = 0; i < bytes / sizeof(*at); i++) {
		if (at[i] != value)
			return false;
	}
	return true;
}

static void test_arena_forms(int fd, const struct iospace_info *device_info)
{
	struct iospace_arena got;
	int ret;

	is_errno(arena(fd, device_info->out_arenas, 0, &got), ENOENT,
		 "ARENA: first index that is none");
	is_errno(arena(fd, UINT32_MAX, 0, &got), ENOENT, "ARENA: index 2^32 - 1");
	is_errno(arena(fd, 0, 2, &got), EINVAL, "ARENA: unknown flag");
	got = (struct iospace_arena){ .size = sizeof(got), .__reserved = 1 };
	ret = ioctl(fd, IOSPACE_ARENA, &got);
	is_errno(ret, EINVAL, "ARENA: reserved member");
}

static void test_window_forms(int fd, uint64_t address)
{
	const struct {
		const char *name;
		struct iospace_window window;
		int expected;
	} rows[] = {
		{ "memory 0", { .memory = 0 }, EINVAL },
		{ "memory 7", { .memory = 7 }, EINVAL },
		{ "unknown flag", { .flags = 1 }, EINVAL },
		{ "reserved member", { .__reserved = 1 }, EINVAL },
		{ "no length", { .length = 0 }, EINVAL },
		{ "part of a page", { .length = 8 }, EINVAL },
		{ "address inside of a page", { .address = address + 8 }, EINVAL },
		{ "range that wraps", { .length = -page_size }, EINVAL },
		{ "range that ends at 2^64",
		  { .address = -page_size, .length = page_size }, EINVAL },
		{ "range behind all that the CPU can address",
		  { .address = 1ULL << 60 }, EINVAL },
		{ "physical address 0", { .address = 0 }, address ? EPERM : 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct iospace_window row = rows[i].window;
		int ret;

		row.size = sizeof(row);
		if (strcmp(rows[i].name, "memory 0") && !row.memory)
			row.memory = IOSPACE_MEMORY_CACHED;
		if (strcmp(rows[i].name, "no length") && !row.length)
			row.length = page_size;
		if (strncmp(rows[i].name, "physical", 8) && !row.address)
			row.address = address;
		ret = ioctl(fd, IOSPACE_WINDOW, &row);
		is_errno(ret, rows[i].expected, "WINDOW: %s", rows[i].name);
	}
}

/* System RAM, as the kernel tells root. */
static uint64_t find_ram(void)
{
	FILE *list = fopen("/proc/iomem", "r");
	unsigned long long first, last, ram = 0;
	char line[256];

	while (list && fgets(line, sizeof(line), list)) {
		if (strstr(line, ": System RAM") &&
		    sscanf(line, "%llx-%llx", &first, &last) == 2 &&
		    last - first > 1 << 24)
			ram = first;
	}
	if (list)
		fclose(list);
	return ram;
}

/* Is the address claimed by iospace for a window? */
static bool is_claimed(uint64_t address)
{
	FILE *list = fopen("/proc/iomem", "r");
	unsigned long long first, last;
	bool claimed = false;
	char line[256];

	while (list && fgets(line, sizeof(line), list)) {
		if (strstr(line, ": iospace\n") &&
		    sscanf(line, "%llx-%llx", &first, &last) == 2 &&
		    first <= address && address <= last)
			claimed = true;
	}
	if (list)
		fclose(list);
	return claimed;
}

static void test_type(int fd, const struct iospace_arena *range, uint32_t memory)
{
	struct iospace_window view, again;
	uint64_t bytes = 4 * page_size;
	uint64_t *at;

	if (!(range->out_memory_types & 1U << memory)) {
		is_errno(window(fd, memory, range->out_address, bytes, &view),
			 EOPNOTSUPP, "WINDOW: %s, which the arena has not",
			 memory_names[memory]);
		return;
	}
	if (!is_errno(window(fd, memory, range->out_address, bytes, &view), 0,
		      "WINDOW: %s", memory_names[memory]))
		return;
	ok(view.out_memory == memory, "WINDOW: %s: in effect", memory_names[memory]);
	at = map_window(fd, &view);
	memset(at, 0x40 + memory, bytes);
	ok(is_all(at, bytes, (0x40 + memory) * 0x0101010101010101ULL),
	   "WINDOW: %s: written and read", memory_names[memory]);
	if (is_errno(window(fd, memory, range->out_address + page_size,
			    bytes, &again), 0,
		     "WINDOW: %s: a second one over a part", memory_names[memory])) {
		uint64_t *other = map_window(fd, &again);

		other[0] = 1;
		ok(at[page_size / sizeof(*at)] == 1,
		   "WINDOW: %s: both show the same", memory_names[memory]);
		munmap(other, bytes);
		free_handle(fd, again.out_handle);
	}

	for (uint32_t other = IOSPACE_MEMORY_CACHED;
	     other <= IOSPACE_MEMORY_WRITETHROUGH; other++) {
		bool both = range->out_flags & IOSPACE_ARENA_SIDE_BY_SIDE;

		if (other == memory || !(range->out_memory_types & 1U << other))
			continue;
		is_errno(window(fd, other, range->out_address + bytes - page_size,
				bytes, &again), both ? 0 : EBUSY,
			 "WINDOW: %s beside %s", memory_names[other], memory_names[memory]);
		if (both)
			free_handle(fd, again.out_handle);
	}

	is_errno(munmap((char *)at + page_size, page_size), EINVAL,
		 "WINDOW: %s: a part is not unmapped", memory_names[memory]);
	is_errno(mprotect(at, page_size, PROT_READ), EINVAL,
		 "WINDOW: %s: nor protected", memory_names[memory]);
	ok(at[0] && at[page_size / sizeof(*at)] && at[2 * page_size / sizeof(*at)],
	   "WINDOW: %s: it stays whole", memory_names[memory]);
	is_errno(free_handle(fd, view.out_handle), 0, "FREE: %s, still mapped",
		 memory_names[memory]);
	ok(at[0] == (0x40 + memory) * 0x0101010101010101ULL,
	   "FREE: %s: the mapping stays", memory_names[memory]);
	ok(map(fd, bytes, view.out_mmap_offset) == MAP_FAILED,
	   "FREE: %s: and no more come", memory_names[memory]);
	munmap(at, bytes);
}

/* Each type after each: nothing of the last one may be left. */
static void test_one_after_another(int fd, const struct iospace_arena *range)
{
	uint64_t start = range->out_address;
	int before = held(start, start + range->out_bytes);
	bool good = true;

	for (int round = 0; round < 16; round++) {
		uint32_t memory = 1 + (round + round / 4) % 4;
		uint64_t bytes = (1 + round) * page_size;
		struct iospace_window view;
		char *at, *moved;
		int status;
		pid_t child;

		if (!(range->out_memory_types & 1U << memory))
			continue;
		if (window(fd, memory, start, bytes, &view)) {
			good = false;
			printf("# %s: %s\n", memory_names[memory], strerror(errno));
			continue;
		}
		at = (char *)map_window(fd, &view);
		at[0] = round;
		child = fork();
		if (!child) {
			at[0]++;
			_exit(0);
		}
		waitpid(child, &status, 0);
		free_handle(fd, view.out_handle);
		good &= at[0] == round + 1;
		moved = mremap(at, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
			       (void *)0x600000000000);
		good &= moved != MAP_FAILED && moved[0] == round + 1;
		munmap(moved, bytes);
	}
	ok(good, "WINDOW: each type after each, with forks and moves");
	ok(held(start, start + range->out_bytes) == before,
	   "WINDOW: the kernel holds what it held before");
}

static void test_arena_windows(int fd, const struct iospace_arena *range)
{
	uint64_t start = range->out_address, end = start + range->out_bytes;
	struct iospace_window view;

	for (uint32_t memory = IOSPACE_MEMORY_CACHED;
	     memory <= IOSPACE_MEMORY_WRITETHROUGH; memory++)
		test_type(fd, range, memory);
	test_one_after_another(fd, range);

	is_errno(window(fd, IOSPACE_MEMORY_COHERENT, start, page_size, &view),
		 EOPNOTSUPP, "WINDOW: coherent");
	is_errno(window(fd, IOSPACE_MEMORY_DEVICE, start, page_size, &view),
		 EOPNOTSUPP, "WINDOW: device, on memory");
	is_errno(window(fd, IOSPACE_MEMORY_CACHED, end, page_size, &view), EPERM,
		 "WINDOW: behind the arena");
	is_errno(window(fd, IOSPACE_MEMORY_CACHED, end - page_size,
			2 * page_size, &view), EPERM,
		 "WINDOW: over the end of the arena");
	is_errno(window_without_capabilities(fd, IOSPACE_MEMORY_CACHED, start,
					     page_size), 0,
		 "WINDOW: on an arena, without capabilities");
	if (!is_errno(window(fd, IOSPACE_MEMORY_CACHED, start, range->out_bytes,
			     &view), 0, "WINDOW: on all of the arena"))
		return;
	if (held(start, end) >= 0)
		ok(held(start, end) > 0, "WINDOW: the kernel holds it");
	is_errno(free_handle(fd, view.out_handle), 0, "FREE: of it");
}

/* The device's word for where it is: only it can know. */
static void test_attach(int fd, const struct iospace_arena *range,
			const struct iospace_info *device_info)
{
	enum { BYTES = 1024 };
	struct iospace_window view;
	struct iospace_arena attached, again;
	volatile uint8_t *edu;
	uint64_t count, *at;
	uint8_t *bytes;

	if (arena(fd, 0, IOSPACE_ARENA_ATTACH, &attached)) {
		is_errno(-1, EOPNOTSUPP, "ATTACH: cannot be had");
		ok(device_info->out_iommu == IOSPACE_IOMMU_TRANSLATING ||
		   device_info->out_dma_mask <
			   range->out_address + range->out_bytes - 1,
		   "ATTACH: for a reason");
		return;
	}
	ok(attached.out_dma_addr <= device_info->out_dma_mask,
	   "ATTACH: within the mask");
	if (device_info->out_iommu == IOSPACE_IOMMU_TRANSLATING)
		ok(attached.out_dma_addr != range->out_address,
		   "ATTACH: translated");
	ok(!arena(fd, 0, IOSPACE_ARENA_ATTACH, &again) &&
	   again.out_dma_addr == attached.out_dma_addr, "ATTACH: the same again");

	edu = edu_map(fd);
	at = open_window(fd, IOSPACE_MEMORY_CACHED, range->out_address,
			 2 * page_size, &view);
	bytes = (uint8_t *)at;
	for (int i = 0; i < BYTES; i++)
		bytes[i] = i * 7 + 1;
	memset(bytes + page_size, 0, page_size);
	edu_start(edu, attached.out_dma_addr, BYTES, EDU_DMA_INTERRUPT);
	edu_await(fd, edu, &count);
	edu_start(edu, attached.out_dma_addr + page_size, BYTES,
		  EDU_DMA_TO_MEMORY | EDU_DMA_INTERRUPT);
	edu_await(fd, edu, &count);
	ok(!memcmp(bytes, bytes + page_size, BYTES),
	   "ATTACH: the device copies inside of the arena");

	munmap(at, 2 * page_size);
	free_handle(fd, view.out_handle);
	munmap((void *)edu, 1 << 20);
}

static void test_attach_out_of_reach(const struct iospace_arena *range,
				     const struct iospace_info *device_info)
{
	char path[128];
	struct iospace_arena got;
	int fd;

	snprintf(path, sizeof(path), "/sys/class/misc/%s/dma_mask", device.name);
	if (device_info->out_iommu == IOSPACE_IOMMU_TRANSLATING ||
	    range->out_address < 1 << 24 || !write_file(path, "0xffffff"))
		return;
	fd = open_device(O_RDWR);
	is_errno(arena(fd, 0, IOSPACE_ARENA_ATTACH, &got), EOPNOTSUPP,
		 "ATTACH: out of the device's reach");
	close(fd);
	if (!write_file(path, device.mask))
		die(path);
}

static void test_unbind(const struct iospace_arena *range)
{
	int fd = open_device(O_RDWR);
	struct iospace_window view;
	uint64_t *at = open_window(fd, IOSPACE_MEMORY_UNCACHED,
				   range->out_address, 2 * page_size, &view);
	struct iospace_arena got;

	memset(at, 0x5a, 2 * page_size);
	arena(fd, 0, IOSPACE_ARENA_ATTACH, &got);
	unbind_device();
	ok(is_all(at, 2 * page_size, 0), "unbound: the window shows zeros");
	is_errno(window(fd, IOSPACE_MEMORY_CACHED, range->out_address, page_size,
			&view), ENODEV, "unbound: WINDOW");
	munmap(at, page_size);
	bind_device();
	munmap(at + page_size / sizeof(*at), page_size);
	close(fd);

	fd = open_device(O_RDWR);
	at = open_window(fd, IOSPACE_MEMORY_CACHED, range->out_address,
			 2 * page_size, &view);
	ok(is_all(at, 2 * page_size, 0x5a5a5a5a5a5a5a5a),
	   "bound again: in another type it shows what was written");
	munmap(at, 2 * page_size);
	close(fd);
}

static bool read_allowed(uint64_t *start, uint64_t *bytes)
{
	char text[256], *at;

	if (!read_file("/sys/module/iospace/parameters/allow", text,
		       sizeof(text)) || !strchr(text, '@'))
		return false;
	*bytes = strtoull(text, &at, 0);
	if (*at == 'M')
		*bytes <<= 20;
	*start = strtoull(strchr(text, '@') + 1, NULL, 0);
	return true;
}

static void test_allowed(int fd)
{
	struct iospace_window first, second;
	uint64_t start, bytes, *at;

	if (!read_allowed(&start, &bytes)) {
		skip("no range is allowed");
		return;
	}
	is_errno(window_without_capabilities(fd, IOSPACE_MEMORY_UNCACHED, start,
					     page_size), EPERM,
		 "allowed range: without CAP_SYS_RAWIO");
	is_errno(window(fd, IOSPACE_MEMORY_UNCACHED, start + bytes, page_size,
			&first), EPERM, "allowed range: behind it");
	ok(!is_claimed(start), "allowed range: not claimed");
	at = open_window(fd, IOSPACE_MEMORY_UNCACHED, start, 3 * page_size,
			 &first);
	at[0] = 1234567;
	ok(at[0] == 1234567, "allowed range: written and read");
	ok(is_claimed(start), "allowed range: claimed while it is open");
	is_errno(window(fd, IOSPACE_MEMORY_UNCACHED, start + page_size,
			4 * page_size, &second), 0,
		 "allowed range: a second window, over a part");
	free_handle(fd, first.out_handle);
	munmap(at, 3 * page_size);
	ok(is_claimed(start + 2 * page_size) && is_claimed(start + 4 * page_size),
	   "allowed range: the second keeps its claim");
	free_handle(fd, second.out_handle);
	ok(!is_claimed(start) && !is_claimed(start + page_size) &&
	   !is_claimed(start + 4 * page_size),
	   "allowed range: nothing is claimed when both are closed");
	is_errno(window(fd, IOSPACE_MEMORY_DEVICE, start, page_size, &first), 0,
		 "allowed range: as a device's");
	free_handle(fd, first.out_handle);
}

/* Where the BAR of the edu function is. */
static uint64_t find_bar(void)
{
	char path[128], text[64];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource",
		 device.function);
	if (!read_file(path, text, sizeof(text)))
		die(path);
	return strtoull(text, NULL, 0);
}

static void test_register_windows(int fd)
{
	uint64_t bar = find_bar();
	struct iospace_window view;
	volatile uint32_t *at;

	is_errno(window_without_capabilities(fd, IOSPACE_MEMORY_DEVICE, bar,
					     page_size), EPERM,
		 "registers: WINDOW without CAP_SYS_RAWIO");
	is_errno(window(fd, IOSPACE_MEMORY_CACHED, bar, page_size, &view),
		 EOPNOTSUPP, "registers: WINDOW, cached");
	is_errno(window(fd, IOSPACE_MEMORY_WRITECOMBINE, bar, page_size, &view),
		 EOPNOTSUPP, "registers: WINDOW, writecombine");
	is_errno(window(fd, IOSPACE_MEMORY_DEVICE, bar + (1 << 20), page_size,
			&view), EPERM, "registers: WINDOW behind the BAR");
	at = (void *)open_window(fd, IOSPACE_MEMORY_DEVICE, bar, page_size,
				 &view);
	ok(*at == 0x010000ed, "registers: WINDOW shows the identification");
	is_errno(ioctl(fd, IOSPACE_SEGMENTS,
		       &(struct iospace_segments){
			       .size = sizeof(struct iospace_segments),
			       .handle = view.out_handle, .count = 1 }),
		 ENOENT, "SEGMENTS: of a window");
	munmap((void *)at, page_size);
	free_handle(fd, view.out_handle);
}

/* A prefetchable BAR of any device that iospace has; not all machines have. */
static void test_prefetchable(void)
{
	for (int n = 0; n < 8; n++) {
		struct iospace_registers bar = {};
		struct iospace_window view;
		char path[128], line[64];
		uint64_t start;
		FILE *list;
		int fd;

		snprintf(path, sizeof(path), "/dev/iospace%d", n);
		fd = open(path, O_RDWR | O_CLOEXEC);
		for (uint32_t i = 0; fd >= 0 && i < 6; i++) {
			if (registers(fd, i, &bar) ||
			    !(bar.out_flags & IOSPACE_REGISTERS_PREFETCHABLE))
				continue;
			snprintf(path, sizeof(path),
				 "/sys/class/misc/iospace%d/device/resource", n);
			list = fopen(path, "r");
			for (uint32_t skip = 0; list && skip <= i; skip++) {
				if (!fgets(line, sizeof(line), list))
					die(path);
			}
			fclose(list);
			start = strtoull(line, NULL, 0);
			ok(!window(fd, IOSPACE_MEMORY_WRITECOMBINE, start,
				   page_size, &view),
			   "prefetchable registers: WINDOW, writecombine");
			if (held(0, -1) >= 0)
				ok(map(fd, page_size, bar.out_mmap_offset) ==
					   MAP_FAILED && errno == EBUSY,
				   "prefetchable registers: no mapping in their type");
			free_handle(fd, view.out_handle);
			ok(map(fd, page_size, bar.out_mmap_offset) != MAP_FAILED,
			   "prefetchable registers: then mapped");
			if (held(0, -1) >= 0)
				is_errno(window(fd, IOSPACE_MEMORY_WRITECOMBINE,
						start, page_size, &view),
					 EBUSY,
					 "prefetchable registers: then no WINDOW");
		}
		if (fd >= 0)
			close(fd);
	}
}

/* Written to their last page, which the library hardly ever needs. */
#define BOOKS_MARK 0x1234567890abcdefULL

static int books_as(int fd, struct iospace_arena_books ask)
{
	struct iospace_arena_books books = ask;

	books.size = sizeof(books);
	return ioctl(fd, IOSPACE_ARENA_BOOKS, &books) ? -1 : books.out_fd;
}

/* Of the first arena; or ends the program. */
static int open_books(int fd)
{
	int books = books_as(fd, (struct iospace_arena_books){});

	if (books == -1)
		die("ARENA_BOOKS");
	return books;
}

static int open_other(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd == -1)
		die(path);
	return fd;
}

static off_t books_length(int books)
{
	struct stat file;

	if (fstat(books, &file))
		die("fstat of books");
	return file.st_size;
}

static bool is_same_file(int a, int b)
{
	struct stat first, second;

	if (fstat(a, &first) || fstat(b, &second))
		die("fstat of books");
	return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

/* One byte, far behind the end: locks need no bytes. */
static int lock_books(int books, short type)
{
	struct flock lock = {
		.l_type = type, .l_whence = SEEK_SET,
		.l_start = 1LL << 41, .l_len = 1,
	};

	return fcntl(books, F_OFD_SETLK, &lock);
}

/* One that was promised and never given counts, too. */
static int lowest_descriptor(int fd)
{
	int lowest = dup(fd);

	close(lowest);
	return lowest;
}

static void test_books_answer(int fd)
{
	struct iospace_arena_books *request = mmap(NULL, page_size,
						   PROT_READ | PROT_WRITE,
						   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int before = lowest_descriptor(fd);

	*request = (struct iospace_arena_books){ .size = sizeof(*request) };
	mprotect(request, page_size, PROT_READ);
	is_errno(ioctl(fd, IOSPACE_ARENA_BOOKS, request), EFAULT,
		 "ARENA_BOOKS: read-only structure");
	ok(lowest_descriptor(fd) == before,
	   "ARENA_BOOKS: and no descriptor stays behind");
	munmap(request, page_size);
}

static void test_books_file(int books, const struct iospace_arena *range)
{
	uint64_t length = range->out_bytes / 4 + MIB;
	struct stat file;

	length += -length % page_size;
	if (fstat(books, &file))
		die("fstat of books");
	ok((uint64_t)file.st_size == length, "books: a quarter and a mebibyte");
	ok((uint64_t)file.st_blocks * 512 < length / 2,
	   "books: take memory where they are written");
	ok(fcntl(books, F_GETFD) == FD_CLOEXEC, "books: close-on-exec");
	ok((fcntl(books, F_GETFL) & O_ACCMODE) == O_RDWR,
	   "books: for reading and writing");
	is_errno(ftruncate(books, length + page_size), EPERM, "books: do not grow");
	is_errno(ftruncate(books, length - page_size), EPERM,
		 "books: do not shrink");
	is_errno(pwrite(books, "", 1, length) == 1 ? 0 : -1, EPERM,
		 "books: nothing is written behind them");
	is_errno(fcntl(books, F_ADD_SEALS, F_SEAL_WRITE), EPERM,
		 "books: nobody seals them against writing");
	is_errno(fallocate(books, 0, length - page_size, page_size), 0,
		 "books: pages are had beforehand");
}

/* Same file, other description. */
static void test_books_sharing(int fd, int books)
{
	const char *module_device = "/dev/iospace0";
	int second = open_device(O_RDWR), other = open_other(module_device);
	int again = open_books(fd);
	int through_second = open_books(second);
	int through_other = open_books(other);
	off_t last = books_length(books) - page_size;
	uint64_t *at = map(books, page_size, last);
	uint64_t *through;
	char path[64];
	int reopened;

	ok(is_same_file(books, again), "books: the same at a second call");
	ok(is_same_file(books, through_second),
	   "books: the same for two files of a device");
	ok(is_same_file(books, through_other), "books: the same for two devices");
	through = map(through_other, page_size, last);
	if (at == MAP_FAILED || through == MAP_FAILED)
		die("mmap of books");
	at[0] = BOOKS_MARK;
	ok(through[0] == BOOKS_MARK, "books: mapped, shared by all");

	is_errno(lock_books(books, F_WRLCK), 0, "books: locked");
	is_errno(lock_books(again, F_WRLCK), EAGAIN,
		 "books: not by another description of one file");
	is_errno(lock_books(through_other, F_WRLCK), EAGAIN,
		 "books: nor by one of another device");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", again);
	reopened = open_other(path);
	ok(is_same_file(books, reopened), "books: opened again by /proc");
	is_errno(lock_books(reopened, F_WRLCK), EAGAIN,
		 "books: that is a description, too");
	is_errno(lock_books(books, F_UNLCK), 0, "books: unlocked");
	is_errno(lock_books(reopened, F_WRLCK), 0, "books: then by another");

	munmap(at, page_size);
	munmap(through, page_size);
	close(reopened);
	close(through_other);
	close(through_second);
	close(again);
	close(other);
	close(second);
}

static void *open_books_at_once(void *fd)
{
	return (void *)(intptr_t)books_as(*(int *)fd, (struct iospace_arena_books){});
}

static void test_books(const struct iospace_arena *range,
		       const struct iospace_info *device_info)
{
	enum { THREADS = 8 };
	pthread_t threads[THREADS];
	int fd = open_device(O_RDWR), read_only = open_device(O_RDONLY);
	uint64_t word = 0;
	bool same = true;
	int books, again;
	off_t last;

	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, open_books_at_once, &fd);
	books = open_books(fd);
	for (int i = 0; i < THREADS; i++) {
		void *opened;

		pthread_join(threads[i], &opened);
		same &= (intptr_t)opened >= 0 && is_same_file(books, (intptr_t)opened);
		close((intptr_t)opened);
	}
	ok(same, "books: one file, whoever is first");

	is_errno(books_as(fd, (struct iospace_arena_books){
				      .index = device_info->out_arenas }),
		 ENOENT, "ARENA_BOOKS: first index that is none");
	is_errno(books_as(fd, (struct iospace_arena_books){ .flags = 1 }), EINVAL,
		 "ARENA_BOOKS: unknown flag");
	is_errno(books_as(read_only, (struct iospace_arena_books){}), EACCES,
		 "ARENA_BOOKS: a device that was opened for reading");
	test_books_answer(fd);
	test_books_file(books, range);
	test_books_sharing(fd, books);
	close(read_only);
	close(books);
	close(fd);

	fd = open_device(O_RDWR);
	books = open_books(fd);
	unbind_device();
	is_errno(books_as(fd, (struct iospace_arena_books){}), ENODEV,
		 "unbound: ARENA_BOOKS");
	is_errno(lock_books(books, F_WRLCK), 0, "unbound: books stay usable");
	close(fd);
	bind_device();
	fd = open_device(O_RDWR);
	again = open_books(fd);
	last = books_length(again) - page_size;
	ok(pread(again, &word, sizeof(word), last) == sizeof(word) &&
	   word == BOOKS_MARK, "bound again: books are as they were");
	is_errno(lock_books(again, F_WRLCK), EAGAIN,
		 "bound again: and locked by who kept them");
	word = 0;
	if (pwrite(again, &word, sizeof(word), last) != sizeof(word))
		die("write books");
	close(again);
	close(books);
	close(fd);
}

void test_arena(void)
{
	int fd = open_device(O_RDWR);
	struct iospace_info device_info;
	struct iospace_window view;
	struct iospace_arena first;

	info(fd, &device_info);
	test_arena_forms(fd, &device_info);
	is_errno(window(fd, IOSPACE_MEMORY_CACHED, find_ram(), page_size, &view),
		 EPERM, "WINDOW: memory that the system uses");
	is_errno(window_without_capabilities(fd, IOSPACE_MEMORY_CACHED,
					     find_ram(), page_size), EPERM,
		 "WINDOW: the same without capabilities");
	test_register_windows(fd);
	test_allowed(fd);
	test_prefetchable();

	if (!device_info.out_arenas) {
		skip("there is no arena");
		close(fd);
		return;
	}
	if (!is_errno(arena(fd, 0, 0, &first), 0, "ARENA"))
		return;
	ok(first.out_address && first.out_bytes >= 1 << 20 &&
	   !(first.out_address % page_size) && !(first.out_bytes % page_size),
	   "ARENA: address and size");
	ok(!first.out_dma_addr, "ARENA: no bus address without ATTACH");
	ok(first.out_memory_types & 1U << IOSPACE_MEMORY_CACHED, "ARENA: types");
	test_window_forms(fd, first.out_address);
	test_arena_windows(fd, &first);
	test_attach(fd, &first, &device_info);
	close(fd);
	test_attach_out_of_reach(&first, &device_info);
	test_unbind(&first);
	test_books(&first, &device_info);
}
