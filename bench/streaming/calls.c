// SPDX-License-Identifier: MIT
/*
 * How many system calls the first thread of a program makes between a call of
 * getppid() and the next, and from there to a third:
 *
 *	calls NAME PROGRAM [ARGUMENT...]
 */
#include <signal.h>
#include <stdbool.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cost.h"

/* Lets the child go on to the next entry into the kernel. */
static bool next_call(pid_t child, struct __ptrace_syscall_info *call)
{
	int status, with = 0;

	do {
		if (ptrace(PTRACE_SYSCALL, child, NULL, with))
			fail("PTRACE_SYSCALL");
		if (waitpid(child, &status, 0) != child)
			fail("waitpid");
		if (!WIFSTOPPED(status))
			return false;
		/* All but our own stops are signals that it is to get. */
		with = WSTOPSIG(status);
		if (with == SIGTRAP || with == (SIGTRAP | 0x80))
			with = 0;
		if (ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(*call), call) < 0)
			fail("PTRACE_GET_SYSCALL_INFO");
	} while (call->op != PTRACE_SYSCALL_INFO_ENTRY);
	return true;
}

int main(int count, char **arguments)
{
	struct __ptrace_syscall_info call;
	long calls[2] = {};
	int parts = 0;
	pid_t child;

	if (count < 3) {
		fprintf(stderr, "usage: %s NAME PROGRAM [ARGUMENT...]\n", arguments[0]);
		return 2;
	}
	child = fork();
	if (!child) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		execvp(arguments[2], arguments + 2);
		fail(arguments[2]);
	}
	if (child == -1 || waitpid(child, NULL, 0) != child ||
	    ptrace(PTRACE_SETOPTIONS, child, NULL,
		   PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL))
		fail("a program to count");
	while (parts < 3) {
		if (!next_call(child, &call)) {
			fprintf(stderr, "%s has ended\n", arguments[2]);
			return 1;
		}
		if (call.entry.nr == SYS_getppid)
			parts++;
		else if (parts)
			calls[parts - 1]++;
	}
	printf("{\"name\":\"%s\",\"iospace\":%ld,\"other\":%ld}\n", arguments[1], calls[0],
	       calls[1]);
	return 0;
}
