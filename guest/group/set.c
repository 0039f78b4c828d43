/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One change to a device, to a group, or to all groups below one: a request for each leaf
 * group, whatever the number of its members.  Beside them a request for each device that
 * the tree lists and that is not in its group, and where the group itself is what changes,
 * for each device: in a request the group is what selects.
 */
#include "group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is to be set; those without `is` stay. */
struct wanted {
	struct {
		bool is;
		uint32_t value;
	} mtu, queue, group;
	uint32_t flags, mask;
};

static const struct {
	const char *word;
	uint32_t flag;
	bool inverted;
} switches[] = {
	{ "arp", IFF_NOARP, true },
	{ "multicast", IFF_MULTICAST, false },
	{ "promisc", IFF_PROMISC, false },
};

static void want_flag(struct wanted *w, uint32_t flag, bool on)
{
	w->mask |= flag;
	w->flags = on ? w->flags | flag : w->flags & ~flag;
}

static bool want_switch(struct wanted *w, const char *word, const char *how)
{
	for (size_t i = 0; i < sizeof(switches) / sizeof(*switches); i++) {
		if (strcmp(switches[i].word, word))
			continue;
		if (!how || (strcmp(how, "on") && strcmp(how, "off")))
			misused("set: %s on or off is expected", word);
		want_flag(w, switches[i].flag, !strcmp(how, "on") != switches[i].inverted);
		return true;
	}
	return false;
}

static uint32_t number_for(const char *word, const char *text, uint64_t least, uint64_t most)
{
	uint64_t value;

	if (!number_of(text, least, most, &value))
		misused("set: %s: a number from %u to %u is expected, not %s", word,
			(unsigned int)least, (unsigned int)most, text ? text : "nothing");
	return (uint32_t)value;
}

static struct wanted read_wanted(char **argv)
{
	struct wanted w = { 0 };

	if (!*argv)
		misused("set: nothing to set");
	for (; *argv; argv++) {
		if (!strcmp(*argv, "up") || !strcmp(*argv, "down")) {
			want_flag(&w, IFF_UP, (*argv)[0] == 'u');
			continue;
		}
		if (!strcmp(*argv, "mtu")) {
			w.mtu.is = true;
			w.mtu.value = number_for(*argv, argv[1], 0, INT32_MAX);
		} else if (!strcmp(*argv, "txqueuelen")) {
			w.queue.is = true;
			w.queue.value = number_for(*argv, argv[1], 0, UINT32_MAX);
		} else if (!strcmp(*argv, "group")) {
			w.group.is = true;
			w.group.value = group_of(argv[1]);
		} else if (!strcmp(*argv, "address")) {
			misused("set: one address for many is of no use: `assign` counts up");
		} else if (!want_switch(&w, *argv, argv[1])) {
			misused("set: %s is not known", *argv);
		}
		argv++;
	}
	return w;
}

static void add_changes(struct changes *c, const struct link *l, const struct wanted *w)
{
	if (w->mtu.is)
		changes_add(c, l, (struct change){ .what = CHANGE_MTU, .before = l->mtu,
						   .after = w->mtu.value });
	if (w->queue.is)
		changes_add(c, l, (struct change){ .what = CHANGE_QUEUE, .before = l->queue,
						   .after = w->queue.value });
	if (w->mask)
		changes_add(c, l, (struct change){ .what = CHANGE_FLAGS,
						   .before = l->flags & w->mask,
						   .after = w->flags, .mask = w->mask });
	if (w->group.is)
		changes_add(c, l, (struct change){ .what = CHANGE_GROUP, .before = l->group,
						   .after = w->group.value });
}

/* A request for all of a group, or for one device. */
static void add_request(struct messages *m, const struct wanted *w, uint32_t index,
			uint32_t group)
{
	struct request r;

	link_request(&r, index);
	if (w->mtu.is)
		netlink_put(&r.head, IFLA_MTU, &w->mtu.value, sizeof(uint32_t));
	if (w->queue.is)
		netlink_put(&r.head, IFLA_TXQLEN, &w->queue.value, sizeof(uint32_t));
	if (!index)
		netlink_put(&r.head, IFLA_GROUP, &group, sizeof(group));
	else if (w->group.is)
		netlink_put(&r.head, IFLA_GROUP, &w->group.value, sizeof(uint32_t));
	r.body.link.ifi_flags = w->flags;
	r.body.link.ifi_change = w->mask;
	messages_add(m, &r, index, group);
}

/* Devices of the tree below a group that are somewhere else. */
static void add_strayed(struct messages *m, struct changes *c, const struct tree *tree,
			uint32_t group, const struct group_set *groups,
			const struct table *links, const struct wanted *w)
{
	for (size_t i = 0; i < tree->device_count; i++) {
		const struct device *d = &tree->devices[i];
		const struct link *l;

		if (!tree_below(tree, d->node, group))
			continue;
		l = link_called(links, d->name);
		if (!l) {
			warn("%s, listed at line %zu of the tree, is not there", d->name, d->line);
		} else if (!group_in(groups, l->group)) {
			add_request(m, w, l->index, 0);
			add_changes(c, l, w);
		}
	}
}

static int set_device(int fd, const char *name, const struct wanted *w)
{
	struct table links = { .size = sizeof(struct link) };
	struct changes changes = { 0 };
	struct group_set none = { 0 };
	struct messages m = { 0 };
	const struct link *l;

	links_dump(fd, &links);
	l = name ? link_called(&links, name) : NULL;
	if (!l)
		fault("%s: there is no such device", name ? name : "nothing");
	add_request(&m, w, l->index, 0);
	add_changes(&changes, l, w);
	return carry_out(fd, &m, &changes, &none, &links);
}

static int set_group(int fd, uint32_t group, const struct wanted *w)
{
	struct table links = { .size = sizeof(struct link) };
	struct changes changes = { 0 };
	struct messages m = { 0 };
	struct group_set groups;
	struct tree tree;
	uint32_t *order;

	tree_load(&tree, false);
	tree_groups(&tree, group, false, &groups);
	/* One request needs to know nothing of the links: a dump of them costs more than it. */
	if (options.atomic || w->group.is || tree.device_count)
		links_dump(fd, &links);
	order = links_order(&links);
	for (size_t i = 0; i < links.count; i++) {
		const struct link *l = table_find(&links, order[i]);

		if (!group_in(&groups, l->group))
			continue;
		if (w->group.is)
			add_request(&m, w, l->index, 0);
		add_changes(&changes, l, w);
	}
	for (size_t i = 0; !w->group.is && i < groups.count; i++)
		add_request(&m, w, 0, groups.each[i]);
	add_strayed(&m, &changes, &tree, group, &groups, &links, w);
	free(order);
	return carry_out(fd, &m, &changes, &groups, &links);
}

/* GROUP|dev NAME ATTRIBUTE...: the same for all. */
int do_set(char **argv)
{
	int fd = links_open();
	struct wanted w;
	uint32_t group;

	if (*argv && !strcmp(*argv, "dev")) {
		if (!argv[1])
			misused("set: a device is expected");
		w = read_wanted(argv + 2);
		return set_device(fd, argv[1], &w);
	}
	if (*argv && !strcmp(*argv, "group"))
		argv++;
	group = group_of(*argv);
	w = read_wanted(argv + 1);
	return set_group(fd, group, &w);
}

/* [GROUP]: puts the devices that the tree lists into their groups. */
int do_apply(char **argv)
{
	struct table links = { .size = sizeof(struct link) };
	struct group_set none = { 0 };
	struct changes changes = { 0 };
	struct messages m = { 0 };
	int fd = links_open();
	struct tree tree;
	bool all_there = true;

	tree_load(&tree, false);
	links_dump(fd, &links);
	for (size_t i = 0; i < tree.device_count; i++) {
		const struct device *d = &tree.devices[i];
		const struct link *l = link_called(&links, d->name);
		struct wanted w = { .group = { true, tree.nodes[d->node].group } };

		if (*argv && !tree_below(&tree, d->node, group_of(*argv)))
			continue;
		if (!l) {
			warn("%s, listed at line %zu of the tree, is not there", d->name, d->line);
			all_there = false;
		} else if (l->group != w.group.value) {
			add_request(&m, &w, l->index, 0);
			add_changes(&changes, l, &w);
		}
	}
	return carry_out(fd, &m, &changes, &none, &links) || !all_there;
}
