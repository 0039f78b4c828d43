/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What crosses an interface, written down as it goes, in the form of libpcap with
 * nanoseconds (pcap-savefile(5)).  The kernel fills blocks of a ring that is shared with
 * it (packet_mmap.rst of the kernel, TPACKET_V3), so who sends waits for no wake-up.
 */
#define _GNU_SOURCE /* ppoll */
#include "traffic.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK (1u << 18)
#define BLOCKS 16
#define LATEST 10 /* ms until a block that is not full is handed over */
#define AT_ONCE 32768 /* bytes that a virtio port takes in one piece */
#define MAGIC 0xa1b23c4d
#define ETHERNET 1

struct file_header {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, figures, longest, kind;
};

struct packet_header {
	uint32_t seconds, nanoseconds, kept, length;
};

static volatile sig_atomic_t stopped;
static unsigned char together[AT_ONCE];
static size_t filled;
static int out;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

static void write_all(const void *bytes, size_t length)
{
	while (length) {
		ssize_t done = write(out, bytes, length);

		if (done < 0 && errno != EINTR)
			fault("cannot write what was captured");
		if (done <= 0)
			continue;
		bytes = (const char *)bytes + done;
		length -= (size_t)done;
	}
}

static void flush(void)
{
	write_all(together, filled);
	filled = 0;
}

static void put(const void *bytes, size_t length)
{
	if (length > AT_ONCE - filled)
		flush();
	if (length > AT_ONCE) {
		write_all(bytes, length);
		return;
	}
	memcpy(together + filled, bytes, length);
	filled += length;
}

static void put_block(const struct tpacket_block_desc *block)
{
	const unsigned char *at = (const unsigned char *)block + block->hdr.bh1.offset_to_first_pkt;

	for (uint32_t i = 0; i < block->hdr.bh1.num_pkts; i++) {
		const struct tpacket3_hdr *packet = (const void *)at;
		const struct packet_header head = {
			packet->tp_sec, packet->tp_nsec, packet->tp_snaplen, packet->tp_len,
		};

		/* What comes whole is whole in the file when the guest crashes. */
		if (sizeof(head) + head.kept > AT_ONCE - filled)
			flush();
		put(&head, sizeof(head));
		put(at + packet->tp_mac, head.kept);
		at += packet->tp_next_offset;
	}
	flush();
}

/* Writes down what comes until SIGTERM, and what came before that. */
static void follow(int fd, unsigned char *ring)
{
	const struct timespec settles = { .tv_nsec = 3 * LATEST * (long)MILLISECOND };
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	sigset_t none;

	sigemptyset(&none);
	for (size_t i = 0;; i = (i + 1) % BLOCKS) {
		struct tpacket_block_desc *block = (void *)(ring + i * BLOCK);
		uint32_t *status = &block->hdr.bh1.block_status;

		while (!(__atomic_load_n(status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
			bool is_last = stopped;
			int error;
			socklen_t length = sizeof(error);

			ready.revents = 0;
			ppoll(&ready, 1, is_last ? &settles : NULL, &none);
			if (is_last && !(ready.revents & POLLIN))
				return;
			/* The interface went down; it is heard again when it is up. */
			if (ready.revents & POLLERR)
				getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
		}
		put_block(block);
		__atomic_store_n(status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
	}
}

static void tell(const char *word, uint32_t value, const char *path)
{
	FILE *file = fopen(path, "we");

	if (!file || fprintf(file, "%s %u\n", word, value) < 0 || fclose(file))
		fault(path);
}

/*
 * INTERFACE FILE TOLD: goes on in the background until it gets SIGTERM.  Another file tells
 * by which process, and in the end how many packets that missed.
 */
void capture(char **argv)
{
	static const struct file_header header = {
		.magic = MAGIC, .major = 2, .minor = 4, .longest = 65536 + 4096, .kind = ETHERNET,
	};
	struct tpacket_req3 request = {
		.tp_block_size = BLOCK,
		.tp_block_nr = BLOCKS,
		.tp_frame_size = 2048,
		.tp_frame_nr = BLOCK / 2048 * BLOCKS,
		.tp_retire_blk_tov = LATEST,
	};
	struct sockaddr_ll here = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(argv[0]),
	};
	struct sigaction action = { .sa_handler = stop };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), version = TPACKET_V3, null;
	struct tpacket_stats_v3 counted = { 0 };
	socklen_t length = sizeof(counted);
	sigset_t held;
	void *ring;
	pid_t child;

	if (!here.sll_ifindex || fd < 0)
		fault(argv[0]);
	if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)))
		fault("PACKET_RX_RING");
	ring = mmap(NULL, BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring == MAP_FAILED || bind(fd, (struct sockaddr *)&here, sizeof(here)))
		fault(argv[0]);
	out = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (out < 0 || null < 0)
		fault(argv[1]);
	write_all(&header, sizeof(header));
	sigemptyset(&held);
	sigaddset(&held, SIGTERM);
	sigprocmask(SIG_BLOCK, &held, NULL); /* but while it waits */
	sigaction(SIGTERM, &action, NULL);
	child = fork();
	if (child < 0)
		fault("fork");
	if (child) {
		tell("process", (uint32_t)child, argv[2]);
		return;
	}
	setsid();
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	follow(fd, ring);
	if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &counted, &length))
		fault("PACKET_STATISTICS");
	tell("missed", counted.tp_drops, argv[2]);
	_exit(0);
}
