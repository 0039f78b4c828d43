/* SPDX-License-Identifier: GPL-2.0-only */
#include "traffic.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
	const char *name;
	int least, most; /* arguments */
	void (*run)(char **argv);
	const char *usage;
} commands[] = {
	{ "plain", 1, 1000, plain, "INTERFACE..." },
	{ "napi", 1, 1000, napi, "INTERFACE..." },
	{ "shape", 7, 12, shape,
	  "INTERFACE BIT/S DELAY-NS PACKETS LOST SEED OVERHEAD [DUPLICATED REORDERED CORRUPTED [COALESCE-NS [MARK-NS]]]" },
	{ "dark", 1, 1000, dark, "INTERFACE..." },
	{ "bare", 1, 1000, bare, "INTERFACE..." },
	{ "sink", 4, 5, sink, "tcp|mptcp|udp PORT FLOWS SECONDS [unchecked]" },
	{ "send", 6, 9, send_flows,
	  "tcp|mptcp|udp ADDRESS PORT FLOWS ADDRESSES SECONDS [ALGORITHM,...|- [BYTES [INTERVAL-MS]]]" },
	{ "stream", 5, 5, stream, "ADDRESS PORT BYTES SIZE copy|zerocopy" },
	{ "request", 5, 7, request,
	  "ADDRESS PORT COUNT SIZE REPLY [interrupt|busypoll|epoll|epoll-busypoll MICROSECONDS]" },
	{ "serve", 3, 3, serve, "tcp|mptcp PORT COUNT" },
	{ "train", 4, 6, train, "ADDRESS PORT COUNT SIZE [BURST NS]" },
	{ "count", 3, 3, count_train, "PORT COUNT MILLISECONDS" },
	{ "echo", 2, 2, echo, "PORT COUNT" },
	{ "ping", 5, 5, ping, "ADDRESS PORT COUNT INTERVAL-MS SIZE" },
	{ "connect", 4, 4, connect_often, "ADDRESS ADDRESSES PORT COUNT" },
	{ "strip", 2, 2, strip, "INTERFACE INTERFACE" },
	{ "queue", 2, 2, watch_queue, "MILLISECONDS INTERFACE" },
	{ "relay", 5, 5, relay, "MILLISECONDS INTERFACE INTERFACE PACKETS TRACE" },
	{ "watch", 2, 17, watch_interfaces, "MILLISECONDS INTERFACE..." },
	{ "capture", 3, 3, capture, "INTERFACE FILE TOLD" },
	{ "flood", 10, 28, flood,
	  "PACKETS OTHERS SPACE FRAME SENDING ALONE OTHER SPACE PORT FILTER|- [HOOK SPACE INTERFACE PROGRAM]... [listed|sorted|then FILE]" },
	{ "ipset", 3, 3, fill_ipset, "NAME hash:ip|hash:net FILE" },
	{ "nftset", 5, 5, fill_nftables, "ip|netdev TABLE NAME set|prefixes FILE" },
	{ "switch", 4, 4, join_switch, "NAME plain|tracked INTERFACE INTERFACE" },
};

void fault(const char *what)
{
	fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
	exit(1);
}

uint64_t number(const char *text, uint64_t least, uint64_t most)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *text < '0' || *text > '9' || *end || value < least || value > most) {
		fprintf(stderr, "traffic: %s: a number from %" PRIu64 " to %" PRIu64 " is expected\n",
			text, least, most);
		exit(2);
	}
	return value;
}

int64_t whole(const char *text, int64_t least, int64_t most)
{
	if (*text == '-')
		return -(int64_t)number(text + 1, 0, (uint64_t)-least);
	return (int64_t)number(text, 0, (uint64_t)most);
}

int protocol(const char *text)
{
	if (!strcmp(text, "tcp"))
		return IPPROTO_TCP;
	if (!strcmp(text, "mptcp"))
		return PROTOCOL_MPTCP;
	if (!strcmp(text, "udp"))
		return IPPROTO_UDP;
	fprintf(stderr, "traffic: %s: tcp, mptcp or udp is expected\n", text);
	exit(2);
}

void say_each(const char *name, const uint64_t *first, size_t stride, size_t count)
{
	fputs(name, stdout);
	for (size_t i = 0; i < count; i++)
		printf(" %" PRIu64, *(const uint64_t *)((const char *)first + i * stride));
	putchar('\n');
}

void say(const char *name, uint64_t value)
{
	say_each(name, &value, 0, 1);
}

void say_listening(void)
{
	puts("listening");
	fflush(stdout);
}

uint64_t cpu_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * SECOND + (uint64_t)used.tv_nsec;
}

void say_cpu(void)
{
	say("cpu_ns", cpu_ns());
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void sort(uint64_t *values, size_t count)
{
	qsort(values, count, sizeof(*values), compare);
}

uint64_t quantile(const uint64_t *sorted, size_t count, size_t of_1000)
{
	return count ? sorted[count * of_1000 / 1000] : 0;
}

int main(int argc, char **argv)
{
	size_t all = sizeof(commands) / sizeof(*commands);

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < all; i++) {
		if (argc < 2 || strcmp(argv[1], commands[i].name))
			continue;
		if (argc - 2 < commands[i].least || argc - 2 > commands[i].most)
			break;
		commands[i].run(argv + 2);
		if (fflush(stdout) || ferror(stdout))
			fault("standard output");
		return 0;
	}
	for (size_t i = 0; i < all; i++)
		fprintf(stderr, "usage: traffic %s %s\n", commands[i].name, commands[i].usage);
	return 2;
}
