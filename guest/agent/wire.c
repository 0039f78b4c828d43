/* SPDX-License-Identifier: GPL-2.0-only */
#include "wire.h"

#include <stdlib.h>
#include <string.h>

void buffer_clear(struct buffer *b)
{
	b->len = 0;
}

void buffer_add(struct buffer *b, const void *data, size_t len)
{
	if (b->len + len > b->capacity) {
		size_t capacity = b->capacity ? b->capacity : 4096;
		uint8_t *grown;

		while (capacity < b->len + len)
			capacity *= 2;
		grown = realloc(b->data, capacity);
		if (!grown)
			_Exit(12);
		b->data = grown;
		b->capacity = capacity;
	}
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
}

void buffer_add_u32(struct buffer *b, uint32_t value)
{
	uint8_t raw[4] = { value, value >> 8, value >> 16, value >> 24 };

	buffer_add(b, raw, sizeof(raw));
}

void put_bytes(struct buffer *b, const void *data, size_t len)
{
	buffer_add_u32(b, (uint32_t)len);
	buffer_add(b, data, len);
}

void put_text(struct buffer *b, const char *text)
{
	put_bytes(b, text, strlen(text));
}

void put_u64(struct buffer *b, uint64_t value)
{
	uint8_t raw[8];

	for (int i = 0; i < 8; i++)
		raw[i] = (uint8_t)(value >> (8 * i));
	put_bytes(b, raw, sizeof(raw));
}

static uint32_t peek_u32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

const uint8_t *take_bytes(struct reader *r, size_t *len)
{
	const uint8_t *field;
	uint32_t size;

	*len = 0;
	if (r->bad || r->left < 4) {
		r->bad = true;
		return NULL;
	}
	size = peek_u32(r->data);
	if (size > r->left - 4) {
		r->bad = true;
		return NULL;
	}
	field = r->data + 4;
	r->data += 4 + size;
	r->left -= 4 + size;
	*len = size;
	return field;
}

char *take_text(struct reader *r)
{
	size_t len;
	const uint8_t *field = take_bytes(r, &len);
	char *text;

	/* Text that a NUL would cut short is not what the host meant. */
	if (!field || memchr(field, '\0', len)) {
		r->bad = true;
		return NULL;
	}
	text = malloc(len + 1);
	if (!text)
		_Exit(12);
	memcpy(text, field, len);
	text[len] = '\0';
	return text;
}

uint64_t take_u64(struct reader *r)
{
	size_t len;
	const uint8_t *field = take_bytes(r, &len);
	uint64_t value = 0;

	if (!field || len != 8) {
		r->bad = true;
		return 0;
	}
	for (int i = 7; i >= 0; i--)
		value = value << 8 | field[i];
	return value;
}
