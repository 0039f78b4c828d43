/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What stands beside a connection: a middlebox that takes MPTCP out of it, and
 * whoever counts what goes over which path.
 */
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
} before[MOST_INTERFACES], now[MOST_INTERFACES], *bins[MOST_INTERFACES];

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
				       &now[i].received, &now[i].sent);
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

		memcpy(before, now, sizeof(now));
		if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) && !stopped)
			continue;
		count(interfaces);
		for (size_t i = 0; i < all; i++) {
			bins[i][taken].received = now[i].received - before[i].received;
			bins[i][taken].sent = now[i].sent - before[i].sent;
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
