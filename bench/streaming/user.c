// SPDX-License-Identifier: MIT
/*
 * Memory of the caller, mapped for a device behind an IOMMU and taken back:
 * MAP_USER and FREE against VFIO's type 1, of another function of the same kind:
 *
 *	user /dev/iospaceN GROUP
 *
 * GROUP is that of a function that vfio-pci has.
 */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cost.h"
#include "iospace.h"

#define HUGE_PAGE (2UL << 20)
#define LARGEST (64UL << 20)

struct work {
	char *memory;
	size_t size;
};

static int device, container;

static void open_container(const char *group_number)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char path[64];
	int group;

	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (container == -1)
		fail("/dev/vfio/vfio");
	snprintf(path, sizeof(path), "/dev/vfio/%s", group_number);
	group = open(path, O_RDWR | O_CLOEXEC);
	if (group == -1)
		fail(path);
	if (ioctl(group, VFIO_GROUP_GET_STATUS, &status) || !(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		fail("VFIO_GROUP_GET_STATUS");
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container))
		fail("VFIO_GROUP_SET_CONTAINER");
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		fail("VFIO_SET_IOMMU");
}

static long long cost_of_iospace(void *with)
{
	struct work *work = with;
	struct iospace_map_user map = {
		.size = sizeof(map),
		.direction = IOSPACE_DIRECTION_BIDIRECTIONAL,
		.address = (uintptr_t)work->memory,
		.length = work->size,
	};
	struct iospace_free free = { .size = sizeof(free) };
	long long begin = now();

	if (ioctl(device, IOSPACE_MAP_USER, &map))
		fail("MAP_USER");
	free.handle = map.out_handle;
	if (ioctl(device, IOSPACE_FREE, &free))
		fail("FREE");
	return now() - begin;
}

static long long cost_of_vfio(void *with)
{
	struct work *work = with;
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)work->memory,
		.iova = 1UL << 30,
		.size = work->size,
	};
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = map.iova,
		.size = work->size,
	};
	long long begin = now();

	if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map))
		fail("VFIO_IOMMU_MAP_DMA");
	if (ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap))
		fail("VFIO_IOMMU_UNMAP_DMA");
	return now() - begin;
}

static void measure(const char *pages, int advice)
{
	static const struct {
		const char *name;
		size_t size;
	} rows[] = {
		{ "4 KiB", 4 << 10 }, { "64 KiB", 64 << 10 }, { "2 MiB", 2 << 20 }, { "64 MiB", LARGEST },
	};
	char *all = mmap(NULL, LARGEST + HUGE_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct work work = { .memory = (void *)(((uintptr_t)all + HUGE_PAGE - 1) & -HUGE_PAGE) };
	char name[64];

	if (all == MAP_FAILED || madvise(all, LARGEST + HUGE_PAGE, advice))
		fail("memory to map");
	memset(work.memory, 1, LARGEST);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		work.size = rows[i].size;
		snprintf(name, sizeof(name), "%s, %s", rows[i].name, pages);
		compare(name, cost_of_iospace, cost_of_vfio, &work);
	}
	munmap(all, LARGEST + HUGE_PAGE);
}

int main(int count, char **arguments)
{
	if (count != 3) {
		fprintf(stderr, "usage: %s /dev/iospaceN GROUP\n", arguments[0]);
		return 2;
	}
	device = open(arguments[1], O_RDWR | O_CLOEXEC);
	if (device == -1)
		fail(arguments[1]);
	open_container(arguments[2]);
	run_alone();
	measure("small pages", MADV_NOHUGEPAGE);
	measure("huge pages", MADV_HUGEPAGE);
	return 0;
}
