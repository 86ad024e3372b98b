/*
 * The other side of shared memory, in C, with the system's own calls.
 *
 *   peer KIND WHERE SIZE ACTION...
 *
 * KIND    posix (WHERE: its name), sysv (its key), file (its path, also /proc/PID/fd/FD), memfd (none),
 *         passed (the socket of fds.send and fds.receive)
 * SIZE    0: attaches to the memory that there is; otherwise makes it, and fails if there is one
 * ACTION  share         prints size, first byte and last byte, then adds 1 to both
 *         stay          prints the path of the descriptor, and waits for the end of the input
 *         wait N        sleeps on word N while it is 0; prints how that ended
 *         wake N        wakes one that sleeps on word N, as soon as there is one
 *         rounds COUNT  word 0 goes from even to odd here, from odd to even there
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static unsigned char *bytes;
static size_t size;
/* Of the memory's file, where it has one. */
static int fd = -1;

static void fail(const char *what)
{
	fprintf(stderr, "peer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static _Atomic uint32_t *word(const char *index)
{
	return (_Atomic uint32_t *)bytes + atoi(index);
}

static void map(void)
{
	struct stat status;

	if (fstat(fd, &status) == -1)
		fail("fstat");
	size = status.st_size;
	bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		fail("mmap");
}

static void grow(size_t asked)
{
	if (fd == -1)
		fail("open");
	if (asked != 0 && ftruncate(fd, asked) == -1)
		fail("ftruncate");
	map();
}

static void open_posix(const char *name, size_t asked)
{
	fd = shm_open(name, O_RDWR | (asked != 0 ? O_CREAT | O_EXCL : 0), 0600);
	grow(asked);
}

static void open_file(const char *path, size_t asked)
{
	fd = open(path, O_RDWR | O_CLOEXEC | (asked != 0 ? O_CREAT | O_EXCL : 0), 0600);
	grow(asked);
}

static void make_memfd(const char *name, size_t asked)
{
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	grow(asked);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == -1)
		fail("F_ADD_SEALS");
}

static void open_sysv(const char *key, size_t asked)
{
	struct shmid_ds status;
	const int id = shmget(atoi(key), asked, asked != 0 ? IPC_CREAT | IPC_EXCL | 0600 : 0);

	if (id == -1 || shmctl(id, IPC_STAT, &status) == -1)
		fail("shmget");
	size = status.shm_segsz;
	bytes = shmat(id, NULL, 0);
	if (bytes == (void *)-1)
		fail("shmat");
}

/* A message of fds.send, and its answer: the byte '1', the first of them with the descriptors. */
static void pass(int socket, int passed, struct msghdr *message)
{
	message->msg_controllen = passed == -1 ? 0 : CMSG_SPACE(sizeof(int));
	if (passed != -1) {
		struct cmsghdr *const header = CMSG_FIRSTHDR(message);

		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &passed, sizeof(int));
	}
	if (sendmsg(socket, message, 0) != 1)
		fail("sendmsg");
}

/* Makes a memfd and sends it, or receives one. */
static void open_passed(const char *path, size_t asked)
{
	char byte = '1';
	struct iovec part = { &byte, 1 };
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const int socket_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (asked != 0) {
		make_memfd("peer", asked);
		while (connect(socket_fd, (struct sockaddr *)&address, sizeof(address)) == -1) {
			if (errno != ENOENT && errno != ECONNREFUSED)
				fail("connect");
			nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
		}
		pass(socket_fd, fd, &message);
		message.msg_controllen = 0;
		if (recvmsg(socket_fd, &message, 0) != 1 || byte != '1')
			fail("recvmsg");
		return;
	}
	if (bind(socket_fd, (struct sockaddr *)&address, sizeof(address)) == -1 || listen(socket_fd, 1) == -1)
		fail("listen");
	const int connection = accept4(socket_fd, NULL, NULL, SOCK_CLOEXEC);

	message.msg_controllen = sizeof(control);
	if (recvmsg(connection, &message, MSG_CMSG_CLOEXEC) != 1 || byte != '1' ||
	    message.msg_controllen != sizeof(control))
		fail("recvmsg");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	pass(connection, -1, &message);
	unlink(path);
	map();
}

static void share(void)
{
	printf("%zu %u %u\n", size, bytes[0], bytes[size - 1]);
	bytes[0]++;
	bytes[size - 1]++;
}

static void stay(void)
{
	printf("/proc/%d/fd/%d\n", (int)getpid(), fd);
	while (getchar() != EOF) {
	}
}

/* Not private: whoever sleeps or wakes may be in another process. */
static long futex(_Atomic uint32_t *at, int operation, uint32_t value)
{
	return syscall(SYS_futex, at, operation, value, NULL, NULL, 0);
}

static void sleep_on(_Atomic uint32_t *at, uint32_t value)
{
	if (futex(at, FUTEX_WAIT, value) == 0)
		printf("woken\n");
	else
		printf("%s\n", errno == EAGAIN ? "not equal" : strerror(errno));
}

static void wake_one(_Atomic uint32_t *at)
{
	while (futex(at, FUTEX_WAKE, 1) == 0)
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
}

static void rounds(int count)
{
	_Atomic uint32_t *const at = word("0");

	for (uint32_t value = 0; value != 2 * (uint32_t)count; value += 2) {
		uint32_t now;

		while ((now = *at) != value)
			futex(at, FUTEX_WAIT, now);
		*at = value + 1;
		futex(at, FUTEX_WAKE, INT32_MAX);
	}
}

int main(int argc, char **argv)
{
	const struct {
		const char *kind;
		void (*open)(const char *where, size_t asked);
	} kinds[] = {
		{ "posix", open_posix }, { "sysv", open_sysv },     { "file", open_file },
		{ "memfd", make_memfd }, { "passed", open_passed },
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; argc > 4 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(argv[1], kinds[i].kind) == 0)
			kinds[i].open(argv[2], strtoul(argv[3], NULL, 10));
	if (bytes == NULL) {
		fprintf(stderr, "usage: peer KIND WHERE SIZE ACTION...\n");
		return 2;
	}
	for (int i = 4; i < argc; i++) {
		const char *const value = i + 1 < argc ? argv[i + 1] : "0";

		if (strcmp(argv[i], "share") == 0)
			share();
		else if (strcmp(argv[i], "stay") == 0)
			stay();
		else if (strcmp(argv[i], "wait") == 0)
			sleep_on(word(value), 0);
		else if (strcmp(argv[i], "wake") == 0)
			wake_one(word(value));
		else if (strcmp(argv[i], "rounds") == 0)
			rounds(atoi(value));
	}
	return 0;
}
