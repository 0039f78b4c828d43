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

/* In a child whose exec failed: says so to the parent and ends. */
void cannot_become(void);

/* Before a fork; and after the end: whether it ran, from its wait(2) status or -1. */
void forget_exec_error(void);
enum outcome check_end(const struct program *p, int status, struct failure *why);

#endif
