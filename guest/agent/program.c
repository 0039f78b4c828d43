/* SPDX-License-Identifier: GPL-2.0-only */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "program.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_NO_EXEC 127

void free_program(struct program *p)
{
	for (size_t i = 0; i < p->argc; i++)
		free(p->argv[i]);
	free(p->argv);
}

bool take_words(struct reader *in, struct program *p, uint64_t least)
{
	uint64_t argc = take_u64(in);

	*p = (struct program){ 0 };
	if (in->bad || argc < least || argc > 256)
		return false;
	p->argv = calloc(argc + 1, sizeof(char *));
	if (!p->argv)
		_Exit(12);
	for (p->argc = 0; p->argc < argc; p->argc++) {
		char *word = take_text(in);

		if (!word)
			return false;
		p->argv[p->argc] = word;
	}
	return true;
}

bool take_program(struct reader *in, struct program *p)
{
	return take_words(in, p, 1);
}

/*
 * Where a child says why it could not become the program: the status that it
 * ends with might be the program's own.  A page shared with every child costs
 * a fork nothing.
 */
static int *exec_error(size_t place)
{
	static int *page;

	if (!page) {
		page = mmap(NULL, CHILDREN * sizeof(*page), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (page == MAP_FAILED)
			_Exit(12);
	}
	return &page[place];
}

void cannot_become(size_t place)
{
	*exec_error(place) = errno;
	_exit(EXIT_NO_EXEC);
}

void forget_exec_error(size_t place)
{
	*exec_error(place) = 0;
}

enum outcome check_program(const struct program *p, struct failure *why)
{
	if (access(p->argv[0], X_OK)) {
		fail(why, OP_MISSING, errno, p->argv[0]);
		return OP_MISSING;
	}
	return OP_OK;
}

/* Whether it ran at all: an interpreter or a loader can be missing, too. */
enum outcome check_end(const struct program *p, int status, size_t place, struct failure *why)
{
	int error = *exec_error(place);

	if (status < 0)
		return fail(why, OP_SYSTEM, errno, "fork or wait");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_NO_EXEC || !error)
		return OP_OK;
	if (error == ENOENT || error == EACCES || error == ENOEXEC || error == ENOTDIR)
		return fail(why, OP_MISSING, error, p->argv[0]);
	return fail(why, OP_SYSTEM, error, p->argv[0]);
}
