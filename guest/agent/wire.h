/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The body of a request or a reply: a list of fields, each a little-endian
 * 32-bit length and that many bytes.  Numbers are fields of eight bytes.
 * The body knows nothing of frames, and the frames nothing of the body.
 */
#ifndef LINKLAB_WIRE_H
#define LINKLAB_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growing buffer.  Running out of memory ends the agent: it cannot answer. */
struct buffer {
	uint8_t *data;
	size_t len;
	size_t capacity;
};

void buffer_clear(struct buffer *b);
void buffer_add(struct buffer *b, const void *data, size_t len);
void buffer_add_u32(struct buffer *b, uint32_t value);

void put_bytes(struct buffer *b, const void *data, size_t len);
void put_text(struct buffer *b, const char *text);
void put_u64(struct buffer *b, uint64_t value);

/* Reads fields in order; `bad` stays set once a field is missing or misshapen. */
struct reader {
	const uint8_t *data;
	size_t left;
	bool bad;
};

const uint8_t *take_bytes(struct reader *r, size_t *len);
/* A copy that ends with a NUL, owned by the caller; NULL when there is none. */
char *take_text(struct reader *r);
uint64_t take_u64(struct reader *r);

#endif
