/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Route netlink for the programs of guests: requests built, sent one by one or many
 * at once, and answers read.
 */
#ifndef LINKLAB_NETLINK_H
#define LINKLAB_NETLINK_H

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* Appends an attribute to a message; the caller has the room.  Returns it, to be a nest's begin. */
struct nlattr *netlink_put(struct nlmsghdr *message, uint16_t type, const void *data, size_t len);

/* Ends a nest: all that was appended since is in it. */
void netlink_nest_end(const struct nlmsghdr *message, struct nlattr *nest);

/*
 * Finds the attributes behind a header of so many bytes, those of types below `count`; of
 * each the last, NULL where there is none.  Whatever the message says of its lengths,
 * nothing behind its end is looked at.
 */
void netlink_attributes(const struct nlmsghdr *message, size_t header,
			const struct nlattr **found, size_t count);

/* The same of the attributes in a nest. */
void netlink_nested(const struct nlattr *nest, const struct nlattr **found, size_t count);

size_t netlink_length(const struct nlattr *a);
const void *netlink_data(const struct nlattr *a);
/* A number of 32 bits; 0 where the attribute is missing or shorter. */
uint32_t netlink_u32(const struct nlattr *a);

/* Called for each message that the kernel refuses: the how manyth, its errno and words. */
typedef void refusal_visitor(size_t place, int error, const char *text, void *context);

/*
 * Sends messages that lie one behind the other, many in each send, and asks for an
 * acknowledgement of the last of each alone: the kernel answers in order, and answers what
 * it refuses without being asked.  It goes on behind a refusal.  Returns 0, or -1 with
 * errno when the socket failed, at ENOBUFS because answers were lost.
 */
int netlink_batch(int fd, void *messages, size_t len, refusal_visitor *refused, void *context);

#endif
