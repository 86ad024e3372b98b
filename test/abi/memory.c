// SPDX-License-Identifier: MIT
/* Buffers and mappings: what is refused, what is charged, what lives how long. */
#include "abi.h"

#include <stdlib.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define PARAMETERS "/sys/module/iospace/parameters/"
#define NUMBER(name)                                       \
	{                                                  \
		#name, offsetof(struct iospace_info, out_##name), \
		sizeof(((struct iospace_info *)0)->out_##name)  \
	}

/* The members of INFO that sysfs shows as numbers. */
static const struct {
	const char *name;
	size_t offset;
	size_t bytes;
} numbers[] = {
	NUMBER(dma_mask), NUMBER(coherent), NUMBER(page_size),
	NUMBER(cache_line), NUMBER(registers), NUMBER(vectors),
	NUMBER(arenas), NUMBER(arena_max_blocks), NUMBER(arena_reserve_bytes),
	NUMBER(max_file_bytes), NUMBER(max_total_bytes),
	NUMBER(max_converted_bytes), NUMBER(max_segment_bytes),
	NUMBER(max_contiguous_bytes), NUMBER(pool_start), NUMBER(pool_bytes),
};

/* All types that a buffer can have. */
#define ALLOCATED                                                              \
	(1 << IOSPACE_MEMORY_CACHED | 1 << IOSPACE_MEMORY_WRITECOMBINE |       \
	 1 << IOSPACE_MEMORY_UNCACHED | 1 << IOSPACE_MEMORY_COHERENT)

/* The bits of the names in an attribute. */
static uint32_t types_of(const char *attribute)
{
	char text[128], *name, *rest = text;
	uint32_t bits = 0;

	read_attribute(attribute, text, sizeof(text));
	while ((name = strsep(&rest, " "))) {
		for (uint32_t i = IOSPACE_MEMORY_CACHED;
		     i <= IOSPACE_MEMORY_COHERENT; i++)
			bits |= !strcmp(memory_names[i], name) ? 1U << i : 0;
	}
	return bits;
}

static void test_info(int fd)
{
	struct iospace_info answer;
	char text[64];

	if (!is_errno(info(fd, &answer), 0, "INFO"))
		return;
	ok(answer.out_version == IOSPACE_VERSION, "INFO: version");
	ok(answer.out_bus == IOSPACE_BUS_PCI, "INFO: bus");
	ok(answer.out_page_size == page_size, "INFO: page size");
	ok(types_of("memory_types") == answer.out_memory_types &&
	   answer.out_memory_types & 1 << IOSPACE_MEMORY_COHERENT &&
	   answer.out_memory_types & 1 << IOSPACE_MEMORY_CACHED &&
	   !(answer.out_memory_types & ~ALLOCATED), "INFO: memory types as in sysfs");
	ok(answer.out_registers == 1, "INFO: registers: one, of six BARs");
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		const uint8_t *member = (uint8_t *)&answer + numbers[i].offset;
		uint64_t value = numbers[i].bytes == 8 ? *(uint64_t *)member :
							 *(uint32_t *)member;

		ok(value == counter(numbers[i].name), "INFO: %s as in sysfs",
		   numbers[i].name);
	}
	ok(answer.out_max_contiguous_bytes >= MIB &&
	   answer.out_max_segment_bytes >= (uint64_t)page_size,
	   "INFO: longest pieces");
	read_attribute("iommu", text, sizeof(text));
	ok(!strcmp(text, ((const char *[]){ "none", "identity", "translating" })
		   [answer.out_iommu]), "INFO: IOMMU (%s) as in sysfs", text);
	ok(!strcmp(answer.out_device, device.function), "INFO: device");
}

static void test_refused_allocations(int fd)
{
	struct iospace_info limits;
	static const struct {
		const char *name;
		uint32_t memory;
		uint64_t length;
		int expected;
	} rows[] = {
		{ "no type", 0, 1, EINVAL },
		{ "writethrough", IOSPACE_MEMORY_WRITETHROUGH, 1, EOPNOTSUPP },
		{ "device", IOSPACE_MEMORY_DEVICE, 1, EOPNOTSUPP },
		{ "type 7", 7, 1, EINVAL },
		{ "type 37", 37, 1, EINVAL },
		{ "type 2^32 - 1", UINT32_MAX, 1, EINVAL },
		{ "length 0", IOSPACE_MEMORY_COHERENT, 0, EINVAL },
		{ "length 2^64 - 1", IOSPACE_MEMORY_COHERENT, UINT64_MAX, EDQUOT },
		{ "length 2^64 - 4096", IOSPACE_MEMORY_COHERENT, -4096ULL, EDQUOT },
		{ "length 2^63", IOSPACE_MEMORY_COHERENT, 1ULL << 63, EDQUOT },
		{ "length 2^40", IOSPACE_MEMORY_COHERENT, 1ULL << 40, EDQUOT },
	};
	struct iospace_alloc buffer;
	int ret;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		buffer = (struct iospace_alloc){
			.size = sizeof(buffer),
			.memory = rows[i].memory,
			.length = rows[i].length,
		};
		is_errno(ioctl(fd, IOSPACE_ALLOC, &buffer), rows[i].expected,
			 "ALLOC: %s", rows[i].name);
	}

	if (info(fd, &limits))
		die("INFO");
	for (uint32_t memory = 1; memory <= IOSPACE_MEMORY_COHERENT; memory++) {
		is_errno(alloc_as(fd, (struct iospace_alloc){
			.memory = memory, .length = 1 }, &buffer),
			 limits.out_memory_types & 1U << memory ? 0 : EOPNOTSUPP,
			 "ALLOC: type %u, as INFO tells", memory);
		if (limits.out_memory_types & 1U << memory)
			free_handle(fd, buffer.out_handle);
	}
	is_errno(alloc(fd, limits.out_max_file_bytes + 1, &buffer), EDQUOT,
		 "ALLOC: a byte over the file's limit");
	/* More than the page allocator gives in one piece; perhaps CMA has it. */
	ret = alloc(fd, limits.out_max_file_bytes, &buffer);
	ok(!ret || errno == ENOMEM, "ALLOC: all of the file's limit: %s",
	   ret ? "ENOMEM" : "given");
	if (!ret)
		free_handle(fd, buffer.out_handle);
	ok(counter("buffer_bytes") == 0, "ALLOC: what was refused is not charged");
}

static void test_handles(int fd)
{
	struct iospace_alloc buffer, other;
	int second = open_device(O_RDWR);

	if (alloc(fd, 1, &buffer) || alloc(second, 1, &other))
		die("ALLOC");
	ok(buffer.out_handle, "ALLOC: the handle is not 0");
	ok(buffer.out_length == (uint64_t)page_size, "ALLOC: length is whole pages");
	ok(buffer.out_memory == IOSPACE_MEMORY_COHERENT, "ALLOC: memory in effect");
	ok(buffer.out_mmap_offset && buffer.out_mmap_offset < 1ULL << 44 &&
	   buffer.out_mmap_offset % page_size == 0, "ALLOC: mmap offset");
	ok(buffer.out_dma_addr + page_size - 1 <= counter("dma_mask"),
	   "ALLOC: the device can reach it");

	is_errno(free_handle(fd, buffer.out_handle), 0, "FREE");
	is_errno(free_handle(fd, buffer.out_handle), ENOENT, "FREE: twice");
	is_errno(free_handle(fd, other.out_handle), ENOENT,
		 "FREE: handle of another file");
	ok(map(fd, page_size, other.out_mmap_offset) == MAP_FAILED &&
	   errno == EINVAL, "mmap: buffer of another file");
	is_errno(free_handle(fd, UINT32_MAX), ENOENT, "FREE: handle 2^32 - 1");
	is_errno(free_handle(second, other.out_handle), 0, "FREE: by its own file");
	close(second);
}

/* All sizes at once: each has its own offset, zeros, and its own bytes. */
static void test_many(int fd)
{
	static struct { struct iospace_alloc buffer; uint8_t *bytes; } all[600];
	bool zero = true, own = true, apart = true;
	const int count = sizeof(all) / sizeof(*all);

	for (int i = 0; i < count; i++) {
		uint64_t length = (i % 7 * 3 + 1) * page_size;

		all[i].bytes = alloc_mapped(fd, length, &all[i].buffer);
		for (uint64_t at = 0; at < length; at += 64)
			zero &= !all[i].bytes[at];
		memset(all[i].bytes, i, length);
	}
	for (int i = 0; i < count; i++) {
		own &= all[i].bytes[0] == (uint8_t)i &&
		       all[i].bytes[all[i].buffer.out_length - 1] == (uint8_t)i;
		for (int j = 0; j < i; j++) {
			struct iospace_alloc *a = &all[i].buffer, *b = &all[j].buffer;

			apart &= a->out_mmap_offset + a->out_length <= b->out_mmap_offset ||
				 b->out_mmap_offset + b->out_length <= a->out_mmap_offset;
		}
	}
	ok(zero, "ALLOC: memory is zero");
	ok(own, "ALLOC: %d buffers do not overlap", count);
	ok(apart, "ALLOC: nor do their offsets");
	for (int i = 0; i < count; i++) {
		munmap(all[i].bytes, all[i].buffer.out_length);
		free_handle(fd, all[i].buffer.out_handle);
	}
	ok(!counter("buffers"), "FREE: all are gone");
}

static void test_refused_mappings(int fd)
{
	struct iospace_alloc buffer;
	uint64_t three = 3 * page_size;
	uint8_t *bytes;

	if (alloc(fd, three, &buffer))
		die("ALLOC");

	const struct {
		const char *name;
		uint64_t length;
		int protection;
		int flags;
		uint64_t offset;
		int expected;
	} rows[] = {
		{ "buffer", three, PROT_READ | PROT_WRITE, MAP_SHARED,
		  buffer.out_mmap_offset, 0 },
		{ "its first page", page_size, PROT_READ, MAP_SHARED,
		  buffer.out_mmap_offset, 0 },
		{ "no access", three, PROT_NONE, MAP_SHARED,
		  buffer.out_mmap_offset, 0 },
		{ "one page too long", three + page_size, PROT_READ, MAP_SHARED,
		  buffer.out_mmap_offset, EINVAL },
		{ "from its second page", page_size, PROT_READ, MAP_SHARED,
		  buffer.out_mmap_offset + page_size, EINVAL },
		{ "the page after it", page_size, PROT_READ, MAP_SHARED,
		  buffer.out_mmap_offset + 3 * page_size, EINVAL },
		{ "the page before it", page_size, PROT_READ, MAP_SHARED,
		  buffer.out_mmap_offset - page_size, EINVAL },
		{ "offset 2^44", page_size, PROT_READ, MAP_SHARED, 1ULL << 44,
		  EINVAL },
		{ "offset 2^63 - 2^16", page_size, PROT_READ, MAP_SHARED,
		  (1ULL << 63) - (1 << 16), EINVAL },
		{ "MAP_PRIVATE", three, PROT_READ, MAP_PRIVATE,
		  buffer.out_mmap_offset, EINVAL },
		{ "MAP_PRIVATE, writable", three, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE, buffer.out_mmap_offset, EINVAL },
		{ "PROT_EXEC", three, PROT_READ | PROT_EXEC, MAP_SHARED,
		  buffer.out_mmap_offset, EINVAL },
		{ "status page", page_size, PROT_READ, MAP_SHARED,
		  IOSPACE_STATUS_OFFSET, 0 },
		{ "status page, writable", page_size, PROT_READ | PROT_WRITE,
		  MAP_SHARED, IOSPACE_STATUS_OFFSET, EACCES },
		{ "status page, private", page_size, PROT_READ, MAP_PRIVATE,
		  IOSPACE_STATUS_OFFSET, EINVAL },
		{ "two status pages", 2 * page_size, PROT_READ, MAP_SHARED,
		  IOSPACE_STATUS_OFFSET, EINVAL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		void *at = mmap(NULL, rows[i].length, rows[i].protection,
				rows[i].flags, fd, rows[i].offset);

		is_errno(at == MAP_FAILED ? -1 : 0, rows[i].expected, "mmap: %s",
			 rows[i].name);
		if (at != MAP_FAILED)
			munmap(at, rows[i].length);
	}

	bytes = map(fd, three, buffer.out_mmap_offset);
	is_errno(mprotect(bytes, three, PROT_READ | PROT_EXEC), EACCES,
		 "mprotect: to executable");
	ok(mremap(bytes, three, three + page_size, MREMAP_MAYMOVE) == MAP_FAILED,
	   "mremap: cannot grow");
	is_errno(munmap(bytes + page_size, page_size), 0,
		 "munmap: a part of a buffer");
	bytes[0] = bytes[2 * page_size] = 1;
	munmap(bytes, three);
	free_handle(fd, buffer.out_handle);
	ok(!counter("buffers"), "munmap: the rest, and the buffer is gone");
}

static void test_read_only(void)
{
	int fd = open_device(O_RDONLY);
	struct iospace_register_access access = {
		.size = sizeof(access),
		.flags = IOSPACE_REGISTER_WRITE,
		.width = 4,
		.offset = EDU_INVERT,
	};
	struct iospace_alloc buffer;
	void *bytes;

	if (alloc(fd, page_size, &buffer))
		die("ALLOC");
	ok(map(fd, page_size, buffer.out_mmap_offset) == MAP_FAILED &&
	   errno == EACCES, "O_RDONLY: writable mapping");
	bytes = mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd,
		     buffer.out_mmap_offset);
	ok(bytes != MAP_FAILED, "O_RDONLY: readable mapping");
	is_errno(mprotect(bytes, page_size, PROT_READ | PROT_WRITE), EACCES,
		 "O_RDONLY: mprotect to writable");
	munmap(bytes, page_size);
	is_errno(ioctl(fd, IOSPACE_REGISTER_ACCESS, &access), EACCES,
		 "O_RDONLY: REGISTER_ACCESS that writes");
	free_handle(fd, buffer.out_handle);
	close(fd);
}

/* A kernel that takes hold of pages works on them around the mapping's type. */
static void test_not_pinned(int fd)
{
	struct iospace_info machine;
	int pipes[2];

	if (info(fd, &machine) || pipe(pipes))
		die("INFO, pipe");
	for (uint32_t memory = IOSPACE_MEMORY_WRITECOMBINE;
	     memory <= IOSPACE_MEMORY_COHERENT; memory++) {
		struct iospace_alloc buffer;
		struct iovec bytes = { .iov_len = 16 };

		if (!(machine.out_memory_types & 1U << memory))
			continue;
		if (alloc_as(fd, (struct iospace_alloc){
			.memory = memory, .length = 2 * page_size }, &buffer))
			die("ALLOC");
		bytes.iov_base = map(fd, buffer.out_length,
				     buffer.out_mmap_offset);
		memset(bytes.iov_base, 0x5a, buffer.out_length);
		is_errno(vmsplice(pipes[1], &bytes, 1, 0), EFAULT,
			 "type %u: its pages cannot be pinned", memory);
		is_errno(madvise(bytes.iov_base, page_size, MADV_DONTNEED),
			 EINVAL, "type %u: nor taken out", memory);
		munmap(bytes.iov_base, buffer.out_length);
		free_handle(fd, buffer.out_handle);
	}
	close(pipes[0]);
	close(pipes[1]);
}

static void test_free_while_mapped(int fd)
{
	struct iospace_alloc buffer;
	uint8_t *bytes = alloc_mapped(fd, 4 * page_size, &buffer);

	memset(bytes, 0x5a, 4 * page_size);
	is_errno(free_handle(fd, buffer.out_handle), 0, "FREE: while mapped");
	ok(counter("buffer_bytes") == 4ULL * page_size,
	   "FREE: it stays charged while mapped");
	ok(map(fd, page_size, buffer.out_mmap_offset) == MAP_FAILED &&
	   errno == EINVAL, "FREE: it cannot be mapped again");
	ok(bytes[0] == 0x5a && bytes[4 * page_size - 1] == 0x5a,
	   "FREE: its bytes stay while mapped");
	munmap(bytes, 4 * page_size);
	ok(!counter("buffer_bytes"), "FREE: and it goes with its last mapping");
}

/* A child's mapping keeps file, buffer and bytes. */
static void test_fork(void)
{
	int fd = open_device(O_RDWR), go[2], status = -1;
	struct iospace_alloc buffer;
	volatile uint8_t *bytes = alloc_mapped(fd, page_size, &buffer);
	pid_t child;

	bytes[0] = 1;
	if (pipe(go))
		die("pipe");
	child = fork();
	if (!child) {
		char byte;

		close(fd);
		close(go[1]);
		bytes[1] = bytes[0] + 1;
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		_exit(bytes[0] == 1 && bytes[1] == 2 && bytes[2] == 3 ? 0 : 2);
	}
	for (int i = 0; i < 5000 && bytes[1] != 2; i++)
		sleep_ms(1);
	ok(bytes[1] == 2, "fork: parent sees what the child writes");
	bytes[2] = 3;
	munmap((void *)bytes, page_size);
	close(fd);
	ok(counter("open_files") == 1 &&
	   counter("buffer_bytes") == (unsigned long long)page_size,
	   "fork: the child's mapping keeps file and buffer");
	if (write(go[1], "", 1) != 1 || waitpid(child, &status, 0) != child)
		die("fork");
	ok(status == 0, "fork: and its bytes");
	close(go[0]);
	close(go[1]);
	ok(counter_becomes("open_files", 0) && counter_becomes("buffer_bytes", 0),
	   "fork: all is gone with the child");
}

static void set_limit(const char *path, uint64_t bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	if (!write_file(path, text))
		die(path);
}

/* More than there is, below all limits: an answer, and no line in the log. */
static void test_no_memory(int fd)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct iospace_alloc buffer;
	char line[8192];

	if (log == -1 || lseek(log, 0, SEEK_END) == -1)
		die("/dev/kmsg");
	set_limit(PARAMETERS "max_file_bytes", 1ULL << 40);
	set_limit(PARAMETERS "max_total_bytes", 1ULL << 40);
	is_errno(alloc(fd, 1ULL << 36, &buffer), ENOMEM, "ALLOC: 2^36 bytes");
	is_errno(alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = 1ULL << 36 }, &buffer),
		 ENOMEM, "ALLOC: 2^36 bytes, cached");
	ok(!counter("buffer_bytes"), "ALLOC: what there is not is not charged");
	is_errno(read(log, line, sizeof(line)), EAGAIN,
		 "ALLOC: the kernel says nothing about it");
	close(log);
}

static void test_limits(void)
{
	int first = open_device(O_RDWR), second = open_device(O_RDWR);
	struct iospace_info limits, lowered;
	struct iospace_alloc a, b;

	if (info(first, &limits))
		die("INFO");
	test_no_memory(first);
	set_limit(PARAMETERS "max_file_bytes", 4 * page_size);
	set_limit(PARAMETERS "max_total_bytes", 6 * page_size);

	is_errno(alloc(first, 3 * page_size, &a), 0, "limits: below both");
	is_errno(alloc(first, page_size + 1, &b), EDQUOT,
		 "limits: over the file's, counted in pages");
	is_errno(alloc(second, 4 * page_size, &b), EDQUOT,
		 "limits: over that of all files");
	is_errno(alloc(second, 3 * page_size, &b), 0, "limits: exactly that");
	is_errno(alloc(first, 1, &b), EDQUOT, "limits: nothing is left");
	free_handle(first, a.out_handle);
	is_errno(alloc(first, 1, &b), 0, "limits: FREE makes room");
	if (!info(first, &lowered))
		ok(lowered.out_max_file_bytes == 4ULL * page_size,
		   "limits: INFO tells the new one");

	set_limit(PARAMETERS "max_file_bytes", limits.out_max_file_bytes);
	set_limit(PARAMETERS "max_total_bytes", limits.out_max_total_bytes);
	close(first);
	close(second);
}

static void test_own_device(void)
{
	int fd = open("/dev/iospace0", O_RDWR | O_CLOEXEC);
	struct iospace_info answer;
	struct iospace_interrupt vector;
	struct iospace_registers window;
	struct iospace_alloc buffer;
	uint8_t *bytes;
	uint64_t count;

	if (fd == -1)
		die("/dev/iospace0");
	is_errno(info(fd, &answer), 0, "iospace0: INFO");
	ok(answer.out_bus == IOSPACE_BUS_NONE && !answer.out_vectors &&
	   !answer.out_registers && !answer.out_device[0], "iospace0: no hardware");
	ok(answer.out_dma_mask == UINT64_MAX, "iospace0: reaches everything");
	is_errno(registers(fd, 0, &window), ENOENT, "iospace0: no registers");
	is_errno(interrupt(fd, 0, 0, 0, &vector), ENOENT, "iospace0: no vector");
	is_errno(read(fd, &count, sizeof(count)), EOPNOTSUPP,
		 "iospace0: no read()");
	bytes = alloc_mapped(fd, page_size, &buffer);
	bytes[0] = 1;
	ok(bytes[0] == 1, "iospace0: memory");
	munmap(bytes, page_size);
	close(fd);
}

void test_memory(void)
{
	int fd = open_device(O_RDWR);

	test_info(fd);
	test_refused_allocations(fd);
	test_handles(fd);
	test_many(fd);
	test_refused_mappings(fd);
	test_read_only();
	test_not_pinned(fd);
	test_free_while_mapped(fd);
	close(fd);
	test_fork();
	test_limits();
	test_own_device();
}
