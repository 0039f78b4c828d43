/* SPDX-License-Identifier: GPL-2.0-only */
#include "netlink.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVE_ROOM 65536 /* the kernel makes dump messages of at most 32 KB */
/* A send, and its messages: were all refused, the answers would still fit a socket's buffer. */
#define BATCH_ROOM 32768
#define BATCH_MOST 96

static _Alignas(struct nlmsghdr) char received[RECEIVE_ROOM];

int netlink_open(void)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int one = 1;

	if (fd < 0)
		return -1;
	/* Old kernels lack these two; their absence costs detail, not truth. */
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one));
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
	if (connect(fd, (struct sockaddr *)&kernel, sizeof(kernel))) {
		close(fd);
		return -1;
	}
	return fd;
}

struct nlmsghdr *netlink_copy(const void *raw, size_t len, uint16_t flags)
{
	struct nlmsghdr *copy;

	if (!raw || len < sizeof(*copy))
		return NULL;
	copy = malloc(len);
	if (!copy)
		_Exit(12);
	memcpy(copy, raw, len);
	if (copy->nlmsg_len == len && (copy->nlmsg_flags & flags) == flags)
		return copy;
	free(copy);
	return NULL;
}

static void ext_ack_text(const struct nlmsghdr *h, char *text, size_t capacity)
{
	const struct nlmsgerr *e = NLMSG_DATA(h);
	size_t at = NLMSG_HDRLEN + sizeof(*e);

	text[0] = '\0';
	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS) || h->nlmsg_len < at)
		return;
	if (!(h->nlmsg_flags & NLM_F_CAPPED))
		at += NLMSG_ALIGN(e->msg.nlmsg_len) - NLMSG_HDRLEN;
	while (at + sizeof(struct nlattr) <= h->nlmsg_len) {
		const struct nlattr *a = (const struct nlattr *)((const char *)h + at);

		if (a->nla_len < sizeof(*a) || at + a->nla_len > h->nlmsg_len)
			return;
		if ((a->nla_type & NLA_TYPE_MASK) == NLMSGERR_ATTR_MSG) {
			snprintf(text, capacity, "%.*s", (int)(a->nla_len - NLA_HDRLEN),
				 (const char *)a + NLA_HDRLEN);
			return;
		}
		at += NLA_ALIGN(a->nla_len);
	}
}

static ssize_t receive(int fd)
{
	ssize_t got;

	do
		got = recv(fd, received, sizeof(received), 0);
	while (got < 0 && errno == EINTR);
	return got;
}

static bool is_last(const struct nlmsghdr *h)
{
	return h->nlmsg_type == NLMSG_ERROR || h->nlmsg_type == NLMSG_DONE;
}

/* Both kinds of last message begin with minus an errno, or 0: a dump that failed is done, too. */
static int last_error(const struct nlmsghdr *h)
{
	int error = 0;

	if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(error)))
		memcpy(&error, NLMSG_DATA(h), sizeof(error));
	return error < 0 ? -error : 0;
}

int netlink_request(int fd, struct nlmsghdr *request, char *text, size_t capacity)
{
	text[0] = '\0';
	if (send(fd, request, request->nlmsg_len, 0) < 0)
		return -1;
	for (;;) {
		ssize_t got = receive(fd);
		int left = (int)got;

		if (got < 0)
			return -1;
		for (struct nlmsghdr *h = (struct nlmsghdr *)received; NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_seq != request->nlmsg_seq || !is_last(h))
				continue;
			if (last_error(h) && h->nlmsg_type == NLMSG_ERROR)
				ext_ack_text(h, text, capacity);
			return last_error(h);
		}
	}
}

int netlink_dump(int fd, struct nlmsghdr *request, dump_visitor *visit, void *context)
{
	bool torn = false;

	if (send(fd, request, request->nlmsg_len, 0) < 0)
		return -1;
	for (;;) {
		ssize_t got = receive(fd);
		int left = (int)got;

		if (got < 0)
			return -1;
		for (struct nlmsghdr *h = (struct nlmsghdr *)received; NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_seq != request->nlmsg_seq)
				continue;
			/* Read to the end: until then the socket refuses another dump. */
			torn = torn || h->nlmsg_flags & NLM_F_DUMP_INTR;
			if (is_last(h))
				return last_error(h) ? last_error(h) : torn ? EINTR : 0;
			visit(h, context);
		}
	}
}

static void ignore(const struct nlmsghdr *message, void *context)
{
	(void)message;
	(void)context;
}

void discard_link_dump(void)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
	} request = {
		.header = {
			.nlmsg_len = sizeof(request),
			.nlmsg_type = RTM_GETLINK,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
			.nlmsg_seq = 1,
		},
		.link = { .ifi_family = AF_UNSPEC },
	};
	int fd = netlink_open();

	if (fd < 0)
		return;
	netlink_dump(fd, &request.header, ignore, NULL);
	close(fd);
}

struct nlattr *netlink_put(struct nlmsghdr *message, uint16_t type, const void *data, size_t len)
{
	struct nlattr *a = (struct nlattr *)((char *)message + NLMSG_ALIGN(message->nlmsg_len));

	a->nla_type = type;
	a->nla_len = (uint16_t)(NLA_HDRLEN + len);
	if (len)
		memcpy((char *)a + NLA_HDRLEN, data, len);
	message->nlmsg_len = NLMSG_ALIGN(message->nlmsg_len) + NLA_ALIGN(a->nla_len);
	return a;
}

void netlink_nest_end(const struct nlmsghdr *message, struct nlattr *nest)
{
	nest->nla_len = (uint16_t)((const char *)message + message->nlmsg_len - (char *)nest);
}

static void find(const char *at, size_t left, const struct nlattr **found, size_t count)
{
	memset(found, 0, count * sizeof(*found));
	while (left >= NLA_HDRLEN) {
		const struct nlattr *a = (const struct nlattr *)at;
		size_t whole = NLA_ALIGN(a->nla_len);

		if (a->nla_len < NLA_HDRLEN || a->nla_len > left)
			return;
		if ((size_t)(a->nla_type & NLA_TYPE_MASK) < count)
			found[a->nla_type & NLA_TYPE_MASK] = a;
		if (whole > left)
			return;
		at += whole;
		left -= whole;
	}
}

void netlink_attributes(const struct nlmsghdr *message, size_t header,
			const struct nlattr **found, size_t count)
{
	size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(header);
	size_t len = message->nlmsg_len;

	find((const char *)message + at, len > at ? len - at : 0, found, count);
}

void netlink_nested(const struct nlattr *nest, const struct nlattr **found, size_t count)
{
	find(netlink_data(nest), netlink_length(nest), found, count);
}

size_t netlink_length(const struct nlattr *a)
{
	return a ? (size_t)(a->nla_len - NLA_HDRLEN) : 0;
}

const void *netlink_data(const struct nlattr *a)
{
	return a ? (const char *)a + NLA_HDRLEN : NULL;
}

uint32_t netlink_u32(const struct nlattr *a)
{
	uint32_t value = 0;

	if (netlink_length(a) >= sizeof(value))
		memcpy(&value, netlink_data(a), sizeof(value));
	return value;
}

/* Reads answers up to that to the last of `count` messages, of which the first has `seq`. */
static int take_answers(int fd, uint32_t seq, size_t count, size_t before,
			refusal_visitor *refused, void *context)
{
	for (;;) {
		ssize_t got = receive(fd);
		int left = (int)got;

		if (got < 0)
			return -1;
		for (struct nlmsghdr *h = (struct nlmsghdr *)received; NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left)) {
			uint32_t place = h->nlmsg_seq - seq;
			char text[256];

			if (h->nlmsg_type != NLMSG_ERROR || place >= count)
				continue;
			ext_ack_text(h, text, sizeof(text));
			if (last_error(h))
				refused(before + place, last_error(h), text, context);
			if (place + 1 == count)
				return 0;
		}
	}
}

int netlink_batch(int fd, void *messages, size_t len, refusal_visitor *refused, void *context)
{
	char *at = messages, *end = at + len;
	uint32_t seq = 1;

	while (at < end) {
		struct nlmsghdr *last = NULL;
		char *from = at;
		size_t count = 0;

		while (at < end && count < BATCH_MOST &&
		       at + NLMSG_ALIGN(((struct nlmsghdr *)at)->nlmsg_len) - from <= BATCH_ROOM) {
			last = (struct nlmsghdr *)at;
			last->nlmsg_flags |= NLM_F_REQUEST;
			last->nlmsg_seq = seq + (uint32_t)count++;
			at += NLMSG_ALIGN(last->nlmsg_len);
		}
		if (!last) {
			errno = EMSGSIZE;
			return -1;
		}
		last->nlmsg_flags |= NLM_F_ACK;
		if (send(fd, from, (size_t)(at - from), 0) < 0 ||
		    take_answers(fd, seq, count, seq - 1, refused, context))
			return -1;
		seq += (uint32_t)count;
	}
	return 0;
}
