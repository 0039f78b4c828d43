/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LINKLAB_FILL_H
#define LINKLAB_FILL_H

#include <stddef.h>

/* Ends the program with what errno says of something. */
_Noreturn void fault(const char *what);

/* Returns a file's content, which is the caller's. */
char *content_of(const char *path, size_t *length);

/* The commands, with their arguments. */
void fill_ipset(char **argv);
void fill_nftables(char **argv);
void join_switch(char **argv);

#endif
