// SPDX-License-Identifier: GPL-2.0
/* Blocks: made, bound, replaced and removed, and the way of a packet through them. */
#include <linux/idr.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>

#include "lana.h"

#define LANA_MOST_BLOCKS 65536

struct lana_subscription {
	struct list_head list;	/* of the one who hears */
	struct notifier_block notifier;
	struct lana_block *who, *whom;
};

static const struct lana_type *const lana_types[] = {
	&lana_eth, &lana_ethvlink, &lana_pflana, &lana_bpf, &lana_dummy, &lana_counter, &lana_tee,
};

unsigned int lana_net_id;

struct lana_net *lana_of(struct net *net)
{
	return net_generic(net, lana_net_id);
}

struct lana_block *lana_by_id(struct net *net, u32 id)
{
	ASSERT_RTNL();
	return idr_find(&lana_of(net)->blocks, id);
}

struct lana_block *lana_find(struct net *net, const char *name)
{
	struct lana_block *block;
	unsigned long id, tmp;

	ASSERT_RTNL();
	idr_for_each_entry_ul(&lana_of(net)->blocks, block, tmp, id)
		if (!strcmp(block->name, name))
			return block;
	return NULL;
}

/*
 * Runs a packet from a block on, up or down, until somebody takes it or nobody is
 * bound where it would go.  From softirq or a thread; takes the packet.
 */
void lana_run(struct lana_block *block, struct sk_buff *skb, unsigned int to)
{
	struct lana_run run = { .to = to };

	__skb_queue_head_init(&run.more);
	rcu_read_lock();
	for (;;) {
		struct lana_block *at = block, *next;

		this_cpu_inc(at->count->packets);
		this_cpu_add(at->count->bytes, skb->len);
		next = at->type->receive(at, skb, &run);
		if (next == LANA_TAKEN) {
			skb = __skb_dequeue(&run.more);
			if (!skb)
				break;
			block = LANA_CB(skb)->at;
			run.to = LANA_CB(skb)->to;
			continue;
		}
		if (next) {
			block = next;
			continue;
		}
		lana_dropped(at);
		kfree_skb(skb);
		skb = __skb_dequeue(&run.more);
		if (!skb)
			break;
		block = LANA_CB(skb)->at;
		run.to = LANA_CB(skb)->to;
	}
	rcu_read_unlock();
}

/* Tells a block's subscribers, and programs that listen. */
void lana_tell(struct lana_block *block, enum lana_event event)
{
	ASSERT_RTNL();
	raw_notifier_call_chain(&block->listeners, event, block);
	lana_netlink_event(block, event);
}

static int lana_heard(struct notifier_block *notifier, unsigned long event, void *from)
{
	struct lana_subscription *it = container_of(notifier, struct lana_subscription, notifier);

	it->who->heard++;
	if (it->who->type->hear)
		it->who->type->hear(it->who, from, event);
	return NOTIFY_DONE;
}

static struct lana_subscription *lana_subscribed(struct lana_block *who, struct lana_block *whom)
{
	struct lana_subscription *it;

	list_for_each_entry(it, &who->subscriptions, list)
		if (it->whom == whom)
			return it;
	return NULL;
}

int lana_subscribe(struct lana_block *who, struct lana_block *whom)
{
	struct lana_subscription *it;

	if (who == whom)
		return -EINVAL;
	if (lana_subscribed(who, whom))
		return -EEXIST;
	it = kzalloc(sizeof(*it), GFP_KERNEL);
	if (!it)
		return -ENOMEM;
	it->notifier.notifier_call = lana_heard;
	it->who = who;
	it->whom = whom;
	list_add(&it->list, &who->subscriptions);
	return raw_notifier_chain_register(&whom->listeners, &it->notifier);
}

static void lana_forget(struct lana_subscription *it)
{
	raw_notifier_chain_unregister(&it->whom->listeners, &it->notifier);
	list_del(&it->list);
	kfree(it);
}

int lana_unsubscribe(struct lana_block *who, struct lana_block *whom)
{
	struct lana_subscription *it = lana_subscribed(who, whom);

	if (!it)
		return -ENOENT;
	lana_forget(it);
	return 0;
}

static struct lana_block *lana_port(const struct lana_block *block, unsigned int port)
{
	return rtnl_dereference(block->port[port]);
}

/* What is asked for: a port that leads elsewhere, or a block in another one's place. */
struct lana_change {
	struct lana_block *lower, *upper;
	struct lana_block *old, *new;
	unsigned int port;
};

static struct lana_block *lana_would(const struct lana_change *change,
				     const struct lana_block *block, unsigned int port)
{
	if (block == change->lower && port == change->port)
		return change->upper;
	return lana_port(block, port);
}

/* From what is behind a block, which is known: what is behind it with the block itself. */
static void lana_measure(const struct lana_change *change, struct lana_block *block)
{
	const struct lana_block *up = lana_would(change, block, LANA_UP);
	const struct lana_block *side = lana_would(change, block, LANA_SIDE);
	const struct lana_block *is = block == change->old ? change->new : block;

	block->sides = max(up ? up->sides : 0, side ? side->sides + 1 : 0);
	if (is->type == &lana_tee && side)
		block->ways = min((up ? up->ways : 1) + side->ways, LANA_MOST_COPIES + 1);
	else
		block->ways = max3(up ? up->ways : 0, side ? side->ways : 0, 1U);
}

/*
 * Refuses a change with which packets would go round, or one would become too many.
 * It looks at every block once, from below, then back: no recursion, as chains are long.
 */
static int lana_check(struct net *net, const struct lana_change *change,
		      struct netlink_ext_ack *extack)
{
	static const unsigned int ports[] = { LANA_UP, LANA_SIDE };
	struct lana_block *block, *other, *ready = NULL, *done = NULL;
	struct idr *blocks = &lana_of(net)->blocks;
	unsigned int i, left = 0;
	unsigned long id, tmp;

	idr_for_each_entry_ul(blocks, block, tmp, id) {
		block->before = 0;
		left++;
	}
	idr_for_each_entry_ul(blocks, block, tmp, id)
		for (i = 0; i < ARRAY_SIZE(ports); i++) {
			other = lana_would(change, block, ports[i]);
			if (other)
				other->before++;
		}
	idr_for_each_entry_ul(blocks, block, tmp, id)
		if (!block->before) {
			block->walk = ready;
			ready = block;
		}
	while (ready) {
		block = ready;
		ready = block->walk;
		block->walk = done;
		done = block;
		left--;
		for (i = 0; i < ARRAY_SIZE(ports); i++) {
			other = lana_would(change, block, ports[i]);
			if (other && !--other->before) {
				other->walk = ready;
				ready = other;
			}
		}
	}
	if (left) {
		NL_SET_ERR_MSG(extack, "packets would go round in a circle");
		return -ELOOP;
	}
	for (block = done; block; block = block->walk) {
		lana_measure(change, block);
		if (block->sides > LANA_MOST_SIDES) {
			NL_SET_ERR_MSG(extack, "at most 8 side ways may lie behind each other");
			return -E2BIG;
		}
		if (block->ways > LANA_MOST_COPIES) {
			NL_SET_ERR_MSG(extack, "one packet would become more than 256");
			return -E2BIG;
		}
	}
	return 0;
}

static bool lana_is_bound(const struct lana_block *block)
{
	const struct lana_block *other;
	unsigned long id, tmp;
	unsigned int port;

	for (port = 0; port < LANA_PORTS; port++)
		if (lana_port(block, port))
			return true;
	idr_for_each_entry_ul(&lana_of(block->net)->blocks, other, tmp, id)
		for (port = 0; port < LANA_PORTS; port++)
			if (lana_port(other, port) == block)
				return true;
	return false;
}

/*
 * Where the old way up from a block and the new one meet, what comes down the old one
 * is to take the new one.
 */
static void lana_turn_down(struct lana_block *lower, struct lana_block *before,
			   struct lana_block *upper)
{
	struct lana_block *block, *below;
	unsigned long id, tmp;

	idr_for_each_entry_ul(&lana_of(lower->net)->blocks, block, tmp, id)
		block->walk = NULL;
	for (below = lower, block = upper; block; block = lana_port(block, LANA_UP)) {
		block->walk = below;
		below = block;
	}
	for (below = lower, block = before; block; block = lana_port(block, LANA_UP)) {
		if (block->walk) {
			if (lana_port(block, LANA_DOWN) == below)
				rcu_assign_pointer(block->port[LANA_DOWN], block->walk);
			return;
		}
		below = block;
	}
}

/* Has a port of the lower block lead to the upper one; again: whatever it led to before. */
int lana_bind(struct lana_block *lower, struct lana_block *upper, unsigned int port,
	      bool again, struct netlink_ext_ack *extack)
{
	struct lana_change change = { .lower = lower, .upper = upper, .port = port };
	struct lana_block *before = lana_port(lower, port);
	int error;

	if (port == LANA_DOWN) {
		NL_SET_ERR_MSG(extack, "the lower block is named first, so the port is up or side");
		return -EINVAL;
	}
	if (before && !again) {
		NL_SET_ERR_MSG(extack, "that port is bound already");
		return -EBUSY;
	}
	error = lana_check(lower->net, &change, extack);
	if (error)
		return error;
	if (!lana_port(upper, LANA_DOWN))
		rcu_assign_pointer(upper->port[LANA_DOWN], lower);
	if (before)
		lana_turn_down(lower, before, upper);
	rcu_assign_pointer(lower->port[port], upper);
	if (before && before != upper && lana_port(before, LANA_DOWN) == lower) {
		/* A packet may still be in it, on its way down. */
		synchronize_net();
		RCU_INIT_POINTER(before->port[LANA_DOWN], NULL);
	}
	lana_tell(lower, LANA_EVENT_BOUND);
	return 0;
}

int lana_unbind(struct lana_block *lower, struct lana_block *upper,
		struct netlink_ext_ack *extack)
{
	bool found = false;
	unsigned int port;

	for (port = 0; port < LANA_PORTS; port++)
		if (port != LANA_DOWN && lana_port(lower, port) == upper) {
			RCU_INIT_POINTER(lower->port[port], NULL);
			found = true;
		}
	if (!found) {
		NL_SET_ERR_MSG(extack, "the two are not bound in this order");
		return -ENOENT;
	}
	if (lana_port(upper, LANA_DOWN) == lower)
		RCU_INIT_POINTER(upper->port[LANA_DOWN], NULL);
	lana_tell(lower, LANA_EVENT_BOUND);
	return 0;
}

/* Puts a block that is not bound where another one is. */
int lana_replace(struct lana_block *old, struct lana_block *new, struct netlink_ext_ack *extack)
{
	struct lana_change change = { .old = old, .new = new };
	struct lana_block *other;
	unsigned long id, tmp;
	unsigned int port;
	int error;

	if (old == new || lana_is_bound(new)) {
		NL_SET_ERR_MSG(extack, "what takes the place must not be bound itself");
		return -EBUSY;
	}
	error = lana_check(old->net, &change, extack);
	if (error)
		return error;
	for (port = 0; port < LANA_PORTS; port++)
		rcu_assign_pointer(new->port[port], lana_port(old, port));
	idr_for_each_entry_ul(&lana_of(old->net)->blocks, other, tmp, id)
		for (port = 0; port < LANA_PORTS; port++)
			if (lana_port(other, port) == old)
				rcu_assign_pointer(other->port[port], new);
	/* A packet may still be in the old one, and leaves it by its ports. */
	synchronize_net();
	for (port = 0; port < LANA_PORTS; port++)
		RCU_INIT_POINTER(old->port[port], NULL);
	lana_tell(new, LANA_EVENT_BOUND);
	return 0;
}

static const struct lana_type *lana_type_named(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lana_types); i++)
		if (!strcmp(lana_types[i]->name, name))
			return lana_types[i];
	return NULL;
}

int lana_add(struct net *net, const char *type, const char *name, struct netlink_ext_ack *extack)
{
	const struct lana_type *kind = lana_type_named(type);
	struct lana_block *block;
	int error;

	if (!kind) {
		NL_SET_ERR_MSG(extack, "no such type of block");
		return -EOPNOTSUPP;
	}
	if (!*name || lana_find(net, name)) {
		NL_SET_ERR_MSG(extack, "a block needs a name of its own");
		return -EEXIST;
	}
	block = kzalloc(sizeof(*block) + kind->size, GFP_KERNEL);
	if (!block)
		return -ENOMEM;
	block->type = kind;
	block->net = net;
	strscpy(block->name, name, sizeof(block->name));
	RAW_INIT_NOTIFIER_HEAD(&block->listeners);
	INIT_LIST_HEAD(&block->subscriptions);
	block->count = alloc_percpu(struct lana_count);
	error = block->count ? 0 : -ENOMEM;
	if (!error && kind->create)
		error = kind->create(block);
	if (error)
		goto free;
	error = idr_alloc(&lana_of(net)->blocks, block, 1, LANA_MOST_BLOCKS, GFP_KERNEL);
	if (error < 0)
		goto destroy;
	block->id = error;
	return 0;

destroy:
	if (kind->destroy)
		kind->destroy(block);
free:
	free_percpu(block->count);
	kfree(block);
	return error;
}

static void lana_free(struct rcu_head *head)
{
	struct lana_block *block = container_of(head, struct lana_block, rcu);

	if (block->type->destroy)
		block->type->destroy(block);
	free_percpu(block->count);
	kfree(block);
}

/* Removes a block that nobody is bound to. */
static void lana_remove(struct lana_block *block)
{
	struct lana_subscription *it, *tmp;
	struct lana_block *other;
	unsigned long id, next;

	lana_tell(block, LANA_EVENT_GONE);
	idr_remove(&lana_of(block->net)->blocks, block->id);
	if (block->type->detach)
		block->type->detach(block);
	list_for_each_entry_safe(it, tmp, &block->subscriptions, list)
		lana_forget(it);
	idr_for_each_entry_ul(&lana_of(block->net)->blocks, other, next, id) {
		it = lana_subscribed(other, block);
		if (it)
			lana_forget(it);
	}
	call_rcu(&block->rcu, lana_free);
}

int lana_rm(struct lana_block *block, struct netlink_ext_ack *extack)
{
	if (lana_is_bound(block)) {
		NL_SET_ERR_MSG(extack, "the block is bound: unbind it first, or replace it");
		return -EBUSY;
	}
	lana_remove(block);
	return 0;
}

static int __net_init lana_net_init(struct net *net)
{
	idr_init(&lana_of(net)->blocks);
	return 0;
}

/* Removes all blocks, with packets on their way or not. */
static void __net_exit lana_net_exit(struct net *net)
{
	struct idr *blocks = &lana_of(net)->blocks;
	struct lana_block *block;
	unsigned long id, tmp;
	unsigned int port;

	rtnl_lock();
	idr_for_each_entry_ul(blocks, block, tmp, id)
		for (port = 0; port < LANA_PORTS; port++)
			RCU_INIT_POINTER(block->port[port], NULL);
	synchronize_net();
	idr_for_each_entry_ul(blocks, block, tmp, id)
		lana_remove(block);
	rtnl_unlock();
	idr_destroy(blocks);
}

static struct pernet_operations lana_net_ops = {
	.init = lana_net_init,
	.exit = lana_net_exit,
	.id = &lana_net_id,
	.size = sizeof(struct lana_net),
};

static int __init lana_init(void)
{
	int error;

	BUILD_BUG_ON(sizeof(struct lana_cb) > sizeof_field(struct sk_buff, cb));
	error = register_pernet_device(&lana_net_ops);
	if (error)
		return error;
	error = lana_eth_start();
	if (error)
		goto net;
	error = lana_pflana_start();
	if (error)
		goto eth;
	error = lana_netlink_start();
	if (error)
		goto pflana;
	return 0;

pflana:
	lana_pflana_stop();
eth:
	lana_eth_stop();
net:
	unregister_pernet_device(&lana_net_ops);
	rcu_barrier();
	return error;
}

static void __exit lana_exit(void)
{
	lana_netlink_stop();
	lana_pflana_stop();
	unregister_pernet_device(&lana_net_ops);
	lana_eth_stop();
	rcu_barrier();
}

module_init(lana_init);
module_exit(lana_exit);
MODULE_DESCRIPTION("Functional blocks of a protocol stack that changes while packets run");
MODULE_LICENSE("GPL");
