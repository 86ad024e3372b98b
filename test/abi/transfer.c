// SPDX-License-Identifier: MIT
/* The device's word: it reads and writes the memory that we see. */
#include "abi.h"

#include <stdlib.h>

void test_transfer(void)
{
	int fd = open_device(O_RDWR);
	volatile uint8_t *edu = edu_map(fd);
	struct iospace_alloc from, to;
	uint8_t *source = alloc_mapped(fd, 2 * EDU_BUFFER_SIZE, &from);
	uint8_t *target = alloc_mapped(fd, 2 * EDU_BUFFER_SIZE, &to);
	uint64_t count = 0;
	bool rest = true;

	/* From the middle of one to the middle of the other. */
	srandom(1);
	for (int i = 0; i < 2 * EDU_BUFFER_SIZE; i++)
		source[i] = random();
	memset(target, 0xee, 2 * EDU_BUFFER_SIZE);

	edu_start(edu, from.out_dma_addr + 1000, EDU_BUFFER_SIZE,
		  EDU_DMA_INTERRUPT);
	ok(edu_await(fd, edu, &count) && count == 1,
	   "memory to device: interrupt");
	edu_start(edu, to.out_dma_addr + 1024, EDU_BUFFER_SIZE,
		  EDU_DMA_TO_MEMORY | EDU_DMA_INTERRUPT);
	ok(edu_await(fd, edu, &count) && count == 2,
	   "device to memory: interrupt");

	ok(!memcmp(target + 1024, source + 1000, EDU_BUFFER_SIZE),
	   "device to memory: the bytes that went out came in");
	for (int i = 0; i < 2 * EDU_BUFFER_SIZE; i++) {
		if (i < 1024 || i >= 1024 + EDU_BUFFER_SIZE)
			rest &= target[i] == 0xee;
	}
	ok(rest, "device to memory: and nothing else changed");
	munmap((void *)edu, 1 << 20);
	munmap(source, 2 * EDU_BUFFER_SIZE);
	munmap(target, 2 * EDU_BUFFER_SIZE);
	close(fd);
}
