/* SPDX-License-Identifier: GPL-2.0-only */
#include "fill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *name;
	int arguments;
	void (*run)(char **argv);
	const char *usage;
} commands[] = {
	{ "ipset", 3, fill_ipset, "NAME hash:ip|hash:net FILE" },
	{ "nftset", 5, fill_nftables, "ip|netdev TABLE NAME set|prefixes FILE" },
	{ "switch", 4, join_switch, "NAME plain|tracked INTERFACE INTERFACE" },
};

void fault(const char *what)
{
	fprintf(stderr, "fill: %s: %s\n", what, strerror(errno));
	exit(1);
}

char *content_of(const char *path, size_t *length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	char *content = size < 0 ? NULL : malloc((size_t)size + 1);

	if (!content || pread(fd, content, (size_t)size, 0) != size)
		fault(path);
	close(fd);
	*length = (size_t)size;
	return content;
}

int main(int argc, char **argv)
{
	size_t all = sizeof(commands) / sizeof(*commands);

	for (size_t i = 0; i < all; i++) {
		if (argc < 2 || strcmp(argv[1], commands[i].name) || argc - 2 != commands[i].arguments)
			continue;
		commands[i].run(argv + 2);
		return 0;
	}
	for (size_t i = 0; i < all; i++)
		fprintf(stderr, "usage: fill %s %s\n", commands[i].name, commands[i].usage);
	return 2;
}
