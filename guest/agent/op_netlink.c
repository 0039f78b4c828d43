/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Netlink: requests that the host encoded, sent and timed here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "measure.h"
#include "../netlink/netlink.h"
#include "ops.h"

/* A request as the host sent it, in memory that is aligned and ours to patch. */
struct request {
	struct nlmsghdr *header;
	size_t len;
};

static bool take_request(struct reader *in, struct request *r)
{
	size_t len;
	const uint8_t *raw = take_bytes(in, &len);

	/* Without an acknowledgement to wait for the agent would wait for ever. */
	r->header = netlink_copy(raw, len, NLM_F_REQUEST | NLM_F_ACK);
	r->len = len;
	return r->header != NULL;
}

static enum outcome send_timed(int fd, struct request *r, struct failure *why)
{
	char text[256];
	int error = netlink_request(fd, r->header, text, sizeof(text));

	if (error == 0)
		return OP_OK;
	if (error < 0)
		return fail(why, OP_SYSTEM, errno, "netlink socket");
	return fail(why, OP_REFUSED, error, text[0] ? text : "the kernel refused the request");
}

/*
 * count, requests...: sends each and waits for its acknowledgement, on one
 * socket, up to the first that is refused.  Returns the measure.
 */
enum outcome op_netlink(struct reader *in, struct buffer *out, struct failure *why)
{
	uint64_t count = take_u64(in);
	struct request *requests;
	struct measure m;
	enum outcome outcome = OP_OK;
	uint64_t have = 0;
	int fd;

	if (in->bad || count < 1 || count > 65536)
		return fail(why, OP_BAD_REQUEST, 0, "netlink: 1 to 65536 requests expected");
	requests = calloc(count, sizeof(*requests));
	if (!requests)
		_Exit(12);
	for (; have < count; have++)
		if (!take_request(in, &requests[have])) {
			have++;
			outcome = fail(why, OP_BAD_REQUEST, 0,
				       "netlink: a request is cut short or wants no acknowledgement");
			goto out;
		}
	measure_begin(&m);
	fd = netlink_open();
	if (fd < 0) {
		outcome = fail(why, OP_SYSTEM, errno, "netlink socket");
		goto out;
	}
	for (uint64_t i = 0; i < count && outcome == OP_OK; i++) {
		requests[i].header->nlmsg_seq = (uint32_t)i + 1;
		outcome = send_timed(fd, &requests[i], why);
		why->index = i;
		m.messages++;
	}
	close(fd);
	measure_end(&m);
	if (outcome == OP_OK)
		put_measure(out, &m);
out:
	for (uint64_t i = 0; i < have; i++)
		free(requests[i].header);
	free(requests);
	return outcome;
}

/*
 * One request sent for each number of a range, the number written over the
 * template: as 32 bits in the machine's order (width 0) or in the network's
 * (NETWORK_ORDER), for addresses, or as that many decimal digits, for names.
 */
#define NETWORK_ORDER 255

static void patch(struct request *r, size_t offset, size_t width, uint64_t number)
{
	char *at = (char *)r->header + offset;
	uint32_t raw = (uint32_t)number;

	if (width == NETWORK_ORDER)
		raw = htonl(raw);
	if (!width || width == NETWORK_ORDER) {
		memcpy(at, &raw, sizeof(raw));
		return;
	}
	for (size_t i = width; i-- > 0; number /= 10)
		at[i] = (char)('0' + number % 10);
}

/* first, count, offset, width, request: as op_netlink(), patched each time. */
enum outcome op_netlink_each(struct reader *in, struct buffer *out, struct failure *why)
{
	uint64_t first = take_u64(in), count = take_u64(in);
	size_t offset = take_u64(in), width = take_u64(in);
	enum outcome outcome = OP_OK;
	struct request r = { 0 };
	struct measure m;
	int fd;

	/* The header stays as it is: its length is what is sent. */
	if (!take_request(in, &r) || offset < sizeof(*r.header) || offset > r.len ||
	    (width && width != NETWORK_ORDER ? width : 4) > r.len - offset) {
		free(r.header);
		return fail(why, OP_BAD_REQUEST, 0,
			    "netlink-each: first, count, offset, width, request expected");
	}
	measure_begin(&m);
	fd = netlink_open();
	if (fd < 0) {
		free(r.header);
		return fail(why, OP_SYSTEM, errno, "netlink socket");
	}
	for (uint64_t i = 0; i < count && outcome == OP_OK; i++) {
		patch(&r, offset, width, first + i);
		r.header->nlmsg_seq = (uint32_t)i + 1;
		outcome = send_timed(fd, &r, why);
		why->index = i;
		m.messages++;
	}
	close(fd);
	measure_end(&m);
	free(r.header);
	if (outcome == OP_OK)
		put_measure(out, &m);
	return outcome;
}
