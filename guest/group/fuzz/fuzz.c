/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Takes the parsers of files and the reader of netlink apart, under the sanitizers: what
 * they are given is right at first, and then changed at random, again and again.
 *
 *   fuzz SECONDS SEED
 *   fuzz FILE names|tree|rules|journal|netlink|answers
 *
 * Says how much it tried of each.  A finding ends it with the sanitizer's report; the input is
 * in ./fuzz-input, to be given to it again.
 */
#include "group.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 4096
#define EACH 2000 /* of one kind, before the clock is looked at */

static uint64_t state;

/* Marsaglia's xorshift64*: a run is repeated by its seed. */
static uint64_t draw(uint64_t below)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * UINT64_C(2685821657736338717) % below;
}

/* In memory of exactly its length: a byte behind it is a finding. */
static char *copied(const char *data, size_t len)
{
	char *copy = malloc(len + 1);

	if (!copy)
		exit(1);
	memcpy(copy, data, len);
	copy[len] = '\0';
	return copy;
}

static void try_names(const char *data, size_t len)
{
	char *text = copied(data, len);

	names_parse(text, "fuzz");
	free(text);
	names_forget();
}

static void try_tree(const char *data, size_t len)
{
	struct group_set found;
	struct wrong why;
	struct tree tree;

	if (tree_parse(copied(data, len), draw(2), &tree, &why) && tree.count) {
		tree_groups(&tree, tree.nodes[draw(tree.count)].group, draw(2), &found);
		free(found.each);
	}
	tree_free(&tree);
}

static void try_rules(const char *data, size_t len)
{
	struct rules rules;
	struct wrong why;

	if (rules_parse(copied(data, len), &rules, &why))
		for (size_t i = 0; i < rules.count; i++) {
			if (rules.each[i].kinds)
				one_of(rules.each[i].kinds, "vlan");
			if (rules.each[i].name)
				glob_fits(rules.each[i].name, "ppp0.42");
		}
	free(rules.each);
	free(rules.text);
}

static void try_journal(const char *data, size_t len)
{
	struct changes changes;
	char space[16], *text = copied(data, len);
	struct wrong why;

	journal_parse(text, &changes, space, sizeof(space), &why);
	free(changes.each);
	free(text);
}

/* Messages as a socket gives them: aligned, several in a row, of any length. */
static void try_netlink(const char *data, size_t len)
{
	char *all = malloc(len ? len : 1);
	struct link link;
	int left = (int)len;

	if (!all)
		exit(1);
	memcpy(all, data, len);
	for (struct nlmsghdr *h = (struct nlmsghdr *)all; NLMSG_OK(h, left);
	     h = NLMSG_NEXT(h, left))
		if (link_read(h, &link) && strlen(link.name) >= IFNAMSIZ)
			abort();
	free(all);
}

static void take(const struct nlmsghdr *message, void *context)
{
	struct link link;

	if (link_read(message, &link))
		table_add(context, link.index);
}

static void refuse(size_t place, int error, const char *text, void *context)
{
	*(size_t *)context += place + (size_t)error + strlen(text);
}

/* What the kernel would say to a request, to several, and to a dump. */
static void try_answers(const char *data, size_t len)
{
	char requests[2 * NLMSG_HDRLEN];
	size_t sum = 0;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends))
		exit(1);
	for (size_t i = 0; i < 2; i++)
		*(struct nlmsghdr *)(requests + i * NLMSG_HDRLEN) = (struct nlmsghdr){
			.nlmsg_len = NLMSG_HDRLEN, .nlmsg_seq = 1 };
	if (len && send(ends[1], data, len, 0) < 0)
		exit(1);
	switch (draw(3)) {
	case 0:
		netlink_batch(ends[0], requests, sizeof(requests), refuse, &sum);
		break;
	case 1: {
		char text[16];

		netlink_request(ends[0], (struct nlmsghdr *)requests, text, sizeof(text));
		break;
	}
	default: {
		struct table links = { .size = sizeof(struct link) };

		netlink_dump(ends[0], (struct nlmsghdr *)requests, take, &links);
		table_empty(&links);
	}
	}
	close(ends[0]);
	close(ends[1]);
}

static const char names[] = "# names\n0\tdefault\n42 edge\n0x2b core # comment\n  7  gold\n";
static const char tree[] = "all: edge core\nedge: dev eth0 dev eth1 # two\ncore: gold 7 8\n";
static const char rules[] =
	"on 42 kind vlan,macvlan join 42\nkind ppp name ppp*?* join edge\non any join same\n";
static const char journal[] =
	"linklab-group journal 1\n4026531840 boot\nmtu 5 eth0 1500 1400 0\nflags 5 eth0 0 1 1\n"
	"mac 5 eth0 020000000001 020000000002\naddress 5 eth0 2 24 0a000001\nend 4\n";

static size_t make_link(char *room)
{
	union {
		struct nlmsghdr head;
		char room[512];
	} m = { .head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
			  .nlmsg_type = RTM_NEWLINK } };
	struct ifinfomsg *link = NLMSG_DATA(&m.head);
	uint32_t number = 42;
	struct nlattr *nest;

	link->ifi_index = 5;
	netlink_put(&m.head, IFLA_IFNAME, "eth0", 5);
	netlink_put(&m.head, IFLA_GROUP, &number, sizeof(number));
	netlink_put(&m.head, IFLA_MTU, &number, sizeof(number));
	netlink_put(&m.head, IFLA_ADDRESS, "\2\0\0\0\0\1", 6);
	nest = netlink_put(&m.head, IFLA_LINKINFO, NULL, 0);
	netlink_put(&m.head, IFLA_INFO_KIND, "macvlan", 8);
	netlink_nest_end(&m.head, nest);
	memcpy(room, &m, m.head.nlmsg_len);
	return m.head.nlmsg_len;
}

static size_t make_answer(char *room)
{
	union {
		struct nlmsghdr head;
		char room[512];
	} m = { .head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct nlmsgerr)),
			  .nlmsg_type = NLMSG_ERROR,
			  .nlmsg_seq = 1,
			  .nlmsg_flags = NLM_F_CAPPED | NLM_F_ACK_TLVS } };
	struct nlmsgerr *error = NLMSG_DATA(&m.head);

	error->error = -EINVAL;
	error->msg.nlmsg_len = NLMSG_HDRLEN;
	netlink_put(&m.head, NLMSGERR_ATTR_MSG, "no such thing", 14);
	memcpy(room, &m, m.head.nlmsg_len);
	return m.head.nlmsg_len;
}

static struct kind {
	const char *name;
	void (*attempt)(const char *data, size_t len);
	const char *seed;
	uint64_t count;
} kinds[] = {
	{ "names", try_names, names, 0 },       { "tree", try_tree, tree, 0 },
	{ "rules", try_rules, rules, 0 },       { "journal", try_journal, journal, 0 },
	{ "netlink", try_netlink, NULL, 0 },    { "answers", try_answers, NULL, 0 },
};

static size_t seeded(const struct kind *kind, char *data)
{
	size_t len = 0;

	if (kind->seed) {
		strcpy(data, kind->seed);
		return strlen(kind->seed);
	}
	for (uint64_t i = 1 + draw(3); i > 0; i--)
		len += (kind->attempt == try_answers && draw(2) ? make_answer : make_link)(data + len);
	return len;
}

static size_t change(char *data, size_t len)
{
	static const char words[] = " :\n\t#*?,-0x";
	size_t at, span;

	for (uint64_t i = draw(8); i > 0; i--) {
		at = len ? draw(len) : 0;
		span = len ? 1 + draw(len - at < 64 ? len - at : 64) : 0;
		switch (draw(6)) {
		case 0:
			if (len)
				data[at] = (char)draw(256);
			break;
		case 1:
			if (len)
				data[at] = words[draw(sizeof(words))];
			break;
		case 2: /* what is behind moves up */
			memmove(data + at, data + at + span, len - at - span);
			len -= span;
			break;
		case 3: /* a piece comes twice */
			if (len + span > MOST)
				break;
			memmove(data + at + span, data + at, len - at);
			len += span;
			break;
		case 4: /* a length, of netlink */
			if (len >= 4)
				*(uint16_t *)(data + at / 4 * 4) = (uint16_t)draw(draw(2) ? 16 : 65536);
			break;
		default:
			len = draw(len + 1);
		}
	}
	return len;
}

static void keep(const char *data, size_t len)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("fuzz-input", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (pwrite(fd, data, len, 0) < 0 || ftruncate(fd, (off_t)len))
		exit(1);
}

static void try_file(const char *path, const char *kind)
{
	size_t len = 0;
	char *data = file_read(path, &len);

	for (size_t i = 0; data && i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strcmp(kinds[i].name, kind))
			kinds[i].attempt(data, len);
	free(data);
}

int main(int argc, char **argv)
{
	static _Alignas(8) char data[MOST + 64];
	uint64_t end;

	options.names = "/nonexistent";
	names_load();
	stderr = fopen("/dev/null", "we"); /* what the parsers say; a sanitizer writes to 2 itself */
	if (argc != 3)
		return 2;
	state = strtoull(argv[2], NULL, 10) * 2 + 1;
	end = now_ms() + strtoull(argv[1], NULL, 10) * 1000;
	if (strtoull(argv[1], NULL, 10) == 0) {
		try_file(argv[1], argv[2]);
		return 0;
	}
	while (now_ms() < end)
		for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
			for (int n = 0; n < EACH; n++, kinds[i].count++) {
				size_t len = change(data, seeded(&kinds[i], data));

				keep(data, len);
				kinds[i].attempt(data, len);
			}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		printf("%s %llu\n", kinds[i].name, (unsigned long long)kinds[i].count);
	return 0;
}
