/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Addresses that count up over the members of a group: MAC, IPv4, IPv6, each from a base
 * by a stride.  All is worked out and held against what there is before anything is sent:
 * a MAC that is zero or of a group of receivers, an address out of its prefix, one that
 * somebody has already.
 */
#include "group.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAC_LEN 6
#define LEN_MOST 16

/* What is counted. */
struct series {
	const char *word;   /* as it was asked for */
	unsigned char family; /* 0: MAC */
	unsigned char prefix;
	size_t len;
	unsigned char base[LEN_MOST];
	uint64_t stride;
};

/* An address that is there, or is to be. */
struct known {
	unsigned char bytes[LEN_MOST];
	unsigned char family, prefix;
	uint32_t index;
	bool is_new;
};

struct knowns {
	struct known *each;
	size_t count, capacity;
};

static bool read_mac(const char *text, unsigned char *mac)
{
	unsigned int b[MAC_LEN];
	char end;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &end) != MAC_LEN)
		return false;
	for (size_t i = 0; i < MAC_LEN; i++)
		mac[i] = (unsigned char)b[i];
	return true;
}

static struct series read_series(const char *kind, const char *text)
{
	struct series s = { .word = kind, .stride = 1 };
	char address[64];
	const char *slash;
	uint64_t prefix;

	if (!text)
		misused("assign: %s: an address is expected", kind);
	if (!strcmp(kind, "mac")) {
		s.len = MAC_LEN;
		if (!read_mac(text, s.base))
			misused("assign: mac %s: six bytes are expected, as 02:00:00:00:00:01", text);
		return s;
	}
	s.family = strcmp(kind, "inet") ? AF_INET6 : AF_INET;
	s.len = s.family == AF_INET ? 4 : 16;
	slash = strchr(text, '/');
	snprintf(address, sizeof(address), "%.*s", slash ? (int)(slash - text) : 0, text);
	if (!slash || !number_of(slash + 1, 1, s.len * 8, &prefix) ||
	    inet_pton(s.family, address, s.base) != 1)
		misused("assign: %s %s: ADDRESS/PREFIX is expected", kind, text);
	s.prefix = (unsigned char)prefix;
	return s;
}

__extension__ typedef unsigned __int128 wide;

/* base + place * stride, as one number; false where it does not fit. */
static bool nth(const struct series *s, uint64_t place, unsigned char *out)
{
	wide sum = (wide)place * s->stride;

	for (size_t i = s->len; i-- > 0;) {
		sum += s->base[i];
		out[i] = (unsigned char)sum;
		sum >>= 8;
	}
	return !sum;
}

static bool bits_are(const unsigned char *bytes, size_t from, size_t to, bool set)
{
	for (size_t i = from; i < to; i++)
		if ((bytes[i / 8] >> (7 - i % 8) & 1) != set)
			return false;
	return true;
}

static const char *text_of(const struct series *s, const unsigned char *bytes)
{
	static char text[INET6_ADDRSTRLEN + 4];

	if (!s->family)
		snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1],
			 bytes[2], bytes[3], bytes[4], bytes[5]);
	else
		inet_ntop(s->family, bytes, text, sizeof(text));
	return text;
}

/* Why an address is of no use to anybody; NULL where it is. */
static const char *unfit(const struct series *s, const unsigned char *bytes)
{
	size_t bits = s->len * 8;

	if (bits_are(bytes, 0, bits, false))
		return "is zero";
	if (!s->family)
		return bytes[0] & 1 ? "is a multicast address" : NULL;
	for (size_t i = 0; i < s->prefix; i++)
		if ((bytes[i / 8] ^ s->base[i / 8]) >> (7 - i % 8) & 1)
			return "is behind the end of the prefix";
	if (s->family == AF_INET6)
		return bytes[0] == 0xff ? "is a multicast address" : NULL;
	if (bytes[0] >= 224)
		return bytes[0] < 240 ? "is a multicast address" : "is reserved";
	if (bytes[0] == 127)
		return "is a loopback address";
	if (s->prefix < 31 && bits_are(bytes, s->prefix, bits, false))
		return "is the network's own";
	if (s->prefix < 31 && bits_are(bytes, s->prefix, bits, true))
		return "is the broadcast address";
	return NULL;
}

static void know(struct knowns *k, const struct known *one)
{
	k->each = grown(k->each, k->count, &k->capacity, sizeof(*k->each));
	k->each[k->count++] = *one;
}

static void take_address(const struct nlmsghdr *message, void *context)
{
	const struct nlattr *found[IFA_LOCAL + 1], *a;
	struct known one = { 0 };
	struct ifaddrmsg head;

	if (message->nlmsg_type != RTM_NEWADDR || message->nlmsg_len < NLMSG_LENGTH(sizeof(head)))
		return;
	memcpy(&head, NLMSG_DATA(message), sizeof(head));
	netlink_attributes(message, sizeof(head), found, IFA_LOCAL + 1);
	a = found[IFA_LOCAL] ? found[IFA_LOCAL] : found[IFA_ADDRESS];
	if (!a || netlink_length(a) > LEN_MOST)
		return;
	memcpy(one.bytes, netlink_data(a), netlink_length(a));
	one.family = head.ifa_family;
	one.prefix = head.ifa_prefixlen;
	one.index = head.ifa_index;
	know(context, &one);
}

static void dump_addresses(int fd, struct knowns *k)
{
	int error = EINTR;

	for (int i = 0; error == EINTR && i < 100; i++) {
		struct request r = { 0 };
		struct ifaddrmsg all = { .ifa_family = AF_UNSPEC };

		k->count = 0;
		memcpy(&r.body, &all, sizeof(all));
		r.head.nlmsg_len = NLMSG_LENGTH(sizeof(all));
		r.head.nlmsg_type = RTM_GETADDR;
		r.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
		r.head.nlmsg_seq = 1;
		error = netlink_dump(fd, &r.head, take_address, k);
	}
	if (error && error != EINTR)
		fault("reading all addresses: %s", strerror(error < 0 ? errno : error));
}

static int by_address(const void *a, const void *b)
{
	const struct known *x = a, *y = b;
	int differ = x->family - y->family;

	differ = differ ? differ : memcmp(x->bytes, y->bytes, LEN_MOST);
	return differ ? differ : x->is_new - y->is_new;
}

/* eth2 before eth10: digits count as numbers. */
static int by_name(const char *a, const char *b)
{
	while (*a && *b) {
		char *a_end, *b_end;
		unsigned long long x, y;

		if (*a < '0' || *a > '9' || *b < '0' || *b > '9') {
			if (*a != *b)
				return (unsigned char)*a - (unsigned char)*b;
			a++;
			b++;
			continue;
		}
		x = strtoull(a, &a_end, 10);
		y = strtoull(b, &b_end, 10);
		if (x != y)
			return x < y ? -1 : 1;
		a = a_end;
		b = b_end;
	}
	return (unsigned char)*a - (unsigned char)*b;
}

static int link_by_name(const void *a, const void *b)
{
	const struct link *const *x = a, *const *y = b;
	int differ = by_name((*x)->name, (*y)->name);

	return differ ? differ : ((*x)->index > (*y)->index) - ((*x)->index < (*y)->index);
}

static const struct link **members(const struct table *links, const struct group_set *groups,
				   bool named, size_t *count)
{
	const struct link **found = cleared(links->count, sizeof(*found));
	uint32_t *order = links_order(links);

	*count = 0;
	for (size_t i = 0; i < links->count; i++) {
		const struct link *l = table_find(links, order[i]);

		if (group_in(groups, l->group))
			found[(*count)++] = l;
	}
	free(order);
	if (named)
		qsort(found, *count, sizeof(*found), link_by_name);
	return found;
}

/* What is asked, refused as a whole before anything is sent. */
static void check(const struct series *s, const struct link **links, size_t count)
{
	unsigned char bytes[LEN_MOST];

	if (!s->stride && count > 1)
		misused("%s: stride 0 gives all %zu members one address", s->word, count);
	for (size_t i = 0; i < count; i++) {
		const char *why = nth(s, i, bytes) ? unfit(s, bytes) : "does not fit: there are no more";

		if (why)
			misused("%s of %s, the %zu. of %zu: %s %s: nothing was changed", s->word,
			      links[i]->name, i + 1, count, text_of(s, bytes), why);
		if (!s->family && links[i]->hardware_len != MAC_LEN)
			misused("%s has no MAC address: nothing was changed", links[i]->name);
	}
}

/* One whose MAC is to be replaced gives it free. */
static void know_macs(struct knowns *k, const struct table *links, const struct group_set *groups)
{
	const struct link *l;
	size_t slot = 0;

	while ((l = table_next(links, &slot))) {
		struct known one = { .index = l->index };

		if (l->hardware_len != MAC_LEN || group_in(groups, l->group))
			continue;
		memcpy(one.bytes, l->hardware, MAC_LEN);
		know(k, &one);
	}
}

/*
 * What is to be, in order of addresses, against what is; takes out what is there as asked.
 * Two series may meet as well.
 */
static void check_collisions(struct knowns *k, const struct table *links)
{
	qsort(k->each, k->count, sizeof(*k->each), by_address);
	for (size_t i = 1; i < k->count; i++) {
		struct known *a = &k->each[i - 1], *b = &k->each[i];
		const struct series s = { .family = b->family };

		if (!b->is_new || a->family != b->family || memcmp(a->bytes, b->bytes, LEN_MOST))
			continue;
		if (!a->is_new && a->index == b->index && a->prefix == b->prefix && b->family) {
			b->index = 0; /* has it already */
			continue;
		}
		misused("%s, meant for %s, %s %s: nothing was changed", text_of(&s, b->bytes),
		      ((struct link *)table_find(links, b->index))->name,
		      a->is_new ? "is meant for" : "is taken by",
		      ((struct link *)table_find(links, a->index))->name);
	}
}

static void know_series(struct knowns *k, const struct series *s, const struct link **links,
			size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct known one = { .family = s->family, .prefix = s->prefix,
				     .index = links[i]->index, .is_new = true };

		nth(s, i, one.bytes);
		know(k, &one);
	}
}

/* Whether a link has an address as it is asked for. */
static bool has_already(const struct knowns *k, const struct known *one)
{
	size_t low = 0, high = k->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (by_address(&k->each[middle], one) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < k->count && !k->each[low].is_new && k->each[low].index == one->index &&
	       k->each[low].prefix == one->prefix && k->each[low].family == one->family &&
	       !memcmp(k->each[low].bytes, one->bytes, LEN_MOST);
}

static void add_series(struct messages *m, struct changes *changes, const struct series *s,
		       const struct link **links, size_t count, const struct knowns *known)
{
	for (size_t i = 0; i < count; i++) {
		struct known one = { .family = s->family, .prefix = s->prefix,
				     .index = links[i]->index };
		struct change c = { .what = s->family ? CHANGE_ADDRESS : CHANGE_HARDWARE,
				    .family = s->family, .prefix = s->prefix,
				    .len = (unsigned char)s->len };
		struct request r;

		nth(s, i, one.bytes);
		memcpy(c.new, one.bytes, s->len);
		memcpy(c.old, links[i]->hardware, s->family ? 0 : MAC_LEN);
		c.index = links[i]->index;
		if (s->family ? has_already(known, &one) : !memcmp(c.old, c.new, MAC_LEN))
			continue;
		if (s->family) {
			address_request(&r, &c, true);
		} else {
			link_request(&r, c.index);
			change_put(&r, &c, true);
		}
		messages_add(m, &r, c.index, 0);
		changes_add(changes, links[i], c);
	}
}

/* GROUP [mac BASE] [inet BASE/PREFIX] [inet6 BASE/PREFIX] [stride N]... [order index|name] */
int do_assign(char **argv)
{
	struct table links = { .size = sizeof(struct link) };
	struct changes changes = { 0 };
	struct knowns known = { 0 };
	struct messages m = { 0 };
	struct series series[8];
	const struct link **found;
	struct group_set groups;
	size_t kinds = 0, count;
	bool named = false, addresses = false;
	struct tree tree;
	uint32_t group;
	int fd;

	if (*argv && !strcmp(*argv, "group"))
		argv++;
	group = group_of(*argv);
	for (argv++; *argv; argv += 2) {
		if (!strcmp(*argv, "stride") && kinds &&
		    number_of(argv[1], 0, UINT64_MAX, &series[kinds - 1].stride))
			continue;
		if (!strcmp(*argv, "order") && argv[1] &&
		    (!strcmp(argv[1], "index") || !strcmp(argv[1], "name"))) {
			named = argv[1][0] == 'n';
			continue;
		}
		if ((strcmp(*argv, "mac") && strcmp(*argv, "inet") && strcmp(*argv, "inet6")) ||
		    kinds == sizeof(series) / sizeof(*series))
			misused("assign: %s: mac, inet, inet6, a stride behind one, or an order is expected",
				*argv);
		series[kinds++] = read_series(*argv, argv[1]);
		addresses = addresses || series[kinds - 1].family;
	}
	if (!kinds)
		misused("assign: nothing to assign");
	fd = links_open();
	tree_load(&tree, false);
	tree_groups(&tree, group, true, &groups);
	links_dump(fd, &links);
	if (addresses)
		dump_addresses(fd, &known);
	know_macs(&known, &links, &groups);
	found = members(&links, &groups, named, &count);
	if (!count)
		fault("%s: the group has no members", group_name(group));
	for (size_t i = 0; i < kinds; i++) {
		check(&series[i], found, count);
		know_series(&known, &series[i], found, count);
	}
	check_collisions(&known, &links);
	for (size_t i = 0; i < kinds; i++)
		add_series(&m, &changes, &series[i], found, count, &known);
	groups.count = 0; /* no request is for a group: nobody is changed who was not seen */
	return carry_out(fd, &m, &changes, &groups, &links);
}
