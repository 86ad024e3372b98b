// SPDX-License-Identifier: MIT
/*
 * Calls for which the kernel has no memory: each allocation that a call makes
 * fails in turn (fail-nth, of kernels with fault injection). The call works
 * none the less, or fails with its documented error and leaves the books as
 * they were; the kernel's log, which the lab watches, stays silent.
 */
#include "abi.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#define FAULTS "/sys/kernel/debug/"

/* More than any call allocates. */
enum { MOST = 2000 };

/* /proc/thread-self/fail-nth: which of this thread's next allocations fails. */
static int fail_nth;

/* Open meanwhile; with a buffer, where the call needs one. */
static int file;
static struct iospace_alloc buffer;

/*
 * Mappings go there: into the middle of memory that is in use, where there are
 * page tables. Where it gets none, remap_pfn_range() of x86 warns, whoever
 * called it (6.1: untrack_pfn() of what was zapped).
 */
static uint8_t *place;

/* What the calls obtain. */
static int opened;
static struct iospace_alloc allocated;
static int event;

static int call_open(void)
{
	opened = open(device.path, O_RDWR | O_CLOEXEC);
	return opened;
}

static void undo_open(void)
{
	close(opened);
}

static int call_info(void)
{
	struct iospace_info answer;

	return info(file, &answer);
}

/* The type and the length are there already. */
static int call_alloc(void)
{
	return ioctl(file, IOSPACE_ALLOC, &allocated);
}

static void undo_alloc(void)
{
	free_handle(file, allocated.out_handle);
}

static int call_free(void)
{
	return free_handle(file, buffer.out_handle);
}

/* The next round frees another one. */
static void undo_free(void)
{
	if (alloc(file, 4 * page_size, &buffer))
		die("ALLOC");
}

static void make_place(void)
{
	enum { TABLE = 2 << 20 };
	uint8_t *memory = mmap(NULL, 2 * TABLE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || madvise(memory, 2 * TABLE, MADV_NOHUGEPAGE))
		die("memory");
	memory += TABLE - (uintptr_t)memory % TABLE;
	*memory = 1;
	place = memory + TABLE / 2;
}

static int map_there(uint64_t length, uint64_t offset)
{
	void *at = mmap(place, length, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_FIXED, file, offset);

	return at == MAP_FAILED ? -1 : 0;
}

static void unmap_there(uint64_t length)
{
	void *at = mmap(place, length, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (at == MAP_FAILED)
		die("memory");
}

static int call_mmap(void)
{
	return map_there(buffer.out_length, buffer.out_mmap_offset);
}

static void undo_mmap(void)
{
	unmap_there(buffer.out_length);
}

static int call_registers(void)
{
	struct iospace_registers window;

	return registers(file, 0, &window);
}

static int call_mmap_registers(void)
{
	struct iospace_registers window;

	if (registers(file, 0, &window))
		return -1;
	return map_there(page_size, window.out_mmap_offset);
}

static void undo_mmap_registers(void)
{
	unmap_there(page_size);
}

static int call_interrupt(void)
{
	struct iospace_interrupt vector;

	return interrupt(file, 0, IOSPACE_INTERRUPT_EVENTFD, event, &vector);
}

static void undo_interrupt(void)
{
	struct iospace_interrupt vector;

	if (interrupt(file, 0, IOSPACE_INTERRUPT_EVENTFD, -1, &vector))
		die("INTERRUPT");
}

static int call_books(void)
{
	struct iospace_arena_books books = { .size = sizeof(books) };

	if (ioctl(file, IOSPACE_ARENA_BOOKS, &books))
		return -1;
	opened = books.out_fd;
	return 0;
}

/* A process with a buffer and the registers mapped. */
static int call_fork(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	if (child > 0)
		waitpid(child, NULL, 0);
	return child > 0 ? 0 : -1;
}

/*
 * Binding then does not enable the function, which would route its interrupt:
 * for that the kernel interprets ACPI's methods, and where an allocation fails
 * it uses memory that it has freed (6.1: acpi_ns_get_attached_object()).
 */
static void keep_enabled(bool enabled)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/enable",
		 device.function);
	if (!write_file(path, enabled ? "1" : "0"))
		die(path);
}

static int call_bind(void)
{
	bool bound = write_file("/sys/bus/pci/drivers/iospace/bind",
				device.function);

	return bound ? 0 : -1;
}

static void undo_bind(void)
{
	unbind_device();
}

static void undo_nothing(void) {}

struct call {
	const char *name;
	int (*make)(void);
	/* Gives back what the call obtained. */
	void (*undo)(void);
};

struct books {
	unsigned long long files, buffers, bytes;
};

static struct books books(void)
{
	return (struct books){ counter("open_files"), counter("buffers"),
			       counter("buffer_bytes") };
}

/* Makes the call with its allocation @nth failing: was there one so far? */
static bool make(const struct call *call, int nth, int *error)
{
	char text[16];
	ssize_t length = snprintf(text, sizeof(text), "%d", nth);
	int ret;

	if (pwrite(fail_nth, text, length, 0) != length)
		die("fail-nth");
	ret = call->make();
	*error = ret < 0 ? errno : 0;
	length = pread(fail_nth, text, sizeof(text) - 1, 0);
	if (length <= 0 || pwrite(fail_nth, "0", 1, 0) != 1)
		die("fail-nth");
	text[length] = 0;
	return !atoi(text);
}

static void set(const char *path, const char *value)
{
	if (!write_file(path, value))
		die(path);
}

/* @other: What is documented beside ENOMEM, or 0 */
static void test_call_or(const struct call *call, bool has_books, int other)
{
	struct books before = { 0 }, after = { 0 };
	bool documented = true, kept = true;
	int nth, error, failed = 0;

	/* Its code and data are here before anything fails. */
	if (call->make() < 0) {
		is_errno(-1, 0, "faults: %s works", call->name);
		return;
	}
	call->undo();
	if (has_books)
		before = books();
	for (nth = 1; nth <= MOST && make(call, nth, &error); nth++) {
		if (!error)
			call->undo();
		failed += error != 0;
		if (error && error != ENOMEM && error != other) {
			documented = false;
			printf("# allocation %d: %s\n", nth,
			       strerrorname_np(error) ?: "?");
		}
		if (!has_books)
			continue;
		after = books();
		kept &= !memcmp(&before, &after, sizeof(before));
	}
	ok(!error, "faults: %s works when nothing fails", call->name);
	if (!error)
		call->undo();
	ok(documented,
	   "faults: %s fails with ENOMEM (%d of %d allocations) or works",
	   call->name, failed, nth - 1);
	ok(kept, "faults: %s leaves the books as they were", call->name);
}

static void test_call(const struct call *call, bool has_books)
{
	test_call_or(call, has_books, 0);
}

/* Allocations that may wait fail as well, and none is told about. */
static void set_up(void)
{
	set(FAULTS "failslab/ignore-gfp-wait", "N");
	set(FAULTS "failslab/verbose", "0");
	set(FAULTS "fail_page_alloc/ignore-gfp-wait", "N");
	set(FAULTS "fail_page_alloc/ignore-gfp-highmem", "N");
	set(FAULTS "fail_page_alloc/min-order", "0");
	set(FAULTS "fail_page_alloc/verbose", "0");
}

static void test_allocations(void)
{
	struct iospace_info answer;
	char name[64];

	if (info(file, &answer))
		die("INFO");
	for (uint32_t memory = 1; memory < 32; memory++) {
		struct call call = { name, call_alloc, undo_alloc };

		if (!(answer.out_memory_types & 1U << memory))
			continue;
		allocated = (struct iospace_alloc){
			.size = sizeof(allocated),
			.memory = memory,
			.length = 9 * page_size,
		};
		snprintf(name, sizeof(name), "ALLOC of type %u", memory);
		test_call(&call, true);
	}
}

void test_faults(void)
{
	static const struct call calls[] = {
		{ "open", call_open, undo_open },
		{ "INFO", call_info, undo_nothing },
		{ "mmap of a buffer", call_mmap, undo_mmap },
		{ "REGISTERS", call_registers, undo_nothing },
		{ "mmap of registers", call_mmap_registers,
		  undo_mmap_registers },
		{ "INTERRUPT", call_interrupt, undo_interrupt },
		{ "FREE", call_free, undo_free },
	};
	static const struct call books_call = { "ARENA_BOOKS", call_books,
						undo_open };
	static const struct call fork_call = { "fork", call_fork,
					       undo_nothing };
	static const struct call bind_call = { "bind", call_bind, undo_bind };
	struct iospace_registers window;
	struct iospace_info answer;
	void *bytes, *edu;

	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (fail_nth == -1)
		die("/proc/thread-self/fail-nth");
	set_up();
	make_place();
	file = open_device(O_RDWR);
	event = eventfd(0, EFD_CLOEXEC);
	if (event == -1)
		die("eventfd");
	test_allocations();
	undo_free();
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		test_call(&calls[i], true);
	if (info(file, &answer))
		die("INFO");
	if (answer.out_arenas)
		test_call(&books_call, true);
	else
		skip("there is no arena");

	bytes = map(file, buffer.out_length, buffer.out_mmap_offset);
	if (registers(file, 0, &window))
		die("REGISTERS");
	edu = map(file, page_size, window.out_mmap_offset);
	test_call(&fork_call, true);
	munmap(bytes, buffer.out_length);
	munmap(edu, page_size);
	close(event);
	close(file);

	/* Without a device there are no books to look at. */
	unbind_device();
	keep_enabled(true);
	/* That a range could not be claimed the kernel says, but not why. */
	test_call_or(&bind_call, false, EBUSY);
	keep_enabled(false);
	bind_device();
	close(fail_nth);
}
