/* SPDX-License-Identifier: MIT */
/*
 * What the groups of tests share: results, the device under test, its counters,
 * and calls that fill a structure's size in.
 */
#ifndef ABI_H
#define ABI_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include "iospace.h"

#define MIB (1ULL << 20)

enum {
	TO_DEVICE = IOSPACE_DIRECTION_TO_DEVICE,
	FROM_DEVICE = IOSPACE_DIRECTION_FROM_DEVICE,
	BOTH_WAYS = IOSPACE_DIRECTION_BIDIRECTIONAL,
};

/* The device under test; its name changes when it is bound again. */
struct device {
	char name[32];     /* iospace1 */
	char path[64];     /* /dev/iospace1 */
	char function[64]; /* 0000:00:03.0 */
	char mask[32];     /* its DMA mask, to set again */
};

extern struct device device;
extern long page_size;
/* By enum iospace_memory; not of registers. */
extern const char *const memory_names[IOSPACE_MEMORY_DEVICE];

/* Results. Each returns whether it was as it must be. */
bool ok(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool is_errno(int result, int expected, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* What is not tested, because this machine lacks the thing that it names. */
void skip(const char *format, ...) __attribute__((format(printf, 1, 2)));
void die(const char *what);

/* The device. */
int open_device(int flags);
bool find_device(const char *function);
void unbind_device(void);
void bind_device(void);
void read_attribute(const char *name, char *text, size_t size);
unsigned long long counter(const char *name);
/* Waits until the counter has the value: releasing may be deferred. */
bool counter_becomes(const char *name, unsigned long long value);
bool write_file(const char *path, const char *text);
/* Its first line. */
bool read_file(const char *path, char *text, size_t size);
void sleep_ms(long ms);
/* Bounce buffers for everything: the device works on copies. */
bool is_bounced(void);
/* Waits until the thread, which stores its id there, waits in the kernel. */
bool await_sleep(_Atomic pid_t *thread);

/* The calls. */
int info(int fd, struct iospace_info *info);
int alloc(int fd, uint64_t length, struct iospace_alloc *alloc);
int free_handle(int fd, uint32_t handle);
int registers(int fd, uint32_t index, struct iospace_registers *registers);
int interrupt(int fd, uint32_t vector, uint32_t flags, int eventfd,
	      struct iospace_interrupt *interrupt);
void *map(int fd, uint64_t length, uint64_t offset);
/* Allocates and maps, or ends the program. */
void *alloc_mapped(int fd, uint64_t length, struct iospace_alloc *alloc);
void *alloc_mapped_as(int fd, struct iospace_alloc ask,
		      struct iospace_alloc *alloc);
void *alloc_cached(int fd, uint64_t length, struct iospace_alloc *alloc);
/* Unmaps and frees. */
void drop(int fd, void *address, const struct iospace_alloc *alloc);

/* As asked for; the size is filled in. */
int alloc_as(int fd, struct iospace_alloc ask, struct iospace_alloc *alloc);
/* The segments are the whole buffer, and keep to what was asked for. */
bool segments_keep(int fd, const struct iospace_alloc *buffer);
int segments(int fd, uint32_t handle, uint32_t first, uint32_t count, void *to,
	     struct iospace_segments *answer);
/* Where the device finds @offset of a buffer. @room: gets what follows there; or NULL. */
uint64_t address_of(int fd, uint32_t handle, uint64_t offset, uint64_t *room);
int sync_range(int fd, uint32_t handle, uint32_t flags, uint64_t offset,
	       uint64_t length);
bool all_zero(const void *bytes, uint64_t length);

/* QEMU's edu function: its registers, by mapping. */
enum {
	EDU_ID = 0x00,
	EDU_INVERT = 0x04,
	EDU_FACTORIAL = 0x08,
	EDU_STATUS = 0x20,
	EDU_RAISE = 0x60,
	EDU_ACK = 0x64,
	EDU_DMA_SOURCE = 0x80,
	EDU_DMA_TARGET = 0x88,
	EDU_DMA_COUNT = 0x90,
	EDU_DMA_COMMAND = 0x98,

	EDU_DMA_START = 1,
	EDU_DMA_TO_MEMORY = 2,
	EDU_DMA_INTERRUPT = 4,

	EDU_BUFFER = 0x40000,
	/* Of its 4096 bytes; QEMU 7.2 ends itself when asked for all of them. */
	EDU_BUFFER_SIZE = 2048,
};

volatile uint8_t *edu_map(int fd);
uint32_t edu_read(volatile uint8_t *edu, uint32_t offset);
void edu_write(volatile uint8_t *edu, uint32_t offset, uint32_t value);
/* Starts a transfer between @address and the edu's buffer; 100 ms long. */
void edu_start(volatile uint8_t *edu, uint64_t address, uint32_t length,
	       uint32_t command);
/* Interrupts, waits for it on @fd, and acknowledges. */
bool edu_await(int fd, volatile uint8_t *edu, uint64_t *count);

/* A whole transfer, of EDU_BUFFER_SIZE at the most; or ends the program. */
void edu_transfer(int fd, volatile uint8_t *edu, uint64_t address,
		  uint32_t length, uint32_t command);

/* The groups. */
void test_forms(void);
void test_memory(void);
void test_cached(void);
void test_dmabuf(void);
void test_placement(void);
void test_registers(void);
void test_interrupts(void);
void test_user(void);
void test_transfer(void);
void test_compat(void);
void test_pool(void);
void test_converted(void);
void test_arena(void);
void test_lifetime(void);
void test_faults(void);

#endif
