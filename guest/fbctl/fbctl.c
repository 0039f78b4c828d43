/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Configures the blocks of the module lana, shows them, and opens their sockets.
 *
 * What the kernel refuses ends the program with status 1 and the kernel's words,
 * what is called wrongly with 2.
 */
#define _GNU_SOURCE
#include "fbctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_WORDS 32

static const char *const ports[] = { "up", "down", "side" };
static const char *const events[] = { "", "set", "bound", "link-up", "link-down", "gone" };

static int kernel = -1; /* the socket */
uint16_t family;
unsigned long requests;
static uint32_t events_group;

union message request;
char refusal[256];

_Noreturn void fault(const char *what)
{
	fprintf(stderr, "fbctl: %s: %s\n", what, strerror(errno));
	exit(1);
}

_Noreturn void misused(const char *why)
{
	fprintf(stderr, "fbctl: %s\n", why);
	exit(2);
}

void begin(uint16_t type, uint8_t command, uint16_t flags)
{
	struct genlmsghdr *kind = NLMSG_DATA(&request.head);

	memset(&request, 0, NLMSG_LENGTH(GENL_HDRLEN));
	request.head.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	request.head.nlmsg_type = type;
	request.head.nlmsg_flags = NLM_F_REQUEST | flags;
	kind->cmd = command;
	kind->version = LANA_VERSION;
}

void add(uint16_t type, const void *content, size_t length)
{
	struct nlattr *it = (struct nlattr *)(request.bytes + NLMSG_ALIGN(request.head.nlmsg_len));

	if (NLMSG_ALIGN(request.head.nlmsg_len) + NLA_HDRLEN + length > ROOM)
		misused("that is too long");
	it->nla_type = type;
	it->nla_len = (uint16_t)(NLA_HDRLEN + length);
	memcpy((char *)it + NLA_HDRLEN, content, length);
	request.head.nlmsg_len = NLMSG_ALIGN(request.head.nlmsg_len) + NLA_ALIGN(it->nla_len);
}

void add_text(uint16_t type, const char *text)
{
	add(type, text, strlen(text) + 1);
}

void *content(const struct nlattr *it)
{
	return (char *)it + NLA_HDRLEN;
}

uint64_t whole(const struct nlattr *it)
{
	uint64_t value = 0;

	if (it)
		memcpy(&value, content(it), (size_t)(it->nla_len - NLA_HDRLEN));
	return value;
}

/* Goes through attributes: the next one, NULL behind the last one. */
struct nlattr *next_attribute(char **at, const char *end)
{
	struct nlattr *it = (struct nlattr *)*at;

	if (end - *at < NLA_HDRLEN || it->nla_len < NLA_HDRLEN)
		return NULL;
	*at += NLA_ALIGN(it->nla_len);
	return it;
}

static void attributes(const struct nlmsghdr *head, struct nlattr *found[LANA_A_COUNT])
{
	char *at = (char *)NLMSG_DATA(head) + GENL_HDRLEN;
	struct nlattr *it;

	memset(found, 0, LANA_A_COUNT * sizeof(*found));
	while ((it = next_attribute(&at, (const char *)head + head->nlmsg_len)))
		if ((it->nla_type & NLA_TYPE_MASK) < LANA_A_COUNT)
			found[it->nla_type & NLA_TYPE_MASK] = it;
}

/* The kernel's own words for a refusal, if it has any. */
static const char *words_of(const struct nlmsghdr *head)
{
	const struct nlmsgerr *error = NLMSG_DATA(head);
	char *at = (char *)NLMSG_DATA(head) + sizeof(*error);
	struct nlattr *it;

	if (!(head->nlmsg_flags & NLM_F_ACK_TLVS))
		return NULL;
	while ((it = next_attribute(&at, (const char *)head + head->nlmsg_len)))
		if (it->nla_type == NLMSGERR_ATTR_MSG)
			return content(it);
	return NULL;
}

/* Sends the request and hands each reply on; -1 with errno, and `refusal`, where it is refused. */
static int asked(void (*take)(const struct nlmsghdr *))
{
	static union message reply;
	static uint32_t number;

	*refusal = '\0';
	requests++;
	request.head.nlmsg_seq = ++number;
	if (send(kernel, &request, request.head.nlmsg_len, 0) < 0)
		return -1;
	for (;;) {
		ssize_t got = recv(kernel, &reply, sizeof(reply), 0);
		struct nlmsghdr *head = &reply.head;

		if (got < 0)
			return -1;
		for (int left = (int)got; NLMSG_OK(head, left); head = NLMSG_NEXT(head, left)) {
			if (head->nlmsg_type == NLMSG_DONE)
				return 0;
			if (head->nlmsg_type == NLMSG_ERROR) {
				const struct nlmsgerr *error = NLMSG_DATA(head);
				const char *words = words_of(head);

				if (!error->error)
					return 0;
				if (words)
					snprintf(refusal, sizeof(refusal), "%s", words);
				errno = -error->error;
				return -1;
			}
			if (take)
				take(head);
		}
	}
}

/* Ends the program where the kernel refused what it was asked last. */
static void must(int error, const char *what)
{
	if (!error)
		return;
	if (*refusal)
		fprintf(stderr, "fbctl: %s\n", refusal);
	fault(what);
}

/* The same, and ends the program where it is refused. */
static void ask(const char *what, void (*take)(const struct nlmsghdr *))
{
	must(asked(take), what);
}

/* What the controller says of the family: its number, and that of its group. */
static void learn(const struct nlmsghdr *head)
{
	char *at = (char *)NLMSG_DATA(head) + GENL_HDRLEN;
	struct nlattr *it;

	while ((it = next_attribute(&at, (const char *)head + head->nlmsg_len))) {
		char *group = content(it);
		char *in;

		if (it->nla_type == CTRL_ATTR_FAMILY_ID)
			family = (uint16_t)whole(it);
		if ((it->nla_type & NLA_TYPE_MASK) != CTRL_ATTR_MCAST_GROUPS)
			continue;
		/* There is one group, in a list of one. */
		in = group + NLA_HDRLEN;
		while ((it = next_attribute(&in, group + ((struct nlattr *)group)->nla_len)))
			if (it->nla_type == CTRL_ATTR_MCAST_GRP_ID)
				events_group = (uint32_t)whole(it);
	}
}

static void connect_kernel(void)
{
	int one = 1;

	kernel = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	if (kernel < 0)
		fault("no socket of generic netlink");
	setsockopt(kernel, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one));
	setsockopt(kernel, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
	begin(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, NLM_F_ACK);
	add_text(CTRL_ATTR_FAMILY_NAME, LANA_FAMILY);
	ask("the module lana is not loaded", learn);
}

/* Blocks as they are listed, so that ports can be told by name. */
static struct {
	uint32_t id;
	char name[LANA_NAME_MAX];
} *known;
static size_t count;

static void remember(const struct nlmsghdr *head)
{
	struct nlattr *found[LANA_A_COUNT];

	attributes(head, found);
	known = realloc(known, (count + 1) * sizeof(*known));
	if (!known || !found[LANA_A_NAME])
		fault("no memory");
	known[count].id = (uint32_t)whole(found[LANA_A_ID]);
	snprintf(known[count++].name, sizeof(known->name), "%s",
		 (char *)content(found[LANA_A_NAME]));
}

static void list_blocks(void (*take)(const struct nlmsghdr *))
{
	begin(family, LANA_CMD_GET, NLM_F_DUMP);
	ask("no list of blocks", take);
}

static void show_port(const char *port, const struct nlattr *id)
{
	for (size_t i = 0; id && i < count; i++)
		if (known[i].id == whole(id))
			printf(" %s=%s", port, known[i].name);
}

static void show(const struct nlmsghdr *head)
{
	struct nlattr *found[LANA_A_COUNT], *it;
	char *at = (char *)NLMSG_DATA(head) + GENL_HDRLEN;

	attributes(head, found);
	if (!found[LANA_A_NAME] || !found[LANA_A_TYPE])
		return;
	printf("%s type=%s id=%" PRIu64, (char *)content(found[LANA_A_NAME]),
	       (char *)content(found[LANA_A_TYPE]), whole(found[LANA_A_ID]));
	show_port("up", found[LANA_A_UP]);
	show_port("down", found[LANA_A_DOWN]);
	show_port("side", found[LANA_A_SIDE]);
	printf(" packets=%" PRIu64 " bytes=%" PRIu64 " dropped=%" PRIu64 " heard=%" PRIu64,
	       whole(found[LANA_A_PACKETS]), whole(found[LANA_A_BYTES]),
	       whole(found[LANA_A_DROPPED]), whole(found[LANA_A_HEARD]));
	while ((it = next_attribute(&at, (const char *)head + head->nlmsg_len))) {
		char *in = content(it), *end = (char *)it + it->nla_len;
		struct nlattr *key, *value;

		if ((it->nla_type & NLA_TYPE_MASK) != LANA_A_STATE)
			continue;
		key = next_attribute(&in, end);
		value = next_attribute(&in, end);
		if (key && value)
			printf(" %s=%s", (char *)content(key), (char *)content(value));
	}
	putchar('\n');
}

static uint32_t id_of(const char *name)
{
	count = 0;
	list_blocks(remember);
	for (size_t i = 0; i < count; i++)
		if (!strcmp(known[i].name, name))
			return known[i].id;
	errno = ENODEV;
	fault(name);
}

/* Classic BPF as `tcpdump -ddd` has it, its lines apart by commas: "COUNT,CODE JT JF K,...". */
static void add_classic(const char *text)
{
	struct sock_filter code[BPF_MAXINSNS];
	unsigned long most = strtoul(text, NULL, 10), n = 0;

	for (const char *at = strchr(text, ','); at && n < BPF_MAXINSNS; at = strchr(at + 1, ',')) {
		struct sock_filter *it = &code[n];

		if (sscanf(at, ",%hu %hhu %hhu %u", &it->code, &it->jt, &it->jf, &it->k) != 4)
			break;
		n++;
	}
	if (!n || n != most)
		misused("a program is COUNT,CODE JT JF K,... as tcpdump -ddd has it, or a pinned file");
	add(LANA_A_DATA, code, n * sizeof(*code));
}

static void add_pinned(const char *path)
{
	union bpf_attr attr = { .pathname = (uintptr_t)path };
	char number[16];
	int fd = (int)syscall(SYS_bpf, BPF_OBJ_GET, &attr, sizeof(attr));

	if (fd < 0)
		fault(path);
	snprintf(number, sizeof(number), "%d", fd);
	add_text(LANA_A_VALUE, number);
}

int set_one(const char *name, char *setting)
{
	char *value = strchr(setting, '=');

	if (!value)
		misused("a setting is KEY=VALUE");
	*value++ = '\0';
	begin(family, LANA_CMD_SET, NLM_F_ACK);
	add_text(LANA_A_NAME, name);
	add_text(LANA_A_KEY, setting);
	if (strcmp(setting, "program"))
		add_text(LANA_A_VALUE, value);
	else if (*value == '/')
		add_pinned(value);
	else
		add_classic(value);
	return asked(NULL);
}

int add_block(const char *type, const char *name)
{
	begin(family, LANA_CMD_ADD, NLM_F_ACK);
	add_text(LANA_A_TYPE, type);
	add_text(LANA_A_NAME, name);
	return asked(NULL);
}

int remove_block(const char *name)
{
	begin(family, LANA_CMD_RM, NLM_F_ACK);
	add_text(LANA_A_NAME, name);
	return asked(NULL);
}

int about_two(uint8_t command, uint16_t flags, const char *name, const char *other, int port)
{
	uint8_t number = (uint8_t)port;

	begin(family, command, NLM_F_ACK | flags);
	add_text(LANA_A_NAME, name);
	add_text(LANA_A_OTHER, other);
	if (port)
		add(LANA_A_PORT, &number, sizeof(number));
	return asked(NULL);
}

static void set(const char *name, char **settings)
{
	for (; *settings; settings++)
		must(set_one(name, *settings), *settings);
}

static void do_add(char **argv)
{
	must(add_block(argv[0], argv[1]), argv[1]);
	set(argv[1], argv + 2);
}

static void do_rm(char **argv)
{
	must(remove_block(argv[0]), argv[0]);
}

static void do_set(char **argv)
{
	set(argv[0], argv + 1);
}

static void two(uint8_t command, uint16_t flags, char **argv)
{
	if (argv[2] && strcmp(argv[2], ports[LANA_SIDE]))
		misused("a third word can only be side");
	must(about_two(command, flags, argv[0], argv[1], argv[2] ? LANA_SIDE : LANA_UP), argv[0]);
}

static void do_bind(char **argv)
{
	two(LANA_CMD_BIND, 0, argv);
}

static void do_rebind(char **argv)
{
	two(LANA_CMD_BIND, NLM_F_REPLACE, argv);
}

static void do_unbind(char **argv)
{
	two(LANA_CMD_UNBIND, 0, argv);
}

static void do_replace(char **argv)
{
	two(LANA_CMD_REPLACE, 0, argv);
}

static void do_subscribe(char **argv)
{
	two(LANA_CMD_SUBSCRIBE, 0, argv);
}

static void do_unsubscribe(char **argv)
{
	two(LANA_CMD_UNSUBSCRIBE, 0, argv);
}

static void do_list(char **argv)
{
	(void)argv;
	count = 0;
	list_blocks(remember);
	list_blocks(show);
}

/* Sends requests that another program encoded, all but the family's number. */
static void do_send(char **argv)
{
	static char all[ROOM + 1]; /* one byte more shows that a file is too long */
	FILE *file = fopen(argv[0], "re");
	struct nlmsghdr *head = (struct nlmsghdr *)all;
	size_t got;
	int left;

	if (!file)
		fault(argv[0]);
	got = fread(all, 1, sizeof(all), file);
	if (ferror(file))
		fault(argv[0]);
	fclose(file);
	if (got > ROOM)
		misused("a file of requests has at most 65536 bytes");
	for (left = (int)got; NLMSG_OK(head, left); head = NLMSG_NEXT(head, left)) {
		memcpy(&request, head, head->nlmsg_len);
		request.head.nlmsg_type = family;
		request.head.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
		ask("a request", NULL);
	}
	if (left > 0)
		misused("the file ends within a request");
}

/* Prints so many events. */
static void do_events(char **argv)
{
	unsigned long left = strtoul(argv[0], NULL, 10);
	char bytes[8192];

	if (setsockopt(kernel, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &events_group,
		       sizeof(events_group)))
		fault("no events");
	puts("listening");
	fflush(stdout);
	while (left--) {
		struct nlattr *found[LANA_A_COUNT];
		uint64_t event;

		if (recv(kernel, bytes, sizeof(bytes), 0) < 0)
			fault("no events");
		attributes((struct nlmsghdr *)bytes, found);
		event = whole(found[LANA_A_EVENT]);
		if (found[LANA_A_NAME] && event < sizeof(events) / sizeof(*events))
			printf("%s %s\n", (char *)content(found[LANA_A_NAME]), events[event]);
	}
}

int open_socket(const char *name)
{
	struct sockaddr_lana address = { .slana_family = LANA_AF, .slana_block = id_of(name) };
	int fd = socket(LANA_AF, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		fault(name);
	return fd;
}

static void do_say(char **argv)
{
	int fd = open_socket(argv[0]);

	if (send(fd, argv[1], strlen(argv[1]), 0) < 0)
		fault("cannot send");
	close(fd);
}

static void do_hear(char **argv)
{
	unsigned long left = strtoul(argv[1], NULL, 10);
	int fd = open_socket(argv[0]);
	char bytes[ROOM];

	puts("listening");
	fflush(stdout);
	while (left--) {
		ssize_t got = recv(fd, bytes, sizeof(bytes), 0);

		if (got < 0)
			fault("cannot receive");
		/* Ethernet pads short frames: what is text ends before. */
		printf("heard %.*s\n", (int)got, bytes);
	}
	close(fd);
}

static void do_batch(char **argv);

static const struct {
	const char *name;
	int least, most;
	void (*run)(char **argv);
	const char *usage;
} commands[] = {
	{ "add", 2, MOST_WORDS, do_add, "TYPE NAME [KEY=VALUE]..." },
	{ "rm", 1, 1, do_rm, "NAME" },
	{ "set", 2, MOST_WORDS, do_set, "NAME KEY=VALUE..." },
	{ "bind", 2, 3, do_bind, "LOWER UPPER [side]" },
	{ "rebind", 2, 3, do_rebind, "LOWER UPPER [side]" },
	{ "unbind", 2, 2, do_unbind, "LOWER UPPER" },
	{ "replace", 2, 2, do_replace, "OLD NEW" },
	{ "subscribe", 2, 2, do_subscribe, "WHO-HEARS WHO-TELLS" },
	{ "unsubscribe", 2, 2, do_unsubscribe, "WHO-HEARS WHO-TELLS" },
	{ "list", 0, 0, do_list, "" },
	{ "events", 1, 1, do_events, "COUNT" },
	{ "say", 2, 2, do_say, "PFLANA TEXT" },
	{ "hear", 2, 2, do_hear, "PFLANA COUNT" },
	{ "propose", 4, MOST_WORDS, propose, "CONTROL LOWER UPPER CHAIN..." },
	{ "accept", 4, MOST_WORDS, accept_one, "CONTROL LOWER UPPER CHAIN..." },
	{ "talk", 3, 3, talk, "PFLANA COUNT BYTES" },
	{ "answer", 2, 2, answer, "PFLANA COUNT" },
	{ "send", 1, 1, do_send, "FILE" },
	{ "batch", 1, 1, do_batch, "FILE" },
};

static bool run(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(argv[0], commands[i].name) && argc > commands[i].least &&
		    argc - 1 <= commands[i].most) {
			commands[i].run(argv + 1);
			return true;
		}
	return false;
}

/* Commands in a file, one a line. */
static void do_batch(char **argv)
{
	FILE *file = fopen(argv[0], "r");
	char line[4096];

	if (!file)
		fault(argv[0]);
	while (fgets(line, sizeof(line), file)) {
		char *words[MOST_WORDS + 2] = { NULL }, *rest;
		int n = 0;

		for (char *word = strtok_r(line, " \n", &rest); word && n <= MOST_WORDS;
		     word = strtok_r(NULL, " \n", &rest))
			words[n++] = word;
		if (n && !run(n, words))
			misused(words[0]);
	}
	fclose(file);
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		connect_kernel();
		if (run(argc - 1, argv + 1))
			return 0;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		fprintf(stderr, "fbctl %s %s\n", commands[i].name, commands[i].usage);
	return 2;
}
