/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernel modules: loads those that the image brings for this kernel, in the
 * order of their list.  The host has worked out what depends on what.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <termios.h>
#include <unistd.h>

#define MODULES "/lib/modules"
#define LIST "linklab.load"

static ssize_t read_text(const char *path, char *text, size_t capacity)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t have = 0;
	ssize_t got = -1;

	if (fd < 0)
		return -1;
	while (have + 1 < capacity && (got = read(fd, text + have, capacity - have - 1)) > 0)
		have += (size_t)got;
	close(fd);
	text[have] = '\0';
	return got < 0 ? -1 : (ssize_t)have;
}

/* To the kernel `-` and `_` in a module's name are the same. */
static bool same_name(const char *a, const char *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (a[i] != b[i] && !((a[i] == '-' || a[i] == '_') && (b[i] == '-' || b[i] == '_')))
			return false;
	return true;
}

/* `NAME.parameter=value` on the kernel's command line is for module NAME, as modprobe has it. */
static void parameters_of(const char *name, const char *command_line, char *out, size_t capacity)
{
	size_t len = strlen(name), used = 0;
	const char *word = command_line;

	out[0] = '\0';
	while (*word) {
		size_t size = strcspn(word, " \n");

		if (size > len + 1 && word[len] == '.' && same_name(word, name, len) &&
		    used + size - len < capacity)
			used += (size_t)snprintf(out + used, capacity - used, "%s%.*s", used ? " " : "",
						 (int)(size - len - 1), word + len + 1);
		word += size;
		word += strspn(word, " \n");
	}
}

/* What `file` in `folder` holds becomes part of the kernel; 0 or an errno. */
static int load_module(const char *folder, const char *file, const char *command_line)
{
	char path[512], name[128], parameters[1024];
	const char *base = strrchr(file, '/');
	long status;
	int fd, error;

	base = base ? base + 1 : file;
	snprintf(path, sizeof(path), "%s/%s", folder, file);
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(base, "."), base);
	parameters_of(name, command_line, parameters, sizeof(parameters));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	status = syscall(SYS_finit_module, fd, parameters, 0);
	error = status ? errno : 0;
	close(fd);
	return error == EEXIST ? 0 : error;
}

/*
 * The list has one file a line; `-` before it says that it may refuse.  True
 * unless another one did: then a line on the console says which and why, and
 * the kernel's own words stand before it.
 */
bool load_modules(void)
{
	static char list[65536], command_line[4096];
	char folder[256], path[512];
	struct utsname kernel;
	char *rest = list, *line;

	if (uname(&kernel))
		return true;
	snprintf(folder, sizeof(folder), MODULES "/%s", kernel.release);
	snprintf(path, sizeof(path), "%s/" LIST, folder);
	if (read_text(path, list, sizeof(list)) < 0)
		return true; /* no list: nothing to load */
	if (read_text("/proc/cmdline", command_line, sizeof(command_line)) < 0)
		command_line[0] = '\0';
	while ((line = strsep(&rest, "\n"))) {
		bool may_refuse = *line == '-';
		int error;

		line += may_refuse;
		if (!*line)
			continue;
		error = load_module(folder, line, command_line);
		if (!error || may_refuse)
			continue;
		dprintf(STDERR_FILENO, "linklab-init: module %s did not load: %s\n", line,
			strerror(error));
		tcdrain(STDERR_FILENO);
		return false;
	}
	return true;
}
