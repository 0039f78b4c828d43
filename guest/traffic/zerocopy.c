/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A stream of sends of one size, whose bytes the kernel copies or takes from where they
 * are (Documentation/networking/msg_zerocopy.rst; Linux 4.14), and what it says of each.
 */
#define _GNU_SOURCE
#include "traffic.h"

#include <errno.h>
#include <time.h> /* before the next, which uses it */

#include <linux/errqueue.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif
#ifndef MSG_ZEROCOPY
#define MSG_ZEROCOPY 0x4000000
#endif

#define REPEATS 65536	   /* bytes after which a stream's do */
#define MOST_SIZE (1u << 20) /* bytes of a send */
#define MOST_SENDS (1u << 24)
#define READ_EVERY 16 /* sends: who asks after each one pays for a call that mostly finds nothing */

static uint8_t done[MOST_SENDS / 8]; /* a bit for each send, in the order in which they were made */
static uint64_t sends, completed, copied, twice, unknown, notifications;

/* Puts down that the sends of a range, ends included, are done with. */
static void complete(const struct sock_extended_err *told)
{
	bool was_copied = told->ee_code & SO_EE_CODE_ZEROCOPY_COPIED;

	notifications++;
	for (uint64_t i = told->ee_info; i <= told->ee_data; i++) {
		if (i >= sends) {
			unknown++;
			return;
		}
		if (done[i / 8] & 1u << i % 8) {
			twice++;
			continue;
		}
		done[i / 8] |= (uint8_t)(1u << i % 8);
		completed++;
		copied += was_copied;
	}
}

/* Reads all that the error queue holds. */
static void read_completions(int fd)
{
	char space[CMSG_SPACE(sizeof(struct sock_extended_err) + sizeof(union address))];

	for (;;) {
		struct msghdr head = { .msg_control = space, .msg_controllen = sizeof(space) };
		const struct sock_extended_err *told;
		struct cmsghdr *part;

		if (recvmsg(fd, &head, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
			if (errno == EAGAIN)
				return;
			fault("the error queue");
		}
		part = CMSG_FIRSTHDR(&head);
		if (!part || (part->cmsg_level != IPPROTO_IP && part->cmsg_level != IPPROTO_IPV6))
			continue;
		told = (const struct sock_extended_err *)CMSG_DATA(part);
		if (told->ee_origin == SO_EE_ORIGIN_ZEROCOPY && !told->ee_errno)
			complete(told);
	}
}

/* Waits until the error queue holds something, and reads it; false where nothing comes. */
static bool await_completions(int fd)
{
	struct pollfd it = { .fd = fd }; /* POLLERR comes unasked */

	if (poll(&it, 1, (int)(PATIENCE / MILLISECOND)) < 1)
		return false;
	read_completions(fd);
	return true;
}

static void send_once(int fd, const unsigned char *bytes, size_t size, int flags)
{
	for (size_t sent = 0; sent < size;) {
		ssize_t got = send(fd, bytes + sent, size - sent, flags);

		if (got >= 0) {
			sent += (size_t)got;
			sends++;
			continue;
		}
		/* What is not done with takes of what a socket may have beside its data. */
		if (errno != ENOBUFS || !flags || !await_completions(fd))
			fault("cannot send");
	}
}

/* The stream's bytes from any offset within a period on, as many as a send has. */
static unsigned char *made_buffer(size_t size)
{
	unsigned char *buffer = aligned_alloc(REPEATS, REPEATS + (size + REPEATS - 1) / REPEATS * REPEATS);

	if (!buffer)
		fault("no memory");
	pattern_make();
	for (size_t at = 0; at < REPEATS + size; at += REPEATS)
		memcpy(buffer + at, pattern_at(0), REPEATS);
	return buffer;
}

/*
 * ADDRESS PORT BYTES SIZE copy|zerocopy: sends so many bytes, SIZE at a time, over one
 * connection.  Says how many sends that took, which of them the kernel says it is done
 * with, how many of those it copied after all, and the CPU time from the first send until
 * it was done with the last one.
 */
void stream(char **argv)
{
	union address to = address_of(argv[0], argv[1]);
	uint64_t bytes = number(argv[2], 1, UINT64_MAX), sent = 0, began, spent;
	size_t size = (size_t)number(argv[3], 1, MOST_SIZE);
	int fd = open_socket(to.any.sa_family, IPPROTO_TCP, 0), on = 1, flags = 0;
	unsigned char *buffer = made_buffer(size);
	char byte;

	if (!strcmp(argv[4], "zerocopy")) {
		flags = MSG_ZEROCOPY;
	} else if (strcmp(argv[4], "copy")) {
		fprintf(stderr, "traffic: %s: copy or zerocopy is expected\n", argv[4]);
		exit(2);
	}
	if (flags && bytes / size >= MOST_SENDS / 2) {
		fprintf(stderr, "traffic: %s bytes are too many sends of %zu\n", argv[2], size);
		exit(2);
	}
	if (flags && setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)))
		fault("SO_ZEROCOPY");
	if (connect(fd, &to.any, address_length(&to)))
		fault("cannot connect");
	began = now_ns();
	spent = cpu_ns();
	for (uint64_t turn = 1; sent < bytes; turn++) {
		size_t many = bytes - sent < size ? (size_t)(bytes - sent) : size;

		send_once(fd, buffer + sent % REPEATS, many, flags);
		sent += many;
		if (flags && turn % READ_EVERY == 0)
			read_completions(fd);
	}
	while (flags && completed + unknown < sends && await_completions(fd))
		continue;
	spent = cpu_ns() - spent;
	/* The receiver ends it, when it has all. */
	if (shutdown(fd, SHUT_WR) || read(fd, &byte, 1) < 0)
		fault("the receiver");
	if (flags)
		read_completions(fd);
	say("sent", sent);
	say("began", began);
	say("ended", now_ns());
	say("sends", sends);
	say("completed", completed);
	say("copied", copied);
	say("twice", twice);
	say("unknown", unknown);
	say("notifications", notifications);
	say("stream_cpu_ns", spent);
}
