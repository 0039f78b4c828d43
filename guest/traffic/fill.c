/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sets of addresses and a switch, filled through netlink as their tools would do it
 * (ipset, nft, ovs-dpctl): an image needs none of them, and 100,000 addresses are one
 * batch that the kernel takes at once, where a tool first reads as many words.
 */
#include "traffic.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netfilter.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/openvswitch.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT_ONCE 1024 /* addresses in a message: an attribute has at most 64 KB */
#define OF_ADDRESS 48 /* bytes, at most */
#define ROOM(addresses) (65536 + (size_t)(addresses) * OF_ADDRESS)
#define REVISION 0 /* of ipset's types: all that these sets need */
#define TRACKED 1 /* what Open vSwitch calls a packet again that it has tracked */

/* Messages in the making, one behind the other. */
static struct {
	char *bytes;
	size_t room, length;
	struct nlmsghdr *last;
} batch;

static void *append(size_t length)
{
	char *at = batch.bytes + batch.length;

	if (batch.length + NLMSG_ALIGN(length) > batch.room) {
		errno = ENOBUFS;
		fault("a message of netlink");
	}
	memset(at, 0, NLMSG_ALIGN(length));
	batch.length += NLMSG_ALIGN(length);
	if (batch.last)
		batch.last->nlmsg_len = (uint32_t)(batch.bytes + batch.length - (char *)batch.last);
	return at;
}

static void start_batch(size_t room)
{
	free(batch.bytes);
	batch.bytes = malloc(room);
	batch.room = room;
	batch.length = 0;
	batch.last = NULL;
	if (!batch.bytes)
		fault("no memory");
}

/* A message with the header of its family behind netlink's own. */
static void begin(uint16_t type, uint16_t flags, const void *header, size_t length)
{
	batch.last = NULL;
	batch.last = append(NLMSG_HDRLEN);
	batch.last->nlmsg_type = type;
	batch.last->nlmsg_flags = NLM_F_REQUEST | flags;
	batch.last->nlmsg_len = NLMSG_HDRLEN;
	memcpy(append(length), header, length);
}

static struct nlattr *put(int type, const void *content, size_t length)
{
	struct nlattr *it = append(NLA_HDRLEN + length);

	it->nla_type = (uint16_t)type;
	it->nla_len = (uint16_t)(NLA_HDRLEN + length);
	if (length)
		memcpy((char *)it + NLA_HDRLEN, content, length);
	return it;
}

static void put_text(int type, const char *text)
{
	put(type, text, strlen(text) + 1);
}

static void put_byte(int type, uint8_t value)
{
	put(type, &value, sizeof(value));
}

static void put_word(int type, uint32_t value)
{
	put(type, &value, sizeof(value));
}

static struct nlattr *nest(int type)
{
	return put(NLA_F_NESTED | type, NULL, 0);
}

static void end(struct nlattr *nest)
{
	nest->nla_len = (uint16_t)(batch.bytes + batch.length - (char *)nest);
}

/*
 * Sends all messages at once; the last one, or the one that `acknowledged` is, says that
 * they were done.  Returns the first answer that is none of that: of a question, else NULL.
 */
static struct nlmsghdr *send_batch(int protocol, struct nlmsghdr *acknowledged, const char *what)
{
	static union {
		struct nlmsghdr head;
		char bytes[32768];
	} answer;
	int room = (int)(2 * batch.length) + 65536, got;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	acknowledged->nlmsg_flags |= NLM_F_ACK;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) ||
	    send(fd, batch.bytes, batch.length, 0) < 0)
		fault(what);
	got = (int)recv(fd, &answer, sizeof(answer), 0);
	close(fd);
	if (got < (int)NLMSG_HDRLEN)
		fault(what);
	if (answer.head.nlmsg_type != NLMSG_ERROR)
		return &answer.head;
	errno = -((struct nlmsgerr *)NLMSG_DATA(&answer.head))->error;
	if (errno)
		fault(what);
	return NULL;
}

static uint32_t *addresses_of(const char *path, size_t *count)
{
	uint32_t *addresses = (uint32_t *)content_of(path, count);

	*count /= sizeof(*addresses);
	for (size_t i = 0; i < *count; i++)
		addresses[i] = htonl(addresses[i]);
	return addresses;
}

/* Which of two words it is; ends the program at any other one. */
static bool is_second(const char *text, const char *first, const char *second)
{
	if (strcmp(text, first) && strcmp(text, second)) {
		fprintf(stderr, "traffic: %s: %s or %s is expected\n", text, first, second);
		exit(2);
	}
	return !strcmp(text, second);
}

static void begin_nf(uint8_t subsystem, uint8_t command, uint16_t flags)
{
	struct nfgenmsg head = { .nfgen_family = AF_INET };

	begin((uint16_t)(subsystem << 8 | command), flags, &head, sizeof(head));
}

static void begin_ipset(uint8_t command, uint16_t flags, const char *name)
{
	begin_nf(NFNL_SUBSYS_IPSET, command, flags);
	put_byte(IPSET_ATTR_PROTOCOL, IPSET_PROTOCOL);
	put_text(IPSET_ATTR_SETNAME, name);
}

/* NAME TYPE FILE: a new set of ipset with the addresses in a file. */
void fill_ipset(char **argv)
{
	bool networks = is_second(argv[1], "hash:ip", "hash:net");
	size_t count;
	uint32_t *addresses = addresses_of(argv[2], &count);
	struct nlattr *data;

	start_batch(ROOM(count));
	begin_ipset(IPSET_CMD_CREATE, NLM_F_CREATE | NLM_F_EXCL, argv[0]);
	put_text(IPSET_ATTR_TYPENAME, argv[1]);
	put_byte(IPSET_ATTR_REVISION, REVISION);
	put_byte(IPSET_ATTR_FAMILY, AF_INET);
	data = nest(IPSET_ATTR_DATA);
	put_word(NLA_F_NET_BYTEORDER | IPSET_ATTR_HASHSIZE, htonl((uint32_t)count));
	put_word(NLA_F_NET_BYTEORDER | IPSET_ATTR_MAXELEM, htonl((uint32_t)count));
	end(data);
	for (size_t i = 0; i < count; i += AT_ONCE) {
		struct nlattr *list;

		begin_ipset(IPSET_CMD_ADD, 0, argv[0]);
		put_word(NLA_F_NET_BYTEORDER | IPSET_ATTR_LINENO, 0);
		list = nest(IPSET_ATTR_ADT);
		for (size_t j = i; j < count && j < i + AT_ONCE; j++) {
			struct nlattr *each = nest(IPSET_ATTR_DATA), *ip = nest(IPSET_ATTR_IP);

			put_word(NLA_F_NET_BYTEORDER | IPSET_ATTR_IPADDR_IPV4, addresses[j]);
			end(ip);
			if (networks)
				put_byte(IPSET_ATTR_CIDR, 32);
			end(each);
		}
		end(list);
	}
	send_batch(NETLINK_NETFILTER, batch.last, "no set of ipset");
}

static void put_element(uint32_t key, uint32_t flags)
{
	struct nlattr *element = nest(NFTA_LIST_ELEM), *data = nest(NFTA_SET_ELEM_KEY);

	put_word(NFTA_DATA_VALUE, key);
	end(data);
	if (flags)
		put_word(NFTA_SET_ELEM_FLAGS, htonl(flags));
	end(element);
}

static void begin_nft(uint8_t family, int type)
{
	struct nfgenmsg head = { .nfgen_family = family, .res_id = htons(NFNL_SUBSYS_NFTABLES) };

	begin((uint16_t)type, NLM_F_CREATE, &head, sizeof(head));
}

/* ip|netdev TABLE NAME set|prefixes FILE: fills a set of nftables, as one transaction. */
void fill_nftables(char **argv)
{
	uint8_t family = is_second(argv[0], "ip", "netdev") ? NFPROTO_NETDEV : NFPROTO_IPV4;
	bool intervals = is_second(argv[3], "set", "prefixes");
	size_t count;
	uint32_t *addresses = addresses_of(argv[4], &count);
	struct nlmsghdr *elements = NULL;

	start_batch(ROOM(count));
	begin_nft(AF_UNSPEC, NFNL_MSG_BATCH_BEGIN);
	for (size_t i = 0; i < count; i += AT_ONCE) {
		struct nlattr *list;

		begin_nft(family, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM);
		elements = batch.last;
		put_text(NFTA_SET_ELEM_LIST_TABLE, argv[1]);
		put_text(NFTA_SET_ELEM_LIST_SET, argv[2]);
		list = nest(NFTA_SET_ELEM_LIST_ELEMENTS);
		for (size_t j = i; j < count && j < i + AT_ONCE; j++) {
			put_element(addresses[j], 0);
			if (intervals)
				put_element(htonl(ntohl(addresses[j]) + 1), NFT_SET_ELEM_INTERVAL_END);
		}
		end(list);
	}
	begin_nft(AF_UNSPEC, NFNL_MSG_BATCH_END);
	send_batch(NETLINK_NETFILTER, elements, "no elements of a set of nftables");
}

static void begin_generic(uint16_t family, uint8_t command, uint8_t version)
{
	struct genlmsghdr head = { .cmd = command, .version = version };

	start_batch(4096);
	begin(family, 0, &head, sizeof(head));
}

/* A request to one of Open vSwitch's families, whose numbers only the kernel knows. */
static void begin_switch(const char *family, uint8_t command, uint8_t version, int datapath)
{
	struct ovs_header head = { .dp_ifindex = datapath };
	struct nlmsghdr *answer;
	struct nlattr *it;
	uint16_t number = 0;

	begin_generic(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 2);
	put_text(CTRL_ATTR_FAMILY_NAME, family);
	answer = send_batch(NETLINK_GENERIC, batch.last, family);
	it = (struct nlattr *)((char *)NLMSG_DATA(answer) + GENL_HDRLEN);
	while (it->nla_type != CTRL_ATTR_FAMILY_ID)
		it = (struct nlattr *)((char *)it + NLA_ALIGN(it->nla_len));
	memcpy(&number, (char *)it + NLA_HDRLEN, sizeof(number));
	begin_generic(number, command, version);
	batch.last->nlmsg_flags |= NLM_F_CREATE;
	memcpy(append(sizeof(head)), &head, sizeof(head));
}

/* What a flow matches: all IPv4 packets of a port, tracked or not yet. */
static void put_match(int type, uint32_t port, uint32_t recirculated, uint16_t ethertype)
{
	static const struct ovs_key_ethernet any_mac;
	static const struct ovs_key_ipv4 any_address;
	struct nlattr *match = nest(type);

	put_word(OVS_KEY_ATTR_RECIRC_ID, recirculated);
	put_word(OVS_KEY_ATTR_IN_PORT, port);
	put(OVS_KEY_ATTR_ETHERNET, &any_mac, sizeof(any_mac));
	put(OVS_KEY_ATTR_ETHERTYPE, &ethertype, sizeof(ethertype));
	put(OVS_KEY_ATTR_IPV4, &any_address, sizeof(any_address));
	end(match);
}

static struct nlattr *begin_flow(int datapath, uint32_t from, uint32_t recirculated)
{
	begin_switch(OVS_FLOW_FAMILY, OVS_FLOW_CMD_NEW, OVS_FLOW_VERSION, datapath);
	put_match(OVS_FLOW_ATTR_KEY, from, recirculated, htons(0x0800));
	put_match(OVS_FLOW_ATTR_MASK, ~0U, ~0U, 0xffff);
	return nest(OVS_FLOW_ATTR_ACTIONS);
}

static void end_flow(struct nlattr *actions)
{
	end(actions);
	send_batch(NETLINK_GENERIC, batch.last, "no flow of Open vSwitch");
}

static void add_flows(int datapath, uint32_t from, uint32_t to, bool tracked)
{
	struct nlattr *actions, *track;

	if (tracked) {
		actions = begin_flow(datapath, from, 0);
		track = nest(OVS_ACTION_ATTR_CT);
		put(OVS_CT_ATTR_COMMIT, NULL, 0);
		end(track);
		put_word(OVS_ACTION_ATTR_RECIRC, TRACKED);
		end_flow(actions);
	}
	actions = begin_flow(datapath, from, tracked ? TRACKED : 0);
	put_word(OVS_ACTION_ATTR_OUTPUT, to);
	end_flow(actions);
}

/* NAME plain|tracked INTERFACE INTERFACE: a datapath of Open vSwitch that joins the two. */
void join_switch(char **argv)
{
	bool tracked = is_second(argv[1], "plain", "tracked");
	int datapath;

	begin_switch(OVS_DATAPATH_FAMILY, OVS_DP_CMD_NEW, OVS_DATAPATH_VERSION, 0);
	put_text(OVS_DP_ATTR_NAME, argv[0]);
	put_word(OVS_DP_ATTR_UPCALL_PID, 0);
	send_batch(NETLINK_GENERIC, batch.last, "no datapath of Open vSwitch");
	datapath = (int)if_nametoindex(argv[0]);
	for (uint32_t port = 1; port <= 2; port++) {
		begin_switch(OVS_VPORT_FAMILY, OVS_VPORT_CMD_NEW, OVS_VPORT_VERSION, datapath);
		put_word(OVS_VPORT_ATTR_PORT_NO, port);
		put_word(OVS_VPORT_ATTR_TYPE, OVS_VPORT_TYPE_NETDEV);
		put_text(OVS_VPORT_ATTR_NAME, argv[1 + port]);
		put_word(OVS_VPORT_ATTR_UPCALL_PID, 0);
		send_batch(NETLINK_GENERIC, batch.last, argv[1 + port]);
	}
	add_flows(datapath, 1, 2, tracked);
	add_flows(datapath, 2, 1, tracked);
}
