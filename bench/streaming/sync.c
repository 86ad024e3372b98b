// SPDX-License-Identifier: MIT
/*
 * SYNC: "sync call" is the ioctl where there is nothing to do, and for comparison one
 * that does not exist, against a system call that does nothing; "sync range" is 4 KiB of a buffer of 64 MiB against a buffer
 * of 4 KiB, where bounce buffers are copied.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cost.h"
#include "iospace.h"

#define SMALL 4096
#define LARGE (64UL << 20)
/* A call is too short for the clock alone. */
#define TIMES 100

/* 4 KiB at @offset of the large buffer, or all of the small one. */
struct range {
	const char *name;
	__u32 flags;
	__u64 offset;
};

static int device;
static struct iospace_alloc small, large;

static void alloc_cached(struct iospace_alloc *alloc, size_t size, bool bounced)
{
	*alloc = (struct iospace_alloc){
		.size = sizeof(*alloc),
		.memory = IOSPACE_MEMORY_CACHED,
		.length = size,
	};
	if (ioctl(device, IOSPACE_ALLOC, alloc))
		fail("ALLOC");
	if (bounced != !!(alloc->out_flags & IOSPACE_ALLOC_NEEDS_SYNC)) {
		fprintf(stderr, "a buffer %s\n", bounced ? "is not bounced" : "is bounced");
		exit(1);
	}
}

static long long cost_of_sync(__u32 handle, __u32 flags, __u64 offset)
{
	struct iospace_sync sync = {
		.size = sizeof(sync),
		.flags = flags,
		.handle = handle,
		.offset = offset,
		.length = SMALL,
	};
	long long begin = now();

	for (int i = 0; i < TIMES; i++) {
		if (ioctl(device, IOSPACE_SYNC, &sync))
			fail("SYNC");
	}
	return (now() - begin) / TIMES;
}

static long long cost_in_large(void *with)
{
	struct range *range = with;

	return cost_of_sync(large.out_handle, range->flags, range->offset);
}

static long long cost_in_small(void *with)
{
	return cost_of_sync(small.out_handle, ((struct range *)with)->flags, 0);
}

/* What an ioctl takes before its own work begins. */
static long long cost_of_refusal(void *with)
{
	long long begin = now();

	(void)with;
	for (int i = 0; i < TIMES; i++) {
		if (ioctl(device, _IO(IOSPACE_TYPE, 0xff), NULL) == 0)
			fail("a call that does not exist");
	}
	return (now() - begin) / TIMES;
}

static long long cost_of_nothing(void *with)
{
	long long begin = now();

	(void)with;
	for (int i = 0; i < TIMES; i++)
		syscall(SYS_getppid);
	return (now() - begin) / TIMES;
}

int main(int count, char **arguments)
{
	struct range ranges[] = {
		{ "for the device, first page", IOSPACE_SYNC_FOR_DEVICE, 0 },
		{ "for the device, in the middle", IOSPACE_SYNC_FOR_DEVICE, LARGE / 2 },
		{ "for the device, last page", IOSPACE_SYNC_FOR_DEVICE, LARGE - SMALL },
		{ "for the CPU, first page", IOSPACE_SYNC_FOR_CPU, 0 },
		{ "for the CPU, in the middle", IOSPACE_SYNC_FOR_CPU, LARGE / 2 },
		{ "for the CPU, last page", IOSPACE_SYNC_FOR_CPU, LARGE - SMALL },
	};
	bool call = count == 2 && !strcmp(arguments[1], "call");

	if (count != 2 || (!call && strcmp(arguments[1], "range"))) {
		fprintf(stderr, "usage: %s call|range\n", arguments[0]);
		return 2;
	}
	device = open("/dev/iospace0", O_RDWR | O_CLOEXEC);
	if (device == -1)
		fail("/dev/iospace0");
	run_alone();
	alloc_cached(&small, SMALL, !call);
	if (call) {
		compare("for the device", cost_in_small, cost_of_nothing, &ranges[0]);
		compare("for the CPU", cost_in_small, cost_of_nothing, &ranges[3]);
		compare("a call that does not exist", cost_of_refusal, cost_of_nothing, NULL);
		return 0;
	}
	alloc_cached(&large, LARGE, true);
	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++)
		compare(ranges[i].name, cost_in_large, cost_in_small, &ranges[i]);
	return 0;
}
