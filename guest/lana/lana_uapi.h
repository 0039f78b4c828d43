/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* What the module lana and a program say to each other. */
#ifndef LANA_UAPI_H
#define LANA_UAPI_H

#include <linux/types.h>

#define LANA_FAMILY "LANA"	/* of generic netlink */
#define LANA_VERSION 1
#define LANA_EVENTS "events"	/* its multicast group */

#define LANA_NAME_MAX 16	/* bytes of a name, with the NUL */
#define LANA_VALUE_MAX 64	/* bytes of a setting's value, with the NUL */

/* The family of sockets, unless the module is told another: AF_ASH, which Linux never had. */
#define LANA_AF 18

enum lana_command {
	LANA_CMD_UNSPEC,
	LANA_CMD_ADD,		/* TYPE, NAME */
	LANA_CMD_RM,		/* NAME */
	LANA_CMD_SET,		/* NAME, KEY, VALUE or DATA */
	LANA_CMD_BIND,		/* NAME (lower), OTHER (upper), PORT; NLM_F_REPLACE rebinds */
	LANA_CMD_UNBIND,	/* NAME (lower), OTHER (upper) */
	LANA_CMD_REPLACE,	/* NAME, OTHER (takes its place) */
	LANA_CMD_SUBSCRIBE,	/* NAME (hears), OTHER (tells) */
	LANA_CMD_UNSUBSCRIBE,	/* the same */
	LANA_CMD_GET,		/* dump: each block */
	LANA_CMD_EVENT,		/* to the group: NAME, EVENT */
	LANA_CMD_COUNT,
};

enum lana_attribute {
	LANA_A_UNSPEC,
	LANA_A_NAME,		/* string */
	LANA_A_TYPE,		/* string */
	LANA_A_OTHER,		/* string */
	LANA_A_PORT,		/* u8, enum lana_port */
	LANA_A_KEY,		/* string */
	LANA_A_VALUE,		/* string */
	LANA_A_DATA,		/* struct sock_filter, several */
	LANA_A_ID,		/* u32 */
	LANA_A_UP,		/* u32, the id of who is bound there */
	LANA_A_DOWN,		/* u32 */
	LANA_A_SIDE,		/* u32 */
	LANA_A_PACKETS,		/* u64, that came to the block */
	LANA_A_BYTES,		/* u64, of these */
	LANA_A_DROPPED,		/* u64, that ended there unasked */
	LANA_A_HEARD,		/* u64, events of others */
	LANA_A_STATE,		/* nested, several: KEY and VALUE */
	LANA_A_EVENT,		/* u8, enum lana_event */
	LANA_A_PAD,
	LANA_A_COUNT,
};

#define LANA_A_MAX (LANA_A_COUNT - 1)

/* Where a block sends a packet to: who received one sends it up. */
enum lana_port {
	LANA_UP,
	LANA_DOWN,
	LANA_SIDE,	/* a tee's copy; what a filter, or a link with another tag, does not take */
	LANA_PORTS,
};

enum lana_event {
	LANA_EVENT_SET = 1,	/* a setting changed */
	LANA_EVENT_BOUND,	/* a port of the block leads elsewhere */
	LANA_EVENT_LINK_UP,
	LANA_EVENT_LINK_DOWN,
	LANA_EVENT_GONE,	/* the block is removed */
};

/*
 * What two nodes say to each other before they bind a chain, over a socket of the family: messages
 * of generic netlink's form, in the byte order of nodes that are alike.  A reply has the number of
 * what it answers.
 */
enum lana_word {
	LANA_WORD_OFFER = 1,	/* CHAIN, several, the best first */
	LANA_WORD_TAKE,		/* CHAIN: the first that is offered here, too */
	LANA_WORD_BOUND,	/* it is bound where it was offered first */
	LANA_WORD_DONE,		/* ... and here */
	LANA_WORD_NO,		/* WHY: nothing is bound, or no longer */
};

enum lana_word_attribute {
	LANA_WORD_A_CHAIN = 1,	/* string: TYPE[:KEY=VALUE]..., with + in between; - is no block */
	LANA_WORD_A_WHY,	/* string */
};

/* The address of a socket: the fb_pflana that it belongs to. */
struct sockaddr_lana {
	__kernel_sa_family_t slana_family;
	__u16 slana_zero;
	__u32 slana_block;
};

#endif
