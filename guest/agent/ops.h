/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Operations: what the agent can be asked to do.  An operation reads its
 * arguments from the request's fields and writes its result as fields; to add
 * one, write the function and add a row to the table in ops.c.
 */
#ifndef LINKLAB_OPS_H
#define LINKLAB_OPS_H

#include "wire.h"

#define PROTOCOL_VERSION 1

/* What became of an operation; on the wire as the first field of a reply. */
enum outcome {
	OP_OK,
	OP_BAD_REQUEST, /* the request's fields do not fit the operation */
	OP_MISSING,     /* a program or file that is not in the guest */
	OP_REFUSED,     /* the kernel answered a request with an error */
	OP_SYSTEM,      /* a system call that should have worked did not */
};

/* The details of an outcome other than OP_OK. */
struct failure {
	int error;       /* errno, or 0 */
	uint64_t index;  /* which of many requests, from 0 */
	char text[512];
};

typedef enum outcome operation(struct reader *in, struct buffer *out, struct failure *why);

operation op_hello, op_run, op_run_each, op_job_start, op_job_output, op_job_follow, op_job_open,
	op_job_stream, op_job_signal, op_share, op_netlink, op_netlink_each, op_dump, op_read_file, op_write_file, op_listen, op_notification_counts, op_traced,
	op_resume, op_power_off;

/* Runs the operation that the request names; always leaves a reply in `out`. */
void perform(struct reader *in, struct buffer *out);

enum outcome fail(struct failure *why, enum outcome outcome, int error, const char *text);

#endif
