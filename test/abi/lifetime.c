// SPDX-License-Identifier: MIT
/*
 * How things end: killed processes, memory that a device may still write, and
 * the device going away under everybody's hands.
 */
#include "abi.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

static long long free_kib(void)
{
	FILE *file = fopen("/proc/meminfo", "r");
	char line[128];
	long long kib = -1;

	while (kib < 0 && fgets(line, sizeof(line), file))
		sscanf(line, "MemFree: %lld kB", &kib);
	fclose(file);
	return kib;
}

/* A child that calls @work with the device open, and then waits to be killed. */
static pid_t start_child(void (*work)(int fd))
{
	int done[2];
	pid_t child;
	char byte;

	if (pipe(done))
		die("pipe");
	child = fork();
	if (!child) {
		close(done[0]);
		work(open_device(O_RDWR));
		if (write(done[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(done[1]);
	if (read(done[0], &byte, 1) != 1)
		die("child");
	close(done[0]);
	return child;
}

static void kill_child(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void take_32_mib(int fd)
{
	for (int i = 0; i < 32; i++) {
		struct iospace_alloc buffer;

		memset(alloc_mapped(fd, MIB, &buffer), i, MIB);
		if (i % 2)
			free_handle(fd, buffer.out_handle);
	}
}

/*
 * MemFree does not count pages that each CPU keeps at hand, tens of MiB: so
 * several rounds, whose sum would be missing.
 */
static void test_killed(void)
{
	enum { ROUNDS = 8 };
	long long before, missing = 0;
	bool charged = true, returned = true;

	/* What the kernel frees late, of tests before. */
	sleep_ms(500);
	before = free_kib();
	for (int i = 0; i < ROUNDS; i++) {
		pid_t child = start_child(take_32_mib);

		charged &= counter("buffer_bytes") == 32 * MIB &&
			   counter("open_files") == 1;
		kill_child(child);
		returned &= counter_becomes("open_files", 0) &&
			    counter_becomes("buffers", 0) &&
			    counter_becomes("buffer_bytes", 0) &&
			    counter_becomes("held_bytes", 0);
	}
	ok(charged, "SIGKILL: 32 MiB are charged");
	ok(returned, "SIGKILL: all is given back");
	for (int i = 0; i < 100; i++) {
		missing = before - free_kib();
		if (missing < 96 * 1024)
			break;
		sleep_ms(50);
	}
	ok(missing < 96 * 1024, "SIGKILL: MemFree too (%lld KiB missing)", missing);
}

/* Where the child's transfer goes; shared with it. */
static uint64_t *target;

static void start_dma(int fd)
{
	struct iospace_alloc buffer;

	alloc_mapped(fd, 4 * page_size, &buffer);
	*target = buffer.out_dma_addr;
	edu_start(edu_map(fd), buffer.out_dma_addr, EDU_BUFFER_SIZE,
		  EDU_DMA_TO_MEMORY);
}

static void await_transfer(int fd)
{
	volatile uint8_t *edu = edu_map(fd);

	for (int i = 0; i < 500; i++) {
		if (!(edu_read(edu, EDU_DMA_COMMAND) & EDU_DMA_START))
			break;
		sleep_ms(10);
	}
	munmap((void *)edu, 1 << 20);
}

/* What another opener allocates while the transfer runs. */
static void test_others_memory(int fd)
{
	static struct { struct iospace_alloc buffer; uint8_t *bytes; } all[256];
	const int count = sizeof(all) / sizeof(*all);
	const uint64_t length = 4 * page_size;
	bool apart = true, untouched = true;

	for (int i = 0; i < count; i++) {
		all[i].bytes = alloc_mapped(fd, length, &all[i].buffer);
		memset(all[i].bytes, 0x5a, length);
		apart &= all[i].buffer.out_dma_addr + length <= *target ||
			 all[i].buffer.out_dma_addr >= *target + length;
	}
	await_transfer(fd);
	for (int i = 0; i < count; i++) {
		for (uint64_t at = 0; at < length; at++)
			untouched &= all[i].bytes[at] == 0x5a;
		munmap(all[i].bytes, length);
		free_handle(fd, all[i].buffer.out_handle);
	}
	ok(apart, "held back: nobody else is given it");
	ok(untouched, "held back: nobody else's memory is written");
}

static void test_held_back(void)
{
	int fd = open_device(O_RDWR);
	const unsigned long long held = 4 * page_size;
	cpu_set_t one, all;

	target = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (target == MAP_FAILED)
		die("mmap");
	/* On one CPU, so that what is freed there would be given out first. */
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	if (sched_getaffinity(0, sizeof(all), &all) ||
	    sched_setaffinity(0, sizeof(one), &one))
		die("affinity");
	kill_child(start_child(start_dma));
	counter_becomes("open_files", 1);
	ok(counter("held_bytes") == held,
	   "held back: %llu bytes that the device may still write", held);
	ok(counter("buffer_bytes") == held, "held back: and charged");
	test_others_memory(fd);
	sched_setaffinity(0, sizeof(all), &all);
	close(fd);
	ok(counter_becomes("held_bytes", 0) && counter_becomes("buffer_bytes", 0),
	   "held back: until the last close");

	/* The last close stops the device, so there is nothing to wait for. */
	kill_child(start_child(start_dma));
	ok(counter_becomes("buffer_bytes", 0), "last close: nothing is held back");
	sleep_ms(200);
}

static void test_module_in_use(void)
{
	int fd = open_device(O_RDWR);
	struct iospace_alloc buffer;
	void *bytes;

	is_errno(syscall(SYS_delete_module, "iospace", O_NONBLOCK), EAGAIN,
		 "rmmod: refused while open");
	bytes = alloc_mapped(fd, page_size, &buffer);
	close(fd);
	is_errno(syscall(SYS_delete_module, "iospace", O_NONBLOCK), EAGAIN,
		 "rmmod: refused while mapped");
	munmap(bytes, page_size);
}

/* What PCI's own attribute of the function says. */
static int bits_of(const char *attribute)
{
	char path[128], text[16];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s",
		 device.function, attribute);
	if (!read_file(path, text, sizeof(text)))
		die(path);
	return atoi(text);
}

static void test_dma_mask(void)
{
	char path[128], iommu[32];
	int fd;

	snprintf(path, sizeof(path), "/sys/class/misc/%s/dma_mask", device.name);
	fd = open_device(O_RDWR);
	is_errno(write_file(path, device.mask) ? 0 : -1, EBUSY,
		 "dma_mask: fixed while open");
	close(fd);
	is_errno(write_file(path, "0x1234") ? 0 : -1, EINVAL,
		 "dma_mask: no mask");
	is_errno(write_file(path, "0") ? 0 : -1, EINVAL, "dma_mask: 0");
	is_errno(write_file(path, "rubbish") ? 0 : -1, EINVAL,
		 "dma_mask: no number");
	/* An IOMMU can map anything to the lowest page. */
	read_attribute("iommu", iommu, sizeof(iommu));
	if (write_file(path, "0x1"))
		ok(!strcmp(iommu, "translating"), "dma_mask: 1 bit, taken");
	else
		is_errno(-1, EOPNOTSUPP, "dma_mask: 1 bit, refused");
	is_errno(write_file(path, "0xffffffff") ? 0 : -1, 0,
		 "dma_mask: 32 bits");
	ok(counter("dma_mask") == 0xffffffff, "dma_mask: told back");

	/* The next driver finds what a PCI function begins with. */
	is_errno(write_file(path, "0xffffffffffffffff") ? 0 : -1, 0,
		 "dma_mask: 64 bits");
	unbind_device();
	ok(bits_of("dma_mask_bits") == 32 &&
	   bits_of("consistent_dma_mask_bits") == 32,
	   "dma_mask: unbound, it is as it was found");
	bind_device();
}

struct reader {
	int fd;
	_Atomic pid_t thread;
};

static void *read_until_gone(void *argument)
{
	struct reader *reader = argument;
	uint64_t count;

	reader->thread = gettid();
	while (read(reader->fd, &count, 8) == 8)
		;
	return (void *)(long)errno;
}

/* Everything a program may have in hand, and what becomes of it. */
static void test_unbind(void)
{
	int fd = open_device(O_RDWR), second;
	volatile uint8_t *edu = edu_map(fd);
	volatile struct iospace_status *status;
	struct iospace_alloc buffer, unmapped;
	volatile uint8_t *bytes = alloc_mapped(fd, 2 * page_size, &buffer);
	volatile uint8_t *elsewhere;
	struct iospace_info answer;
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	struct reader reader = { .fd = fd };
	struct stat node;
	pthread_t thread;
	uint64_t count;
	void *error;

	alloc(fd, MIB, &unmapped);
	memset((void *)bytes, 0xa5, 2 * page_size);
	status = mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd,
		      IOSPACE_STATUS_OFFSET);
	ok(status != MAP_FAILED && !status->gone, "unbind: not gone yet");
	pthread_create(&thread, NULL, read_until_gone, &reader);
	ok(await_sleep(&reader.thread), "unbind: a read() waits");

	/* The same device by another node has another address space. */
	if (fstat(fd, &node) || mknod("/tmp/iospace", S_IFCHR | 0600, node.st_rdev))
		die("mknod");
	second = open("/tmp/iospace", O_RDWR | O_CLOEXEC);
	if (second == -1)
		die("/tmp/iospace");
	elsewhere = edu_map(second);

	unbind_device();

	ok(status->gone == 1, "unbind: gone");
	ok(edu_read(edu, EDU_ID) == 0xffffffff, "unbind: registers read as ones");
	ok(edu_read(elsewhere, EDU_ID) == 0xffffffff,
	   "unbind: by another node too");
	edu_write(edu, EDU_INVERT, 0);
	ok(!bytes[0] && !bytes[2 * page_size - 1], "unbind: memory reads as zeros");
	bytes[0] = 1;
	pthread_join(thread, &error);
	ok((long)error == ENODEV, "unbind: the waiting read() ends");
	ok(poll(&poll_fd, 1, 0) == 1 && poll_fd.revents == (POLLHUP | POLLERR),
	   "unbind: poll");
	is_errno(read(fd, &count, 8), ENODEV, "unbind: read");
	is_errno(info(fd, &answer), ENODEV, "unbind: INFO");
	is_errno(free_handle(fd, buffer.out_handle), ENODEV, "unbind: FREE");
	ok(map(fd, page_size, buffer.out_mmap_offset) == MAP_FAILED &&
	   errno == ENODEV, "unbind: mmap");
	ok(mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd,
		IOSPACE_STATUS_OFFSET) == MAP_FAILED && errno == ENODEV,
	   "unbind: mmap of the status page");
	is_errno(open("/tmp/iospace", O_RDWR), ENODEV, "unbind: open");

	/* Bound again while the old file is open: they are strangers. */
	bind_device();
	ok(!counter("open_files") && !counter("buffer_bytes"),
	   "bind: begins empty, as %s", device.name);
	munmap((void *)bytes, page_size);
	munmap((void *)(bytes + page_size), page_size);
	munmap((void *)edu, 1 << 20);
	munmap((void *)elsewhere, 1 << 20);
	munmap((void *)status, page_size);
	close(second);
	close(fd);
	unlink("/tmp/iospace");

	fd = open_device(O_RDWR);
	edu = edu_map(fd);
	ok(edu_read(edu, EDU_ID) == 0x010000ed, "bind: works again");
	munmap((void *)edu, 1 << 20);
	close(fd);
}

/* The module's own device, on the platform bus. */
static void test_unbind_own(void)
{
	char link[PATH_MAX] = "", *name;
	int fd = open("/dev/iospace0", O_RDWR | O_CLOEXEC);
	volatile struct iospace_status *status;
	volatile uint8_t *bytes;
	struct iospace_alloc buffer;
	struct iospace_info answer;

	if (fd == -1)
		die("/dev/iospace0");
	if (readlink("/sys/class/misc/iospace0/device", link, sizeof(link) - 1) == -1)
		die("readlink");
	name = strrchr(link, '/') + 1;
	bytes = alloc_mapped(fd, page_size, &buffer);
	memset((void *)bytes, 0xa5, page_size);
	status = mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd,
		      IOSPACE_STATUS_OFFSET);
	if (status == MAP_FAILED)
		die("mmap of the status page");

	if (!write_file("/sys/bus/platform/drivers/iospace/unbind", name))
		die("unbind of iospace0");
	ok(status->gone == 1, "unbind of iospace0: gone");
	ok(!bytes[0] && !bytes[page_size - 1],
	   "unbind of iospace0: memory reads as zeros");
	is_errno(info(fd, &answer), ENODEV, "unbind of iospace0: INFO");
	is_errno(alloc(fd, page_size, &buffer), ENODEV,
		 "unbind of iospace0: ALLOC");
	is_errno(open("/dev/iospace0", O_RDWR), ENOENT,
		 "unbind of iospace0: open");

	/* Its number is free when its last file is closed. */
	munmap((void *)status, page_size);
	munmap((void *)bytes, page_size);
	close(fd);
	if (!write_file("/sys/bus/platform/drivers/iospace/bind", name))
		die("bind of iospace0");
	fd = open("/dev/iospace0", O_RDWR | O_CLOEXEC);
	is_errno(fd == -1 ? -1 : info(fd, &answer), 0,
		 "bind of iospace0: works again");
	close(fd);
}

/* Threads against unbind. Each runs until the device is gone. */
struct race {
	int fd;
	struct iospace_registers window;
	struct iospace_alloc buffer;
	volatile struct iospace_status *status;
	volatile uint8_t *edu;
	volatile uint8_t *bytes;
	void *first_window;
	void *first_buffer;
};

/* Returns the last mapping that mmap() gave. */
static void *race_mmap(struct race *race, void *last, uint64_t offset)
{
	void *next;

	while ((next = map(race->fd, page_size, offset)) != MAP_FAILED) {
		munmap(last, page_size);
		last = next;
	}
	return last;
}

static void *race_map_registers(void *argument)
{
	struct race *race = argument;

	return race_mmap(race, race->first_window, race->window.out_mmap_offset);
}

static void *race_map_buffer(void *argument)
{
	struct race *race = argument;

	return race_mmap(race, race->first_buffer, race->buffer.out_mmap_offset);
}

static void *race_alloc(void *argument)
{
	struct race *race = argument;
	struct iospace_alloc buffer;

	while (!alloc(race->fd, page_size, &buffer) || errno == EDQUOT)
		free_handle(race->fd, buffer.out_handle);
	return errno == ENODEV ? NULL : argument;
}

/* A register read while the status page says "not gone" is the device's. */
static void *race_touch(void *argument)
{
	struct race *race = argument;
	void *wrong = NULL;

	while (!race->status->gone) {
		uint32_t id = edu_read(race->edu, EDU_ID);

		race->bytes[0] = 0xa5;
		if (id != 0x010000ed && !race->status->gone)
			wrong = argument;
	}
	return wrong;
}

static void *race_open(void *argument)
{
	int fd;

	while ((fd = open(device.path, O_RDWR | O_CLOEXEC)) != -1)
		close(fd);
	return errno == ENODEV || errno == ENOENT ? NULL : argument;
}

static void *race_fork(void *argument)
{
	struct race *race = argument;

	while (!race->status->gone) {
		pid_t child = fork();

		if (!child)
			_exit(race->bytes[0] + race->edu[0] < 0);
		if (child > 0)
			waitpid(child, NULL, 0);
	}
	return NULL;
}

/* One interrupt after the other, until one does not come. */
static void *race_read(void *argument)
{
	struct race *race = argument;
	struct iospace_interrupt answer;
	uint64_t count;

	for (;;) {
		edu_write(race->edu, EDU_RAISE, 1);
		if (read(race->fd, &count, 8) != 8)
			return errno == ENODEV ? NULL : argument;
		edu_write(race->edu, EDU_ACK, 0xffffffff);
		edu_read(race->edu, EDU_ID);
		interrupt(race->fd, 0, IOSPACE_INTERRUPT_ENABLE, 0, &answer);
	}
}

static void *race_poll(void *argument)
{
	struct race *race = argument;
	struct pollfd poll_fd = { .fd = race->fd, .events = POLLIN };

	while (poll(&poll_fd, 1, 5000) == 1 && poll_fd.revents == POLLIN)
		;
	return poll_fd.revents == (POLLHUP | POLLERR) ? NULL : argument;
}

static const struct {
	const char *name;
	void *(*run)(void *race);
} racers[] = {
	/* These return the mapping that they got last, the others NULL if good. */
	{ "map registers", race_map_registers },
	{ "map buffer", race_map_buffer },
	{ "alloc", race_alloc },
	{ "touch", race_touch },
	{ "open", race_open },
	{ "fork", race_fork },
	{ "read", race_read },
	{ "poll", race_poll },
};

static bool run_race(int delay)
{
	struct race race = { .fd = open_device(O_RDWR) };
	enum { COUNT = sizeof(racers) / sizeof(*racers) };
	pthread_t threads[COUNT];
	void *results[COUNT];
	uint32_t id;
	uint8_t byte;
	bool good, same;

	race.edu = edu_map(race.fd);
	race.bytes = alloc_mapped(race.fd, page_size, &race.buffer);
	race.status = mmap(NULL, page_size, PROT_READ, MAP_SHARED, race.fd,
			   IOSPACE_STATUS_OFFSET);
	if (registers(race.fd, 0, &race.window))
		die("REGISTERS");
	memset((void *)race.bytes, 0xa5, page_size);
	race.first_window = map(race.fd, page_size, race.window.out_mmap_offset);
	race.first_buffer = map(race.fd, page_size, race.buffer.out_mmap_offset);
	if (race.first_window == MAP_FAILED || race.first_buffer == MAP_FAILED)
		die("mmap");

	for (int i = 0; i < COUNT; i++)
		pthread_create(&threads[i], NULL, racers[i].run, &race);
	sleep_ms(delay);
	unbind_device();
	for (int i = 0; i < COUNT; i++)
		pthread_join(threads[i], &results[i]);

	/* What mmap() gave last must have been taken away as well. */
	id = *(volatile uint32_t *)results[0];
	byte = ((volatile uint8_t *)results[1])[page_size - 1];
	/* Memory that has gone back may hold zeros: are both the file's own page? */
	race.bytes[1] = 0x77;
	same = ((volatile uint8_t *)results[1])[1] == 0x77;
	good = id == 0xffffffff && !byte && same;
	if (!good)
		printf("# id %08x byte %02x page %d\n", id, byte, same);
	for (int i = 2; i < COUNT; i++) {
		if (results[i])
			printf("# %s\n", racers[i].name);
		good &= !results[i];
	}
	munmap(results[0], page_size);
	munmap(results[1], page_size);
	munmap((void *)race.edu, 1 << 20);
	munmap((void *)race.bytes, page_size);
	munmap((void *)race.status, page_size);
	close(race.fd);
	bind_device();
	return good;
}

static void test_races(void)
{
	enum { ROUNDS = 20 };
	bool good = true;
	volatile uint8_t *edu;
	int fd;

	for (int i = 0; i < ROUNDS && good; i++)
		good = run_race(20 + i * 7);
	ok(good, "unbind: %d times, against mmap, ioctl, access, open, fork, "
	   "read, poll", ROUNDS);

	/* The last interrupt may have come too late to be acknowledged. */
	fd = open_device(O_RDWR);
	edu = edu_map(fd);
	edu_write(edu, EDU_ACK, 0xffffffff);
	edu_read(edu, EDU_ID);
	munmap((void *)edu, 1 << 20);
	close(fd);
	ok(counter_becomes("buffers", 0), "unbind: nothing is left");
}

void test_lifetime(void)
{
	test_killed();
	test_held_back();
	test_module_in_use();
	test_dma_mask();
	test_unbind();
	test_unbind_own();
	test_races();
}
