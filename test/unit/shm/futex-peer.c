/*
 * A Mutex in word 0 and a CountingEvent in word 1 of a file, in C, written from docs/futex.md alone.
 *
 *   futex-peer FILE add COUNT   COUNT times: adds 1 to word 2, which is not atomic, with the mutex; then signals
 *   futex-peer FILE hear COUNT  waits until it was signalled COUNT times; prints the count
 *   futex-peer FILE lock        takes the mutex; prints how it was had; gives it back
 *   futex-peer FILE die         takes the mutex, and dies
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { HELD = 1, WAITED = 2, STATE = 3 };

static _Atomic uint32_t *words;
static int fd;
/* The mutex's number, where the word has it. */
static uint32_t number;

static void fail(const char *what)
{
	fprintf(stderr, "futex-peer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void futex_wait(int index, uint32_t value, int milliseconds)
{
	const struct timespec most = { 0, milliseconds * 1000000L };

	syscall(SYS_futex, &words[index], FUTEX_WAIT, value, &most, NULL, 0);
}

static void futex_wake(int index, int count)
{
	syscall(SYS_futex, &words[index], FUTEX_WAKE, count, NULL, NULL, 0);
}

static int byte_lock(short type)
{
	struct flock byte = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)(1LL << 43) + (number >> 2), .l_len = 1
	};

	return fcntl(fd, F_OFD_SETLK, &byte);
}

static void make(void)
{
	uint32_t before = 0;

	if (atomic_compare_exchange_strong(&words[0], &before, 4711u << 2))
		before = 4711u << 2;
	number = before & ~(uint32_t)STATE;
}

/* Returns how it was had. */
static const char *lock(void)
{
	for (uint32_t state = HELD;; state = WAITED) {
		if (byte_lock(F_WRLCK) == 0) {
			const uint32_t before = atomic_exchange(&words[0], number | state);

			if ((before & STATE) == WAITED)
				words[0] = number | WAITED;
			return (before & STATE) == 0 ? "locked" : "owner-died";
		}
		uint32_t before = number | HELD;

		atomic_compare_exchange_strong(&words[0], &before, number | WAITED);
		if ((before & STATE) == 0)
			futex_wait(0, before, 1);
		else
			futex_wait(0, number | WAITED, 100);
	}
}

static void unlock(void)
{
	const uint32_t before = atomic_exchange(&words[0], number);

	byte_lock(F_UNLCK);
	if ((before & STATE) == WAITED)
		futex_wake(0, 1);
}

static void add(uint32_t count)
{
	volatile uint32_t *const sum = (volatile uint32_t *)&words[2];

	for (uint32_t time = 0; time < count; time++) {
		lock();
		*sum = *sum + 1;
		unlock();
		words[1]++;
		futex_wake(1, INT32_MAX);
	}
}

static void hear(uint32_t count)
{
	uint32_t seen = 0;

	while (seen < count) {
		const uint32_t now = words[1];

		if (now == seen)
			futex_wait(1, seen, 100);
		seen = now;
	}
	printf("%u\n", seen);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		fail("usage");
	const uint32_t count = argc > 3 ? (uint32_t)atoi(argv[3]) : 0;

	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (words == MAP_FAILED)
		fail(argv[1]);
	make();
	if (strcmp(argv[2], "add") == 0) {
		add(count);
	} else if (strcmp(argv[2], "hear") == 0) {
		hear(count);
	} else {
		const char *const how = lock();

		if (strcmp(argv[2], "die") == 0)
			raise(SIGKILL);
		printf("%s\n", how);
		unlock();
	}
	return 0;
}
