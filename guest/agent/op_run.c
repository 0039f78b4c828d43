/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Programs: run one, or one for each number of a range, with fork and exec for
 * each, as a shell's loop does.  What they print goes to a file in memory, so
 * that nobody has to wake up and read while the clock runs.
 */
#define _GNU_SOURCE /* mkostemp */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"
#include "../netlink/netlink.h"
#include "ops.h"
#include "program.h"

#define OUTPUT_PATH "/tmp/.linklab-output-XXXXXX"
#define OUTPUT_TAIL 1048576 /* how much of it is sent back: the end says what went wrong */
#define WORD_ROOM 256  /* an argument with a mark in it, once the number stands there */
#define NUMBER_LEN 20 /* decimal digits of the largest number */
#define NUMBER "{}"
#define ADDRESS "{.}" /* the number as an IPv4 address: 10.0.0.1 */

/* The mark that a word has, if any: words have one kind. */
static const char *mark_of(const char *word)
{
	return strstr(word, ADDRESS) ? ADDRESS : strstr(word, NUMBER) ? NUMBER : NULL;
}

/* A word that would not fit once it is filled in would name something else. */
static bool fits(const char *word)
{
	const char *mark = mark_of(word);
	size_t len = strlen(word);

	if (!mark)
		return true;
	for (const char *place = word; (place = strstr(place, mark)); place += strlen(mark))
		len += NUMBER_LEN - strlen(mark);
	return len < WORD_ROOM;
}

static bool all_fit(const struct program *p)
{
	for (size_t i = 0; i < p->argc; i++)
		if (!fits(p->argv[i]))
			return false;
	return true;
}

static void fill_in_word(char *out, const char *word, const char *mark, const char *number)
{
	const char *place;

	while ((place = strstr(word, mark))) {
		memcpy(out, word, (size_t)(place - word));
		out = stpcpy(out + (place - word), number);
		word = place + strlen(mark);
	}
	strcpy(out, word);
}

/* argv with the number in place of each mark; the memory is the caller's, reused. */
static void fill_in(const struct program *p, uint64_t number, char **argv,
		    char (*words)[WORD_ROOM])
{
	char digits[NUMBER_LEN + 1], address[sizeof("255.255.255.255")];
	const struct in_addr raw = { .s_addr = htonl((uint32_t)number) };

	snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number);
	inet_ntop(AF_INET, &raw, address, sizeof(address));
	for (size_t i = 0; i < p->argc; i++) {
		const char *mark = mark_of(p->argv[i]);

		argv[i] = p->argv[i];
		if (!mark)
			continue;
		fill_in_word(words[i], p->argv[i], mark, !strcmp(mark, NUMBER) ? digits : address);
		argv[i] = words[i];
	}
	argv[p->argc] = NULL;
}

/* A file without a name: nobody else finds it, and closing it gives the memory back. */
static int open_output(void)
{
	char path[] = OUTPUT_PATH;
	int fd = mkostemp(path, O_APPEND | O_CLOEXEC);

	if (fd >= 0)
		unlink(path);
	return fd;
}

static void child(char **argv, int output, bool dump_first)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	dup2(null, STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	dup2(output, STDERR_FILENO);
	if (dump_first)
		discard_link_dump();
	execv(argv[0], argv);
	cannot_become(0);
}

/* Runs it and waits: a wait(2) status, or -1 with errno; check_end() tells whether it ran. */
static int run_one(char **argv, int output, bool dump_first)
{
	int status;
	pid_t pid;

	forget_exec_error(0);
	pid = fork();
	if (pid < 0)
		return -1;
	if (pid == 0)
		child(argv, output, dump_first);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

static void put_output(struct buffer *out, int fd)
{
	static uint8_t tail[OUTPUT_TAIL];
	struct stat info;
	off_t from = 0;
	ssize_t got;

	if (!fstat(fd, &info) && info.st_size > OUTPUT_TAIL)
		from = info.st_size - OUTPUT_TAIL;
	got = pread(fd, tail, sizeof(tail), from);
	put_bytes(out, tail, got > 0 ? (size_t)got : 0);
}

/* How often a program is run, with or without marks filled in, and how each process begins. */
struct range {
	bool numbered;
	uint64_t first;
	uint64_t count;
	bool dump_first;
};

/*
 * Runs the program for each number of the range, up to the first that fails:
 * how many succeeded (where there can be several), the wait status of the
 * last one, the measure, the end of what they printed.
 */
static enum outcome run_range(const struct program *p, const struct range *r,
			      struct buffer *out, struct failure *why)
{
	char *filled[257], words[256][WORD_ROOM], **argv = r->numbered ? filled : p->argv;
	enum outcome outcome = check_program(p, why);
	struct measure m;
	uint64_t done = 0;
	int fd, status = 0;

	if (outcome != OP_OK)
		return outcome;
	fd = open_output();
	if (fd < 0)
		return fail(why, OP_SYSTEM, errno, OUTPUT_PATH);
	measure_begin(&m);
	while (done < r->count) {
		if (r->numbered)
			fill_in(p, r->first + done, filled, words);
		m.processes++;
		status = run_one(argv, fd, r->dump_first);
		if (status)
			break;
		done++;
	}
	measure_end(&m);
	why->index = done;
	outcome = check_end(p, status, 0, why);
	if (outcome == OP_OK) {
		if (r->numbered)
			put_u64(out, done);
		put_u64(out, (uint64_t)status);
		put_measure(out, &m);
		put_output(out, fd);
	}
	close(fd);
	return outcome;
}

/* argc, argv...: runs it once, marks and all. */
enum outcome op_run(struct reader *in, struct buffer *out, struct failure *why)
{
	struct range once = { .count = 1 };
	enum outcome outcome;
	struct program p;

	if (take_program(in, &p))
		outcome = run_range(&p, &once, out, why);
	else
		outcome = fail(why, OP_BAD_REQUEST, 0,
			       "run: argc and that many arguments expected");
	free_program(&p);
	return outcome;
}

/*
 * first, count, dump_first, argc, argv...: runs argv once for each number, {} and
 * {.} replaced by it, and stops at the first that fails.
 * With dump_first each process reads all links before it becomes the program,
 * as every `ip` did before iproute2 stopped filling its cache of link names
 * for commands that need one name alone (2013).
 */
enum outcome op_run_each(struct reader *in, struct buffer *out, struct failure *why)
{
	struct range r = { .numbered = true };
	enum outcome outcome;
	struct program p;

	r.first = take_u64(in);
	r.count = take_u64(in);
	r.dump_first = take_u64(in) != 0;
	if (take_program(in, &p) && all_fit(&p))
		outcome = run_range(&p, &r, out, why);
	else
		outcome = fail(why, OP_BAD_REQUEST, 0,
			       "run-each: first, count, dump, argc, argv of a modest length expected");
	free_program(&p);
	return outcome;
}
