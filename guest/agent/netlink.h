/* SPDX-License-Identifier: GPL-2.0-only */
/* Route netlink, as far as the agent needs it: it sends what the host encoded. */
#ifndef LINKLAB_NETLINK_H
#define LINKLAB_NETLINK_H

#include <linux/netlink.h>

#include "wire.h"

/* A bound NETLINK_ROUTE socket with extended acknowledgements, or -1. */
int netlink_open(void);

/*
 * A copy of a request as the host sent it, aligned and ours to patch; NULL
 * unless its length is `len` and `flags` are all set.  The caller frees it.
 */
struct nlmsghdr *netlink_copy(const void *raw, size_t len, uint16_t flags);

/*
 * Sends one request and waits for its acknowledgement: 0, or the kernel's
 * errno; -1 with errno when the socket itself failed.  `text` takes what the
 * kernel said of the error, if anything.
 */
int netlink_request(int fd, struct nlmsghdr *request, char *text, size_t capacity);

/* Called for each message of a dump. */
typedef void dump_visitor(const struct nlmsghdr *message, void *context);

/*
 * Sends a dump request and visits each message: as netlink_request().  EINTR
 * is the answer when something changed meanwhile, and the dump is worthless.
 */
int netlink_dump(int fd, struct nlmsghdr *request, dump_visitor *visit, void *context);

/* Reads all links and forgets them. */
void discard_link_dump(void);

#endif
