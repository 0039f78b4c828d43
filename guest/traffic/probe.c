/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Probes: what a link does to datagrams, and what a request or a connection
 * takes.  One thing at a time, so they simply wait.
 */
#define _GNU_SOURCE
#include "traffic.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/udp.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MOST (1u << 22)		/* datagrams, requests or connections of one run */
#define MOST_MESSAGE (1u << 20) /* bytes of a request or a reply */
#define MOST_DATAGRAM 65507
#define MOST_SEGMENTS 64 /* the kernel's UDP_MAX_SEGMENTS, before Linux 6.9 */
#define NUMBERED sizeof(uint32_t) /* bytes of a datagram's number, at its beginning */

static char message[MOST_MESSAGE];

static uint64_t *room_for(size_t count)
{
	uint64_t *values = calloc(count, sizeof(*values));

	if (!values)
		fault("too many to remember");
	return values;
}

static int connected(int kind, const union address *to)
{
	int fd = open_socket(to->any.sa_family, kind, 0);

	if (connect(fd, &to->any, address_length(to)))
		fault("cannot connect");
	return fd;
}

/* How long a socket waits for something to read; 0: for ever. */
static void wait_at_most(int fd, uint64_t ns)
{
	struct timeval limit = {
		.tv_sec = (time_t)(ns / SECOND),
		.tv_usec = (suseconds_t)(ns % SECOND / 1000),
	};

	if (ns && !limit.tv_sec && !limit.tv_usec)
		limit.tv_usec = 1;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
		fault("SO_RCVTIMEO");
}

static void no_delay(int fd)
{
	int on = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		fault("TCP_NODELAY");
}

/* What a request's connection begins with, in the network's order. */
struct sizes {
	uint32_t request, reply;
};

static void whole_send(int fd, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t sent = send(fd, message, size - done, 0);

		if (sent < 0)
			fault("cannot send");
		done += (size_t)sent;
	}
}

/* Ends the program, and says which it was, where the other end does not send all. */
static void whole_read(int fd, void *to, size_t size, const char *what, size_t which)
{
	char text[64];
	ssize_t got = recv(fd, to, size, MSG_WAITALL);

	if (got == (ssize_t)size)
		return;
	if (got >= 0)
		errno = ECONNRESET;
	snprintf(text, sizeof(text), "%s %zu did not come", what, which);
	fault(text);
}

#ifndef SO_BUSY_POLL
#define SO_BUSY_POLL 46
#endif

/* How a requester waits for an answer. */
enum waits { INTERRUPT, BUSYPOLL, EPOLL, EPOLL_BUSYPOLL, WAYS };
static const char *const ways[WAYS] = { "interrupt", "busypoll", "epoll", "epoll-busypoll" };

static enum waits way_named(const char *text)
{
	for (enum waits way = 0; way < WAYS; way++)
		if (!strcmp(text, ways[way]))
			return way;
	fprintf(stderr, "traffic: %s: interrupt, busypoll, epoll or epoll-busypoll is expected\n",
		text);
	exit(2);
}

/* Has a socket wait in some way; returns an epoll instance for those with one, -1 for others. */
static int set_way(int fd, enum waits way, uint64_t microseconds)
{
	int most = (int)microseconds, epoll = -1;
	struct { /* of <linux/eventpoll.h>, Linux 6.9 */
		uint32_t microseconds;
		uint16_t budget;
		uint8_t prefer, pad;
	} busy = { .microseconds = (uint32_t)microseconds, .budget = 8 };

	if (way == BUSYPOLL && setsockopt(fd, SOL_SOCKET, SO_BUSY_POLL, &most, sizeof(most)))
		fault("cannot busy-poll (SO_BUSY_POLL)");
	if (way == EPOLL || way == EPOLL_BUSYPOLL) {
		epoll = epoll_create1(EPOLL_CLOEXEC);
		watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 0);
	}
	if (way == EPOLL_BUSYPOLL && ioctl(epoll, _IOW(0x8a, 1, busy), &busy))
		fault("cannot busy-poll (EPIOCSPARAMS)");
	return epoll;
}

/* Reads an answer; with an epoll instance whenever that says that there is some of it. */
static void read_answer(int fd, int epoll, size_t size, size_t which)
{
	struct epoll_event ready;
	size_t done = 0;

	if (epoll < 0) {
		whole_read(fd, message, size, "the answer to request", which);
		return;
	}
	while (done < size) {
		ssize_t got = -1;

		if (epoll_wait(epoll, &ready, 1, -1) == 1)
			got = recv(fd, message + done, size - done, MSG_DONTWAIT);
		if (got > 0)
			done += (size_t)got;
		else if (!got || (errno != EAGAIN && errno != EINTR))
			fault("an answer did not come");
	}
}

/* A counter of this network namespace; 0 where there is none of this name. */
static uint64_t netstat(const char *name)
{
	static char names[16384], values[16384];
	FILE *file = fopen("/proc/net/netstat", "re");
	uint64_t found = 0;

	if (!file)
		fault("/proc/net/netstat");
	/* The names are in one line, and their values in the next. */
	while (fgets(names, sizeof(names), file) && fgets(values, sizeof(values), file)) {
		char *rest = names, *others = values, *word, *value;

		while ((word = strsep(&rest, " \n")) && (value = strsep(&others, " \n")))
			if (!strcmp(word, name))
				found = strtoull(value, NULL, 10);
	}
	fclose(file);
	return found;
}

/* The number at a place of a line of /proc/stat. */
static uint64_t stat_of(const char *name, int place)
{
	static char line[16384];
	FILE *file = fopen("/proc/stat", "re");
	uint64_t found = 0;

	if (!file)
		fault("/proc/stat");
	while (fgets(line, sizeof(line), file)) {
		char *rest = line;

		if (strcmp(strsep(&rest, " "), name))
			continue;
		while (rest && place--)
			strsep(&rest, " ");
		found = rest ? strtoull(rest, NULL, 10) : 0;
		break;
	}
	fclose(file);
	return found;
}

/* What requests asked of this host beside their time. */
static struct costs {
	uint64_t cpu_ns, switches, interrupts, received, polled;
} costs_now(void)
{
	struct rusage used;
	struct costs now = {
		.polled = netstat("BusyPollRxPackets"),
		.interrupts = stat_of("intr", 0),
		.received = stat_of("softirq", 4), /* NET_RX, behind the sum and three others */
	};

	getrusage(RUSAGE_SELF, &used);
	now.switches = (uint64_t)(used.ru_nvcsw + used.ru_nivcsw);
	now.cpu_ns = cpu_ns();
	return now;
}

static void say_costs(struct costs before)
{
	struct costs now = costs_now();

	say("request_cpu_ns", now.cpu_ns - before.cpu_ns);
	say("switches", now.switches - before.switches);
	say("interrupts", now.interrupts - before.interrupts);
	say("softirqs", now.received - before.received);
	say("polled", now.polled - before.polled);
}

/*
 * ADDRESS PORT COUNT SIZE REPLY [WAY MICROSECONDS]: sends SIZE bytes and waits for
 * REPLY bytes so often, over one connection.  Says how many a second, and how long one
 * took; with a way to wait, for so many microseconds where it polls, what all of them
 * cost this host, and how many packets busy polling took from its interfaces.
 */
void request(char **argv)
{
	union address to = address_of(argv[0], argv[1]);
	size_t count = (size_t)number(argv[2], 1, MOST);
	size_t size = (size_t)number(argv[3], 1, MOST_MESSAGE);
	size_t reply = (size_t)number(argv[4], 1, MOST_MESSAGE);
	struct sizes sizes = { htonl((uint32_t)size), htonl((uint32_t)reply) };
	uint64_t *took = room_for(count), began, before;
	enum waits way = argv[5] ? way_named(argv[5]) : INTERRUPT;
	uint64_t most = argv[5] && argv[6] ? number(argv[6], 0, 1000000) : 0;
	int fd = connected(IPPROTO_TCP, &to), poller;
	struct costs costs;

	no_delay(fd);
	if (send(fd, &sizes, sizeof(sizes), 0) != sizeof(sizes))
		fault("cannot send");
	whole_read(fd, message, 1, "the answer to request", 0);
	poller = set_way(fd, way, most);
	costs = costs_now();
	began = before = now_ns();
	for (size_t i = 0; i < count; i++) {
		uint64_t now;

		whole_send(fd, size);
		read_answer(fd, poller, reply, i + 1);
		now = now_ns();
		took[i] = now - before;
		before = now;
	}
	if (argv[5])
		say_costs(costs);
	say("rate", (uint64_t)((double)count * (double)SECOND / (double)(before - began)));
	sort(took, count);
	say("us_p50", (quantile(took, count, 500) + 500) / 1000);
	say("us_p95", (quantile(took, count, 950) + 500) / 1000);
	say("us_p99", (quantile(took, count, 990) + 500) / 1000);
	say("ns_p50", quantile(took, count, 500));
	say("ns_p95", quantile(took, count, 950));
	say("ns_p99", quantile(took, count, 990));
	say_cpu();
}

/* PROTOCOL PORT COUNT: answers so many requests of one connection. */
void serve(char **argv)
{
	int kind = protocol(argv[0]), listener, fd;
	size_t count = (size_t)number(argv[2], 1, MOST);
	struct sizes sizes;

	if (kind == IPPROTO_UDP) {
		fputs("traffic: udp: tcp or mptcp is expected\n", stderr);
		exit(2);
	}
	listener = listen_at(kind, argv[1], 1, 0);
	say_listening();
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		fault("accept");
	no_delay(fd);
	whole_read(fd, &sizes, sizeof(sizes), "request", 0);
	sizes.request = ntohl(sizes.request);
	sizes.reply = ntohl(sizes.reply);
	if (sizes.request > MOST_MESSAGE || sizes.reply > MOST_MESSAGE) {
		errno = EMSGSIZE;
		fault("no such request");
	}
	whole_send(fd, 1);
	for (size_t i = 0; i < count; i++) {
		whole_read(fd, message, sizes.request, "request", i + 1);
		whole_send(fd, sizes.reply);
	}
	say("requests", count);
	say_cpu();
}

/* ADDRESS ADDRESSES PORT COUNT: how long it takes to connect, by turns to so many addresses. */
void connect_often(char **argv)
{
	union address base = address_of(argv[0], argv[2]);
	uint32_t addresses = (uint32_t)number(argv[1], 1, UINT32_MAX);
	size_t count = (size_t)number(argv[3], 1, MOST);
	uint64_t *took = room_for(count);

	for (size_t i = 0; i < count; i++) {
		union address to = address_after(base, (uint32_t)(i % addresses));
		uint64_t before = now_ns();
		int fd = connected(IPPROTO_TCP, &to);

		took[i] = now_ns() - before;
		close(fd);
	}
	sort(took, count);
	say("connections", count);
	say("connect_median_ns", quantile(took, count, 500));
	say("connect_p95_ns", quantile(took, count, 950));
}

static void sleep_until(uint64_t when)
{
	struct timespec until = { (time_t)(when / SECOND), (long)(when % SECOND) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		continue;
}

/*
 * ADDRESS PORT COUNT SIZE [BURST NS]: datagrams as fast as the socket takes them, numbered
 * from 0.  Many with one call where the kernel cuts them (udp(7), UDP_SEGMENT), or a fast
 * link would wait for the sender.  With BURST so many at a time, each NS after the one
 * before, but for the second, which comes with the first: so a link has no pause where
 * its sender is late by less than a burst takes there.  Who is later by more does not
 * make up for it, or the link's queue would not hold it.
 */
void train(char **argv)
{
	union address to = address_of(argv[0], argv[1]);
	uint32_t count = (uint32_t)number(argv[2], 1, MOST);
	size_t size = (size_t)number(argv[3], NUMBERED, MOST_DATAGRAM);
	int fd = connected(IPPROTO_UDP, &to), segment = (int)size;
	bool is_paced = argv[4] && argv[5];
	uint32_t burst = is_paced ? (uint32_t)number(argv[4], 1, MOST) : count;
	uint64_t pause = is_paced ? number(argv[5], 0, 3600 * SECOND) : 0;
	uint32_t most = (uint32_t)(MOST_DATAGRAM / size), many;
	uint64_t began, next;

	if (most > MOST_SEGMENTS)
		most = MOST_SEGMENTS;
	if (most > burst)
		most = burst;
	if (most < 2 || setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)))
		most = 1;
	began = next = now_ns();
	for (uint32_t i = 0; i < count; i += many) {
		many = count - i < most ? count - i : most;
		if (many > burst - i % burst)
			many = burst - i % burst;
		if (i % burst == 0 && i / burst > 1) {
			next += pause;
			sleep_until(next);
			if (now_ns() > next + pause)
				next = now_ns() - pause;
		}
		for (uint32_t k = 0; k < many; k++) {
			uint32_t number_of = htonl(i + k);

			memcpy(message + k * size, &number_of, sizeof(number_of));
		}
		if (send(fd, message, many * size, 0) >= 0)
			continue;
		/*
		 * Datagrams that do not fit into the link's packets cannot be cut so, nor
		 * can any, before Linux 6.11, where the interface makes no check sums.
		 */
		if (most == 1 || (errno != EMSGSIZE && errno != EINVAL && errno != EIO))
			fault("cannot send");
		segment = 0;
		if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)))
			fault("UDP_SEGMENT");
		most = 1;
		many = 0;
	}
	say("sent", count);
	say("bytes", (uint64_t)count * size);
	say("began", began);
	say("ended", now_ns());
}

/* How far CLOCK_REALTIME, which the kernel stamps packets with, is ahead of CLOCK_MONOTONIC. */
static uint64_t ahead_ns(void)
{
	struct timespec real;
	uint64_t now = now_ns();

	clock_gettime(CLOCK_REALTIME, &real);
	return (uint64_t)real.tv_sec * SECOND + (uint64_t)real.tv_nsec - now;
}

/*
 * Receives a datagram, and the instant of CLOCK_REALTIME when it came to this
 * host: whoever sends may keep its only CPU for milliseconds.
 */
static ssize_t receive(int fd, int flags, uint64_t *at)
{
	struct iovec part = { message, sizeof(message) };
	char space[CMSG_SPACE(sizeof(struct timespec))];
	struct msghdr head = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = space,
		.msg_controllen = sizeof(space),
	};
	struct cmsghdr *stamp;
	struct timespec when;
	ssize_t got = recvmsg(fd, &head, flags);

	if (got < 0)
		return got;
	stamp = CMSG_FIRSTHDR(&head);
	if (!stamp || stamp->cmsg_type != SO_TIMESTAMPNS) {
		errno = ENODATA;
		fault("when it came");
	}
	memcpy(&when, CMSG_DATA(stamp), sizeof(when));
	*at = (uint64_t)when.tv_sec * SECOND + (uint64_t)when.tv_nsec;
	return got;
}

/*
 * PORT COUNT MILLISECONDS: what came of a train: how many of its numbers, and
 * how often one came again, or after a higher one.  Ends when COUNT numbers
 * have come, or nothing for so long.
 */
void count_train(char **argv)
{
	static uint8_t seen[MOST / 8];
	uint64_t limit = number(argv[2], 1, 86400000) * MILLISECOND;
	uint64_t expected = number(argv[1], 1, MOST);
	uint64_t received = 0, first = 0, half = 0, last = 0, bytes = 0;
	uint64_t again = 0, late = 0, highest = 0;
	uint64_t ahead = ahead_ns(), at;
	int fd = listen_at(IPPROTO_UDP, argv[0], 0, 0), on = 1, room = 1 << 30;
	struct timespec pause = { (time_t)(limit / SECOND), (long)(limit % SECOND) };

	if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)))
		fault("SO_TIMESTAMPNS");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)))
		fault("SO_RCVBUF");
	wait_at_most(fd, limit + PATIENCE);
	say_listening();
	/* What is there already still counts when all have come: it may be a second copy. */
	for (;;) {
		uint32_t it;
		ssize_t got = receive(fd, received < expected ? 0 : MSG_DONTWAIT, &at);

		if (got < 0)
			break;
		if (got < (ssize_t)sizeof(it))
			continue;
		last = at - ahead;
		if (!first) {
			first = last;
			wait_at_most(fd, limit);
			/* Where both ends share a CPU, who reads would hold up who sends. */
			nanosleep(&pause, NULL);
		}
		bytes += (uint64_t)got;
		memcpy(&it, message, sizeof(it));
		it = ntohl(it);
		if (it >= MOST)
			continue;
		if (seen[it / 8] & 1u << it % 8) {
			again++;
			continue;
		}
		seen[it / 8] |= (uint8_t)(1u << it % 8);
		received++;
		if (received == (expected + 1) / 2)
			half = last;
		if (it < highest)
			late++;
		else
			highest = it;
	}
	if (errno != EAGAIN)
		fault("cannot receive");
	say("received", received);
	say("first", first);
	say("half", half); /* when half of COUNT had come */
	say("last", last);
	say("bytes", bytes);
	say("duplicates", again);
	say("reordered", late);
}

/* PORT COUNT: sends so many datagrams back, or until an empty one or a long silence. */
void echo(char **argv)
{
	uint64_t most = number(argv[1], 1, MOST), done = 0;
	int fd = listen_at(IPPROTO_UDP, argv[0], 0, 0);

	say_listening();
	while (done < most) {
		union address from;
		socklen_t length = sizeof(from);
		ssize_t got = recvfrom(fd, message, sizeof(message), 0, &from.any, &length);

		if (got <= 0)
			break;
		if (sendto(fd, message, (size_t)got, 0, &from.any, length) < 0)
			fault("cannot send");
		if (!done++)
			wait_at_most(fd, PATIENCE);
	}
	say("echoed", done);
}

/*
 * ADDRESS PORT COUNT INTERVAL-MS SIZE: how long datagrams are under way that
 * somebody sends back, one sent each interval.
 */
void ping(char **argv)
{
	union address to = address_of(argv[0], argv[1]);
	uint32_t count = (uint32_t)number(argv[2], 1, MOST), sent = 0, it;
	uint64_t interval = number(argv[3], 0, 3600000) * MILLISECOND;
	size_t size = (size_t)number(argv[4], NUMBERED, MOST_DATAGRAM), replies = 0;
	uint64_t *left = room_for(count), *took = room_for(count);
	int fd = connected(IPPROTO_UDP, &to);
	uint64_t start = now_ns();

	while (replies < count) {
		uint64_t now = now_ns();
		uint64_t next = sent < count ? start + sent * interval :
					       start + (count - 1) * interval + PATIENCE;

		if (sent < count && now >= next) {
			it = htonl(sent);
			memcpy(message, &it, sizeof(it));
			left[sent++] = now;
			if (send(fd, message, size, 0) < 0)
				fault("cannot send");
			continue;
		}
		if (now >= next)
			break;
		wait_at_most(fd, next - now);
		if (recv(fd, message, sizeof(message), 0) < (ssize_t)sizeof(it)) {
			if (errno != EAGAIN)
				fault("cannot receive");
			continue;
		}
		memcpy(&it, message, sizeof(it));
		it = ntohl(it);
		if (it >= sent || !left[it])
			continue;
		took[replies++] = now_ns() - left[it];
		left[it] = 0; /* a second copy is none */
	}
	for (int i = 0; i < 3; i++)
		send(fd, "", 0, 0);
	errno = ETIMEDOUT;
	if (!replies)
		fault("nobody answers");
	sort(took, replies);
	say("sent", sent);
	say("replies", replies);
	say("rtt_min_ns", took[0]);
	say("rtt_median_ns", quantile(took, replies, 500));
	say("rtt_max_ns", took[replies - 1]);
}
