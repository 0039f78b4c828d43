/* SPDX-License-Identifier: GPL-2.0-only */
#define _GNU_SOURCE /* ppoll */
#include "group.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OUTPUT 32768

struct options options = {
	.names = "/etc/iproute2",
	.tree = NULL,
	.journal = "/run/linklab-group.journal",
};

static const struct {
	const char *name;
	int (*run)(char **argv);
	const char *usage;
} commands[] = {
	{ "set", do_set, "GROUP|dev NAME [mtu N] [txqueuelen N] [up|down] [group GROUP] [arp|multicast|promisc on|off]" },
	{ "assign", do_assign,
	  "GROUP [mac BASE] [inet BASE/PREFIX] [inet6 BASE/PREFIX] [stride N]... [order index|name]" },
	{ "apply", do_apply, "[GROUP]" },
	{ "recover", do_recover, "[undo|finish]" },
	{ "list", do_list, "[GROUP] [up|down] [kind KIND,...] [name PATTERN] [count]" },
	{ "watch", do_watch,
	  "[GROUP] [interval MS] [room BYTES] [serve PATH | from PATH | listeners N raw|digest]" },
	{ "inherit", do_inherit, "RULES [state FILE] [room BYTES] [existing] [check]" },
	{ "tree", do_tree, "[GROUP]" },
	{ "mask", do_mask, "GROUP" },
	{ "encode", do_encode, "[from NUMBER]" },
	{ "names", do_names, "[NAME|NUMBER]..." },
};

static void say(const char *format, va_list words)
{
	put_flush();
	fputs("linklab-group: ", stderr);
	vfprintf(stderr, format, words);
	putc('\n', stderr);
}

void fault(const char *format, ...)
{
	va_list words;

	va_start(words, format);
	say(format, words);
	if (journal_stays)
		fputs("linklab-group: the journal stays: `recover` undoes or finishes it\n", stderr);
	exit(1);
}

void misused(const char *format, ...)
{
	va_list words;

	va_start(words, format);
	say(format, words);
	exit(2);
}

void warn(const char *format, ...)
{
	va_list words;

	va_start(words, format);
	say(format, words);
	va_end(words);
}

bool wrong_at(struct wrong *why, size_t line, const char *format, ...)
{
	va_list words;

	va_start(words, format);
	vsnprintf(why->text, sizeof(why->text), format, words);
	va_end(words);
	why->line = line;
	return false;
}

void *grown(void *items, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return items;
	*capacity = *capacity ? *capacity * 2 : 16;
	items = realloc(items, *capacity * size);
	if (!items)
		fault("memory is short");
	return items;
}

void *cleared(size_t count, size_t size)
{
	void *items = calloc(count ? count : 1, size);

	if (!items)
		fault("memory is short");
	return items;
}

bool number_of(const char *word, uint64_t least, uint64_t most, uint64_t *number)
{
	char *end;

	if (!word || *word < '0' || *word > '9')
		return false;
	errno = 0;
	*number = strtoull(word, &end, 0);
	return !errno && !*end && *number >= least && *number <= most;
}

static char output[OUTPUT];
static size_t output_len;

void put_flush(void)
{
	size_t at = 0;

	while (at < output_len) {
		ssize_t done = write(STDOUT_FILENO, output + at, output_len - at);

		if (done < 0 && errno != EINTR)
			_exit(1);
		at += done > 0 ? (size_t)done : 0;
	}
	output_len = 0;
}

void put_bytes(const char *bytes, size_t len)
{
	if (output_len + len > OUTPUT)
		put_flush();
	if (len > OUTPUT)
		len = OUTPUT; /* no line is that long */
	memcpy(output + output_len, bytes, len);
	output_len += len;
}

void put(const char *text)
{
	put_bytes(text, strlen(text));
}

void put_number(uint64_t number)
{
	char digits[20], *at = digits + sizeof(digits);

	do
		*--at = (char)('0' + number % 10);
	while (number /= 10);
	put_bytes(at, (size_t)(digits + sizeof(digits) - at));
}

size_t json_quoted(char *to, size_t room, const char *text)
{
	size_t at = 0;

	to[at++] = '"';
	for (; *text && at + sizeof("\\u0000\"") <= room; text++) {
		unsigned char c = (unsigned char)*text;

		/* A name may have any byte; what is no ASCII is told as Latin-1. */
		if (c < ' ' || c == '"' || c == '\\' || c > '~')
			at += (size_t)sprintf(to + at, "\\u%04x", c);
		else
			to[at++] = (char)c;
	}
	to[at++] = '"';
	to[at] = '\0';
	return at;
}

void put_json(const char *text)
{
	char quoted[LINE_MOST];

	json_quoted(quoted, sizeof(quoted), text);
	put(quoted);
}

char *file_read(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = NULL;
	size_t have = 0, capacity = 0;
	ssize_t got = 1;

	if (fd < 0)
		return NULL;
	while (got > 0) {
		if (capacity - have < 2) {
			char *more = realloc(text, capacity = capacity ? capacity * 2 : 4096);

			if (!more)
				fault("memory is short");
			text = more;
		}
		got = read(fd, text + have, capacity - have - 1);
		if (got < 0) {
			int error = errno;

			free(text);
			close(fd);
			errno = error;
			return NULL;
		}
		have += (size_t)got;
	}
	close(fd);
	text[have] = '\0';
	if (len)
		*len = have;
	return text;
}

char *line_of(char **text)
{
	char *line = *text, *end;

	if (!line || !*line)
		return NULL;
	end = strchr(line, '\n');
	*text = end ? end + 1 : NULL;
	if (end)
		*end = '\0';
	return line;
}

char *word_of(char **line)
{
	char *word = *line + strspn(*line, " \t\r");
	size_t len = strcspn(word, " \t\r");

	if (!*word || *word == '#')
		return NULL;
	*line = word + len;
	if (**line)
		*(*line)++ = '\0';
	return word;
}

uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

volatile sig_atomic_t told_to_end;

static void on_end(int number)
{
	(void)number;
	told_to_end = 1;
}

void end_at(const int *signals, size_t count)
{
	struct sigaction action = { .sa_handler = on_end };
	sigset_t blocked;

	sigemptyset(&blocked);
	for (size_t i = 0; i < count; i++) {
		sigaction(signals[i], &action, NULL);
		sigaddset(&blocked, signals[i]);
	}
	sigprocmask(SIG_BLOCK, &blocked, NULL);
}

void wait_for(struct pollfd *sockets, size_t count, int ms)
{
	struct timespec limit = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };
	sigset_t none;

	sigemptyset(&none);
	if (ppoll(sockets, count, ms < 0 ? NULL : &limit, &none) < 0 && errno != EINTR)
		fault("ppoll: %s", strerror(errno));
}

static int usage(void)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		fprintf(stderr, "usage: linklab-group [OPTION]... %s %s\n", commands[i].name,
			commands[i].usage);
	fputs("options: --atomic --dry-run --json --names FOLDER --tree FILE --journal FILE\n", stderr);
	return 2;
}

/* An option that takes a word. */
static const char **worded(const char *option)
{
	if (!strcmp(option, "--names"))
		return &options.names;
	if (!strcmp(option, "--tree"))
		return &options.tree;
	return strcmp(option, "--journal") ? NULL : &options.journal;
}

int main(int argc, char **argv)
{
	char **word = argv + 1;

	(void)argc;
	signal(SIGPIPE, SIG_IGN);
	for (; *word && (*word)[0] == '-'; word++) {
		const char **takes = worded(*word);

		if (takes && word[1])
			*takes = *++word;
		else if (!strcmp(*word, "--atomic"))
			options.atomic = true;
		else if (!strcmp(*word, "--dry-run"))
			options.dry_run = true;
		else if (!strcmp(*word, "--json"))
			options.json = true;
		else
			return usage();
	}
	for (size_t i = 0; *word && i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(*word, commands[i].name)) {
			int status = commands[i].run(word + 1);

			put_flush();
			return status;
		}
	return usage();
}
