/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Packets as a network card brings them, programs of BPF that meet them, and an
 * application that they are for.
 *
 * The sender is a program of BPF that the kernel runs on frames of its own
 * (BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18) and that redirects them to a veth: its
 * peer finds them in its ring, up to 64 in a poll, and runs XDP or makes a socket
 * buffer, as a driver does.  What pktgen sends is a socket buffer already, which veth
 * copies for XDP, one in a poll.
 */
#define _GNU_SOURCE
#include "traffic.h"

#include "../netlink/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define AT_ONCE 64 /* packets: what a poll takes of a card's ring (NAPI_POLL_WEIGHT) */
#define MOST_NUMBERS 3 /* of a map that counts */
#define MOST_PACKETS 100000000
#define MOST_HOOKS 4
#define MOST_MAPS 8
#define ROOM_FOR_ALL (64 << 20) /* bytes of a socket */
#define SOURCE_OFFSET 12 /* of an IPv4 header */

/* A program in a file: this, then maps, each with its entries, then instructions. */
struct object {
	uint32_t type; /* BPF_PROG_TYPE_*; none is classic BPF */
	uint32_t maps, instructions;
};

struct map {
	uint32_t type, key, value, most, flags, entries;
};

struct loaded {
	int program, counter; /* the first map, whose first number counts packets */
};

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

char *content_of(const char *path, size_t *length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	char *content = size < 0 ? NULL : malloc((size_t)size + 1);

	if (!content || pread(fd, content, (size_t)size, 0) != size)
		fault(path);
	close(fd);
	*length = (size_t)size;
	return content;
}

/* Moves the program into the network namespace of a name. */
static void enter(const char *space)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", space);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		fault(path);
	close(fd);
}

static int make_map(const struct map *map, const char *entries)
{
	union bpf_attr attr = {
		.map_type = map->type,
		.key_size = map->key,
		.value_size = map->value,
		.max_entries = map->most,
		.map_flags = map->flags,
	};
	int fd = (int)bpf(BPF_MAP_CREATE, &attr);

	if (fd < 0)
		fault("no map of BPF");
	for (uint32_t i = 0; i < map->entries; i++, entries += map->key + map->value) {
		memset(&attr, 0, sizeof(attr));
		attr.map_fd = (uint32_t)fd;
		attr.key = (uintptr_t)entries;
		attr.value = (uintptr_t)(entries + map->key);
		if (bpf(BPF_MAP_UPDATE_ELEM, &attr))
			fault("no entry in a map of BPF");
	}
	return fd;
}

/* Why the verifier refused a program goes to standard error. */
_Noreturn static void refused(union bpf_attr *attr, const char *path)
{
	static char why[1 << 16];
	int error = errno;

	attr->log_buf = (uintptr_t)why;
	attr->log_size = sizeof(why);
	attr->log_level = 1;
	bpf(BPF_PROG_LOAD, attr);
	fputs(why, stderr);
	errno = error;
	fault(path);
}

static struct loaded load(const char *path)
{
	struct loaded it = { .counter = -1 };
	int maps[MOST_MAPS];
	size_t length;
	char *at = content_of(path, &length), *end = at + length;
	struct object object;
	struct bpf_insn *code;
	union bpf_attr attr;

	memcpy(&object, at, sizeof(object));
	at += sizeof(object);
	for (uint32_t i = 0; i < object.maps && i < MOST_MAPS; i++) {
		struct map map;

		memcpy(&map, at, sizeof(map));
		at += sizeof(map);
		maps[i] = make_map(&map, at);
		at += (size_t)map.entries * (map.key + map.value);
	}
	errno = EBADMSG;
	if ((size_t)(end - at) != object.instructions * sizeof(*code))
		fault(path);
	code = (struct bpf_insn *)at;
	for (uint32_t i = 0; i < object.instructions; i++)
		if (code[i].code == (BPF_LD | BPF_IMM | BPF_DW) && code[i].src_reg)
			code[i].imm = maps[code[i].imm];
	memset(&attr, 0, sizeof(attr));
	attr.prog_type = object.type;
	attr.insns = (uintptr_t)code;
	attr.insn_cnt = object.instructions;
	attr.license = (uintptr_t)"GPL";
	it.program = (int)bpf(BPF_PROG_LOAD, &attr);
	if (it.program < 0)
		refused(&attr, path);
	if (object.maps)
		it.counter = maps[0];
	return it;
}

static void look(int map, uint64_t numbers[MOST_NUMBERS])
{
	uint32_t first = 0;
	union bpf_attr attr = {
		.map_fd = (uint32_t)map,
		.key = (uintptr_t)&first,
		.value = (uintptr_t)numbers,
	};

	if (bpf(BPF_MAP_LOOKUP_ELEM, &attr))
		fault("no counter");
}

/* The time between two packets that a program sent: those whose instants it kept. */
static uint64_t took(struct loaded program)
{
	uint64_t numbers[MOST_NUMBERS];

	look(program.counter, numbers);
	return numbers[2] - numbers[1];
}

static void attach_tc(const char *interface, int program)
{
	uint32_t flags = TCA_BPF_FLAG_ACT_DIRECT;
	struct tc_request r = {
		.head.nlmsg_len = NLMSG_LENGTH(sizeof(r.tc)),
		.head.nlmsg_type = RTM_NEWTFILTER,
		.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
		.tc.tcm_ifindex = (int)if_nametoindex(interface),
		.tc.tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
		.tc.tcm_info = TC_H_MAKE(1U << 16, htons(ETH_P_ALL)),
	};
	struct nlattr *nest;

	netlink_put(&r.head, TCA_KIND, "bpf", sizeof("bpf"));
	nest = netlink_put(&r.head, TCA_OPTIONS, NULL, 0);
	netlink_put(&r.head, TCA_BPF_FD, &program, sizeof(program));
	netlink_put(&r.head, TCA_BPF_NAME, "drop", sizeof("drop"));
	netlink_put(&r.head, TCA_BPF_FLAGS, &flags, sizeof(flags));
	netlink_nest_end(&r.head, nest);
	if (tc_ask(&r))
		fault("no filter of tc");
}

/* A link that lasts as long as this program. */
static void attach_xdp(const char *interface, int program, uint32_t mode)
{
	union bpf_attr attr = {
		.link_create.prog_fd = (uint32_t)program,
		.link_create.target_ifindex = if_nametoindex(interface),
		.link_create.attach_type = BPF_XDP,
		.link_create.flags = mode,
	};

	if (bpf(BPF_LINK_CREATE, &attr) < 0)
		fault(mode == XDP_FLAGS_SKB_MODE ? "no generic XDP" : "no native XDP");
}

static void attach(const char *kind, const char *interface, int program)
{
	if (!strcmp(kind, "tc"))
		attach_tc(interface, program);
	else if (!strcmp(kind, "xdp"))
		attach_xdp(interface, program, XDP_FLAGS_DRV_MODE);
	else if (!strcmp(kind, "generic"))
		attach_xdp(interface, program, XDP_FLAGS_SKB_MODE);
	else {
		errno = EINVAL;
		fault(kind);
	}
}

/* Has a program of BPF send so many packets; returns when the last one is where it ends. */
static void send_packets(int program, const char *frame, size_t length, uint64_t packets)
{
	union bpf_attr attr = {
		.test.prog_fd = (uint32_t)program,
		.test.data_in = (uintptr_t)frame,
		.test.data_size_in = (uint32_t)length,
		.test.repeat = (uint32_t)packets,
		.test.flags = BPF_F_TEST_XDP_LIVE_FRAMES,
		.test.batch_size = AT_ONCE,
	};

	if (packets && bpf(BPF_PROG_TEST_RUN, &attr))
		fault("no packets from BPF, which Linux 5.18 and later have");
}

/* A socket that packets are for, with a filter or none. */
static int receiver(const char *port, const char *filter)
{
	int room = ROOM_FOR_ALL, fd = open_socket(AF_INET, IPPROTO_UDP, 0);
	union address here = address_of("0.0.0.0", port);
	struct object object;
	size_t length;
	char *content;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) ||
	    bind(fd, &here.any, address_length(&here)))
		fault("no socket");
	if (!strcmp(filter, "-"))
		return fd;
	content = content_of(filter, &length);
	memcpy(&object, content, sizeof(object));
	if (object.type) {
		struct loaded it = load(filter);

		if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &it.program, sizeof(it.program)))
			fault(filter);
	} else {
		struct sock_fprog program = {
			.len = (unsigned short)object.instructions,
			.filter = (struct sock_filter *)(content + sizeof(object)),
		};

		if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
			fault(filter);
	}
	free(content);
	return fd;
}

/* What the application knows, and what it has done. */
static struct {
	uint32_t *addresses; /* on the list, as numbers, in their order */
	size_t count;
	bool one_by_one;
} list;

struct taken {
	uint64_t dropped, passed;
};

static bool is_listed(uint32_t address)
{
	size_t low = 0, high = list.count;

	if (list.one_by_one) {
		for (size_t i = 0; i < list.count; i++)
			if (list.addresses[i] == address)
				return true;
		return false;
	}
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (list.addresses[middle] < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < list.count && list.addresses[low] == address;
}

/* Takes what is there, up to 64 at a time: until there is no more, or for ever. */
static void take(int fd, struct taken *taken, int flags)
{
	static struct sockaddr_in from[AT_ONCE];
	static char room[AT_ONCE][128];
	static struct iovec where[AT_ONCE];
	static struct mmsghdr messages[AT_ONCE];
	int got;

	for (int i = 0; i < AT_ONCE; i++) {
		where[i] = (struct iovec){ room[i], sizeof(room[i]) };
		messages[i].msg_hdr = (struct msghdr){ .msg_name = &from[i],
						       .msg_namelen = sizeof(from[i]),
						       .msg_iov = &where[i],
						       .msg_iovlen = 1 };
	}
	while ((got = recvmmsg(fd, messages, AT_ONCE, flags, NULL)) > 0)
		for (int i = 0; i < got; i++)
			if (is_listed(ntohl(from[i].sin_addr.s_addr)))
				taken->dropped++;
			else
				taken->passed++;
	if (errno != EAGAIN)
		fault("cannot receive");
}

/*
 * The application, as a process of its own that runs as soon as there is something:
 * at the end of each poll, so it is woken once for the packets of one.
 */
static pid_t application(int fd, struct taken *taken)
{
	struct sched_param first = { .sched_priority = 1 };
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child < 0)
		fault("no process");
	if (child)
		return child;
	/* musl has a function of this name that always fails: priorities are a thread's. */
	if (syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &first))
		fault("no priority");
	take(fd, taken, MSG_WAITFORONE);
	exit(0);
}

/* Lets a script change something in a namespace, while what was sent waits there. */
static void change(const char *space, const char *script, const char *back)
{
	pid_t child = fork();
	int status;

	if (!child) {
		enter(space);
		execl("/bin/sh", "sh", "-e", script, (char *)NULL);
		fault(script);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		fault("no process");
	if (status)
		exit(1); /* it has said why */
	enter(back);
}

/* Waits until no more packets come to a program. */
static void await_rest(int counter)
{
	uint64_t before[MOST_NUMBERS] = { 0 }, now[MOST_NUMBERS] = { 0 };

	do {
		before[0] = now[0];
		usleep(100000);
		look(counter, now);
	} while (now[0] != before[0]);
}

/*
 * PACKETS OTHERS SPACE FRAME SENDING ALONE OTHER SPACE PORT FILTER|- [HOOK SPACE INTERFACE
 * PROGRAM]... [listed|sorted|then FILE]: sends packets from a namespace to another one;
 * before, as many that go no further than the sender, and then others that are not on the
 * list.  A script that comes `then` is run before these others, in the second namespace.
 * What it took is known from the programs: a run begins and ends with waits for RCU.
 */
void flood(char **argv)
{
	uint64_t packets = number(argv[0], 1, MOST_PACKETS), others = number(argv[1], 0, 1024);
	struct loaded sending, alone, other, hooks[MOST_HOOKS];
	size_t length, hooked = 0, size;
	char *frame = content_of(argv[3], &length);
	const char *script = NULL;
	struct taken *taken = mmap(NULL, sizeof(*taken), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t memory[SK_MEMINFO_VARS];
	socklen_t known = sizeof(memory);
	cpu_set_t one;
	pid_t child = 0;
	int fd, status;

	if (taken == MAP_FAILED)
		fault("no memory");
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		fault("no CPU");
	enter(argv[7]);
	fd = receiver(argv[8], argv[9]);
	for (argv += 10; argv[0] && argv[1] && argv[2] && argv[3] && hooked < MOST_HOOKS; argv += 4) {
		enter(argv[1]);
		hooks[hooked] = load(argv[3]);
		attach(argv[0], argv[2], hooks[hooked++].program);
	}
	if (argv[0] && argv[1] && !strcmp(argv[0], "then")) {
		script = argv[1];
	} else if (argv[0] && argv[1]) {
		list.one_by_one = !strcmp(argv[0], "listed");
		list.addresses = (uint32_t *)content_of(argv[1], &size);
		list.count = size / sizeof(*list.addresses);
		child = application(fd, taken);
	}
	argv -= 10 + 4 * hooked;
	enter(argv[2]);
	sending = load(argv[4]);
	alone = load(argv[5]);
	other = load(argv[6]);
	send_packets(alone.program, frame, length, packets);
	send_packets(sending.program, frame, length, packets);
	if (script)
		change(argv[7], script, argv[2]);
	send_packets(other.program, frame, length, others);
	if (script && hooked)
		await_rest(hooks[0].counter);
	if (child) {
		usleep(100000);
		kill(child, SIGKILL);
		if (waitpid(child, &status, 0) == child && WIFEXITED(status))
			exit(1); /* it has said why */
	} else {
		take(fd, taken, MSG_DONTWAIT);
	}
	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &known))
		fault("no memory of a socket");
	say("sent", packets + others);
	say("alone_ns", took(alone));
	say("took_ns", took(sending));
	say("read_dropped", taken->dropped);
	say("read_passed", taken->passed);
	say("socket_dropped", memory[SK_MEMINFO_DROPS]);
	for (size_t i = 0; i < hooked; i++) {
		uint64_t numbers[MOST_NUMBERS] = { 0 };
		char name[32];

		look(hooks[i].counter, numbers);
		snprintf(name, sizeof(name), "hook%zu", i);
		say(name, numbers[0]);
		snprintf(name, sizeof(name), "hook%zu_ns", i);
		say(name, numbers[2] - numbers[1]);
	}
}
