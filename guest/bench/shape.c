/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Links: netem on an interface, and packets of the size that a wire carries.
 * Both as the kernel takes them, by netlink and ioctl.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PRNG_SEED 14 /* TCA_NETEM_PRNG_SEED: Linux 6.6, newer than many headers */

/* INTERFACE: no TSO, GSO or GRO, or netem would lose and delay 64 KB at once. */
int plain(char **argv)
{
	static const uint32_t offloads[] = { ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	for (size_t i = 0; i < sizeof(offloads) / sizeof(*offloads); i++) {
		struct ethtool_value off = { .cmd = offloads[i] };
		struct ifreq request = { .ifr_data = (char *)&off };

		strncpy(request.ifr_name, argv[0], IFNAMSIZ - 1);
		if (ioctl(fd, SIOCETHTOOL, &request))
			return fault(argv[0]);
	}
	close(fd);
	return 0;
}

struct request {
	struct nlmsghdr head;
	struct tcmsg tc;
	char attributes[512];
};

static struct rtattr *add(struct request *r, uint16_t type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(a), data, len);
	r->head.nlmsg_len = NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(a->rta_len);
	return a;
}

/* Sends a request and returns what the kernel says: 0, or -1 with errno. */
static int ask(const struct request *r)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char rest[1024];
	} answer;
	ssize_t got;

	if (fd < 0 || send(fd, r, r->head.nlmsg_len, 0) < 0)
		return -1;
	got = recv(fd, &answer, sizeof(answer), 0);
	close(fd);
	if (got < (ssize_t)NLMSG_LENGTH(sizeof(answer.error)))
		return -1;
	errno = -answer.error.error;
	return errno ? -1 : 0;
}

/*
 * INTERFACE MBIT/S MILLISECONDS PACKETS LOST-OF-1000 SEED: netem as the
 * interface's root.  Seed 0 leaves the losses to the kernel's own numbers.
 */
int shape(char **argv)
{
	uint64_t seed = number(argv[5]);
	int64_t delay = (int64_t)number(argv[2]) * 1000000;
	struct tc_netem_rate rate = { .rate = (uint32_t)number(argv[1]) * 125000 };
	struct tc_netem_qopt options = {
		.limit = (uint32_t)number(argv[3]),
		.loss = (uint32_t)(number(argv[4]) * UINT32_MAX / 1000),
	};
	struct request r = {
		.head.nlmsg_len = NLMSG_LENGTH(sizeof(r.tc)),
		.head.nlmsg_type = RTM_NEWQDISC,
		.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
		.tc.tcm_ifindex = (int)if_nametoindex(argv[0]),
		.tc.tcm_parent = TC_H_ROOT,
	};
	struct rtattr *nest;

	add(&r, TCA_KIND, "netem", sizeof("netem"));
	nest = add(&r, TCA_OPTIONS, &options, sizeof(options));
	add(&r, TCA_NETEM_LATENCY64, &delay, sizeof(delay));
	add(&r, TCA_NETEM_RATE, &rate, sizeof(rate));
	if (seed)
		add(&r, PRNG_SEED, &seed, sizeof(seed));
	nest->rta_len = (uint16_t)((char *)&r + r.head.nlmsg_len - (char *)nest);
	return ask(&r) ? fault(argv[0]) : 0;
}
