/* SPDX-License-Identifier: GPL-2.0-only */
/* What a driver says that its interface can do, and what it really does. */
#include "traffic.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LOOK (100 * 1000) /* ns between two looks at a carrier */
#define NO_CARRIER (30 * SECOND)

/* What hardware does, or is told to; the stack's own GRO and GSO are none. */
static const char *const offloads[] = {
	"tx-scatter-gather", "tx-checksum-ipv4", "tx-checksum-ip-generic", "tx-checksum-ipv6",
	"rx-checksum", "tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation",
	"rx-lro", "rx-gro-hw", "tx-vlan-hw-insert", "rx-vlan-hw-parse", "rx-vlan-filter",
	"rx-hashing",
};

static int ask(int fd, struct ifreq *request, void *what)
{
	request->ifr_data = what;
	return ioctl(fd, SIOCETHTOOL, request);
}

static void say_features(int fd, struct ifreq *request)
{
	struct ethtool_sset_info *known = calloc(1, sizeof(*known) + sizeof(*known->data));
	struct ethtool_gstrings *names;
	struct ethtool_gfeatures *has;
	uint32_t count;

	if (!known)
		fault("features");
	known->cmd = ETHTOOL_GSSET_INFO;
	known->sset_mask = 1 << ETH_SS_FEATURES;
	if (ask(fd, request, known))
		fault("features");
	count = known->data[0];
	names = calloc(1, sizeof(*names) + (size_t)count * ETH_GSTRING_LEN);
	has = calloc(1, sizeof(*has) + (count + 31) / 32 * sizeof(*has->features));
	if (!names || !has)
		fault("features");
	names->cmd = ETHTOOL_GSTRINGS;
	names->string_set = ETH_SS_FEATURES;
	names->len = count;
	has->cmd = ETHTOOL_GFEATURES;
	has->size = (count + 31) / 32;
	if (ask(fd, request, names) || ask(fd, request, has))
		fault("features");
	for (size_t i = 0; i < sizeof(offloads) / sizeof(*offloads); i++)
		for (uint32_t at = 0; at < count; at++)
			if (!strncmp((char *)names->data + at * ETH_GSTRING_LEN, offloads[i],
				     ETH_GSTRING_LEN))
				say(offloads[i], has->features[at / 32].active >> at % 32 & 1);
	free(known);
	free(names);
	free(has);
}

/* Whether the driver itself runs a program that passes all. */
static bool runs_xdp(const char *interface)
{
	struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_XDP,
		.insns = (uintptr_t)pass,
		.insn_cnt = sizeof(pass) / sizeof(*pass),
		.license = (uintptr_t)"GPL",
	};
	union bpf_attr attach = {
		.link_create.target_ifindex = if_nametoindex(interface),
		.link_create.attach_type = BPF_XDP,
		.link_create.flags = XDP_FLAGS_DRV_MODE,
	};
	int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load)), link;

	if (program < 0)
		fault("no program of XDP");
	attach.link_create.prog_fd = (uint32_t)program;
	link = (int)syscall(SYS_bpf, BPF_LINK_CREATE, &attach, sizeof(attach));
	if (link >= 0)
		close(link);
	close(program);
	return link >= 0;
}

static short change(int fd, struct ifreq *request, short set, short clear)
{
	if (ioctl(fd, SIOCGIFFLAGS, request))
		fault("flags");
	request->ifr_flags = (short)((request->ifr_flags | set) & ~clear);
	if ((set || clear) && ioctl(fd, SIOCSIFFLAGS, request))
		fault("flags");
	return request->ifr_flags;
}

/* From up to a carrier, ns. */
static uint64_t carrier_after(int fd, struct ifreq *request)
{
	const struct timespec look = { .tv_nsec = LOOK };
	uint64_t began;

	change(fd, request, 0, IFF_UP);
	began = now_ns();
	change(fd, request, IFF_UP, 0);
	while (!(change(fd, request, 0, 0) & IFF_RUNNING)) {
		if (now_ns() - began > NO_CARRIER) {
			errno = ETIMEDOUT;
			fault("no carrier");
		}
		nanosleep(&look, NULL);
	}
	return now_ns() - began;
}

/* INTERFACE: what it can do; it is down for a moment. What a driver does not tell is not said. */
void nic(char **argv)
{
	struct ethtool_channels channels = { .cmd = ETHTOOL_GCHANNELS };
	struct ethtool_ringparam rings = { .cmd = ETHTOOL_GRINGPARAM };
	int fd = open_socket(AF_INET, IPPROTO_UDP, 0);
	struct ifreq request = { .ifr_name = "" };

	strncpy(request.ifr_name, *argv, IFNAMSIZ - 1);
	say_features(fd, &request);
	if (!ask(fd, &request, &channels))
		say("queues", channels.combined_count ? channels.combined_count
						       : channels.rx_count);
	if (!ask(fd, &request, &rings)) {
		say("rx_ring", rings.rx_pending);
		say("tx_ring", rings.tx_pending);
	}
	say("xdp", runs_xdp(*argv));
	say("carrier_ns", carrier_after(fd, &request));
}
