// SPDX-License-Identifier: MIT
/*
 * The pools that a device tree gives devices: each allocation lies inside its
 * device's, and nobody else's lies there.
 *
 * Needs a machine where bus addresses are physical ones, and devices without
 * hardware that iospace drives, as in test/guest/pools.dts; says so elsewhere.
 */
#include "abi.h"

#include <dirent.h>
#include <endian.h>
#include <stdlib.h>

#define REGIONS "/proc/device-tree/reserved-memory"

/* A region of the device tree for the DMA API. */
struct region {
	uint32_t phandle;
	uint64_t start;
	uint64_t bytes;
	bool reusable;
};

static struct region regions[16];
static int region_count;

static ssize_t read_property(const char *node, const char *name, void *to,
			     size_t size)
{
	char path[512];
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", node, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return -1;
	length = read(fd, to, size);
	close(fd);
	return length;
}

static bool has_property(const char *node, const char *name)
{
	char text[1];

	return read_property(node, name, text, sizeof(text)) >= 0;
}

static void find_regions(void)
{
	DIR *directory = opendir(REGIONS);
	struct dirent *entry;

	region_count = 0;
	while (directory && (entry = readdir(directory)) && region_count < 16) {
		struct region *region = &regions[region_count];
		char node[400], compatible[64];
		uint64_t reg[2];

		snprintf(node, sizeof(node), REGIONS "/%s", entry->d_name);
		if (read_property(node, "compatible", compatible,
				  sizeof(compatible)) < 0 ||
		    strcmp(compatible, "shared-dma-pool") ||
		    read_property(node, "reg", reg, sizeof(reg)) != sizeof(reg))
			continue;
		*region = (struct region){
			.start = be64toh(reg[0]),
			.bytes = be64toh(reg[1]),
			.reusable = has_property(node, "reusable"),
		};
		/* One that nobody refers to has none. */
		read_property(node, "phandle", &region->phandle, 4);
		region_count++;
	}
	if (directory)
		closedir(directory);
}

/* The region that the device under test must have, or NULL. */
static const struct region *own_region(const char *node)
{
	uint32_t phandles[8];
	ssize_t length = read_property(node, "memory-region", phandles,
				       sizeof(phandles));

	for (ssize_t i = 0; i < length / 4; i++) {
		for (int j = 0; j < region_count; j++) {
			if (regions[j].phandle == phandles[i])
				return &regions[j];
		}
	}
	return NULL;
}

static const struct region *region_at(uint64_t start, uint64_t length)
{
	for (int i = 0; i < region_count; i++) {
		if (start < regions[i].start + regions[i].bytes &&
		    start + length > regions[i].start)
			return &regions[i];
	}
	return NULL;
}

/* Everything that the region has, in pieces. Returns how many those were. */
static uint64_t fill(const struct region *region, uint64_t piece)
{
	uint64_t most = region->bytes / piece + 1, count = 0;
	bool inside = true, zero = true, own = true;
	int fd = open_device(O_RDWR);
	struct iospace_alloc buffer;
	volatile uint64_t **bytes = calloc(most, sizeof(*bytes));

	if (!bytes)
		die("calloc");
	errno = 0;
	while (count < most && !alloc(fd, piece, &buffer)) {
		uint64_t offset = buffer.out_dma_addr - region->start;

		inside &= buffer.out_dma_addr >= region->start &&
			  offset <= region->bytes - buffer.out_length;
		bytes[count] = map(fd, piece, buffer.out_mmap_offset);
		if (bytes[count] == MAP_FAILED)
			die("mmap of a buffer");
		for (uint64_t at = 0; at < piece / 8; at += 8)
			zero &= !bytes[count][at];
		for (uint64_t at = 0; at < piece / 8; at += 8)
			bytes[count][at] = buffer.out_dma_addr;
		count++;
	}
	is_errno(-1, ENOSPC, "%s: a full pool, %llu times %llu bytes",
		 device.function, (unsigned long long)count,
		 (unsigned long long)piece);
	ok(count && inside, "%s: each of them lies inside of it", device.function);
	ok(zero, "%s: and was zero", device.function);
	for (uint64_t i = 0; i < count; i++) {
		for (uint64_t j = 0; j < i; j++)
			own &= bytes[i][0] != bytes[j][0];
	}
	ok(own, "%s: and is nobody else's", device.function);
	for (uint64_t i = 0; i < count; i++)
		munmap((void *)bytes[i], piece);
	free(bytes);
	close(fd);
	return count;
}

static void test_filled(const struct region *region)
{
	uint64_t piece = 65536, all = region->bytes / piece;
	int fd = open_device(O_RDWR);
	struct iospace_alloc buffer;
	uint64_t count;

	is_errno(alloc(fd, region->bytes + 1, &buffer), ENOSPC,
		 "%s: more than its pool", device.function);
	close(fd);

	count = fill(region, piece);
	/* The kernel lends a reusable one to programs, and gets most of it back. */
	ok(region->reusable ? count > all / 4 * 3 : count == all,
	   "%s: all of it was to be had", device.function);
	ok(fill(region, piece) >= (region->reusable ? all / 4 * 3 : all),
	   "%s: it is there again after close()", device.function);
}

/* The kernel has room for one pool in a device, and must get it back. */
static void test_bound_again(const struct region *region)
{
	struct iospace_alloc buffer;

	for (int i = 0; i < 2; i++) {
		if (!write_file("/sys/bus/platform/drivers/iospace/unbind",
				device.function))
			die("unbind");
		is_errno(write_file("/sys/bus/platform/drivers/iospace/bind",
				    device.function) ? 0 : -1, 0,
			 "%s: bound again", device.function);
		if (!find_device(device.function))
			die(device.function);
		int fd = open_device(O_RDWR);

		ok(!alloc(fd, page_size, &buffer) &&
		   region_at(buffer.out_dma_addr, page_size) == region,
		   "%s: its memory is its pool's", device.function);
		close(fd);
	}
}

/* A device that snoops, and reads what went around the cache. */
static void test_not_to_be_had(int fd, const struct iospace_info *answer)
{
	struct iospace_alloc buffer;

	ok(!answer->out_memory_types, "%s: no memory type", device.function);
	is_errno(alloc(fd, page_size, &buffer), EOPNOTSUPP,
		 "%s: coherent and \"no-map\"", device.function);
}

static void test_elsewhere(int fd)
{
	struct iospace_alloc buffer;
	bool elsewhere = true;

	for (int i = 0; i < 64; i++) {
		if (alloc(fd, 65536, &buffer))
			die("ALLOC");
		elsewhere &= !region_at(buffer.out_dma_addr, buffer.out_length);
	}
	ok(elsewhere, "%s: its memory is in nobody's pool", device.function);
}

static void test_device(void)
{
	const struct region *region;
	struct iospace_info answer;
	int fd = open_device(O_RDWR);
	char node[128];
	bool coherent;

	if (info(fd, &answer))
		die("INFO");
	snprintf(node, sizeof(node), "/sys/class/misc/%s/device/of_node",
		 device.name);
	region = own_region(node);
	coherent = has_property(node, "dma-coherent");

	if (answer.out_bus == IOSPACE_BUS_PLATFORM)
		ok(answer.out_coherent == coherent, "%s: %scoherent",
		   device.function, coherent ? "" : "not ");
	if (!region) {
		ok(answer.out_pool == IOSPACE_POOL_NONE &&
		   !answer.out_pool_start && !answer.out_pool_bytes,
		   "%s: no pool", device.function);
		if (answer.out_iommu != IOSPACE_IOMMU_TRANSLATING)
			test_elsewhere(fd);
		close(fd);
		return;
	}

	ok(answer.out_pool == (region->reusable ? IOSPACE_POOL_CMA :
						  IOSPACE_POOL_COHERENT) &&
	   answer.out_pool_start == region->start &&
	   answer.out_pool_bytes == region->bytes,
	   "%s: the pool of its device tree", device.function);
	if (coherent && !region->reusable) {
		test_not_to_be_had(fd, &answer);
		close(fd);
		return;
	}
	ok(!(answer.out_memory_types & 1 << IOSPACE_MEMORY_CACHED),
	   "%s: no pages from elsewhere", device.function);
	close(fd);
	test_filled(region);
	test_bound_again(region);
}

void test_pool(void)
{
	const struct device tested = device;
	struct dirent **entries;
	int count, pools = 0;

	find_regions();
	count = region_count ? scandir("/sys/class/misc", &entries, NULL,
				       versionsort) : 0;
	for (int i = 0; i < count; i++) {
		const char *name = entries[i]->d_name;
		char node[300];

		if (strncmp(name, "iospace", 7))
			continue;
		snprintf(device.name, sizeof(device.name), "%.31s", name);
		snprintf(device.path, sizeof(device.path), "/dev/%.31s", name);
		read_attribute("device_name", device.function,
			       sizeof(device.function));
		if (!*device.function)
			strcpy(device.function, device.name);
		snprintf(node, sizeof(node),
			 "/sys/class/misc/%s/device/of_node", name);
		pools += own_region(node) != NULL;
		test_device();
	}
	if (!pools)
		skip("no device with \"memory-region\"");
	device = tested;
}
