/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LINKLAB_AGENT_H
#define LINKLAB_AGENT_H

#include <stdint.h>

/* A number drawn once when the agent started. */
uint64_t agent_nonce(void);

/* Ends the guest as soon as the reply in hand has left the port. */
void agent_end_after_reply(void);

/*
 * The first process of a guest without a shell: mounts what programs need,
 * starts the agent's worker, reaps, and says so when the worker dies.
 * Returns in the worker alone.
 */
void be_init(void);

/* The agent's port, raw; -1 with errno when it is not there. */
int port_open(const char *path);

/* On the host: prints the time stamp counter's frequency in kHz. */
int print_tsc_khz(void);

#endif
