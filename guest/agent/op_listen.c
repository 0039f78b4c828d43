/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Listeners: processes that subscribe to route netlink notifications, wait for
 * them and count them, as a network manager or a routing daemon does.  They
 * read while the work goes on, and where they cannot keep up the kernel drops
 * messages; it counts those itself, for each socket.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include "ops.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55 /* since Linux 4.12; asm-generic/socket.h */
#endif

#define LISTENERS_MOST 256
#define RECEIVE_ROOM 65536

struct listener {
	pid_t pid;
	int socket;
};

static struct {
	struct listener *each;
	size_t count;
	int stop;           /* closing it tells the listeners to read what is left, and end */
	uint64_t *received; /* shared with them, one number each */
} listening = { .stop = -1 };

static size_t shared_size(size_t count)
{
	return count * sizeof(uint64_t);
}

static uint64_t count_messages(const char *data, ssize_t len)
{
	uint64_t messages = 0;
	int left = (int)len;

	for (const struct nlmsghdr *h = (const void *)data; NLMSG_OK(h, left);
	     h = NLMSG_NEXT(h, left))
		messages++;
	return messages;
}

/* Reads until there is nothing; false when the socket is of no more use. */
static bool read_all(int fd, uint64_t *received)
{
	static _Alignas(struct nlmsghdr) char data[RECEIVE_ROOM];

	for (;;) {
		ssize_t got = recv(fd, data, sizeof(data), MSG_DONTWAIT);

		if (got >= 0)
			*received += count_messages(data, got);
		else if (errno == EAGAIN)
			return true;
		else if (errno != EINTR && errno != ENOBUFS) /* ENOBUFS: some were dropped */
			return false;
	}
}

static void be_listener(int fd, int ready, int stop, uint64_t *received)
{
	struct pollfd wait[] = {
		{ .fd = fd, .events = POLLIN },
		{ .fd = stop, .events = POLLIN },
	};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (write(ready, "", 1) != 1)
		_exit(1);
	close(ready); /* or the agent would wait for one that died before it was ready */
	for (;;) {
		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			_exit(1);
		if (!read_all(fd, received))
			_exit(1);
		/* What was sent before the end was told is in the queue: read it after. */
		if (wait[1].revents)
			_exit(read_all(fd, received) ? 0 : 1);
		wait[0].revents = wait[1].revents = 0;
	}
}

static int subscribed_socket(int group, int buffer)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct sockaddr_nl any = { .nl_family = AF_NETLINK };

	if (fd < 0)
		return -1;
	if ((buffer && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer))) ||
	    bind(fd, (struct sockaddr *)&any, sizeof(any)) ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group))) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

/* Ends all listeners once they have read what is left; false when one of them failed. */
static bool end_listeners(void)
{
	bool well = true;

	if (listening.stop >= 0)
		close(listening.stop);
	listening.stop = -1;
	for (size_t i = 0; i < listening.count; i++) {
		int status = 0;

		while (waitpid(listening.each[i].pid, &status, 0) < 0 && errno == EINTR)
			;
		well = well && status == 0;
	}
	return well;
}

static void forget_listeners(void)
{
	for (size_t i = 0; i < listening.count; i++)
		close(listening.each[i].socket);
	free(listening.each);
	listening.each = NULL;
	if (listening.received)
		munmap(listening.received, shared_size(LISTENERS_MOST));
	listening.received = NULL;
	listening.count = 0;
}

static bool start_listener(int group, int buffer, int ready, int stop)
{
	struct listener *l = &listening.each[listening.count];

	l->socket = subscribed_socket(group, buffer);
	if (l->socket < 0)
		return false;
	l->pid = fork();
	if (l->pid == 0) {
		close(listening.stop); /* or nobody would notice that the agent closed its own */
		be_listener(l->socket, ready, stop, &listening.received[listening.count]);
	}
	if (l->pid < 0) {
		close(l->socket);
		return false;
	}
	listening.count++;
	return true;
}

/* A listener that is still starting would do so while the clock runs. */
static bool all_ready(int ready)
{
	char byte;

	for (size_t i = 0; i < listening.count; i++)
		if (read(ready, &byte, 1) != 1)
			return false;
	return true;
}

/* Starts `count` of them; what did is in `listening`, errno says why it is not all. */
static bool start_listeners(size_t count, int group, int buffer)
{
	int stop[2], ready[2], error = 0;

	if (pipe2(stop, O_CLOEXEC))
		return false;
	listening.stop = stop[1];
	if (pipe2(ready, O_CLOEXEC)) {
		close(stop[0]);
		return false;
	}
	while (listening.count < count && start_listener(group, buffer, ready[1], stop[0]))
		;
	if (listening.count < count)
		error = errno;
	close(stop[0]);
	close(ready[1]);
	if (!error && !all_ready(ready[0]))
		error = ECHILD;
	close(ready[0]);
	errno = error;
	return !error;
}

/*
 * count, group, buffer: starts that many processes, each with a socket that is
 * subscribed to a route netlink group.  `buffer` is the receive buffer asked
 * for (0: the kernel's default; the kernel gives at most net.core.rmem_max).
 * Returns the bytes that the kernel gave.  Listeners from before are ended.
 */
enum outcome op_listen(struct reader *in, struct buffer *out, struct failure *why)
{
	uint64_t count = take_u64(in), group = take_u64(in), buffer = take_u64(in);
	int given = 0;
	socklen_t len = sizeof(given);

	if (in->bad || count < 1 || count > LISTENERS_MOST || group < 1 || group > 1024 ||
	    buffer > 1u << 30)
		return fail(why, OP_BAD_REQUEST, 0,
			    "listen: 1 to 256 listeners, a group, a buffer size expected");
	end_listeners();
	forget_listeners();
	listening.each = calloc(count, sizeof(*listening.each));
	listening.received = mmap(NULL, shared_size(LISTENERS_MOST), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!listening.each || listening.received == MAP_FAILED)
		_Exit(12);
	if (!start_listeners(count, (int)group, (int)buffer)) {
		int error = errno;

		why->index = listening.count;
		end_listeners();
		forget_listeners();
		return fail(why, OP_SYSTEM, error, "a listener");
	}
	if (getsockopt(listening.each[0].socket, SOL_SOCKET, SO_RCVBUF, &given, &len))
		return fail(why, OP_SYSTEM, errno, "SO_RCVBUF");
	put_u64(out, (uint64_t)given);
	return OP_OK;
}

/*
 * Ends the listeners when they have read what was queued for them.  Returns
 * for each how many messages it got, and how many the kernel dropped.
 */
enum outcome op_notification_counts(struct reader *in, struct buffer *out, struct failure *why)
{
	(void)in;
	if (!listening.count)
		return fail(why, OP_BAD_REQUEST, 0, "notification-counts: nobody listens");
	if (!end_listeners()) {
		forget_listeners();
		return fail(why, OP_SYSTEM, 0, "a listener ended before its time");
	}
	for (size_t i = 0; i < listening.count; i++) {
		uint32_t memory[SK_MEMINFO_VARS] = { 0 };
		socklen_t len = sizeof(memory);

		if (getsockopt(listening.each[i].socket, SOL_SOCKET, SO_MEMINFO, memory, &len)) {
			int error = errno;

			forget_listeners();
			return fail(why, OP_SYSTEM, error, "SO_MEMINFO");
		}
		put_u64(out, listening.received[i]);
		put_u64(out, memory[SK_MEMINFO_DROPS]);
	}
	forget_listeners();
	return OP_OK;
}
