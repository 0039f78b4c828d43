/* SPDX-License-Identifier: GPL-2.0-only */
#include "ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	operation *run;
} table[] = {
	{ "hello", op_hello },
	{ "run", op_run },
	{ "run-each", op_run_each },
	{ "job-start", op_job_start },
	{ "job-output", op_job_output },
	{ "job-follow", op_job_follow },
	{ "job-open", op_job_open },
	{ "job-stream", op_job_stream },
	{ "job-signal", op_job_signal },
	{ "share", op_share },
	{ "netlink", op_netlink },
	{ "netlink-each", op_netlink_each },
	{ "dump", op_dump },
	{ "read-file", op_read_file },
	{ "write-file", op_write_file },
	{ "listen", op_listen },
	{ "notification-counts", op_notification_counts },
	{ "traced", op_traced },
	{ "resume", op_resume },
	{ "power-off", op_power_off },
};

enum outcome fail(struct failure *why, enum outcome outcome, int error, const char *text)
{
	why->error = error;
	if (error)
		snprintf(why->text, sizeof(why->text), "%s: %s", text, strerror(error));
	else
		snprintf(why->text, sizeof(why->text), "%s", text);
	return outcome;
}

static enum outcome dispatch(struct reader *in, struct buffer *out, struct failure *why)
{
	char *name = take_text(in);
	operation *run = NULL;

	for (size_t i = 0; name && i < sizeof(table) / sizeof(table[0]); i++)
		if (!strcmp(name, table[i].name))
			run = table[i].run;
	free(name);
	if (!run)
		return fail(why, OP_BAD_REQUEST, 0, "the agent knows no such operation");
	return run(in, out, why);
}

/* A reply: the outcome, then the operation's fields or the failure's. */
void perform(struct reader *in, struct buffer *out)
{
	struct buffer result = { 0 };
	struct failure why = { 0 };
	enum outcome outcome = dispatch(in, &result, &why);

	buffer_clear(out);
	put_u64(out, outcome);
	if (outcome != OP_OK) {
		put_u64(out, (uint64_t)why.error);
		put_u64(out, why.index);
		put_text(out, why.text);
	}
	buffer_add(out, result.data, result.len);
	free(result.data);
}
