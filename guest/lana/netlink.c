// SPDX-License-Identifier: GPL-2.0
/* Configuration by generic netlink; RTNL is the lock of all of it. */
#include <linux/filter.h>
#include <linux/module.h>
#include <net/genetlink.h>
#include <net/sock.h>

#include "lana.h"

static struct genl_family lana_family;
static bool lana_speaks;	/* under RTNL */

static const struct nla_policy lana_policy[LANA_A_MAX + 1] = {
	[LANA_A_NAME] = { .type = NLA_NUL_STRING, .len = LANA_NAME_MAX - 1 },
	[LANA_A_TYPE] = { .type = NLA_NUL_STRING, .len = LANA_NAME_MAX - 1 },
	[LANA_A_OTHER] = { .type = NLA_NUL_STRING, .len = LANA_NAME_MAX - 1 },
	[LANA_A_PORT] = NLA_POLICY_MAX(NLA_U8, LANA_PORTS - 1),
	[LANA_A_KEY] = { .type = NLA_NUL_STRING, .len = LANA_VALUE_MAX - 1 },
	[LANA_A_VALUE] = { .type = NLA_NUL_STRING, .len = LANA_VALUE_MAX - 1 },
	[LANA_A_DATA] = { .type = NLA_BINARY, .len = BPF_MAXINSNS * sizeof(struct sock_filter) },
};

static struct lana_block *lana_named(struct genl_info *info, int attribute)
{
	struct lana_block *block;

	if (GENL_REQ_ATTR_CHECK(info, attribute))
		return ERR_PTR(-EINVAL);
	block = lana_find(genl_info_net(info), nla_data(info->attrs[attribute]));
	if (!block) {
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[attribute], "no block of this name");
		return ERR_PTR(-ENODEV);
	}
	return block;
}

static int lana_do_add(struct genl_info *info)
{
	if (GENL_REQ_ATTR_CHECK(info, LANA_A_TYPE) || GENL_REQ_ATTR_CHECK(info, LANA_A_NAME))
		return -EINVAL;
	return lana_add(genl_info_net(info), nla_data(info->attrs[LANA_A_TYPE]),
			nla_data(info->attrs[LANA_A_NAME]), info->extack);
}

static int lana_do_set(struct lana_block *block, struct genl_info *info)
{
	struct lana_setting setting = {};
	int error;

	if (GENL_REQ_ATTR_CHECK(info, LANA_A_KEY))
		return -EINVAL;
	setting.key = nla_data(info->attrs[LANA_A_KEY]);
	if (info->attrs[LANA_A_DATA]) {
		setting.data = nla_data(info->attrs[LANA_A_DATA]);
		setting.length = nla_len(info->attrs[LANA_A_DATA]);
	} else {
		if (GENL_REQ_ATTR_CHECK(info, LANA_A_VALUE))
			return -EINVAL;
		setting.value = nla_data(info->attrs[LANA_A_VALUE]);
	}
	error = block->type->set ? block->type->set(block, &setting, info->extack) : -ENOENT;
	if (error == -ENOENT)
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[LANA_A_KEY],
				    "a block of this type has no such setting");
	if (!error)
		lana_tell(block, LANA_EVENT_SET);
	return error;
}

static int lana_do_bind(struct lana_block *lower, struct lana_block *upper,
			struct genl_info *info)
{
	struct nlattr *port = info->attrs[LANA_A_PORT];

	return lana_bind(lower, upper, port ? nla_get_u8(port) : LANA_UP,
			 info->nlhdr->nlmsg_flags & NLM_F_REPLACE, info->extack);
}

static int lana_do_two(struct lana_block *block, struct genl_info *info)
{
	struct lana_block *other = lana_named(info, LANA_A_OTHER);

	if (IS_ERR(other))
		return PTR_ERR(other);
	switch (info->genlhdr->cmd) {
	case LANA_CMD_BIND:
		return lana_do_bind(block, other, info);
	case LANA_CMD_UNBIND:
		return lana_unbind(block, other, info->extack);
	case LANA_CMD_REPLACE:
		return lana_replace(block, other, info->extack);
	case LANA_CMD_SUBSCRIBE:
		return lana_subscribe(block, other);
	default:
		return lana_unsubscribe(block, other);
	}
}

static int lana_do_one(struct genl_info *info)
{
	struct lana_block *block = lana_named(info, LANA_A_NAME);

	if (IS_ERR(block))
		return PTR_ERR(block);
	if (info->genlhdr->cmd == LANA_CMD_RM)
		return lana_rm(block, info->extack);
	if (info->genlhdr->cmd == LANA_CMD_SET)
		return lana_do_set(block, info);
	return lana_do_two(block, info);
}

static int lana_doit(struct sk_buff *skb, struct genl_info *info)
{
	int error;

	rtnl_lock();
	error = info->genlhdr->cmd == LANA_CMD_ADD ? lana_do_add(info) : lana_do_one(info);
	rtnl_unlock();
	return error;
}

/* Adds a line of a block's state to a reply. */
int lana_show(struct sk_buff *reply, const char *key, const char *format, ...)
{
	char value[LANA_VALUE_MAX];
	struct nlattr *nest;
	va_list args;

	va_start(args, format);
	vscnprintf(value, sizeof(value), format, args);
	va_end(args);
	nest = nla_nest_start(reply, LANA_A_STATE);
	if (!nest || nla_put_string(reply, LANA_A_KEY, key) ||
	    nla_put_string(reply, LANA_A_VALUE, value))
		return -EMSGSIZE;
	nla_nest_end(reply, nest);
	return 0;
}

static struct lana_count lana_counted(const struct lana_block *block)
{
	struct lana_count sum = {};
	int cpu;

	for_each_possible_cpu(cpu) {
		const struct lana_count *count = per_cpu_ptr(block->count, cpu);

		sum.packets += READ_ONCE(count->packets);
		sum.bytes += READ_ONCE(count->bytes);
		sum.dropped += READ_ONCE(count->dropped);
	}
	return sum;
}

static int lana_put(struct sk_buff *reply, struct lana_block *block)
{
	static const int attributes[] = { LANA_A_UP, LANA_A_DOWN, LANA_A_SIDE };
	struct lana_count count = lana_counted(block);
	unsigned int port;

	if (nla_put_u32(reply, LANA_A_ID, block->id) ||
	    nla_put_string(reply, LANA_A_NAME, block->name) ||
	    nla_put_string(reply, LANA_A_TYPE, block->type->name) ||
	    nla_put_u64_64bit(reply, LANA_A_PACKETS, count.packets, LANA_A_PAD) ||
	    nla_put_u64_64bit(reply, LANA_A_BYTES, count.bytes, LANA_A_PAD) ||
	    nla_put_u64_64bit(reply, LANA_A_DROPPED, count.dropped, LANA_A_PAD) ||
	    nla_put_u64_64bit(reply, LANA_A_HEARD, block->heard, LANA_A_PAD))
		return -EMSGSIZE;
	for (port = 0; port < LANA_PORTS; port++) {
		struct lana_block *other = rtnl_dereference(block->port[port]);

		if (other && nla_put_u32(reply, attributes[port], other->id))
			return -EMSGSIZE;
	}
	return block->type->show ? block->type->show(block, reply) : 0;
}

static int lana_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct idr *blocks = &lana_of(sock_net(skb->sk))->blocks;
	struct lana_block *block;
	unsigned long id = cb->args[0], tmp;
	void *head;

	rtnl_lock();
	idr_for_each_entry_continue_ul(blocks, block, tmp, id) {
		head = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq,
				   &lana_family, NLM_F_MULTI, LANA_CMD_GET);
		if (!head)
			break;
		if (lana_put(skb, block)) {
			genlmsg_cancel(skb, head);
			break;
		}
		genlmsg_end(skb, head);
		cb->args[0] = id + 1;
	}
	rtnl_unlock();
	return skb->len;
}

/* Engines may be threads of real-time priority, so this is for the machine's root alone. */
static const struct genl_ops lana_ops[] = {
	{ .cmd = LANA_CMD_ADD, .doit = lana_doit, .flags = GENL_ADMIN_PERM },
	{ .cmd = LANA_CMD_RM, .doit = lana_doit, .flags = GENL_ADMIN_PERM },
	{ .cmd = LANA_CMD_SET, .doit = lana_doit, .flags = GENL_ADMIN_PERM },
	{ .cmd = LANA_CMD_BIND, .doit = lana_doit, .flags = GENL_ADMIN_PERM },
	{ .cmd = LANA_CMD_UNBIND, .doit = lana_doit, .flags = GENL_ADMIN_PERM },
	{ .cmd = LANA_CMD_REPLACE, .doit = lana_doit, .flags = GENL_ADMIN_PERM },
	{ .cmd = LANA_CMD_SUBSCRIBE, .doit = lana_doit, .flags = GENL_ADMIN_PERM },
	{ .cmd = LANA_CMD_UNSUBSCRIBE, .doit = lana_doit, .flags = GENL_ADMIN_PERM },
	{ .cmd = LANA_CMD_GET, .dumpit = lana_dump },
};

static const struct genl_multicast_group lana_groups[] = {
	{ .name = LANA_EVENTS },
};

static struct genl_family lana_family __ro_after_init = {
	.name = LANA_FAMILY,
	.version = LANA_VERSION,
	.maxattr = LANA_A_MAX,
	.policy = lana_policy,
	.netnsok = true,
	.parallel_ops = true,
	.module = THIS_MODULE,
	.ops = lana_ops,
	.n_ops = ARRAY_SIZE(lana_ops),
	.mcgrps = lana_groups,
	.n_mcgrps = ARRAY_SIZE(lana_groups),
	.resv_start_op = LANA_CMD_COUNT,
};

void lana_netlink_event(struct lana_block *block, enum lana_event event)
{
	struct sk_buff *skb;
	void *head;

	if (!lana_speaks || !genl_has_listeners(&lana_family, block->net, 0))
		return;
	skb = genlmsg_new(NLMSG_GOODSIZE, GFP_KERNEL);
	if (!skb)
		return;
	head = genlmsg_put(skb, 0, 0, &lana_family, 0, LANA_CMD_EVENT);
	if (!head || nla_put_string(skb, LANA_A_NAME, block->name) ||
	    nla_put_u8(skb, LANA_A_EVENT, event)) {
		nlmsg_free(skb);
		return;
	}
	genlmsg_end(skb, head);
	genlmsg_multicast_netns(&lana_family, block->net, skb, 0, 0, GFP_KERNEL);
}

int lana_netlink_start(void)
{
	int error = genl_register_family(&lana_family);

	if (!error) {
		rtnl_lock();
		lana_speaks = true;
		rtnl_unlock();
	}
	return error;
}

void lana_netlink_stop(void)
{
	rtnl_lock();
	lana_speaks = false;
	rtnl_unlock();
	genl_unregister_family(&lana_family);
}
