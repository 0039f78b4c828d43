/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A program to run: its arguments as they come in a request, and whether it
 * could be run at all.
 */
#ifndef LINKLAB_PROGRAM_H
#define LINKLAB_PROGRAM_H

#include "ops.h"

struct program {
	char **argv;
	size_t argc;
};

/* argc, argv...; what was taken is to be freed in either case. */
bool take_program(struct reader *in, struct program *p);
/* The same for any list of at least so many words, an environment for example. */
bool take_words(struct reader *in, struct program *p, uint64_t least);
void free_program(struct program *p);

/* Whether it is there and may be run. */
enum outcome check_program(const struct program *p, struct failure *why);

/* Children at a time, each of whom has a place of its own: 0 is the one that is waited for. */
#define JOBS 32
#define CHILDREN (1 + JOBS)

/* In a child whose exec failed: says so to the parent and ends. */
void cannot_become(size_t place);

/* Before a fork; and after the end: whether it ran, from its wait(2) status or -1. */
void forget_exec_error(size_t place);
enum outcome check_end(const struct program *p, int status, size_t place, struct failure *why);

#endif
