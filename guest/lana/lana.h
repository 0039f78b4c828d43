/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functional blocks: small pieces of protocol, bound to each other at run time.
 *
 * All configuration happens under RTNL, packets run under RCU.  A packet reads the
 * port that it leaves a block by once, so with whatever that port leads to replaced
 * it goes the old way or the new one: never both, never neither.
 */
#ifndef LANA_H
#define LANA_H

#include <linux/netdevice.h>
#include <linux/notifier.h>
#include <linux/rtnetlink.h>
#include <linux/skbuff.h>

#include "lana_uapi.h"

#define LANA_ETHERTYPE 0x88b5	/* local experimental, IEEE 802 */

#define LANA_MOST_SIDES 8	/* side ways that lie behind each other */
#define LANA_MOST_COPIES 256U	/* that one packet may become */

struct lana_block;
struct lana_engine;

/* What travels with a packet, in skb->cb. */
struct lana_cb {
	struct lana_block *at;	/* the block that has it next, while it waits */
	__be16 proto;		/* how it is addressed once it leaves by Ethernet */
	u8 dest[ETH_ALEN];
	u8 to;			/* enum lana_port, up or down */
};

#define LANA_CB(skb) ((struct lana_cb *)(skb)->cb)

/* A packet's way: what blocks add to it is run when it is over. */
struct lana_run {
	u8 to;
	unsigned int copies;	/* made so far */
	struct sk_buff_head more;
};

/* A packet that a block keeps, sends or frees is taken: it has no next block. */
#define LANA_TAKEN ((struct lana_block *)ERR_PTR(-EINPROGRESS))

struct lana_setting {
	const char *key, *value;	/* no value where there is data */
	const void *data;
	size_t length;
};

/* A kind of block.  All but receive may be left out and are called under RTNL. */
struct lana_type {
	const char *name;
	size_t size;	/* of the block's own state */
	int (*create)(struct lana_block *block);
	/* Ends what brings packets to it; may sleep.  Other blocks know it no more. */
	void (*detach)(struct lana_block *block);
	/* Frees its state, after a grace period. */
	void (*destroy)(struct lana_block *block);
	/* Under RCU: returns who has the packet next, NULL for nobody, or LANA_TAKEN. */
	struct lana_block *(*receive)(struct lana_block *block, struct sk_buff *skb,
				      struct lana_run *run);
	int (*set)(struct lana_block *block, const struct lana_setting *setting,
		   struct netlink_ext_ack *extack);
	/* Tells its state, by lana_show(). */
	int (*show)(struct lana_block *block, struct sk_buff *reply);
	void (*hear)(struct lana_block *block, struct lana_block *from, enum lana_event event);
};

struct lana_count {
	unsigned long packets, bytes, dropped;
};

struct lana_block {
	struct lana_block __rcu *port[LANA_PORTS];
	const struct lana_type *type;
	struct lana_count __percpu *count;
	struct net *net;
	u32 id;
	char name[LANA_NAME_MAX];
	u64 heard;
	struct raw_notifier_head listeners;
	struct list_head subscriptions;
	struct rcu_head rcu;
	/* Of lana_check() and lana_bind(), while they look: */
	struct lana_block *walk;
	unsigned int before;	/* ports that lead here from blocks not yet seen */
	unsigned int sides, ways;	/* behind it; what one packet may become */
	u8 state[] __aligned(8);
};

static inline void *lana_state(struct lana_block *block)
{
	return block->state;
}

static inline struct lana_block *lana_at(const struct lana_block *block, unsigned int port)
{
	return rcu_dereference(block->port[port]);
}

static inline void lana_dropped(struct lana_block *block)
{
	this_cpu_inc(block->count->dropped);
}

extern const struct lana_type lana_eth, lana_ethvlink, lana_pflana;
extern const struct lana_type lana_bpf, lana_dummy, lana_counter, lana_tee;

/* core.c */
extern unsigned int lana_net_id;
struct lana_net {
	struct idr blocks;
};

struct lana_net *lana_of(struct net *net);
struct lana_block *lana_find(struct net *net, const char *name);
struct lana_block *lana_by_id(struct net *net, u32 id);
void lana_run(struct lana_block *block, struct sk_buff *skb, unsigned int to);
void lana_tell(struct lana_block *block, enum lana_event event);
int lana_add(struct net *net, const char *type, const char *name, struct netlink_ext_ack *extack);
int lana_rm(struct lana_block *block, struct netlink_ext_ack *extack);
int lana_bind(struct lana_block *lower, struct lana_block *upper, unsigned int port,
	      bool again, struct netlink_ext_ack *extack);
int lana_unbind(struct lana_block *lower, struct lana_block *upper,
		struct netlink_ext_ack *extack);
int lana_replace(struct lana_block *old, struct lana_block *new, struct netlink_ext_ack *extack);
int lana_subscribe(struct lana_block *who, struct lana_block *whom);
int lana_unsubscribe(struct lana_block *who, struct lana_block *whom);

/* engine.c: threads that run packets in softirq's place, one on each CPU. */
struct lana_engine *lana_engine_start(const char *how);
void lana_engine_stop(struct lana_engine *engine);	/* runs what still waits */
bool lana_engine_queue(struct lana_engine *engine, struct lana_block *block, struct sk_buff *skb);
int lana_engine_show(struct lana_engine *engine, struct sk_buff *reply);

/* netlink.c */
int lana_netlink_start(void);
void lana_netlink_stop(void);
void lana_netlink_event(struct lana_block *block, enum lana_event event);
__printf(3, 4) int lana_show(struct sk_buff *reply, const char *key, const char *format, ...);

/* fb_eth.c, fb_pflana.c */
int lana_eth_start(void);
void lana_eth_stop(void);
int lana_pflana_start(void);
void lana_pflana_stop(void);

#endif
