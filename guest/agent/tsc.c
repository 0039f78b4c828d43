/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The time stamp counter's frequency, for the host: under TCG a guest reads
 * the host's counter, but has to guess its frequency from an emulated timer,
 * and on a busy host it guesses wrong or not at all.
 */
#include "agent.h"

#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define WINDOW_NS 100000000u

struct reading {
	uint64_t ns;
	uint64_t tsc;
};

static uint64_t raw_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Of many pairs the one with the least time in between: nobody got in its way. */
static struct reading read_both(void)
{
	struct reading best = { 0 };
	uint64_t shortest = UINT64_MAX;

	for (int i = 0; i < 64; i++) {
		uint64_t before = __rdtsc(), ns = raw_ns(), after = __rdtsc();

		if (after - before < shortest) {
			shortest = after - before;
			best = (struct reading){ .ns = ns, .tsc = before + (after - before) / 2 };
		}
	}
	return best;
}

int print_tsc_khz(void)
{
	struct timespec window = { .tv_nsec = WINDOW_NS };
	struct reading first = read_both(), last;

	nanosleep(&window, NULL);
	last = read_both();
	printf("%llu\n", (unsigned long long)((last.tsc - first.tsc) * 1000000u /
					      (last.ns - first.ns)));
	return 0;
}
