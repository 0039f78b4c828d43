/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LINKLAB_AGENT_H
#define LINKLAB_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "wire.h"

/* A number drawn once when the agent started. */
uint64_t agent_nonce(void);

/*
 * Tells the host something in the middle of a request.  Where turns are taken
 * the machine stands still until the host has taken it, and then goes on here.
 */
void agent_tell(const struct buffer *body);

/* The port, and whether the host has said something that nobody has looked at yet. */
int agent_port(void);
bool agent_is_called(void);

/* Ends the guest as soon as the reply in hand has left the port. */
void agent_end_after_reply(void);

/* Mounts what programs need. */
void mount_all(void);

/* Names a program's own streams below /dev, where scripts look for them. */
void link_streams(void);

/*
 * The first process of a guest where nothing else is up: starts the agent's
 * worker, reaps, says so when the worker dies, and gives a shell to whoever
 * asks at the console, unless the agent has that.  Programs cannot open the
 * console then.  Returns in the worker alone.
 */
void be_init(bool with_console);

/* Loads the modules that the image brings for this kernel; false, and a line on the console, if
 * one of them refuses. */
bool load_modules(void);

/* The agent's port, raw; -1 with errno when it is not there. */
int port_open(const char *path);

/* On the host: prints the time stamp counter's frequency in kHz. */
int print_tsc_khz(void);

/* From now on the machine is stopped whenever the agent has spoken; false where the port is out of reach. */
bool turns_begin(void);
bool turns_taken(void);

/* Stops the machine, if turns are taken, until the host has a request. */
void turn_end(void);

/* Some fifty thousand instructions that do nothing. */
void turn_spin(void);

/* Waits for an instant that is the same each time, if turns are taken. */
void turn_settle(uint64_t beat);
#define REQUEST_BEAT 100000000u /* ns: before a request is done, whatever else runs meanwhile */
#define WORK_BEAT 1000000000u   /* ns: before work is timed */

/* Whether turns are settled from now on; they are at first. */
void turns_settle(bool yes);

/* Where the kernel's messages go, and a person's shell is. */
#define CONSOLE_PATH "/dev/ttyS0"

#endif
