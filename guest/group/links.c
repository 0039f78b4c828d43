/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Links as the kernel tells them, a table of them, and lists.
 */
#include "group.h"

#include <errno.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SKIP_STATISTICS (1 << 3) /* RTEXT_FILTER_SKIP_STATS */
#define TRIES 100 /* of what others disturb, or memory was short for */
#define PAUSE 10000000 /* ns until memory may be there */

#ifndef SO_RCVBUFFORCE
#define SO_RCVBUFFORCE 33
#endif

static void *item_at(const struct table *t, size_t slot)
{
	return t->items + slot * t->size;
}

static uint32_t key_at(const struct table *t, size_t slot)
{
	uint32_t key;

	memcpy(&key, item_at(t, slot), sizeof(key));
	return key;
}

/* Where a key is, or the first place that is free. */
static size_t slot_of(const struct table *t, uint32_t key)
{
	size_t slot = (key * 2654435769u) & (t->slots - 1); /* Knuth's multiplicative hash */

	while (t->used[slot] && (t->used[slot] != 1 || key_at(t, slot) != key))
		slot = (slot + 1) & (t->slots - 1);
	return slot;
}

void *table_find(const struct table *t, uint32_t key)
{
	size_t slot = t->slots ? slot_of(t, key) : 0;

	return t->slots && t->used[slot] ? item_at(t, slot) : NULL;
}

static void make_room(struct table *t)
{
	struct table bigger = { .size = t->size, .slots = 64 };

	while (bigger.slots < 4 * (t->count + 1))
		bigger.slots *= 2;
	bigger.items = cleared(bigger.slots, bigger.size);
	bigger.used = cleared(bigger.slots, 1);
	for (size_t i = 0; i < t->slots; i++)
		if (t->used[i] == 1) {
			size_t slot = slot_of(&bigger, key_at(t, i));

			memcpy(item_at(&bigger, slot), item_at(t, i), t->size);
			bigger.used[slot] = 1;
			bigger.count = ++bigger.filled;
		}
	table_empty(t);
	*t = bigger;
}

void *table_add(struct table *t, uint32_t key)
{
	void *item = table_find(t, key);
	size_t slot;

	if (item)
		return item;
	if (2 * (t->filled + 1) > t->slots)
		make_room(t);
	slot = slot_of(t, key);
	item = item_at(t, slot);
	memset(item, 0, t->size);
	memcpy(item, &key, sizeof(key));
	t->used[slot] = 1;
	t->count++;
	t->filled++;
	return item;
}

void table_remove(struct table *t, uint32_t key)
{
	size_t slot = t->slots ? slot_of(t, key) : 0;

	if (!t->slots || !t->used[slot])
		return;
	t->used[slot] = 2; /* others may lie behind it */
	t->count--;
}

void *table_next(const struct table *t, size_t *slot)
{
	while (*slot < t->slots) {
		size_t at = (*slot)++;

		if (t->used[at] == 1)
			return item_at(t, at);
	}
	return NULL;
}

void table_empty(struct table *t)
{
	free(t->items);
	free(t->used);
	*t = (struct table){ .size = t->size };
}

static void copy_text(char *to, size_t room, const struct nlattr *a)
{
	size_t len = netlink_length(a);

	if (len >= room)
		len = room - 1;
	if (len)
		memcpy(to, netlink_data(a), len);
	to[len] = '\0'; /* what stood behind a NUL of its own does not count */
}

bool link_read(const struct nlmsghdr *message, struct link *link)
{
	const struct nlattr *found[IFLA_GROUP + 1 > IFLA_LINK_NETNSID + 1 ? IFLA_GROUP + 1 :
								  IFLA_LINK_NETNSID + 1];
	const struct nlattr *info[IFLA_INFO_KIND + 1];
	struct ifinfomsg head;

	if (message->nlmsg_len < NLMSG_LENGTH(sizeof(head)))
		return false;
	memcpy(&head, NLMSG_DATA(message), sizeof(head));
	if (head.ifi_index <= 0)
		return false;
	netlink_attributes(message, sizeof(head), found, sizeof(found) / sizeof(*found));
	*link = (struct link){
		.index = (uint32_t)head.ifi_index,
		.flags = head.ifi_flags,
		.group = netlink_u32(found[IFLA_GROUP]),
		.mtu = netlink_u32(found[IFLA_MTU]),
		.queue = netlink_u32(found[IFLA_TXQLEN]),
		.lower = netlink_u32(found[IFLA_LINK]),
		.master = netlink_u32(found[IFLA_MASTER]),
		.foreign = found[IFLA_LINK_NETNSID] != NULL,
	};
	copy_text(link->name, sizeof(link->name), found[IFLA_IFNAME]);
	if (netlink_length(found[IFLA_ADDRESS]) <= sizeof(link->hardware)) {
		link->hardware_len = (unsigned char)netlink_length(found[IFLA_ADDRESS]);
		if (link->hardware_len)
			memcpy(link->hardware, netlink_data(found[IFLA_ADDRESS]), link->hardware_len);
	}
	netlink_nested(found[IFLA_LINKINFO], info, IFLA_INFO_KIND + 1);
	copy_text(link->kind, sizeof(link->kind), info[IFLA_INFO_KIND]);
	return true;
}

int links_open(void)
{
	int fd = netlink_open();

	if (fd < 0)
		fault("netlink: %s", strerror(errno));
	return fd;
}

void links_reopen(int fd)
{
	const struct timespec pause = { .tv_nsec = PAUSE };
	int fresh = -1;

	for (int i = 0; fresh < 0 && i < TRIES; i++) {
		nanosleep(&pause, NULL);
		fresh = netlink_open();
	}
	if (fresh < 0 || dup2(fresh, fd) < 0)
		fault("netlink: %s", strerror(errno));
	close(fresh);
}

void link_request(struct request *r, uint32_t index)
{
	memset(r, 0, sizeof(r->head) + sizeof(r->body.link));
	r->head.nlmsg_len = NLMSG_LENGTH(sizeof(r->body.link));
	r->head.nlmsg_type = RTM_NEWLINK;
	r->head.nlmsg_flags = NLM_F_REQUEST;
	r->head.nlmsg_seq = 1;
	r->body.link.ifi_index = (int)index;
}

static int dump(int fd, dump_visitor *visit, void *context)
{
	uint32_t mask = SKIP_STATISTICS;
	struct request r;

	link_request(&r, 0);
	r.head.nlmsg_type = RTM_GETLINK;
	r.head.nlmsg_flags |= NLM_F_DUMP;
	netlink_put(&r.head, IFLA_EXT_MASK, &mask, sizeof(mask));
	return netlink_dump(fd, &r.head, visit, context);
}

bool is_short(int error)
{
	return error == ENOMEM || error == ENOBUFS;
}

static void take_link(const struct nlmsghdr *message, void *context)
{
	struct link link;

	if (message->nlmsg_type == RTM_NEWLINK && link_read(message, &link))
		*(struct link *)table_add(context, link.index) = link;
}

void links_dump(int fd, struct table *links)
{
	int error = EINTR;

	for (int i = 0; (error == EINTR || is_short(error)) && i < TRIES; i++) {
		if (is_short(error))
			links_reopen(fd); /* the old one may be in a dump that goes on no more */
		table_empty(links);
		links->size = sizeof(struct link);
		error = dump(fd, take_link, links);
		if (error < 0)
			error = errno;
	}
	/* Somebody who makes links without end: what is there is there. */
	if (error && error != EINTR)
		fault("reading all links: %s", strerror(error));
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

uint32_t *links_order(const struct table *links)
{
	uint32_t *order = cleared(links->count, sizeof(*order));
	const struct link *link;
	size_t slot = 0, count = 0;

	while ((link = table_next(links, &slot)))
		order[count++] = link->index;
	qsort(order, count, sizeof(*order), compare);
	return order;
}

struct link *link_called(const struct table *links, const char *name)
{
	struct link *link;
	size_t slot = 0;

	while ((link = table_next(links, &slot)))
		if (!strcmp(link->name, name))
			return link;
	return NULL;
}

int listen_links(int room)
{
	struct sockaddr_nl here = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof(here)))
		fault("listening to links: %s", strerror(errno));
	return fd;
}

bool glob_fits(const char *pattern, const char *text)
{
	const char *star = NULL, *behind = NULL;

	/* Of several stars the last is the only one that can have to grow. */
	while (*text) {
		if (*pattern == '*') {
			star = ++pattern;
			behind = text;
		} else if (*pattern == '?' || *pattern == *text) {
			pattern++;
			text++;
		} else if (star) {
			pattern = star;
			text = ++behind;
		} else {
			return false;
		}
	}
	return !pattern[strspn(pattern, "*")];
}

bool one_of(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (; *list; list += strcspn(list, ",")) {
		list += *list == ',';
		if (strcspn(list, ",") == len && !strncmp(list, word, len))
			return true;
	}
	return false;
}

struct wanted {
	struct group_set groups;
	bool any_group, up, down, count;
	const char *kinds, *name;
	size_t found;
};

static void show(const struct link *l)
{
	put_number(l->index);
	put(" ");
	put(l->name);
	put(" group ");
	put(group_name(l->group));
	put(l->flags & IFF_UP ? " up mtu " : " down mtu ");
	put_number(l->mtu);
	put(" kind ");
	put(LINK_KIND(l));
	put("\n");
}

static void show_json(const struct link *l)
{
	put("{\"ifindex\":");
	put_number(l->index);
	put(",\"ifname\":");
	put_json(l->name);
	put(",\"group\":");
	put_json(group_name(l->group));
	put(",\"number\":");
	put_number(l->group);
	put(l->flags & IFF_UP ? ",\"up\":true,\"mtu\":" : ",\"up\":false,\"mtu\":");
	put_number(l->mtu);
	put(",\"kind\":");
	put_json(l->kind);
	put("}\n");
}

/* Shown as they come: a list is no slower than its dump for keeping them. */
static void list_link(const struct nlmsghdr *message, void *context)
{
	struct wanted *w = context;
	struct link l;

	if (message->nlmsg_type != RTM_NEWLINK || !link_read(message, &l))
		return;
	if ((!w->any_group && !group_in(&w->groups, l.group)) ||
	    (w->up && !(l.flags & IFF_UP)) || (w->down && l.flags & IFF_UP) ||
	    (w->kinds && !one_of(w->kinds, l.kind)) || (w->name && !glob_fits(w->name, l.name)))
		return;
	w->found++;
	if (!w->count)
		(options.json ? show_json : show)(&l);
}

/* [GROUP] [up|down] [kind KIND,...] [name PATTERN] [count]: what fits all of it. */
int do_list(char **argv)
{
	struct wanted w = { .any_group = true };
	struct tree tree = { 0 };
	int fd, error;

	for (; *argv; argv++) {
		if (!strcmp(*argv, "up"))
			w.up = true;
		else if (!strcmp(*argv, "down"))
			w.down = true;
		else if (!strcmp(*argv, "count"))
			w.count = true;
		else if (!strcmp(*argv, "kind") && argv[1])
			w.kinds = *++argv;
		else if (!strcmp(*argv, "name") && argv[1])
			w.name = *++argv;
		else if (w.any_group) {
			uint32_t group = group_of(!strcmp(*argv, "group") ? *++argv : *argv);

			tree_load(&tree, false);
			tree_groups(&tree, group, true, &w.groups);
			w.any_group = false;
		} else
			misused("list: %s: one group, up, down, kind, name and count are known", *argv);
	}
	fd = links_open();
	error = dump(fd, list_link, &w);
	close(fd);
	if (error && error != EINTR)
		fault("reading all links: %s", strerror(error < 0 ? errno : error));
	if (w.count) {
		put_number(w.found);
		put("\n");
	}
	if (error)
		warn("links changed while they were listed: some may be missing, or listed twice");
	return error ? 1 : 0;
}
