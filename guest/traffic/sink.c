/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whoever receives: takes so many flows, checks what they carry, and remembers
 * how much of each came in which 10 ms, since what many flows got can only be
 * compared while all of them were sending.
 */
#define _GNU_SOURCE /* accept4 */
#include "traffic.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define BIN (10 * MILLISECOND)
#define TENTH 10 /* bins */
#define WINDOW 100 /* bins: a second, over which fairness is looked at */
#define MOST_BINS_SHOWN 13000 /* two minutes and the rest of what was under way */
#define LISTENER UINT32_MAX /* data.u32 of its events; a flow's is its index */
#define DATAGRAMS 64		  /* read at a time, or the clock would be asked for each */

static struct flow {
	uint64_t first, last, bytes, inner, port, lately;
	uint32_t *bins; /* bytes; nothing before the first byte */
	union address from;
	int fd;
	bool ended, wrong;
} *flows;

static size_t expected, came, ended, resets, bins;
static uint64_t first, last, gap; /* of all flows */
static bool checked, multipath;
static int epoll, listener;
static unsigned char chunk[CHUNK];

static struct flow *begin(int fd, const union address *from)
{
	struct flow *flow = &flows[came++];

	flow->fd = fd;
	flow->from = *from;
	flow->port = ntohs(from->six.sin6_port); /* at the same place in both */
	return flow;
}

static void take(struct flow *flow, uint64_t offset, const unsigned char *bytes, size_t length,
		 uint64_t now)
{
	if (!first)
		first = last = now;
	if (!flow->bins) {
		flow->first = now;
		flow->bins = calloc(bins, sizeof(*flow->bins));
		if (!flow->bins)
			fault("too many seconds to remember");
	}
	if (now - last > gap)
		gap = now - last;
	last = flow->last = now;
	flow->bytes += length;
	flow->bins[(now - first) / BIN] += (uint32_t)length;
	if (checked && !flow->wrong)
		flow->wrong = !pattern_is(bytes, offset, length);
}

static void end(struct flow *flow)
{
	if (!flow->ended)
		ended++;
	flow->ended = true;
}

static void take_connection(void)
{
	union address from;
	socklen_t length = sizeof(from);
	int fd = accept4(listener, &from.any, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED)
			fault("accept");
		return;
	}
	watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, (uint32_t)came);
	begin(fd, &from);
	/* Whoever knocks now is refused, but another path of a connection comes by this way, too. */
	if (came == expected && multipath)
		watch(epoll, EPOLL_CTL_DEL, listener, 0, 0);
	else if (came == expected)
		close(listener);
}

static void read_stream(struct flow *flow, uint64_t now)
{
	ssize_t got = read(flow->fd, chunk, sizeof(chunk));

	if (got > 0) {
		take(flow, flow->bytes, chunk, (size_t)got, now);
	} else if (!got || errno != EAGAIN) {
		if (got < 0)
			resets++;
		end(flow);
		close(flow->fd);
	}
}

/* The flow that a datagram is of; NULL where it is one too many. */
static struct flow *flow_from(const union address *from)
{
	static size_t latest;

	for (size_t tried = 0; tried < came; tried++, latest = (latest + 1) % came)
		if (!memcmp(&flows[latest].from, from, sizeof(*from)))
			return &flows[latest];
	return came < expected ? begin(-1, from) : NULL;
}

static void read_datagrams(uint64_t now)
{
	union address from;
	uint64_t offset;

	for (int i = 0; i < DATAGRAMS; i++) {
		socklen_t length = sizeof(from);
		struct flow *flow;
		ssize_t got;

		memset(&from, 0, sizeof(from));
		got = recvfrom(listener, chunk, sizeof(chunk), 0, &from.any, &length);
		if (got < 0)
			return;
		flow = flow_from(&from);
		if (!flow)
			continue;
		if (got < (ssize_t)sizeof(offset)) {
			end(flow);
			continue;
		}
		memcpy(&offset, chunk, sizeof(offset));
		offset = be64toh(offset);
		memcpy(chunk, pattern_at(offset), sizeof(offset));
		take(flow, offset, chunk, (size_t)got, now);
	}
}

/* The window in which every flow was sending, in whole bins of the first byte's. */
static void find_inner(size_t *from, size_t *to)
{
	uint64_t begun = first, until = last;

	for (size_t i = 0; i < came; i++) {
		if (flows[i].first > begun)
			begun = flows[i].first;
		if (flows[i].last < until)
			until = flows[i].last; /* 0 of a flow that sent nothing */
	}
	*from = (size_t)((begun - first + BIN - 1) / BIN);
	*to = until > first ? (size_t)((until - first) / BIN) : 0;
	if (*to < *from)
		*to = *from;
}

/*
 * How fair the last second was at each tenth of one: Jain's index of what all flows
 * brought in it, in millionths.
 */
static void tell_fairness(size_t most)
{
	static uint64_t fair[MOST_BINS_SHOWN / TENTH];
	size_t tenths = most / TENTH;

	for (size_t tenth = 0; tenth < tenths; tenth++) {
		double sum = 0, squares = 0;

		for (size_t i = 0; i < came; i++) {
			struct flow *flow = &flows[i];

			for (size_t bin = tenth * TENTH; flow->bins && bin < (tenth + 1) * TENTH; bin++) {
				flow->lately += flow->bins[bin];
				if (bin >= WINDOW)
					flow->lately -= flow->bins[bin - WINDOW];
			}
			sum += (double)flow->lately;
			squares += (double)flow->lately * (double)flow->lately;
		}
		fair[tenth] = squares > 0 ? (uint64_t)(1e6 * sum * sum / squares / (double)came) : 0;
	}
	say_each("fair", fair, sizeof(*fair), tenths);
}

static void tell(void)
{
	static uint64_t shown[MOST_BINS_SHOWN];
	size_t from, to, most = 0, wrong = 0;

	find_inner(&from, &to);
	if (first)
		most = (size_t)((last - first) / BIN) + 1;
	if (most > MOST_BINS_SHOWN)
		most = MOST_BINS_SHOWN;
	for (size_t i = 0; i < came; i++) {
		wrong += flows[i].wrong;
		if (!flows[i].bins)
			continue;
		for (size_t bin = from; bin < to; bin++)
			flows[i].inner += flows[i].bins[bin];
		for (size_t bin = 0; bin < most; bin++)
			shown[bin] += flows[i].bins[bin];
	}
	say("flows", came);
	say_each("ports", &flows->port, sizeof(*flows), came);
	say_each("first", &flows->first, sizeof(*flows), came);
	say_each("last", &flows->last, sizeof(*flows), came);
	say_each("bytes", &flows->bytes, sizeof(*flows), came);
	say("start", first + from * BIN);
	say("end", first + to * BIN);
	say_each("inner", &flows->inner, sizeof(*flows), came);
	say_each("bins", shown, sizeof(*shown), most);
	tell_fairness(most);
	say("gap", gap);
	say("reset", resets);
	if (checked)
		say("wrong", wrong);
}

/*
 * PROTOCOL PORT FLOWS SECONDS [unchecked]: takes what FLOWS connections, or
 * sources of datagrams, send, until all have ended or SECONDS after the first
 * byte.  Says of each flow, in the order in which they came: the sender's port,
 * the instants of the first and the last byte, all bytes, and those within the
 * window that all flows share; and of all flows the bytes of each 10 ms, and
 * how fair each last second was at every tenth of one.
 * `unchecked` does not look at the bytes, which takes a fifth of a nanosecond
 * of virtual time for each.
 */
void sink(char **argv)
{
	int kind = protocol(argv[0]);
	uint64_t seconds = number(argv[3], 1, 86400), patience;
	struct epoll_event ready[EVENTS];
	struct timespec pause = { .tv_nsec = MILLISECOND / 5 };
	char text[64];

	expected = (size_t)number(argv[2], 1, MOST_FLOWS);
	checked = !argv[4];
	multipath = kind == PROTOCOL_MPTCP;
	if (argv[4] && strcmp(argv[4], "unchecked")) {
		fprintf(stderr, "traffic: %s: `unchecked` or nothing is expected\n", argv[4]);
		exit(2);
	}
	bins = (size_t)(seconds * SECOND / BIN);
	flows = calloc(expected, sizeof(*flows));
	if (!flows)
		fault("too many flows");
	pattern_make();
	epoll = epoll_create1(EPOLL_CLOEXEC);
	listener = listen_at(kind, argv[1], (int)expected, SOCK_NONBLOCK);
	watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, LISTENER);
	patience = now_ns() + seconds * SECOND + PATIENCE;
	say_listening();
	while (ended < expected) {
		uint64_t now, limit = first ? first + seconds * SECOND : patience;
		size_t count;

		if (came < expected && limit > patience)
			limit = patience;
		count = wait_ready(epoll, ready, limit);
		/* Who wakes for every segment leaves the other end little of the CPU they share. */
		if (kind != IPPROTO_UDP)
			nanosleep(&pause, NULL);
		now = now_ns();
		if (now >= limit)
			break;
		for (size_t i = 0; i < count; i++) {
			if (ready[i].data.u32 != LISTENER)
				read_stream(&flows[ready[i].data.u32], now);
			else if (kind == IPPROTO_UDP)
				read_datagrams(now);
			else
				take_connection();
		}
	}
	errno = ETIMEDOUT;
	snprintf(text, sizeof(text), "%zu of %zu flows came", came, expected);
	if (came < expected)
		fault(text);
	if (!first && ended < expected)
		fault("nobody sends");
	tell();
	say_cpu();
}
