/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Trees of groups: a file that says which group contains which.
 *
 *   customers: gold silver
 *   gold: dev eth0 dev eth1
 *
 * A group has at most one parent, and a device one group.  Leaves have devices, and inner
 * groups that list some.
 *
 * Where numbers are given out by prefix, as `encode` does, all groups of a subtree agree in
 * their upper bits, and one mask of nftables or iptables fits them all.  `mask` works it out
 * from the numbers as they are, and says so where another group would fit, too.
 */
#include "group.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_BITS 31
#define DEFAULT_TREE "group.tree"

static struct node *node_of(struct tree *t, const char *name, bool unknown, size_t line,
			    struct wrong *why)
{
	uint32_t group = 0;
	bool known = group_named(name, &group);

	if (!known && !unknown) {
		wrong_at(why, line, "%s: no group has this name", name);
		return NULL;
	}
	for (size_t i = 0; i < t->count; i++)
		if (unknown ? !strcmp(t->nodes[i].name, name) : t->nodes[i].group == group)
			return &t->nodes[i];
	if (known && !group) {
		wrong_at(why, line, "%s: group 0 is where every interface begins", name);
		return NULL;
	}
	t->nodes = grown(t->nodes, t->count, &t->capacity, sizeof(*t->nodes));
	t->nodes[t->count] = (struct node){ .group = group, .name = name, .line = line };
	return &t->nodes[t->count++];
}

static bool put_below(struct tree *t, size_t parent, size_t child, size_t line, struct wrong *why)
{
	struct node *it = &t->nodes[child];

	for (size_t up = parent + 1; up; up = t->nodes[up - 1].parent)
		if (up == child + 1)
			return wrong_at(why, line, "%s would contain itself", it->name);
	if (it->parent)
		return wrong_at(why, line, "%s is in %s already, by line %zu", it->name,
				t->nodes[it->parent - 1].name, it->line);
	it->parent = parent + 1;
	it->line = line;
	t->nodes[parent].children++;
	return true;
}

static bool put_device(struct tree *t, size_t node, const char *name, size_t line,
		       struct wrong *why)
{
	if (!name || strlen(name) >= IFNAMSIZ)
		return wrong_at(why, line, "%s: the name of a device is expected behind dev",
				name ? name : "nothing");
	for (size_t i = 0; i < t->device_count; i++)
		if (!strcmp(t->devices[i].name, name))
			return wrong_at(why, line, "%s is in %s already, by line %zu", name,
					t->nodes[t->devices[i].node].name, t->devices[i].line);
	t->devices = grown(t->devices, t->device_count, &t->device_capacity, sizeof(*t->devices));
	t->devices[t->device_count++] = (struct device){ node, name, line };
	t->nodes[node].devices++;
	return true;
}

static bool take_line(struct tree *t, char *rest, bool unknown, size_t line, struct wrong *why)
{
	char *name = word_of(&rest), *word;
	size_t len = name ? strlen(name) : 0, parent;
	const struct node *it;

	if (!name)
		return true;
	if (len < 2 || name[len - 1] != ':')
		return wrong_at(why, line, "%s: `GROUP: MEMBER...` is expected", name);
	name[len - 1] = '\0';
	it = node_of(t, name, unknown, line, why);
	if (!it)
		return false;
	parent = (size_t)(it - t->nodes);
	while ((word = word_of(&rest))) {
		if (!strcmp(word, "dev")) {
			if (!put_device(t, parent, word_of(&rest), line, why))
				return false;
			continue;
		}
		it = node_of(t, word, unknown, line, why);
		if (!it || !put_below(t, parent, (size_t)(it - t->nodes), line, why))
			return false;
	}
	return true;
}

bool tree_parse(char *text, bool unknown, struct tree *tree, struct wrong *why)
{
	char *line;

	*tree = (struct tree){ .text = text };
	for (size_t number = 1; (line = line_of(&text)); number++)
		if (!take_line(tree, line, unknown, number, why))
			return false;
	return true;
}

void tree_free(struct tree *tree)
{
	free(tree->text);
	free(tree->nodes);
	free(tree->devices);
}

/* The file that was named, or the one beside the names, which need not be there. */
void tree_load(struct tree *tree, bool unknown)
{
	char path[4096];
	struct wrong why;
	char *text;

	snprintf(path, sizeof(path), "%s/" DEFAULT_TREE, options.names);
	text = file_read(options.tree ? options.tree : path, NULL);
	if (!text && (options.tree || errno != ENOENT))
		misused("%s: %s", options.tree ? options.tree : path, strerror(errno));
	if (!tree_parse(text, unknown, tree, &why))
		misused("%s:%zu: %s", options.tree ? options.tree : path, why.line, why.text);
}

bool tree_below(const struct tree *tree, size_t node, uint32_t group)
{
	for (size_t up = node + 1; up; up = tree->nodes[up - 1].parent)
		if (tree->nodes[up - 1].group == group)
			return true;
	return false;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

void tree_groups(const struct tree *tree, uint32_t group, bool all, struct group_set *found)
{
	bool there = false;

	*found = (struct group_set){ 0 };
	for (size_t i = 0; i < tree->count; i++) {
		const struct node *n = &tree->nodes[i];

		there = there || n->group == group;
		if (!tree_below(tree, i, group) || (!all && n->children && !n->devices))
			continue;
		found->each = grown(found->each, found->count, &found->capacity, sizeof(*found->each));
		found->each[found->count++] = n->group;
	}
	if (!there) {
		found->each = grown(found->each, found->count, &found->capacity, sizeof(*found->each));
		found->each[found->count++] = group;
	}
	qsort(found->each, found->count, sizeof(*found->each), compare);
}

bool group_in(const struct group_set *set, uint32_t group)
{
	return set->count && bsearch(&group, set->each, set->count, sizeof(*set->each), compare);
}

static void show(const struct tree *t, size_t node, size_t depth)
{
	for (size_t i = 0; i < depth; i++)
		put("  ");
	put(t->nodes[node].name);
	put(" ");
	put_number(t->nodes[node].group);
	for (size_t i = 0; i < t->device_count; i++)
		if (t->devices[i].node == node) {
			put(" dev ");
			put(t->devices[i].name);
		}
	put("\n");
	for (size_t i = 0; i < t->count; i++)
		if (t->nodes[i].parent == node + 1)
			show(t, i, depth + 1);
}

/* [GROUP]: the tree, or what is below a group. */
int do_tree(char **argv)
{
	uint32_t group = *argv ? group_of(*argv) : 0;
	struct tree tree;

	tree_load(&tree, false);
	for (size_t i = 0; i < tree.count; i++)
		if (*argv ? tree.nodes[i].group == group : !tree.nodes[i].parent)
			show(&tree, i, 0);
	tree_free(&tree);
	return 0;
}

struct masked {
	uint32_t value, mask;
	const struct group_set *inside;
	const char *other;
};

static void look_for_other(uint32_t group, const char *name, void *context)
{
	struct masked *m = context;

	if ((group & m->mask) == m->value && !group_in(m->inside, group))
		m->other = name;
}

/* GROUP: value and mask that its whole subtree fits, and nobody else. */
int do_mask(char **argv)
{
	uint32_t group = group_of(*argv), differ = 0;
	struct masked m = { .mask = ~0u };
	struct group_set inside;
	struct tree tree;
	char text[200];

	tree_load(&tree, false);
	tree_groups(&tree, group, true, &inside);
	for (size_t i = 0; i < inside.count; i++)
		differ |= inside.each[i] ^ inside.each[0];
	while (differ & m.mask)
		m.mask <<= 1;
	m.value = inside.each[0] & m.mask;
	m.inside = &inside;
	names_each(look_for_other, &m);
	for (size_t i = 0; i < tree.count; i++)
		look_for_other(tree.nodes[i].group, tree.nodes[i].name, &m);
	if (m.other)
		fault("%s: 0x%08x/0x%08x fits %s, too, which is not below it: `encode` gives out numbers that one mask can tell apart",
		      *argv, m.value, m.mask, m.other);
	snprintf(text, sizeof(text),
		 "0x%08x/0x%08x\nnft: meta iifgroup & 0x%08x == 0x%08x\niptables: -m devgroup --src-group 0x%08x/0x%08x\n",
		 m.value, m.mask, m.mask, m.value, m.value, m.mask);
	put(text);
	free(inside.each);
	tree_free(&tree);
	return 0;
}

static unsigned int bits_for(uint32_t number)
{
	unsigned int bits = 0;

	while (number >> bits)
		bits++;
	return bits;
}

/* Numbers for all below a node, behind the bits that it has already. */
static void encode(struct tree *t, size_t parent, uint32_t prefix, unsigned int used,
		   uint32_t first, uint32_t children)
{
	unsigned int bits = bits_for(first + children - 1);
	uint32_t number = first;

	if (used + bits > NUMBER_BITS)
		fault("the tree has more levels than %d bits can number: %s", NUMBER_BITS,
		      parent ? t->nodes[parent - 1].name : "its roots");
	for (size_t i = 0; i < t->count; i++) {
		struct node *n = &t->nodes[i];

		if (n->parent != parent)
			continue;
		n->encoded = prefix | number++ << (NUMBER_BITS - used - bits);
		if (n->children)
			encode(t, i + 1, n->encoded, used + bits, 1, (uint32_t)n->children);
	}
}

/* [from NUMBER]: lines for a file of names; the first root's number among the roots. */
int do_encode(char **argv)
{
	uint64_t first = 1;
	struct tree tree;
	uint32_t roots = 0;

	if (*argv && (strcmp(*argv, "from") || !number_of(argv[1], 1, 1 << 20, &first)))
		misused("encode: from NUMBER is expected");
	tree_load(&tree, true);
	for (size_t i = 0; i < tree.count; i++)
		roots += !tree.nodes[i].parent;
	if (roots)
		encode(&tree, 0, 0, 0, (uint32_t)first, roots);
	for (size_t i = 0; i < tree.count; i++) {
		char line[16];

		snprintf(line, sizeof(line), "0x%08x\t", tree.nodes[i].encoded);
		put(line);
		put(tree.nodes[i].name);
		put("\n");
	}
	tree_free(&tree);
	return 0;
}
