/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What all who send or receive stand on: addresses, sockets, the clock, and the
 * bytes of a stream.
 */
#define _GNU_SOURCE
#include "traffic.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PERIOD 65536 /* bytes, after which a stream repeats itself */
#define EPOLL_PWAIT2 441 /* of x86-64: waits for nanoseconds; Linux 5.11 */
#define ROOM (16 << 20) /* bytes of datagrams: what is lost is lost on the way, not in the socket */

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

union address address_of(const char *text, const char *port)
{
	union address it;
	in_port_t number_of_port = htons((uint16_t)number(port, 1, 65535));

	memset(&it, 0, sizeof(it));
	if (inet_pton(AF_INET, text, &it.four.sin_addr) == 1) {
		it.four.sin_family = AF_INET;
		it.four.sin_port = number_of_port;
	} else if (inet_pton(AF_INET6, text, &it.six.sin6_addr) == 1) {
		it.six.sin6_family = AF_INET6;
		it.six.sin6_port = number_of_port;
	} else {
		fprintf(stderr, "traffic: %s: an address is expected\n", text);
		exit(2);
	}
	return it;
}

/* The address so many steps on; of IPv6 the last 32 bits alone count. */
union address address_after(union address base, uint32_t steps)
{
	unsigned char *last = base.any.sa_family == AF_INET ?
				      (unsigned char *)&base.four.sin_addr :
				      base.six.sin6_addr.s6_addr + 12;
	uint32_t value;

	memcpy(&value, last, sizeof(value));
	value = htonl(ntohl(value) + steps);
	memcpy(last, &value, sizeof(value));
	return base;
}

socklen_t address_length(const union address *address)
{
	return address->any.sa_family == AF_INET ? sizeof(address->four) : sizeof(address->six);
}

int socket_type(int kind)
{
	return kind == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM;
}

static int try_socket(int family, int kind, int flags)
{
	static bool asked;
	struct rlimit files;
	int fd;

	/* A descriptor for each flow. */
	if (!asked && !getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	asked = true;
	fd = socket(family, socket_type(kind) | SOCK_CLOEXEC | flags, kind);
	/* Where net.mptcp.enabled is 0 applications take TCP (Documentation/networking/mptcp.rst). */
	if (fd < 0 && kind == PROTOCOL_MPTCP && errno == ENOPROTOOPT)
		fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, IPPROTO_TCP);
	return fd;
}

int open_socket(int family, int kind, int flags)
{
	int fd = try_socket(family, kind, flags);

	if (fd < 0)
		fault("no socket");
	return fd;
}

int listen_at(int kind, const char *port, int backlog, int flags)
{
	int off = 0, on = 1, room = ROOM, fd = try_socket(AF_INET6, kind, flags);
	union address here = address_of(fd < 0 ? "0.0.0.0" : "::", port);

	if (fd < 0 && errno == EAFNOSUPPORT)
		fd = try_socket(AF_INET, kind, flags);
	if (fd < 0)
		fault("no socket");
	if (here.any.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (kind != IPPROTO_UDP)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	else if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (bind(fd, &here.any, address_length(&here)) ||
	    (kind != IPPROTO_UDP && listen(fd, backlog)))
		fault("cannot listen");
	return fd;
}

size_t wait_ready(int epoll, struct epoll_event *ready, uint64_t until)
{
	struct pollfd it = { .fd = epoll, .events = POLLIN };
	uint64_t now = until == UINT64_MAX ? 0 : now_ns(), left = now < until ? until - now : 0;
	struct timespec wait = {
		.tv_sec = (time_t)(left / SECOND),
		.tv_nsec = (long)(left % SECOND),
	};
	struct timespec *limit = until == UINT64_MAX ? NULL : &wait;
	int count = (int)syscall(EPOLL_PWAIT2, epoll, ready, EVENTS, limit, NULL, 0);

	if (count < 0 && errno == ENOSYS && ppoll(&it, 1, limit, NULL) > 0)
		count = epoll_wait(epoll, ready, EVENTS, 0);
	return count > 0 ? (size_t)count : 0;
}

void watch(int epoll, int operation, int fd, uint32_t events, uint32_t data)
{
	struct epoll_event event = { .events = events, .data.u32 = data };

	if (epoll_ctl(epoll, operation, fd, &event))
		fault("epoll");
}

static unsigned char pattern[PERIOD + CHUNK];

void pattern_make(void)
{
	uint64_t value = 0;

	for (size_t i = 0; i < PERIOD; i += sizeof(value)) {
		value = value * UINT64_C(6364136223846793005) + 1442695040888963407; /* Knuth, MMIX */
		memcpy(pattern + i, &value, sizeof(value));
	}
	for (size_t at = PERIOD; at < sizeof(pattern); at += PERIOD)
		memcpy(pattern + at, pattern, PERIOD);
}

const unsigned char *pattern_at(uint64_t offset)
{
	return pattern + offset % PERIOD;
}

/* Sixteen bytes anywhere: musl's memcmp takes one at a time, which costs more than reading does. */
typedef uint64_t sixteen __attribute__((vector_size(16), aligned(1), may_alias));

bool pattern_is(const unsigned char *bytes, uint64_t offset, size_t length)
{
	const unsigned char *right = pattern_at(offset), *end = bytes + length / 64 * 64;
	sixteen differ = { 0, 0 };

	for (; bytes < end; bytes += 64, right += 64) {
		const sixteen *a = (const sixteen *)bytes, *b = (const sixteen *)right;

		differ |= (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]);
	}
	return !(differ[0] | differ[1]) && !memcmp(bytes, right, length % 64);
}
