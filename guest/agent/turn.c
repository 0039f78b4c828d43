/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whose turn it is, in virtual time.
 *
 * QEMU lets such a guest jump from timer to timer while it waits, so it would
 * run away from the host while that writes a file.  With `linklab.turns` on the
 * kernel's command line the agent stops the machine whenever it has spoken and
 * waits for the host: it writes to QEMU's pvpanic device, which QEMU answers,
 * with `-action panic=pause`, by stopping the machine at this very instruction
 * (qemu_system_guest_panicked in softmmu/runstate.c).  The host has all of its
 * request in the port before it lets the machine go on, and the agent does it
 * from a fixed instant on.  So the guest does the same at the same instant of
 * its time, however busy the host is.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/io.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "measure.h"

#define STOP_PORT 0x505 /* pvpanic's, PVPANIC_ISA_IOBASE_PROP in hw/misc/pvpanic-isa.c */
#define STOP 1          /* PVPANIC_PANICKED, include/uapi/misc/pvpanic.h */
#define SPINS 10000
#define AFTER_BEAT 1000000u

static int ports = -1; /* /dev/port, where the kernel has it: Debian's for the cloud has not */
static bool takes_turns;
static bool settles = true;

/*
 * The port may be used for one instruction only: children would inherit the
 * right, and every switch between tasks takes longer with it.
 */
static bool may_use_port(bool yes)
{
	return ioperm(STOP_PORT, 1, yes) == 0;
}

bool turns_begin(void)
{
	ports = open("/dev/port", O_WRONLY | O_CLOEXEC);
	takes_turns = ports >= 0 || (may_use_port(true) && may_use_port(false));
	return takes_turns;
}

bool turns_taken(void)
{
	return takes_turns;
}

void turns_settle(bool yes)
{
	settles = yes;
}

void turn_end(void)
{
	static const uint8_t stop = STOP;

	if (!takes_turns)
		return;
	if (ports >= 0) {
		if (pwrite(ports, &stop, 1, STOP_PORT) != 1)
			_exit(1);
		return;
	}
	may_use_port(true);
	outb(stop, STOP_PORT);
	may_use_port(false);
}

/* Passes the time in the program itself, so that the request's interrupt meets it here. */
void turn_spin(void)
{
	for (volatile unsigned int i = 0; i < SPINS; i++)
		;
}

/*
 * Sleeps, if turns are taken, for one to two beats (ns), until a millisecond
 * after a multiple of them.  The timer ticks that fall into what follows are the
 * same each time then (since Linux 6.5 they fall on multiples of their period),
 * and what was left for later is done.  It takes the host next to no time.
 * While a job runs nothing waits: it would go on meanwhile, unheard.
 */
void turn_settle(uint64_t beat)
{
	uint64_t at = (monotonic_ns() / beat + 2) * beat + AFTER_BEAT;
	struct timespec until = {
		.tv_sec = (time_t)(at / 1000000000u),
		.tv_nsec = (long)(at % 1000000000u),
	};

	while (takes_turns && settles &&
	       clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL))
		;
}
