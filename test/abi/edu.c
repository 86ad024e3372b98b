// SPDX-License-Identifier: MIT
/* QEMU's edu function, driven through a mapping of its BAR. */
#include "abi.h"

#include <poll.h>

volatile uint8_t *edu_map(int fd)
{
	struct iospace_registers window;
	void *address;

	if (registers(fd, 0, &window))
		die("REGISTERS of the edu function");
	address = map(fd, window.out_length, window.out_mmap_offset);
	if (address == MAP_FAILED)
		die("mmap of the edu function's registers");
	return address;
}

/* As writel() and readl(): ordered against memory. */
static void edu_barrier_before_write(void)
{
#ifdef __aarch64__
	__asm__ volatile("dmb oshst" ::: "memory");
#else
	__sync_synchronize();
#endif
}

uint32_t edu_read(volatile uint8_t *edu, uint32_t offset)
{
	uint32_t value = *(volatile uint32_t *)(edu + offset);

#ifdef __aarch64__
	__asm__ volatile("dmb oshld" ::: "memory");
#else
	__sync_synchronize();
#endif
	return value;
}

void edu_write(volatile uint8_t *edu, uint32_t offset, uint32_t value)
{
	edu_barrier_before_write();
	*(volatile uint32_t *)(edu + offset) = value;
}

/* The edu takes an address in one piece only. */
static void edu_write64(volatile uint8_t *edu, uint32_t offset, uint64_t value)
{
	edu_barrier_before_write();
	*(volatile uint64_t *)(edu + offset) = value;
}

void edu_start(volatile uint8_t *edu, uint64_t address, uint32_t length,
	       uint32_t command)
{
	bool to_memory = command & EDU_DMA_TO_MEMORY;
	uint64_t source = to_memory ? EDU_BUFFER : address;
	uint64_t target = to_memory ? address : EDU_BUFFER;

	edu_write64(edu, EDU_DMA_SOURCE, source);
	edu_write64(edu, EDU_DMA_TARGET, target);
	edu_write64(edu, EDU_DMA_COUNT, length);
	edu_write64(edu, EDU_DMA_COMMAND, command | EDU_DMA_START);
}

bool edu_await(int fd, volatile uint8_t *edu, uint64_t *count)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	struct iospace_interrupt answer;

	if (poll(&poll_fd, 1, 5000) != 1 || poll_fd.revents != POLLIN)
		return false;
	if (read(fd, count, sizeof(*count)) != sizeof(*count))
		return false;
	edu_write(edu, EDU_ACK, 0xffffffff);
	edu_read(edu, EDU_ID);
	return !interrupt(fd, 0, IOSPACE_INTERRUPT_ENABLE, 0, &answer);
}

void edu_transfer(int fd, volatile uint8_t *edu, uint64_t address,
		  uint32_t length, uint32_t command)
{
	uint64_t count;

	edu_start(edu, address, length, command | EDU_DMA_INTERRUPT);
	if (!edu_await(fd, edu, &count))
		die("the edu's interrupt");
}
