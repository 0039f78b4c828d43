/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What some work asks of the kernel, counted exactly: system calls, and the
 * netlink messages sent with them, of every process that takes part.  Being
 * watched makes the work several times slower, so this is never timed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/netlink.h>

#include "ops.h"

#define REPLY_MOST 60000 /* what a pipe takes before anybody reads */
#define CALL_STOP (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC | \
		 PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE)

/* The kernel's struct ptrace_syscall_info (Linux 5.3), as far as an entry needs it. */
struct call {
	uint8_t op;
	uint8_t pad[3];
	uint32_t arch;
	uint64_t instruction_pointer;
	uint64_t stack_pointer;
	uint64_t number; /* on entry; what it returned on exit */
	uint64_t args[6];
};

#define GET_CALL 0x420e /* PTRACE_GET_SYSCALL_INFO */
#define CALL_ENTRY 1    /* PTRACE_SYSCALL_INFO_ENTRY */
#define CALL_EXIT 2     /* PTRACE_SYSCALL_INFO_EXIT */

/* linux/errno.h, for the kernel's own use: a signal came, the call will be done again. */
#define RESTART_FIRST 512
#define RESTART_LAST 516

struct tally {
	uint64_t calls, messages, processes;
	bool counting;
};

static bool peek(pid_t pid, uint64_t where, uint64_t *word)
{
	errno = 0;
	*word = (uint64_t)ptrace(PTRACE_PEEKDATA, pid, (void *)(uintptr_t)where, NULL);
	return errno == 0;
}

static bool is_netlink(pid_t pid, int fd)
{
	int domain = -1, process, copy = -1;
	socklen_t len = sizeof(domain);

	process = (int)syscall(SYS_pidfd_open, pid, 0);
	if (process >= 0)
		copy = (int)syscall(SYS_pidfd_getfd, process, fd, 0);
	if (copy >= 0)
		getsockopt(copy, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	if (copy >= 0)
		close(copy);
	if (process >= 0)
		close(process);
	return domain == AF_NETLINK;
}

/* How many netlink messages stand behind each other in a traced process's memory. */
static uint64_t messages_in(pid_t pid, uint64_t base, uint64_t len)
{
	uint64_t count = 0, at = 0, word;

	while (at + NLMSG_HDRLEN <= len && peek(pid, base + at, &word)) {
		uint32_t size = (uint32_t)word; /* nlmsg_len comes first */

		if (size < NLMSG_HDRLEN)
			break;
		count++;
		at += NLMSG_ALIGN(size);
	}
	return count;
}

static uint64_t messages_of_sendmsg(pid_t pid, uint64_t header)
{
	uint64_t vector, entries, count = 0;

	if (!peek(pid, header + offsetof(struct msghdr, msg_iov), &vector) ||
	    !peek(pid, header + offsetof(struct msghdr, msg_iovlen), &entries))
		return 0;
	for (uint32_t i = 0; i < (uint32_t)entries && i < 1024; i++) {
		uint64_t base, len, each = vector + i * sizeof(struct iovec);

		if (peek(pid, each, &base) && peek(pid, each + sizeof(base), &len))
			count += messages_in(pid, base, len);
	}
	return count;
}

/* False when this kernel cannot tell. */
static bool look_at(pid_t pid, struct tally *t)
{
	struct call c = { 0 };

	if (ptrace(GET_CALL, pid, (void *)sizeof(c), &c) < 0)
		return errno == ESRCH; /* it was killed meanwhile */
	if (!t->counting)
		return true;
	/* Who is watched is woken by signals that it would else not even notice. */
	if (c.op == CALL_EXIT && -(int64_t)c.number >= RESTART_FIRST &&
	    -(int64_t)c.number <= RESTART_LAST)
		t->calls--;
	if (c.op != CALL_ENTRY)
		return true;
	t->calls++;
	if (c.number == SYS_sendto && is_netlink(pid, (int)c.args[0]))
		t->messages += messages_in(pid, c.args[1], c.args[2]);
	else if (c.number == SYS_sendmsg && is_netlink(pid, (int)c.args[0]))
		t->messages += messages_of_sendmsg(pid, c.args[1]);
	return true;
}

static bool is_birth(int status)
{
	int event = status >> 16;

	return event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK ||
	       event == PTRACE_EVENT_CLONE;
}

/*
 * Watches `first` and whom it starts until all are gone; false when that cannot
 * be.  They are a process group, because the agent may have other children.
 */
static bool watch(pid_t first, struct tally *t)
{
	bool able = true;
	int status;
	pid_t pid;

	/* Not counting them: a newcomer may have ended before the news of its birth is read. */
	while ((pid = waitpid(-first, &status, __WALL)) > 0 || errno == EINTR) {
		int signal = 0;

		if (pid < 0 || !WIFSTOPPED(status))
			continue;
		if (WSTOPSIG(status) == CALL_STOP)
			able = look_at(pid, t) && able;
		else if (is_birth(status))
			t->processes += t->counting;
		else if (WSTOPSIG(status) == SIGSTOP && pid == first)
			t->counting = !t->counting; /* it says where the work begins and ends */
		else if (WSTOPSIG(status) != SIGSTOP && WSTOPSIG(status) != SIGTRAP)
			signal = WSTOPSIG(status);
		if (t->counting && pid == first && !t->calls)
			ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(uintptr_t)OPTIONS);
		ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(uintptr_t)signal);
	}
	t->calls -= t->calls > 0; /* the call that said where the work ends */
	return able;
}

static bool watched; /* this process is: nobody can be traced twice */

static void be_traced(struct reader *in, struct buffer *reply, int line)
{
	pid_t self = getpid();

	watched = true;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(1);
	kill(self, SIGSTOP);
	perform(in, reply);
	kill(self, SIGSTOP);
	if (reply->len > REPLY_MOST || write(line, reply->data, reply->len) != (ssize_t)reply->len)
		_exit(1);
	_exit(0);
}

/*
 * operation, fields...: does another operation in a process of its own.
 * Returns the system calls, the netlink messages sent and the processes
 * started, and as one field the reply to the operation.
 */
enum outcome op_traced(struct reader *in, struct buffer *out, struct failure *why)
{
	static struct buffer reply; /* of a child, and then what came of it */
	struct tally t = { 0 };
	int line[2] = { 0 };
	ssize_t got;
	bool able;
	pid_t pid;

	if (watched)
		return fail(why, OP_MISSING, 0, "who is watched cannot watch");
	/* With room from the start: asking for memory is a system call, too. */
	while (reply.capacity < REPLY_MOST)
		buffer_add(&reply, line, sizeof(line));
	buffer_clear(&reply);
	if (pipe2(line, O_CLOEXEC))
		return fail(why, OP_SYSTEM, errno, "pipe");
	pid = fork();
	if (pid == 0)
		be_traced(in, &reply, line[1]);
	if (pid > 0)
		setpgid(pid, pid); /* whoever comes first, it or we */
	close(line[1]);
	able = pid > 0 && watch(pid, &t);
	got = read(line[0], reply.data, reply.capacity);
	close(line[0]);
	if (!able || got <= 0)
		return fail(why, OP_MISSING, 0, "this kernel does not tell system calls apart");
	put_u64(out, t.calls);
	put_u64(out, t.messages);
	put_u64(out, t.processes);
	put_bytes(out, reply.data, (size_t)got);
	return OP_OK;
}
