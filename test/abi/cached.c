// SPDX-License-Identifier: MIT
/*
 * Cached buffers: ordinary pages, in segments, that the device and the CPU hand
 * to each other by SYNC.
 */
#include "abi.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

static void test_sizes(int fd)
{
	const uint64_t lengths[] = {
		1, page_size, page_size + 1, 3 * page_size, MIB - 1,
		4 * MIB + page_size, 32 * MIB,
	};

	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		unsigned long long before = counter("buffer_bytes");
		struct iospace_alloc buffer;
		uint8_t *bytes = alloc_cached(fd, lengths[i], &buffer);
		uint64_t whole = (lengths[i] + page_size - 1) / page_size * page_size;
		bool zero = all_zero(bytes, buffer.out_length), own = true;

		for (uint64_t at = 0; at < whole; at += page_size)
			*(uint64_t *)(bytes + at) = at;
		for (uint64_t at = 0; at < whole; at += page_size)
			own &= *(uint64_t *)(bytes + at) == at;
		ok(buffer.out_memory == IOSPACE_MEMORY_CACHED &&
		   buffer.out_length == whole && buffer.out_segments,
		   "cached: %llu bytes, %u segments",
		   (unsigned long long)lengths[i], buffer.out_segments);
		ok(zero && own, "cached: zero, and each page its own");
		ok(segments_keep(fd, &buffer),
		   "cached: the segments are the buffer");
		ok(counter("buffer_bytes") == before + whole,
		   "cached: charged by pages");
		drop(fd, bytes, &buffer);
		ok(counter("buffer_bytes") == before, "cached: until it is freed");
	}
}

static void test_segments(int fd)
{
	struct iospace_segment *all, one, *wall;
	struct iospace_segments answer;
	struct iospace_alloc buffer, alone;
	bool same = true;

	/* At least two where nothing puts them together, mostly many. */
	drop(fd, alloc_cached(fd, 1, &alone), &alone);
	if (alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = 64 * page_size,
		.boundary = page_size }, &buffer))
		die("ALLOC");
	ok(buffer.out_segments == 64, "SEGMENTS: by a boundary of a page, 64");
	all = calloc(65, sizeof(*all));
	is_errno(segments(fd, buffer.out_handle, 0, 65, all, &answer), 0,
		 "SEGMENTS: room for more than there are");
	ok(answer.out_count == 64 && !all[64].length,
	   "SEGMENTS: writes those that there are");
	for (uint32_t i = 0; i < 64; i++)
		same &= !segments(fd, buffer.out_handle, i, 1, &one, &answer) &&
			answer.out_count == 1 && !memcmp(&one, &all[i], sizeof(one));
	ok(same, "SEGMENTS: one by one the same");
	is_errno(segments(fd, buffer.out_handle, 40, 20, all, &answer), 0,
		 "SEGMENTS: from the middle");
	ok(answer.out_count == 20, "SEGMENTS: as many as asked for");

	is_errno(segments(fd, buffer.out_handle, 64, 1, all, &answer), EINVAL,
		 "SEGMENTS: after the last");
	is_errno(segments(fd, buffer.out_handle, UINT32_MAX, UINT32_MAX, all,
			  &answer), EINVAL, "SEGMENTS: 2^32 - 1");
	is_errno(segments(fd, buffer.out_handle, 0, 0, all, &answer), EINVAL,
		 "SEGMENTS: none");
	is_errno(segments(fd, buffer.out_handle, 0, UINT32_MAX, all, &answer), 0,
		 "SEGMENTS: room for 2^32 - 1");
	is_errno(segments(fd, 0, 0, 1, all, &answer), ENOENT,
		 "SEGMENTS: handle 0");
	is_errno(segments(fd, alone.out_handle, 0, 1, all, &answer), ENOENT,
		 "SEGMENTS: of what was freed");
	is_errno(segments(fd, buffer.out_handle, 0, 1, NULL, &answer), EFAULT,
		 "SEGMENTS: to nowhere");
	/* The array ends where memory ends, in the middle of a batch. */
	wall = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect((char *)wall + page_size, page_size, PROT_NONE);
	wall += page_size / sizeof(*wall) - 20;
	is_errno(segments(fd, buffer.out_handle, 0, 20, wall, &answer), 0,
		 "SEGMENTS: up to the end of memory");
	is_errno(segments(fd, buffer.out_handle, 0, 21, wall, &answer), EFAULT,
		 "SEGMENTS: beyond it");
	free_handle(fd, buffer.out_handle);
	free(all);

	if (alloc(fd, 3 * page_size, &buffer))
		die("ALLOC");
	is_errno(segments(fd, buffer.out_handle, 0, 1, &one, &answer), 0,
		 "SEGMENTS: of a coherent buffer");
	ok(one.dma_addr == buffer.out_dma_addr &&
	   one.length == buffer.out_length && buffer.out_segments == 1,
	   "SEGMENTS: which is one");
	free_handle(fd, buffer.out_handle);
}

static void test_refused_syncs(int fd)
{
	struct iospace_sync reserved = { .size = sizeof(reserved),
					 .flags = IOSPACE_SYNC_FOR_CPU,
					 .__reserved = 1, .length = 1 };
	enum { DEVICE = IOSPACE_SYNC_FOR_DEVICE, CPU = IOSPACE_SYNC_FOR_CPU };
	struct iospace_alloc buffer, coherent;
	const uint64_t length = 3 * page_size;
	struct iospace_info answer;
	uint32_t line;

	if (info(fd, &answer) || alloc(fd, length, &coherent))
		die("INFO, ALLOC");
	line = answer.out_cache_line;
	drop(fd, alloc_cached(fd, 1, &buffer), &buffer);
	is_errno(sync_range(fd, buffer.out_handle, CPU, 0, 1), ENOENT,
		 "SYNC: of what was freed");
	if (alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = length }, &buffer))
		die("ALLOC");
	reserved.handle = buffer.out_handle;
	is_errno(ioctl(fd, IOSPACE_SYNC, &reserved), EINVAL,
		 "SYNC: reserved member");

	const struct {
		const char *name;
		uint32_t flags;
		uint64_t offset;
		uint64_t length;
		int expected;
	} rows[] = {
		{ "all, for the device", DEVICE, 0, length, 0 },
		{ "all, for the CPU", CPU, 0, length, 0 },
		{ "a line", CPU, line, line, 0 },
		{ "over a page's end", DEVICE, page_size - line, 2 * line, 0 },
		{ "the last line", CPU, length - line, line, 0 },
		{ "for nobody", 0, 0, length, EINVAL },
		{ "for both", DEVICE | CPU, 0, length, EINVAL },
		{ "unknown flag", CPU | 4, 0, length, EINVAL },
		{ "length 0", CPU, 0, 0, EINVAL },
		{ "length 0 at its end", CPU, length, 0, EINVAL },
		{ "a byte too long", CPU, 0, length + 1, EINVAL },
		{ "after its end", CPU, length, 1, EINVAL },
		{ "far after its end", CPU, 1ULL << 63, line, EINVAL },
		{ "range that wraps", CPU, line, -(uint64_t)line, EINVAL },
		{ "range that wraps to its end", CPU, UINT64_MAX, 2, EINVAL },
		{ "from within a line", CPU, 1, 1,
		  answer.out_coherent ? 0 : EINVAL },
		{ "into a line", DEVICE, 0, 1, answer.out_coherent ? 0 : EINVAL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		is_errno(sync_range(fd, buffer.out_handle, rows[i].flags,
				    rows[i].offset, rows[i].length),
			 rows[i].expected, "SYNC: %s", rows[i].name);
		/* The same rules, though there is nothing to do. */
		is_errno(sync_range(fd, coherent.out_handle, rows[i].flags,
				    rows[i].offset, rows[i].length),
			 rows[i].expected, "SYNC: coherent: %s", rows[i].name);
	}
	is_errno(sync_range(fd, 0, CPU, 0, 1), ENOENT, "SYNC: handle 0");
	free_handle(fd, buffer.out_handle);
	free_handle(fd, coherent.out_handle);
}

/* Page faults of this thread while it touches each page. */
static long faults(volatile uint8_t *bytes, uint64_t length, bool write)
{
	struct rusage before, after;

	/* Each once before it counts, for what the call itself brings in. */
	getrusage(RUSAGE_THREAD, &before);
	getrusage(RUSAGE_THREAD, &after);
	getrusage(RUSAGE_THREAD, &before);
	for (uint64_t at = 0; at < length; at += page_size) {
		if (write)
			bytes[at] = 1;
		else
			(void)bytes[at];
	}
	getrusage(RUSAGE_THREAD, &after);
	return after.ru_minflt - before.ru_minflt +
	       after.ru_majflt - before.ru_majflt;
}

/* It is whole from the beginning. */
static void test_first_touch(int fd)
{
	struct iospace_alloc buffer;
	uint64_t length = 64 * MIB;
	uint8_t *bytes;
	long count;

	if (alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = length }, &buffer))
		/* The bounce buffers hold no more. */
		length = 4 * MIB;
	else
		free_handle(fd, buffer.out_handle);
	bytes = alloc_cached(fd, length, &buffer);
	count = faults(bytes, length, false);
	ok(!count, "cached: reading %llu MiB takes no fault (%ld)",
	   (unsigned long long)(length / MIB), count);
	drop(fd, bytes, &buffer);

#ifdef __x86_64__
	bytes = alloc_cached(fd, length, &buffer);
	count = faults(bytes, length, true);
	ok(!count, "cached: writing it first takes none either (%ld)", count);
	drop(fd, bytes, &buffer);
#else
	skip("cached: a fault at the first write: some CPUs leave it to the kernel to note that a page was written");
#endif
}

/* Of ordinary pages. */
static void test_mapping(int fd)
{
	struct iospace_alloc buffer;
	const uint64_t length = 4 * MIB;
	volatile uint8_t *bytes = alloc_cached(fd, length, &buffer);
	uint8_t copy[64] = { 1, 2, 3 };
	struct iovec from = { copy, sizeof(copy) };
	struct iovec to = { (void *)bytes, sizeof(copy) };

	/* As O_DIRECT does, this pins the pages. */
	ok(process_vm_writev(getpid(), &from, 1, &to, 1, 0) == sizeof(copy) &&
	   bytes[2] == 3, "cached: its pages can be pinned");
	bytes[page_size] = 7;
	is_errno(madvise((void *)bytes, length, MADV_DONTNEED), 0,
		 "cached: madvise(MADV_DONTNEED)");
	ok(bytes[2] == 3 && bytes[page_size] == 7,
	   "cached: which brings the same pages again");
	ok(mremap((void *)bytes, length, length + page_size, MREMAP_MAYMOVE) ==
	   MAP_FAILED, "cached: mremap() cannot grow it");
	free_handle(fd, buffer.out_handle);
	ok(bytes[2] == 3 && counter("buffer_bytes") == length,
	   "cached: freed while mapped, it stays and is charged");
	munmap((void *)bytes, length);
	ok(!counter("buffer_bytes"), "cached: and goes with its last mapping");
}

static void test_contiguous(int fd)
{
	struct iospace_alloc buffer;
	struct iospace_info answer;
	char iommu[32];
	uint64_t most;
	int ret;

	read_attribute("iommu", iommu, sizeof(iommu));
	if (info(fd, &answer))
		die("INFO");
	/* Bounce buffers are short, and 1 MiB is there on any other machine. */
	most = answer.out_max_segment_bytes < MIB ? answer.out_max_segment_bytes :
						    MIB;
	is_errno(alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = most - 1,
		.flags = IOSPACE_ALLOC_CONTIGUOUS }, &buffer), 0,
		 "contiguous: %llu KiB", (unsigned long long)most >> 10);
	ok(buffer.out_segments == 1 && buffer.out_length == most &&
	   segments_keep(fd, &buffer), "contiguous: one segment");
	free_handle(fd, buffer.out_handle);

	ret = alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED,
		.length = answer.out_max_contiguous_bytes + 1,
		.flags = IOSPACE_ALLOC_CONTIGUOUS }, &buffer);
	if (strcmp(iommu, "translating")) {
		is_errno(ret, ENOMEM,
			 "contiguous: more than the page allocator has");
	} else if (!ret) {
		ok(buffer.out_segments == 1 && segments_keep(fd, &buffer),
		   "contiguous: more than the page allocator has, by the IOMMU");
		free_handle(fd, buffer.out_handle);
	} else {
		is_errno(ret, ENOMEM, "contiguous: not by this IOMMU's driver");
	}
	ok(!counter("buffers") && !counter("buffer_bytes"),
	   "contiguous: nothing stays behind");
}

/* Of EDU_BUFFER_SIZE bytes. */
static void transfer(int fd, volatile uint8_t *edu, uint64_t address,
		     uint32_t command)
{
	edu_transfer(fd, edu, address, EDU_BUFFER_SIZE, command);
}

static void test_needs_sync(int fd)
{
	struct iospace_alloc buffer;
	struct iospace_info answer;

	if (info(fd, &answer))
		die("INFO");
	for (uint32_t memory = IOSPACE_MEMORY_WRITECOMBINE;
	     memory <= IOSPACE_MEMORY_COHERENT; memory++) {
		if (alloc_as(fd, (struct iospace_alloc){
			.memory = memory, .length = 1 }, &buffer))
			continue;
		ok(!buffer.out_flags, "ALLOC: type %u needs no SYNC", memory);
		free_handle(fd, buffer.out_handle);
	}

	drop(fd, alloc_cached(fd, MIB, &buffer), &buffer);
	if (!answer.out_coherent || is_bounced())
		ok(buffer.out_flags == IOSPACE_ALLOC_NEEDS_SYNC,
		   "ALLOC: cached needs SYNC");
	/* Kernels before 6.10 do not know it of an IOMMU's mappings. */
	else if (answer.out_iommu != IOSPACE_IOMMU_TRANSLATING)
		ok(!buffer.out_flags, "ALLOC: cached needs no SYNC");
}

/* As a program does that calls only where it must. */
static void sync_if_needed(int fd, const struct iospace_alloc *buffer,
			   uint32_t flags, uint64_t offset, uint64_t length)
{
	if (buffer->out_flags & IOSPACE_ALLOC_NEEDS_SYNC &&
	    sync_range(fd, buffer->out_handle, flags, offset, length))
		die("SYNC");
}

/*
 * What was synced is right; and where the device reaches a copy, what was not is
 * stale: so it was the sync that did it.
 */
static void test_transfers(int fd)
{
	const uint64_t place = 1 * MIB + 3 * page_size;
	volatile uint8_t *edu = edu_map(fd);
	struct iospace_alloc from, to;
	uint8_t *source = alloc_cached(fd, 2 * MIB, &from);
	uint8_t *target = alloc_cached(fd, 2 * MIB, &to);
	bool bounces = is_bounced();
	uint64_t out, in;

	out = address_of(fd, from.out_handle, place, NULL);
	in = address_of(fd, to.out_handle, place, NULL);

	for (int i = 0; i < EDU_BUFFER_SIZE; i++)
		source[place + i] = i * 7 + 1;
	memset(target, 0xee, 2 * MIB);
	sync_if_needed(fd, &from, IOSPACE_SYNC_FOR_DEVICE, place,
		       EDU_BUFFER_SIZE);
	sync_if_needed(fd, &to, IOSPACE_SYNC_FOR_DEVICE, 0, 2 * MIB);
	transfer(fd, edu, out, 0);
	transfer(fd, edu, in, EDU_DMA_TO_MEMORY);
	if (bounces)
		ok(target[place] == 0xee,
		   "cached: device to memory: stale before the sync");
	sync_if_needed(fd, &to, IOSPACE_SYNC_FOR_CPU, place, EDU_BUFFER_SIZE);
	ok(!memcmp(source + place, target + place, EDU_BUFFER_SIZE),
	   "cached: the bytes that went out came in");
	ok(target[place - 1] == 0xee && target[place + EDU_BUFFER_SIZE] == 0xee,
	   "cached: and nothing else changed");

	/* The device has what was there at the last sync, in part. */
	memset(source + place, 0x11, EDU_BUFFER_SIZE);
	sync_if_needed(fd, &from, IOSPACE_SYNC_FOR_DEVICE, place,
		       EDU_BUFFER_SIZE / 2);
	transfer(fd, edu, out, 0);
	transfer(fd, edu, in, EDU_DMA_TO_MEMORY);
	sync_if_needed(fd, &to, IOSPACE_SYNC_FOR_CPU, place, EDU_BUFFER_SIZE);
	ok(target[place] == 0x11 && target[place + EDU_BUFFER_SIZE / 2 - 1] == 0x11,
	   "cached: memory to device: the half that was synced");
	if (bounces)
		ok(target[place + EDU_BUFFER_SIZE / 2] ==
		   (uint8_t)(EDU_BUFFER_SIZE / 2 * 7 + 1),
		   "cached: memory to device: the other is stale");
	munmap((void *)edu, 1 << 20);
	drop(fd, source, &from);
	drop(fd, target, &to);
}

/* What one had, the next does not see. */
static void test_hand_over(int fd)
{
	bool zero = true;

	for (int round = 0; round < 8; round++) {
		struct iospace_alloc buffer;
		uint8_t *bytes = alloc_cached(fd, 16 * MIB, &buffer);

		zero &= all_zero(bytes, 16 * MIB);
		memset(bytes, 0x5a, 16 * MIB);
		sync_range(fd, buffer.out_handle, IOSPACE_SYNC_FOR_DEVICE, 0,
			   16 * MIB);
		drop(fd, bytes, &buffer);
	}
	ok(zero, "cached: zero at each hand-over");
}

static void test_no_more(int fd)
{
	struct iospace_info limits;
	struct iospace_alloc buffer;

	if (info(fd, &limits))
		die("INFO");
	is_errno(alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED,
		.length = limits.out_max_file_bytes + 1 }, &buffer), EDQUOT,
		 "cached: a byte over the file's limit");
	is_errno(alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED,
		.length = UINT64_MAX }, &buffer), EDQUOT, "cached: 2^64 - 1");
	is_errno(alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = 1,
		.align = limits.out_max_file_bytes * 2 }, &buffer), EDQUOT,
		 "cached: what alignment costs is over the limit");
	ok(!counter("buffer_bytes"), "cached: what was refused is not charged");
}

static void test_fork(int fd)
{
	struct iospace_alloc buffer;
	uint8_t *bytes = alloc_cached(fd, 2 * MIB, &buffer);
	int status = -1;
	pid_t child;

	bytes[MIB] = 1;
	child = fork();
	if (!child) {
		bool good = bytes[MIB] == 1;

		bytes[MIB] = 2;
		_exit(!good);
	}
	if (waitpid(child, &status, 0) != child)
		die("fork");
	ok(!status && bytes[MIB] == 2, "cached: a child shares the pages");
	drop(fd, bytes, &buffer);
}

static void test_unbind(void)
{
	int fd = open_device(O_RDWR);
	struct iospace_alloc buffer, unmapped;
	volatile uint8_t *bytes = alloc_cached(fd, MIB, &buffer);
	struct iospace_segments answer;
	struct iospace_segment segment;

	if (alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = MIB }, &unmapped))
		die("ALLOC");
	memset((void *)bytes, 0xa5, MIB);
	unbind_device();
	ok(!bytes[0] && !bytes[MIB - 1], "cached: unbind: reads as zeros");
	bytes[5] = 1;
	ok(bytes[5] == 1, "cached: unbind: and can be written");
	is_errno(segments(fd, buffer.out_handle, 0, 1, &segment, &answer), ENODEV,
		 "cached: unbind: SEGMENTS");
	is_errno(sync_range(fd, buffer.out_handle, IOSPACE_SYNC_FOR_CPU, 0, MIB),
		 ENODEV, "cached: unbind: SYNC");
	bind_device();
	munmap((void *)bytes, MIB);
	close(fd);
	ok(counter_becomes("buffers", 0), "cached: unbind: nothing is left");
}

/* Ends in the middle of many mappings and buffers. */
static void test_killed(void)
{
	int ready[2], fd;
	char byte;
	pid_t child;

	if (pipe(ready))
		die("pipe");
	child = fork();
	if (!child) {
		fd = open_device(O_RDWR);
		for (int i = 0; i < 8; i++) {
			struct iospace_alloc buffer;

			memset(alloc_cached(fd, 4 * MIB, &buffer), i, 4 * MIB);
		}
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	if (read(ready[0], &byte, 1) != 1)
		die("child");
	ok(counter("buffer_bytes") == 32 * MIB, "cached: SIGKILL: is charged");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ok(counter_becomes("buffers", 0) && counter_becomes("buffer_bytes", 0) &&
	   counter_becomes("held_bytes", 0), "cached: SIGKILL: all is given back");
	close(ready[0]);
	close(ready[1]);
}

void test_cached(void)
{
	int fd = open_device(O_RDWR);

	test_sizes(fd);
	test_segments(fd);
	test_refused_syncs(fd);
	test_first_touch(fd);
	test_mapping(fd);
	test_contiguous(fd);
	test_needs_sync(fd);
	test_transfers(fd);
	test_hand_over(fd);
	test_no_more(fd);
	test_fork(fd);
	close(fd);
	test_unbind();
	test_killed();
}
