// SPDX-License-Identifier: MIT
/*
 * The agent: the first process of the guest, which starts commands for the host.
 *
 *     agent PORT
 *
 * Host and guest exchange frames over PORT, a virtio port or a serial line; lib/lab/frames.ts describes them.
 * Every command is the leader of a session of its own. The end of a run is the end of its command: what it
 * leaves in the background writes into nothing.
 *
 * If the agent ends, the kernel panics, which the host sees. That is the right answer to a host that is gone.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum frame_type {
	FRAME_START = 1,
	FRAME_STDIN = 2,
	FRAME_SIGNAL = 3,
	FRAME_SYNC = 4,

	FRAME_READY = 16,
	FRAME_STDOUT = 17,
	FRAME_STDERR = 18,
	FRAME_TAKEN = 19,
	FRAME_EXIT = 20,
	FRAME_SYNCED = 21,
};

/* The run of the first frame: a serial line carries noise before it. */
#define READY_MARK 0x105bace0
#define MAX_RUNS 64
#define MAX_PAYLOAD (1 << 20)
#define STDIN_WINDOW 65536
#define CHUNK 32768

struct header {
	uint8_t type;
	uint32_t run;
	uint32_t length;
} __attribute__((packed));

struct run {
	uint32_t id;
	pid_t pid;		/* 0: this slot is free */
	int in, out, err;	/* our ends of its pipes; -1: closed */
	char *stdin_bytes;	/* what it has not taken yet */
	size_t stdin_length;
	int stdin_ended;
};

static struct run runs[MAX_RUNS];
static int port, kernel_log;

/* One write is one line. Not dprintf(), which seeks: this file cannot. */
__attribute__((format(printf, 1, 2))) static void log_line(const char *format,
							   ...)
{
	char line[256];
	va_list values;

	va_start(values, format);
	vsnprintf(line, sizeof(line), format, values);
	va_end(values);
	if (write(kernel_log, line, strlen(line)) < 0)
		return; /* the host waits for a while, and goes on */
}

static void die(const char *what)
{
	log_line("<3>iospace-lab failed: agent: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void write_all(int fd, const void *data, size_t length)
{
	const char *bytes = data;

	while (length > 0) {
		ssize_t n = write(fd, bytes, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			die("write to the host");
		bytes += n;
		length -= n;
	}
}

static void send_frame(enum frame_type type, uint32_t run, const void *payload,
		       size_t length)
{
	struct header header = { type, htole32(run), htole32(length) };

	write_all(port, &header, sizeof(header));
	write_all(port, payload, length);
}

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static struct run *find_run(uint32_t id)
{
	for (struct run *run = runs; run < runs + MAX_RUNS; run++)
		if (run->pid && run->id == id)
			return run;
	return NULL;
}

/* The next string of a payload that ends with a zero byte. */
static char *next_string(char **cursor, char *end)
{
	char *string = *cursor;

	if (string >= end)
		return NULL;
	*cursor = string + strlen(string) + 1;
	return string;
}

static void exec_command(const char *directory, char **argv, char **env)
{
	const char *what = directory;
	sigset_t none;
	int error;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	environ = env;
	if (chdir(directory) == 0) {
		what = argv[0];
		execvp(argv[0], argv);
	}
	error = errno;
	dprintf(2, "iospace lab: %s: %s\n", what, strerror(error));
	/* As shells have it. */
	_exit(error == ENOENT ? 127 : 126);
}

static void finish(uint32_t id, int code, int sig)
{
	uint8_t status[] = { code, sig };

	/* All the kernel had to say about the run stands before this line. */
	log_line("<6>iospace-lab: run %u ended\n", id);
	send_frame(FRAME_EXIT, id, status, sizeof(status));
}

static void refuse(uint32_t id, const char *why)
{
	send_frame(FRAME_STDERR, id, why, strlen(why));
	finish(id, 126, 0);
}

static void start(uint32_t id, char *payload, size_t length)
{
	char *cursor = payload, *end = payload + length;
	char *directory = next_string(&cursor, end);
	size_t argc = atoi(next_string(&cursor, end) ?: "0");
	size_t strings = 0;
	char **vector;
	struct run *run = runs;
	int in[2], out[2], err[2];

	while (run < runs + MAX_RUNS && run->pid)
		run++;
	if (run == runs + MAX_RUNS) {
		refuse(id, "iospace lab: too many commands at a time\n");
		return;
	}
	/* The arguments, NULL, the environment, NULL. */
	vector = calloc(length + 2, sizeof(*vector));
	run->stdin_bytes = malloc(STDIN_WINDOW);
	if (!vector || !run->stdin_bytes)
		die("memory");
	for (char *s; (s = next_string(&cursor, end)); strings++)
		vector[strings + (strings >= argc)] = s;
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) ||
	    pipe2(err, O_CLOEXEC))
		die("pipe");

	run->pid = fork();
	if (run->pid < 0)
		die("fork");
	if (run->pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		exec_command(directory, vector, vector + argc + 1);
	}
	free(vector);
	close(in[0]);
	close(out[1]);
	close(err[1]);
	run->id = id;
	run->in = in[1];
	run->out = out[0];
	run->err = err[0];
	run->stdin_length = 0;
	run->stdin_ended = 0;
	/* A command that does not read must not stop the others. */
	fcntl(run->in, F_SETFL, O_NONBLOCK);
}

/* Hands a command as much of its stdin as it takes now. */
static void feed(struct run *run)
{
	ssize_t n = 0;
	uint32_t taken;

	if (run->in < 0)
		return;
	if (run->stdin_length > 0)
		n = write(run->in, run->stdin_bytes, run->stdin_length);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0) {
		/* It closed its stdin: what is left is taken as read. */
		n = run->stdin_length;
		run->stdin_ended = 1;
	}
	run->stdin_length -= n;
	memmove(run->stdin_bytes, run->stdin_bytes + n, run->stdin_length);
	if (n > 0) {
		taken = htole32(n);
		send_frame(FRAME_TAKEN, run->id, &taken, sizeof(taken));
	}
	if (run->stdin_ended && run->stdin_length == 0)
		close_end(&run->in);
}

static void take_stdin(struct run *run, const char *bytes, size_t length)
{
	uint32_t taken = htole32(length);

	if (run->in < 0) {
		send_frame(FRAME_TAKEN, run->id, &taken, sizeof(taken));
		return;
	}
	if (length > STDIN_WINDOW - run->stdin_length) {
		errno = EOVERFLOW;
		die("stdin");
	}
	memcpy(run->stdin_bytes + run->stdin_length, bytes, length);
	run->stdin_length += length;
	run->stdin_ended |= length == 0;
	feed(run);
}

/* Sends at most @limit bytes of what a command wrote. */
static size_t forward(struct run *run, int *fd, enum frame_type type,
		      size_t limit)
{
	static char bytes[CHUNK];
	ssize_t n = read(*fd, bytes, limit < CHUNK ? limit : CHUNK);

	if (n > 0)
		send_frame(type, run->id, bytes, n);
	else if (n == 0 || errno != EINTR)
		close_end(fd);
	return n > 0 ? n : 0;
}

/* Sends what is in the pipe now, and no more: a child may go on writing. */
static void drain(struct run *run, int *fd, enum frame_type type)
{
	int left = 0;

	if (*fd >= 0)
		ioctl(*fd, FIONREAD, &left);
	while (left > 0 && *fd >= 0)
		left -= forward(run, fd, type, left);
	close_end(fd);
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct run *run = runs;

		while (run < runs + MAX_RUNS && run->pid != pid)
			run++;
		if (run == runs + MAX_RUNS)
			continue; /* an orphan */
		drain(run, &run->out, FRAME_STDOUT);
		drain(run, &run->err, FRAME_STDERR);
		close_end(&run->in);
		free(run->stdin_bytes);
		run->pid = 0;
		if (WIFSIGNALED(status))
			finish(run->id, 0, WTERMSIG(status));
		else
			finish(run->id, WEXITSTATUS(status), 0);
	}
}

static void handle(const struct header *header, char *payload)
{
	uint32_t id = le32toh(header->run), length = le32toh(header->length);
	struct run *run = find_run(id);

	switch (header->type) {
	case FRAME_START:
		start(id, payload, length);
		break;
	case FRAME_STDIN:
		/* It may have ended before this arrived; so below. */
		if (run)
			take_stdin(run, payload, length);
		break;
	case FRAME_SIGNAL:
		if (run && length == 1)
			kill(-run->pid, payload[0]);
		break;
	case FRAME_SYNC:
		sync();
		send_frame(FRAME_SYNCED, id, NULL, 0);
		break;
	default:
		errno = EPROTO;
		die("frame of the host");
	}
}

/* Reads what has arrived, and handles each frame that is complete. */
static void receive(void)
{
	static char buffer[sizeof(struct header) + MAX_PAYLOAD + 1];
	static size_t used;
	struct header header;
	ssize_t n = read(port, buffer + used, sizeof(buffer) - 1 - used);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0)
		die("read from the host");
	used += n;
	while (used >= sizeof(header)) {
		size_t whole;

		memcpy(&header, buffer, sizeof(header));
		if (le32toh(header.length) > MAX_PAYLOAD) {
			errno = EMSGSIZE;
			die("frame of the host");
		}
		whole = sizeof(header) + le32toh(header.length);
		if (used < whole)
			break;
		handle(&header, buffer + sizeof(header));
		used -= whole;
		memmove(buffer, buffer + whole, used);
	}
}

/* A serial line carries bytes, not lines. */
static void make_raw(int fd)
{
	struct termios settings;

	if (tcgetattr(fd, &settings))
		return; /* not a terminal */
	cfmakeraw(&settings);
	cfsetspeed(&settings, B115200);
	settings.c_cflag |= CLOCAL;
	tcsetattr(fd, TCSANOW, &settings);
}

int main(int argc, char **argv)
{
	struct pollfd polls[2 + 3 * MAX_RUNS];
	sigset_t children;
	int child_fd;

	kernel_log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	/* A serial line would wait for a carrier. */
	port = open(argc > 1 ? argv[1] : "",
		    O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (port < 0)
		die("port");
	make_raw(port);
	fcntl(port, F_SETFL, 0);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, NULL);
	child_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	if (child_fd < 0)
		die("signalfd");
	send_frame(FRAME_READY, READY_MARK, NULL, 0);

	for (;;) {
		struct pollfd *next = polls;
		struct signalfd_siginfo info;

		*next++ = (struct pollfd){ port, POLLIN, 0 };
		*next++ = (struct pollfd){ child_fd, POLLIN, 0 };
		for (struct run *run = runs; run < runs + MAX_RUNS; run++) {
			if (!run->pid)
				continue;
			*next++ = (struct pollfd){ run->out, POLLIN, 0 };
			*next++ = (struct pollfd){ run->err, POLLIN, 0 };
			*next++ = (struct pollfd){
				run->stdin_length ? run->in : -1, POLLOUT, 0
			};
		}
		if (poll(polls, next - polls, -1) < 0 && errno != EINTR)
			die("poll");

		/* Output first: at a command's end its pipes are drained. */
		next = polls + 2;
		for (struct run *run = runs; run < runs + MAX_RUNS; run++) {
			if (!run->pid)
				continue;
			if (next++->revents)
				forward(run, &run->out, FRAME_STDOUT, CHUNK);
			if (next++->revents)
				forward(run, &run->err, FRAME_STDERR, CHUNK);
			if (next++->revents)
				feed(run);
		}
		if (polls[1].revents) {
			while (read(child_fd, &info, sizeof(info)) > 0)
				;
			reap();
		}
		if (polls[0].revents)
			receive();
	}
}
