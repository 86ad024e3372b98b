// SPDX-License-Identifier: MIT
/*
 * The contract as a 32-bit program sees it: the same layout, and offsets that its
 * mmap() can name. Built without a C library, which a 64-bit system need not have
 * for it.
 *
 * abi32 /dev/iospaceN: exits with 0, or with the number of the step that failed.
 * The device is a QEMU edu function.
 */
#include <linux/types.h>

#include "iospace.h"

_Static_assert(sizeof(void *) == 4, "a 32-bit program");
_Static_assert(sizeof(struct iospace_info) == 200, "as in 64 bits");
_Static_assert(sizeof(struct iospace_alloc) == 88, "as in 64 bits");
_Static_assert(sizeof(struct iospace_segment) == 16, "as in 64 bits");
_Static_assert(sizeof(struct iospace_segments) == 32, "as in 64 bits");
_Static_assert(sizeof(struct iospace_sync) == 32, "as in 64 bits");
_Static_assert(sizeof(struct iospace_free) == 16, "as in 64 bits");
_Static_assert(sizeof(struct iospace_arena) == 80, "as in 64 bits");
_Static_assert(sizeof(struct iospace_arena_books) == 16, "as in 64 bits");
_Static_assert(sizeof(struct iospace_window) == 48, "as in 64 bits");
_Static_assert(sizeof(struct iospace_registers) == 72, "as in 64 bits");
_Static_assert(sizeof(struct iospace_register_access) == 32, "as in 64 bits");
_Static_assert(sizeof(struct iospace_interrupt) == 64, "as in 64 bits");
_Static_assert(sizeof(struct iospace_status) == 8, "as in 64 bits");

enum { EXIT = 1, OPEN = 5, IOCTL = 54, MUNMAP = 91, MMAP2 = 192 };
enum { O_RDWR = 2, PROT_READ_WRITE = 3, MAP_SHARED = 1, PAGE = 4096 };

/* Of mmap2(), which has six. */
static long sixth;

static long call(long number, long a, long b, long c, long d, long e)
{
	long result;

	__asm__ volatile("push %%ebp\n\t"
			 "mov %[sixth], %%ebp\n\t"
			 "int $0x80\n\t"
			 "pop %%ebp"
			 : "=a"(result)
			 : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e),
			   [sixth] "m"(sixth)
			 : "memory");
	return result;
}

static long control(long fd, unsigned long request, void *structure)
{
	return call(IOCTL, fd, request, (long)structure, 0, 0);
}

/* All 44 bits of an offset are pages of 12 and a number of 32. */
static volatile __u32 *map(long fd, __u32 length, __u64 offset)
{
	sixth = offset >> 12;
	return (void *)call(MMAP2, 0, length, PROT_READ_WRITE, MAP_SHARED, fd);
}

static int is_error(const volatile void *address)
{
	return (unsigned long)address > -4096UL;
}

static int run(const char *path)
{
	struct iospace_info info = { .size = sizeof(info) };
	struct iospace_alloc alloc = { .size = sizeof(alloc),
				       .memory = IOSPACE_MEMORY_CACHED,
				       .length = 3 * PAGE };
	struct iospace_segment segments[3];
	struct iospace_segments where = { .size = sizeof(where), .count = 3,
					  .segments = (unsigned long)segments };
	struct iospace_registers registers = { .size = sizeof(registers) };
	struct iospace_free free = { .size = sizeof(free) };
	long fd = call(OPEN, (long)path, O_RDWR, 0, 0, 0);
	volatile __u32 *at;

	if (fd < 0)
		return 1;
	if (control(fd, IOSPACE_INFO, &info) ||
	    info.out_version != IOSPACE_VERSION || info.out_page_size != PAGE)
		return 2;
	if (control(fd, IOSPACE_ALLOC, &alloc) || alloc.out_length != 3 * PAGE)
		return 3;
	where.handle = alloc.out_handle;
	if (control(fd, IOSPACE_SEGMENTS, &where) ||
	    segments[0].dma_addr != alloc.out_dma_addr)
		return 4;
	if (alloc.out_mmap_offset >> 44)
		return 5;
	at = map(fd, 3 * PAGE, alloc.out_mmap_offset);
	if (is_error(at) || at[0] || at[3 * PAGE / 4 - 1])
		return 6;
	at[0] = 1;
	if (call(MUNMAP, (long)at, 3 * PAGE, 0, 0, 0))
		return 7;
	at = map(fd, 3 * PAGE, alloc.out_mmap_offset);
	if (is_error(at) || at[0] != 1)
		return 8;

	/* Register ranges have the highest offsets. */
	if (control(fd, IOSPACE_REGISTERS, &registers) ||
	    !(registers.out_mmap_offset >> 43) || registers.out_mmap_offset >> 44)
		return 9;
	at = map(fd, PAGE, registers.out_mmap_offset);
	if (is_error(at) || *at != 0x010000ed)
		return 10;
	free.handle = alloc.out_handle;
	if (control(fd, IOSPACE_FREE, &free))
		return 11;
	return 0;
}

/* Entered with the count of arguments and the arguments on the stack. */
__attribute__((used)) static void start(const long *stack)
{
	call(EXIT, stack[0] == 2 ? run((const char *)stack[2]) : 100, 0, 0, 0, 0);
	__builtin_unreachable();
}

__asm__(".globl _start\n"
	"_start:\n\t"
	"mov %esp, %eax\n\t"
	"and $-16, %esp\n\t"
	"sub $12, %esp\n\t"
	"push %eax\n\t"
	"call start\n");
