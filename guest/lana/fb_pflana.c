// SPDX-License-Identifier: GPL-2.0
/*
 * fb_pflana ends a chain in sockets of a protocol family of its own: datagrams that come
 * up go to each socket that is bound to the block, what sockets send goes down.
 */
#include <linux/etherdevice.h>
#include <linux/module.h>
#include <linux/socket.h>
#include <net/sock.h>

#include "lana.h"

static int family = LANA_AF;
module_param(family, int, 0444);
MODULE_PARM_DESC(family, "the number of the protocol family");

struct lana_ends {
	struct hlist_head sockets;	/* changed under RTNL */
};

struct lana_sock {
	struct sock sk;	/* first */
	struct lana_block __rcu *block;
	struct hlist_node node;
};

static struct lana_sock *lana_sk(const struct sock *sk)
{
	return (struct lana_sock *)sk;
}

static struct lana_block *lana_pflana_receive(struct lana_block *block, struct sk_buff *skb,
					      struct lana_run *run)
{
	struct lana_ends *it = lana_state(block);
	struct lana_sock *end;
	bool taken = false;

	if (run->to == LANA_DOWN)
		return lana_at(block, LANA_DOWN);
	hlist_for_each_entry_rcu(end, &it->sockets, node) {
		struct sk_buff *copy = skb_clone(skb, GFP_ATOMIC);

		taken = true;
		if (!copy) {
			lana_dropped(block);
			continue;
		}
		if (sock_queue_rcv_skb(&end->sk, copy)) {
			lana_dropped(block);
			kfree_skb(copy);
		}
	}
	if (!taken)
		return NULL;
	consume_skb(skb);
	return LANA_TAKEN;
}

static void lana_sock_fail(struct lana_sock *end, int error)
{
	end->sk.sk_err = error;
	sk_error_report(&end->sk);
}

static void lana_sock_leave(struct lana_sock *end)
{
	if (rtnl_dereference(end->block)) {
		hlist_del_rcu(&end->node);
		RCU_INIT_POINTER(end->block, NULL);
	}
}

static void lana_pflana_detach(struct lana_block *block)
{
	struct lana_ends *it = lana_state(block);
	struct hlist_node *tmp;
	struct lana_sock *end;

	hlist_for_each_entry_safe(end, tmp, &it->sockets, node) {
		lana_sock_leave(end);
		lana_sock_fail(end, ENODEV);
	}
}

/* A link that goes down wakes who waits for packets from it. */
static void lana_pflana_hear(struct lana_block *block, struct lana_block *from,
			     enum lana_event event)
{
	struct lana_ends *it = lana_state(block);
	struct lana_sock *end;

	if (event != LANA_EVENT_LINK_DOWN)
		return;
	hlist_for_each_entry(end, &it->sockets, node)
		lana_sock_fail(end, ENETDOWN);
}

static int lana_pflana_show(struct lana_block *block, struct sk_buff *reply)
{
	struct lana_ends *it = lana_state(block);
	unsigned int count = 0;
	struct lana_sock *end;

	hlist_for_each_entry(end, &it->sockets, node)
		count++;
	return lana_show(reply, "sockets", "%u", count);
}

const struct lana_type lana_pflana = {
	.name = "fb_pflana",
	.size = sizeof(struct lana_ends),
	.detach = lana_pflana_detach,
	.receive = lana_pflana_receive,
	.show = lana_pflana_show,
	.hear = lana_pflana_hear,
};

static int lana_sock_release(struct socket *sock)
{
	struct sock *sk = sock->sk;

	if (!sk)
		return 0;
	rtnl_lock();
	lana_sock_leave(lana_sk(sk));
	rtnl_unlock();
	synchronize_net();	/* no packet is on its way to it any more */
	sock_orphan(sk);
	sock->sk = NULL;
	skb_queue_purge(&sk->sk_receive_queue);
	sock_put(sk);
	return 0;
}

static int lana_sock_bind(struct socket *sock, struct sockaddr *address, int length)
{
	struct sockaddr_lana *to = (struct sockaddr_lana *)address;
	struct lana_sock *end = lana_sk(sock->sk);
	struct lana_block *block;
	int error = 0;

	if (length < (int)sizeof(*to) || to->slana_family != family)
		return -EINVAL;
	rtnl_lock();
	block = lana_by_id(sock_net(sock->sk), to->slana_block);
	if (rtnl_dereference(end->block)) {
		error = -EINVAL;
	} else if (!block || block->type != &lana_pflana) {
		error = -EADDRNOTAVAIL;
	} else {
		struct lana_ends *ends = lana_state(block);

		rcu_assign_pointer(end->block, block);
		hlist_add_head_rcu(&end->node, &ends->sockets);
	}
	rtnl_unlock();
	return error;
}

static int lana_sock_send(struct socket *sock, struct msghdr *message, size_t length)
{
	struct sock *sk = sock->sk;
	struct lana_block *block;
	struct sk_buff *skb;
	int error;

	if (length > 65535)
		return -EMSGSIZE;
	if (!rcu_access_pointer(lana_sk(sk)->block))
		return -ENOTCONN;
	skb = sock_alloc_send_skb(sk, LL_MAX_HEADER + length, message->msg_flags & MSG_DONTWAIT,
				  &error);
	if (!skb)
		return error;
	skb_reserve(skb, LL_MAX_HEADER);
	error = memcpy_from_msg(skb_put(skb, length), message, length);
	if (error) {
		kfree_skb(skb);
		return error;
	}
	LANA_CB(skb)->proto = htons(LANA_ETHERTYPE);
	eth_broadcast_addr(LANA_CB(skb)->dest);
	rcu_read_lock();
	block = rcu_dereference(lana_sk(sk)->block);
	if (block)
		lana_run(block, skb, LANA_DOWN);
	rcu_read_unlock();
	if (block)
		return length;
	kfree_skb(skb);
	return -ENOTCONN;
}

static int lana_sock_receive(struct socket *sock, struct msghdr *message, size_t length, int flags)
{
	struct sock *sk = sock->sk;
	struct sk_buff *skb;
	size_t copied;
	int error;

	skb = skb_recv_datagram(sk, flags, &error);
	if (!skb)
		return error;
	copied = min_t(size_t, length, skb->len);
	if (copied < skb->len)
		message->msg_flags |= MSG_TRUNC;
	error = skb_copy_datagram_msg(skb, 0, message, copied);
	if (!error)
		error = flags & MSG_TRUNC ? skb->len : copied;
	skb_free_datagram(sk, skb);
	return error;
}

static const struct proto_ops lana_sock_ops = {
	.owner = THIS_MODULE,
	.release = lana_sock_release,
	.bind = lana_sock_bind,
	.connect = sock_no_connect,
	.socketpair = sock_no_socketpair,
	.accept = sock_no_accept,
	.getname = sock_no_getname,
	.poll = datagram_poll,
	.ioctl = sock_no_ioctl,
	.listen = sock_no_listen,
	.shutdown = sock_no_shutdown,
	.sendmsg = lana_sock_send,
	.recvmsg = lana_sock_receive,
	.mmap = sock_no_mmap,
};

static struct proto lana_proto = {
	.name = "LANA",
	.owner = THIS_MODULE,
	.obj_size = sizeof(struct lana_sock),
};

static int lana_sock_create(struct net *net, struct socket *sock, int protocol, int kern)
{
	struct sock *sk;

	if (!ns_capable(net->user_ns, CAP_NET_RAW))
		return -EPERM;
	if (sock->type != SOCK_DGRAM)
		return -ESOCKTNOSUPPORT;
	if (protocol)
		return -EPROTONOSUPPORT;
	sk = sk_alloc(net, family, GFP_KERNEL, &lana_proto, kern);
	if (!sk)
		return -ENOMEM;
	sock->ops = &lana_sock_ops;
	sock_init_data(sock, sk);
	sk->sk_family = family;
	return 0;
}

static struct net_proto_family lana_sock_family = {
	.create = lana_sock_create,
	.owner = THIS_MODULE,
};

int lana_pflana_start(void)
{
	int error = proto_register(&lana_proto, 0);

	if (error)
		return error;
	lana_sock_family.family = family;
	error = sock_register(&lana_sock_family);
	if (error)
		proto_unregister(&lana_proto);
	return error;
}

void lana_pflana_stop(void)
{
	sock_unregister(family);
	proto_unregister(&lana_proto);
}
