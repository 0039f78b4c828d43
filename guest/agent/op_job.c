/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Jobs: programs that run while the host asks, again and again, what each has
 * printed since.  A job's output is a pipe that is read when the host asks,
 * so a program that prints more than the line carries waits instead of
 * filling the guest's memory.  Or it is followed: the agent tells the host by
 * itself what it prints.  Or it has its three streams apart, and the host
 * sends its input as well.
 */
#define _GNU_SOURCE /* pipe2, wait4 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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
#define LINGER 2000000 /* ns for more output to come into the same reply */
#define INPUT_PIPE 262144
#define INPUT_ROOM 65536 /* bytes of input that wait here for a program that does not read */

static struct job {
	uint64_t number; /* of those ever started; 0 where there is none */
	bool ended; /* and `status` is its wait(2) status */
	pid_t pid;
	int fd;         /* a pidfd: readable when it has ended */
	int input;      /* the writing end of its input; -1 when that is over, or was empty */
	int outputs[2]; /* the reading ends of its outputs; -1 for one that is over, or in the other */
	struct buffer typed; /* input that its pipe has not taken yet */
	bool typed_all;      /* nothing comes behind that */
	int status;
	struct program program;
	struct measure measure;
} jobs[JOBS];

static struct job *job; /* that the request is about */
static uint64_t started;

static size_t place_of(const struct job *one)
{
	return 1 + (size_t)(one - jobs);
}

static bool any_job(void)
{
	for (size_t i = 0; i < JOBS; i++)
		if (jobs[i].number)
			return true;
	return false;
}

/* Finds the job with a process number, or of 0 the one that was started last; false without it. */
static bool find_job(uint64_t pid)
{
	job = NULL;
	for (struct job *each = jobs; each < jobs + JOBS; each++)
		if (each->number && (pid ? (uint64_t)each->pid == pid : !job || each->number > job->number))
			job = each;
	return job;
}

static bool find_room(void)
{
	for (job = jobs; job < jobs + JOBS; job++)
		if (!job->number)
			return true;
	return false;
}

/* Where a job with streams of its own starts; NULL for any other. */
struct setting {
	char *folder;
	struct program environment; /* a list of words, as a program's are */
};

/* What a job's ends of its streams are; its input is -1 where that is empty. */
struct streams {
	int input;
	int outputs[2];
};

static void child(const struct streams *s, const struct setting *setting)
{
	int null = s->input < 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : s->input;

	setsid(); /* a process group of its own, to be signalled as one */
	dup2(null, STDIN_FILENO);
	dup2(s->outputs[0], STDOUT_FILENO);
	dup2(s->outputs[1], STDERR_FILENO);
	if (!setting)
		execv(job->program.argv[0], job->program.argv);
	else if (chdir(setting->folder) == 0 || chdir("/") == 0)
		execve(job->program.argv[0], job->program.argv, setting->environment.argv);
	cannot_become(place_of(job));
}

static void close_both(const int ends[2])
{
	for (int i = 0; i < 2; i++)
		if (ends[i] >= 0)
			close(ends[i]);
}

static void close_job(void)
{
	close_both(job->outputs);
	if (job->input >= 0)
		close(job->input);
}

/* Makes the pipes of a job, the agent's ends in `job`; false with errno, and none is left. */
static bool make_streams(struct streams *s, bool apart)
{
	int pipes[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	bool made = !pipe2(pipes[1], O_CLOEXEC) &&
		    (!apart || (!pipe2(pipes[0], O_CLOEXEC) && !pipe2(pipes[2], O_CLOEXEC)));

	if (!made) {
		for (int i = 0; i < 3; i++)
			close_both(pipes[i]);
		return false;
	}
	*s = (struct streams){ pipes[0][0], { pipes[1][1], apart ? pipes[2][1] : pipes[1][1] } };
	job->input = pipes[0][1];
	job->outputs[0] = pipes[1][0];
	job->outputs[1] = pipes[2][0];
	fcntl(job->outputs[0], F_SETFL, O_NONBLOCK);
	if (apart) {
		fcntl(job->outputs[1], F_SETFL, O_NONBLOCK);
		fcntl(job->input, F_SETFL, O_NONBLOCK);
		fcntl(job->input, F_SETPIPE_SZ, INPUT_PIPE); /* or the two wake each other for each page */
	}
	return true;
}

static enum outcome start_job(const struct setting *setting, struct failure *why)
{
	struct streams theirs;

	if (!make_streams(&theirs, setting))
		return fail(why, OP_SYSTEM, errno, "pipe");
	forget_exec_error(place_of(job));
	measure_begin(&job->measure);
	job->pid = fork();
	if (job->pid == 0)
		child(&theirs, setting);
	close(theirs.outputs[0]);
	if (setting) {
		close(theirs.outputs[1]);
		close(theirs.input);
	}
	job->fd = job->pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, job->pid, 0);
	if (job->fd < 0) {
		enum outcome outcome = fail(why, OP_SYSTEM, errno, "fork or pidfd_open");

		if (job->pid > 0) {
			kill(job->pid, SIGKILL);
			waitpid(job->pid, NULL, 0);
		}
		close_job();
		return outcome;
	}
	fcntl(job->fd, F_SETFD, FD_CLOEXEC);
	job->measure.processes = 1;
	buffer_clear(&job->typed);
	job->typed_all = false;
	job->number = ++started;
	job->ended = false;
	turns_settle(false); /* the job's time goes on, also while requests are done */
	return OP_OK;
}

/* Starts the program that the request names. */
static enum outcome take_job(struct reader *in, const struct setting *setting, struct failure *why)
{
	struct program program;
	enum outcome outcome;

	if (!take_program(in, &program))
		outcome = fail(why, OP_BAD_REQUEST, 0, "a job: argc and that many arguments expected");
	else if (!find_room())
		outcome = fail(why, OP_BAD_REQUEST, 0, "a job: there are 32, and none is over");
	else
		outcome = check_program(&program, why);
	if (outcome == OP_OK) {
		job->program = program;
		outcome = start_job(setting, why);
	}
	if (outcome != OP_OK)
		free_program(&program);
	return outcome;
}

/* argc, argv...: starts it and returns its process number. */
enum outcome op_job_start(struct reader *in, struct buffer *out, struct failure *why)
{
	enum outcome outcome = take_job(in, NULL, why);

	if (outcome == OP_OK)
		put_u64(out, (uint64_t)job->pid);
	return outcome;
}

/* Reads what is in a pipe, as far as there is room; true when nothing more is there. */
static bool read_output(int *output, struct buffer *block)
{
	uint8_t bytes[4096];
	ssize_t got;

	while (*output >= 0 && block->len + sizeof(bytes) <= OUTPUT_BLOCK) {
		got = read(*output, bytes, sizeof(bytes));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return true;
		if (got == 0) { /* every writer has closed it: it would be ready for ever */
			close(*output);
			*output = -1;
		}
		buffer_add(block, bytes, (size_t)got);
	}
	return *output < 0;
}

/*
 * Waits for output, if there is need of it, the end of the job, or the end of
 * time; where the host may say something meanwhile, for that and for room in the
 * job's input, too.
 */
static void wait_for_it(uint64_t until, bool wants_output, bool listens)
{
	struct pollfd all[4 + JOBS] = {
		{ .fd = wants_output ? job->outputs[0] : -1, .events = POLLIN },
		{ .fd = wants_output ? job->outputs[1] : -1, .events = POLLIN },
		{ .fd = job->typed.len ? job->input : -1, .events = POLLOUT },
		{ .fd = listens ? agent_port() : -1, .events = POLLIN },
	};
	struct pollfd *ends = all + 4; /* each job's time stops when it ends, whoever is asked about */
	uint64_t now = monotonic_ns();

	for (size_t i = 0; i < JOBS; i++) {
		ends[i].fd = jobs[i].number && !jobs[i].ended ? jobs[i].fd : -1;
		ends[i].events = POLLIN;
	}
	poll(all, sizeof(all) / sizeof(*all), now < until ? (int)((until - now) / 1000000 + 1) : 0);
	for (size_t i = 0; i < JOBS; i++) {
		struct job *each = &jobs[i];
		struct rusage used;

		if (!(ends[i].revents & POLLIN) ||
		    wait4(each->pid, &each->status, WNOHANG, &used) != each->pid)
			continue;
		measure_end_of(&each->measure, &used);
		each->ended = true;
	}
}

/* What it printed is all told: the reply holds its end, and another one may take its place. */
static enum outcome finish_job(struct buffer *out, struct failure *why)
{
	enum outcome outcome = check_end(&job->program, job->status, place_of(job), why);

	close_job();
	close(job->fd);
	free_program(&job->program);
	job->number = 0;
	turns_settle(!any_job());
	if (outcome != OP_OK)
		return outcome;
	put_u64(out, 1);
	put_u64(out, (uint64_t)job->status);
	put_measure(out, &job->measure);
	return OP_OK;
}

static enum outcome finish_output(struct buffer *out, const struct buffer *block,
				  struct failure *why)
{
	enum outcome outcome = finish_job(out, why);

	if (outcome == OP_OK)
		put_bytes(out, block->data, block->len);
	return outcome;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Its output until there is a block of it, it has ended, or time is over; whether that is all. */
static bool gather_output(struct buffer *block, uint64_t until)
{
	bool empty;

	buffer_clear(block);
	while ((empty = read_output(&job->outputs[0], block)) && !job->ended && monotonic_ns() < until)
		wait_for_it(until, true, false);
	return empty && job->ended;
}

static void put_so_far(struct buffer *out)
{
	struct measure so_far = { .processes = 1 };

	so_far.nanoseconds = job->ended ? job->measure.nanoseconds : monotonic_ns() - job->measure.began;
	put_u64(out, 0);
	put_u64(out, 0);
	put_measure(out, &so_far);
}

static void put_news(struct buffer *out, const struct buffer *block)
{
	put_so_far(out);
	put_bytes(out, block->data, block->len);
}

/*
 * process number (0 of the last), milliseconds: what the job has printed since
 * the last time, as soon as there is a block of it, the job has ended, or that
 * time is over.  Returns whether it has ended, its wait(2) status (0 before the
 * end), its measure (before the end of nothing but the time so far), and the
 * bytes.  Those come before the end: the reply that says 1 is the last.
 */
enum outcome op_job_output(struct reader *in, struct buffer *out, struct failure *why)
{
	static struct buffer block;
	uint64_t pid = take_u64(in), milliseconds = take_u64(in);

	if (in->bad || milliseconds > LONGEST_WAIT)
		return fail(why, OP_BAD_REQUEST, 0, "job-output: a job and milliseconds expected");
	if (!find_job(pid))
		return fail(why, OP_BAD_REQUEST, 0, "job-output: there is no job");
	if (gather_output(&block, monotonic_ns() + milliseconds * 1000000))
		return finish_output(out, &block, why);
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
	outcome = take_job(in, NULL, why);
	if (outcome != OP_OK)
		return outcome;
	until = job->measure.began + limit * 1000000;
	for (;;) {
		now = monotonic_ns();
		if (gather_output(&block, sooner(now + pace * 1000000, until)))
			return finish_output(out, &block, why);
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

/*
 * folder, count, that many NAME=VALUE, argc, argv...: starts a job in a folder
 * (in / where that is not there) with an environment, its three streams apart.
 * Returns its process number, and how many bytes of input it takes at first.
 */
enum outcome op_job_open(struct reader *in, struct buffer *out, struct failure *why)
{
	struct setting setting = { .folder = take_text(in) };
	enum outcome outcome;

	link_streams();
	if (setting.folder && take_words(in, &setting.environment, 0))
		outcome = take_job(in, &setting, why);
	else
		outcome = fail(why, OP_BAD_REQUEST, 0, "job-open: a folder and an environment expected");
	if (setting.folder)
		free_program(&setting.environment);
	free(setting.folder);
	if (outcome == OP_OK) {
		put_u64(out, (uint64_t)job->pid);
		put_u64(out, INPUT_ROOM);
	}
	return outcome;
}

/* Gives the job what its input takes.  Nobody may read it any more: then it is over. */
static void give_input(void)
{
	size_t done = 0;
	ssize_t put = 0;

	if (job->input < 0)
		return;
	signal(SIGPIPE, SIG_IGN);
	while (done < job->typed.len &&
	       (put = write(job->input, job->typed.data + done, job->typed.len - done)) > 0)
		done += (size_t)put;
	if (done) {
		job->typed.len -= done;
		memmove(job->typed.data, job->typed.data + done, job->typed.len);
	}
	signal(SIGPIPE, SIG_DFL); /* or what the agent starts would ignore it */
	if ((put < 0 && errno == EPIPE) || (job->typed_all && !job->typed.len)) {
		close(job->input);
		job->input = -1;
		buffer_clear(&job->typed);
	}
}

/* The streams' part of a reply: whether input is of use, how much of it, both outputs. */
static void put_streams(struct buffer *out, const struct buffer blocks[2])
{
	bool reads = job->number && job->input >= 0 && !job->typed_all;

	put_u64(out, reads);
	put_u64(out, reads ? INPUT_ROOM - job->typed.len : 0);
	for (int i = 0; i < 2; i++)
		put_bytes(out, blocks[i].data, blocks[i].len);
}

static bool take_input(struct reader *in)
{
	bool ends = take_u64(in) != 0;
	size_t len;
	const uint8_t *bytes = take_bytes(in, &len);

	if (in->bad || job->typed.len + len > INPUT_ROOM || (job->typed_all && len))
		return false;
	if (job->input >= 0)
		buffer_add(&job->typed, bytes, len);
	job->typed_all |= ends;
	return true;
}

/*
 * process number (0 of the last), milliseconds, whether the input ends with
 * this, input: gives the job its input, and returns soon after it has printed anything, when it has ended, all
 * input that had to wait is taken, the host says something, or time is over.
 * Returns whether it has ended, its wait(2) status, its measure, whether
 * anybody takes more input and how much, and what it printed on each stream.
 */
enum outcome op_job_stream(struct reader *in, struct buffer *out, struct failure *why)
{
	static struct buffer blocks[2];
	uint64_t pid = take_u64(in), milliseconds = take_u64(in), until;
	enum outcome outcome;
	bool over, waits, printed = false;

	if (!find_job(pid))
		return fail(why, OP_BAD_REQUEST, 0, "job-stream: there is no job");
	if (milliseconds > LONGEST_WAIT || !take_input(in))
		return fail(why, OP_BAD_REQUEST, 0, "job-stream: milliseconds and input expected");
	until = monotonic_ns() + milliseconds * 1000000;
	buffer_clear(&blocks[0]);
	buffer_clear(&blocks[1]);
	give_input();
	waits = job->typed.len;
	for (;;) {
		bool ended = job->ended; /* before what it printed last is read */

		over = read_output(&job->outputs[0], &blocks[0]) & read_output(&job->outputs[1], &blocks[1]);
		over &= ended;
		if (over || blocks[0].len + blocks[1].len >= OUTPUT_BLOCK / 2 ||
		    (waits && !job->typed.len) || agent_is_called() || monotonic_ns() >= until)
			break;
		if (!printed && (blocks[0].len || blocks[1].len)) {
			printed = true; /* more will come, or the end: not a reply for each line */
			until = sooner(until, monotonic_ns() + LINGER);
		}
		wait_for_it(until, !printed, true);
		give_input();
	}
	outcome = OP_OK;
	if (over)
		outcome = finish_job(out, why);
	else
		put_so_far(out);
	if (outcome == OP_OK)
		put_streams(out, blocks);
	return outcome;
}

/* There is no group yet where the child has not had its turn. */
static bool signal_job(int number)
{
	return !kill(-job->pid, number) ||
	       (errno == ESRCH && (!kill(job->pid, number) || errno == ESRCH));
}

/* process number (0 of each), signal: sends it to the job's process group. */
enum outcome op_job_signal(struct reader *in, struct buffer *out, struct failure *why)
{
	uint64_t pid = take_u64(in), number = take_u64(in);

	(void)out;
	if (in->bad || number < 1 || number > 64)
		return fail(why, OP_BAD_REQUEST, 0, "job-signal: a job and a signal expected");
	if (!find_job(pid))
		return fail(why, OP_BAD_REQUEST, 0, "job-signal: there is no job");
	if (pid)
		return signal_job((int)number) ? OP_OK : fail(why, OP_SYSTEM, errno, "kill");
	for (job = jobs; job < jobs + JOBS; job++)
		if (job->number && !signal_job((int)number))
			return fail(why, OP_SYSTEM, errno, "kill");
	return OP_OK;
}
