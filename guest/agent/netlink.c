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
	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
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
