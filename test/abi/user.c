// SPDX-License-Identifier: MIT
/*
 * Mappings of the program's own memory: what may be mapped, what counts for it, and
 * the device's word that it is the same memory. SYNC of many ranges.
 */
#include "abi.h"

#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#define TOTAL_BYTES "/sys/module/iospace/parameters/max_total_bytes"

/* What the device and machine are; they stay. */
static struct iospace_info device_info;

static int map_user(int fd, const volatile void *address, uint64_t length,
		    uint32_t direction, struct iospace_map_user *map)
{
	*map = (struct iospace_map_user){
		.size = sizeof(*map),
		.direction = direction,
		.address = (uintptr_t)address,
		.length = length,
	};
	return ioctl(fd, IOSPACE_MAP_USER, map);
}

/* Maps it and ends that at once. */
static int try_user(int fd, const volatile void *address, uint64_t length,
		    uint32_t direction)
{
	struct iospace_map_user map;
	int ret = map_user(fd, address, length, direction, &map);

	if (!ret)
		free_handle(fd, map.out_handle);
	return ret;
}

static int sync_ranges(int fd, uint32_t handle, uint32_t flags, uint32_t count,
		       const struct iospace_sync_range *ranges)
{
	struct iospace_sync_ranges sync = {
		.size = sizeof(sync),
		.flags = flags,
		.handle = handle,
		.count = count,
		.ranges = (uintptr_t)ranges,
	};

	return ioctl(fd, IOSPACE_SYNC_RANGES, &sync);
}

static void *pages_of(unsigned int count, int protection, int flags, int fd)
{
	void *address = mmap(NULL, count * page_size, protection, flags, fd, 0);

	if (address == MAP_FAILED)
		die("mmap");
	return address;
}

static uint8_t *anonymous(unsigned int pages)
{
	return pages_of(pages, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* Pages that count as pinned for this process. */
static long pinned(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	char line[128];
	long kib = -1;

	while (kib < 0 && fgets(line, sizeof(line), file))
		sscanf(line, "VmPin: %ld kB", &kib);
	fclose(file);
	return kib * 1024 / page_size;
}

static void test_refused(int fd)
{
	const uint64_t two = 2 * page_size;
	uint8_t *memory = anonymous(4);
	uint8_t *hole = anonymous(3), *closed = anonymous(1);
	uint8_t *constant = anonymous(2);
	uint8_t *high = (uint8_t *)0x7ffffffff000;

	memset(constant, 1, two);
	munmap(hole + page_size, page_size);
	mprotect(closed, page_size, PROT_NONE);
	mprotect(constant, two, PROT_READ);

	const struct {
		const char *name;
		void *address;
		uint64_t length;
		uint32_t direction;
		int expected;
	} rows[] = {
		{ "a page", memory, page_size, BOTH_WAYS, 0 },
		{ "all of it, to the device", memory, 4 * page_size, TO_DEVICE, 0 },
		{ "all of it, from the device", memory, 4 * page_size,
		  FROM_DEVICE, 0 },
		{ "a byte, to the device", memory + 17, 1, TO_DEVICE, 0 },
		{ "two bytes in two pages", memory + page_size - 1, 2, TO_DEVICE,
		  0 },
		{ "a byte, from the device", memory + 17, 1, FROM_DEVICE,
		  device_info.out_coherent ? 0 : EINVAL },
		{ "into a line, both ways", memory, 1, BOTH_WAYS,
		  device_info.out_coherent ? 0 : EINVAL },
		{ "no direction", memory, two, 0, EINVAL },
		{ "direction 4", memory, two, 4, EINVAL },
		{ "direction 2^32 - 1", memory, two, UINT32_MAX, EINVAL },
		{ "no byte", memory, 0, TO_DEVICE, EINVAL },
		{ "no byte of nothing", NULL, 0, TO_DEVICE, EINVAL },
		{ "range that wraps", (void *)-page_size, two, TO_DEVICE, EINVAL },
		{ "length that wraps", memory, UINT64_MAX, TO_DEVICE, EINVAL },
		{ "up to the last address", (void *)-page_size, page_size,
		  TO_DEVICE, EFAULT },
		{ "up to the end of user space, and more", high, two, TO_DEVICE,
		  EFAULT },
		{ "nothing", NULL, page_size, TO_DEVICE, EFAULT },
		{ "memory and nothing", hole, two, TO_DEVICE, EFAULT },
		{ "nothing and memory", hole + page_size, two, TO_DEVICE, EFAULT },
		{ "more than this machine has", (void *)(1ULL << 32), 1ULL << 40,
		  TO_DEVICE, ENOMEM },
		{ "PROT_NONE", closed, page_size, TO_DEVICE, EFAULT },
		{ "read-only, to the device", constant, two, TO_DEVICE, 0 },
		{ "read-only, from the device", constant, two, FROM_DEVICE, EFAULT },
		{ "read-only, both ways", constant, two, BOTH_WAYS, EFAULT },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		is_errno(try_user(fd, rows[i].address, rows[i].length,
				  rows[i].direction), rows[i].expected,
			 "MAP_USER: %s", rows[i].name);
	}
	/* The file's own pages, which nobody may write. */
	is_errno(try_user(fd, memory_names, sizeof(memory_names), TO_DEVICE), 0,
		 "MAP_USER: constants of the program, to the device");
	is_errno(try_user(fd, (void *)((uintptr_t)test_user & -page_size),
			  page_size, FROM_DEVICE), EFAULT,
		 "MAP_USER: code of the program, from the device");
	ok(!pinned() && !counter("buffers"),
	   "MAP_USER: nothing of that stays behind");
	munmap(memory, 4 * page_size);
	munmap(hole, page_size);
	munmap(hole + 2 * page_size, page_size);
	munmap(closed, page_size);
	munmap(constant, two);
}

/* Memory that iospace itself gave. */
static void test_own_memory(int fd)
{
	int other = open("/dev/iospace0", O_RDWR | O_CLOEXEC);
	struct iospace_alloc coherent, cached, others;
	uint8_t *bytes = alloc_mapped(fd, 2 * page_size, &coherent);
	volatile uint8_t *edu = edu_map(fd);

	is_errno(try_user(fd, bytes, page_size, TO_DEVICE),
		 device_info.out_memory_types & 1 << IOSPACE_MEMORY_COHERENT ?
		 EFAULT : 0, "MAP_USER: coherent memory");
	drop(fd, bytes, &coherent);
	is_errno(try_user(fd, edu, page_size, TO_DEVICE), EFAULT,
		 "MAP_USER: registers");
	munmap((void *)edu, 1 << 20);

	bytes = alloc_mapped_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = 2 * page_size },
		&cached);
	is_errno(try_user(fd, bytes, 2 * page_size, TO_DEVICE), EBUSY,
		 "MAP_USER: a cached buffer of this device");
	is_errno(try_user(fd, bytes + page_size + 5, 1, TO_DEVICE), EBUSY,
		 "MAP_USER: a byte of it");
	drop(fd, bytes, &cached);

	if (other == -1)
		die("/dev/iospace0");
	bytes = alloc_mapped_as(other, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = 2 * page_size },
		&others);
	is_errno(try_user(fd, bytes, 2 * page_size, TO_DEVICE), 0,
		 "MAP_USER: a cached buffer of another device");
	drop(other, bytes, &others);
	close(other);
	ok(!pinned(), "MAP_USER: of iospace's memory nothing stays pinned");
}

static int insert_module(const char *name)
{
	static const char *const endings[] = { "ko", "ko.xz" };
	struct utsname system;
	int ret = -1;

	uname(&system);
	for (int i = 0; ret && i < 2; i++) {
		char path[300];
		int fd;

		snprintf(path, sizeof(path), "/lib/modules/%s/kernel/drivers/%s.%s",
			 system.release, name, endings[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd == -1)
			continue;
		/* 4: MODULE_INIT_COMPRESSED_FILE */
		ret = syscall(SYS_finit_module, fd, "rd_nr=1 rd_size=64", i * 4);
		close(fd);
	}
	return ret;
}

/* Pages that a file system writes to a disk; here those of the disk itself. */
static void test_file_pages(int fd)
{
	uint8_t *bytes;
	int disk;

	if (insert_module("block/brd")) {
		skip("MAP_USER: pages of a file on a disk: this kernel has no module brd");
		return;
	}
	disk = open("/dev/ram0", O_RDWR | O_CLOEXEC);
	if (disk == -1)
		die("/dev/ram0");
	bytes = pages_of(2, PROT_READ | PROT_WRITE, MAP_SHARED, disk);
	bytes[0] = 1;
	is_errno(try_user(fd, bytes, 2 * page_size, FROM_DEVICE), EFAULT,
		 "MAP_USER: pages of a disk, from the device");
	is_errno(try_user(fd, bytes, 2 * page_size, TO_DEVICE), 0,
		 "MAP_USER: pages of a disk, to the device");
	munmap(bytes, 2 * page_size);
	bytes = pages_of(2, PROT_READ | PROT_WRITE, MAP_PRIVATE, disk);
	is_errno(try_user(fd, bytes, 2 * page_size, FROM_DEVICE), 0,
		 "MAP_USER: a copy of a disk's pages, from the device");
	munmap(bytes, 2 * page_size);
	close(disk);
	syscall(SYS_delete_module, "brd", O_NONBLOCK);
}

static void test_overlaps(int fd)
{
	int second = open_device(O_RDWR), status = -1;
	struct iospace_map_user map, other;
	uint8_t *memory = anonymous(8);
	pid_t child;

	if (map_user(fd, memory + 2 * page_size, 2 * page_size, FROM_DEVICE, &map))
		die("MAP_USER");
	is_errno(try_user(fd, memory, 8 * page_size, FROM_DEVICE), EBUSY,
		 "overlap: around what the device writes");
	is_errno(try_user(fd, memory + 3 * page_size - 1, 2, TO_DEVICE), EBUSY,
		 "overlap: in it, to the device");
	is_errno(try_user(fd, memory + 4 * page_size - 1, 2, TO_DEVICE), EBUSY,
		 "overlap: its last byte");
	is_errno(try_user(fd, memory + 2 * page_size - 1, 1, TO_DEVICE), 0,
		 "overlap: a byte before it is none");
	is_errno(try_user(fd, memory + 4 * page_size, page_size, FROM_DEVICE), 0,
		 "overlap: right after it is none");
	is_errno(try_user(second, memory + 2 * page_size, page_size, TO_DEVICE),
		 0, "overlap: another open file knows nothing of it");
	child = fork();
	if (!child)
		_exit(try_user(fd, memory + 2 * page_size, page_size, TO_DEVICE) ?
		      errno : 0);
	waitpid(child, &status, 0);
	ok(!status, "overlap: nor is a child's memory the same");
	free_handle(fd, map.out_handle);
	is_errno(try_user(fd, memory, 8 * page_size, FROM_DEVICE), 0,
		 "overlap: freed, it is over");

	if (map_user(fd, memory, 4 * page_size, TO_DEVICE, &map))
		die("MAP_USER");
	is_errno(map_user(fd, memory + page_size, page_size, TO_DEVICE, &other), 0,
		 "overlap: both to the device");
	is_errno(try_user(fd, memory + 3 * page_size, 2 * page_size, BOTH_WAYS),
		 EBUSY, "overlap: both ways, with one to the device");
	free_handle(fd, map.out_handle);
	is_errno(try_user(fd, memory, 2 * page_size, BOTH_WAYS), EBUSY,
		 "overlap: with the other");
	free_handle(fd, other.out_handle);
	is_errno(try_user(fd, memory, 2 * page_size, BOTH_WAYS), 0,
		 "overlap: with neither");
	munmap(memory, 8 * page_size);
	close(second);
}

static void test_limit(int fd)
{
	const char *path = "/sys/module/iospace/parameters/max_file_mappings";
	struct iospace_map_user maps[4];
	uint8_t *memory = anonymous(1);
	struct iospace_info limits;
	char before[32];

	if (!read_file(path, before, sizeof(before)) || !write_file(path, "4"))
		die(path);
	ok(!info(fd, &limits) && limits.out_max_file_mappings == 4 &&
	   counter("max_file_mappings") == 4, "limit: 4 mappings, INFO says");
	for (int i = 0; i < 4; i++) {
		if (map_user(fd, memory, 1, TO_DEVICE, &maps[i]))
			die("MAP_USER");
	}
	is_errno(try_user(fd, memory, 1, TO_DEVICE), EDQUOT, "limit: the fifth");
	free_handle(fd, maps[2].out_handle);
	is_errno(map_user(fd, memory, 1, TO_DEVICE, &maps[2]), 0,
		 "limit: one is free again");
	is_errno(try_user(fd, memory, 1, TO_DEVICE), EDQUOT, "limit: and taken");
	for (int i = 0; i < 4; i++)
		free_handle(fd, maps[i].out_handle);
	if (!write_file(path, before))
		die(path);
	munmap(memory, page_size);
}

static void test_handle(int fd)
{
	struct iospace_map_user answer;
	struct iospace_map_user *shut = (void *)anonymous(1);
	uint8_t *memory = anonymous(3);
	const uint64_t length = 2 * page_size;
	uint32_t line = device_info.out_cache_line;

	if (map_user(fd, memory, length, BOTH_WAYS, &answer))
		die("MAP_USER");

	const struct {
		const char *name;
		uint32_t flags;
		uint64_t offset;
		uint64_t length;
		int expected;
	} rows[] = {
		{ "all of it", IOSPACE_SYNC_FOR_DEVICE, 0, length, 0 },
		{ "its last line", IOSPACE_SYNC_FOR_CPU, length - line, line, 0 },
		{ "nothing", IOSPACE_SYNC_FOR_CPU, 0, 0, EINVAL },
		{ "a byte too long", IOSPACE_SYNC_FOR_CPU, 0, length + 1, EINVAL },
		{ "the page after it", IOSPACE_SYNC_FOR_CPU, length, 1, EINVAL },
		{ "range that wraps", IOSPACE_SYNC_FOR_CPU, line, -(uint64_t)line,
		  EINVAL },
		{ "for both", 3, 0, length, EINVAL },
		{ "a part of a line", IOSPACE_SYNC_FOR_CPU, 1, 1,
		  device_info.out_coherent ? 0 : EINVAL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct iospace_sync_range range = { rows[i].offset,
						    rows[i].length };

		is_errno(sync_range(fd, answer.out_handle, rows[i].flags,
				    rows[i].offset, rows[i].length),
			 rows[i].expected,
			 "mapping: SYNC: %s", rows[i].name);
		is_errno(sync_ranges(fd, answer.out_handle, rows[i].flags, 1,
				     &range), rows[i].expected,
			 "mapping: SYNC_RANGES: %s", rows[i].name);
	}
	is_errno(map(fd, page_size, answer.out_handle * page_size) == MAP_FAILED ?
		 -1 : 0, EINVAL,
		 "mapping: its handle is no offset for mmap()");
	is_errno(free_handle(fd, answer.out_handle), 0, "mapping: FREE");
	is_errno(free_handle(fd, answer.out_handle), ENOENT, "mapping: FREE again");
	is_errno(sync_range(fd, answer.out_handle, IOSPACE_SYNC_FOR_CPU, 0, 1),
		 ENOENT, "mapping: SYNC of what was freed");
	if (map_user(fd, memory, length, TO_DEVICE, &answer))
		die("MAP_USER");
	is_errno(sync_range(fd, answer.out_handle, IOSPACE_SYNC_FOR_DEVICE, 1, 1),
		 0, "mapping: to the device: a part of a line");
	free_handle(fd, answer.out_handle);

	*shut = (struct iospace_map_user){
		.size = sizeof(*shut), .direction = TO_DEVICE,
		.address = (uintptr_t)memory, .length = length,
	};
	mprotect(shut, page_size, PROT_READ);
	is_errno(ioctl(fd, IOSPACE_MAP_USER, shut), EFAULT,
		 "MAP_USER: read-only structure");
	ok(!counter("buffers") && !pinned(), "MAP_USER: and nothing stays behind");
	munmap(shut, page_size);
	munmap(memory, 3 * page_size);
}

static void test_many_ranges(int fd)
{
	struct iospace_sync_range *ranges =
		calloc(IOSPACE_MAX_SYNC_RANGES + 1, sizeof(*ranges));
	const uint32_t most = IOSPACE_MAX_SYNC_RANGES;
	struct iospace_map_user map;
	uint8_t *memory = anonymous(16);

	for (uint32_t i = 0; i <= most; i++)
		ranges[i] = (struct iospace_sync_range){ i % 16 * page_size,
							 page_size };
	if (map_user(fd, memory, 16 * page_size, BOTH_WAYS, &map))
		die("MAP_USER");
	is_errno(sync_ranges(fd, map.out_handle, IOSPACE_SYNC_FOR_DEVICE, most,
			     ranges), 0, "SYNC_RANGES: as many as there may be");
	is_errno(sync_ranges(fd, map.out_handle, IOSPACE_SYNC_FOR_DEVICE, most + 1,
			     ranges), EINVAL, "SYNC_RANGES: one more");
	is_errno(sync_ranges(fd, map.out_handle, IOSPACE_SYNC_FOR_DEVICE, 0,
			     ranges), EINVAL, "SYNC_RANGES: none");
	is_errno(sync_ranges(fd, map.out_handle, IOSPACE_SYNC_FOR_DEVICE, 1, NULL),
		 EFAULT, "SYNC_RANGES: from nowhere");
	ranges[15].length++;
	is_errno(sync_ranges(fd, map.out_handle, IOSPACE_SYNC_FOR_DEVICE, 16,
			     ranges), EINVAL, "SYNC_RANGES: the last is bad");
	free_handle(fd, map.out_handle);
	munmap(memory, 16 * page_size);
	free(ranges);
}

/* A child's own result, for the parent to report. */
static bool in_child(void (*work)(void))
{
	int status = -1;
	pid_t child = fork();

	if (!child) {
		work();
		_exit(0);
	}
	waitpid(child, &status, 0);
	if (status)
		printf("# step %d\n", WEXITSTATUS(status));
	return !status;
}

static void expect(bool good, int step)
{
	if (!good)
		_exit(step);
}

/* Four pages may be pinned. */
static void pin_within_limit(void)
{
	struct rlimit limit = { 4 * page_size, 4 * page_size };
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { 0 };
	struct iospace_map_user map, other;
	int fd = open_device(O_RDWR);
	uint8_t *memory = anonymous(8);

	expect(!setrlimit(RLIMIT_MEMLOCK, &limit), 1);
	/* With the privilege the limit is none. */
	expect(!map_user(fd, memory, 8 * page_size, TO_DEVICE, &map), 2);
	expect(pinned() == 8 && !free_handle(fd, map.out_handle), 3);
	expect(!syscall(SYS_capget, &header, data), 4);
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	expect(!syscall(SYS_capset, &header, data), 5);

	expect(try_user(fd, memory, 5 * page_size, TO_DEVICE) && errno == ENOMEM, 6);
	expect(try_user(fd, memory + 1, 4 * page_size, TO_DEVICE) &&
	       errno == ENOMEM, 7);
	expect(!pinned(), 8);
	expect(!map_user(fd, memory, 4 * page_size, TO_DEVICE, &map), 9);
	expect(try_user(fd, memory, 1, TO_DEVICE) && errno == ENOMEM, 10);
	expect(pinned() == 4, 11);
	expect(!free_handle(fd, map.out_handle) && !pinned(), 12);
	expect(!map_user(fd, memory, 3 * page_size, TO_DEVICE, &map) &&
	       !map_user(fd, memory, 1, TO_DEVICE, &other) && pinned() == 4, 13);
	expect(!free_handle(fd, map.out_handle) && pinned() == 1, 14);
	expect(!free_handle(fd, other.out_handle) && !pinned(), 15);
}

static void exec_with_mapping(void)
{
	int fd = open_device(O_RDWR);
	struct iospace_map_user map;
	uint8_t *memory = anonymous(64);
	char *const arguments[] = { "true", NULL };

	expect(!map_user(fd, memory, 64 * page_size, BOTH_WAYS, &map), 1);
	execv("/bin/true", arguments);
	_exit(2);
}

/* Shares all memory with the child, but not the descriptors. */
static int pin_and_wait(void *argument)
{
	uint8_t **memory = argument;
	struct iospace_map_user map;
	int fd = open(device.path, O_RDWR | O_CLOEXEC);

	if (fd == -1 || map_user(fd, *memory, 8 * page_size, BOTH_WAYS, &map))
		*memory = NULL;
	for (;;)
		pause();
	return 0;
}

static void test_accounting(int fd)
{
	static uint8_t stack[65536] __attribute__((aligned(16)));
	struct iospace_map_user first, second;
	const uint64_t length = 8 * page_size;
	uint8_t *memory = anonymous(8);
	char before[32];
	pid_t child;

	if (map_user(fd, memory + page_size - 1, 2, TO_DEVICE, &first) ||
	    map_user(fd, memory, 5 * page_size, TO_DEVICE, &second))
		die("MAP_USER");
	ok(pinned() == 7, "VmPin: each page that is touched, 2 and 5");
	free_handle(fd, second.out_handle);
	ok(pinned() == 2, "VmPin: 2");
	free_handle(fd, first.out_handle);
	ok(!pinned(), "VmPin: 0");

	ok(in_child(pin_within_limit), "RLIMIT_MEMLOCK: up to it, and not a page more");

	child = clone(pin_and_wait, stack + sizeof(stack), CLONE_VM | SIGCHLD,
		      &memory);
	if (child == -1)
		die("clone");
	ok(counter_becomes("buffers", 1) && pinned() == 8,
	   "SIGKILL: a process holds 8 pages of ours");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ok(counter_becomes("buffers", 1),
	   "SIGKILL: which are held back, because the device is open");
	ok(counter("held_bytes") == length && counter("buffer_bytes") == length,
	   "SIGKILL: and count, as nobody else counts them");
	if (!read_file(TOTAL_BYTES, before, sizeof(before)) ||
	    !write_file(TOTAL_BYTES, "4096"))
		die(TOTAL_BYTES);
	is_errno(try_user(fd, memory, 1, TO_DEVICE), EDQUOT,
		 "SIGKILL: over the limit nothing is mapped");
	if (!write_file(TOTAL_BYTES, before))
		die(TOTAL_BYTES);
	is_errno(try_user(fd, memory, 1, TO_DEVICE), 0,
		 "SIGKILL: below it there is");
	close(fd);
	ok(counter_becomes("buffers", 0) && !pinned(),
	   "SIGKILL: until the last close, and VmPin is 0");
	ok(in_child(exec_with_mapping) && counter_becomes("buffers", 0),
	   "exec: ends a mapping with its descriptor");
	munmap(memory, 8 * page_size);
}

static void sync_if_needed(int fd, const struct iospace_map_user *map,
			   uint32_t flags)
{
	if (map->out_flags & IOSPACE_ALLOC_NEEDS_SYNC &&
	    sync_range(fd, map->out_handle, flags, 0, map->length))
		die("SYNC");
}

/* From one mapping by the device into another, of the same length. */
static void copy_by_device(int fd, volatile uint8_t *edu,
			   const struct iospace_map_user *from,
			   const struct iospace_map_user *to)
{
	uint64_t at, some, room;

	for (at = 0; at < from->length; at += some) {
		uint64_t source = address_of(fd, from->out_handle, at, &some);
		uint64_t target = address_of(fd, to->out_handle, at, &room);

		some = some < room ? some : room;
		some = some < EDU_BUFFER_SIZE ? some : EDU_BUFFER_SIZE;
		edu_transfer(fd, edu, source, some, 0);
		edu_transfer(fd, edu, target, some, EDU_DMA_TO_MEMORY);
	}
}

/* Each byte, and none besides. */
static void test_copy(int fd, volatile uint8_t *edu, const char *name,
		      uint8_t *source, uint32_t length)
{
	struct iospace_map_user from, to;
	uint8_t *memory = anonymous(4);
	uint32_t line = device_info.out_cache_line;
	uint32_t before = device_info.out_coherent ? page_size - 77 : page_size - line;
	uint8_t *target = memory + before;

	memset(memory, 0xee, 4 * page_size);
	if (!device_info.out_coherent)
		length = length / line * line;
	if (map_user(fd, source, length, TO_DEVICE, &from) ||
	    map_user(fd, target, length, FROM_DEVICE, &to))
		die("MAP_USER");
	/* After it was mapped, as a program does that maps once. */
	for (uint32_t i = 0; i < length; i++)
		source[i] = i * 7 + length;
	sync_if_needed(fd, &from, IOSPACE_SYNC_FOR_DEVICE);
	copy_by_device(fd, edu, &from, &to);
	if (is_bounced())
		ok(target[0] == 0xee, "%s: stale before the sync", name);
	sync_if_needed(fd, &to, IOSPACE_SYNC_FOR_CPU);
	ok(!memcmp(source, target, length),
	   "%s: the %u bytes that went out came in", name, length);
	ok(target[-1] == 0xee && target[length] == 0xee,
	   "%s: and nothing else changed", name);

	/* The end of a mapping is a sync too. */
	memset(target, 0x11, length);
	sync_if_needed(fd, &to, IOSPACE_SYNC_FOR_DEVICE);
	copy_by_device(fd, edu, &from, &to);
	free_handle(fd, from.out_handle);
	free_handle(fd, to.out_handle);
	ok(!memcmp(source, target, length), "%s: FREE gives it to the CPU", name);
	munmap(memory, 4 * page_size);
}

/*
 * Memory where no page may be pinned for long. Kernels before 6.11 do not move
 * a huge page out of it, but refuse to pin it, with a warning in their log
 * (try_grab_folio() of mm/gup.c). Where the page lies is chance.
 */
static bool has_cma(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long total = 0;
	char line[128];

	if (!file)
		die("/proc/meminfo");
	while (fgets(line, sizeof(line), file))
		sscanf(line, "CmaTotal: %lu", &total);
	fclose(file);
	return total;
}

static void test_huge_page(int fd, volatile uint8_t *edu)
{
	struct iospace_map_user map;
	uint8_t *huge;

	if (!write_file("/proc/sys/vm/nr_hugepages", "1"))
		printf("# no /proc/sys/vm/nr_hugepages\n");
	huge = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (huge == MAP_FAILED) {
		skip("huge page: this machine has none of 2 MiB");
	} else if (map_user(fd, huge, 2 * MIB, TO_DEVICE, &map)) {
		die("MAP_USER");
	} else {
		ok(map.out_segments == 1 || device_info.out_max_segment_bytes < MIB,
		   "huge page: one segment");
		free_handle(fd, map.out_handle);
		test_copy(fd, edu, "huge page", huge + MIB + 5, 600);
		munmap(huge, 2 * MIB);
	}
	write_file("/proc/sys/vm/nr_hugepages", "0");
}

static void test_transfers(int fd)
{
	volatile uint8_t *edu = edu_map(fd);
	uint8_t *memory = anonymous(4);
	int memfd = memfd_create("user", MFD_CLOEXEC);

	/* Untouched: the first write takes a page that is not the pinned one,
	 * if that was pinned for reading. */
	test_copy(fd, edu, "anonymous", memory + 2 * page_size - 1001, 2345);
	munmap(memory, 4 * page_size);

	if (memfd == -1 || ftruncate(memfd, 4 * page_size))
		die("memfd");
	memory = pages_of(4, PROT_READ | PROT_WRITE, MAP_SHARED, memfd);
	test_copy(fd, edu, "memfd", memory + page_size - 3, 600);
	munmap(memory, 4 * page_size);
	close(memfd);

	if (has_cma())
		skip("huge page: this machine has CMA, where it could not be pinned");
	else
		test_huge_page(fd, edu);
	munmap((void *)edu, 1 << 20);
}

/* A child gets copies: what is pinned stays the parent's. */
static void test_fork(int fd)
{
	volatile uint8_t *edu = edu_map(fd);
	struct iospace_map_user from, to;
	uint8_t *memory = anonymous(2);
	uint32_t length = device_info.out_cache_line;
	int status = -1;
	pid_t child;

	memset(memory, 1, 2 * page_size);
	if (map_user(fd, memory, length, TO_DEVICE, &from) ||
	    map_user(fd, memory + page_size, length, FROM_DEVICE, &to))
		die("MAP_USER");
	child = fork();
	if (!child) {
		memset(memory, 2, 2 * page_size);
		_exit(0);
	}
	memset(memory, 3, page_size);
	waitpid(child, &status, 0);
	sync_if_needed(fd, &from, IOSPACE_SYNC_FOR_DEVICE);
	copy_by_device(fd, edu, &from, &to);
	sync_if_needed(fd, &to, IOSPACE_SYNC_FOR_CPU);
	ok(!status && memory[page_size] == 3 && memory[page_size + length - 1] == 3,
	   "fork: the device works on the parent's memory");
	free_handle(fd, from.out_handle);
	free_handle(fd, to.out_handle);
	munmap(memory, 2 * page_size);
	munmap((void *)edu, 1 << 20);
}

static void test_unbind(void)
{
	int fd = open_device(O_RDWR);
	struct iospace_map_user map;
	uint8_t *memory = anonymous(16);

	memset(memory, 0xa5, 16 * page_size);
	if (map_user(fd, memory, 16 * page_size, BOTH_WAYS, &map))
		die("MAP_USER");
	unbind_device();
	ok(memory[0] == 0xa5 && memory[16 * page_size - 1] == 0xa5,
	   "unbind: the program's memory is its own");
	ok(!pinned(), "unbind: nothing is pinned any more");
	is_errno(sync_range(fd, map.out_handle, IOSPACE_SYNC_FOR_CPU, 0, page_size),
		 ENODEV, "unbind: SYNC");
	is_errno(free_handle(fd, map.out_handle), ENODEV, "unbind: FREE");
	is_errno(try_user(fd, memory, page_size, TO_DEVICE), ENODEV,
		 "unbind: MAP_USER");
	bind_device();
	close(fd);
	munmap(memory, 16 * page_size);
	ok(counter_becomes("buffers", 0), "unbind: nothing is left");
}

/* More than all bounce buffers. */
static void test_full(int fd)
{
	const uint64_t length = 80 * MIB;
	struct iospace_alloc buffer;
	uint8_t *memory;

	if (!is_bounced()) {
		skip("bounce buffers: this machine does not force them");
		return;
	}
	memory = anonymous(length / page_size);
	is_errno(try_user(fd, memory, length, FROM_DEVICE), ENOSPC,
		 "bounce buffers: more than there are");
	is_errno(alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = length }, &buffer),
		 ENOSPC, "bounce buffers: a cached buffer, too");
	ok(!pinned() && !counter("buffers"), "bounce buffers: nothing stays behind");
	is_errno(try_user(fd, memory, MIB, FROM_DEVICE), 0,
		 "bounce buffers: and there are some again");
	munmap(memory, length);
}

/* Hands memory over many times, until it is killed. */
static void hand_over_for_hours(void)
{
	int fd = open_device(O_RDWR);
	struct iospace_sync_range *ranges =
		calloc(IOSPACE_MAX_SYNC_RANGES, sizeof(*ranges));
	uint8_t *memory = anonymous(8 * MIB / page_size);
	struct iospace_map_user map;

	for (uint32_t i = 0; i < IOSPACE_MAX_SYNC_RANGES; i++)
		ranges[i].length = 8 * MIB;
	if (!map_user(fd, memory, 8 * MIB, BOTH_WAYS, &map))
		sync_ranges(fd, map.out_handle, IOSPACE_SYNC_FOR_DEVICE,
			    IOSPACE_MAX_SYNC_RANGES, ranges);
	_exit(1);
}

static void test_long_sync(void)
{
	int status = -1;
	pid_t child;

	if (!is_bounced()) {
		skip("bounce buffers: killed in SYNC_RANGES: this machine does not force them");
		return;
	}
	child = fork();
	if (!child)
		hand_over_for_hours();
	sleep_ms(300);
	kill(child, SIGKILL);
	for (int i = 0; i < 500 && !waitpid(child, &status, WNOHANG); i++)
		sleep_ms(10);
	ok(WIFSIGNALED(status), "bounce buffers: killed in SYNC_RANGES");
}

struct allocating {
	int fd;
	unsigned int count;
	atomic_bool done;
};

/* Buffers that come and go. */
static void *keep_allocating(void *argument)
{
	struct allocating *allocating = argument;
	struct iospace_alloc buffer;

	for (; allocating->count < 50; allocating->count++) {
		if (alloc_as(allocating->fd, (struct iospace_alloc){
			.memory = IOSPACE_MEMORY_CACHED, .length = 4 * MIB,
			.align = 2 * page_size }, &buffer))
			break;
		free_handle(allocating->fd, buffer.out_handle);
	}
	allocating->done = true;
	return NULL;
}

/* While buffers are mapped that are aligned otherwise than this mapping. */
static void test_bounced_offset(int fd)
{
	struct allocating allocating = { .fd = fd };
	uint8_t *memory = anonymous(3), *bytes = memory + page_size + 64;
	struct iospace_map_user map;
	bool kept = true;
	pthread_t thread;
	uint8_t round;

	if (!is_bounced()) {
		skip("bounce buffers: at an offset: this machine does not force them");
		return;
	}
	memset(memory, 0xee, 3 * page_size);
	if (map_user(fd, bytes, page_size, BOTH_WAYS, &map))
		die("MAP_USER");
	pthread_create(&thread, NULL, keep_allocating, &allocating);
	for (round = 0; kept && !allocating.done; round++) {
		memset(bytes, round, page_size);
		sync_range(fd, map.out_handle, IOSPACE_SYNC_FOR_DEVICE, 0, page_size);
		memset(bytes, 0x77, page_size);
		/* What the device, which does nothing, has there. */
		sync_range(fd, map.out_handle, IOSPACE_SYNC_FOR_CPU, 0, page_size);
		for (int at = 0; at < page_size; at++)
			kept &= bytes[at] == round;
		kept &= bytes[-1] == 0xee && bytes[page_size] == 0xee;
	}
	pthread_join(thread, NULL);
	free_handle(fd, map.out_handle);
	ok(kept && allocating.count == 50,
	   "bounce buffers: at an offset, while others are aligned");
	munmap(memory, 3 * page_size);
}

/* Most memory lies higher; only an IOMMU gives it a lower address. */
static void test_reach(void)
{
	uint8_t *memory = anonymous(16);
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/class/misc/%s/dma_mask", device.name);
	if (!write_file(path, "0xffffff")) {
		skip("reach: this device cannot have a mask of 24 bits");
		return;
	}
	fd = open_device(O_RDWR);
	is_errno(try_user(fd, memory, 16 * page_size, TO_DEVICE),
		 device_info.out_iommu == IOSPACE_IOMMU_TRANSLATING ? 0 :
		 EOPNOTSUPP, "reach: memory beyond a mask of 24 bits");
	close(fd);
	munmap(memory, 16 * page_size);
	if (!write_file(path, device.mask))
		die(path);
}

void test_user(void)
{
	int fd = open_device(O_RDWR);

	if (info(fd, &device_info))
		die("INFO");
	test_refused(fd);
	test_own_memory(fd);
	test_file_pages(fd);
	test_overlaps(fd);
	test_limit(fd);
	test_handle(fd);
	test_many_ranges(fd);
	test_transfers(fd);
	test_fork(fd);
	test_full(fd);
	test_bounced_offset(fd);
	test_accounting(fd); /* closes it */
	test_reach();
	test_long_sync();
	test_unbind();
}
