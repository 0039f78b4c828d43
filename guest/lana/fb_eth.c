// SPDX-License-Identifier: GPL-2.0
/*
 * fb_eth takes what an interface receives and sends what comes to it; fb_ethvlink is a
 * link of its own over Ethernet, known by its ethertype and a tag behind that.
 *
 * An fb_eth that nothing is bound to leaves packets to Linux's own stack.
 */
#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/module.h>

#include "lana.h"

struct lana_eth_state {
	struct net_device __rcu *dev;
	struct lana_engine __rcu *engine;	/* NULL: softirq */
};

static rx_handler_result_t lana_eth_handle(struct sk_buff **pskb)
{
	struct lana_block *block = rcu_dereference((*pskb)->dev->rx_handler_data);
	struct lana_eth_state *it = lana_state(block);
	struct lana_engine *engine;
	struct sk_buff *skb;

	if (!rcu_access_pointer(block->port[LANA_UP]))
		return RX_HANDLER_PASS;
	skb = skb_share_check(*pskb, GFP_ATOMIC);
	if (!skb)
		return RX_HANDLER_CONSUMED;
	LANA_CB(skb)->proto = eth_hdr(skb)->h_proto;
	ether_addr_copy(LANA_CB(skb)->dest, eth_hdr(skb)->h_dest);
	engine = rcu_dereference(it->engine);
	if (!engine || !lana_engine_queue(engine, block, skb))
		lana_run(block, skb, LANA_UP);
	return RX_HANDLER_CONSUMED;
}

/* What comes from its own interface goes up, all else out. */
static struct lana_block *lana_eth_receive(struct lana_block *block, struct sk_buff *skb,
					   struct lana_run *run)
{
	struct lana_eth_state *it = lana_state(block);
	struct net_device *dev = rcu_dereference(it->dev);

	if (run->to == LANA_UP && dev && skb->dev == dev)
		return lana_at(block, LANA_UP);
	if (!dev || !(dev->flags & IFF_UP) || skb->len > dev->mtu ||
	    skb_cow_head(skb, LL_RESERVED_SPACE(dev)))
		return NULL;
	skb->dev = dev;
	skb->protocol = LANA_CB(skb)->proto;
	skb_reset_network_header(skb);
	if (dev_hard_header(skb, dev, ntohs(skb->protocol), LANA_CB(skb)->dest, NULL,
			    skb->len) < 0)
		return NULL;
	skb_scrub_packet(skb, false);
	dev_queue_xmit(skb);
	return LANA_TAKEN;
}

static void lana_eth_unset(struct lana_block *block)
{
	struct lana_eth_state *it = lana_state(block);
	struct net_device *dev = rtnl_dereference(it->dev);

	if (!dev)
		return;
	netdev_rx_handler_unregister(dev);	/* waits for packets on their way */
	RCU_INIT_POINTER(it->dev, NULL);
}

static void lana_eth_detach(struct lana_block *block)
{
	struct lana_eth_state *it = lana_state(block);
	struct lana_engine *engine = rtnl_dereference(it->engine);

	lana_eth_unset(block);
	RCU_INIT_POINTER(it->engine, NULL);
	if (engine) {
		synchronize_net();
		lana_engine_stop(engine);
	}
}

static int lana_eth_set_dev(struct lana_block *block, const char *name,
			    struct netlink_ext_ack *extack)
{
	struct net_device *dev = __dev_get_by_name(block->net, name);
	struct lana_eth_state *it = lana_state(block);
	int error;

	if (!dev)
		return -ENODEV;
	if (dev->type != ARPHRD_ETHER || dev->flags & IFF_LOOPBACK) {
		NL_SET_ERR_MSG(extack, "an Ethernet interface is expected");
		return -EINVAL;
	}
	lana_eth_unset(block);
	error = netdev_rx_handler_register(dev, lana_eth_handle, block);
	if (error)
		NL_SET_ERR_MSG(extack, "somebody else takes this interface's packets");
	else
		rcu_assign_pointer(it->dev, dev);
	return error;
}

/* No packet is lost in between, but those that come may overtake those that wait. */
static int lana_eth_set_engine(struct lana_block *block, const char *how)
{
	struct lana_eth_state *it = lana_state(block);
	struct lana_engine *engine = lana_engine_start(how), *old;

	if (IS_ERR(engine))
		return PTR_ERR(engine);
	old = rtnl_dereference(it->engine);
	rcu_assign_pointer(it->engine, engine);
	if (old) {
		synchronize_net();
		lana_engine_stop(old);
	}
	return 0;
}

/*
 * Has an interface's NAPI wait so many microseconds from one poll to the next while
 * packets come, as a card that interrupts no more often; as sysfs does, without it.
 */
static int lana_eth_set_coalesce(struct net_device *dev, const char *value)
{
	unsigned int us;

	if (kstrtouint(value, 10, &us) || us > USEC_PER_SEC)
		return -EINVAL;
	WRITE_ONCE(dev->gro_flush_timeout, us * NSEC_PER_USEC);
	WRITE_ONCE(dev->napi_defer_hard_irqs, us ? 1 : 0);
	return 0;
}

static int lana_eth_set(struct lana_block *block, const struct lana_setting *setting,
			struct netlink_ext_ack *extack)
{
	struct lana_eth_state *it = lana_state(block);
	struct net_device *dev = rtnl_dereference(it->dev);
	bool threaded;

	if (!setting->value)
		return -EINVAL;
	if (!strcmp(setting->key, "dev"))
		return lana_eth_set_dev(block, setting->value, extack);
	if (!strcmp(setting->key, "engine"))
		return lana_eth_set_engine(block, setting->value);
	if (strcmp(setting->key, "threaded") && strcmp(setting->key, "coalesce"))
		return -ENOENT;
	if (!dev) {
		NL_SET_ERR_MSG(extack, "the block has no interface yet");
		return -ENODEV;
	}
	if (*setting->key == 'c')
		return lana_eth_set_coalesce(dev, setting->value);
	if (kstrtobool(setting->value, &threaded))
		return -EINVAL;
	return dev_set_threaded(dev, threaded);
}

static int lana_eth_show(struct lana_block *block, struct sk_buff *reply)
{
	struct lana_eth_state *it = lana_state(block);
	struct net_device *dev = rtnl_dereference(it->dev);
	struct lana_engine *engine = rtnl_dereference(it->engine);
	int error = 0;

	if (dev)
		error = lana_show(reply, "dev", "%s", dev->name) ?:
			lana_show(reply, "threaded", "%d", dev->threaded);
	if (error)
		return error;
	return engine ? lana_engine_show(engine, reply) : lana_show(reply, "engine", "softirq");
}

const struct lana_type lana_eth = {
	.name = "fb_eth",
	.size = sizeof(struct lana_eth_state),
	.detach = lana_eth_detach,
	.receive = lana_eth_receive,
	.set = lana_eth_set,
	.show = lana_eth_show,
};

static int lana_eth_event(struct notifier_block *notifier, unsigned long event, void *info)
{
	struct net_device *dev = netdev_notifier_info_to_dev(info);
	struct lana_block *block;

	if (rtnl_dereference(dev->rx_handler) != lana_eth_handle)
		return NOTIFY_DONE;
	block = rtnl_dereference(dev->rx_handler_data);
	switch (event) {
	case NETDEV_UP:
		lana_tell(block, LANA_EVENT_LINK_UP);
		break;
	case NETDEV_GOING_DOWN:
		lana_tell(block, LANA_EVENT_LINK_DOWN);
		break;
	case NETDEV_UNREGISTER:	/* it may also only leave the namespace */
		lana_eth_unset(block);
		lana_tell(block, LANA_EVENT_LINK_DOWN);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block lana_eth_notifier = { .notifier_call = lana_eth_event };

struct lana_link {
	__be16 proto, tag;
	u8 dest[ETH_ALEN];
};

static int lana_link_create(struct lana_block *block)
{
	struct lana_link *it = lana_state(block);

	it->proto = htons(LANA_ETHERTYPE);
	eth_broadcast_addr(it->dest);
	return 0;
}

static struct lana_block *lana_link_receive(struct lana_block *block, struct sk_buff *skb,
					    struct lana_run *run)
{
	struct lana_link *it = lana_state(block);
	__be16 *tag;

	if (run->to == LANA_DOWN) {
		if (skb_cow_head(skb, sizeof(*tag) + LL_MAX_HEADER))
			return NULL;
		tag = skb_push(skb, sizeof(*tag));
		*tag = READ_ONCE(it->tag);
		LANA_CB(skb)->proto = READ_ONCE(it->proto);
		ether_addr_copy(LANA_CB(skb)->dest, it->dest);
		return lana_at(block, LANA_DOWN);
	}
	if (LANA_CB(skb)->proto != READ_ONCE(it->proto) || !pskb_may_pull(skb, sizeof(*tag)))
		return lana_at(block, LANA_SIDE);
	tag = (__be16 *)skb->data;
	if (*tag != READ_ONCE(it->tag))
		return lana_at(block, LANA_SIDE);
	/* A copy may have the same bytes before it: they are left, not changed. */
	skb_pull(skb, sizeof(*tag));
	return lana_at(block, LANA_UP);
}

static int lana_link_set(struct lana_block *block, const struct lana_setting *setting,
			 struct netlink_ext_ack *extack)
{
	struct lana_link *it = lana_state(block);
	u8 dest[ETH_ALEN];
	u16 number;

	if (!setting->value)
		return -EINVAL;
	if (!strcmp(setting->key, "dest")) {
		if (!mac_pton(setting->value, dest)) {
			NL_SET_ERR_MSG(extack, "a MAC address is expected");
			return -EINVAL;
		}
		ether_addr_copy(it->dest, dest);
		return 0;
	}
	if (strcmp(setting->key, "ethertype") && strcmp(setting->key, "tag"))
		return -ENOENT;
	if (kstrtou16(setting->value, 0, &number) ||
	    (*setting->key == 'e' && number < ETH_P_802_3_MIN)) {
		NL_SET_ERR_MSG(extack, "a number of 16 bits is expected, of a protocol from 0x600");
		return -EINVAL;
	}
	if (*setting->key == 'e')
		WRITE_ONCE(it->proto, htons(number));
	else
		WRITE_ONCE(it->tag, htons(number));
	return 0;
}

static int lana_link_show(struct lana_block *block, struct sk_buff *reply)
{
	struct lana_link *it = lana_state(block);

	return lana_show(reply, "ethertype", "0x%04x", ntohs(it->proto)) ?:
	       lana_show(reply, "tag", "%u", ntohs(it->tag)) ?:
	       lana_show(reply, "dest", "%pM", it->dest);
}

const struct lana_type lana_ethvlink = {
	.name = "fb_ethvlink",
	.size = sizeof(struct lana_link),
	.create = lana_link_create,
	.receive = lana_link_receive,
	.set = lana_link_set,
	.show = lana_link_show,
};

int lana_eth_start(void)
{
	return register_netdevice_notifier(&lana_eth_notifier);
}

void lana_eth_stop(void)
{
	unregister_netdevice_notifier(&lana_eth_notifier);
}
