// SPDX-License-Identifier: MIT
/*
 * Where a buffer lies: alignment, boundary, address bits and zone, for each type
 * of memory that the device has. What is given is as it was asked for; what is
 * not fails with its documented error.
 */
#include "abi.h"

#include <stdlib.h>

static struct iospace_info machine;
static bool translating;

static bool is_type(uint32_t memory)
{
	return machine.out_memory_types & 1U << memory;
}

static void test_refused(int fd)
{
	const uint64_t page = page_size;
	const struct {
		const char *name;
		struct iospace_alloc ask;
	} rows[] = {
		{ "unknown flag", { .length = 1, .flags = 2 } },
		{ "align 3", { .length = 1, .align = 3 } },
		{ "align 2^64 - 1", { .length = 1, .align = UINT64_MAX } },
		{ "boundary 3 pages", { .length = 1, .boundary = 3 * page } },
		{ "boundary of half a page", { .length = 1, .boundary = page / 2 } },
		{ "boundary 1", { .length = 1, .boundary = 1 } },
		{ "a contiguous one over its boundary",
		  { .length = 4 * page + 1, .boundary = 4 * page,
		    .flags = IOSPACE_ALLOC_CONTIGUOUS } },
		{ "zone 4", { .length = 1, .zone = 4 } },
		{ "zone 2^32 - 1", { .length = 1, .zone = UINT32_MAX } },
		{ "7 address bits", { .length = 1, .address_bits = 7 } },
		{ "65 address bits", { .length = 1, .address_bits = 65 } },
		{ "2^32 - 1 address bits",
		  { .length = 1, .address_bits = UINT32_MAX } },
	};
	struct iospace_alloc buffer;

	for (uint32_t memory = 1; memory <= IOSPACE_MEMORY_COHERENT; memory++) {
		if (!is_type(memory))
			continue;
		for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
			struct iospace_alloc ask = rows[i].ask;

			ask.memory = memory;
			is_errno(alloc_as(fd, ask, &buffer), EINVAL,
				 "ALLOC: %s: %s", memory_names[memory], rows[i].name);
		}
	}
	is_errno(alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_COHERENT, .length = page + 1,
		.boundary = page }, &buffer), EINVAL,
		 "ALLOC: a coherent one over its boundary");
	ok(!counter("buffer_bytes"), "ALLOC: what was refused is not charged");
}

/* Documented for a place that cannot be had. */
static bool may_fail(int error)
{
	return error == ENOMEM || error == EOPNOTSUPP || error == EDQUOT;
}

/*
 * Every combination. Alignment up to 256 KiB can always be had but from bounce
 * buffers and from converted pages, and so can any boundary with it.
 */
static void test_align_and_boundary(int fd, uint32_t memory)
{
	const uint64_t lengths[] = { 1, page_size, 17 * page_size, 256 << 10,
				     MIB + page_size, 2 * MIB };
	const uint64_t aligns[] = { 0, 1, 64, page_size, 64 << 10, 256 << 10,
				    MIB, 4 * MIB };
	const uint64_t boundaries[] = { 0, page_size, 64 << 10, MIB, 4 * MIB,
					1ULL << 32 };
	bool bounces = machine.out_max_segment_bytes <= 256 << 10;
	bool own_pages = memory == IOSPACE_MEMORY_CACHED ||
			 memory == IOSPACE_MEMORY_COHERENT;
	int given = 0, refused = 0, wrong = 0, missing = 0, overcharged = 0;

	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
	for (size_t j = 0; j < sizeof(aligns) / sizeof(*aligns); j++)
	for (size_t k = 0; k < sizeof(boundaries) / sizeof(*boundaries); k++)
	for (uint32_t flags = 0; flags <= IOSPACE_ALLOC_CONTIGUOUS; flags++) {
		uint64_t whole = (lengths[i] + page_size - 1) / page_size * page_size;
		uint64_t align = aligns[j] > (uint64_t)page_size ? aligns[j] :
								 (uint64_t)page_size;
		bool one = flags || memory == IOSPACE_MEMORY_COHERENT;
		bool easy = align <= 256 << 10 && lengths[i] <= 256 << 10 &&
			    (!boundaries[k] || boundaries[k] >= align);
		struct iospace_alloc buffer;

		if (boundaries[k] && boundaries[k] < lengths[i] && one)
			continue;
		if (alloc_as(fd, (struct iospace_alloc){
			.memory = memory, .flags = flags, .length = lengths[i],
			.align = aligns[j], .boundary = boundaries[k] },
			&buffer)) {
			refused++;
			if (!may_fail(errno) || (own_pages && !bounces && easy)) {
				printf("# %s: length %#llx align %#llx boundary %#llx "
				       "flags %u: %s\n", memory_names[memory],
				       (unsigned long long)lengths[i],
				       (unsigned long long)aligns[j],
				       (unsigned long long)boundaries[k], flags,
				       strerror(errno));
				missing++;
			}
			continue;
		}
		given++;
		if (!segments_keep(fd, &buffer) || (one && buffer.out_segments != 1)) {
			printf("# %s: length %#llx align %#llx boundary %#llx flags %u: "
			       "%u segments, the first at %#llx\n", memory_names[memory],
			       (unsigned long long)lengths[i],
			       (unsigned long long)aligns[j],
			       (unsigned long long)boundaries[k], flags,
			       buffer.out_segments,
			       (unsigned long long)buffer.out_dma_addr);
			wrong++;
		}
		overcharged += own_pages &&
			       counter("buffer_bytes") > whole + align +
				(boundaries[k] ? 2 * whole : 0);
		free_handle(fd, buffer.out_handle);
	}
	ok(!wrong && given > 50, "%s: align and boundary: %d as asked for",
	   memory_names[memory], given);
	ok(!missing, "%s: align and boundary: %d refused, and may be",
	   memory_names[memory], refused);
	ok(!overcharged, "%s: align and boundary: charged for what they cost",
	   memory_names[memory]);
	ok(!counter("buffers") && !counter("buffer_bytes"),
	   "%s: align and boundary: nothing stays behind", memory_names[memory]);
}

static void test_charge(int fd)
{
	struct iospace_alloc buffer;

	if (machine.out_max_segment_bytes <= 256 << 10)
		return;
	if (alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = page_size,
		.align = MIB }, &buffer))
		die("ALLOC");
	ok(buffer.out_length == (uint64_t)page_size &&
	   counter("buffer_bytes") == MIB,
	   "align: a page aligned to 1 MiB is charged as that");
	free_handle(fd, buffer.out_handle);
}

static void test_address_bits(int fd, uint32_t memory)
{
	unsigned long long mask = counter("dma_mask");
	int given = 0, wrong = 0, refused = 0, lowest = 65;
	struct iospace_alloc buffer;

	for (uint32_t bits = 8; bits <= 64; bits++) {
		if (alloc_as(fd, (struct iospace_alloc){
			.memory = memory, .length = 3 * page_size,
			.address_bits = bits }, &buffer)) {
			refused += !may_fail(errno);
			if (!may_fail(errno))
				printf("# %u bits: %s\n", bits, strerror(errno));
			continue;
		}
		given++;
		lowest = (int)bits < lowest ? (int)bits : lowest;
		if (!segments_keep(fd, &buffer)) {
			printf("# %u bits: %#llx\n", bits,
			       (unsigned long long)buffer.out_dma_addr);
			wrong++;
		}
		free_handle(fd, buffer.out_handle);
	}
	ok(!wrong && given, "%s: address bits: given from %d on", memory_names[memory],
	   lowest);
	ok(lowest <= 32, "%s: address bits: 32 can be had", memory_names[memory]);
	ok(!refused, "%s: address bits: others may be refused", memory_names[memory]);
	ok(counter("dma_mask") == mask, "%s: address bits: the mask is as it was",
	   memory_names[memory]);
	is_errno(alloc_as(fd, (struct iospace_alloc){
		.memory = memory, .length = MIB }, &buffer), 0,
		 "%s: address bits: and binds nobody else", memory_names[memory]);
	free_handle(fd, buffer.out_handle);
	ok(!counter("buffers"), "%s: address bits: nothing stays behind",
	   memory_names[memory]);
}

/* The kernel's zones, by /proc/zoneinfo. */
static const char *const zone_names[] = {
	[IOSPACE_ZONE_DMA] = "DMA",
	[IOSPACE_ZONE_DMA32] = "DMA32",
	[IOSPACE_ZONE_NORMAL] = "Normal",
};

static struct range {
	uint64_t first;
	uint64_t end;
	uint64_t managed;
} zone_ranges[4];

static void read_zones(void)
{
	FILE *file = fopen("/proc/zoneinfo", "r");
	char line[256], name[32] = "";
	uint64_t value, spanned = 0, managed = 0;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Node %*d, zone %31s", name) == 1)
			continue;
		if (sscanf(line, " spanned %lu", &value) == 1)
			spanned = value;
		if (sscanf(line, " managed %lu", &value) == 1)
			managed = value;
		if (sscanf(line, " start_pfn: %lu", &value) != 1)
			continue;
		for (int i = 1; i <= 3; i++) {
			if (!strcmp(name, zone_names[i]))
				zone_ranges[i] = (struct range){
					value, value + spanned, managed };
		}
	}
	if (file)
		fclose(file);
}

static bool is_in(uint32_t zone, uint64_t page)
{
	return page && page < zone_ranges[zone].end &&
	       (zone != IOSPACE_ZONE_NORMAL || page >= zone_ranges[zone].first);
}

/* By the page tables, which tell of ordinary pages only. */
static bool pages_are_in(uint32_t zone, void *bytes, uint64_t length)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	bool good = fd != -1;

	for (uint64_t at = 0; good && at < length; at += page_size) {
		uint64_t entry, page = ((uintptr_t)bytes + at) / page_size;

		if (pread(fd, &entry, 8, page * 8) != 8)
			die("/proc/self/pagemap");
		good = is_in(zone, entry & ((1ULL << 55) - 1));
	}
	if (fd != -1)
		close(fd);
	return good;
}

static void test_lies_in(int fd, uint32_t zone,
			 const struct iospace_alloc *buffer)
{
	const char *name = memory_names[buffer->memory];
	void *bytes;

	if (buffer->memory == IOSPACE_MEMORY_CACHED) {
		bytes = map(fd, buffer->out_length, buffer->out_mmap_offset);
		ok(pages_are_in(zone, bytes, buffer->out_length),
		   "%s: zone %s: by the page tables", name, zone_names[zone]);
		munmap(bytes, buffer->out_length);
	} else if (!translating) {
		ok(is_in(zone, buffer->out_dma_addr / page_size),
		   "%s: zone %s: by the bus address", name, zone_names[zone]);
	}
}

static void test_zone(int fd, uint32_t memory, uint32_t zone)
{
	bool has = machine.out_zones & 1U << zone;
	struct iospace_alloc buffer;
	int ret;

	ret = alloc_as(fd, (struct iospace_alloc){
		.memory = memory, .length = 5 * page_size, .zone = zone },
		&buffer);
	if (!has) {
		is_errno(ret, EOPNOTSUPP, "%s: zone %s: there is none",
			 memory_names[memory], zone_names[zone]);
		return;
	}
	if (translating && memory == IOSPACE_MEMORY_COHERENT) {
		is_errno(ret, EOPNOTSUPP, "%s: zone %s: behind an IOMMU",
			 memory_names[memory], zone_names[zone]);
		return;
	}
	/* The page allocator may keep some, or be out of what it is asked for. */
	if (ret && zone == IOSPACE_ZONE_NORMAL) {
		is_errno(ret, ENOMEM, "%s: zone Normal: full", memory_names[memory]);
		return;
	}
	if (ret && memory != IOSPACE_MEMORY_CACHED &&
	    memory != IOSPACE_MEMORY_COHERENT) {
		ok(may_fail(errno), "%s: zone %s: no room for a chunk (%s)",
		   memory_names[memory], zone_names[zone], strerror(errno));
		return;
	}
	if (!is_errno(ret, 0, "%s: zone %s", memory_names[memory], zone_names[zone]))
		return;
	test_lies_in(fd, zone, &buffer);
	free_handle(fd, buffer.out_handle);
}

static void test_zones(int fd)
{
	read_zones();
	for (uint32_t zone = 1; zone <= 3; zone++) {
		ok(!(machine.out_zones & 1U << zone) == !zone_ranges[zone].managed,
		   "INFO: zone %s as in /proc/zoneinfo", zone_names[zone]);
		for (uint32_t memory = 1; memory <= IOSPACE_MEMORY_COHERENT;
		     memory++) {
			if (is_type(memory))
				test_zone(fd, memory, zone);
		}
	}
	ok(!counter("buffers"), "zones: nothing stays behind");
}

void test_placement(void)
{
	int fd = open_device(O_RDWR);

	if (info(fd, &machine))
		die("INFO");
	translating = machine.out_iommu == IOSPACE_IOMMU_TRANSLATING;
	test_refused(fd);
	for (uint32_t memory = 1; memory <= IOSPACE_MEMORY_COHERENT; memory++) {
		if (!is_type(memory))
			continue;
		test_align_and_boundary(fd, memory);
		test_address_bits(fd, memory);
	}
	test_charge(fd);
	test_zones(fd);
	close(fd);
}
