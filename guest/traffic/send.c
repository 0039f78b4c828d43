/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whoever sends: so many flows that are as fast as they can be, and what the
 * kernel says of them meanwhile.
 */
#define _GNU_SOURCE /* struct tcp_info */
#include "traffic.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_EVERY (10 * MILLISECOND)
#define MOST_SAMPLES 100000
#define SAMPLES_A_POINT 10 /* of the course that one flow takes */
#define BURST 16	   /* writes of a flow at a time, or the clock would be asked for each */
#define LAST_WORDS 3	   /* empty datagrams, of which one should arrive */

static struct flow {
	uint64_t connect_ns, port, sent, began, ended, acked, retransmitted, closed;
	int fd;
	enum { SENDING, DRAINING, CLOSED } state;
} *flows;

static int kind, epoll;
static size_t count, sending, draining, resets;
static uint64_t interval; /* ns between the beginnings of two flows */
static uint64_t bytes; /* for each flow; 0: as many as the time allows */

static uint64_t multipath, subflows; /* connections that speak MPTCP when they end, and their paths */
static uint64_t is_mptcp; /* those of which TCP_IS_MPTCP says so */
static bool knows_is_mptcp = true;

static uint64_t rtt[MOST_SAMPLES];
static size_t samples;

static struct point {
	uint64_t at, cwnd, rtt, pacing, delivery;
} course[MOST_SAMPLES / SAMPLES_A_POINT];

/*
 * The same of several flows with one algorithm, of each quantity the least, the median and
 * the most of all that send.
 */
#define MOST_BANDS 4
enum { CWND, RTT, PACING, QUANTITIES };
enum { LEAST, MEDIAN, MOST, RANKS };
static struct band {
	size_t points;
	uint64_t at[MOST_SAMPLES / SAMPLES_A_POINT];
	uint64_t of[QUANTITIES][RANKS][MOST_SAMPLES / SAMPLES_A_POINT];
} bands[MOST_BANDS];
static size_t turns; /* algorithms that flows have by turns; 0 where none was named */

static struct tcp_info info_of(const struct flow *flow)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);

	if (getsockopt(flow->fd, IPPROTO_TCP, TCP_INFO, &info, &length))
		fault("TCP_INFO");
	return info;
}

/* Of <linux/mptcp.h>, which does not go together with musl's headers. */
#define SOL_OF_MPTCP 284
#define INFO_OF_MPTCP 1	 /* struct mptcp_info: Linux 5.16 */
#define TCP_OF_MPTCP 2	 /* struct tcp_info of each subflow: Linux 5.16 */
#define FALLBACK 1u	 /* MPTCP_INFO_FLAG_FALLBACK */
#define IS_MPTCP 43	 /* TCP_IS_MPTCP: Linux 6.9 */
#define MOST_SUBFLOWS 16

/* What became of a connection that was to be MPTCP; its subflows are gone when it has closed. */
static void look_at_mptcp(struct flow *flow)
{
	struct {
		uint8_t subflows, others[5]; /* beyond the first one */
		uint32_t flags, token;
		uint64_t more[7], bytes_acked; /* the last: Linux 6.5, twice sent counted once */
	} info = { 0 };
	struct {
		uint32_t size_subflow_data, num_subflows, size_kernel, size_user;
		struct tcp_info tcp[MOST_SUBFLOWS];
	} all = { .size_subflow_data = 16, .size_user = sizeof(struct tcp_info) };
	socklen_t length = sizeof(info);
	uint64_t acked = 0;
	int is_it = 0;
	socklen_t size = sizeof(is_it);

	/* A kernel that does not know the question has MPTCP_INFO alone to answer it. */
	if (getsockopt(flow->fd, IPPROTO_TCP, IS_MPTCP, &is_it, &size))
		knows_is_mptcp = false;
	is_mptcp += is_it == 1;
	if (getsockopt(flow->fd, SOL_OF_MPTCP, INFO_OF_MPTCP, &info, &length) ||
	    (info.flags & FALLBACK)) {
		all.tcp[0] = info_of(flow);
		flow->acked = all.tcp->tcpi_bytes_acked;
		flow->retransmitted = all.tcp->tcpi_total_retrans;
		return;
	}
	length = sizeof(all);
	if (getsockopt(flow->fd, SOL_OF_MPTCP, TCP_OF_MPTCP, &all, &length))
		fault("MPTCP_TCPINFO");
	multipath++;
	subflows += all.num_subflows;
	for (size_t i = 0; i < all.num_subflows && i < MOST_SUBFLOWS; i++) {
		acked += all.tcp[i].tcpi_bytes_acked;
		flow->retransmitted += all.tcp[i].tcpi_total_retrans;
	}
	flow->acked = info.bytes_acked ? info.bytes_acked : acked;
}

static void end(struct flow *flow, uint64_t now)
{
	--*(flow->state == SENDING ? &sending : &draining);
	flow->state = CLOSED;
	flow->closed = now;
	watch(epoll, EPOLL_CTL_DEL, flow->fd, 0, 0);
}

static void reset(struct flow *flow, uint64_t now)
{
	resets++;
	if (flow->state == SENDING && kind == IPPROTO_TCP)
		flow->acked = info_of(flow).tcpi_bytes_acked;
	end(flow, now);
}

/* Ends the sending of a flow, and has it wait until the other end has everything. */
static void finish(struct flow *flow, uint64_t now)
{
	if (kind == IPPROTO_UDP) {
		end(flow, now);
		fcntl(flow->fd, F_SETFL, 0); /* so that they wait for room */
		for (int i = 0; i < LAST_WORDS; i++)
			send(flow->fd, "", 0, 0);
		return;
	}
	if (kind == PROTOCOL_MPTCP)
		look_at_mptcp(flow);
	else
		flow->acked = info_of(flow).tcpi_bytes_acked;
	sending--;
	draining++;
	flow->state = DRAINING;
	if (shutdown(flow->fd, SHUT_WR))
		reset(flow, now);
	else
		watch(epoll, EPOLL_CTL_MOD, flow->fd, EPOLLIN, (uint32_t)(flow - flows));
}

static ssize_t push_datagram(struct flow *flow)
{
	uint64_t offset = htobe64(flow->sent);
	struct iovec parts[] = {
		{ &offset, sizeof(offset) },
		{ (void *)(uintptr_t)pattern_at(flow->sent + sizeof(offset)),
		  DATAGRAM - sizeof(offset) },
	};

	return writev(flow->fd, parts, 2);
}

static void push(struct flow *flow, uint64_t now)
{
	if (!flow->began)
		flow->began = now;
	for (int i = 0; i < BURST; i++) {
		size_t size = bytes && bytes - flow->sent < CHUNK ? bytes - flow->sent : CHUNK;
		ssize_t got = kind == IPPROTO_UDP ?
				      push_datagram(flow) :
				      send(flow->fd, pattern_at(flow->sent), size, 0);

		if (got < 0) {
			if (errno == EAGAIN || errno == ENOBUFS)
				return;
			if (errno != EPIPE && errno != ECONNRESET && errno != ECONNREFUSED &&
			    errno != ETIMEDOUT)
				fault("cannot send");
			reset(flow, now);
			return;
		}
		flow->sent += (uint64_t)got;
		flow->ended = now;
		if (bytes && flow->sent >= bytes) {
			finish(flow, now);
			return;
		}
	}
}

static void drain(struct flow *flow, uint64_t now)
{
	char byte;
	ssize_t got = read(flow->fd, &byte, 1);

	if (got > 0 || (got < 0 && errno == EAGAIN))
		return;
	if (got < 0)
		reset(flow, now);
	else
		end(flow, now);
}

/* Gives a flow the algorithm that is its turn, of a list with commas. */
static void choose(const struct flow *flow, size_t turn, const char *algorithms)
{
	size_t length;
	char name[64];

	for (turn %= turns; turn; turn--)
		algorithms = strchr(algorithms, ',') + 1;
	length = strcspn(algorithms, ",");
	snprintf(name, sizeof(name), "%.*s", (int)length, algorithms);
	if (setsockopt(flow->fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)))
		fault(name);
}

/* Begins all connections at once, and returns when every one of them stands. */
static void connect_all(const char *address, const char *port, uint32_t addresses,
			const char *algorithms)
{
	union address base = address_of(address, port);
	struct epoll_event ready[EVENTS];
	size_t pending = 0;

	for (size_t i = 0; i < count; i++) {
		union address to = address_after(base, (uint32_t)(i % addresses)), from;
		socklen_t length = sizeof(from);
		struct flow *flow = &flows[i];

		flow->fd = open_socket(base.any.sa_family, kind, SOCK_NONBLOCK);
		if (algorithms)
			choose(flow, i, algorithms);
		flow->connect_ns = now_ns();
		if (!connect(flow->fd, &to.any, address_length(&to))) {
			flow->connect_ns = now_ns() - flow->connect_ns;
		} else {
			if (errno != EINPROGRESS)
				fault("cannot connect");
			watch(epoll, EPOLL_CTL_ADD, flow->fd, EPOLLOUT, (uint32_t)i);
			pending++;
		}
		getsockname(flow->fd, &from.any, &length);
		flow->port = ntohs(from.six.sin6_port); /* at the same place in both */
	}
	while (pending) {
		size_t got = wait_ready(epoll, ready, UINT64_MAX);
		uint64_t now = now_ns();

		for (size_t i = 0; i < got; i++) {
			struct flow *flow = &flows[ready[i].data.u32];
			int error = 0;
			socklen_t length = sizeof(error);

			getsockopt(flow->fd, SOL_SOCKET, SO_ERROR, &error, &length);
			errno = error;
			if (error)
				fault("cannot connect");
			flow->connect_ns = now - flow->connect_ns;
			watch(epoll, EPOLL_CTL_DEL, flow->fd, 0, 0);
			pending--;
		}
	}
}

/* Takes a point of the course of the flows that have their turn together. */
static void look_at_band(struct band *band, size_t turn, uint64_t since)
{
	static uint64_t found[QUANTITIES][MOST_FLOWS];
	size_t active = 0;

	for (size_t i = turn; i < count; i += turns) {
		struct tcp_info info;

		if (flows[i].state != SENDING || !flows[i].began)
			continue;
		info = info_of(&flows[i]);
		found[CWND][active] = info.tcpi_snd_cwnd;
		found[RTT][active] = info.tcpi_rtt;
		found[PACING][active++] = info.tcpi_pacing_rate;
	}
	if (!active)
		return;
	band->at[band->points] = since;
	for (size_t q = 0; q < QUANTITIES; q++) {
		sort(found[q], active);
		band->of[q][LEAST][band->points] = found[q][0];
		band->of[q][MEDIAN][band->points] = quantile(found[q], active, 500);
		band->of[q][MOST][band->points] = found[q][active - 1];
	}
	band->points++;
}

static void sample(uint64_t since)
{
	struct tcp_info info = info_of(flows);

	rtt[samples++] = info.tcpi_rtt;
	if (count > 1 && samples % SAMPLES_A_POINT == 0)
		for (size_t turn = 0; turn < turns && turn < MOST_BANDS; turn++)
			look_at_band(&bands[turn], turn, since);
	if (count == 1 && samples % SAMPLES_A_POINT == 0) {
		struct point now = {
			since, info.tcpi_snd_cwnd, info.tcpi_rtt, info.tcpi_pacing_rate,
			info.tcpi_delivery_rate,
		};
		course[samples / SAMPLES_A_POINT - 1] = now;
	}
}

static void run(uint64_t seconds)
{
	struct epoll_event ready[EVENTS];
	const struct timespec pause = { .tv_nsec = MILLISECOND / 2 };
	uint64_t start = now_ns(), next = start + SAMPLE_EVERY;
	uint64_t until = seconds ? start + seconds * SECOND : UINT64_MAX;
	size_t begun = 0;

	sending = count;
	for (size_t i = 0; i < count; i++)
		watch(epoll, EPOLL_CTL_ADD, flows[i].fd, 0, (uint32_t)i);
	while (sending || draining) {
		bool looking = kind != IPPROTO_UDP && flows->state == SENDING &&
			       samples < MOST_SAMPLES;
		uint64_t now = now_ns(), wake = looking && next < until ? next : until;
		size_t got;

		for (; begun < count && now >= start + begun * interval; begun++)
			if (flows[begun].state == SENDING)
				watch(epoll, EPOLL_CTL_MOD, flows[begun].fd, EPOLLOUT, (uint32_t)begun);
		if (begun < count && start + begun * interval < wake)
			wake = start + begun * interval;
		got = wait_ready(epoll, ready, wake);
		/* Who wakes for every acknowledgement leaves the other end little of the CPU. */
		if (count > 1)
			nanosleep(&pause, NULL);
		now = now_ns();
		looking = looking && now >= next;
		if (looking) {
			sample(now - start);
			next += SAMPLE_EVERY;
		}
		if (now >= until) {
			for (size_t i = 0; i < count; i++)
				if (flows[i].state == SENDING)
					finish(&flows[i], now);
			until = UINT64_MAX;
			continue;
		}
		/* What is alone is filled up then, too, not only when a third of its buffer is free. */
		if (looking && count == 1) {
			push(flows, now);
			continue;
		}
		for (size_t i = 0; i < got; i++) {
			struct flow *flow = &flows[ready[i].data.u32];

			if (flow->state == DRAINING) {
				drain(flow, now);
				continue;
			}
			push(flow, now);
		}
	}
}

static void tell_bands(void)
{
	static const char *const quantities[] = { "cwnd", "rtt_us", "pacing" };
	static const char *const ranks[] = { "least", "median", "most" };
	char name[64];

	for (size_t turn = 0; turn < turns && turn < MOST_BANDS; turn++) {
		struct band *band = &bands[turn];

		snprintf(name, sizeof(name), "band%zu_at", turn);
		say_each(name, band->at, sizeof(*band->at), band->points);
		for (size_t q = 0; q < QUANTITIES; q++)
			for (size_t rank = 0; rank < RANKS; rank++) {
				snprintf(name, sizeof(name), "band%zu_%s_%s", turn, quantities[q],
					 ranks[rank]);
				say_each(name, band->of[q][rank], sizeof(uint64_t), band->points);
			}
	}
}

static void tell_tcp(void)
{
	uint64_t sum = 0, again = 0;
	size_t points = samples / SAMPLES_A_POINT;

	for (size_t i = 0; i < count; i++)
		again += kind == PROTOCOL_MPTCP ? flows[i].retransmitted :
						  info_of(&flows[i]).tcpi_total_retrans;
	for (size_t i = 0; i < samples; i++)
		sum += rtt[i];
	sort(rtt, samples);
	say_each("acked", &flows->acked, sizeof(*flows), count);
	say("rtt_samples", samples);
	say("rtt_sum_us", sum);
	say("rtt_median_us", quantile(rtt, samples, 500));
	say("rtt_p95_us", quantile(rtt, samples, 950));
	say("rtt_p99_us", quantile(rtt, samples, 990));
	say("retransmitted", again);
	say("reset", resets);
	if (kind == PROTOCOL_MPTCP) {
		say("mptcp", multipath);
		say("is_mptcp", knows_is_mptcp ? is_mptcp : multipath);
		say("subflows", subflows);
	}
	if (count > 1) {
		tell_bands();
		return;
	}
	say_each("at", &course->at, sizeof(*course), points);
	say_each("cwnd", &course->cwnd, sizeof(*course), points);
	say_each("rtt_us", &course->rtt, sizeof(*course), points);
	say_each("pacing", &course->pacing, sizeof(*course), points);
	say_each("delivery", &course->delivery, sizeof(*course), points);
}

/*
 * PROTOCOL ADDRESS PORT FLOWS ADDRESSES SECONDS [ALGORITHMS [BYTES [INTERVAL]]]:
 * connects all flows, by turns to ADDRESSES addresses and with the ALGORITHMS of a
 * list with commas, then sends over all of them until SECONDS are over, one of them
 * beginning every INTERVAL ms; with BYTES (0: no limit) so many over
 * each, for as long as it takes where SECONDS is 0.  Ends when the receiver has
 * everything, or has had enough: that is counted as `reset`.  Looks every 10 ms
 * at the first flow's round trip time as the kernel smooths it, and every 100 ms
 * at how it goes, or how all flows of each of the ALGORITHMS go.
 */
void send_flows(char **argv)
{
	const char *algorithms = argv[6];
	uint32_t addresses;
	uint64_t seconds;

	kind = protocol(argv[0]);
	count = (size_t)number(argv[3], 1, MOST_FLOWS);
	addresses = (uint32_t)number(argv[4], 1, UINT32_MAX);
	if (algorithms && !strcmp(algorithms, "-"))
		algorithms = NULL;
	for (const char *name = algorithms; name; name = strchr(name + 1, ','))
		turns++;
	if (argv[6] && argv[7])
		bytes = number(argv[7], 0, UINT64_MAX);
	if (argv[6] && argv[7] && argv[8])
		interval = number(argv[8], 0, 3600000) * MILLISECOND;
	seconds = number(argv[5], bytes ? 0 : 1, 86400);
	flows = calloc(count, sizeof(*flows));
	if (!flows)
		fault("too many flows");
	pattern_make();
	epoll = epoll_create1(EPOLL_CLOEXEC);
	connect_all(argv[1], argv[2], addresses, algorithms);
	run(seconds);
	say("flows", count);
	say_each("ports", &flows->port, sizeof(*flows), count);
	say_each("connect_ns", &flows->connect_ns, sizeof(*flows), count);
	say_each("sent", &flows->sent, sizeof(*flows), count);
	say_each("began", &flows->began, sizeof(*flows), count);
	say_each("ended", &flows->ended, sizeof(*flows), count);
	say_each("closed", &flows->closed, sizeof(*flows), count);
	if (kind != IPPROTO_UDP)
		tell_tcp();
	say_cpu();
}
