/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Dumps, reduced here: a serial line would take half a minute for what 2,048
 * links say of themselves, of which a check needs a few bytes each.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../netlink/netlink.h"
#include "ops.h"

struct reduction {
	size_t header;       /* bytes of the family's header behind the nlmsghdr */
	size_t index;        /* where in it the 32-bit index stands */
	const uint8_t *kept; /* 16-bit attribute types that are kept */
	size_t kept_len;
	struct buffer messages; /* each aligned, with the length in its own header */
	size_t count;
};

static uint32_t index_of(const struct reduction *r, const uint8_t *message)
{
	uint32_t index;

	memcpy(&index, message + NLMSG_HDRLEN + r->index, sizeof(index));
	return index;
}

static bool is_kept(const struct reduction *r, uint16_t type)
{
	for (size_t i = 0; i + 1 < r->kept_len; i += 2)
		if ((r->kept[i] | r->kept[i + 1] << 8) == type)
			return true;
	return false;
}

static void keep(const struct nlmsghdr *h, void *context)
{
	struct reduction *r = context;
	const char *raw = (const char *)h;
	size_t start = r->messages.len, at = NLMSG_HDRLEN + NLMSG_ALIGN(r->header);
	struct nlmsghdr own = *h;

	if (h->nlmsg_len < at)
		return;
	/* What differs from dump to dump and says nothing of the link. */
	own.nlmsg_seq = 0;
	own.nlmsg_pid = 0;
	own.nlmsg_flags = 0;
	buffer_add(&r->messages, raw, at);
	while (at + NLA_HDRLEN <= h->nlmsg_len) {
		const struct nlattr *a = (const struct nlattr *)(raw + at);

		if (a->nla_len < NLA_HDRLEN || at + a->nla_len > h->nlmsg_len)
			break;
		if (is_kept(r, a->nla_type & NLA_TYPE_MASK)) {
			buffer_add(&r->messages, a, a->nla_len);
			buffer_add(&r->messages, "\0\0\0", NLA_ALIGN(a->nla_len) - a->nla_len);
		}
		at += NLA_ALIGN(a->nla_len);
	}
	own.nlmsg_len = (uint32_t)(r->messages.len - start);
	memcpy(r->messages.data + start, &own, sizeof(own));
	r->count++;
}

/* qsort(3) passes no context, and the position of the index is known only here. */
struct entry {
	uint32_t index;
	const uint8_t *message;
	uint32_t len;
};

/* Where the index is the same (the addresses of one link) the kernel's order stays. */
static int by_index(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->index != y->index)
		return x->index < y->index ? -1 : 1;
	return x->message < y->message ? -1 : x->message > y->message;
}

static bool follows(const struct reduction *r, const struct entry *one, const struct entry *next,
		    uint32_t run)
{
	size_t before = NLMSG_HDRLEN + r->index, after = before + 4;

	return next->index == one->index + run && next->len == one->len &&
	       !memcmp(next->message, one->message, before) &&
	       !memcmp(next->message + after, one->message + after, one->len - after);
}

/* Runs of neighbours that say the same are sent once, with their number. */
static void put_runs(struct buffer *out, const struct reduction *r)
{
	struct entry *entries = calloc(r->count ? r->count : 1, sizeof(*entries));
	size_t at = 0;

	if (!entries)
		_Exit(12);
	for (size_t i = 0; i < r->count; i++) {
		const uint8_t *message = r->messages.data + at;

		memcpy(&entries[i].len, message, sizeof(entries[i].len));
		entries[i].message = message;
		entries[i].index = index_of(r, message);
		at += entries[i].len;
	}
	qsort(entries, r->count, sizeof(*entries), by_index);
	for (size_t i = 0; i < r->count;) {
		uint32_t run = 1;

		while (i + run < r->count && follows(r, &entries[i], &entries[i + run], run))
			run++;
		put_u64(out, run);
		put_bytes(out, entries[i].message, entries[i].len);
		i += run;
	}
	free(entries);
}

/*
 * header, index, kept, request: sends the dump request and returns, in the
 * order of their indexes, pairs of a run's length and its first message.
 */
enum outcome op_dump(struct reader *in, struct buffer *out, struct failure *why)
{
	struct reduction r = { 0 };
	enum outcome outcome = OP_OK;
	const uint8_t *raw;
	size_t len;
	struct nlmsghdr *request;
	int fd, error;

	r.header = take_u64(in);
	r.index = take_u64(in);
	r.kept = take_bytes(in, &r.kept_len);
	raw = take_bytes(in, &len);
	if (!raw || r.header > 256 || r.header < 4 || r.index > r.header - 4)
		return fail(why, OP_BAD_REQUEST, 0, "dump: header, index, kept, request expected");
	request = netlink_copy(raw, len, NLM_F_REQUEST | NLM_F_DUMP);
	if (!request)
		return fail(why, OP_BAD_REQUEST, 0, "dump: the request is cut short or asks for none");
	fd = netlink_open();
	if (fd < 0) {
		outcome = fail(why, OP_SYSTEM, errno, "netlink socket");
		goto out;
	}
	/* A dump that something changed under is worth nothing: once more. */
	for (int attempt = 0; attempt < 5; attempt++) {
		buffer_clear(&r.messages);
		r.count = 0;
		request->nlmsg_seq = (uint32_t)attempt + 1;
		error = netlink_dump(fd, request, keep, &r);
		if (error != EINTR)
			break;
	}
	if (error < 0)
		outcome = fail(why, OP_SYSTEM, errno, "netlink socket");
	else if (error == EINTR)
		outcome = fail(why, OP_SYSTEM, 0, "what is dumped changed under each attempt");
	else if (error > 0)
		outcome = fail(why, OP_REFUSED, error, "the kernel refused the dump");
	else
		put_runs(out, &r);
	close(fd);
out:
	free(request);
	free(r.messages.data);
	return outcome;
}
