/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One TCP connection that is as fast as it can be: who receives says how much
 * it got in a time, who sends what the kernel took the round trip for.
 */
#define _GNU_SOURCE /* ppoll, struct tcp_info */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000u
#define SAMPLE_EVERY 10000000u /* ns */
#define MOST_SAMPLES 100000
#define BLOCK (128 * 1024)

static char block[BLOCK];

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

/* Waits until `fd` is ready or an instant has come; true when it is ready. */
static bool await(int fd, short event, uint64_t until)
{
	struct pollfd one = { .fd = fd, .events = event };
	uint64_t now = now_ns(), left = now < until ? until - now : 0;
	struct timespec wait = {
		.tv_sec = (time_t)(left / SECOND),
		.tv_nsec = (long)(left % SECOND),
	};

	return ppoll(&one, 1, &wait, NULL) > 0;
}

static struct sockaddr_in address_of(const char *address, const char *port)
{
	struct sockaddr_in it = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)number(port)),
		.sin_addr.s_addr = inet_addr(address),
	};

	return it;
}

/*
 * PORT SECONDS: takes one connection, and reads from its first byte on for so
 * long.  Comes back as soon as somebody can connect, and goes on by itself.
 */
int receive(char **argv)
{
	struct sockaddr_in here = address_of("0.0.0.0", argv[0]);
	uint64_t until, bytes = 0;
	int one, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ssize_t got;
	pid_t child;

	if (bind(fd, (struct sockaddr *)&here, sizeof(here)) || listen(fd, 1))
		return fault("cannot listen");
	child = fork();
	if (child)
		return child < 0 ? fault("fork") : 0;
	one = accept(fd, NULL, NULL);
	if (one < 0 || !await(one, POLLIN, UINT64_MAX))
		return fault("nobody sends");
	until = now_ns() + number(argv[1]) * SECOND;
	while (await(one, POLLIN, until) && now_ns() < until) {
		got = read(one, block, sizeof(block));
		if (got <= 0)
			return fault("the sender ended too early");
		bytes += (uint64_t)got;
	}
	printf("bytes %llu\n", (unsigned long long)bytes);
	fflush(stdout); /* before the connection ends, and the sender with it */
	return 0;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void tell(uint32_t *rtt, size_t count, uint32_t again)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += rtt[i];
	qsort(rtt, count, sizeof(*rtt), compare);
	printf("rtt_samples %zu\nrtt_sum_us %llu\nrtt_median_us %u\nretransmitted %u\n", count,
	       (unsigned long long)sum, rtt[count / 2], again);
}

/*
 * ADDRESS PORT ALGORITHM SECONDS: sends until the receiver ends the connection.
 * Looks every 10 ms at the round trip time as the kernel smooths it.
 */
int send_to(char **argv)
{
	static uint32_t rtt[MOST_SAMPLES];
	struct sockaddr_in there = address_of(argv[0], argv[1]);
	struct tcp_info info = { 0 };
	size_t count = 0, most = number(argv[3]) * SECOND / SAMPLE_EVERY;
	socklen_t len;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint64_t next;

	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, argv[2], (socklen_t)strlen(argv[2])))
		return fault(argv[2]);
	if (connect(fd, (struct sockaddr *)&there, sizeof(there)))
		return fault("cannot connect");
	if (most > MOST_SAMPLES)
		most = MOST_SAMPLES;
	next = now_ns() + SAMPLE_EVERY;
	for (;;) {
		if (count < most && now_ns() >= next) {
			len = sizeof(info);
			if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
				return fault("TCP_INFO");
			rtt[count++] = info.tcpi_rtt;
			next += SAMPLE_EVERY;
		}
		if (send(fd, block, sizeof(block), MSG_DONTWAIT) >= 0)
			continue;
		if (errno == EPIPE || errno == ECONNRESET)
			break;
		if (errno != EAGAIN)
			return fault("cannot send");
		await(fd, POLLOUT, count < most ? next : UINT64_MAX);
	}
	if (!count)
		return fault("the receiver ended at once");
	tell(rtt, count, info.tcpi_total_retrans);
	return 0;
}
