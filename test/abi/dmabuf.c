// SPDX-License-Identifier: MIT
/*
 * Dma-bufs both ways: cached buffers that other drivers and other processes reach,
 * and what others exported.
 */
#include "abi.h"

#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

/* Its descriptor, or -1. */
static int export_range(int fd, uint32_t handle, uint64_t offset,
			uint64_t length, uint32_t flags)
{
	struct iospace_export call = {
		.size = sizeof(call),
		.flags = flags,
		.handle = handle,
		.out_fd = -2,
		.offset = offset,
		.length = length,
	};

	return ioctl(fd, IOSPACE_EXPORT, &call) ? -1 : call.out_fd;
}

static int export_whole(int fd, const struct iospace_alloc *buffer)
{
	int dmabuf = export_range(fd, buffer->out_handle, 0,
				  buffer->out_length, 0);

	if (dmabuf < 0)
		die("EXPORT");
	return dmabuf;
}

static int import_fd(int fd, int dmabuf, uint32_t direction,
		     struct iospace_import *import)
{
	*import = (struct iospace_import){
		.size = sizeof(*import),
		.fd = dmabuf,
		.direction = direction,
	};
	return ioctl(fd, IOSPACE_IMPORT, import);
}

/* An import: all of it changes hands. */
static int sync_whole(int fd, uint32_t handle, uint32_t flags)
{
	return sync_range(fd, handle, flags, 0, page_size);
}

static int sync_dmabuf(int dmabuf, uint64_t flags)
{
	struct dma_buf_sync sync = { .flags = flags };

	return ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync);
}

static void *map_dmabuf(int dmabuf, uint64_t length)
{
	void *address = map(dmabuf, length, 0);

	if (address == MAP_FAILED)
		die("mmap of a dma-buf");
	return address;
}

static uint64_t length_of(int fd, const struct iospace_import *import)
{
	struct iospace_segments answer;
	struct iospace_segment segment;
	uint64_t length = 0;

	for (uint32_t i = 0; i < import->out_segments; i++) {
		if (segments(fd, import->out_handle, i, 1, &segment, &answer))
			die("SEGMENTS");
		length += segment.length;
	}
	return length;
}

/* Of EDU_BUFFER_SIZE bytes. */
static void transfer(int fd, volatile uint8_t *edu, uint64_t address,
		     uint32_t command)
{
	edu_transfer(fd, edu, address, EDU_BUFFER_SIZE, command);
}

static void fill(uint8_t *bytes, uint64_t length, int seed)
{
	for (uint64_t i = 0; i < length; i++)
		bytes[i] = i * 7 + i / 256 + seed;
}

static bool is_filled(const uint8_t *bytes, uint64_t length, int seed)
{
	for (uint64_t i = 0; i < length; i++) {
		if (bytes[i] != (uint8_t)(i * 7 + i / 256 + seed))
			return false;
	}
	return true;
}

/* The number that the next descriptor gets. */
static int next_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static bool has_dmabuf(int fd)
{
	struct iospace_alloc buffer;
	int dmabuf;

	if (alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = 1 }, &buffer))
		die("ALLOC");
	dmabuf = export_range(fd, buffer.out_handle, 0, page_size, 0);
	free_handle(fd, buffer.out_handle);
	if (dmabuf == -1 && errno == EOPNOTSUPP)
		return false;
	close(dmabuf);
	return true;
}

static void test_refused_exports(int fd)
{
	const uint64_t length = 4 * page_size;
	struct rlimit none = { 0, 0 }, limit;
	struct iospace_export *readonly;
	struct iospace_alloc buffer;
	uint32_t handle;
	int free_number, dmabuf;

	if (alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = length }, &buffer))
		die("ALLOC");
	handle = buffer.out_handle;
	is_errno(export_range(fd, handle + 1, 0, length, 0), ENOENT,
		 "EXPORT: no such handle");
	is_errno(export_range(fd, handle, 0, 0, 0), EINVAL, "EXPORT: no bytes");
	is_errno(export_range(fd, handle, 0, page_size - 1, 0), EINVAL,
		 "EXPORT: a part of a page");
	is_errno(export_range(fd, handle, 1, page_size, 0), EINVAL,
		 "EXPORT: from within a page");
	is_errno(export_range(fd, handle, 0, length + page_size, 0), EINVAL,
		 "EXPORT: more than there is");
	is_errno(export_range(fd, handle, length, page_size, 0), EINVAL,
		 "EXPORT: behind the end");
	is_errno(export_range(fd, handle, -(uint64_t)page_size, 2 * page_size, 0),
		 EINVAL, "EXPORT: a range that wraps");
	is_errno(export_range(fd, handle, page_size, -(uint64_t)page_size, 0),
		 EINVAL, "EXPORT: 2^64 less a page");

	free_number = next_fd();
	readonly = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*readonly = (struct iospace_export){ .size = sizeof(*readonly),
					     .handle = handle,
					     .length = length };
	mprotect(readonly, page_size, PROT_READ);
	is_errno(ioctl(fd, IOSPACE_EXPORT, readonly), EFAULT,
		 "EXPORT: read-only structure");
	ok(next_fd() == free_number, "EXPORT: and no descriptor stays behind");
	munmap(readonly, page_size);

	getrlimit(RLIMIT_NOFILE, &limit);
	none.rlim_max = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &none);
	is_errno(export_range(fd, handle, 0, length, 0), EMFILE,
		 "EXPORT: no descriptor left");
	setrlimit(RLIMIT_NOFILE, &limit);

	dmabuf = export_whole(fd, &buffer);
	ok(fcntl(dmabuf, F_GETFD) == FD_CLOEXEC && dmabuf == free_number,
	   "EXPORT: the next descriptor, close-on-exec");
	close(dmabuf);
	free_handle(fd, handle);
	ok(!counter("buffer_bytes"), "EXPORT: nothing stays behind");

	for (uint32_t memory = IOSPACE_MEMORY_WRITECOMBINE;
	     memory <= IOSPACE_MEMORY_COHERENT; memory++) {
		if (alloc_as(fd, (struct iospace_alloc){
			.memory = memory, .length = length }, &buffer))
			continue;
		is_errno(export_range(fd, buffer.out_handle, 0, length, 0),
			 EOPNOTSUPP, "EXPORT: of %s memory",
			 memory_names[memory]);
		free_handle(fd, buffer.out_handle);
	}
}

/* More than one table of pages. */
static void test_mappings(int fd)
{
	const uint64_t length = 4 * MIB, first = 3 * page_size;
	struct iospace_alloc buffer;
	uint8_t *bytes = alloc_cached(fd, length, &buffer), *whole, *part;
	char copy[16] = "";
	struct iovec to = { copy, 5 }, from;
	bool same = true;
	int dmabuf = export_whole(fd, &buffer), range;

	range = export_range(fd, buffer.out_handle, first, 5 * page_size, 0);
	ok(lseek(dmabuf, 0, SEEK_END) == (off_t)length &&
	   lseek(range, 0, SEEK_END) == 5 * page_size,
	   "dma-buf: knows its size");
	whole = map_dmabuf(dmabuf, length);
	part = map_dmabuf(range, 5 * page_size);

	for (uint64_t at = 0; at < length; at += page_size)
		*(uint64_t *)(bytes + at) = at;
	/* From the end, so that what comes next is there already. */
	for (uint64_t at = length; at; at -= page_size)
		same &= *(uint64_t *)(whole + at - page_size) == at - page_size;
	ok(same, "dma-buf: a mapping shows the buffer's pages");
	ok(*(uint64_t *)part == first &&
	   *(uint64_t *)(part + 4 * page_size) == first + 4 * page_size,
	   "dma-buf: of a part, the part");
	strcpy((char *)part + page_size, "part");
	ok(!strcmp((char *)bytes + first + page_size, "part") &&
	   !strcmp((char *)whole + first + page_size, "part"),
	   "dma-buf: what is written there is seen everywhere");
	from = (struct iovec){ part + page_size, 5 };
	ok(process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 5 &&
	   !strcmp(copy, "part"), "dma-buf: the kernel may read a mapping");
	is_errno(madvise(whole, length, MADV_DONTNEED), 0,
		 "dma-buf: madvise(MADV_DONTNEED)");
	ok(*(uint64_t *)(whole + first) == first,
	   "dma-buf: which brings the same pages again");

	is_errno(ioctl(fd, IOSPACE_MAP_USER, &(struct iospace_map_user){
		.size = sizeof(struct iospace_map_user),
		.direction = TO_DEVICE,
		.address = (uintptr_t)part,
		.length = page_size }), EBUSY,
		 "dma-buf: MAP_USER of what is this device's already");

	ok(map(range, 6 * page_size, 0) == MAP_FAILED && errno == EINVAL,
	   "dma-buf: mmap of more than there is");
	ok(map(range, page_size, 5 * page_size) == MAP_FAILED && errno == EINVAL,
	   "dma-buf: mmap behind the end");
	ok(mmap(NULL, page_size, PROT_READ, MAP_PRIVATE, range, 0) ==
	   MAP_FAILED && errno == EINVAL, "dma-buf: a private mapping");
	/* EPERM: 7.x forbids it for all dma-bufs. */
	ok(mmap(NULL, page_size, PROT_EXEC, MAP_SHARED, range, 0) ==
	   MAP_FAILED && (errno == EINVAL || errno == EPERM),
	   "dma-buf: an executable mapping");
	ok(mprotect(part, page_size, PROT_EXEC) && errno == EACCES,
	   "dma-buf: nor later");
	ok(mremap(part, 5 * page_size, 6 * page_size, MREMAP_MAYMOVE) ==
	   MAP_FAILED, "dma-buf: mremap() cannot grow it");
	munmap(part, 5 * page_size);
	munmap(whole, length);
	close(range);
	close(dmabuf);
	drop(fd, bytes, &buffer);
	ok(!counter("buffer_bytes"), "dma-buf: nothing stays behind");
}

static void test_read_only(int fd, int other)
{
	struct iospace_alloc buffer;
	uint8_t *bytes = alloc_cached(fd, page_size, &buffer), *view;
	struct iospace_import import;
	int dmabuf = export_range(fd, buffer.out_handle, 0, page_size,
				  IOSPACE_EXPORT_READ_ONLY);

	ok((fcntl(dmabuf, F_GETFL) & O_ACCMODE) == O_RDONLY,
	   "read-only: the descriptor is");
	ok(map(dmabuf, page_size, 0) == MAP_FAILED && errno == EACCES,
	   "read-only: a mapping to write");
	view = mmap(NULL, page_size, PROT_READ, MAP_SHARED, dmabuf, 0);
	bytes[7] = 7;
	ok(view != MAP_FAILED && view[7] == 7, "read-only: a mapping to read");
	is_errno(mprotect(view, page_size, PROT_READ | PROT_WRITE), EACCES,
		 "read-only: mprotect");
	is_errno(import_fd(fd, dmabuf, FROM_DEVICE, &import), EACCES,
		 "read-only: its own device writes");
	is_errno(import_fd(other, dmabuf, FROM_DEVICE, &import), EACCES,
		 "read-only: another device writes");
	is_errno(import_fd(other, dmabuf, BOTH_WAYS, &import), EACCES,
		 "read-only: another device writes and reads");
	is_errno(import_fd(fd, dmabuf, TO_DEVICE, &import), 0,
		 "read-only: its own device reads");
	free_handle(fd, import.out_handle);
	is_errno(import_fd(other, dmabuf, TO_DEVICE, &import), 0,
		 "read-only: another device reads");
	free_handle(other, import.out_handle);
	munmap(view, page_size);
	close(dmabuf);
	drop(fd, bytes, &buffer);
}

/* Its own device has its turn by SYNC alone. */
static void test_own_transfers(int fd, volatile uint8_t *edu)
{
	const uint64_t place = 2 * page_size;
	struct iospace_alloc buffer;
	uint8_t *bytes = alloc_cached(fd, 4 * page_size, &buffer), *view;
	int dmabuf = export_range(fd, buffer.out_handle, place, page_size, 0);
	uint64_t address = address_of(fd, buffer.out_handle, place, NULL);

	view = map_dmabuf(dmabuf, page_size);
	memset(bytes, 0x42, 4 * page_size);
	is_errno(sync_dmabuf(dmabuf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW), 0,
		 "dma-buf: the CPU's turn begins");
	ok(view[0] == 0x42, "dma-buf: what the CPU wrote in its turn stays");
	fill(view, EDU_BUFFER_SIZE, 1);
	is_errno(sync_dmabuf(dmabuf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW), 0,
		 "dma-buf: and ends");
	sync_range(fd, buffer.out_handle, IOSPACE_SYNC_FOR_DEVICE, place, page_size);
	transfer(fd, edu, address, 0);
	memset(view, 0xee, EDU_BUFFER_SIZE);
	transfer(fd, edu, address, EDU_DMA_TO_MEMORY);
	sync_dmabuf(dmabuf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	if (is_bounced())
		ok(view[0] == 0xee, "dma-buf: stale before it is synced");
	sync_range(fd, buffer.out_handle, IOSPACE_SYNC_FOR_CPU, place, page_size);
	ok(is_filled(view, EDU_BUFFER_SIZE, 1),
	   "dma-buf: the bytes that went out came in");
	memset(view, 0x43, EDU_BUFFER_SIZE);
	sync_dmabuf(dmabuf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
	sync_dmabuf(dmabuf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	ok(view[0] == 0x43, "dma-buf: START takes nothing that nobody gave");
	sync_dmabuf(dmabuf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
	munmap(view, page_size);
	close(dmabuf);
	drop(fd, bytes, &buffer);
}

static void test_lives_on(void)
{
	const unsigned long long length = 8 * page_size;
	int fd = open_device(O_RDWR), second = open_device(O_RDWR), dmabuf;
	struct iospace_alloc buffer;
	uint8_t *bytes = alloc_cached(fd, length, &buffer), *view;

	memset(bytes, 0x42, length);
	dmabuf = export_range(fd, buffer.out_handle, page_size, page_size, 0);
	drop(fd, bytes, &buffer);
	view = map_dmabuf(dmabuf, page_size);
	ok(view[0] == 0x42 && view[page_size - 1] == 0x42,
	   "dma-buf: outlives its buffer");
	ok(counter("buffer_bytes") == length && !counter("buffers"),
	   "dma-buf: which stays charged, whole");
	is_errno(sync_dmabuf(dmabuf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW), 0,
		 "dma-buf: SYNC without its buffer");
	close(dmabuf);
	ok(view[1] == 0x42 && counter("buffer_bytes") == length,
	   "dma-buf: a mapping outlives the descriptor");
	munmap(view, page_size);
	ok(counter_becomes("buffer_bytes", 0), "dma-buf: and then it goes");

	/* The file goes while another has the device open: held back, then kept. */
	alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = length }, &buffer);
	dmabuf = export_whole(fd, &buffer);
	close(fd);
	ok(counter("held_bytes") == length && counter("buffer_bytes") == length,
	   "dma-buf: of a file that has gone, held back");
	close(second);
	ok(!counter("held_bytes") && counter("buffer_bytes") == length,
	   "dma-buf: after the last close, charged");
	view = map_dmabuf(dmabuf, length);
	ok(all_zero(view, length), "dma-buf: outlives its file");
	munmap(view, length);
	close(dmabuf);
	ok(counter_becomes("buffer_bytes", 0), "dma-buf: charged no more");
}

static void send_fd(int socket, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	char byte = 0;
	struct iovec data = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	if (sendmsg(socket, &message, 0) != 1)
		die("sendmsg");
}

static int receive_fd(int socket)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	char byte;
	struct iovec data = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	int fd;

	if (recvmsg(socket, &message, 0) != 1)
		die("recvmsg");
	memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
	return fd;
}

/* A process that exports, hands the descriptor on, and ends. */
static void test_other_process(void)
{
	int pair[2], dmabuf, status = -1;
	uint8_t *view;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("socketpair");
	fflush(stdout);
	child = fork();
	if (!child) {
		int fd = open_device(O_RDWR);
		struct iospace_alloc buffer;
		uint8_t *bytes = alloc_cached(fd, 2 * page_size, &buffer);
		char byte;

		fill(bytes, 2 * page_size, 5);
		send_fd(pair[1], export_whole(fd, &buffer));
		/* Until the other has written. */
		if (read(pair[1], &byte, 1) != 1)
			_exit(2);
		_exit(bytes[9] != 0x99);
	}
	dmabuf = receive_fd(pair[0]);
	view = map_dmabuf(dmabuf, 2 * page_size);
	ok(is_filled(view, 2 * page_size, 5),
	   "dma-buf: from another process, what it wrote");
	view[9] = 0x99;
	if (write(pair[0], "", 1) != 1 || waitpid(child, &status, 0) != child)
		die("child");
	ok(!status, "dma-buf: which sees what was written here");
	ok(counter_becomes("open_files", 0) && view[10] == (uint8_t)(10 * 7 + 5),
	   "dma-buf: outlives its process");
	ok(counter("buffer_bytes") == (unsigned)(2 * page_size),
	   "dma-buf: charged");
	munmap(view, 2 * page_size);
	close(dmabuf);
	close(pair[0]);
	close(pair[1]);
	ok(counter_becomes("buffer_bytes", 0), "dma-buf: until it is closed");
}

static void test_many(int fd)
{
	enum { ROUNDS = 2000 };
	struct iospace_alloc buffer;
	struct iospace_import import;
	int free_number = next_fd();
	bool good = true;

	if (alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = MIB }, &buffer))
		die("ALLOC");
	for (int i = 0; i < ROUNDS && good; i++) {
		int dmabuf = export_range(fd, buffer.out_handle, 0, page_size, 0);

		good = dmabuf == free_number;
		if (good && i % 8 == 0)
			good = !import_fd(fd, dmabuf, BOTH_WAYS, &import) &&
			       !free_handle(fd, import.out_handle);
		close(dmabuf);
	}
	ok(good, "EXPORT: %d times", ROUNDS);
	ok(counter("buffers") == 1 && counter("buffer_bytes") == MIB,
	   "EXPORT: charged once");
	free_handle(fd, buffer.out_handle);
	ok(!counter("buffer_bytes"), "EXPORT: and then no more");
}

static void test_refused_imports(int fd)
{
	struct iospace_import import;
	struct iospace_alloc buffer;
	int pipes[2], dmabuf;

	if (alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = 1 }, &buffer))
		die("ALLOC");
	dmabuf = export_whole(fd, &buffer);
	if (pipe(pipes))
		die("pipe");
	is_errno(import_fd(fd, -1, TO_DEVICE, &import), EBADF,
		 "IMPORT: descriptor -1");
	is_errno(import_fd(fd, 1000, TO_DEVICE, &import), EBADF,
		 "IMPORT: a descriptor that is not open");
	is_errno(import_fd(fd, pipes[0], TO_DEVICE, &import), EINVAL,
		 "IMPORT: a pipe");
	is_errno(import_fd(fd, fd, TO_DEVICE, &import), EINVAL,
		 "IMPORT: the device itself");
	is_errno(import_fd(fd, dmabuf, 0, &import), EINVAL,
		 "IMPORT: no direction");
	is_errno(import_fd(fd, dmabuf, 4, &import), EINVAL,
		 "IMPORT: direction 4");
	ok(counter("buffers") == 1, "IMPORT: nothing stays behind");
	close(pipes[0]);
	close(pipes[1]);
	close(dmabuf);
	free_handle(fd, buffer.out_handle);
}

/* Its own: no new mapping, the buffer's addresses. */
static void test_import_own(int fd, volatile uint8_t *edu)
{
	const uint64_t length = 64 * page_size, first = 5 * page_size;
	struct iospace_import import, again;
	struct iospace_alloc buffer;
	uint8_t *view;
	int dmabuf;
	bool same = true;

	/* In segments of two pages, of which it begins in the middle of one. */
	if (alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = length,
		.boundary = 2 * page_size }, &buffer))
		die("ALLOC");
	dmabuf = export_range(fd, buffer.out_handle, first, 8 * page_size, 0);
	view = map_dmabuf(dmabuf, 8 * page_size);
	is_errno(import_fd(fd, dmabuf, BOTH_WAYS, &import), 0,
		 "IMPORT: of this same device");
	for (uint64_t at = 0; at < 8; at++)
		same &= address_of(fd, import.out_handle, at * page_size, NULL) ==
			address_of(fd, buffer.out_handle, first + at * page_size,
				   NULL);
	ok(same && import.out_dma_addr ==
	   address_of(fd, buffer.out_handle, first, NULL),
	   "IMPORT: the same addresses");
	ok(import.out_length == (uint64_t)(8 * page_size) &&
	   length_of(fd, &import) == import.out_length,
	   "IMPORT: its segments are the part");
	ok(import.out_flags == buffer.out_flags, "IMPORT: synced as the buffer");
	ok(counter("buffer_bytes") == length + page_size,
	   "IMPORT: charged as a page");
	is_errno(export_range(fd, import.out_handle, 0, page_size, 0), EOPNOTSUPP,
		 "EXPORT: of an import");

	free_handle(fd, buffer.out_handle);
	ok(counter("buffers") == 2, "IMPORT: keeps the buffer");
	fill(view, EDU_BUFFER_SIZE, 3);
	sync_whole(fd, import.out_handle, IOSPACE_SYNC_FOR_DEVICE);
	transfer(fd, edu, import.out_dma_addr, 0);
	memset(view, 0, EDU_BUFFER_SIZE);
	sync_whole(fd, import.out_handle, IOSPACE_SYNC_FOR_DEVICE);
	transfer(fd, edu, import.out_dma_addr, EDU_DMA_TO_MEMORY);
	sync_whole(fd, import.out_handle, IOSPACE_SYNC_FOR_CPU);
	ok(is_filled(view, EDU_BUFFER_SIZE, 3), "IMPORT: and its device reaches it");
	is_errno(import_fd(fd, dmabuf, TO_DEVICE, &again), 0, "IMPORT: twice");
	free_handle(fd, import.out_handle);
	ok(counter("buffers") == 2, "IMPORT: the other keeps it");
	free_handle(fd, again.out_handle);
	ok(!counter("buffers") && counter("buffer_bytes") == length,
	   "IMPORT: then the dma-buf has its pages");

	/* There is no buffer any more: mapped anew. */
	is_errno(import_fd(fd, dmabuf, BOTH_WAYS, &import), 0,
		 "IMPORT: of this device, without its buffer");
	memset(view, 0, EDU_BUFFER_SIZE);
	sync_whole(fd, import.out_handle, IOSPACE_SYNC_FOR_DEVICE);
	transfer(fd, edu, import.out_dma_addr, EDU_DMA_TO_MEMORY);
	sync_whole(fd, import.out_handle, IOSPACE_SYNC_FOR_CPU);
	ok(is_filled(view, EDU_BUFFER_SIZE, 3), "IMPORT: and its device reaches it");
	free_handle(fd, import.out_handle);
	munmap(view, 8 * page_size);
	close(dmabuf);

	/* Where a buffer's handle has its pages, an import's has none. */
	if (alloc_as(fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = 1 }, &buffer))
		die("ALLOC");
	dmabuf = export_whole(fd, &buffer);
	if (import_fd(fd, dmabuf, BOTH_WAYS, &import))
		die("IMPORT");
	free_handle(fd, buffer.out_handle);
	ok(map(fd, page_size, (uint64_t)import.out_handle * page_size) ==
	   MAP_FAILED && errno == EINVAL, "IMPORT: cannot be mapped by its handle");
	free_handle(fd, import.out_handle);
	close(dmabuf);
	ok(!counter("buffer_bytes"), "IMPORT: nothing stays behind");
}

/* What another device exported, @edu's reads and writes. */
static void test_import_other(int fd, int other, volatile uint8_t *edu)
{
	const uint64_t length = 16 * page_size, place = 9 * page_size;
	struct iospace_import import, back;
	struct iospace_alloc buffer;
	uint8_t *bytes = alloc_cached(other, length, &buffer);
	int dmabuf = export_whole(other, &buffer);
	uint64_t address;

	fill(bytes + place, EDU_BUFFER_SIZE, 9);
	is_errno(import_fd(fd, dmabuf, TO_DEVICE, &import), 0,
		 "IMPORT: of another device, to read");
	ok(import.out_length == length && length_of(fd, &import) == length,
	   "IMPORT: its segments are the whole");
	ok(counter("buffer_bytes") == (unsigned)page_size,
	   "IMPORT: charged as a page");
	address = address_of(fd, import.out_handle, place, NULL);
	transfer(fd, edu, address, 0);
	is_errno(sync_whole(fd, import.out_handle, IOSPACE_SYNC_FOR_CPU), 0,
		 "IMPORT: SYNC for the CPU");
	ok(is_filled(bytes + place, EDU_BUFFER_SIZE, 9),
	   "IMPORT: what the device only reads stays");
	free_handle(fd, import.out_handle);

	memset(bytes, 0xee, length);
	is_errno(import_fd(fd, dmabuf, BOTH_WAYS, &back), 0,
		 "IMPORT: of another device, to write");
	address = address_of(fd, back.out_handle, place, NULL);
	transfer(fd, edu, address, EDU_DMA_TO_MEMORY);
	if (is_bounced())
		ok(bytes[place] == 0xee, "IMPORT: stale before SYNC");
	is_errno(sync_whole(fd, back.out_handle, IOSPACE_SYNC_FOR_CPU), 0,
		 "IMPORT: SYNC for the CPU");
	ok(is_filled(bytes + place, EDU_BUFFER_SIZE, 9),
	   "IMPORT: the bytes that went out came in");
	ok(bytes[place - 1] == 0xee && bytes[place + EDU_BUFFER_SIZE] == 0xee,
	   "IMPORT: and nothing else changed");
	fill(bytes + place, EDU_BUFFER_SIZE, 11);
	is_errno(sync_whole(fd, back.out_handle, IOSPACE_SYNC_FOR_DEVICE), 0,
		 "IMPORT: SYNC for the device");
	transfer(fd, edu, address, 0);
	memset(bytes, 0, length);
	sync_whole(fd, back.out_handle, IOSPACE_SYNC_FOR_DEVICE);
	transfer(fd, edu, address, EDU_DMA_TO_MEMORY);
	/* By the descriptor, as a process does that has no more. */
	sync_dmabuf(dmabuf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	ok(is_filled(bytes + place, EDU_BUFFER_SIZE, 11),
	   "IMPORT: DMA_BUF_IOCTL_SYNC serves who attached");

	/* The importer's descriptor of it is not needed, nor the exporter's buffer. */
	close(dmabuf);
	drop(other, bytes, &buffer);
	transfer(fd, edu, address, EDU_DMA_TO_MEMORY);
	is_errno(sync_whole(fd, back.out_handle, IOSPACE_SYNC_FOR_CPU), 0,
		 "IMPORT: outlives the buffer");
	is_errno(free_handle(fd, back.out_handle), 0, "IMPORT: FREE");
	ok(!counter("buffer_bytes"), "IMPORT: nothing stays behind");
}

/* Memory that another driver exported: of a memfd. */
static void test_import_udmabuf(int fd, volatile uint8_t *edu)
{
	const uint64_t length = 16 * page_size, place = 7 * page_size;
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC,
					 .size = length };
	int driver = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), memory, dmabuf,
	    second, again;
	struct iospace_import import;
	uint64_t address;
	uint8_t *bytes;

	if (driver == -1) {
		skip("IMPORT: a udmabuf: this kernel has no /dev/udmabuf");
		return;
	}
	memory = memfd_create("dmabuf", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	if (memory == -1 || ftruncate(memory, length) ||
	    fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK))
		die("memfd");
	bytes = map(memory, length, 0);
	create.memfd = memory;
	dmabuf = ioctl(driver, UDMABUF_CREATE, &create);
	if (dmabuf == -1)
		die("UDMABUF_CREATE");

	fill(bytes + place, EDU_BUFFER_SIZE, 13);
	is_errno(import_fd(fd, dmabuf, BOTH_WAYS, &import), 0,
		 "IMPORT: a udmabuf");
	again = dup(dmabuf);
	close(dmabuf);
	close(driver);
	ok(import.out_length == length && length_of(fd, &import) == length,
	   "IMPORT: its segments are the memfd");
	address = address_of(fd, import.out_handle, place, NULL);
	sync_whole(fd, import.out_handle, IOSPACE_SYNC_FOR_DEVICE);
	transfer(fd, edu, address, 0);
	is_errno(sync_whole(fd, import.out_handle, IOSPACE_SYNC_FOR_CPU), 0,
		 "IMPORT: a udmabuf: SYNC for the CPU");
	memset(bytes, 0xee, length);
	is_errno(sync_whole(fd, import.out_handle, IOSPACE_SYNC_FOR_DEVICE), 0,
		 "IMPORT: a udmabuf: SYNC for the device");
	transfer(fd, edu, address, EDU_DMA_TO_MEMORY);
	sync_whole(fd, import.out_handle, IOSPACE_SYNC_FOR_CPU);
	ok(is_filled(bytes + place, EDU_BUFFER_SIZE, 13),
	   "IMPORT: a udmabuf: the bytes that went out came in");
	ok(bytes[place - 1] == 0xee && bytes[place + EDU_BUFFER_SIZE] == 0xee,
	   "IMPORT: a udmabuf: and nothing else changed");
	free_handle(fd, import.out_handle);
	munmap(bytes, length);
	close(memory);

	/* A page, and what it keeps; until the caller's last close. */
	second = open_device(O_RDWR);
	if (again == -1 || import_fd(second, again, BOTH_WAYS, &import))
		die("IMPORT");
	close(again);
	close(second);
	ok(counter_becomes("held_bytes", page_size + length) &&
	   counter("buffer_bytes") == page_size + length,
	   "IMPORT: a udmabuf: of a file that has gone, held back, and counts whole");
}

/* The exporter goes, under a descriptor, mappings and an importer. */
static void test_exporter_gone(int other)
{
	int fd = open_device(O_RDWR), dmabuf;
	struct iospace_alloc buffer;
	struct iospace_import import, again, own;
	uint8_t *bytes = alloc_cached(fd, 2 * page_size, &buffer);
	volatile uint8_t *view, *second;

	memset(bytes, 0x42, 2 * page_size);
	dmabuf = export_whole(fd, &buffer);
	view = map_dmabuf(dmabuf, 2 * page_size);
	second = map_dmabuf(dmabuf, page_size);
	ok(view[1] == 0x42 && second[1] == 0x42, "unbind: a dma-buf");
	if (import_fd(other, dmabuf, BOTH_WAYS, &import) ||
	    import_fd(fd, dmabuf, BOTH_WAYS, &own))
		die("IMPORT");
	/* So that only the import keeps it. */
	drop(fd, bytes, &buffer);

	unbind_device();
	ok(!view[1] && !view[2 * page_size - 1], "unbind: it reads as zeros");
	view[1] = 9;
	ok(second[1] == 9, "unbind: and what is written goes nowhere else");
	ok(map(dmabuf, page_size, 0) == MAP_FAILED && errno == ENODEV,
	   "unbind: mmap of a dma-buf");
	is_errno(sync_dmabuf(dmabuf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW), 0,
		 "unbind: DMA_BUF_IOCTL_SYNC");
	is_errno(sync_dmabuf(dmabuf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW), 0,
		 "unbind: and its end");
	is_errno(import_fd(other, dmabuf, BOTH_WAYS, &again), ENODEV,
		 "unbind: IMPORT by another device");
	is_errno(sync_whole(other, import.out_handle, IOSPACE_SYNC_FOR_CPU), 0,
		 "unbind: who attached keeps it");

	bind_device();
	close(fd);
	fd = open_device(O_RDWR);
	is_errno(import_fd(fd, dmabuf, BOTH_WAYS, &again), ENODEV,
		 "unbind: IMPORT by the device, bound again");
	ok(!counter("buffer_bytes"), "unbind: charged to the one that has gone");
	is_errno(free_handle(other, import.out_handle), 0,
		 "unbind: who attached detaches");
	munmap((void *)view, 2 * page_size);
	munmap((void *)second, page_size);
	close(dmabuf);
	close(fd);
}

/* The importer goes; the dma-buf does not. */
static void test_importer_gone(int other)
{
	int fd = open_device(O_RDWR), dmabuf;
	struct iospace_alloc buffer;
	struct iospace_import import;
	uint8_t *bytes = alloc_cached(other, page_size, &buffer), *view;

	bytes[3] = 3;
	dmabuf = export_whole(other, &buffer);
	if (import_fd(fd, dmabuf, BOTH_WAYS, &import))
		die("IMPORT");
	unbind_device();
	view = map_dmabuf(dmabuf, page_size);
	ok(view[3] == 3 && bytes[3] == 3, "unbind of the importer: all stays");
	is_errno(sync_whole(fd, import.out_handle, IOSPACE_SYNC_FOR_CPU), ENODEV,
		 "unbind of the importer: SYNC");
	is_errno(sync_dmabuf(dmabuf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW), 0,
		 "unbind of the importer: DMA_BUF_IOCTL_SYNC");
	munmap(view, page_size);
	close(dmabuf);
	bind_device();
	close(fd);
	drop(other, bytes, &buffer);
}

/* Threads against unbind. Each runs until the device is gone. */
struct race {
	int fd;
	int other;
	int dmabuf;
	uint32_t handle;
	_Atomic bool over;
	volatile uint8_t *view;
	volatile uint8_t *first;
};

/* Returns the last mapping that mmap() gave. */
static void *race_map(void *argument)
{
	struct race *race = argument;
	volatile uint8_t *last = race->first, *next;

	while ((next = map(race->dmabuf, page_size, 0)) != MAP_FAILED) {
		next[0] = 0x42;
		munmap((void *)last, page_size);
		last = next;
	}
	return (void *)last;
}

/* Takes the pages out again and again, so that it faults. */
static void *race_touch(void *argument)
{
	struct race *race = argument;

	while (!race->over) {
		race->view[0] = 0x42;
		madvise((void *)race->view, page_size, MADV_DONTNEED);
	}
	return NULL;
}

static void *race_import(void *argument)
{
	struct race *race = argument;
	struct iospace_import import;

	while (!import_fd(race->other, race->dmabuf, BOTH_WAYS, &import)) {
		sync_whole(race->other, import.out_handle,
			   IOSPACE_SYNC_FOR_CPU);
		free_handle(race->other, import.out_handle);
	}
	return errno == ENODEV ? NULL : argument;
}

static void *race_export(void *argument)
{
	struct race *race = argument;
	struct iospace_import import;
	int dmabuf;

	while ((dmabuf = export_range(race->fd, race->handle, 0, page_size,
				      0)) >= 0) {
		if (!import_fd(race->fd, dmabuf, BOTH_WAYS, &import))
			free_handle(race->fd, import.out_handle);
		close(dmabuf);
	}
	return errno == ENODEV ? NULL : argument;
}

static bool run_race(int other, int delay)
{
	static void *(*const racers[])(void *) = {
		race_map, race_touch, race_import, race_export,
	};
	enum { COUNT = sizeof(racers) / sizeof(*racers) };
	struct race race = { .fd = open_device(O_RDWR), .other = other };
	volatile uint8_t *last;
	pthread_t threads[COUNT];
	void *results[COUNT];
	struct iospace_alloc buffer;
	bool good;

	if (alloc_as(race.fd, (struct iospace_alloc){
		.memory = IOSPACE_MEMORY_CACHED, .length = 1 }, &buffer))
		die("ALLOC");
	race.handle = buffer.out_handle;
	race.dmabuf = export_whole(race.fd, &buffer);
	race.view = map_dmabuf(race.dmabuf, page_size);
	race.first = map_dmabuf(race.dmabuf, page_size);
	for (int i = 0; i < COUNT; i++)
		pthread_create(&threads[i], NULL, racers[i], &race);
	sleep_ms(delay);
	unbind_device();
	race.over = true;
	for (int i = 0; i < COUNT; i++)
		pthread_join(threads[i], &results[i]);

	/* What mmap() gave last was taken away too: it is the page of the other. */
	last = results[0];
	race.view[1] = 0x77;
	good = last[1] == 0x77 && !results[2] && !results[3];
	if (!good)
		printf("# page %02x import %d export %d\n", last[1],
		       !results[2], !results[3]);
	munmap((void *)last, page_size);
	munmap((void *)race.view, page_size);
	close(race.dmabuf);
	close(race.fd);
	bind_device();
	return good;
}

static void test_races(int other)
{
	enum { ROUNDS = 8 };
	bool good = true;

	for (int i = 0; i < ROUNDS && good; i++)
		good = run_race(other, 10 + i * 7);
	ok(good, "unbind: %d times, against mmap, access, IMPORT, EXPORT of a dma-buf",
	   ROUNDS);
}

void test_dmabuf(void)
{
	int fd = open_device(O_RDWR);
	int other = open("/dev/iospace0", O_RDWR | O_CLOEXEC);
	volatile uint8_t *edu;

	if (other == -1)
		die("/dev/iospace0");
	if (!has_dmabuf(fd)) {
		skip("dma-buf: this kernel has none");
		close(other);
		close(fd);
		return;
	}
	edu = edu_map(fd);
	test_refused_exports(fd);
	test_mappings(fd);
	test_read_only(fd, other);
	test_own_transfers(fd, edu);
	test_many(fd);
	test_refused_imports(fd);
	test_import_own(fd, edu);
	test_import_other(fd, other, edu);
	test_import_udmabuf(fd, edu);
	munmap((void *)edu, 1 << 20);
	close(fd);

	test_lives_on();
	test_other_process();
	test_exporter_gone(other);
	test_importer_gone(other);
	test_races(other);
	close(other);
}
