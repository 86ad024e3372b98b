// SPDX-License-Identifier: MIT
/*
 * What a mapping is after fork and after mremap, as the witness sees it. Run by
 * programs of this directory, which it shares its streams with:
 *
 *	mappings /dev/iospaceN MEMORY WORD [ADDRESS]
 *
 * MEMORY is the number of an enum iospace_memory, WORD what the page table has
 * to say of it. With ADDRESS, physical, it is a window, else a buffer.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "iospace.h"

/* Of the mapping. */
#define PAGES 4

static const char *word;
static size_t page_size;
static size_t size;
static int answers;

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

/* Reads a line without ever sleeping: the page table has to be in use. */
static void spin_for_line(char *line, size_t room)
{
	size_t length = 0;

	while (!length || line[length - 1] != '\n') {
		ssize_t got = read(answers, line + length, room - 1 - length);

		if (got > 0)
			length += got;
		else if (got == 0 || errno != EAGAIN || length == room - 1)
			fail("the witness's answer");
	}
	line[length] = 0;
}

/* Whether all pages of a range are of the type. */
static bool is_as_it_must_be(const char *what, void *address, size_t length)
{
	/* Written, it is the process's own: a child has a copy. */
	static unsigned char secret[64] __attribute__((aligned(64)));
	char line[65536], expected[64];
	const char *type = line;
	int types = 0;

	snprintf((char *)secret, sizeof(secret), "the page of process %d", getpid());
	printf("\nwitness: {\"secret\":{\"address\":\"%p\",\"bytes\":\"", secret);
	for (int i = 0; i < 32; i++)
		printf("%02x", secret[i]);
	printf("\"},\"ranges\":[{\"address\":\"%p\",\"byteLength\":%zu}],\"pageSize\":%zu}\n",
	       address, length, page_size);
	fflush(stdout);
	spin_for_line(line, sizeof(line));

	snprintf(expected, sizeof(expected), "\"type\":\"%s\"", word);
	for (; (type = strstr(type, "\"type\":")); type++) {
		types++;
		if (strncmp(type, expected, strlen(expected))) {
			fprintf(stderr, "%s: not %s: %s", what, word, line);
			return false;
		}
	}
	return types > 0;
}

static void touch(volatile char *address, size_t length)
{
	for (size_t i = 0; i < length; i += page_size)
		address[i]++;
}

static bool is_so_in_a_child(void *address)
{
	int status;
	pid_t child = fork();

	if (child == -1)
		fail("fork");
	if (!child) {
		touch(address, size);
		_exit(!is_as_it_must_be("in the child", address, size));
	}
	if (waitpid(child, &status, 0) != child)
		fail("waitpid");
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Grows it, moves it, makes a hole: what is given must be right. */
static bool is_so_after_mremap(void *address)
{
	char *moved;

	if (mremap(address, size, size + page_size, MREMAP_MAYMOVE) != MAP_FAILED) {
		fprintf(stderr, "mremap grew it\n");
		return false;
	}
	moved = mremap(address, size, size, MREMAP_MAYMOVE | MREMAP_FIXED,
		       (char *)address + (1 << 30));
	if (moved == MAP_FAILED) {
		moved = address;
	} else {
		touch(moved, size);
		if (!is_as_it_must_be("after a move", moved, size))
			return false;
	}
	if (!munmap(moved + page_size, page_size)) {
		touch(moved, page_size);
		touch(moved + 2 * page_size, size - 2 * page_size);
		return is_as_it_must_be("before a hole", moved, page_size) &&
		       is_as_it_must_be("after a hole", moved + 2 * page_size, size - 2 * page_size);
	}
	return is_as_it_must_be("after it was not split", moved, size);
}

/* The handle of a buffer, or with @address of a window, which is mapped. */
static __u32 open_memory(int fd, int memory, const char *address, void **at)
{
	struct iospace_window window = {
		.size = sizeof(window),
		.memory = memory,
		.length = size,
	};
	struct iospace_alloc alloc = {
		.size = sizeof(alloc),
		.memory = memory,
		.length = size,
	};

	if (address) {
		window.address = strtoull(address, NULL, 0);
		if (ioctl(fd, IOSPACE_WINDOW, &window))
			fail("WINDOW");
	} else if (ioctl(fd, IOSPACE_ALLOC, &alloc)) {
		fail("ALLOC");
	}
	*at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   address ? window.out_mmap_offset : alloc.out_mmap_offset);
	if (*at == MAP_FAILED)
		fail("mmap");
	touch(*at, size);
	return address ? window.out_handle : alloc.out_handle;
}

/* Its parent has freed the memory and ended: the child still has it. */
static bool is_so_in_an_orphan(const char *device, int memory,
			       const char *address)
{
	char good = false;
	pid_t parent;
	int ends[2];

	if (pipe(ends))
		fail("pipe");
	parent = fork();
	if (!parent) {
		int fd = open(device, O_RDWR | O_CLOEXEC);
		struct iospace_free arguments = { .size = sizeof(arguments) };
		char *at;

		arguments.handle = open_memory(fd, memory, address, (void **)&at);
		at[page_size] = 77;
		parent = getpid();
		if (!fork()) {
			while (getppid() == parent)
				usleep(1000);
			good = at[page_size] == 77 &&
			       is_as_it_must_be("in an orphan", at, size);
			_exit(write(ends[1], &good, 1) != 1);
		}
		_exit(ioctl(fd, IOSPACE_FREE, &arguments) != 0);
	}
	close(ends[1]);
	if (parent == -1 || waitpid(parent, NULL, 0) != parent)
		fail("a parent");
	if (read(ends[0], &good, 1) != 1)
		fprintf(stderr, "the orphan has said nothing\n");
	close(ends[0]);
	return good;
}

int main(int count, char **arguments)
{
	void *address;
	int fd;

	if (count != 4 && count != 5) {
		fprintf(stderr, "usage: %s /dev/iospaceN MEMORY WORD [ADDRESS]\n",
			arguments[0]);
		return 2;
	}
	fd = open(arguments[1], O_RDWR | O_CLOEXEC);
	answers = open("/proc/self/fd/0", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd == -1 || answers == -1)
		fail(arguments[1]);
	word = arguments[3];
	page_size = sysconf(_SC_PAGESIZE);
	size = PAGES * page_size;
	if (!is_so_in_an_orphan(arguments[1], atoi(arguments[2]), arguments[4]))
		return 1;
	open_memory(fd, atoi(arguments[2]), arguments[4], &address);
	return !(is_as_it_must_be("in the parent", address, size) &&
		 is_so_in_a_child(address) &&
		 is_as_it_must_be("after the child", address, size) &&
		 is_so_after_mremap(address));
}
