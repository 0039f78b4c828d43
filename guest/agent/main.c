/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The lab's hands and stopwatch in the guest.
 *
 *   linklab-agent PORT
 *
 * Reads requests from the port, one frame a line, does them one after the
 * other and answers.  The last reply is kept: a host that lost it, or part of
 * it, asks again, and work is never done twice.  As process 1 it is the
 * guest's init as well, and takes the port from `linklab.port=` on the
 * kernel's command line.
 *
 *   linklab-agent --load-modules
 *
 * For an init that is a script: loads what the image brings for this kernel.
 *
 *   linklab-agent --tsc-khz
 *
 * On the host: prints the frequency of its time stamp counter.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "frame.h"
#include "measure.h"
#include "ops.h"

#define WRITE_BLOCK 24576
#define PATIENCE 10000 /* spins: half a second of virtual time */
#define PORT_WAIT 10000000000u /* ns; for a port that the kernel is still making */
#define GREETING_MS 1000 /* from one hello to the next, until the host says something */

static struct {
	int port;
	uint64_t nonce;
	bool ending;
	bool answered;          /* is there a last reply? */
	uint32_t seq;           /* ... and to which request */
	struct buffer reply;
	struct buffer request;  /* the parts so far of the one that is arriving */
	uint32_t request_seq;
	uint16_t request_parts; /* how many have come */
	uint16_t request_total; /* ... of how many */
	bool request_void;      /* a part was lost, and the host was told so */
	bool heard;             /* has any frame come from the host? */
	size_t unread;          /* bytes that are here behind the line in hand */
	bool spoke;             /* has anything been said since the machine last stopped? */
} agent;

uint64_t agent_nonce(void)
{
	return agent.nonce;
}

void agent_end_after_reply(void)
{
	agent.ending = true;
}

int agent_port(void)
{
	return agent.port;
}

bool agent_is_called(void)
{
	struct pollfd port = { .fd = agent.port, .events = POLLIN };

	return agent.unread || poll(&port, 1, 0) > 0;
}

/*
 * The kernel makes a virtio port in a worker of its own, its node first, and
 * until the worker is done nobody can open it (add_port in the kernel's
 * drivers/char/virtio_console.c).  On a slow host that takes a while.
 */
static bool is_being_made(const char *path, int error)
{
	return strstr(path, "/vport") && (error == ENXIO || error == ENOENT);
}

int port_open(const char *path)
{
	static const struct timespec pause = { .tv_nsec = 1000000 };
	uint64_t due = monotonic_ns() + PORT_WAIT;
	struct termios t;
	int fd;

	while ((fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0 &&
	       is_being_made(path, errno) && monotonic_ns() < due)
		nanosleep(&pause, NULL);
	if (fd < 0 || tcgetattr(fd, &t))
		return fd; /* a virtio port is no terminal */
	cfmakeraw(&t);
	cfsetspeed(&t, B115200);
	t.c_cflag |= CLOCAL;
	tcsetattr(fd, TCSANOW, &t);
	return fd;
}

static void write_all(const uint8_t *data, size_t len)
{
	agent.spoke = true;
	while (len) {
		ssize_t put = write(agent.port, data, len);

		if (put < 0 && errno != EINTR && errno != EAGAIN)
			exit(1);
		if (put > 0) {
			data += put;
			len -= (size_t)put;
		}
	}
}

static uint16_t part_count(size_t len)
{
	return (uint16_t)(len ? (len + FRAME_PAYLOAD - 1) / FRAME_PAYLOAD : 1);
}

static void add_part(struct buffer *out, enum frame_kind kind, uint32_t seq,
		     const struct buffer *body, uint16_t part)
{
	size_t from = (size_t)part * FRAME_PAYLOAD;
	size_t len = body->len - from < FRAME_PAYLOAD ? body->len - from : FRAME_PAYLOAD;
	struct frame f = {
		.kind = kind,
		.seq = seq,
		.part = part,
		.parts = part_count(body->len),
		.payload = body->data + from,
		.len = len,
	};

	frame_encode(out, &f);
}

/* Several lines at once: each write to a virtio port leaves the guest, and it takes 32 KB. */
static void send_body(enum frame_kind kind, uint32_t seq, const struct buffer *body)
{
	static struct buffer lines;

	buffer_clear(&lines);
	for (uint16_t part = 0; part < part_count(body->len); part++) {
		add_part(&lines, kind, seq, body, part);
		if (lines.len >= WRITE_BLOCK || part + 1 == part_count(body->len)) {
			write_all(lines.data, lines.len);
			buffer_clear(&lines);
		}
	}
}

void agent_tell(const struct buffer *body)
{
	send_body(FRAME_NEWS, agent.request_seq, body);
	turn_end();
	agent.spoke = false;
}

static void say_unknown(uint32_t seq)
{
	struct buffer nothing = { .data = (uint8_t *)"" };

	send_body(FRAME_UNKNOWN, seq, &nothing);
}

static void say_hello(void)
{
	struct buffer ask = { 0 }, body = { 0 };
	struct reader in;

	put_text(&ask, "hello");
	in = (struct reader){ .data = ask.data, .left = ask.len };
	perform(&in, &body);
	send_body(FRAME_HELLO, 0, &body);
	free(ask.data);
	free(body.data);
}

static void answer_again(const struct frame *f)
{
	static struct buffer line;

	if (!agent.answered || f->seq != agent.seq) {
		say_unknown(f->seq);
		return;
	}
	if (f->kind == FRAME_POKE) {
		send_body(FRAME_REPLY, agent.seq, &agent.reply);
		return;
	}
	for (size_t i = 0; i + 1 < f->len; i += 2) {
		uint16_t part = (uint16_t)(f->payload[i] | f->payload[i + 1] << 8);

		if (part >= part_count(agent.reply.len))
			continue;
		buffer_clear(&line);
		add_part(&line, FRAME_REPLY, agent.seq, &agent.reply, part);
		write_all(line.data, line.len);
	}
}

static void end_machine(void)
{
	tcdrain(agent.port);
	sync();
	/* With QEMU's -no-reboot this ends it, on kernels without ACPI too. */
	reboot(RB_AUTOBOOT);
	exit(0);
}

static void do_request(void)
{
	struct reader in = { .data = agent.request.data, .left = agent.request.len };

	agent.answered = false;
	turn_settle(REQUEST_BEAT);
	perform(&in, &agent.reply);
	agent.seq = agent.request_seq;
	agent.answered = true;
	send_body(FRAME_REPLY, agent.seq, &agent.reply);
	if (agent.ending)
		end_machine();
}

static void void_request(uint32_t seq)
{
	agent.request_seq = 0;
	agent.request_parts = 0;
	agent.request_void = true;
	say_unknown(seq);
}

/*
 * Parts come in order; one that does not fit voids the request, and the host
 * repeats it.  That is said once: the parts behind a lost one arrive, too, and
 * a host that repeated a long request for each of them would never be done.
 */
static void take_part(const struct frame *f)
{
	if (agent.answered && f->seq == agent.seq) {
		if (f->part + 1 == f->parts)
			send_body(FRAME_REPLY, agent.seq, &agent.reply);
		return;
	}
	if (f->part == 0) {
		buffer_clear(&agent.request);
		agent.request_seq = f->seq;
		agent.request_parts = 0;
		agent.request_total = f->parts;
		agent.request_void = false;
	}
	if (agent.request_void)
		return;
	if (f->seq != agent.request_seq || f->part != agent.request_parts ||
	    f->parts != agent.request_total || f->part >= f->parts) {
		void_request(f->seq);
		return;
	}
	buffer_add(&agent.request, f->payload, f->len);
	if (++agent.request_parts == f->parts)
		do_request();
}

static void take_line(char *line, size_t len)
{
	struct frame f;

	switch (frame_decode(line, len, &f)) {
	case FRAME_NONE:
		break;
	case FRAME_TORN:
		void_request(0);
		break;
	case FRAME_OK:
		agent.heard = true;
		if (f.kind == FRAME_REQUEST)
			take_part(&f);
		else if (f.kind == FRAME_POKE || f.kind == FRAME_RESEND)
			answer_again(&f);
		break;
	}
}

/* A greeting can get lost as everything can, and nobody would ask for it. */
static void greet_until_heard(void)
{
	struct pollfd port = { .fd = agent.port, .events = POLLIN };

	if (turns_taken())
		return; /* nothing is lost there, and waiting takes no time */
	while (!agent.heard && poll(&port, 1, GREETING_MS) == 0)
		say_hello();
}

/*
 * Nothing is left to do, and the host has been told something: it has the word.
 * The machine goes on with a request at its port, which takes it some thousand
 * instructions to come in (virtconsole_enable_backend in hw/char/virtio-console.c).
 * An agent that slept meanwhile would let the time jump to the next timer.  None
 * comes to a guest that was left to a person.
 */
static void give_the_word(void)
{
	struct pollfd port = { .fd = agent.port, .events = POLLIN };

	if (!turns_taken() || !agent.spoke || poll(&port, 1, 0) > 0)
		return;
	agent.spoke = false;
	turn_end();
	for (int i = 0; i < PATIENCE && poll(&port, 1, 0) == 0; i++)
		turn_spin();
}

static void serve(void)
{
	static char input[65536];
	size_t have = 0;

	for (;;) {
		char *line = input, *end;
		ssize_t got;

		give_the_word();
		greet_until_heard();
		got = read(agent.port, input + have, sizeof(input) - have);

		if (got == 0 || (got < 0 && errno == EAGAIN)) {
			/* A virtio port whose host end is not open yet, or the host is gone. */
			if (!isatty(agent.port) && got == 0)
				exit(0);
			usleep(1000);
			continue;
		}
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			exit(1);
		have += (size_t)got;
		while ((end = memchr(line, '\n', have - (size_t)(line - input)))) {
			agent.unread = have - (size_t)(end + 1 - input);
			take_line(line, (size_t)(end - line));
			line = end + 1;
		}
		have -= (size_t)(line - input);
		memmove(input, line, have);
		if (have == sizeof(input)) /* no frame is that long: rubbish */
			have = 0;
	}
}

/* The kernel's command line, "" where it cannot be read. */
static const char *command_line(void)
{
	static char line[4096];
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && read(fd, line, sizeof(line) - 1) < 0)
		line[0] = '\0';
	if (fd >= 0)
		close(fd);
	return line;
}

/* `linklab.port=NAME` from the kernel's command line, as /dev/NAME. */
static const char *port_from_command_line(void)
{
	static char path[80];
	const char *found = strstr(command_line(), "linklab.port=");

	if (!found)
		return NULL;
	found += strlen("linklab.port=");
	snprintf(path, sizeof(path), "/dev/%.*s", (int)strcspn(found, " \n"), found);
	return path;
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : NULL;

	if (getpid() == 1) {
		mount_all();
		path = port_from_command_line();
		be_init(!path || strcmp(path, CONSOLE_PATH));
	}
	if (path && !strcmp(path, "--tsc-khz"))
		return print_tsc_khz();
	if (path && !strcmp(path, "--load-modules"))
		return load_modules() ? 0 : 1;
	if (!path) {
		dprintf(STDERR_FILENO, "usage: linklab-agent PORT (or linklab.port= on the kernel's command line)\n");
		return 2;
	}
	if (strstr(command_line(), "linklab.turns") && !turns_begin()) {
		dprintf(STDERR_FILENO, "linklab-agent: no turns: neither /dev/port nor ioperm: %s\n", strerror(errno));
		return 1;
	}
	agent.port = strcmp(path, "-") ? port_open(path) : STDIN_FILENO;
	if (agent.port < 0) {
		dprintf(STDERR_FILENO, "linklab-agent: %s: %s\n", path, strerror(errno));
		return 1;
	}
	if (syscall(SYS_getrandom, &agent.nonce, sizeof(agent.nonce), 1 /* GRND_NONBLOCK */) < 0)
		agent.nonce = monotonic_ns();
	say_hello();
	serve();
	return 0;
}
