// SPDX-License-Identifier: MIT
/* Register windows: described, mapped, and accessed one at a time. */
#include "abi.h"

static int access_register(int fd, struct iospace_register_access access,
			   uint64_t *value)
{
	int ret;

	access.size = sizeof(access);
	ret = ioctl(fd, IOSPACE_REGISTER_ACCESS, &access);
	if (value)
		*value = access.value;
	return ret;
}

static void test_access(int fd)
{
	enum { WRITE = IOSPACE_REGISTER_WRITE };
	static const struct {
		const char *name;
		struct iospace_register_access access;
		int expected;
	} rows[] = {
		{ "width 0", { .width = 0 }, EINVAL },
		{ "width 3", { .width = 3 }, EINVAL },
		{ "width 16", { .width = 16 }, EINVAL },
		{ "misaligned", { .width = 4, .offset = 2 }, EINVAL },
		{ "last register", { .width = 4, .offset = 0xffffc }, 0 },
		{ "behind the window", { .width = 4, .offset = 0x100000 }, EINVAL },
		{ "offset 2^64 - 4", { .width = 4, .offset = -4ULL }, EINVAL },
		{ "BAR that is absent", { .index = 1, .width = 4 }, ENOENT },
		{ "BAR 6", { .index = 6, .width = 4 }, ENOENT },
		{ "BAR 2^32 - 1", { .index = -1, .width = 4 }, ENOENT },
		{ "value too wide",
		  { .flags = WRITE, .width = 4, .offset = EDU_INVERT,
		    .value = 1ULL << 32 }, EINVAL },
		{ "value too wide for a byte",
		  { .flags = WRITE, .width = 1, .offset = EDU_INVERT,
		    .value = 256 }, EINVAL },
	};
	uint64_t value;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		is_errno(access_register(fd, rows[i].access, NULL),
			 rows[i].expected, "REGISTER_ACCESS: %s", rows[i].name);

	access_register(fd, (struct iospace_register_access){ .width = 4 },
			&value);
	ok(value == 0x010000ed, "REGISTER_ACCESS: identification");
	is_errno(access_register(fd, (struct iospace_register_access){
					 .flags = WRITE, .width = 4,
					 .offset = EDU_INVERT,
					 .value = 0xfedcba98,
				 }, NULL), 0, "REGISTER_ACCESS: write");
	access_register(fd, (struct iospace_register_access){
				.width = 4, .offset = EDU_INVERT }, &value);
	ok(value == 0x01234567, "REGISTER_ACCESS: and read back");
	access_register(fd, (struct iospace_register_access){
				.flags = WRITE, .width = 8,
				.offset = EDU_DMA_SOURCE,
				.value = 0x123456789abcdef0 }, NULL);
	access_register(fd, (struct iospace_register_access){
				.width = 8, .offset = EDU_DMA_SOURCE }, &value);
	ok(value == 0x123456789abcdef0, "REGISTER_ACCESS: 64 bits");
}

/* Of every device: the last index is one that there is, none follows. */
static void test_all_described(void)
{
	for (int n = 0; n < 8; n++) {
		struct iospace_registers window;
		struct iospace_info answer;
		uint32_t present = 0;
		char path[32];
		int fd;

		snprintf(path, sizeof(path), "/dev/iospace%d", n);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd == -1)
			continue;
		if (info(fd, &answer))
			die("INFO");
		for (uint32_t i = 0; i < 32; i++) {
			if (!registers(fd, i, &window))
				present |= 1U << i;
		}
		ok(answer.out_registers ==
			   (present ? 32U - __builtin_clz(present) : 0),
		   "INFO: %s: registers up to the last, %#x", path, present);
		close(fd);
	}
}

void test_registers(void)
{
	int fd = open_device(O_RDWR);
	struct iospace_registers window, again;
	volatile uint8_t *edu;
	int tries = 0;

	if (!is_errno(registers(fd, 0, &window), 0, "REGISTERS"))
		return;
	ok(window.out_length == 1 << 20, "REGISTERS: length");
	ok(window.out_flags == IOSPACE_REGISTERS_MMAP, "REGISTERS: flags");
	ok(!window.out_page_offset, "REGISTERS: page offset");
	ok(!window.out_name[0], "REGISTERS: no name");
	ok(window.out_mmap_offset < 1ULL << 44, "REGISTERS: mmap offset");
	ok(!registers(fd, 0, &again) &&
	   again.out_mmap_offset == window.out_mmap_offset,
	   "REGISTERS: the same again");
	is_errno(registers(fd, 1, &again), ENOENT, "REGISTERS: absent BAR");
	is_errno(registers(fd, 6, &again), ENOENT, "REGISTERS: BAR 6");
	test_all_described();
	is_errno(registers(fd, UINT32_MAX, &again), ENOENT,
		 "REGISTERS: index 2^32 - 1");

	ok(map(fd, window.out_length + page_size, window.out_mmap_offset) ==
	   MAP_FAILED && errno == EINVAL, "mmap: more than the window");
	ok(map(fd, page_size, window.out_mmap_offset + page_size) ==
	   MAP_FAILED && errno == EINVAL, "mmap: inside of the window");
	ok(map(fd, page_size, window.out_mmap_offset + (1ULL << 39)) ==
	   MAP_FAILED && errno == EINVAL, "mmap: absent window");

	edu = edu_map(fd);
	ok(edu_read(edu, EDU_ID) == 0x010000ed, "mapping: identification");
	edu_write(edu, EDU_INVERT, 0x12345678);
	ok(edu_read(edu, EDU_INVERT) == ~0x12345678U, "mapping: write and read");
	edu_write(edu, EDU_FACTORIAL, 10);
	while (edu_read(edu, EDU_STATUS) & 1 && tries++ < 1000)
		sleep_ms(1);
	ok(edu_read(edu, EDU_FACTORIAL) == 3628800, "mapping: factorial");
	is_errno(munmap((void *)(edu + page_size), page_size), 0,
		 "munmap: a part of a window");
	edu_write(edu + 2 * page_size, 0, 0);
	ok(edu_read(edu, EDU_ID) == 0x010000ed, "munmap: the rest stays");
	is_errno(munmap((void *)edu, window.out_length), 0, "munmap: all of it");

	test_access(fd);
	close(fd);
}
