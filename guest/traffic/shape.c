/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Links: netem on an interface, packets of the size that a wire carries, and how
 * many of them wait.  All as the kernel takes and tells it, by netlink and ioctl.
 */
#include "traffic.h"

#include "../netlink/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/gen_stats.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PRNG_SEED 14 /* TCA_NETEM_PRNG_SEED: Linux 6.6, newer than many headers */

/* One handle for each kind of qdisc, each the only child of the one before. */
#define NETEM TC_H_MAKE(1 << 16, 0)
#define TBF TC_H_MAKE(2 << 16, 0)
#define CODEL TC_H_MAKE(3 << 16, 0)
#define CHILD 1 /* of its class */
#define BURST (5 * 1514) /* bytes that TBF sends at once when its timer was late */
#define TARGET 1000000000 /* us that CoDel lets wait before it drops: it only marks */

static void set(int fd, const char *interface, void *what)
{
	struct ifreq request = { .ifr_data = what };

	strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
	if (ioctl(fd, SIOCETHTOOL, &request) < 0)
		fault(interface);
}

/* No command of its own turns this off: it is looked up by name. */
static void turn_off(int fd, const char *interface, const char *feature)
{
	struct ethtool_sset_info *known = calloc(1, sizeof(*known) + sizeof(*known->data));
	struct ethtool_gstrings *names;
	struct ethtool_sfeatures *wanted;
	uint32_t count, blocks;

	if (!known)
		fault("features");
	known->cmd = ETHTOOL_GSSET_INFO;
	known->sset_mask = 1 << ETH_SS_FEATURES;
	set(fd, interface, known);
	count = known->data[0];
	blocks = (count + 31) / 32;
	names = calloc(1, sizeof(*names) + (size_t)count * ETH_GSTRING_LEN);
	wanted = calloc(1, sizeof(*wanted) + blocks * sizeof(*wanted->features));
	if (!names || !wanted)
		fault("features");
	names->cmd = ETHTOOL_GSTRINGS;
	names->string_set = ETH_SS_FEATURES;
	names->len = count;
	set(fd, interface, names);
	for (uint32_t i = 0; i < count; i++)
		if (!strncmp((char *)names->data + i * ETH_GSTRING_LEN, feature, ETH_GSTRING_LEN))
			wanted->features[i / 32].valid |= 1U << i % 32;
	wanted->cmd = ETHTOOL_SFEATURES;
	wanted->size = blocks;
	set(fd, interface, wanted);
	free(known);
	free(names);
	free(wanted);
}

/* INTERFACE...: no TSO, GSO or GRO, or netem would lose and delay 64 KB at once. */
void plain(char **argv)
{
	static const uint32_t offloads[] = { ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO };
	int fd = open_socket(AF_INET, IPPROTO_UDP, 0);

	for (; *argv; argv++) {
		for (size_t i = 0; i < sizeof(offloads) / sizeof(*offloads); i++) {
			struct ethtool_value off = { .cmd = offloads[i] };

			set(fd, *argv, &off);
		}
		turn_off(fd, *argv, "tx-udp-segmentation");
	}
}

/* INTERFACE...: GRO, with which a veth has NAPI (Linux 5.13), where its peer has no TSO. */
void napi(char **argv)
{
	int fd = open_socket(AF_INET, IPPROTO_UDP, 0);

	for (; *argv; argv++) {
		struct ethtool_value on = { .cmd = ETHTOOL_SGRO, .data = 1 };

		set(fd, *argv, &on);
	}
}

/* A request about a qdisc of an interface: below a parent, or the root. */
static struct tc_request request_for(int interface, uint16_t type, uint16_t flags, uint32_t handle,
				     uint32_t parent)
{
	struct tc_request r = {
		.head.nlmsg_len = NLMSG_LENGTH(sizeof(r.tc)),
		.head.nlmsg_type = type,
		.head.nlmsg_flags = NLM_F_REQUEST | flags,
		.tc.tcm_ifindex = interface,
		.tc.tcm_handle = handle,
		.tc.tcm_parent = parent == TC_H_ROOT ? parent : TC_H_MAKE(parent, CHILD),
	};

	return r;
}

int tc_ask(struct tc_request *r)
{
	int fd = netlink_open(), error = -1;
	char text[1];

	if (fd >= 0) {
		error = netlink_request(fd, &r->head, text, sizeof(text));
		close(fd);
	}
	if (error > 0)
		errno = error;
	return error ? -1 : 0;
}

#define MAKE (NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)

/*
 * A rate, and a queue that marks what has waited for so long (ECN), below a netem that
 * only delays: what is due goes into its child.  Drops nothing before it is full.
 */
static void mark(int interface, uint64_t speed, uint32_t packets, int32_t overhead, uint32_t us)
{
	struct tc_request r = request_for(interface, RTM_NEWQDISC, MAKE, TBF, NETEM);
	struct tc_tbf_qopt tbf = {
		.rate.rate = speed > UINT32_MAX ? UINT32_MAX : (uint32_t)speed,
		.rate.linklayer = TC_LINKLAYER_ETHERNET,
		.rate.overhead = (uint16_t)(overhead > 0 ? overhead : 0),
		.limit = UINT32_MAX,
	};
	uint32_t burst = BURST, target = TARGET;
	struct nlattr *nest;

	netlink_put(&r.head, TCA_KIND, "tbf", sizeof("tbf"));
	nest = netlink_put(&r.head, TCA_OPTIONS, NULL, 0);
	netlink_put(&r.head, TCA_TBF_PARMS, &tbf, sizeof(tbf));
	netlink_put(&r.head, TCA_TBF_BURST, &burst, sizeof(burst));
	if (speed > UINT32_MAX)
		netlink_put(&r.head, TCA_TBF_RATE64, &speed, sizeof(speed));
	netlink_nest_end(&r.head, nest);
	if (tc_ask(&r))
		fault("tbf");
	r = request_for(interface, RTM_NEWQDISC, MAKE, CODEL, TBF);
	netlink_put(&r.head, TCA_KIND, "codel", sizeof("codel"));
	nest = netlink_put(&r.head, TCA_OPTIONS, NULL, 0);
	netlink_put(&r.head, TCA_CODEL_TARGET, &target, sizeof(target));
	netlink_put(&r.head, TCA_CODEL_LIMIT, &packets, sizeof(packets));
	netlink_put(&r.head, TCA_CODEL_CE_THRESHOLD, &us, sizeof(us));
	netlink_nest_end(&r.head, nest);
	if (tc_ask(&r))
		fault("codel");
}

/* What netem compares its random numbers with, from parts in a million. */
static uint32_t chance(const char *text)
{
	return text ? (uint32_t)(number(text, 0, 1000000) * UINT32_MAX / 1000000) : 0;
}

/*
 * INTERFACE BIT/S DELAY-NS PACKETS LOST SEED OVERHEAD [DUPLICATED REORDERED
 * CORRUPTED COALESCE-NS MARK-NS]: netem as the interface's root.  Chances are parts in a
 * million; rate 0 is none; OVERHEAD are bytes that the link carries with each packet;
 * seed 0 leaves the chances to the kernel's own numbers.  Packets are handed
 * over together, every COALESCE-NS; those that waited for MARK-NS are marked (ECN).
 */
void shape(char **argv)
{
	char **more = argv + 7;
	const char *duplicated = more[0], *reordered = duplicated ? more[1] : NULL;
	const char *corrupted = reordered ? more[2] : NULL;
	const char *coalesced = corrupted ? more[3] : NULL;
	const char *marked = coalesced ? more[4] : NULL;
	uint64_t seed = number(argv[5], 0, UINT64_MAX);
	uint64_t speed = number(argv[1], 0, UINT64_MAX) / 8; /* bytes/s */
	uint64_t waited = marked ? number(marked, 0, SECOND) : 0;
	int64_t delay = whole(argv[2], 0, INT64_MAX);
	uint32_t packets = (uint32_t)number(argv[3], 0, UINT32_MAX);
	struct tc_netem_rate rate = {
		.rate = speed > UINT32_MAX ? UINT32_MAX : (uint32_t)speed,
		.packet_overhead = (int32_t)whole(argv[6], -65536, 65536),
	};
	struct tc_netem_reorder reorder = { .probability = chance(reordered) };
	struct tc_netem_corrupt corrupt = { .probability = chance(corrupted) };
	struct tc_netem_qopt options = {
		.limit = waited ? INT32_MAX : packets,
		.loss = chance(argv[4]),
		.duplicate = chance(duplicated),
		.gap = reorder.probability ? 1 : 0, /* each packet may be sent ahead */
	};
	struct tc_netem_slot slot = { .max_packets = INT32_MAX, .max_bytes = INT32_MAX };
	int interface = (int)if_nametoindex(argv[0]);
	struct tc_request r = request_for(interface, RTM_DELQDISC, NLM_F_ACK, 0, NETEM);
	struct nlattr *nest;

	if (!interface)
		fault(argv[0]);
	tc_ask(&r); /* what is below a netem, where there is one */
	if (waited)
		rate.rate = 0; /* which then is below it */
	r = request_for(interface, RTM_NEWQDISC, MAKE, NETEM, TC_H_ROOT);
	/* A netem that is there already keeps what it is not told, so it is told all. */
	netlink_put(&r.head, TCA_KIND, "netem", sizeof("netem"));
	nest = netlink_put(&r.head, TCA_OPTIONS, &options, sizeof(options));
	netlink_put(&r.head, TCA_NETEM_LATENCY64, &delay, sizeof(delay));
	netlink_put(&r.head, TCA_NETEM_RATE, &rate, sizeof(rate));
	if (rate.rate == UINT32_MAX)
		netlink_put(&r.head, TCA_NETEM_RATE64, &speed, sizeof(speed));
	netlink_put(&r.head, TCA_NETEM_REORDER, &reorder, sizeof(reorder));
	netlink_put(&r.head, TCA_NETEM_CORRUPT, &corrupt, sizeof(corrupt));
	if (coalesced)
		slot.min_delay = slot.max_delay = whole(coalesced, 0, SECOND);
	if (slot.min_delay)
		netlink_put(&r.head, TCA_NETEM_SLOT, &slot, sizeof(slot));
	if (seed)
		netlink_put(&r.head, PRNG_SEED, &seed, sizeof(seed));
	netlink_nest_end(&r.head, nest);
	if (tc_ask(&r))
		fault(argv[0]);
	if (waited)
		mark(interface, speed, packets, rate.packet_overhead, (uint32_t)(waited / 1000));
}

/* INTERFACE...: nothing shapes what leaves by them, and what waits there is gone. */
void bare(char **argv)
{
	for (; *argv; argv++) {
		int interface = (int)if_nametoindex(*argv);
		struct tc_request r = request_for(interface, RTM_DELQDISC, NLM_F_ACK, 0, TC_H_ROOT);

		if (!interface || (tc_ask(&r) && errno != ENOENT))
			fault(*argv);
	}
}

/* INTERFACE...: what waits there and all that comes is lost, and the carrier stays. */
void dark(char **argv)
{
	struct tc_netem_qopt all = { .limit = 1, .loss = UINT32_MAX };

	bare(argv);
	for (; *argv; argv++) {
		int interface = (int)if_nametoindex(*argv);
		struct tc_request r = request_for(interface, RTM_NEWQDISC, MAKE, NETEM, TC_H_ROOT);

		netlink_put(&r.head, TCA_KIND, "netem", sizeof("netem"));
		netlink_put(&r.head, TCA_OPTIONS, &all, sizeof(all));
		if (tc_ask(&r))
			fault(*argv);
	}
}

/* What is looked for in a dump of queues, and what is found. */
struct looked {
	int interface;
	struct queue_look *look;
};

static void copy(void *to, size_t size, const struct nlattr *a)
{
	if (a)
		memcpy(to, netlink_data(a), netlink_length(a) < size ? netlink_length(a) : size);
}

static void take_queue(const struct nlmsghdr *m, void *context)
{
	const struct looked *it = context;
	const struct tcmsg *tc = NLMSG_DATA(m);
	const struct nlattr *found[TCA_STATS2 + 1], *stats[TCA_STATS_APP + 1];
	struct tc_codel_xstats codel = { 0 };
	struct gnet_stats_basic basic = { 0 };
	struct gnet_stats_queue queue = { 0 };

	if (tc->tcm_ifindex != it->interface ||
	    (tc->tcm_handle != NETEM && tc->tcm_handle != CODEL))
		return;
	netlink_attributes(m, sizeof(*tc), found, TCA_STATS2 + 1);
	netlink_nested(found[TCA_STATS2], stats, TCA_STATS_APP + 1);
	copy(&basic, sizeof(basic), stats[TCA_STATS_BASIC]);
	copy(&queue, sizeof(queue), stats[TCA_STATS_QUEUE]);
	if (tc->tcm_handle == CODEL)
		copy(&codel, sizeof(codel), stats[TCA_STATS_APP]);
	it->look->waiting = queue.qlen;
	it->look->sent = basic.packets;
	it->look->marked = codel.ce_mark;
}

/*
 * Reads what the queue of an interface counts: of a marking one, and else of netem, where
 * those under way count as waiting.
 */
void look_at_queue(int interface, struct queue_look *look)
{
	struct tc_request r = request_for(interface, RTM_GETQDISC, NLM_F_DUMP, 0, TC_H_ROOT);
	struct looked it = { interface, look };
	int fd = netlink_open();

	/* A dump that others changed meanwhile (EINTR) still has this one. */
	if (fd < 0 || netlink_dump(fd, &r.head, take_queue, &it) < 0)
		fault("qdisc");
	close(fd);
}
