/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The stopwatch.  Time is CLOCK_MONOTONIC in nanoseconds, taken directly
 * around the work; the rest is the sum of what getrusage(2) says of the agent
 * and of the children that it has waited for, after minus before.
 */
#ifndef LINKLAB_MEASURE_H
#define LINKLAB_MEASURE_H

#include <sys/resource.h>

#include "wire.h"

struct measure {
	uint64_t began;
	uint64_t nanoseconds;
	uint64_t processes; /* forked by the agent for this */
	uint64_t messages;  /* netlink requests sent by the agent itself */
	struct rusage self, children;
	uint64_t user_us, system_us, switches;
};

uint64_t monotonic_ns(void);
void measure_begin(struct measure *m);
void measure_end(struct measure *m);
/* Ends one that counted a single child, others being at work: wait4(2) says what that used. */
void measure_end_of(struct measure *m, const struct rusage *used);
void put_measure(struct buffer *out, const struct measure *m);

#endif
