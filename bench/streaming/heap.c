// SPDX-License-Identifier: MIT
/*
 * A cached buffer against one of dma-heap's system heap: allocated, mapped, each
 * page touched, given back.
 */
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cost.h"
#include "iospace.h"

static int device, heap;

static void *map_and_touch(int fd, size_t size, off_t offset)
{
	volatile char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	if (at == MAP_FAILED)
		fail("mmap");
	for (size_t i = 0; i < size; i += 4096)
		at[i] = 1;
	return (void *)at;
}

static long long cost_of_buffer(void *with)
{
	struct iospace_alloc alloc = {
		.size = sizeof(alloc),
		.memory = IOSPACE_MEMORY_CACHED,
		.length = *(size_t *)with,
	};
	struct iospace_free free = { .size = sizeof(free) };
	long long begin = now();
	void *at;

	if (ioctl(device, IOSPACE_ALLOC, &alloc))
		fail("ALLOC");
	at = map_and_touch(device, alloc.length, alloc.out_mmap_offset);
	munmap(at, alloc.length);
	free.handle = alloc.out_handle;
	if (ioctl(device, IOSPACE_FREE, &free))
		fail("FREE");
	return now() - begin;
}

static long long cost_of_heap(void *with)
{
	struct dma_heap_allocation_data alloc = {
		.len = *(size_t *)with,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	long long begin = now();
	void *at;

	if (ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &alloc))
		fail("DMA_HEAP_IOCTL_ALLOC");
	at = map_and_touch(alloc.fd, alloc.len, 0);
	munmap(at, alloc.len);
	close(alloc.fd);
	return now() - begin;
}

int main(void)
{
	struct {
		const char *name;
		size_t size;
	} rows[] = {
		{ "4 KiB", 4 << 10 }, { "64 KiB", 64 << 10 }, { "1 MiB", 1 << 20 },
		{ "4 MiB", 4 << 20 }, { "64 MiB", 64 << 20 },
	};

	device = open("/dev/iospace0", O_RDWR | O_CLOEXEC);
	heap = open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC);
	if (device == -1 || heap == -1)
		fail("open");
	run_alone();
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		compare(rows[i].name, cost_of_buffer, cost_of_heap, &rows[i].size);
	return 0;
}
