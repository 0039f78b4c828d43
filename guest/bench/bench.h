/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What runs in the guest for `invoke bench --networks`: it shapes links, and
 * sends over them.  A program of our own in place of tc, ethtool and iperf3:
 * it does nothing but this, so it does the same each time; it is one small
 * static file; it measures in the guest's nanoseconds; and it can set the
 * number that netem draws its losses with, which tc can since iproute2 6.6.
 */
#ifndef LINKLAB_BENCH_H
#define LINKLAB_BENCH_H

#include <stdint.h>

/* Each returns the program's status; argv begins behind the name of the command. */
int plain(char **argv);
int shape(char **argv);
int receive(char **argv);
int send_to(char **argv);

int fault(const char *what);
uint64_t number(const char *text);

#endif
