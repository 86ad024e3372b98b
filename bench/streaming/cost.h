/* SPDX-License-Identifier: MIT */
/*
 * What pieces of work cost, by their clock, which counts instructions in the
 * machines that these programs are run in: the median of some rounds in which they
 * take turns.
 */
#ifndef COST_H
#define COST_H

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 9

static inline void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

/* Nobody else's work is counted. */
static inline void run_alone(void)
{
	struct sched_param first = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_FIFO, &first))
		fail("sched_setscheduler");
}

static inline long long now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static inline int compare_costs(const void *a, const void *b)
{
	long long left = *(const long long *)a, right = *(const long long *)b;

	return (left > right) - (left < right);
}

static inline long long median(long long costs[ROUNDS])
{
	qsort(costs, ROUNDS, sizeof(*costs), compare_costs);
	return costs[ROUNDS / 2];
}

/* One line of JSON: what iospace's work costs, and the other's. */
static inline void compare(const char *name, long long (*ours)(void *with),
			   long long (*other)(void *with), void *with)
{
	long long our_costs[ROUNDS], other_costs[ROUNDS];

	/* The first round fills the caches of the kernel. */
	for (int round = -1; round < ROUNDS; round++) {
		long long our_cost = ours(with), other_cost = other(with);

		if (round >= 0) {
			our_costs[round] = our_cost;
			other_costs[round] = other_cost;
		}
	}
	printf("{\"name\":\"%s\",\"iospace\":%lld,\"other\":%lld}\n", name, median(our_costs),
	       median(other_costs));
}

#endif /* COST_H */
