/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A digest of link notifications, one line for each group and interval, in place of one
 * message for each link and change; and who listens, counted.
 *
 * A group has a thousand members and any number of listeners: each gets a copy of each
 * message.  One that listens for all others, and tells each the digest, takes both factors
 * away: `serve` does that at a socket, `from` reads there.
 */
#define _GNU_SOURCE
#include "group.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL 1000 /* ms */
#define ROOM (4 << 20) /* bytes asked for: some 2,000 messages */
#define MOST_READERS 1024
#define MOST_LISTENERS 256
#define RECEIVE 65536

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

/* What happened in a group since the last line. */
struct digest {
	uint32_t group;
	uint64_t messages, bytes, made, gone, up, down, mtu, moved, other;
	uint32_t last_mtu;
	bool one_mtu;
};

struct watch {
	struct table links, digests;
	struct group_set groups;
	bool any, lost;
	uint64_t interval, due; /* ms; 0: nothing happened yet */
	int readers[MOST_READERS];
	size_t reader_count;
	bool serves;
};

static void compare_links(struct digest *d, const struct link *was, const struct link *is)
{
	bool known = false;

	if ((was->flags ^ is->flags) & IFF_UP) {
		*(is->flags & IFF_UP ? &d->up : &d->down) += 1;
		known = true;
	}
	if (was->mtu != is->mtu) {
		d->one_mtu = !d->mtu++ || (d->one_mtu && d->last_mtu == is->mtu);
		d->last_mtu = is->mtu;
		known = true;
	}
	if (was->group != is->group) {
		d->moved++;
		known = true;
	}
	d->other += !known;
}

static struct digest *digest_of(struct watch *w, uint32_t group)
{
	if (!w->due)
		w->due = now_ms() + w->interval;
	return table_add(&w->digests, group);
}

static void take_change(struct watch *w, const struct nlmsghdr *h)
{
	struct link *was, now;
	struct digest *d;

	if ((h->nlmsg_type != RTM_NEWLINK && h->nlmsg_type != RTM_DELLINK) || !link_read(h, &now))
		return;
	was = table_find(&w->links, now.index);
	d = digest_of(w, now.group);
	d->messages++;
	d->bytes += h->nlmsg_len;
	if (h->nlmsg_type == RTM_DELLINK) {
		/* A bridge tells that a port left it in the same words. */
		d->gone += was != NULL;
		table_remove(&w->links, now.index);
		return;
	}
	if (!was)
		d->made++;
	else
		compare_links(d, was, &now);
	*(struct link *)table_add(&w->links, now.index) = now;
}

/* What was lost is known by what is there now. */
static void read_anew(struct watch *w)
{
	struct table before = w->links;
	const struct link *link;
	size_t slot = 0;
	int fd = links_open();

	w->links = (struct table){ .size = sizeof(struct link) };
	links_dump(fd, &w->links);
	close(fd);
	while ((link = table_next(&w->links, &slot))) {
		const struct link *was = table_find(&before, link->index);

		if (!was)
			digest_of(w, link->group)->made++;
		else if (was->flags != link->flags || was->mtu != link->mtu ||
			 was->group != link->group)
			compare_links(digest_of(w, link->group), was, link);
	}
	slot = 0;
	while ((link = table_next(&before, &slot)))
		if (!table_find(&w->links, link->index))
			digest_of(w, link->group)->gone++;
	table_empty(&before);
	w->lost = true;
}

static void hear(struct watch *w, int fd)
{
	static _Alignas(struct nlmsghdr) char data[RECEIVE];

	for (;;) {
		ssize_t got = recv(fd, data, sizeof(data), 0);
		int left = (int)got;

		if (got < 0 && errno == ENOBUFS) {
			read_anew(w);
			continue;
		}
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return;
		for (struct nlmsghdr *h = (void *)data; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
			take_change(w, h);
	}
}

static size_t add(char *line, size_t at, size_t room, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static size_t add(char *line, size_t at, size_t room, const char *format, ...)
{
	va_list words;
	int len;

	va_start(words, format);
	len = vsnprintf(line + at, room - at, format, words);
	va_end(words);
	return at + (size_t)len < room ? at + (size_t)len : room - 1;
}

struct said {
	const char *name, *words;
	uint64_t count;
};

static size_t line_for(const struct watch *w, const struct digest *d, char *line, size_t room)
{
	const struct said all[] = {
		{ "new", "new", d->made },	   { "gone", "gone", d->gone },
		{ "up", "up", d->up },		   { "down", "down", d->down },
		{ "mtu", "mtu", d->mtu },	   { "moved", "moved here", d->moved },
		{ "other", "otherwise", d->other },
	};
	size_t at = 0;

	if (options.json) {
		at = add(line, at, room, "{\"time\":%llu,\"number\":%u,\"group\":",
			 (unsigned long long)time(NULL), d->group);
		at += json_quoted(line + at, room - at, group_name(d->group));
		for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
			at = add(line, at, room, ",\"%s\":%llu", all[i].name,
				 (unsigned long long)all[i].count);
		if (d->one_mtu)
			at = add(line, at, room, ",\"to_mtu\":%u", d->last_mtu);
		return add(line, at, room, ",\"messages\":%llu,\"bytes\":%llu,\"lost\":%s}\n",
			   (unsigned long long)d->messages, (unsigned long long)d->bytes,
			   w->lost ? "true" : "false");
	}
	at = add(line, at, room, "group %s:", group_name(d->group));
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		if (!all[i].count)
			continue;
		at = add(line, at, room, " %llu %s", (unsigned long long)all[i].count, all[i].words);
		if (!strcmp(all[i].name, "mtu") && d->one_mtu)
			at = add(line, at, room, " %u", d->last_mtu);
		at = add(line, at, room, ",");
	}
	return add(line, at, room, " %llu messages, %llu bytes%s\n",
		   (unsigned long long)d->messages, (unsigned long long)d->bytes,
		   w->lost ? ", some were lost and read anew" : "");
}

static void tell(struct watch *w, const char *line, size_t len)
{
	if (!w->serves) {
		put_bytes(line, len);
		return;
	}
	for (size_t i = 0; i < w->reader_count; i++)
		if (send(w->readers[i], line, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
			/* Gone, or too slow: it comes again and lists what there is. */
			close(w->readers[i]);
			w->readers[i--] = w->readers[--w->reader_count];
		}
}

static int by_group(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void tell_all(struct watch *w)
{
	uint32_t *order = cleared(w->digests.count, sizeof(*order));
	const struct digest *d;
	size_t slot = 0, count = 0;

	while ((d = table_next(&w->digests, &slot)))
		order[count++] = d->group;
	qsort(order, count, sizeof(*order), by_group);
	for (size_t i = 0; i < count; i++) {
		char line[LINE_MOST];

		if (w->any || group_in(&w->groups, order[i]))
			tell(w, line, line_for(w, table_find(&w->digests, order[i]), line, sizeof(line)));
	}
	put_flush();
	free(order);
	table_empty(&w->digests);
	w->due = 0;
	w->lost = false;
}

static int unix_socket(const char *path, struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path))
		misused("watch: %s: the path of a socket has at most %zu bytes", path,
			sizeof(address->sun_path) - 1);
	strcpy(address->sun_path, path);
	if (fd < 0)
		fault("%s: %s", path, strerror(errno));
	return fd;
}

static int serve_at(const char *path)
{
	struct sockaddr_un address;
	int fd = unix_socket(path, &address);

	unlink(path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, MOST_READERS))
		fault("%s: %s", path, strerror(errno));
	return fd;
}

static int read_from(const char *path)
{
	struct sockaddr_un address;
	int fd = unix_socket(path, &address);

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		fault("%s: %s", path, strerror(errno));
	return fd;
}

/* Until it is told to end: then what is in the socket is still told. */
static void digest(struct watch *w, int heard, int served)
{
	struct pollfd wait[] = {
		{ .fd = heard, .events = POLLIN },
		{ .fd = served, .events = POLLIN },
	};

	while (!told_to_end) {
		uint64_t now = now_ms();
		int left = !w->due ? -1 : w->due > now ? (int)(w->due - now) : 0;

		wait_for(wait, 2, left);
		if (served >= 0 && wait[1].revents && w->reader_count < MOST_READERS) {
			int fd = accept4(served, NULL, NULL, SOCK_CLOEXEC);

			if (fd >= 0)
				w->readers[w->reader_count++] = fd;
		}
		hear(w, heard);
		if (w->due && now_ms() >= w->due)
			tell_all(w);
	}
	hear(w, heard);
	tell_all(w);
}

/* Listeners that are counted, in processes of their own. */
struct counted {
	uint64_t messages, bytes, lost, cpu;
};

static void count_until_end(int fd, bool raw, struct counted *c)
{
	static _Alignas(struct nlmsghdr) char data[RECEIVE];
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	uint32_t memory[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(memory);
	struct timespec used;

	for (;;) {
		ssize_t got = recv(fd, data, sizeof(data), MSG_DONTWAIT);
		int left = (int)got;

		if (got > 0)
			c->bytes += (uint64_t)got;
		c->messages += got > 0 && !raw;
		for (struct nlmsghdr *h = (void *)data; raw && got > 0 && NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left))
			c->messages++;
		if (!got || (got < 0 && errno == EAGAIN && told_to_end))
			break;
		if (got < 0 && errno == EAGAIN)
			wait_for(&wait, 1, -1);
		else if (got < 0 && errno != EINTR && errno != ENOBUFS)
			_exit(1);
	}
	if (raw && !getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &len))
		c->lost = memory[SK_MEMINFO_DROPS];
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	c->cpu = (uint64_t)used.tv_sec * UINT64_C(1000000000) + (uint64_t)used.tv_nsec;
}

/*
 * A process that listens.  One that is woken does not take the CPU from who changes: what
 * that costs would be a matter of the moment.
 */
static pid_t forked(int ready)
{
	const struct sched_param none = { 0 };
	pid_t pid = fork();

	if (pid < 0)
		fault("a listener: %s", strerror(errno));
	if (pid) {
		close(ready);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &none); /* musl's own does nothing */
	return 0;
}

static void wait_ready(int ready)
{
	char byte;

	if (read(ready, &byte, 1) != 1)
		fault("a listener did not start");
	close(ready);
}

static void wait_end(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status)
		fault("a listener ended before its time");
}

static void say(const char *name, uint64_t value)
{
	put(name);
	put(" ");
	put_number(value);
	put("\n");
}

/*
 * N processes that listen: to the kernel itself, or to one that tells them the digest.
 * Says what all of them heard, once it is told to end.
 */
static int count_listeners(struct watch *w, size_t count, bool raw, int room)
{
	struct counted *each = mmap(NULL, (count + 1) * sizeof(*each), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pids[MOST_LISTENERS + 1], server = 0;
	static const int told = SIGUSR1;
	struct counted sum = { 0 };
	sigset_t end;
	int pair[2], ready[2];

	if (each == MAP_FAILED)
		fault("memory is short");
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	/* Who is told to end ends when it is told by us: what it waits for is then all there. */
	sigprocmask(SIG_BLOCK, &end, NULL);
	w->serves = true;
	for (size_t i = 0; i < count; i++) {
		if ((!raw && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) ||
		    pipe(ready))
			fault("a listener: %s", strerror(errno));
		pids[i] = forked(ready[1]);
		if (!pids[i]) {
			int fd = raw ? listen_links(room) : pair[1];

			signal(SIGTERM, SIG_IGN); /* it is for the group of all of them */
			end_at(&told, 1);
			for (size_t k = 0; k < w->reader_count; k++)
				close(w->readers[k]);
			if (!raw)
				close(pair[0]);
			if (write(ready[1], "", 1) != 1)
				_exit(1);
			count_until_end(fd, raw, &each[i]);
			_exit(0);
		}
		wait_ready(ready[0]);
		if (!raw) {
			close(pair[1]);
			w->readers[w->reader_count++] = pair[0];
		}
	}
	if (!raw && count) {
		if (pipe(ready))
			fault("a listener: %s", strerror(errno));
		server = forked(ready[1]);
	}
	if (!raw && count && !server) {
		struct timespec used;
		int heard = listen_links(room), fd = links_open();

		signal(SIGTERM, SIG_IGN);
		end_at(&told, 1);
		links_dump(fd, &w->links);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
		each[count].cpu = 0 - ((uint64_t)used.tv_sec * UINT64_C(1000000000) +
				       (uint64_t)used.tv_nsec);
		digest(w, heard, -1);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
		each[count].cpu += (uint64_t)used.tv_sec * UINT64_C(1000000000) +
				   (uint64_t)used.tv_nsec;
		_exit(0);
	}
	if (server)
		wait_ready(ready[0]);
	for (size_t i = 0; i < w->reader_count; i++)
		close(w->readers[i]);
	put("listening\n");
	put_flush();
	sigwaitinfo(&end, NULL);
	if (server) {
		/* Its readers end when it has told them all and closes. */
		kill(server, SIGUSR1);
		wait_end(server);
	}
	for (size_t i = 0; i < count; i++) {
		kill(pids[i], SIGUSR1);
		wait_end(pids[i]);
		sum.messages += each[i].messages;
		sum.bytes += each[i].bytes;
		sum.lost += each[i].lost;
		sum.cpu += each[i].cpu;
	}
	say("messages", sum.messages);
	say("bytes", sum.bytes);
	say("lost", sum.lost);
	say("cpu_ns", sum.cpu + (server ? each[count].cpu : 0));
	return 0;
}

/* Prints what another one tells. */
static int relay(const char *path)
{
	static char line[RECEIVE];
	int fd = read_from(path);
	ssize_t got;

	while ((got = recv(fd, line, sizeof(line), 0)) > 0) {
		put_bytes(line, (size_t)got);
		put_flush();
	}
	warn("%s: its end", path);
	return 1;
}

/* [GROUP] [interval MS] [room BYTES] [serve PATH | from PATH | listeners N raw|digest] */
int do_watch(char **argv)
{
	static const int ends[] = { SIGTERM, SIGINT };
	struct watch w = {
		.any = true,
		.interval = INTERVAL,
		.links.size = sizeof(struct link),
		.digests.size = sizeof(struct digest),
	};
	const char *served = NULL, *from = NULL, *way = NULL;
	uint64_t room = ROOM, listeners = 0;
	struct tree tree;
	int heard, fd;

	for (; *argv; argv++) {
		if (!strcmp(*argv, "interval") && number_of(argv[1], 1, 86400000, &w.interval))
			argv++;
		else if (!strcmp(*argv, "room") && number_of(argv[1], 1, 1 << 30, &room))
			argv++;
		else if (!strcmp(*argv, "serve") && argv[1])
			served = *++argv;
		else if (!strcmp(*argv, "from") && argv[1])
			from = *++argv;
		else if (!strcmp(*argv, "listeners") &&
			 number_of(argv[1], 0, MOST_LISTENERS, &listeners) && argv[2]) {
			way = argv[2];
			argv += 2;
			if (strcmp(way, "raw") && strcmp(way, "digest"))
				misused("watch: %s: raw or digest is expected", way);
		} else if (w.any) {
			uint32_t group = group_of(!strcmp(*argv, "group") ? *++argv : *argv);

			tree_load(&tree, false);
			tree_groups(&tree, group, true, &w.groups);
			w.any = false;
		} else
			misused("watch: %s: one group is expected", *argv);
	}
	if (from)
		return relay(from);
	if (way)
		return count_listeners(&w, listeners, !strcmp(way, "raw"), (int)room);
	end_at(ends, 2);
	heard = listen_links((int)room);
	fd = links_open();
	links_dump(fd, &w.links);
	close(fd);
	w.serves = served != NULL;
	digest(&w, heard, served ? serve_at(served) : -1);
	return 0;
}
