/* SPDX-License-Identifier: GPL-2.0-only */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void mount_at(const char *type, const char *where)
{
	mkdir(where, 0755);
	/* sysfs is missing from some kernels, and that is the point of them. */
	if (mount(type, where, type, MS_NOSUID | MS_NOEXEC, "") && errno != ENODEV &&
	    errno != EBUSY)
		dprintf(STDERR_FILENO, "linklab-init: mounting %s failed: errno %d\n", where, errno);
}

/*
 * A worker that dies must not look like a kernel that dies (init's death is a
 * panic), so it is a child, and its end is told in one line on the console.
 */
void be_init(void)
{
	pid_t worker;
	int status = 0;

	mount_at("proc", "/proc");
	mount_at("devtmpfs", "/dev");
	mount_at("sysfs", "/sys");
	worker = fork();
	if (worker == 0) {
		setsid();
		return;
	}
	for (;;) {
		pid_t pid = wait(&status);

		if (pid < 0 && errno == EINTR)
			continue;
		if (pid == worker || pid < 0)
			break;
	}
	dprintf(STDERR_FILENO, "linklab-init: the agent ended: wait status %#x\n",
		(unsigned int)status);
	sync();
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}
