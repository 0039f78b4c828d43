/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The links between machines, and what they do to frames.
 *
 *	wire CONTROL [FD FD WAY WAY]...
 *
 * A link is a pair of datagram sockets, each the peer of one that a machine
 * has, and a way for each direction, which is numbers with commas between:
 * bit/s, delay in ns, packets and bytes that it holds at most, the packets
 * lost, doubled, sent ahead and corrupted in a million, bytes that a frame takes
 * beside its own, and a seed.  0 is no rate, no limit, a seed of its own.
 *
 * The words mean what they mean to the kernel's netem, so that a link does the
 * same wherever its hosts are: what a way holds is all that has come and not
 * arrived yet, and what is sent ahead waits neither for the rate nor for the
 * delay.  What happens to a frame depends on the seed and on how many came
 * before it, and on nothing else: two kernels lose the same packets.
 *
 * CONTROL is a SOCK_SEQPACKET; each request gets one answer, and its end is ours:
 *	counters LINK	lines `name there back`; high marks begin anew
 *	dark LINK	what is on the way, and all that comes, vanishes
 *	up LINK		... no longer
 */
#define _GNU_SOURCE /* ppoll */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)
#define MILLISECOND UINT64_C(1000000)
#define NEVER UINT64_MAX
#define LARGEST (4096 + 65536) /* a frame: NET_BUFSIZE of QEMU's include/net/net.h */
#define AT_ONCE 64 /* frames of one socket, then somebody else's turn */
#define FASTEST UINT64_C(10000000000) /* bit/s that there is room for where there is no rate */
#define JUMBO 9216 /* bytes of room for each packet that may wait */
#define LEAST_ROOM (UINT64_C(4) << 20)
#define MOST_ROOM (UINT64_C(256) << 20)
#define ALIGNMENT 16

enum counter {
	CAME,	      /* frames from the machine at the beginning */
	BYTES,	      /* ... and their bytes */
	ARRIVED,      /* frames that were handed to the machine at the end */
	LOST,	      /* by chance */
	DROPPED,      /* because the way held as much as it may */
	DOUBLED,
	AHEAD,
	CORRUPTED,
	VANISHED,     /* in the dark, or because there was no machine any more */
	OVERFLOWED,   /* for want of memory: a fault of ours */
	LATE,	      /* handed over a millisecond or more after they were due */
	LATEST_NS,    /* how long after, at most */
	MOST_PACKETS, /* that the way held */
	MOST_BYTES,
	COUNTERS
};

static const char *const names[COUNTERS] = {
	"came",	    "bytes",	 "arrived", "lost",	 "dropped",	 "doubled",    "ahead",
	"corrupted", "vanished", "overflowed", "late", "latest_ns", "most_packets", "most_bytes",
};

struct frame {
	uint64_t due;
	uint64_t length; /* 0: the rest of the ring is unused */
	unsigned char bytes[];
};

struct way {
	uint64_t rate, delay, packets, bytes, loss, dup, reorder, corrupt, overhead, seed;
	int out;
	bool is_blocked; /* the machine takes no more for now */
	uint64_t free_at; /* when the last frame's last bit has left */
	uint64_t held, held_bytes;
	uint64_t counters[COUNTERS];
	/* The frames on the way, in the order in which they are due. */
	unsigned char *ring;
	size_t size, head, tail;
};

struct link {
	bool is_dark;
	struct way ways[2]; /* what comes from our socket i leaves by ways[i] */
};

static struct link *links;
static struct pollfd *fds; /* the control socket, and two for each link */
static size_t count;

_Noreturn static void fault(const char *what)
{
	fprintf(stderr, "wire: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

/* A number of 64 bits from another one (splitmix64; Steele, Lea, Flood: OOPSLA 2014). */
static uint64_t mixed(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

enum draw { LOSS, DUP, REORDER, CORRUPT, WHERE };

/* What chance says to the frame that came last, and its copy: 32 bits. */
static uint64_t drawn(const struct way *way, enum draw draw, unsigned int copy)
{
	uint64_t which = way->counters[CAME] * 16 + copy * 8 + draw;

	return mixed(mixed(way->seed) ^ which) >> 32;
}

static bool happens(const struct way *way, uint64_t millionths, enum draw draw, unsigned int copy)
{
	return millionths && drawn(way, draw, copy) * 1000000 >> 32 < millionths;
}

static void raise_to(uint64_t *mark, uint64_t value)
{
	if (*mark < value)
		*mark = value;
}

static size_t room_for(size_t length)
{
	return (sizeof(struct frame) + length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* A place for a frame at the ring's end, NULL where there is none. */
static struct frame *place(struct way *way, size_t needed)
{
	struct frame *found;
	bool is_wrapped;

	if (!way->held)
		way->head = way->tail = 0;
	is_wrapped = way->held && way->tail <= way->head;
	if (is_wrapped && way->head - way->tail < needed)
		return NULL;
	if (!is_wrapped && way->size - way->tail < needed) {
		if (way->head < needed)
			return NULL;
		if (way->tail < way->size)
			((struct frame *)(way->ring + way->tail))->length = 0;
		way->tail = 0;
	}
	found = (struct frame *)(way->ring + way->tail);
	way->tail += needed;
	return found;
}

static struct frame *first(struct way *way)
{
	struct frame *frame = (struct frame *)(way->ring + way->head);

	if (way->head == way->size || !frame->length) {
		way->head = 0;
		frame = (struct frame *)way->ring;
	}
	return frame;
}

static void remove_first(struct way *way, const struct frame *frame)
{
	way->head += room_for(frame->length);
	way->held--;
	way->held_bytes -= frame->length;
}

/* Hands a frame to the machine; says whether it is rid of it. */
static bool hand_over(struct way *way, const unsigned char *bytes, size_t length)
{
	ssize_t sent;

	do
		sent = send(way->out, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
		way->is_blocked = true;
		return false;
	}
	way->counters[sent < 0 ? VANISHED : ARRIVED]++;
	return true;
}

/* Hands over what is due; returns when the next frame is. */
static uint64_t deliver(struct way *way)
{
	while (way->held && !way->is_blocked) {
		struct frame *frame = first(way);
		uint64_t now = now_ns();

		if (frame->due > now)
			return frame->due;
		if (!hand_over(way, frame->bytes, frame->length))
			break;
		way->counters[LATE] += now - frame->due >= MILLISECOND;
		raise_to(&way->counters[LATEST_NS], now - frame->due);
		remove_first(way, frame);
	}
	return NEVER;
}

/* Sends a frame on its way. */
static void forward(struct way *way, const unsigned char *bytes, size_t length, unsigned int copy)
{
	uint64_t now = now_ns(), takes = 0;
	int64_t on_wire = (int64_t)(length + way->overhead); /* that may be less than the frame */
	struct frame *frame;

	if (happens(way, way->reorder, REORDER, copy)) {
		way->counters[AHEAD]++;
		if (!way->is_blocked && hand_over(way, bytes, length))
			return;
	}
	if ((way->packets && way->held >= way->packets) ||
	    (way->bytes && way->held_bytes + length > way->bytes)) {
		way->counters[DROPPED]++;
		return;
	}
	frame = place(way, room_for(length));
	if (!frame) {
		way->counters[OVERFLOWED]++;
		return;
	}
	if (way->rate && on_wire > 0)
		takes = (uint64_t)on_wire * 8 * SECOND / way->rate;
	way->free_at = (way->free_at > now ? way->free_at : now) + takes;
	frame->due = way->free_at + way->delay;
	frame->length = length;
	memcpy(frame->bytes, bytes, length);
	way->held++;
	way->held_bytes += length;
	raise_to(&way->counters[MOST_PACKETS], way->held);
	raise_to(&way->counters[MOST_BYTES], way->held_bytes);
}

static void take(struct link *link, int fd, struct way *way)
{
	static unsigned char bytes[LARGEST];

	for (int i = 0; i < AT_ONCE; i++) {
		ssize_t length = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		unsigned int copies;

		if (length <= 0)
			return;
		way->counters[CAME]++;
		way->counters[BYTES] += (uint64_t)length;
		if (link->is_dark) {
			way->counters[VANISHED]++;
			continue;
		}
		copies = 1;
		if (happens(way, way->dup, DUP, 0)) {
			way->counters[DOUBLED]++;
			copies++;
		}
		for (unsigned int copy = 0; copy < copies; copy++) {
			uint64_t bit = drawn(way, WHERE, copy) % ((uint64_t)length * 8);
			unsigned char flip = (unsigned char)(1U << bit % 8);

			if (happens(way, way->loss, LOSS, copy)) {
				way->counters[LOST]++;
				continue;
			}
			if (!happens(way, way->corrupt, CORRUPT, copy))
				flip = 0;
			way->counters[CORRUPTED] += flip != 0;
			bytes[bit / 8] ^= flip;
			forward(way, bytes, (size_t)length, copy);
			bytes[bit / 8] ^= flip; /* the other copy is whole */
		}
	}
}

static void darken(struct link *link)
{
	link->is_dark = true;
	for (int i = 0; i < 2; i++) {
		struct way *way = &link->ways[i];

		way->counters[VANISHED] += way->held;
		way->held = way->held_bytes = way->free_at = 0;
	}
}

static size_t tell_counters(struct link *link, char *text, size_t size)
{
	size_t length = 0;

	for (int i = 0; i < COUNTERS; i++) {
		length += (size_t)snprintf(text + length, size - length, "%s %" PRIu64 " %" PRIu64 "\n",
					   names[i], link->ways[0].counters[i],
					   link->ways[1].counters[i]);
		if (i >= LATEST_NS)
			link->ways[0].counters[i] = link->ways[1].counters[i] = 0;
	}
	return length;
}

/* Answers a request; says whether there is somebody to answer. */
static bool answer(int control)
{
	char text[2048], verb[16];
	ssize_t got = recv(control, text, sizeof(text) - 1, MSG_DONTWAIT);
	size_t number, length = 0;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (got <= 0)
		return false;
	text[got] = '\0';
	if (sscanf(text, "%15s %zu", verb, &number) != 2 || number >= count)
		length = (size_t)snprintf(text, sizeof(text), "unknown\n");
	else if (!strcmp(verb, "counters"))
		length = tell_counters(&links[number], text, sizeof(text));
	else if (!strcmp(verb, "dark"))
		darken(&links[number]);
	else if (!strcmp(verb, "up"))
		links[number].is_dark = false;
	else
		length = (size_t)snprintf(text, sizeof(text), "unknown\n");
	if (!length)
		length = (size_t)snprintf(text, sizeof(text), "done\n");
	return send(control, text, length, MSG_NOSIGNAL) >= 0;
}

static void read_way(struct way *way, char *text, int out)
{
	uint64_t *const told[] = { &way->rate,	&way->delay,   &way->packets, &way->bytes,
				   &way->loss,	&way->dup,     &way->reorder, &way->corrupt,
				   &way->overhead, &way->seed };
	uint64_t line;

	for (size_t i = 0; i < sizeof(told) / sizeof(*told); i++) {
		char *end;

		errno = 0;
		/* A negative overhead comes out as the number that adds up to it. */
		*told[i] = (uint64_t)(*text == '-' ? strtoll(text, &end, 10) :
						     (long long)strtoull(text, &end, 10));
		if (errno || end == text || (*end && *end != ',')) {
			fprintf(stderr, "wire: %s: numbers with commas between are expected\n", text);
			exit(2);
		}
		text = *end ? end + 1 : end;
	}
	way->out = out;
	if (!way->seed && getrandom(&way->seed, sizeof(way->seed), 0) < 0)
		fault("a seed");
	line = (way->rate ? way->rate : FASTEST) / 8;
	/* What is in flight, in small frames too, and what waits; pages that are not used cost nothing. */
	way->size = 2 * line / 1000 * (way->delay / MILLISECOND + 1) + way->packets * JUMBO +
		    2 * way->bytes; /* the smallest frames take so much */
	if (way->size > MOST_ROOM)
		way->size = MOST_ROOM;
	way->size = (way->size < LEAST_ROOM ? LEAST_ROOM : way->size) / ALIGNMENT * ALIGNMENT;
	way->ring = mmap(NULL, way->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (way->ring == MAP_FAILED)
		fault("memory");
}

static int descriptor(const char *text)
{
	return (int)strtol(text, NULL, 10);
}

/* Hands over all that is due, and waits until more is, or until something comes. */
static void wait_for_more(void)
{
	uint64_t next = NEVER, now;
	struct timespec left;

	for (size_t i = 0; i < 2 * count; i++) {
		struct way *way = &links[i / 2].ways[i % 2];
		uint64_t due = deliver(way);

		next = due < next ? due : next;
		fds[1 + (i ^ 1)].events = (short)(POLLIN | (way->is_blocked ? POLLOUT : 0));
	}
	now = now_ns();
	next = next > now ? next - now : 0;
	left.tv_sec = (time_t)(next / SECOND);
	left.tv_nsec = (long)(next % SECOND);
	if (ppoll(fds, 1 + 2 * count, &left, NULL) < 0 && errno != EINTR)
		fault("ppoll");
}

int main(int argc, char **argv)
{
	if (argc < 2 || (argc - 2) % 4) {
		fprintf(stderr, "usage: wire CONTROL [FD FD WAY WAY]...\n");
		return 2;
	}
	count = (size_t)(argc - 2) / 4;
	links = calloc(count + 1, sizeof(*links));
	fds = calloc(1 + 2 * count, sizeof(*fds));
	if (!links || !fds)
		fault("memory");
	fds[0] = (struct pollfd){ .fd = descriptor(argv[1]), .events = POLLIN };
	for (size_t i = 0; i < count; i++) {
		char **words = argv + 2 + 4 * i;

		for (size_t end = 0; end < 2; end++) {
			fds[1 + 2 * i + end] = (struct pollfd){ .fd = descriptor(words[end]) };
			read_way(&links[i].ways[end], words[2 + end], descriptor(words[1 - end]));
		}
	}
	/* Timers of a process are otherwise up to 50 us late (timer_slack_ns of proc(5)). */
	if (prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0))
		fault("timers");
	for (;;) {
		wait_for_more();
		for (size_t i = 0; i < 2 * count; i++) {
			short events = fds[1 + i].revents;

			if (events & (POLLOUT | POLLERR | POLLHUP))
				links[i / 2].ways[(i & 1) ^ 1].is_blocked = false;
			if (events & ~POLLOUT)
				take(&links[i / 2], fds[1 + i].fd, &links[i / 2].ways[i & 1]);
		}
		if (fds[0].revents && !answer(fds[0].fd))
			return 0;
	}
}
