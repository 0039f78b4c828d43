/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest itself: who it is, its files, its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "measure.h"
#include "ops.h"

#define FILE_LIMIT (4u << 20)
#define CLOCKSOURCE_FILE "/sys/devices/system/clocksource/clocksource0/current_clocksource"

static bool clock_from_sysfs(char *name, size_t capacity)
{
	int fd = open(CLOCKSOURCE_FILE, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return false;
	got = read(fd, name, capacity - 1);
	close(fd);
	if (got <= 0)
		return false;
	name[got] = '\0';
	name[strcspn(name, "\n")] = '\0';
	return true;
}

/* Without sysfs only the kernel's log says which clock it took: the last word counts. */
static void clock_from_log(char *name, size_t capacity)
{
	static const char mark[] = "clocksource: Switched to clocksource ";
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char record[2048];
	ssize_t got;

	snprintf(name, capacity, "unknown");
	if (fd < 0)
		return;
	while ((got = read(fd, record, sizeof(record) - 1)) > 0 || (got < 0 && errno == EPIPE)) {
		char *found;

		if (got < 0)
			continue;
		record[got] = '\0';
		found = strstr(record, mark);
		if (found)
			snprintf(name, capacity, "%.*s", (int)strcspn(found + sizeof(mark) - 1, "\n"),
				 found + sizeof(mark) - 1);
	}
	close(fd);
}

/*
 * Protocol version, kernel release and version, machine, clock source and its
 * resolution in ns, online CPUs, memory in KiB, seconds since boot in ns, and
 * a number drawn when the agent started, which tells one agent from another.
 */
enum outcome op_hello(struct reader *in, struct buffer *out, struct failure *why)
{
	struct utsname name;
	struct timespec resolution, up;
	char clock[64];

	(void)in;
	if (uname(&name) || clock_getres(CLOCK_MONOTONIC, &resolution) ||
	    clock_gettime(CLOCK_BOOTTIME, &up))
		return fail(why, OP_SYSTEM, errno, "uname or clock");
	if (!clock_from_sysfs(clock, sizeof(clock)))
		clock_from_log(clock, sizeof(clock));
	put_u64(out, PROTOCOL_VERSION);
	put_text(out, name.release);
	put_text(out, name.version);
	put_text(out, name.machine);
	put_text(out, clock);
	put_u64(out, (uint64_t)resolution.tv_sec * 1000000000u + (uint64_t)resolution.tv_nsec);
	put_u64(out, (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
	put_u64(out, (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 1024);
	put_u64(out, (uint64_t)up.tv_sec * 1000000000u + (uint64_t)up.tv_nsec);
	put_u64(out, agent_nonce());
	return OP_OK;
}

static bool stir(const uint8_t *entropy, size_t len)
{
	struct rand_pool_info *pool = malloc(sizeof(*pool) + len);
	int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	bool done;

	if (!pool)
		_Exit(12);
	pool->entropy_count = (int)len * 8;
	pool->buf_size = (int)len;
	memcpy(pool->buf, entropy, len);
	done = fd >= 0 && !ioctl(fd, RNDADDENTROPY, pool) && !ioctl(fd, RNDRESEEDCRNG, 0);
	if (fd >= 0)
		close(fd);
	free(pool);
	return done;
}

/*
 * realtime, entropy: for a guest that goes on from a snapshot.  It slept
 * without knowing, and others woke up from the same memory: sets the clock to
 * `realtime` (ns since 1970) and stirs the random pool.  Returns the number
 * drawn when the agent started, which only memory holds, and 8 random bytes.
 */
enum outcome op_resume(struct reader *in, struct buffer *out, struct failure *why)
{
	uint64_t now = take_u64(in), drawn = 0;
	size_t len;
	const uint8_t *entropy = take_bytes(in, &len);
	struct timespec t = {
		.tv_sec = (time_t)(now / 1000000000u),
		.tv_nsec = (long)(now % 1000000000u),
	};

	if (!entropy || len < 32 || len > 512)
		return fail(why, OP_BAD_REQUEST, 0, "resume: time and 32 to 512 bytes expected");
	if (clock_settime(CLOCK_REALTIME, &t))
		return fail(why, OP_SYSTEM, errno, "clock_settime");
	if (!stir(entropy, len))
		return fail(why, OP_SYSTEM, errno, "/dev/urandom");
	if (syscall(SYS_getrandom, &drawn, sizeof(drawn), 0) != sizeof(drawn))
		return fail(why, OP_SYSTEM, errno, "getrandom");
	put_u64(out, agent_nonce());
	put_u64(out, drawn);
	return OP_OK;
}

/* path: its first 4 MiB. */
enum outcome op_read_file(struct reader *in, struct buffer *out, struct failure *why)
{
	char *path = take_text(in);
	struct buffer content = { 0 };
	char block[4096];
	ssize_t got = 0;
	int fd, saved;

	if (!path)
		return fail(why, OP_BAD_REQUEST, 0, "read-file: a path expected");
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		enum outcome outcome = fail(why, OP_MISSING, errno, path);

		free(path);
		return outcome;
	}
	while (content.len < FILE_LIMIT && (got = read(fd, block, sizeof(block))) > 0)
		buffer_add(&content, block, (size_t)got);
	saved = errno;
	close(fd);
	if (got < 0 && saved != EAGAIN) {
		enum outcome outcome = fail(why, OP_SYSTEM, saved, path);

		free(path);
		free(content.data);
		return outcome;
	}
	put_bytes(out, content.data, content.len);
	free(path);
	free(content.data);
	return OP_OK;
}

/* path, mode, append, bytes: mode 0 keeps what the file has (or 0644). */
enum outcome op_write_file(struct reader *in, struct buffer *out, struct failure *why)
{
	char *path = take_text(in);
	uint64_t mode = take_u64(in), append = take_u64(in);
	size_t len, done = 0;
	const uint8_t *bytes = take_bytes(in, &len);
	enum outcome outcome = OP_OK;
	int fd;

	(void)out;
	if (!path || !bytes) {
		free(path);
		return fail(why, OP_BAD_REQUEST, 0, "write-file: path, mode, append, bytes expected");
	}
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC),
		  mode ? (mode_t)mode : 0644);
	if (fd < 0) {
		outcome = fail(why, OP_MISSING, errno, path);
		free(path);
		return outcome;
	}
	while (done < len) {
		ssize_t put = write(fd, bytes + done, len - done);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0) {
			outcome = fail(why, OP_SYSTEM, errno, path);
			break;
		}
		done += (size_t)put;
	}
	if (outcome == OP_OK && mode && fchmod(fd, (mode_t)mode))
		outcome = fail(why, OP_SYSTEM, errno, path);
	close(fd);
	free(path);
	return outcome;
}

/* The machine ends once the reply is out: that reply is the end of a run. */
enum outcome op_power_off(struct reader *in, struct buffer *out, struct failure *why)
{
	(void)in;
	(void)why;
	put_text(out, "end");
	agent_end_after_reply();
	return OP_OK;
}
