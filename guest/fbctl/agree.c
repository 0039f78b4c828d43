/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Two nodes agree on a chain, and talk over it.
 *
 * One proposes the chains that it offers, the best first; the other one takes the first that
 * it offers, too.  Then each binds it between two blocks of its own, first who proposed.  What
 * one of them cannot bind neither keeps.  Words may be lost on the way: who proposed says each
 * one again until it is answered, who accepts answers each as often as it comes.
 */
#define _GNU_SOURCE
#include "fbctl.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_BLOCKS 64
#define MOST_CHAIN 1024 /* bytes */
#define PATIENCE 500	/* ms for an answer, before it is asked again */
#define TRIES 10
#define LINGER 1000	/* ms in which the last answer may be asked for again */
#define SILENCE 10000	/* ms after which a message of a conversation counts as lost */

static unsigned long spoken; /* words to the other node and from it */

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* A chain that is bound, or was to be. */
static struct {
	char text[MOST_CHAIN];
	const char *lower, *upper;
	char names[MOST_BLOCKS][LANA_NAME_MAX];
	unsigned int added;
	unsigned int first;	/* of the places from which on it is bound to the next one */
} bound = { .first = MOST_BLOCKS + 1 };

static const char *name_at(unsigned int place)
{
	if (!place)
		return bound.lower;
	return place > bound.added ? bound.upper : bound.names[place - 1];
}

/* Takes away all that was added and bound, and nothing else. */
static void undo(void)
{
	for (unsigned int i = bound.first; i <= bound.added; i++)
		about_two(LANA_CMD_UNBIND, 0, name_at(i), name_at(i + 1), LANA_UP);
	while (bound.added)
		remove_block(bound.names[--bound.added]);
}

/*
 * Adds a chain's blocks and binds them, from above, so that packets find all or nothing.  A
 * program is no part of an offer: the other node would have to have the same.
 */
static int try_to_bind(char *chain)
{
	char *rest, *more;

	for (char *word = strtok_r(chain, "+", &rest); word; word = strtok_r(NULL, "+", &rest)) {
		char *type = strtok_r(word, ":", &more), *name = bound.names[bound.added];

		if (!type || bound.added == MOST_BLOCKS) {
			errno = EINVAL;
			return -1;
		}
		if (!strcmp(type, "-"))
			continue;
		snprintf(name, LANA_NAME_MAX, "agreed%u", bound.added + 1);
		if (add_block(type, name))
			return -1;
		bound.added++;
		while ((word = strtok_r(NULL, ":", &more)))
			if (!strchr(word, '=') || !strncmp(word, "program=", 8)) {
				errno = EINVAL;
				return -1;
			} else if (set_one(name, word)) {
				return -1;
			}
	}
	for (unsigned int i = bound.added + 1; i--; bound.first = i)
		if (about_two(LANA_CMD_BIND, 0, name_at(i), name_at(i + 1), LANA_UP))
			return -1;
	return 0;
}

/* Binds a chain, or nothing: then it says why. */
static bool bind_chain(const char *chain, char *why, size_t size)
{
	char words[MOST_CHAIN];

	snprintf(words, sizeof(words), "%s", chain);
	snprintf(bound.text, sizeof(bound.text), "%s", chain);
	if (!try_to_bind(words))
		return true;
	snprintf(why, size, "%s cannot be bound: %s", chain,
		 *refusal ? refusal : strerror(errno));
	undo();
	return false;
}

static bool is_offered(char **chains, const char *chain)
{
	for (; *chains; chains++)
		if (!strcmp(*chains, chain))
			return true;
	return false;
}

static void say(int fd, const union message *word)
{
	spoken++;
	if (send(fd, word, word->head.nlmsg_len, 0) < 0)
		fault("cannot speak to the other node");
}

/* Hears a word within so many ms; false where none came. What is none is passed over. */
static bool hear(int fd, union message *word, int ms)
{
	uint64_t until = now() + (uint64_t)ms * 1000000;

	for (;;) {
		struct pollfd it = { .fd = fd, .events = POLLIN };
		uint64_t at = now();
		ssize_t got;

		if (at >= until || poll(&it, 1, (int)((until - at) / 1000000) + 1) <= 0)
			return false;
		got = recv(fd, word, sizeof(*word), 0);
		if (got < 0)
			fault("cannot hear the other node");
		/* Ethernet pads short frames. */
		if (got >= (ssize_t)NLMSG_LENGTH(GENL_HDRLEN) &&
		    word->head.nlmsg_len >= NLMSG_LENGTH(GENL_HDRLEN) &&
		    word->head.nlmsg_len <= (size_t)got) {
			spoken++;
			return true;
		}
	}
}

static uint8_t kind_of(const union message *word)
{
	const struct genlmsghdr *kind = NLMSG_DATA(&word->head);

	return kind->cmd;
}

/* The next text of a kind in a word, from `at` on; NULL behind the last one. */
static const char *text_in(union message *word, uint16_t type, char **at)
{
	struct nlattr *it;

	if (!*at)
		*at = (char *)NLMSG_DATA(&word->head) + GENL_HDRLEN;
	while ((it = next_attribute(at, word->bytes + word->head.nlmsg_len))) {
		const char *text = content(it);
		size_t length = (size_t)(it->nla_len - NLA_HDRLEN);

		if (*at > word->bytes + NLMSG_ALIGN(word->head.nlmsg_len))
			return NULL;
		if (it->nla_type == type && length && length < MOST_CHAIN && !text[length - 1])
			return text;
	}
	return NULL;
}

/* Makes a word; who answers one gives its number, who does not the next. */
static void make(union message *word, uint8_t kind, uint32_t number, uint16_t type,
		 const char *const *texts)
{
	begin(0, kind, 0);
	request.head.nlmsg_seq = number;
	for (; texts && *texts; texts++)
		add_text(type, *texts);
	memcpy(word, &request, request.head.nlmsg_len);
}

/* Says a word until it is answered; the answer, which is none where nobody is there. */
static bool exchange(int fd, const union message *word, union message *reply)
{
	for (int left = TRIES; left; left--) {
		uint64_t until = now() + PATIENCE * 1000000ULL;

		say(fd, word);
		while (now() < until && hear(fd, reply, PATIENCE))
			if (reply->head.nlmsg_seq == word->head.nlmsg_seq &&
			    kind_of(reply) != kind_of(word))
				return true;
	}
	return false;
}

static void tell_cost(void)
{
	printf("words %lu\nrequests %lu\n", spoken, requests);
	fflush(stdout);
}

_Noreturn static void no_agreement(const char *why)
{
	tell_cost();
	fprintf(stderr, "fbctl: no agreement: %s; nothing is bound\n", why);
	exit(1);
}

/* Says which of the chains that were offered here is bound. */
static void agreed(char **chains)
{
	int number = 1;

	while (strcmp(*chains++, bound.text))
		number++;
	printf("chain %d\n", number);
	tell_cost();
}

/* Which chain an answer takes; ends the program where it is a refusal, or none. */
static const char *taken(union message *reply, char **chains)
{
	char *at = NULL;
	const char *text;

	if (kind_of(reply) == LANA_WORD_NO) {
		text = text_in(reply, LANA_WORD_A_WHY, &at);
		no_agreement(text ? text : "the other node refuses");
	}
	text = text_in(reply, LANA_WORD_A_CHAIN, &at);
	if (kind_of(reply) != LANA_WORD_TAKE || !text || !is_offered(chains, text))
		no_agreement("the other node takes what was not offered");
	return text;
}

/* CONTROL LOWER UPPER CHAIN...: proposes chains over the socket of CONTROL. */
void propose(char **argv)
{
	static union message word, reply;
	char why[MOST_CHAIN + 256] = "";
	const char *whys[] = { why, NULL };
	int fd = open_socket(argv[0]);
	uint32_t number = (uint32_t)now();
	char *at = NULL;

	requests = 0;
	bound.lower = argv[1];
	bound.upper = argv[2];
	make(&word, LANA_WORD_OFFER, number, LANA_WORD_A_CHAIN, (const char *const *)argv + 3);
	if (!exchange(fd, &word, &reply))
		no_agreement("the other node does not answer");
	if (!bind_chain(taken(&reply, argv + 3), why, sizeof(why))) {
		make(&word, LANA_WORD_NO, number + 1, LANA_WORD_A_WHY, whys);
		exchange(fd, &word, &reply);
		no_agreement(why);
	}
	make(&word, LANA_WORD_BOUND, number + 1, 0, NULL);
	if (!exchange(fd, &word, &reply)) {
		undo();
		no_agreement("the other node no longer answers");
	}
	if (kind_of(&reply) != LANA_WORD_DONE) {
		const char *text = text_in(&reply, LANA_WORD_A_WHY, &at);

		undo();
		no_agreement(text ? text : "the other node refuses");
	}
	agreed(argv + 3);
}

static void append(char *text, size_t size, const char *word)
{
	size_t length = strlen(text);

	snprintf(text + length, size - length, " %s", word);
}

/* Answers an offer: with the first of its chains that is offered here, too. */
static bool take(union message *word, union message *reply, char **chains, char *chain,
		 char *why, size_t size)
{
	const char *whys[] = { why, NULL }, *text;
	const char *texts[] = { chain, NULL };
	char *at = NULL;

	while ((text = text_in(word, LANA_WORD_A_CHAIN, &at)))
		if (is_offered(chains, text)) {
			snprintf(chain, MOST_CHAIN, "%s", text);
			make(reply, LANA_WORD_TAKE, word->head.nlmsg_seq, LANA_WORD_A_CHAIN, texts);
			return true;
		}
	snprintf(why, size, "no chain in common: offered was");
	at = NULL;
	while ((text = text_in(word, LANA_WORD_A_CHAIN, &at)))
		append(why, size, text);
	append(why, size, "and here is");
	for (; *chains; chains++)
		append(why, size, *chains);
	make(reply, LANA_WORD_NO, word->head.nlmsg_seq, LANA_WORD_A_WHY, whys);
	return false;
}

/* CONTROL LOWER UPPER CHAIN...: waits for a proposal, and answers it. */
void accept_one(char **argv)
{
	static union message word, reply;
	char chain[MOST_CHAIN] = "", why[MOST_CHAIN + 256] = "";
	const char *whys[] = { why, NULL };
	int fd = open_socket(argv[0]), patience = PATIENCE * TRIES * 4;
	bool is_done = false, is_asked = false;

	requests = 0;
	bound.lower = argv[1];
	bound.upper = argv[2];
	puts("listening");
	fflush(stdout);
	while (hear(fd, &word, patience)) {
		uint8_t kind = kind_of(&word);

		is_asked = true;
		if (word.head.nlmsg_seq == reply.head.nlmsg_seq && reply.head.nlmsg_len) {
			say(fd, &reply); /* the answer was lost */
			continue;
		}
		if (is_done)
			continue;
		if (kind == LANA_WORD_OFFER) {
			is_done = !take(&word, &reply, argv + 3, chain, why, sizeof(why));
		} else if (kind == LANA_WORD_NO) {
			char *at = NULL;
			const char *text = text_in(&word, LANA_WORD_A_WHY, &at);

			snprintf(why, sizeof(why), "%s", text ? text : "the other node refuses");
			make(&reply, LANA_WORD_DONE, word.head.nlmsg_seq, 0, NULL);
			is_done = true;
		} else if (kind == LANA_WORD_BOUND && *chain) {
			if (bind_chain(chain, why, sizeof(why)))
				make(&reply, LANA_WORD_DONE, word.head.nlmsg_seq, 0, NULL);
			else
				make(&reply, LANA_WORD_NO, word.head.nlmsg_seq, LANA_WORD_A_WHY,
				     whys);
			is_done = true;
		} else {
			continue;
		}
		say(fd, &reply);
		if (is_done && !*why)
			agreed(argv + 3);
		patience = is_done ? LINGER : PATIENCE * TRIES;
	}
	if (!is_done)
		no_agreement(is_asked ? "the other node no longer speaks" : "nobody proposes");
	if (*why)
		no_agreement(why);
}

/* A message of a conversation; the answer has all its bytes turned round. */
struct line {
	uint32_t number;
	uint8_t is_answer;
	uint8_t bytes[];
};

#define MOST_LINE 1400

static int compare(const void *one, const void *other)
{
	uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

	return (a > b) - (a < b);
}

static uint8_t byte_of(uint32_t number, size_t place)
{
	return (uint8_t)(number * 31 + place * 7);
}

static bool is_answer_to(const struct line *line, uint32_t number, size_t size)
{
	for (size_t i = 0; i < size - sizeof(*line); i++)
		if ((line->bytes[i] ^ byte_of(number, i)) != 0xff)
			return false;
	return true;
}

/* PFLANA COUNT BYTES: says numbered messages, each once the last one is answered. */
void talk(char **argv)
{
	unsigned long count = strtoul(argv[1], NULL, 10);
	size_t size = strtoul(argv[2], NULL, 10);
	unsigned long lost = 0, again = 0, wrong = 0, answered = 0;
	union { struct line line; uint8_t bytes[MOST_LINE]; } said, heard;
	uint64_t *took = calloc(count + 1, sizeof(*took));
	int fd = open_socket(argv[0]);

	/* Ethernet's least, so that nothing is padded. */
	if (!took || !count || size < 64 || size > MOST_LINE)
		misused("a count, and 64 to 1400 bytes, are expected");
	for (uint32_t number = 0; number < count; number++) {
		uint64_t began = now();
		bool is_there = false;

		memset(&said, 0, sizeof(said));
		said.line.number = number;
		for (size_t i = 0; i < size - sizeof(said.line); i++)
			said.line.bytes[i] = byte_of(number, i);
		if (send(fd, &said, size, 0) < 0)
			fault("cannot send");
		while (!is_there && now() - began < 1000000ULL * SILENCE) {
			struct pollfd it = { .fd = fd, .events = POLLIN };

			if (poll(&it, 1, SILENCE) <= 0)
				break;
			if (recv(fd, &heard, sizeof(heard), 0) < (ssize_t)size)
				wrong++;
			else if (!heard.line.is_answer || heard.line.number != number)
				again++;
			else if (is_answer_to(&heard.line, number, size))
				is_there = true;
			else
				wrong++;
		}
		if (is_there)
			took[answered++] = now() - began;
		else
			lost++;
	}
	qsort(took, answered, sizeof(*took), compare);
	printf("answered %lu\nlost %lu\nagain %lu\nwrong %lu\nns_p50 %llu\nns_p99 %llu\n", answered,
	       lost, again, wrong, (unsigned long long)took[answered / 2],
	       (unsigned long long)took[answered * 99 / 100]);
	close(fd);
}

/* PFLANA COUNT: answers so many messages, or until nobody says anything for twenty seconds. */
void answer(char **argv)
{
	unsigned long left = strtoul(argv[1], NULL, 10);
	union { struct line line; uint8_t bytes[MOST_LINE]; } heard;
	int fd = open_socket(argv[0]);

	puts("listening");
	fflush(stdout);
	while (left--) {
		struct pollfd it = { .fd = fd, .events = POLLIN };
		ssize_t got;

		if (poll(&it, 1, 2 * SILENCE) <= 0)
			break;
		got = recv(fd, &heard, sizeof(heard), 0);
		if (got < (ssize_t)sizeof(heard.line))
			continue;
		heard.line.is_answer = 1;
		for (size_t i = 0; i < (size_t)got - sizeof(heard.line); i++)
			heard.line.bytes[i] ^= 0xff;
		if (send(fd, &heard, (size_t)got, 0) < 0)
			fault("cannot send");
	}
	close(fd);
}
