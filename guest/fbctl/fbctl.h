/* SPDX-License-Identifier: GPL-2.0-only */
/* Requests to the module lana, for all that makes some. */
#ifndef FBCTL_H
#define FBCTL_H

#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

#include "lana_uapi.h"

#define ROOM 65536

union message {
	struct nlmsghdr head;
	char bytes[ROOM];
};

extern union message request;	/* in the making */
extern char refusal[256];	/* the kernel's own words for its last refusal, if it had any */
extern uint16_t family;
extern unsigned long requests;	/* that the kernel was asked */

/* What the kernel refuses ends the program with status 1, what is called wrongly with 2. */
_Noreturn void fault(const char *what);
_Noreturn void misused(const char *why);

void begin(uint16_t type, uint8_t command, uint16_t flags);
void add(uint16_t type, const void *content, size_t length);
void add_text(uint16_t type, const char *text);
void *content(const struct nlattr *it);
uint64_t whole(const struct nlattr *it);
struct nlattr *next_attribute(char **at, const char *end);

/* Each 0, or -1 with errno and `refusal`. */
int add_block(const char *type, const char *name);
int set_one(const char *name, char *setting);	/* KEY=VALUE, which it cuts */
int remove_block(const char *name);
int about_two(uint8_t command, uint16_t flags, const char *name, const char *other, int port);

int open_socket(const char *name);	/* of an fb_pflana */

/* agree.c */
void propose(char **argv);
void accept_one(char **argv);
void talk(char **argv);
void answer(char **argv);

#endif
