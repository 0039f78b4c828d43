/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest's first process, where nothing else is up: it mounts, starts the
 * agent's worker, reaps, and gives a shell to whoever presses Enter at the
 * console.  Until somebody does, it sleeps.
 */
#define _GNU_SOURCE /* ppoll */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t asked_to_end;

static void mount_at(const char *type, const char *where)
{
	mkdir(where, 0755);
	/* sysfs is missing from some kernels, and that is the point of them. */
	if (mount(type, where, type, MS_NOSUID | MS_NOEXEC, "") && errno != ENODEV &&
	    errno != EBUSY)
		dprintf(STDERR_FILENO, "linklab-init: mounting %s failed: errno %d\n", where, errno);
}

void mount_all(void)
{
	mount_at("proc", "/proc");
	mount_at("devtmpfs", "/dev");
	mount_at("sysfs", "/sys");
}

void link_streams(void)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", "/dev/fd" },
		{ "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" },
		{ "/proc/self/fd/2", "/dev/stderr" },
	};

	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
		if (symlink(links[i][0], links[i][1]) && errno != EEXIST)
			return;
}

static void on_signal(int number)
{
	if (number != SIGCHLD)
		asked_to_end = 1;
}

/* Signals arrive in ppoll() alone, so none can come just before it. */
static void take_signals(void)
{
	/* What `halt`, `poweroff` and `reboot` of busybox send to process 1. */
	static const int taken[] = { SIGCHLD, SIGUSR1, SIGUSR2, SIGTERM };
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t blocked;

	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof(taken) / sizeof(*taken); i++) {
		sigaction(taken[i], &action, NULL);
		sigaddset(&blocked, taken[i]);
	}
	sigprocmask(SIG_SETMASK, &blocked, NULL);
}

static void forget_signals(void)
{
	static const int taken[] = { SIGCHLD, SIGUSR1, SIGUSR2, SIGTERM };
	sigset_t none;

	for (size_t i = 0; i < sizeof(taken) / sizeof(*taken); i++)
		signal(taken[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * Takes the console away from programs, so that none can write there what
 * looks like the kernel's own words: the lab would take it for a crash.  What
 * is open stays so, for process 1 and for a person's shell.
 */
static int take_console(void)
{
	int fd = open(CONSOLE_PATH, O_RDWR | O_NOCTTY | O_CLOEXEC);

	unlink("/dev/console");
	unlink(CONSOLE_PATH);
	return fd;
}

static void become_shell(int terminal)
{
	static char *const argv[] = { "-sh", NULL };
	static char *const env[] = { "PATH=/bin:/sbin", "HOME=/root", "TERM=linux", NULL };

	forget_signals();
	setsid();
	/* Not what /dev/console was: that cannot be a controlling terminal, for Ctrl-C. */
	ioctl(terminal, TIOCSCTTY, 0);
	for (int fd = STDIN_FILENO; terminal >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(terminal, fd);
	execve("/bin/sh", argv, env);
	dprintf(STDERR_FILENO, "linklab-init: no shell: %s\n", strerror(errno));
	_exit(127);
}

/* A line at the console, whatever it says, asks for a shell; -1 when nobody will ask again. */
static pid_t answer_console(int terminal)
{
	char line[256];
	pid_t shell;

	if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
		return -1;
	shell = fork();
	if (shell == 0)
		become_shell(terminal);
	return shell > 0 ? shell : 0;
}

static void end_guest(void)
{
	sync();
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

/* Reaps children; that the worker exits, or stops, ends the guest. */
static void reap(pid_t worker, pid_t *shell)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
		if (pid == worker) {
			dprintf(STDERR_FILENO, "linklab-init: the agent ended: wait status %#x\n",
				(unsigned int)status);
			end_guest();
		}
		if (pid == *shell && !WIFSTOPPED(status))
			*shell = 0;
	}
}

static void look_after(pid_t worker, int terminal)
{
	struct pollfd console = { .events = POLLIN };
	sigset_t none;
	pid_t shell = 0;

	sigemptyset(&none);
	for (;;) {
		reap(worker, &shell);
		if (asked_to_end) {
			dprintf(STDERR_FILENO, "linklab-init: told to end\n");
			end_guest();
		}
		console.fd = shell || !isatty(STDIN_FILENO) ? -1 : STDIN_FILENO;
		if (ppoll(&console, 1, NULL, &none) > 0)
			shell = answer_console(terminal);
	}
}

/*
 * A worker that dies must not look like a kernel that dies (init's death is a
 * panic), so it is a child, and its end is told in one line on the console.
 */
void be_init(bool with_console)
{
	int terminal = with_console ? take_console() : -1;
	pid_t worker;

	if (!load_modules())
		end_guest();
	take_signals();
	worker = fork();
	if (worker == 0) {
		forget_signals();
		setsid();
		return;
	}
	if (!with_console)
		close(STDIN_FILENO);
	look_after(worker, terminal);
}
