// SPDX-License-Identifier: MIT
/* Buffers that no cache holds, where that takes a conversion of pages: x86-64. */
#include "abi.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

/* Free memory, with what the kernel keeps at hand for each processor. */
static uint64_t free_bytes(void)
{
	FILE *list = fopen("/proc/zoneinfo", "r");
	unsigned long long pages = 0, number;
	char line[128];

	while (list && fgets(line, sizeof(line), list)) {
		if (sscanf(line, " nr_free_pages %llu", &number) == 1 ||
		    sscanf(line, " count: %llu", &number) == 1)
			pages += number;
	}
	if (list)
		fclose(list);
	return pages * page_size;
}

static void test_shapes(int fd, uint32_t memory)
{
	enum { KIB = 1 << 10, ONE = IOSPACE_ALLOC_CONTIGUOUS };
	const struct iospace_alloc rows[] = {
		{ .length = 1 },
		{ .length = 64 * KIB },
		{ .length = 5 * MIB },
		{ .length = 64 * KIB, .align = 64 * KIB },
		{ .length = 20 * KIB, .align = 16 * KIB },
		{ .length = 1 * MIB, .boundary = 64 * KIB },
		{ .length = 32 * KIB, .align = 16 * KIB, .boundary = 4 * KIB },
		{ .length = 100 * KIB, .flags = ONE },
		{ .length = 1 * MIB, .align = 1 * MIB, .boundary = 1 * MIB,
		  .flags = ONE },
		{ .length = 64 * KIB, .boundary = 64 * KIB, .flags = ONE },
		{ .length = 64 * KIB, .address_bits = 32 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct iospace_alloc ask = rows[i], got;
		uint64_t *at;

		ask.memory = memory;
		if (!is_errno(alloc_as(fd, ask, &got), 0,
			      "type %u, shape %zu: ALLOC", memory, i))
			continue;
		ok(got.out_memory == memory && segments_keep(fd, &got),
		   "type %u, shape %zu: segments", memory, i);
		if (ask.flags & ONE)
			ok(got.out_segments == 1, "type %u, shape %zu: one",
			   memory, i);
		at = map(fd, got.out_length, got.out_mmap_offset);
		ok(at != MAP_FAILED && all_zero(at, got.out_length),
		   "type %u, shape %zu: zeros", memory, i);
		/* The next one may get the same pages. */
		memset(at, 0xa5, got.out_length);
		drop(fd, at, &got);
	}
}

static void test_device_sees(int fd, uint32_t memory)
{
	volatile uint8_t *edu = edu_map(fd);
	struct iospace_alloc buffer;
	uint8_t *at = alloc_mapped_as(fd, (struct iospace_alloc){
		.memory = memory, .length = 2 * page_size }, &buffer);
	uint64_t count;

	for (int i = 0; i < 1024; i++)
		at[i] = i * 5 + 3;
	edu_start(edu, buffer.out_dma_addr, 1024, EDU_DMA_INTERRUPT);
	edu_await(fd, edu, &count);
	edu_start(edu, buffer.out_dma_addr + 2048, 1024,
		  EDU_DMA_TO_MEMORY | EDU_DMA_INTERRUPT);
	edu_await(fd, edu, &count);
	ok(!memcmp(at, at + 2048, 1024), "type %u: the device sees it", memory);
	drop(fd, at, &buffer);
	munmap((void *)edu, 1 << 20);
}

/* Any order of parts, children and FREE. */
static void test_mappings(int fd, uint32_t memory)
{
	struct iospace_alloc buffer;
	char *at = alloc_mapped_as(fd, (struct iospace_alloc){
		.memory = memory, .length = 4 * page_size }, &buffer);
	char *moved, *again;
	int status;
	pid_t child;

	again = map(fd, buffer.out_length, buffer.out_mmap_offset);
	at[0] = 1;
	child = fork();
	if (!child) {
		at[0] = 2;
		munmap(at + page_size, page_size);
		_exit(0);
	}
	waitpid(child, &status, 0);
	munmap(at + page_size, page_size);
	moved = mremap(at, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED,
		       (void *)0x600000000000);
	free_handle(fd, buffer.out_handle);
	ok(again[0] == 2 && moved == (void *)0x600000000000 && moved[0] == 2,
	   "type %u: seen through all mappings", memory);
	munmap(moved, page_size);
	munmap(at + 2 * page_size, 2 * page_size);
	ok(again[0] == 2, "type %u: as long as there is one", memory);
	munmap(again, 4 * page_size);
}

static void test_limit(int fd, uint32_t types, uint64_t limit)
{
	uint32_t order[] = { IOSPACE_MEMORY_UNCACHED,
			     IOSPACE_MEMORY_WRITECOMBINE,
			     IOSPACE_MEMORY_UNCACHED };
	struct iospace_alloc all, more;

	for (size_t i = 0; i < 3; i++) {
		struct iospace_alloc ask = { .memory = order[i],
					     .length = limit };

		if (!(types & 1U << order[i]))
			continue;
		/* What another type left for reuse makes room. */
		if (!is_errno(alloc_as(fd, ask, &all), 0,
			      "type %u: up to the limit", order[i]))
			continue;
		ask.length = 1;
		is_errno(alloc_as(fd, ask, &more), EDQUOT,
			 "type %u: a page over the limit", order[i]);
		free_handle(fd, all.out_handle);
		is_errno(alloc_as(fd, ask, &more), 0,
			 "type %u: a page after FREE", order[i]);
		free_handle(fd, more.out_handle);
		ask.length = limit + 1;
		is_errno(alloc_as(fd, ask, &more), EDQUOT,
			 "type %u: more than the limit", order[i]);
	}
}

/* Every other page of all that may be converted is free: a buffer of those. */
static void test_scattered(int fd, uint32_t memory, uint64_t limit)
{
	uint32_t count = limit / page_size;
	uint32_t *handles = calloc(count, sizeof(*handles));
	struct iospace_alloc ask = { .memory = memory, .length = 1 }, got, more;
	struct timespec before, after;

	for (uint32_t i = 0; i < count; i++) {
		if (alloc_as(fd, ask, &got))
			die("ALLOC of a page");
		handles[i] = got.out_handle;
	}
	for (uint32_t i = 0; i < count; i += 2)
		free_handle(fd, handles[i]);

	ask.length = count / 2 * page_size;
	ask.flags = IOSPACE_ALLOC_CONTIGUOUS;
	is_errno(alloc_as(fd, ask, &got), EDQUOT,
		 "type %u: scattered pages are not in one piece", memory);
	ask.flags = 0;
	clock_gettime(CLOCK_MONOTONIC, &before);
	is_errno(alloc_as(fd, ask, &got), 0, "type %u: of scattered pages",
		 memory);
	clock_gettime(CLOCK_MONOTONIC, &after);
	printf("# %u pages in %lld ms\n", count / 2,
	       (after.tv_sec - before.tv_sec) * 1000LL +
		       (after.tv_nsec - before.tv_nsec) / 1000000);
	ok(got.out_segments > count / 4 && segments_keep(fd, &got),
	   "type %u: of scattered pages: segments", memory);
	ask.length = 1;
	is_errno(alloc_as(fd, ask, &more), EDQUOT,
		 "type %u: of scattered pages: each free one is used", memory);

	free_handle(fd, got.out_handle);
	for (uint32_t i = 1; i < count; i += 2)
		free_handle(fd, handles[i]);
	free(handles);
}

/* Kept for reuse while the device is open, and then no more. */
static void test_kept(uint64_t limit)
{
	uint64_t before = free_bytes(), after;
	struct iospace_alloc buffer;
	int fd = open_device(O_RDWR);
	struct iospace_alloc ask = { .memory = IOSPACE_MEMORY_UNCACHED,
				     .length = limit };

	if (alloc_as(fd, ask, &buffer))
		die("ALLOC");
	free_handle(fd, buffer.out_handle);
	after = free_bytes();
	ok(after + limit < before + (limit >> 3), "FREE: pages are kept");
	close(fd);
	after = free_bytes();
	ok(after + (limit >> 3) > before, "last close: and given back");
	printf("# free: %llu KiB before, %llu KiB after\n",
	       (unsigned long long)before >> 10, (unsigned long long)after >> 10);
}

static void test_unbind(uint32_t memory)
{
	int fd = open_device(O_RDWR);
	struct iospace_alloc buffer;
	uint64_t *at = alloc_mapped_as(fd, (struct iospace_alloc){
		.memory = memory, .length = 3 << 20 }, &buffer);

	memset(at, 0x77, 3 << 20);
	unbind_device();
	ok(all_zero(at, 3 << 20), "type %u, unbound: zeros", memory);
	bind_device();
	munmap(at, 3 << 20);
	close(fd);
}

void test_converted(void)
{
	uint32_t both = 1U << IOSPACE_MEMORY_WRITECOMBINE |
			1U << IOSPACE_MEMORY_UNCACHED;
	struct iospace_info device_info;
	struct iospace_alloc buffer;
	uint64_t limit;
	int fd = open_device(O_RDWR);
	uint32_t types;

	info(fd, &device_info);
	types = device_info.out_memory_types;
	limit = device_info.out_max_converted_bytes;
	if (!limit) {
		skip("no page needs a conversion here");
		close(fd);
		return;
	}
	ok(types & 1U << IOSPACE_MEMORY_UNCACHED, "uncached buffers");
	if (!(types & 1U << IOSPACE_MEMORY_WRITECOMBINE))
		is_errno(alloc_as(fd, (struct iospace_alloc){
					      .memory = IOSPACE_MEMORY_WRITECOMBINE,
					      .length = 1 }, &buffer),
			 EOPNOTSUPP, "writecombine, which this machine has not");
	close(fd);

	fd = open_device(O_RDWR);
	for (uint32_t memory = IOSPACE_MEMORY_WRITECOMBINE;
	     memory <= IOSPACE_MEMORY_UNCACHED; memory++) {
		if (!(types & both & 1U << memory))
			continue;
		test_shapes(fd, memory);
		test_device_sees(fd, memory);
		test_mappings(fd, memory);
	}
	test_limit(fd, types, limit);
	test_scattered(fd, IOSPACE_MEMORY_UNCACHED, limit);
	close(fd);
	/* What the kernel keeps for itself, it has now. */
	test_kept(limit);

	for (uint32_t memory = IOSPACE_MEMORY_WRITECOMBINE;
	     memory <= IOSPACE_MEMORY_UNCACHED; memory++) {
		if (types & both & 1U << memory)
			test_unbind(memory);
	}
}
