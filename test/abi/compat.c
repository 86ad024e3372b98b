// SPDX-License-Identifier: MIT
/* The device as a 32-bit program sees it: abi32.c, which lies beside this one. */
#include "abi.h"

#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { NO_SUCH_PROGRAMS = 126 };

void test_compat(void)
{
	char path[PATH_MAX] = "", program[PATH_MAX + 32];
	int status;
	pid_t child;

	if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0)
		die("/proc/self/exe");
	snprintf(program, sizeof(program), "%s/iospace-abi32", dirname(path));
	if (access(program, X_OK)) {
		skip("32-bit programs are for x86");
		return;
	}
	child = fork();
	if (!child) {
		execl(program, program, device.path, NULL);
		_exit(errno == ENOEXEC ? NO_SUCH_PROGRAMS : 127);
	}
	waitpid(child, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_SUCH_PROGRAMS)
		skip("this kernel runs no 32-bit programs");
	else
		ok(!status, "32-bit: all steps (status %#x)", status);
}
