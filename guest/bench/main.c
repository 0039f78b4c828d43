/* SPDX-License-Identifier: GPL-2.0-only */
#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	int arguments;
	int (*run)(char **argv);
	const char *usage;
} commands[] = {
	{ "plain", 1, plain, "INTERFACE" },
	{ "shape", 6, shape, "INTERFACE MBIT/S MILLISECONDS PACKETS LOST-OF-1000 SEED" },
	{ "receive", 2, receive, "PORT SECONDS" },
	{ "send", 4, send_to, "ADDRESS PORT ALGORITHM SECONDS" },
};

/* Says what the last system call that failed was for. */
int fault(const char *what)
{
	fprintf(stderr, "flow: %s: %s\n", what, strerror(errno));
	return 1;
}

uint64_t number(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end) {
		fprintf(stderr, "flow: %s: a number is expected\n", text);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	size_t count = sizeof(commands) / sizeof(*commands);

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < count; i++)
		if (argc == commands[i].arguments + 2 && !strcmp(argv[1], commands[i].name))
			return commands[i].run(argv + 2);
	for (size_t i = 0; i < count; i++)
		fprintf(stderr, "usage: flow %s %s\n", commands[i].name, commands[i].usage);
	return 2;
}
