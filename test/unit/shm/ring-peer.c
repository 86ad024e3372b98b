/*
 * The other side of a ring, in C, written from docs/ring.md alone.
 *
 *   ring-peer FILE consume COUNT   takes messages out of a ring of one
 *   ring-peer FILE produce COUNT   puts them in
 *   ring-peer FILE send COUNT      puts them into a ring of many
 *   ring-peer FILE die             claims a slot in a ring of many, and dies
 *
 * Message n is a word n and n % 40 bytes of n % 256. Sleeps where there is nothing to do.
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	MAGIC = 0, VERSION = 1, KIND = 2, CAPACITY = 3, SLOT = 4, CHECK = 5,
	TAIL = 32, HEAD = 64, SIDES = 96, CONSUMER_SLEEPS = 240, SENDERS_SLEEP = 244,
	MESSAGES = 256, /* word */
	LOCKED = 2, CLOSED = 3,
	CLAIMED = 1, READY = 2, ABANDONED = 3,
};

static _Atomic uint32_t *words;
static uint32_t capacity, slot;

static void fail(const char *what)
{
	fprintf(stderr, "ring-peer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static unsigned char *at(uint32_t offset)
{
	return (unsigned char *)words + 1024 + offset;
}

static uint32_t *plain(uint32_t offset)
{
	return (uint32_t *)at(offset);
}

static void wake(int sleeps)
{
	uint32_t word = words[sleeps];

	if ((word & 1) != 0) {
		atomic_compare_exchange_strong(&words[sleeps], &word, word + 1);
		syscall(SYS_futex, &words[sleeps], FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	}
}

/* Until words[index] may be other than `seen`. */
static void sleep_on(int index, uint32_t seen, int sleeps)
{
	const struct timespec most = { 0, 100000000 };

	const uint32_t asleep = atomic_fetch_or(&words[sleeps], 1) | 1;

	if (words[index] == seen)
		syscall(SYS_futex, &words[sleeps], FUTEX_WAIT, asleep, &most, NULL, 0);
}

static uint32_t fill(uint32_t n, unsigned char *message)
{
	memcpy(message, &n, 4);
	memset(message + 4, (int)(n % 256), n % 40);
	return 4 + n % 40;
}

static void produce(uint32_t count)
{
	uint32_t position = words[TAIL];

	for (uint32_t n = 0; n < count; n++) {
		const uint32_t length = 4 + n % 40;
		const uint32_t size = (length + 8 + 7) & ~7u;
		const uint32_t rest = capacity - (position & (capacity - 1));
		const uint32_t skip = size > rest ? rest : 0;

		for (uint32_t head; capacity - (position - (head = words[HEAD])) < skip + size;)
			sleep_on(HEAD, head, SENDERS_SLEEP);
		if (skip != 0)
			*plain(position & (capacity - 1)) = UINT32_MAX;
		position += skip;
		*plain(position & (capacity - 1)) = length;
		fill(n, at((position & (capacity - 1)) + 8));
		position += size;
		words[TAIL] = position;
		wake(CONSUMER_SLEEPS);
	}
}

static void consume(uint32_t count)
{
	uint32_t position = words[HEAD];
	unsigned char expected[44];

	for (uint32_t n = 0; n < count; n++) {
		while (words[TAIL] == position)
			sleep_on(TAIL, position, CONSUMER_SLEEPS);
		if (*plain(position & (capacity - 1)) == UINT32_MAX)
			position += capacity - (position & (capacity - 1));
		const uint32_t length = *plain(position & (capacity - 1));
		if (length != fill(n, expected) || memcmp(at((position & (capacity - 1)) + 8), expected, length) != 0)
			fail("another message than was sent");
		position += (length + 8 + 7) & ~7u;
		words[HEAD] = position;
		wake(SENDERS_SLEEP);
	}
}

/* The state of a position's slot while it is free in the position's round. */
static uint32_t free_state(uint32_t position)
{
	return position / (capacity / slot) << 8;
}

/* The number of the word with the state of the slot that is this sender's now, free in `round` before. */
static uint32_t claim(uint32_t side, uint32_t *round)
{
	const uint32_t slots = capacity / slot;

	for (;;) {
		uint32_t head = words[HEAD];
		uint32_t position = words[TAIL];
		const uint32_t state = MESSAGES + (position & (slots - 1)) * (slot / 4);
		uint32_t before = words[state];

		*round = free_state(position);
		if (before == *round) {
			if (atomic_compare_exchange_strong(&words[state], &before, *round | (side - 1) << 2 | CLAIMED)) {
				atomic_compare_exchange_strong(&words[TAIL], &position, position + 1);
				return state;
			}
		} else if ((before & ~255u) == *round || (before & ~255u) == free_state(position + slots)) {
			atomic_compare_exchange_strong(&words[TAIL], &position, position + 1);
		} else if (words[TAIL] == position) {
			sleep_on(HEAD, head, SENDERS_SLEEP);
		}
	}
}

/* What a dead sender of the same number has left. */
static void abandon_old(uint32_t side)
{
	for (uint32_t position = 0; position < capacity / slot; position++) {
		_Atomic uint32_t *state = &words[MESSAGES + position * (slot / 4)];
		uint32_t before = *state;

		if ((before & 255) == ((side - 1) << 2 | CLAIMED))
			atomic_compare_exchange_strong(state, &before, (before & ~255u) | ABANDONED);
	}
}

static void send_many(uint32_t side, uint32_t count)
{
	for (uint32_t n = 0; n < count; n++) {
		uint32_t round;
		const uint32_t state = claim(side, &round);

		*plain((state - MESSAGES) * 4 + 4) = fill(n, at((state - MESSAGES) * 4 + 8));
		words[state] = round | READY;
		wake(CONSUMER_SLEEPS);
	}
}

static int lock(int fd, uint32_t side)
{
	struct flock byte = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = side, .l_len = 1 };

	return fcntl(fd, F_OFD_SETLK, &byte);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		fail("usage");
	const char *what = argv[2];
	const uint32_t count = argc > 3 ? (uint32_t)atoi(argv[3]) : 0;
	const int fd = open(argv[1], O_RDWR | O_CLOEXEC);
	struct stat status;
	if (fd < 0 || fstat(fd, &status) != 0)
		fail(argv[1]);
	words = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (words == MAP_FAILED)
		fail("mmap");

	uint32_t check = 0x811c9dc5;
	for (int index = VERSION; index < CHECK; index++)
		check = (check ^ words[index]) * 0x01000193;
	const int many = what[0] == 's' || what[0] == 'd';
	if (words[MAGIC] != 0x47526f69 || words[VERSION] != 1 || words[KIND] != (uint32_t)many || words[CHECK] != check)
		fail("the header");
	capacity = words[CAPACITY];
	slot = words[SLOT];

	uint32_t side = strcmp(what, "consume") == 0 ? 0 : 1;
	while (lock(fd, side) != 0)
		if (!many || ++side > 64)
			fail("the side is taken");
	words[SIDES + 2 * side] = LOCKED;
	words[SIDES + 2 * side + 1] = (uint32_t)getpid();
	if (many)
		abandon_old(side);

	if (side == 0) {
		consume(count);
	} else if (!many) {
		produce(count);
	} else if (strcmp(what, "send") == 0) {
		send_many(side, count);
	} else {
		uint32_t round;
		claim(side, &round);
		raise(SIGKILL);
	}
	words[SIDES + 2 * side] = CLOSED;
	wake(side == 0 ? SENDERS_SLEEP : CONSUMER_SLEEPS);
	return 0;
}
