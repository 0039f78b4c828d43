/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What stands beside a connection: a middlebox that takes MPTCP out of it, a link that
 * carries as much as a trace says, and whoever counts what goes over which path and what waits.
 */
#define _GNU_SOURCE /* ppoll */
#include "traffic.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define FRAME 65536
#define IP 14	    /* where a frame's IP header begins */
#define ADDRESSES 12 /* where an IP header has them, 8 bytes up to its options */
#define TCP_OPTIONS 20
#define END_OF_OPTIONS 0
#define NO_OPERATION 1
#define MPTCP_OPTION 30 /* RFC 8684 */
#define MOST_INTERFACES 16
#define MOST_BINS 100000
#define MOST_LOOKS 100000
#define OFFLOAD 10 /* struct virtio_net_hdr: what a veth leaves to hardware stays with a frame */
#define MOST_FRAME (OFFLOAD + 2048)
#define OPPORTUNITY 1500 /* bytes of IP packets that one line of a trace lets go */
#define MOST_OPPORTUNITIES 10000000

static size_t word_at(const unsigned char *bytes)
{
	return (size_t)(bytes[0] << 8 | bytes[1]);
}

static uint32_t sum(const unsigned char *bytes, size_t length, uint32_t before)
{
	for (; length > 1; bytes += 2, length -= 2)
		before += (uint32_t)word_at(bytes);
	return before + (length ? (uint32_t)bytes[0] << 8 : 0);
}

/*
 * Writes no-operations over MPTCP's options of an IPv4 frame, and the check sum,
 * which a veth leaves to hardware that is not there.
 */
static void take_out(unsigned char *frame, size_t length)
{
	unsigned char *ip = frame + IP, *tcp, *option, *end;
	size_t head, size;
	uint32_t check;

	if (length < IP + 20 || word_at(frame + IP - 2) != ETHERTYPE_IP || ip[9] != IPPROTO_TCP)
		return;
	head = (size_t)(ip[0] & 15) * 4;
	size = word_at(ip + 2);
	if (IP + size > length || size < head + TCP_OPTIONS)
		return;
	size -= head;
	tcp = ip + head;
	end = tcp + (tcp[12] >> 4) * 4;
	if (end > tcp + size)
		return;
	for (option = tcp + TCP_OPTIONS; option < end && *option != END_OF_OPTIONS;) {
		size_t length_of_it = 1;

		if (*option != NO_OPERATION) {
			if (option + 1 == end || option[1] < 2 || option + option[1] > end)
				break;
			length_of_it = option[1];
		}
		if (*option == MPTCP_OPTION)
			memset(option, NO_OPERATION, length_of_it);
		option += length_of_it;
	}
	tcp[16] = tcp[17] = 0;
	check = sum(tcp, size, sum(ip + ADDRESSES, 8, IPPROTO_TCP + (uint32_t)size));
	check = (check & 0xffff) + (check >> 16);
	check = ~(check + (check >> 16));
	tcp[16] = (unsigned char)(check >> 8);
	tcp[17] = (unsigned char)check;
}

static int tap(const char *interface)
{
	struct sockaddr_ll here = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(interface),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));

	if (!here.sll_ifindex || fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof(here)))
		fault(interface);
	return fd;
}

/* A B: carries frames from one interface to the other and back, without MPTCP, until it is killed. */
void strip(char **argv)
{
	static unsigned char frame[FRAME];
	struct pollfd ends[] = {
		{ .fd = tap(argv[0]), .events = POLLIN },
		{ .fd = tap(argv[1]), .events = POLLIN },
	};

	for (;;) {
		if (poll(ends, 2, -1) < 0)
			fault("poll");
		for (int i = 0; i < 2; i++) {
			struct sockaddr_ll from = { 0 };
			socklen_t known = sizeof(from);
			ssize_t got;

			if (!(ends[i].revents & POLLIN))
				continue;
			got = recvfrom(ends[i].fd, frame, sizeof(frame), 0, (struct sockaddr *)&from, &known);
			if (got <= 0 || from.sll_pkttype == PACKET_OUTGOING)
				continue;
			take_out(frame, (size_t)got);
			send(ends[!i].fd, frame, (size_t)got, 0); /* what finds no room is lost */
		}
	}
}

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

static struct counts {
	uint64_t received, sent;
} before[MOST_INTERFACES], latest[MOST_INTERFACES], *bins[MOST_INTERFACES];

/* Reads what interfaces have counted, bytes, from the table that the kernel has of all. */
static void count(char **interfaces)
{
	FILE *table = fopen("/proc/net/dev", "re");
	char line[512];

	if (!table)
		fault("/proc/net/dev");
	while (fgets(line, sizeof(line), table)) {
		char *name = line + strspn(line, " "), *rest = strchr(name, ':');

		if (!rest)
			continue;
		*rest++ = 0;
		for (size_t i = 0; interfaces[i]; i++)
			if (!strcmp(name, interfaces[i]))
				sscanf(rest, "%" SCNu64 " %*u %*u %*u %*u %*u %*u %*u %" SCNu64,
				       &latest[i].received, &latest[i].sent);
	}
	fclose(table);
}

/*
 * MILLISECONDS INTERFACE...: what interfaces of this host send and receive in
 * each such time, until it gets SIGTERM; in the order of their names.
 */
void watch_interfaces(char **argv)
{
	uint64_t interval = number(argv[0], 1, 60000) * MILLISECOND, start;
	struct sigaction action = { .sa_handler = stop };
	size_t all = 0, taken = 0;
	char **interfaces = argv + 1, name[64];

	for (; interfaces[all]; all++) {
		if (!if_nametoindex(interfaces[all]))
			fault(interfaces[all]);
		bins[all] = calloc(MOST_BINS, sizeof(**bins));
		if (!bins[all])
			fault("too many bins");
	}
	sigaction(SIGTERM, &action, NULL);
	count(interfaces);
	start = now_ns();
	while (!stopped && taken < MOST_BINS) {
		uint64_t next = start + (taken + 1) * interval;
		struct timespec until = {
			.tv_sec = (time_t)(next / SECOND),
			.tv_nsec = (long)(next % SECOND),
		};

		memcpy(before, latest, sizeof(latest));
		if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) && !stopped)
			continue;
		count(interfaces);
		for (size_t i = 0; i < all; i++) {
			bins[i][taken].received = latest[i].received - before[i].received;
			bins[i][taken].sent = latest[i].sent - before[i].sent;
		}
		taken++;
	}
	say("watched", start);
	for (size_t i = 0; i < all; i++) {
		snprintf(name, sizeof(name), "%s.sent", interfaces[i]);
		say_each(name, &bins[i]->sent, sizeof(**bins), taken);
		snprintf(name, sizeof(name), "%s.received", interfaces[i]);
		say_each(name, &bins[i]->received, sizeof(**bins), taken);
	}
}

static struct queue_look looks[MOST_LOOKS];
static size_t looked;

static void tell_looks(void)
{
	say_each("queue_at", &looks->at, sizeof(*looks), looked);
	say_each("queue_waiting", &looks->waiting, sizeof(*looks), looked);
	say_each("queue_sent", &looks->sent, sizeof(*looks), looked);
	say_each("queue_marked", &looks->marked, sizeof(*looks), looked);
}

static void until_terminated(void)
{
	struct sigaction action = { .sa_handler = stop };

	sigaction(SIGTERM, &action, NULL);
	prctl(PR_SET_TIMERSLACK, 1);
}

/*
 * MILLISECONDS INTERFACE: how many packets wait at an interface each such time, how many
 * have left it, and how many of them were marked, until it gets SIGTERM.
 */
void watch_queue(char **argv)
{
	uint64_t every = number(argv[0], 1, 60000) * MILLISECOND, start = now_ns();
	int interface = (int)if_nametoindex(argv[1]);

	if (!interface)
		fault(argv[1]);
	until_terminated();
	while (!stopped && looked < MOST_LOOKS) {
		uint64_t next = start + looked * every;
		struct timespec until = {
			.tv_sec = (time_t)(next / SECOND),
			.tv_nsec = (long)(next % SECOND),
		};

		if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL))
			continue;
		looks[looked].at = now_ns() - start;
		look_at_queue(interface, &looks[looked++]);
	}
	tell_looks();
}

/* The queue before a link of a trace, and what of its first packet has not gone yet. */
static struct frame {
	size_t length;
	unsigned char bytes[MOST_FRAME];
} *queue;
static size_t room, head, waiting, left;
static uint64_t *opportunities, base, gone;
static size_t all, turn;

static void read_trace(const char *path)
{
	FILE *file = fopen(path, "re");
	char line[64];

	opportunities = calloc(MOST_OPPORTUNITIES, sizeof(*opportunities));
	if (!file || !opportunities)
		fault(path);
	while (fgets(line, sizeof(line), file) && all < MOST_OPPORTUNITIES) {
		line[strcspn(line, "\n")] = 0;
		opportunities[all++] = number(line, 0, 86400000) * MILLISECOND;
	}
	fclose(file);
	if (!all || !opportunities[all - 1])
		fault(path);
}

/* Lets everything go that could until now: small packets share an opportunity, as in mahimahi. */
static void use_opportunities(uint64_t now, int out)
{
	while (base + opportunities[turn] <= now) {
		size_t carries = OPPORTUNITY;

		while (carries && waiting) {
			struct frame *first = &queue[head];

			if (!left)
				left = first->length - OFFLOAD - IP;
			if (left > carries) {
				left -= carries;
				break;
			}
			carries -= left;
			left = 0;
			send(out, first->bytes, first->length, 0);
			head = (head + 1) % room;
			waiting--;
			gone++;
		}
		if (++turn == all) {
			turn = 0;
			base += opportunities[all - 1];
		}
	}
}

/* Takes a frame that came; returns its length, 0 where there is none. */
static size_t receive(int fd, unsigned char *bytes)
{
	struct sockaddr_ll from = { 0 };

	for (;;) {
		socklen_t known = sizeof(from);
		ssize_t got = recvfrom(fd, bytes, MOST_FRAME, MSG_DONTWAIT | MSG_TRUNC,
				       (struct sockaddr *)&from, &known);

		if (got < 0)
			return 0;
		if (from.sll_pkttype != PACKET_OUTGOING && got > OFFLOAD + IP && got <= MOST_FRAME)
			return (size_t)got;
	}
}

/*
 * MILLISECONDS A B PACKETS TRACE: carries frames from B to A as they come, and from A to B
 * when a trace of mahimahi's format lets one go: each line is the ms of an opportunity for
 * 1500 bytes, and after the last one it begins anew.  So many packets may wait.  Ends at
 * SIGTERM, and says what `queue` says.
 */
void relay(char **argv)
{
	uint64_t every = number(argv[0], 1, 60000) * MILLISECOND, start, next;
	int in = tap(argv[1]), out = tap(argv[2]), on = 1, big = 16 << 20;
	struct pollfd ends[] = { { .fd = in, .events = POLLIN }, { .fd = out, .events = POLLIN } };
	static unsigned char frame[MOST_FRAME];
	size_t length;

	room = (size_t)number(argv[3], 1, 100000);
	queue = calloc(room, sizeof(*queue));
	if (!queue)
		fault("too long a queue");
	read_trace(argv[4]);
	for (int i = 0; i < 2; i++) {
		setsockopt(ends[i].fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof(big));
		if (setsockopt(ends[i].fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)))
			fault("PACKET_VNET_HDR");
	}
	until_terminated();
	base = start = next = now_ns();
	while (!stopped) {
		uint64_t due = base + opportunities[turn], now = now_ns();
		uint64_t wake = waiting && due < next ? due : next;
		uint64_t wait = wake > now ? wake - now : 0;
		struct timespec limit = { (time_t)(wait / SECOND), (long)(wait % SECOND) };

		if (ppoll(ends, 2, &limit, NULL) < 0 && errno != EINTR)
			fault("poll");
		now = now_ns();
		use_opportunities(now, out);
		if (now >= next && looked < MOST_LOOKS) {
			struct queue_look look = { now - start, waiting, gone, 0 };

			looks[looked++] = look;
			next += every;
		}
		for (;;) {
			struct frame *last = waiting < room ? &queue[(head + waiting) % room] : NULL;

			length = receive(in, last ? last->bytes : frame);
			if (!length)
				break;
			if (last) {
				last->length = length;
				waiting++;
			}
		}
		while ((length = receive(out, frame)))
			send(in, frame, length, 0);
	}
	tell_looks();
}
