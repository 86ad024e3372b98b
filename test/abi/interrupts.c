// SPDX-License-Identifier: MIT
/*
 * Interrupts: counts, read(), poll(), eventfds, and the masking of a level-
 * triggered line. The same tests run with MSI and (pci=nomsi) with INTx.
 */
#include "abi.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

enum {
	ENABLE = IOSPACE_INTERRUPT_ENABLE,
	DISABLE = IOSPACE_INTERRUPT_DISABLE,
	EVENTFD = IOSPACE_INTERRUPT_EVENTFD,
	LEVEL = IOSPACE_INTERRUPT_LEVEL,
	MASKED = IOSPACE_INTERRUPT_MASKED,
};

static uint64_t count_of(int fd)
{
	struct iospace_interrupt answer;

	return interrupt(fd, 0, 0, 0, &answer) ? UINT64_MAX : answer.out_count;
}

static uint32_t flags_of(int fd)
{
	struct iospace_interrupt answer;

	return interrupt(fd, 0, 0, 0, &answer) ? UINT32_MAX : answer.out_flags;
}

static bool count_becomes(int fd, uint64_t count)
{
	for (int i = 0; i < 500 && count_of(fd) != count; i++)
		sleep_ms(2);
	return count_of(fd) == count;
}

static int ready(int fd, int timeout)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, timeout) == 1 ? poll_fd.revents : 0;
}

static void acknowledge(volatile uint8_t *edu)
{
	edu_write(edu, EDU_ACK, 0xffffffff);
	edu_read(edu, EDU_ID);
}

static void enable(int fd)
{
	struct iospace_interrupt answer;

	if (interrupt(fd, 0, ENABLE, 0, &answer))
		die("INTERRUPT");
}

/* One interrupt from beginning to end. */
static void fire(int fd, volatile uint8_t *edu)
{
	uint64_t count = count_of(fd);

	edu_write(edu, EDU_RAISE, 1);
	if (!count_becomes(fd, count + 1))
		printf("# interrupt did not come\n");
	acknowledge(edu);
	enable(fd);
}

static void test_refused(int fd)
{
	static const struct {
		const char *name;
		uint32_t vector;
		uint32_t flags;
		int eventfd;
		int expected;
	} rows[] = {
		{ "only ask", 0, 0, 0, 0 },
		{ "vector 1", 1, 0, 0, ENOENT },
		{ "vector 2^32 - 1", UINT32_MAX, 0, 0, ENOENT },
		{ "enable and disable", 0, ENABLE | DISABLE, 0, EINVAL },
		{ "flag 8", 0, 8, 0, EINVAL },
		{ "eventfd without its flag", 0, 0, 1, EINVAL },
		{ "eventfd -1 without its flag", 0, 0, -1, EINVAL },
		{ "eventfd -2", 0, EVENTFD, -2, EINVAL },
		{ "descriptor that is none", 0, EVENTFD, 1000, EBADF },
		{ "descriptor that is no eventfd", 0, EVENTFD, 0, EINVAL },
		{ "no eventfd to end", 0, EVENTFD, -1, 0 },
	};
	struct iospace_interrupt answer;
	uint64_t counts[2];

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		is_errno(interrupt(fd, rows[i].vector, rows[i].flags,
				   rows[i].eventfd, &answer),
			 rows[i].expected, "INTERRUPT: %s", rows[i].name);
	is_errno(read(fd, counts, 0), EINVAL, "read: 0 bytes");
	is_errno(read(fd, counts, 4), EINVAL, "read: 4 bytes");
	is_errno(read(fd, counts, 12), EINVAL, "read: 12 bytes");
	is_errno(read(fd, counts, 16), EINVAL, "read: more than the vectors");
	is_errno(write(fd, counts, 8), EINVAL, "write");
}

static void test_counts(int fd, volatile uint8_t *edu)
{
	int late;
	uint64_t count = 0;

	ok(!ready(fd, 0), "poll: nothing yet");
	is_errno(read(fd, &count, 8), EAGAIN, "read: nothing yet");
	ok(count_of(fd) == 0, "count: begins at 0");

	fire(fd, edu);
	ok(ready(fd, 0) == POLLIN, "poll: ready");
	is_errno(syscall(SYS_read, fd, 8, 8), EFAULT, "read: bad address");
	ok(ready(fd, 0) == POLLIN, "poll: ready after a read that failed");
	ok(read(fd, &count, 8) == 8 && count == 1, "read: 1");
	ok(!ready(fd, 0), "poll: no more");

	fire(fd, edu);
	fire(fd, edu);
	ok(read(fd, &count, 8) == 8 && count == 3, "read: two came together");

	late = open_device(O_RDWR | O_NONBLOCK);
	ok(count_of(late) == 0, "count: of a second file begins at 0");
	fire(fd, edu);
	ok(count_of(late) == 1 && count_of(fd) == 4, "count: both files");
	ok(read(late, &count, 8) == 8 && count == 1, "read: the second file");
	ok(ready(fd, 0) == POLLIN, "poll: the first is still to read");
	ok(read(fd, &count, 8) == 8 && count == 4, "read: the first file");
	close(late);
	ok(counter("interrupts") >= 4, "sysfs: interrupts");
}

static void test_disable(int fd, volatile uint8_t *edu)
{
	struct iospace_interrupt answer;
	uint64_t before = count_of(fd);
	int other = open_device(O_RDWR | O_NONBLOCK);

	is_errno(interrupt(fd, 0, DISABLE, 0, &answer), 0, "DISABLE");
	fire(other, edu);
	ok(count_of(fd) == before, "DISABLE: not counted");
	ok(!ready(fd, 0), "DISABLE: not ready");
	close(other);

	/* Nobody wants it now, so a level must not storm. */
	edu_write(edu, EDU_RAISE, 1);
	edu_read(edu, EDU_ID);
	sleep_ms(20);
	ok(count_of(fd) == before, "DISABLE: nobody has it enabled");
	acknowledge(edu);
	enable(fd);
	fire(fd, edu);
	ok(count_of(fd) == before + 1, "ENABLE: counted again");
	if (read(fd, &before, 8) != 8)
		die("read");
}

static void test_eventfd(int fd, volatile uint8_t *edu)
{
	struct iospace_interrupt answer;
	int first = eventfd(0, EFD_NONBLOCK), second = eventfd(0, EFD_NONBLOCK);
	uint64_t value = 0, before;

	is_errno(interrupt(fd, 0, EVENTFD, first, &answer), 0, "eventfd: set");
	fire(fd, edu);
	fire(fd, edu);
	ok(read(first, &value, 8) == 8 && value == 2, "eventfd: 2");
	is_errno(interrupt(fd, 0, EVENTFD, second, &answer), 0,
		 "eventfd: replaced");
	fire(fd, edu);
	ok(read(first, &value, 8) == -1 && read(second, &value, 8) == 8 &&
	   value == 1, "eventfd: only the second");
	is_errno(interrupt(fd, 0, EVENTFD, -1, &answer), 0, "eventfd: ended");
	fire(fd, edu);
	ok(read(second, &value, 8) == -1, "eventfd: and silent");

	interrupt(fd, 0, EVENTFD, first, &answer);
	close(first);
	before = count_of(fd);
	fire(fd, edu);
	ok(count_of(fd) == before + 1,
	   "eventfd: closed by its owner, it counts on");
	interrupt(fd, 0, EVENTFD, -1, &answer);
	close(second);
	if (read(fd, &value, 8) != 8)
		die("read");
}

static void on_signal(int number)
{
	(void)number;
}

struct reader {
	int fd;
	_Atomic pid_t thread;
	ssize_t result;
	int error;
	uint64_t count;
};

static void *read_one(void *argument)
{
	struct reader *reader = argument;

	reader->thread = gettid();
	reader->result = read(reader->fd, &reader->count, 8);
	reader->error = errno;
	return NULL;
}

static void test_blocking(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	int fd = open_device(O_RDWR);
	volatile uint8_t *edu = edu_map(fd);
	struct reader reader = { .fd = fd };
	pthread_t thread;

	pthread_create(&thread, NULL, read_one, &reader);
	ok(await_sleep(&reader.thread), "read: nothing yet, so it waits");
	fire(fd, edu);
	pthread_join(thread, NULL);
	ok(reader.result == 8 && reader.count == 1, "read: until an interrupt");

	sigaction(SIGUSR1, &action, NULL);
	reader.thread = 0;
	pthread_create(&thread, NULL, read_one, &reader);
	ok(await_sleep(&reader.thread), "read: and waits again");
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	ok(reader.result == -1 && reader.error == EINTR, "read: until a signal");
	munmap((void *)edu, 1 << 20);
	close(fd);
}

/* How often the kernel has called the handlers of the device's line. */
static unsigned long long handled(void)
{
	FILE *file = fopen("/proc/interrupts", "r");
	unsigned long long count = 0;
	char line[1024];

	while (fgets(line, sizeof(line), file)) {
		char *at = strchr(line, ':'), *end;

		if (!at || !strstr(line, device.name))
			continue;
		for (end = at + 1;; at = end) {
			unsigned long long one = strtoull(at + 1, &end, 10);

			if (end == at + 1)
				break;
			count += one;
		}
	}
	fclose(file);
	return count;
}

static void test_level(int fd, volatile uint8_t *edu)
{
	struct iospace_interrupt answer;
	uint64_t before = count_of(fd), value;
	unsigned long long calls = handled();

	ok(!(flags_of(fd) & MASKED), "level: not masked at first");
	edu_write(edu, EDU_RAISE, 1);
	ok(count_becomes(fd, before + 1), "level: fires");
	ok(flags_of(fd) == (LEVEL | MASKED), "level: masked when it has fired");
	sleep_ms(50);
	ok(count_of(fd) == before + 1, "level: once, though it is still asserted");
	calls = handled() - calls;
	ok(calls >= 1 && calls <= 10, "level: and no storm (%llu calls)", calls);
	interrupt(fd, 0, ENABLE, 0, &answer);
	ok(count_becomes(fd, before + 2), "level: enabled, it fires again");
	acknowledge(edu);
	edu_write(edu, EDU_RAISE, 2);
	sleep_ms(20);
	ok(count_of(fd) == before + 2, "level: masked, it is not counted");
	acknowledge(edu);
	interrupt(fd, 0, ENABLE, 0, &answer);
	sleep_ms(20);
	ok(count_of(fd) == before + 2 && !(answer.out_flags & MASKED),
	   "level: served and enabled, it is quiet");
	fire(fd, edu);
	ok(count_of(fd) == before + 3, "level: and counts the next");
	if (read(fd, &value, 8) != 8)
		die("read");
}

static void test_edge(int fd, volatile uint8_t *edu)
{
	uint64_t before = count_of(fd), value;

	for (int i = 1; i <= 100; i++) {
		edu_write(edu, EDU_RAISE, 1);
		if (!count_becomes(fd, before + i))
			break;
	}
	ok(count_of(fd) == before + 100, "edge: 100 without ENABLE");
	ok(flags_of(fd) == 0, "edge: never masked");
	acknowledge(edu);
	if (read(fd, &value, 8) != 8)
		die("read");
}

/* A device that asserts its line while nobody has it open must not storm. */
static void test_unopened(void)
{
	int fd = open_device(O_RDWR);
	volatile uint8_t *edu = edu_map(fd);
	unsigned long long before;

	edu_write(edu, EDU_RAISE, 1);
	count_becomes(fd, 1);
	munmap((void *)edu, 1 << 20);
	close(fd);
	before = counter("interrupts");
	sleep_ms(100);
	ok(counter("interrupts") == before, "closed: the line is quiet");
	fd = open_device(O_RDWR);
	edu = edu_map(fd);
	acknowledge(edu);
	enable(fd);
	before = count_of(fd);
	fire(fd, edu);
	ok(count_of(fd) == before + 1, "closed: and works after the next open");
	munmap((void *)edu, 1 << 20);
	close(fd);
}

void test_interrupts(void)
{
	int fd;
	volatile uint8_t *edu;

	if (!ok(counter("vectors") == 1, "interrupts: one vector"))
		return;
	fd = open_device(O_RDWR | O_NONBLOCK);
	edu = edu_map(fd);
	acknowledge(edu);
	test_refused(fd);
	test_counts(fd, edu);
	test_disable(fd, edu);
	test_eventfd(fd, edu);
	if (flags_of(fd) & LEVEL)
		test_level(fd, edu);
	else
		test_edge(fd, edu);
	munmap((void *)edu, 1 << 20);
	close(fd);
	test_blocking();
	test_unopened();
}
