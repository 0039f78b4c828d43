/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A job: one program that runs while the host asks, again and again, what it
 * has printed since.  Its output is a pipe that is read when the host asks,
 * so a program that prints more than the line carries waits instead of
 * filling the guest's memory.  Or it is followed: the agent tells the host by
 * itself what it prints.
 */
#define _GNU_SOURCE /* pipe2 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "measure.h"
#include "ops.h"
#include "program.h"

#define OUTPUT_BLOCK 65536 /* how much of it goes into one reply */
#define LONGEST_WAIT 60000 /* ms */
#define LONGEST_JOB 1000000000 /* ms */

static struct {
	bool there;
	bool ended; /* and `status` is its wait(2) status */
	pid_t pid;
	int fd;     /* a pidfd: readable when it has ended */
	int output; /* the reading end of its pipe */
	int status;
	struct program program;
	struct measure measure;
} job;

static void child(int output)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	setsid(); /* a process group of its own, to be signalled as one */
	dup2(null, STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	dup2(output, STDERR_FILENO);
	execv(job.program.argv[0], job.program.argv);
	cannot_become();
}

static enum outcome start_job(struct failure *why)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return fail(why, OP_SYSTEM, errno, "pipe");
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	forget_exec_error();
	measure_begin(&job.measure);
	job.pid = fork();
	if (job.pid == 0)
		child(ends[1]);
	close(ends[1]);
	job.fd = job.pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, job.pid, 0);
	if (job.fd < 0) {
		enum outcome outcome = fail(why, OP_SYSTEM, errno, "fork or pidfd_open");

		if (job.pid > 0) {
			kill(job.pid, SIGKILL);
			waitpid(job.pid, NULL, 0);
		}
		close(ends[0]);
		return outcome;
	}
	fcntl(job.fd, F_SETFD, FD_CLOEXEC);
	job.measure.processes = 1;
	job.output = ends[0];
	job.there = true;
	job.ended = false;
	turns_settle(false); /* the job's time goes on, also while requests are done */
	return OP_OK;
}

/* Starts the program that the request names.  There is one job at a time. */
static enum outcome take_job(struct reader *in, struct failure *why)
{
	struct program program;
	enum outcome outcome;

	if (!take_program(in, &program))
		outcome = fail(why, OP_BAD_REQUEST, 0, "a job: argc and that many arguments expected");
	else if (job.there)
		outcome = fail(why, OP_BAD_REQUEST, 0, "a job: the last one is not over");
	else
		outcome = check_program(&program, why);
	if (outcome == OP_OK) {
		job.program = program;
		outcome = start_job(why);
	}
	if (outcome != OP_OK)
		free_program(&program);
	return outcome;
}

/* argc, argv...: starts it and returns its process number. */
enum outcome op_job_start(struct reader *in, struct buffer *out, struct failure *why)
{
	enum outcome outcome = take_job(in, why);

	if (outcome == OP_OK)
		put_u64(out, (uint64_t)job.pid);
	return outcome;
}

/* Reads what is in the pipe, as far as there is room; true when nothing more is there. */
static bool read_output(struct buffer *block)
{
	uint8_t bytes[4096];
	ssize_t got;

	while (block->len + sizeof(bytes) <= OUTPUT_BLOCK) {
		got = read(job.output, bytes, sizeof(bytes));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return true;
		buffer_add(block, bytes, (size_t)got);
	}
	return false;
}

/* Waits for more output, the end of the job, or the end of time. */
static void wait_for_it(uint64_t until)
{
	struct pollfd both[2] = {
		{ .fd = job.fd, .events = POLLIN },
		{ .fd = job.output, .events = POLLIN },
	};
	uint64_t now = monotonic_ns();

	/* A pipe that every writer has closed is always ready, the job alone counts then. */
	if (poll(both, 2, 0) > 0 && both[1].revents && !(both[1].revents & POLLIN))
		both[1].fd = -1;
	poll(both, 2, now < until ? (int)((until - now) / 1000000 + 1) : 0);
	if (!(both[0].revents & POLLIN) || waitpid(job.pid, &job.status, WNOHANG) != job.pid)
		return;
	measure_end(&job.measure);
	job.ended = true;
}

/* What it printed is all told: the reply holds its end, and the next job may come. */
static enum outcome finish_job(struct buffer *out, const struct buffer *block,
			       struct failure *why)
{
	enum outcome outcome = check_end(&job.program, job.status, why);

	close(job.output);
	close(job.fd);
	free_program(&job.program);
	job.there = false;
	turns_settle(true);
	if (outcome != OP_OK)
		return outcome;
	put_u64(out, 1);
	put_u64(out, (uint64_t)job.status);
	put_measure(out, &job.measure);
	put_bytes(out, block->data, block->len);
	return OP_OK;
}

/* Its output until there is a block of it, it has ended, or time is over; whether that is all. */
static bool gather_output(struct buffer *block, uint64_t until)
{
	bool empty;

	buffer_clear(block);
	while ((empty = read_output(block)) && !job.ended && monotonic_ns() < until)
		wait_for_it(until);
	return empty && job.ended;
}

static void put_news(struct buffer *out, const struct buffer *block)
{
	struct measure so_far = { .processes = 1 };

	so_far.nanoseconds = job.ended ? job.measure.nanoseconds : monotonic_ns() - job.measure.began;
	put_u64(out, 0);
	put_u64(out, 0);
	put_measure(out, &so_far);
	put_bytes(out, block->data, block->len);
}

/*
 * milliseconds: what the job has printed since the last time, as soon as there
 * is a block of it, the job has ended, or that time is over.  Returns whether
 * it has ended, its wait(2) status (0 before the end), its measure (before the
 * end of nothing but the time so far), and the bytes.  Those come before the
 * end: the reply that says 1 is the last.
 */
enum outcome op_job_output(struct reader *in, struct buffer *out, struct failure *why)
{
	static struct buffer block;
	uint64_t milliseconds = take_u64(in);

	if (in->bad || milliseconds > LONGEST_WAIT)
		return fail(why, OP_BAD_REQUEST, 0, "job-output: milliseconds expected");
	if (!job.there)
		return fail(why, OP_BAD_REQUEST, 0, "job-output: there is no job");
	if (gather_output(&block, monotonic_ns() + milliseconds * 1000000))
		return finish_job(out, &block, why);
	put_news(out, &block);
	return OP_OK;
}

/*
 * milliseconds, bytes, milliseconds from one news to the next, argc, argv...:
 * starts a job and tells what it prints until it ends, the first time is over,
 * or it printed more than so many bytes.  News and reply are what job-output
 * returns.  Nothing comes from the host meanwhile: in virtual time a request
 * comes in somewhat sooner or later each time, and a job would see it.
 */
enum outcome op_job_follow(struct reader *in, struct buffer *out, struct failure *why)
{
	static struct buffer block, news;
	uint64_t limit = take_u64(in), most = take_u64(in), pace = take_u64(in);
	uint64_t now, until, printed = 0;
	enum outcome outcome;

	if (in->bad || limit > LONGEST_JOB || pace < 1 || pace > LONGEST_WAIT)
		return fail(why, OP_BAD_REQUEST, 0, "job-follow: three limits expected");
	outcome = take_job(in, why);
	if (outcome != OP_OK)
		return outcome;
	until = job.measure.began + limit * 1000000;
	for (;;) {
		now = monotonic_ns();
		if (gather_output(&block, now + pace * 1000000 < until ? now + pace * 1000000 : until))
			return finish_job(out, &block, why);
		printed += block.len;
		if (monotonic_ns() >= until || printed > most)
			break;
		buffer_clear(&news);
		put_news(&news, &block);
		agent_tell(&news);
	}
	put_news(out, &block);
	return OP_OK;
}

/* signal: sends it to the job's process group. */
enum outcome op_job_signal(struct reader *in, struct buffer *out, struct failure *why)
{
	uint64_t number = take_u64(in);

	(void)out;
	if (in->bad || number < 1 || number > 64)
		return fail(why, OP_BAD_REQUEST, 0, "job-signal: a signal expected");
	if (!job.there)
		return fail(why, OP_BAD_REQUEST, 0, "job-signal: there is no job");
	/* There is no group yet where the child has not had its turn. */
	if (kill(-job.pid, (int)number) && (errno != ESRCH || kill(job.pid, (int)number)) &&
	    errno != ESRCH)
		return fail(why, OP_SYSTEM, errno, "kill");
	return OP_OK;
}
