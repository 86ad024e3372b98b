// SPDX-License-Identifier: MIT
/*
 * Tests of the contract, uapi/iospace.h, against the module itself.
 *
 * Needs: root, the module loaded, a QEMU edu function bound to it (given by -d,
 * else found by its identification), and nobody else who uses it. Writes TAP,
 * and exits with 1 if anything was not as it must be.
 */
#include "abi.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

struct device device;
long page_size;

const char *const memory_names[] = {
	[IOSPACE_MEMORY_CACHED] = "cached",
	[IOSPACE_MEMORY_WRITECOMBINE] = "writecombine",
	[IOSPACE_MEMORY_UNCACHED] = "uncached",
	[IOSPACE_MEMORY_WRITETHROUGH] = "writethrough",
	[IOSPACE_MEMORY_COHERENT] = "coherent",
};

static int results;
static int failures;

static void report(bool good, const char *format, va_list arguments)
{
	printf("%sok %d - ", good ? "" : "not ", ++results);
	vprintf(format, arguments);
	printf("\n");
	fflush(stdout);
	failures += !good;
}

bool ok(bool good, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	report(good, format, arguments);
	va_end(arguments);
	return good;
}

bool is_errno(int result, int expected, const char *format, ...)
{
	int got = result == -1 ? errno : 0;
	va_list arguments;

	va_start(arguments, format);
	report(got == expected, format, arguments);
	va_end(arguments);
	if (got != expected)
		printf("# expected %s, got %s\n",
		       strerrorname_np(expected) ?: "success",
		       strerrorname_np(got) ?: "success");
	return got == expected;
}

void skip(const char *format, ...)
{
	va_list arguments;

	printf("ok %d # SKIP ", ++results);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
}

void die(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

void sleep_ms(long ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&time, &time) == -1 && errno == EINTR)
		;
}

bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	int error = errno;

	if (fd >= 0)
		close(fd);
	errno = error;
	return good;
}

bool read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd >= 0 ? read(fd, text, size - 1) : -1;

	if (fd >= 0)
		close(fd);
	if (length < 0)
		return false;
	text[length] = 0;
	text[strcspn(text, "\n")] = 0;
	return true;
}

bool is_bounced(void)
{
	char line[1024];

	if (!read_file("/proc/cmdline", line, sizeof(line)))
		die("/proc/cmdline");
	return strstr(line, "swiotlb=force");
}

void read_attribute(const char *name, char *text, size_t size)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/misc/%s/%s", device.name, name);
	if (!read_file(path, text, size))
		die(path);
}

unsigned long long counter(const char *name)
{
	char text[32];

	read_attribute(name, text, sizeof(text));
	return strtoull(text, NULL, 0);
}

bool counter_becomes(const char *name, unsigned long long value)
{
	for (int i = 0; i < 200; i++) {
		if (counter(name) == value)
			return true;
		sleep_ms(10);
	}
	printf("# %s is %llu, not %llu\n", name, counter(name), value);
	return false;
}

static bool is_edu(const char *function)
{
	char path[128], vendor[16], id[16];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor", function);
	if (!read_file(path, vendor, sizeof(vendor)))
		return false;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device", function);
	return read_file(path, id, sizeof(id)) && !strcmp(vendor, "0x1234") &&
	       !strcmp(id, "0x11e8");
}

/* Looks for an iospace device of the function, or of any edu function. */
bool find_device(const char *function)
{
	DIR *directory = opendir("/sys/class/misc");
	struct dirent *entry;
	bool found = false;

	while (!found && (entry = readdir(directory))) {
		char path[300], name[64];

		if (strncmp(entry->d_name, "iospace", 7))
			continue;
		snprintf(path, sizeof(path), "/sys/class/misc/%s/device_name",
			 entry->d_name);
		if (!read_file(path, name, sizeof(name)))
			continue;
		if (function ? strcmp(name, function) : !is_edu(name))
			continue;
		found = true;
		snprintf(device.name, sizeof(device.name), "%.31s", entry->d_name);
		snprintf(device.path, sizeof(device.path), "/dev/%s", device.name);
		snprintf(device.function, sizeof(device.function), "%.63s", name);
	}
	closedir(directory);
	return found;
}

bool await_sleep(_Atomic pid_t *thread)
{
	char path[64], stat[512];

	for (int i = 0; i < 500; i++) {
		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", *thread);
		/* "TID (name) S ..." */
		if (*thread && read_file(path, stat, sizeof(stat)) &&
		    strrchr(stat, ')')[2] == 'S')
			return true;
		sleep_ms(10);
	}
	printf("# the thread does not wait\n");
	return false;
}

void unbind_device(void)
{
	if (!write_file("/sys/bus/pci/drivers/iospace/unbind", device.function))
		die("unbind");
}

void bind_device(void)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override",
		 device.function);
	if (!write_file(path, "iospace") ||
	    !write_file("/sys/bus/pci/drivers/iospace/bind", device.function))
		die("bind");
	if (!find_device(device.function))
		die("find the device again");
	snprintf(path, sizeof(path), "/sys/class/misc/%s/dma_mask", device.name);
	if (!write_file(path, device.mask))
		die(path);
}

int open_device(int flags)
{
	int fd = open(device.path, flags | O_CLOEXEC);

	if (fd == -1)
		die(device.path);
	return fd;
}

int info(int fd, struct iospace_info *info)
{
	*info = (struct iospace_info){ .size = sizeof(*info) };
	return ioctl(fd, IOSPACE_INFO, info);
}

int alloc(int fd, uint64_t length, struct iospace_alloc *alloc)
{
	*alloc = (struct iospace_alloc){
		.size = sizeof(*alloc),
		.memory = IOSPACE_MEMORY_COHERENT,
		.length = length,
	};
	return ioctl(fd, IOSPACE_ALLOC, alloc);
}

int alloc_as(int fd, struct iospace_alloc ask, struct iospace_alloc *alloc)
{
	*alloc = ask;
	alloc->size = sizeof(*alloc);
	return ioctl(fd, IOSPACE_ALLOC, alloc);
}

bool segments_keep(int fd, const struct iospace_alloc *buffer)
{
	uint64_t align = buffer->align > (uint64_t)page_size ? buffer->align :
							       (uint64_t)page_size;
	struct iospace_segments call = {
		.size = sizeof(call),
		.handle = buffer->out_handle,
		.count = buffer->out_segments,
	};
	struct iospace_segment *all = calloc(call.count, sizeof(*all));
	uint64_t sum = 0;
	bool good;

	call.segments = (uintptr_t)all;
	good = !ioctl(fd, IOSPACE_SEGMENTS, &call) &&
	       call.out_count == buffer->out_segments &&
	       all[0].dma_addr == buffer->out_dma_addr;
	for (uint32_t i = 0; good && i < call.out_count; i++) {
		uint64_t first = all[i].dma_addr;
		uint64_t last = first + all[i].length - 1;

		sum += all[i].length;
		good = all[i].length && !(first % align) &&
		       (!buffer->boundary ||
			first / buffer->boundary == last / buffer->boundary) &&
		       (!buffer->address_bits || buffer->address_bits == 64 ||
			!(last >> buffer->address_bits));
	}
	free(all);
	return good && sum == buffer->out_length;
}

int segments(int fd, uint32_t handle, uint32_t first, uint32_t count, void *to,
	     struct iospace_segments *answer)
{
	*answer = (struct iospace_segments){
		.size = sizeof(*answer),
		.handle = handle,
		.first = first,
		.count = count,
		.segments = (uintptr_t)to,
	};
	return ioctl(fd, IOSPACE_SEGMENTS, answer);
}

uint64_t address_of(int fd, uint32_t handle, uint64_t offset, uint64_t *room)
{
	struct iospace_segments answer;
	struct iospace_segment segment;

	for (uint32_t i = 0; !segments(fd, handle, i, 1, &segment, &answer); i++) {
		if (offset < segment.length) {
			if (room)
				*room = segment.length - offset;
			return segment.dma_addr + offset;
		}
		offset -= segment.length;
	}
	die("SEGMENTS");
	return 0;
}

int sync_range(int fd, uint32_t handle, uint32_t flags, uint64_t offset,
	       uint64_t length)
{
	struct iospace_sync sync = {
		.size = sizeof(sync),
		.flags = flags,
		.handle = handle,
		.offset = offset,
		.length = length,
	};

	return ioctl(fd, IOSPACE_SYNC, &sync);
}

bool all_zero(const void *bytes, uint64_t length)
{
	const uint64_t *words = bytes;

	for (uint64_t i = 0; i < length / sizeof(*words); i++) {
		if (words[i])
			return false;
	}
	return true;
}

int free_handle(int fd, uint32_t handle)
{
	struct iospace_free free = { .size = sizeof(free), .handle = handle };

	return ioctl(fd, IOSPACE_FREE, &free);
}

int registers(int fd, uint32_t index, struct iospace_registers *registers)
{
	*registers = (struct iospace_registers){
		.size = sizeof(*registers),
		.index = index,
	};
	return ioctl(fd, IOSPACE_REGISTERS, registers);
}

int interrupt(int fd, uint32_t vector, uint32_t flags, int eventfd,
	      struct iospace_interrupt *interrupt)
{
	*interrupt = (struct iospace_interrupt){
		.size = sizeof(*interrupt),
		.flags = flags,
		.vector = vector,
		.eventfd = eventfd,
	};
	return ioctl(fd, IOSPACE_INTERRUPT, interrupt);
}

void *map(int fd, uint64_t length, uint64_t offset)
{
	return mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
}

void *alloc_mapped_as(int fd, struct iospace_alloc ask,
		      struct iospace_alloc *buffer)
{
	void *address;

	if (alloc_as(fd, ask, buffer))
		die("ALLOC");
	address = map(fd, buffer->out_length, buffer->out_mmap_offset);
	if (address == MAP_FAILED)
		die("mmap of a buffer");
	return address;
}

void *alloc_mapped(int fd, uint64_t length, struct iospace_alloc *buffer)
{
	return alloc_mapped_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_COHERENT, .length = length }, buffer);
}

void *alloc_cached(int fd, uint64_t length, struct iospace_alloc *buffer)
{
	return alloc_mapped_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = length }, buffer);
}

void drop(int fd, void *address, const struct iospace_alloc *buffer)
{
	munmap(address, buffer->out_length);
	free_handle(fd, buffer->out_handle);
}

static const struct {
	const char *name;
	void (*run)(void);
} groups[] = {
	{ "forms", test_forms },
	{ "memory", test_memory },
	{ "cached", test_cached },
	{ "dmabuf", test_dmabuf },
	{ "placement", test_placement },
	{ "registers", test_registers },
	{ "interrupts", test_interrupts },
	{ "user", test_user },
	{ "transfer", test_transfer },
	{ "compat", test_compat },
	{ "pool", test_pool },
	{ "converted", test_converted },
	{ "arena", test_arena },
	{ "lifetime", test_lifetime },
	{ "faults", test_faults },
};

static bool is_wanted(const char *name, char **names)
{
	/* Faults are for the debug kernel, and are asked for by name. */
	if (!*names)
		return strcmp(name, "faults");
	for (; *names; names++) {
		if (!strcmp(*names, name))
			return true;
	}
	return false;
}

int main(int count, char **arguments)
{
	const char *path = NULL;
	int option;

	while ((option = getopt(count, arguments, "d:")) == 'd')
		path = optarg;
	if (option != -1) {
		fprintf(stderr, "usage: %s [-d /dev/iospaceN] [GROUP...]\n",
			arguments[0]);
		return 2;
	}

	page_size = sysconf(_SC_PAGESIZE);
	if (path) {
		snprintf(device.path, sizeof(device.path), "%s", path);
		snprintf(device.name, sizeof(device.name), "%.31s",
			 strrchr(path, '/') + 1);
		read_attribute("device_name", device.function,
			       sizeof(device.function));
	} else if (!find_device(NULL)) {
		errno = ENODEV;
		die("no edu function is bound to iospace");
	}
	read_attribute("dma_mask", device.mask, sizeof(device.mask));
	printf("# %s is %s\n", device.path, device.function);

	for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++) {
		if (!is_wanted(groups[i].name, arguments + optind))
			continue;
		printf("# %s\n", groups[i].name);
		groups[i].run();
	}
	printf("1..%d\n", results);
	return failures != 0;
}
