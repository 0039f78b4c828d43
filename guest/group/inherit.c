/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Inheritance: what is stacked on a member of a group joins a group.
 *
 *   on 42 kind vlan,macvlan,ipvlan,veth join 42
 *   kind ppp name ppp* join customers
 *   on any join same
 *
 * The first rule that fits a link counts.  It is applied when the link appears, and only
 * where the link has no group yet: what somebody set by hand stays, then and later.  What
 * has been seen is kept in a file, so that a daemon that was killed goes on where it was.
 *
 * What group a link has now, and what it is stacked on, the kernel is asked at that moment.
 * Where messages were lost all links are read again, and those that nobody knows have just
 * appeared.
 */
#include "group.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOM (4 << 20)
#define RECEIVE 65536
#define COMPACT 65536 /* lines of the state file that are no longer true, until it is written anew */

static bool rule_in(char *line, struct rule *r, size_t number, struct wrong *why)
{
	char *word;
	bool joins = false;

	*r = (struct rule){ .line = number };
	while ((word = word_of(&line))) {
		char *value = word_of(&line);

		if (!value)
			return wrong_at(why, number, "%s: a word is expected behind it", word);
		if (!strcmp(word, "on")) {
			r->any_base = !strcmp(value, "any");
			r->has_base = true;
			if (!r->any_base && !group_named(value, &r->base))
				return wrong_at(why, number, "%s: no group has this name", value);
		} else if (!strcmp(word, "kind")) {
			r->kinds = value;
		} else if (!strcmp(word, "name")) {
			r->name = value;
		} else if (!strcmp(word, "join")) {
			joins = true;
			r->same = !strcmp(value, "same");
			if (!r->same && !group_named(value, &r->join))
				return wrong_at(why, number, "%s: no group has this name", value);
		} else {
			return wrong_at(why, number, "%s: on, kind, name or join is expected", word);
		}
	}
	if (!joins)
		return wrong_at(why, number, "join is missing");
	if (r->same && !r->has_base)
		return wrong_at(why, number, "join same: on is missing: the same as what?");
	if (!r->has_base && !r->kinds && !r->name)
		return wrong_at(why, number, "every link would join: on, kind or name is expected");
	return true;
}

bool rules_parse(char *text, struct rules *rules, struct wrong *why)
{
	char *line;

	*rules = (struct rules){ .text = text };
	for (size_t number = 1; (line = line_of(&text)); number++) {
		char *first = line + strspn(line, " \t\r");
		struct rule r;

		if (!*first || *first == '#')
			continue;
		if (!rule_in(line, &r, number, why))
			return false;
		rules->each = grown(rules->each, rules->count, &rules->capacity, sizeof(r));
		rules->each[rules->count++] = r;
	}
	return true;
}

/* A link that is known: what rules ask of it, and whether they have been applied. */
struct known {
	uint32_t index, group, lower;
	bool decided, joining; /* joining: the kernel has not been told yet */
	char kind[16], name[IFNAMSIZ];
};

struct daemon {
	struct rules rules;
	struct table links; /* of struct known */
	struct table seen;  /* indexes of those that are decided, before this start too */
	const char *path;
	FILE *state;
	size_t lines;
	int heard, asks;
	bool again; /* the kernel lacked memory to answer: all links are looked at once more */
	uint32_t *joining; /* indexes in the order of the messages */
	size_t joining_capacity;
	struct messages messages;
};

static const struct rule *rule_for(const struct daemon *d, const struct known *link,
				   uint32_t lower)
{
	for (size_t i = 0; i < d->rules.count; i++) {
		const struct rule *r = &d->rules.each[i];

		if (r->has_base && (!lower || (!r->any_base && lower != r->base)))
			continue;
		if ((!r->kinds || one_of(r->kinds, link->kind)) &&
		    (!r->name || glob_fits(r->name, link->name)))
			return r;
	}
	return NULL;
}

static void see(struct daemon *d, struct known *link)
{
	link->decided = true;
	table_add(&d->seen, link->index);
	if (d->state && fprintf(d->state, "%u\n", link->index) > 0)
		d->lines++;
}

static void take_group(const struct nlmsghdr *h, void *context)
{
	struct link link;

	if (h->nlmsg_type == RTM_NEWLINK && link_read(h, &link))
		*(uint32_t *)context = link.group;
}

/* A link's group at this moment, by the kernel; `otherwise` where it is gone. */
static uint32_t group_now(struct daemon *d, uint32_t index, uint32_t otherwise)
{
	struct request r;
	int error;

	link_request(&r, index);
	r.head.nlmsg_type = RTM_GETLINK;
	r.head.nlmsg_flags |= NLM_F_ACK;
	error = netlink_dump(d->asks, &r.head, take_group, &otherwise);
	d->again = d->again || is_short(error < 0 ? errno : error);
	return otherwise;
}

/* Decides what a link joins, if anything; a veth waits for its peer, which comes after it. */
static void decide(struct daemon *d, struct known *link)
{
	const struct known *below = link->lower ? table_find(&d->links, link->lower) : NULL;
	uint32_t group, lower = 0;
	const struct rule *r;
	struct request request;

	if (link->decided || table_find(&d->seen, link->index)) {
		link->decided = true;
		return;
	}
	if (d->again || (!strcmp(link->kind, "veth") && !link->lower))
		return;
	/* The kernel does not tell that the group of a link that is down was changed. */
	if (link->lower && !link->group)
		lower = below && below->joining ? below->group : group_now(d, link->lower, 0);
	r = link->group ? NULL : rule_for(d, link, lower);
	group = !r ? 0 : r->same ? lower : r->join;
	/* Its message waited: somebody may have given it a group since. */
	if (d->again || !group || group_now(d, link->index, 1)) {
		if (!d->again)
			see(d, link);
		return;
	}
	link->decided = link->joining = true;
	link->group = group; /* what is stacked on it joins it, too */
	link_request(&request, link->index);
	netlink_put(&request.head, IFLA_GROUP, &group, sizeof(group));
	d->joining = grown(d->joining, d->messages.count, &d->joining_capacity,
			   sizeof(*d->joining));
	d->joining[d->messages.count] = link->index;
	messages_add(&d->messages, &request, link->index, 0);
}

static void take_link(struct daemon *d, const struct link *is)
{
	struct known *link = table_add(&d->links, is->index), *peer;

	if (!link->joining)
		link->group = is->group;
	link->lower = is->foreign || is->lower == is->index ? 0 : is->lower;
	memcpy(link->kind, is->kind, sizeof(link->kind));
	memcpy(link->name, is->name, sizeof(link->name));
	decide(d, link);
	/* A pair: its first end appears before it has a peer, and is not told of again. */
	peer = link->lower && !strcmp(link->kind, "veth") ? table_find(&d->links, link->lower) : NULL;
	if (peer && !peer->decided && !peer->lower) {
		peer->lower = link->index;
		decide(d, peer);
	}
}

static void forget(struct daemon *d, uint32_t index)
{
	table_remove(&d->links, index);
	if (!table_find(&d->seen, index))
		return;
	table_remove(&d->seen, index);
	if (d->state && fprintf(d->state, "-%u\n", index) > 0)
		d->lines++;
}

static void take_message(struct daemon *d, const struct nlmsghdr *h)
{
	struct link link;

	if (!link_read(h, &link))
		return;
	if (h->nlmsg_type == RTM_NEWLINK)
		take_link(d, &link);
	else if (h->nlmsg_type == RTM_DELLINK &&
		 ((struct ifinfomsg *)NLMSG_DATA(h))->ifi_family == AF_UNSPEC)
		forget(d, link.index);
}

static void take_refusal(size_t place, int error, const char *text, void *context)
{
	struct daemon *d = context;
	const struct known *link = table_find(&d->links, d->joining[place]);

	d->again = d->again || is_short(error);
	if (error == ENODEV)
		return; /* gone again */
	warn("%s (ifindex %u): %s%s%s", link ? link->name : "?", d->joining[place],
	     strerror(error), *text ? ": " : "", text);
}

/* Sends what was decided, and remembers it once the kernel has it. */
static void join(struct daemon *d)
{
	if (!d->messages.count)
		return;
	if (netlink_batch(d->asks, d->messages.data, d->messages.len, take_refusal, d)) {
		warn("setting groups: %s", strerror(errno));
		d->again = true;
	}
	for (size_t i = 0; i < d->messages.count; i++) {
		struct known *link = table_find(&d->links, d->joining[i]);

		if (!link)
			continue;
		link->joining = false;
		link->decided = !d->again;
		if (link->decided)
			see(d, link);
	}
	d->messages.count = d->messages.len = 0;
}

/* The file anew, with what is true alone; whole or not at all. */
static void write_state(struct daemon *d)
{
	char path[4096], here[128];
	const uint32_t *index;
	size_t slot = 0;

	if (d->state)
		fclose(d->state);
	snprintf(path, sizeof(path), "%s.new", d->path);
	d->state = fopen(path, "we");
	if (!d->state)
		fault("%s: %s: state FILE names another place", path, strerror(errno));
	this_place(here, sizeof(here));
	fprintf(d->state, "%s\n", here);
	while ((index = table_next(&d->seen, &slot)))
		fprintf(d->state, "%u\n", *index);
	if (fflush(d->state) || rename(path, d->path))
		fault("%s: %s", d->path, strerror(errno));
	d->lines = d->seen.count;
}

/* Whether there is a file of this namespace in this boot; what it has seen. */
static bool read_state(struct daemon *d)
{
	char *text = file_read(d->path, NULL), *end = text ? strrchr(text, '\n') : NULL;
	char *at = text, *line, here[128];
	bool same;

	if (end)
		end[1] = '\0'; /* a line that was cut off by a kill says nothing */
	line = end ? line_of(&at) : NULL;
	this_place(here, sizeof(here));
	same = line && !strcmp(line, here);
	while (same && (line = line_of(&at))) {
		uint64_t index;

		if (!number_of(line + (*line == '-'), 1, INT32_MAX, &index))
			continue;
		if (*line == '-')
			table_remove(&d->seen, (uint32_t)index);
		else
			table_add(&d->seen, (uint32_t)index);
	}
	free(text);
	return same;
}

/* All links, after a start or a loss.  With `known` those that are there have been seen. */
static void read_all(struct daemon *d, bool known)
{
	struct table now = { .size = sizeof(struct link) };
	uint32_t *order;
	const uint32_t *old; /* each item begins with its index */
	size_t slot = 0, gone_count = 0;
	uint32_t *gone;

	links_dump(d->asks, &now);
	gone = cleared(d->links.count + d->seen.count, sizeof(*gone));
	while ((old = table_next(&d->links, &slot)))
		if (!table_find(&now, *old))
			gone[gone_count++] = *old;
	slot = 0;
	while ((old = table_next(&d->seen, &slot)))
		if (!table_find(&now, *old))
			gone[gone_count++] = *old;
	for (size_t i = 0; i < gone_count; i++)
		forget(d, gone[i]);
	order = links_order(&now);
	for (size_t i = 0; i < now.count; i++) {
		if (known)
			table_add(&d->seen, order[i]);
		take_link(d, table_find(&now, order[i]));
	}
	/* What is stacked on a link may have a smaller index than it. */
	for (size_t i = 0; i < now.count; i++)
		decide(d, table_find(&d->links, order[i]));
	free(order);
	free(gone);
	table_empty(&now);
	join(d);
}

static void hear(struct daemon *d)
{
	static _Alignas(struct nlmsghdr) char data[RECEIVE];

	for (;;) {
		ssize_t got = recv(d->heard, data, sizeof(data), 0);
		int left = (int)got;

		if (got < 0 && errno == ENOBUFS) {
			warn("messages were lost: all links are read again");
			read_all(d, false);
			continue;
		}
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			break;
		for (struct nlmsghdr *h = (void *)data; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
			take_message(d, h);
	}
	join(d);
	while (d->again) {
		links_reopen(d->asks);
		d->again = false;
		read_all(d, false);
	}
	if (d->state)
		fflush(d->state);
	if (d->lines > d->seen.count + COMPACT)
		write_state(d);
}

/* RULES [state FILE] [existing] [check] */
int do_inherit(char **argv)
{
	static const int ends[] = { SIGTERM, SIGINT };
	struct daemon d = {
		.links.size = sizeof(struct known),
		.seen.size = sizeof(uint32_t),
		.path = "/run/linklab-group.seen",
	};
	bool existing = false, check = false;
	uint64_t room = ROOM;
	struct pollfd wait;
	const char *file = *argv;
	struct wrong why;
	char *text;

	if (!file)
		misused("inherit: a file of rules is expected");
	for (argv++; *argv; argv++) {
		if (!strcmp(*argv, "state") && argv[1])
			d.path = *++argv;
		else if (!strcmp(*argv, "room") && number_of(argv[1], 1, 1 << 30, &room))
			argv++;
		else if (!strcmp(*argv, "existing"))
			existing = true;
		else if (!strcmp(*argv, "check"))
			check = true;
		else
			misused("inherit: %s: state, room, existing or check is expected", *argv);
	}
	text = file_read(file, NULL);
	if (!text)
		misused("%s: %s", file, strerror(errno));
	if (!rules_parse(text, &d.rules, &why))
		misused("%s:%zu: %s", file, why.line, why.text);
	if (check)
		return 0;
	end_at(ends, 2);
	d.heard = listen_links((int)room);
	d.asks = links_open();
	/* At the very first start what is there was set by hand, as far as anybody knows. */
	read_all(&d, !read_state(&d) && !existing);
	write_state(&d);
	hear(&d);
	put("ready\n");
	put_flush();
	wait = (struct pollfd){ .fd = d.heard, .events = POLLIN };
	while (!told_to_end) {
		wait_for(&wait, 1, -1);
		hear(&d);
	}
	hear(&d);
	return 0;
}
