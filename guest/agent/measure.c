/* SPDX-License-Identifier: GPL-2.0-only */
#include "measure.h"

#include <time.h>

#include "agent.h"

uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t micros(const struct timeval *t)
{
	return (uint64_t)t->tv_sec * 1000000u + (uint64_t)t->tv_usec;
}

static void add_difference(struct measure *m, const struct rusage *before, int who)
{
	struct rusage after;

	getrusage(who, &after);
	m->user_us += micros(&after.ru_utime) - micros(&before->ru_utime);
	m->system_us += micros(&after.ru_stime) - micros(&before->ru_stime);
	m->switches += (uint64_t)(after.ru_nvcsw - before->ru_nvcsw);
	m->switches += (uint64_t)(after.ru_nivcsw - before->ru_nivcsw);
}

void measure_begin(struct measure *m)
{
	*m = (struct measure){ 0 };
	turn_settle(WORK_BEAT);
	getrusage(RUSAGE_SELF, &m->self);
	getrusage(RUSAGE_CHILDREN, &m->children);
	m->began = monotonic_ns();
}

void measure_end(struct measure *m)
{
	m->nanoseconds = monotonic_ns() - m->began;
	add_difference(m, &m->self, RUSAGE_SELF);
	add_difference(m, &m->children, RUSAGE_CHILDREN);
}

void measure_end_of(struct measure *m, const struct rusage *used)
{
	m->nanoseconds = monotonic_ns() - m->began;
	m->user_us = micros(&used->ru_utime);
	m->system_us = micros(&used->ru_stime);
	m->switches = (uint64_t)(used->ru_nvcsw + used->ru_nivcsw);
}

void put_measure(struct buffer *out, const struct measure *m)
{
	put_u64(out, m->nanoseconds);
	put_u64(out, m->user_us);
	put_u64(out, m->system_us);
	put_u64(out, m->switches);
	put_u64(out, m->processes);
	put_u64(out, m->messages);
}
