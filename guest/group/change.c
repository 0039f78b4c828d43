/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Changes, as messages to the kernel, and what becomes of them: shown, sent, all or nothing.
 *
 * The kernel stops a group request at the first error, undoes nothing, and does not say
 * whose error it was.  So what is to be changed of each link is written to a journal before
 * anything is sent.  After a failure each link that has what it was to get, gets back what
 * it had; one that has neither was changed by somebody else, and is left alone.
 */
#include "group.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_TOLD 10 /* refusals that are told one by one */
#define FIRST_LINE "linklab-group journal 1"

bool journal_stays;

static const char *const words[] = { "mtu", "txqueuelen", "flags", "group", "mac", "address" };

void changes_add(struct changes *c, const struct link *link, struct change change)
{
	change.index = link->index;
	memcpy(change.name, link->name, sizeof(change.name));
	c->each = grown(c->each, c->count, &c->capacity, sizeof(*c->each));
	c->each[c->count++] = change;
}

void change_put(struct request *r, const struct change *c, bool forward)
{
	uint32_t value = forward ? c->after : c->before;

	switch (c->what) {
	case CHANGE_MTU:
		netlink_put(&r->head, IFLA_MTU, &value, sizeof(value));
		break;
	case CHANGE_QUEUE:
		netlink_put(&r->head, IFLA_TXQLEN, &value, sizeof(value));
		break;
	case CHANGE_FLAGS:
		r->body.link.ifi_flags = (r->body.link.ifi_flags & ~c->mask) | value;
		r->body.link.ifi_change |= c->mask;
		break;
	case CHANGE_GROUP:
		netlink_put(&r->head, IFLA_GROUP, &value, sizeof(value));
		break;
	case CHANGE_HARDWARE:
		netlink_put(&r->head, IFLA_ADDRESS, forward ? c->new : c->old, c->len);
		break;
	case CHANGE_ADDRESS:
		break;
	}
}

void address_request(struct request *r, const struct change *c, bool forward)
{
	struct ifaddrmsg address = {
		.ifa_family = c->family,
		.ifa_prefixlen = c->prefix,
		.ifa_index = c->index,
	};

	memset(&r->head, 0, sizeof(r->head));
	r->head.nlmsg_len = NLMSG_LENGTH(sizeof(address));
	r->head.nlmsg_type = forward ? RTM_NEWADDR : RTM_DELADDR;
	r->head.nlmsg_flags = NLM_F_REQUEST | (forward ? NLM_F_CREATE | NLM_F_EXCL : 0);
	memcpy(&r->body, &address, sizeof(address));
	netlink_put(&r->head, IFA_LOCAL, c->new, c->len);
}

void messages_add(struct messages *m, const struct request *r, uint32_t index, uint32_t group)
{
	size_t len = NLMSG_ALIGN(r->head.nlmsg_len);

	while (m->len + len > m->capacity)
		m->data = grown(m->data, m->capacity, &m->capacity, 1);
	m->about = grown(m->about, m->count, &m->about_capacity, sizeof(*m->about));
	m->about[m->count++] = (struct about){ index, group, m->len };
	memset(m->data + m->len, 0, len);
	memcpy(m->data + m->len, r, r->head.nlmsg_len);
	m->len += len;
}

static void put_hardware(const unsigned char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char text[4];

		snprintf(text, sizeof(text), i ? ":%02x" : "%02x", bytes[i]);
		put(text);
	}
}

static const char *name_of(const struct table *links, uint32_t index)
{
	const struct link *link = table_find(links, index);

	return link ? link->name : "?";
}

static void print_link(const struct nlmsghdr *h)
{
	const struct nlattr *found[IFLA_GROUP + 1];
	struct ifinfomsg head;

	memcpy(&head, NLMSG_DATA(h), sizeof(head));
	netlink_attributes(h, sizeof(head), found, IFLA_GROUP + 1);
	if (found[IFLA_GROUP]) {
		put(" group ");
		put(group_name(netlink_u32(found[IFLA_GROUP])));
	}
	if (found[IFLA_MTU]) {
		put(" mtu ");
		put_number(netlink_u32(found[IFLA_MTU]));
	}
	if (found[IFLA_TXQLEN]) {
		put(" txqueuelen ");
		put_number(netlink_u32(found[IFLA_TXQLEN]));
	}
	if (found[IFLA_ADDRESS]) {
		put(" mac ");
		put_hardware(netlink_data(found[IFLA_ADDRESS]), netlink_length(found[IFLA_ADDRESS]));
	}
	if (head.ifi_change & IFF_UP)
		put(head.ifi_flags & IFF_UP ? " up" : " down");
	if (head.ifi_change & IFF_NOARP)
		put(head.ifi_flags & IFF_NOARP ? " arp off" : " arp on");
	if (head.ifi_change & IFF_MULTICAST)
		put(head.ifi_flags & IFF_MULTICAST ? " multicast on" : " multicast off");
	if (head.ifi_change & IFF_PROMISC)
		put(head.ifi_flags & IFF_PROMISC ? " promisc on" : " promisc off");
}

static void print_address(const struct nlmsghdr *h)
{
	const struct nlattr *found[IFA_LOCAL + 1];
	char text[INET6_ADDRSTRLEN];
	struct ifaddrmsg head;

	memcpy(&head, NLMSG_DATA(h), sizeof(head));
	netlink_attributes(h, sizeof(head), found, IFA_LOCAL + 1);
	put(head.ifa_family == AF_INET ? " inet " : " inet6 ");
	put(inet_ntop(head.ifa_family, netlink_data(found[IFA_LOCAL]), text, sizeof(text)));
	put("/");
	put_number(head.ifa_prefixlen);
}

void messages_print(const struct messages *m, const struct table *links)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct nlmsghdr *h = (const struct nlmsghdr *)(m->data + m->about[i].at);

		put(h->nlmsg_type == RTM_NEWLINK ? "RTM_NEWLINK" :
		    h->nlmsg_type == RTM_NEWADDR ? "RTM_NEWADDR" : "RTM_DELADDR");
		if (m->about[i].index) {
			put(" dev ");
			put(name_of(links, m->about[i].index));
		}
		(h->nlmsg_type == RTM_NEWLINK ? print_link : print_address)(h);
		put("\n");
	}
	put_number(m->count);
	put(" messages, ");
	put_number(m->len);
	put(" bytes\n");
}

void this_place(char *text, size_t room)
{
	char *boot = file_read("/proc/sys/kernel/random/boot_id", NULL);
	struct stat space;

	if (boot)
		boot[strcspn(boot, "\n")] = '\0';
	snprintf(text, room, "%ju %s", stat("/proc/self/ns/net", &space) ? (uintmax_t)0 :
		 (uintmax_t)space.st_ino, boot ? boot : "?");
	free(boot);
}

static void print_hex(FILE *f, const unsigned char *bytes, size_t len)
{
	putc(' ', f);
	if (!len)
		putc('-', f);
	for (size_t i = 0; i < len; i++)
		fprintf(f, "%02x", bytes[i]);
}

static void write_change(FILE *f, const struct change *c)
{
	fprintf(f, "%s %u %s", words[c->what], c->index, c->name);
	if (c->what == CHANGE_ADDRESS)
		fprintf(f, " %u %u", c->family, c->prefix);
	else if (c->what != CHANGE_HARDWARE)
		fprintf(f, " %u %u %u", c->before, c->after, c->mask);
	if (c->what == CHANGE_HARDWARE)
		print_hex(f, c->old, c->len);
	if (c->what == CHANGE_HARDWARE || c->what == CHANGE_ADDRESS)
		print_hex(f, c->new, c->len);
	putc('\n', f);
}

static bool number_in(char **line, uint32_t *to)
{
	uint64_t value;

	if (!number_of(word_of(line), 0, UINT32_MAX, &value))
		return false;
	*to = (uint32_t)value;
	return true;
}

static int digit(char c)
{
	const char *found = c ? strchr("0123456789abcdef", c) : NULL;

	return found ? (int)(found - "0123456789abcdef") : -1;
}

/* As many bytes as the word says, or as were said before. */
static bool bytes_in(char **line, unsigned char *to, unsigned char *len)
{
	const char *word = word_of(line);
	size_t digits = word ? strlen(word) : 0;

	if (!digits || digits % 2 || digits > 64 || (*len && *len != digits / 2))
		return false;
	*len = (unsigned char)(digits / 2);
	for (size_t i = 0; i < digits; i += 2) {
		int high = digit(word[i]), low = digit(word[i + 1]);

		if (high < 0 || low < 0)
			return false;
		to[i / 2] = (unsigned char)(high << 4 | low);
	}
	return true;
}

static bool change_in(char *line, struct change *c)
{
	const char *what = word_of(&line), *name;
	uint32_t family = 0, prefix = 0;
	size_t which = 0;

	*c = (struct change){ 0 };
	while (which <= CHANGE_ADDRESS && (!what || strcmp(words[which], what)))
		which++;
	if (which > CHANGE_ADDRESS || !number_in(&line, &c->index) || !c->index)
		return false;
	c->what = (enum what)which;
	name = word_of(&line);
	if (!name || strlen(name) >= sizeof(c->name))
		return false;
	strcpy(c->name, name);
	if (c->what == CHANGE_HARDWARE)
		return bytes_in(&line, c->old, &c->len) && bytes_in(&line, c->new, &c->len);
	if (c->what != CHANGE_ADDRESS)
		return number_in(&line, &c->before) && number_in(&line, &c->after) &&
		       number_in(&line, &c->mask);
	if (!number_in(&line, &family) || !number_in(&line, &prefix) ||
	    !bytes_in(&line, c->new, &c->len))
		return false;
	c->family = (unsigned char)family;
	c->prefix = (unsigned char)prefix;
	return (family == AF_INET && c->len == 4 && prefix <= 32) ||
	       (family == AF_INET6 && c->len == 16 && prefix <= 128);
}

bool journal_parse(char *text, struct changes *changes, char *space, size_t room,
		   struct wrong *why)
{
	char *line = line_of(&text);
	uint64_t count;
	size_t number = 2;

	*changes = (struct changes){ 0 };
	if (!line || strcmp(line, FIRST_LINE))
		return wrong_at(why, 1, "`" FIRST_LINE "` is expected");
	line = line_of(&text);
	if (!line)
		return wrong_at(why, number, "the namespace is expected");
	snprintf(space, room, "%s", line);
	for (number = 3; (line = line_of(&text)); number++) {
		struct change c;

		if (!strncmp(line, "end ", 4)) {
			if (number_of(line + 4, 0, SIZE_MAX, &count) && count == changes->count)
				return true;
			return wrong_at(why, number, "it has %zu changes", changes->count);
		}
		if (!change_in(line, &c))
			return wrong_at(why, number, "no change");
		changes->each = grown(changes->each, changes->count, &changes->capacity, sizeof(c));
		changes->each[changes->count++] = c;
	}
	return wrong_at(why, number, "its end is missing");
}

/* Only one may be at work with a journal; the lock lasts as long as the program. */
static void lock_journal(void)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s.lock", options.journal);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		fault("%s: %s: --journal names another place", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB))
		fault("%s: %s", path, errno == EWOULDBLOCK ? "another linklab-group is at work" :
		      strerror(errno));
}

/* Whole or not at all: it has its name only when all of it is on the disk. */
static void write_journal(const struct changes *changes)
{
	char path[4096], where[128];
	FILE *f;

	lock_journal();
	if (!access(options.journal, F_OK))
		fault("%s: an operation was cut off: `recover` undoes or finishes it",
		      options.journal);
	snprintf(path, sizeof(path), "%s.new", options.journal);
	f = fopen(path, "we");
	if (!f)
		fault("%s: %s", path, strerror(errno));
	this_place(where, sizeof(where));
	fprintf(f, FIRST_LINE "\n%s\n", where);
	for (size_t i = 0; i < changes->count; i++)
		write_change(f, &changes->each[i]);
	fprintf(f, "end %zu\n", changes->count);
	/* A write that failed in its middle is told by the mark alone, if the last one went well. */
	if (fflush(f) || ferror(f) || fsync(fileno(f)) || fclose(f) ||
	    rename(path, options.journal)) {
		int error = errno;

		unlink(path);
		fault("%s: %s: nothing was changed", path, strerror(error));
	}
	journal_stays = true;
}

/* What came of messages. */
struct outcome {
	const struct messages *messages;
	const struct table *links;
	size_t refused, gone;
	struct refused_group {
		size_t at;
		int error;
	} *groups;
	size_t group_count, capacity;
};

static void take_refusal(size_t at, int error, const char *text, void *context)
{
	struct outcome *o = context;
	const struct about *about = &o->messages->about[at];
	const char *colon = *text ? ": " : "";

	if (error == ENODEV && about->index) {
		o->gone++;
		warn("%s (ifindex %u): gone meanwhile", name_of(o->links, about->index), about->index);
		return;
	}
	o->refused++;
	if (!about->index) {
		o->groups = grown(o->groups, o->group_count, &o->capacity, sizeof(*o->groups));
		o->groups[o->group_count++] = (struct refused_group){ at, error };
		warn("group %s: %s%s%s", group_name(about->group), strerror(error), colon, text);
	} else if (o->refused <= MOST_TOLD) {
		warn("%s (ifindex %u): %s%s%s", name_of(o->links, about->index), about->index,
		     strerror(error), colon, text);
	}
}

static bool has(const struct link *link, const struct change *c, bool forward)
{
	uint32_t value = forward ? c->after : c->before;

	switch (c->what) {
	case CHANGE_MTU:
		return link->mtu == value;
	case CHANGE_QUEUE:
		return link->queue == value;
	case CHANGE_FLAGS:
		return (link->flags & c->mask) == value;
	case CHANGE_GROUP:
		return link->group == value;
	case CHANGE_HARDWARE:
		return link->hardware_len == c->len &&
		       !memcmp(link->hardware, forward ? c->new : c->old, c->len);
	case CHANGE_ADDRESS:
		break;
	}
	return false;
}

/* Whether a link has what a request for its group asks for. */
static bool has_asked(const struct link *link, const struct nlmsghdr *h)
{
	const struct nlattr *found[IFLA_TXQLEN + 1];
	struct ifinfomsg asked;

	memcpy(&asked, NLMSG_DATA(h), sizeof(asked));
	netlink_attributes(h, sizeof(asked), found, IFLA_TXQLEN + 1);
	return (!found[IFLA_MTU] || link->mtu == netlink_u32(found[IFLA_MTU])) &&
	       (!found[IFLA_TXQLEN] || link->queue == netlink_u32(found[IFLA_TXQLEN])) &&
	       !((link->flags ^ asked.ifi_flags) & asked.ifi_change);
}

/*
 * Finds whose error stopped a group request: the first member that has not changed, by its
 * own answer to the same request.  Those before it in the kernel's list are done, and one
 * that now takes it gets what it was to get.  Where all take it now, as when memory was
 * short for a moment, it was the first of them.
 */
static void blame(int fd, const struct messages *m, const struct refused_group *refused)
{
	const struct about *about = &m->about[refused->at];
	const struct nlmsghdr *h = (const struct nlmsghdr *)(m->data + about->at);
	struct table now = { .size = sizeof(struct link) };
	const struct link *first = NULL;
	uint32_t *order;

	links_dump(fd, &now);
	order = links_order(&now);
	for (size_t i = 0; i < now.count; i++) {
		const struct link *link = table_find(&now, order[i]);
		char text[256];
		struct request r;
		int error;

		if (link->group != about->group || has_asked(link, h))
			continue;
		memcpy(&r, h, h->nlmsg_len);
		r.head.nlmsg_len -= NLA_HDRLEN + sizeof(uint32_t); /* the group is its last word */
		r.head.nlmsg_flags |= NLM_F_ACK;
		r.body.link.ifi_index = (int)link->index;
		error = netlink_request(fd, &r.head, text, sizeof(text));
		if (error < 0)
			error = errno;
		if (error && error != ENODEV) {
			warn("%s (ifindex %u): %s%s%s: the kernel stopped here", link->name,
			     link->index, strerror(error), *text ? ": " : "", text);
			first = NULL;
			break;
		}
		if (!error && !first)
			first = link;
	}
	if (first)
		warn("%s (ifindex %u): %s: the kernel stopped here, but not when it was asked again",
		     first->name, first->index, strerror(refused->error));
	free(order);
	table_empty(&now);
}

/* What an address's undoing waits for is whether the kernel has it: told by its answer. */
static void take_undo_refusal(size_t at, int error, const char *text, void *context)
{
	struct outcome *o = context;

	if (error != EADDRNOTAVAIL && error != ENODEV && error != EEXIST)
		take_refusal(at, error, text, o);
}

/* Brings each link to where it was, or to where it was to be; returns how many could not. */
static size_t settle(int fd, const struct changes *changes, bool forward, size_t *settled)
{
	struct table now = { .size = sizeof(struct link) };
	struct messages m = { 0 };
	struct outcome o = { .messages = &m, .links = &now };

	links_dump(fd, &now);
	for (size_t n = 0; n < changes->count; n++) {
		/* Backwards when undoing: an address goes before its link goes down. */
		const struct change *c = &changes->each[forward ? n : changes->count - 1 - n];
		const struct link *link = table_find(&now, c->index);
		struct request r;

		if (!link) {
			warn("%s (ifindex %u): gone", c->name, c->index);
			continue;
		}
		if (c->what == CHANGE_ADDRESS) {
			address_request(&r, c, forward);
		} else if (has(link, c, forward)) {
			continue;
		} else if (!has(link, c, !forward)) {
			warn("%s (ifindex %u): its %s was changed by somebody else: left alone",
			     link->name, link->index, words[c->what]);
			continue;
		} else {
			link_request(&r, c->index);
			change_put(&r, c, forward);
		}
		messages_add(&m, &r, c->index, 0);
	}
	*settled = m.count;
	if (netlink_batch(fd, m.data, m.len, take_undo_refusal, &o))
		fault("%s", strerror(errno));
	free(m.data);
	free(m.about);
	table_empty(&now);
	return o.refused;
}

/* Members that came to a group meanwhile had their change too, and nobody knows what they had. */
static void tell_newcomers(int fd, const struct changes *changes, const struct group_set *groups)
{
	struct table now = { .size = sizeof(struct link) }, known = { .size = sizeof(uint32_t) };
	const struct link *link;
	size_t slot = 0;

	links_dump(fd, &now);
	for (size_t i = 0; i < changes->count; i++)
		table_add(&known, changes->each[i].index);
	while ((link = table_next(&now, &slot)))
		if (group_in(groups, link->group) && !table_find(&known, link->index))
			warn("%s (ifindex %u): came to group %s meanwhile: not undone", link->name,
			     link->index, group_name(link->group));
	table_empty(&now);
	table_empty(&known);
}

int carry_out(int fd, struct messages *m, const struct changes *changes,
	      const struct group_set *groups, const struct table *links)
{
	struct outcome o = { .messages = m, .links = links };
	size_t left, settled;

	if (options.dry_run) {
		messages_print(m, links);
		return 0;
	}
	if (options.atomic)
		write_journal(changes);
	if (netlink_batch(fd, m->data, m->len, take_refusal, &o)) {
		warn("%s: what was done is not known", strerror(errno));
		o.refused++;
		links_reopen(fd); /* answers that nobody waits for any more may lie in it */
	}
	for (size_t i = 0; i < o.group_count; i++)
		blame(fd, m, &o.groups[i]);
	if (o.refused > MOST_TOLD + o.group_count)
		warn("%zu messages were refused in all", o.refused);
	free(o.groups);
	if (options.atomic && o.refused) {
		left = settle(fd, changes, false, &settled);
		if (groups->count)
			tell_newcomers(fd, changes, groups);
		if (left)
			fault("%zu changes could not be undone", left);
		warn("all is as it was");
	}
	if (options.atomic && unlink(options.journal))
		fault("%s: %s", options.journal, strerror(errno));
	journal_stays = false;
	return o.refused ? 1 : 0;
}

/* Whether all links that are left have what they were to get. */
static bool is_finished(int fd, const struct changes *changes)
{
	struct table now = { .size = sizeof(struct link) };
	bool all = true;

	links_dump(fd, &now);
	for (size_t i = 0; all && i < changes->count; i++) {
		const struct link *link = table_find(&now, changes->each[i].index);

		all = !link || has(link, &changes->each[i], true);
	}
	table_empty(&now);
	return all;
}

/* [undo|finish]: what an operation left that was cut off; undo, unless it was done. */
int do_recover(char **argv)
{
	bool forward = *argv && !strcmp(*argv, "finish");
	char here[128], there[128];
	struct changes changes;
	struct wrong why;
	size_t left, settled;
	char *text;
	int fd;

	if (*argv && !forward && strcmp(*argv, "undo"))
		misused("recover: %s: undo or finish is expected", *argv);
	lock_journal();
	text = file_read(options.journal, NULL);
	if (!text && errno == ENOENT) {
		put("nothing to recover\n");
		return 0;
	}
	if (!text)
		fault("%s: %s", options.journal, strerror(errno));
	if (!journal_parse(text, &changes, there, sizeof(there), &why))
		misused("%s:%zu: %s", options.journal, why.line, why.text);
	this_place(here, sizeof(here));
	if (strcmp(here, there))
		fault("%s: of another network namespace, or of before the last boot (%s)",
		      options.journal, there);
	journal_stays = true;
	fd = links_open();
	forward = forward || (!*argv && is_finished(fd, &changes));
	if (options.dry_run) {
		put(forward ? "would finish\n" : "would undo\n");
		return 0;
	}
	left = settle(fd, &changes, forward, &settled);
	close(fd);
	if (left)
		fault("%zu changes could not be %s", left, forward ? "finished" : "undone");
	if (unlink(options.journal))
		fault("%s: %s", options.journal, strerror(errno));
	journal_stays = false;
	put(forward ? "finished\n" : "undone\n");
	free(changes.each);
	free(text);
	return 0;
}
