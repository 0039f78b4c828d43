/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Names of groups.  The files and rules are iproute2's (lib/rt_names.c): `group` in its
 * folder, or else in the distribution's; then the fragments `group.d/NAME.conf` of the
 * distribution, where its folder has none of that name, and those of the folder.  A line is
 * a number, decimal or hexadecimal, and a name; a file is read up to the first that is not.
 * Of two numbers of a name the one that iproute2's hash of 256 rows meets first counts, of
 * two names of a number the later; a name is tried before a number.
 */
#include "group.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS 256
#define LINE 512 /* what iproute2 reads at once */

static const char *const distribution[] = { "/usr/share/iproute2", "/usr/lib/iproute2" };

struct entry {
	struct entry *next;
	uint32_t group;
	char name[];
};

static struct entry *rows[ROWS];
static bool loaded;

/* What was asked for last: of 10,000 links in a list most are in the group of the one before. */
static struct {
	const char *name;
	uint32_t group;
} last;

static void add(uint32_t group, const char *name)
{
	struct entry *e = cleared(1, sizeof(*e) + strlen(name) + 1);

	e->group = group;
	strcpy(e->name, name);
	e->next = rows[group % ROWS];
	rows[group % ROWS] = e;
}

/* One line, of at most LINE bytes: 1, or 0 where the file ends for us. */
static int take_line(const char *line, const char *path)
{
	char name[LINE];
	unsigned int hex;
	int group;

	line += strspn(line, " \t");
	if (*line == '#' || !*line)
		return 1;
	if (sscanf(line, "0x%x %511s", &hex, name) == 2) {
		group = (int)hex;
	} else if (sscanf(line, "%d %511s", &group, name) != 2) {
		warn("%s: not a number and a name: %s", path, line);
		return 0;
	}
	if (group >= 0)
		add((uint32_t)group, name);
	return 1;
}

void names_parse(char *text, const char *path)
{
	char *line;

	while ((line = line_of(&text))) {
		char piece[LINE];

		/* A line that is too long is read in pieces, as fgets(3) does. */
		do {
			snprintf(piece, sizeof(piece), "%s", line);
			line += strlen(piece);
			if (!take_line(piece, path))
				return;
		} while (*line);
	}
}

void names_forget(void)
{
	for (size_t i = 0; i < ROWS; i++)
		while (rows[i]) {
			struct entry *e = rows[i];

			rows[i] = e->next;
			free(e);
		}
	loaded = false;
	last.name = NULL;
}

static bool load(const char *path)
{
	char *text = file_read(path, NULL);

	if (!text && is_short(errno))
		fault("%s: %s", path, strerror(errno));
	if (!text)
		return errno != ENOENT;
	names_parse(text, path);
	free(text);
	return true;
}

static bool is_fragment(const char *name)
{
	size_t len = strlen(name);

	return *name != '.' && len > 5 && !strcmp(name + len - 5, ".conf");
}

/* The fragments of a folder, in order of their names, but for those that `before` has, too. */
static void load_fragments(const char *folder, const char *before)
{
	char path[4096];
	struct dirent **found;
	int count;

	snprintf(path, sizeof(path), "%s/group.d", folder);
	count = scandir(path, &found, NULL, alphasort);
	if (count < 0 && is_short(errno))
		fault("%s: %s", path, strerror(errno));
	for (int i = 0; i < count; i++) {
		const char *name = found[i]->d_name;

		snprintf(path, sizeof(path), "%s/group.d/%s", before ? before : folder, name);
		if (is_fragment(name) && (!before || access(path, F_OK))) {
			snprintf(path, sizeof(path), "%s/group.d/%s", folder, name);
			load(path);
		}
		free(found[i]);
	}
	if (count >= 0)
		free(found);
}

void names_load(void)
{
	char path[4096];

	if (loaded)
		return;
	loaded = true;
	add(0, "default");
	snprintf(path, sizeof(path), "%s/group", options.names);
	for (size_t i = 0; !load(path) && i < sizeof(distribution) / sizeof(*distribution); i++)
		snprintf(path, sizeof(path), "%s/group", distribution[i]);
	for (size_t i = 0; i < sizeof(distribution) / sizeof(*distribution); i++)
		load_fragments(distribution[i], options.names);
	load_fragments(options.names, NULL);
}

bool group_named(const char *word, uint32_t *group)
{
	char *end;
	long value;

	names_load();
	for (size_t i = 0; i < ROWS; i++)
		for (const struct entry *e = rows[i]; e; e = e->next)
			if (!strcmp(e->name, word)) {
				*group = e->group;
				return true;
			}
	errno = 0;
	value = strtol(word, &end, 0);
	if (errno || end == word || *end || value < 0 || value > (long)MOST_GROUP)
		return false;
	*group = (uint32_t)value;
	return true;
}

uint32_t group_of(const char *word)
{
	uint32_t group;

	if (!word || !group_named(word, &group))
		misused("%s: no group: a name of %s/group or a number is expected",
			word ? word : "nothing", options.names);
	return group;
}

const char *group_name(uint32_t group)
{
	static char numbers[4][12];
	static unsigned int turn;

	if (last.name && last.group == group)
		return last.name;
	names_load();
	last.group = group;
	for (const struct entry *e = rows[group % ROWS]; e; e = e->next)
		if (e->group == group)
			return last.name = e->name;
	turn = (turn + 1) % 4;
	snprintf(numbers[turn], sizeof(numbers[turn]), "%u", group);
	return last.name = numbers[turn];
}

size_t names_each(void (*visit)(uint32_t group, const char *name, void *context), void *context)
{
	size_t count = 0;

	names_load();
	for (size_t i = 0; i < ROWS; i++)
		for (const struct entry *e = rows[i]; e; e = e->next, count++)
			visit(e->group, e->name, context);
	return count;
}

static void show(uint32_t group, const char *name, void *context)
{
	(void)context;
	put_number(group);
	put("\t");
	put(name);
	put("\n");
}

/* [NAME|NUMBER]...: what they are, or all names. */
int do_names(char **argv)
{
	if (!*argv)
		names_each(show, NULL);
	for (; *argv; argv++) {
		uint32_t group = group_of(*argv);

		show(group, group_name(group), NULL);
	}
	return 0;
}
