/* SPDX-License-Identifier: GPL-2.0-only */
#include "frame.h"

#include <stdio.h>
#include <string.h>

#define HEADER_LEN 25 /* "K SSSSSSSS PPPP TTTT LLLL" */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* What a byte does to the sum; worked out once, which is smaller than 1 KB of numbers here. */
static const uint32_t *crc_table(void)
{
	static uint32_t table[256];

	for (uint32_t byte = 0; !table[255] && byte < 256; byte++) {
		uint32_t crc = byte;

		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
		table[byte] = crc;
	}
	return table;
}

static uint32_t crc32_add(uint32_t crc, const void *data, size_t len)
{
	const uint32_t *table = crc_table();
	const uint8_t *p = data;

	crc = ~crc;
	while (len--)
		crc = crc >> 8 ^ table[(crc ^ *p++) & 255];
	return ~crc;
}

/* At most what a frame carries, at once: buffer_add() for each four bytes costs more than they do. */
static void base64_add(struct buffer *out, const uint8_t *in, size_t len)
{
	static char text[(FRAME_PAYLOAD + 2) / 3 * 4];
	char *end = text;

	for (size_t i = 0; i < len; i += 3) {
		size_t n = len - i < 3 ? len - i : 3;
		uint32_t word = (uint32_t)in[i] << 16 | (n > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
				(n > 2 ? in[i + 2] : 0);

		*end++ = digits[word >> 18];
		*end++ = digits[word >> 12 & 63];
		*end++ = n > 1 ? digits[word >> 6 & 63] : '=';
		*end++ = n > 2 ? digits[word & 63] : '=';
	}
	buffer_add(out, text, (size_t)(end - text));
}

/* What each character stands for, -1 where it is none of base64. */
static const int8_t *digit_values(void)
{
	static int8_t values[256];

	if (!values['B']) {
		memset(values, -1, sizeof(values));
		for (int8_t i = 0; i < 64; i++)
			values[(uint8_t)digits[i]] = i;
	}
	return values;
}

/* Decodes in place: three bytes never overtake the four that they came from. */
static bool base64_decode(char *text, size_t len, size_t *out_len)
{
	const int8_t *values = digit_values();
	uint8_t *out = (uint8_t *)text;
	uint32_t word = 0;
	int bits = 0;

	*out_len = 0;
	if (len % 4)
		return false;
	while (len && text[len - 1] == '=')
		len--;
	for (size_t i = 0; i < len; i++) {
		int value = values[(uint8_t)text[i]];

		if (value < 0)
			return false;
		word = word << 6 | (uint32_t)value;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[(*out_len)++] = (uint8_t)(word >> bits);
		}
	}
	return true;
}

static bool parse_hex(const char *text, int count, uint32_t *value)
{
	*value = 0;
	for (int i = 0; i < count; i++) {
		char c = text[i];
		uint32_t nibble;

		if (c >= '0' && c <= '9')
			nibble = (uint32_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			nibble = (uint32_t)(c - 'a' + 10);
		else
			return false;
		*value = *value << 4 | nibble;
	}
	return true;
}

static char *last_mark(char *line, size_t len)
{
	size_t mark = strlen(FRAME_MARK);

	for (size_t i = len + 1; i-- > 0;)
		if (i + mark <= len && !memcmp(line + i, FRAME_MARK, mark))
			return line + i + mark;
	return NULL;
}

enum frame_error frame_decode(char *line, size_t len, struct frame *f)
{
	char *head = last_mark(line, len);
	uint32_t seq, part, parts, length, crc;
	char *body;

	if (!head)
		return FRAME_NONE;
	len -= (size_t)(head - line);
	while (len && (head[len - 1] == '\r' || head[len - 1] == ' '))
		len--;
	/* An empty payload loses the blank after the checksum to the trim above. */
	if (len < HEADER_LEN + 9 || head[1] != ' ' || head[HEADER_LEN] != ' ' ||
	    !parse_hex(head + 2, 8, &seq) || !parse_hex(head + 11, 4, &part) ||
	    !parse_hex(head + 16, 4, &parts) || !parse_hex(head + 21, 4, &length) ||
	    !parse_hex(head + HEADER_LEN + 1, 8, &crc))
		return FRAME_TORN;
	body = head + HEADER_LEN + 10;
	f->len = 0;
	if (len > HEADER_LEN + 9 && (body[-1] != ' ' ||
				     !base64_decode(body, len - HEADER_LEN - 10, &f->len)))
		return FRAME_TORN;
	if (f->len != length ||
	    crc32_add(crc32_add(0, head, HEADER_LEN), body, f->len) != crc)
		return FRAME_TORN;
	f->kind = (enum frame_kind)head[0];
	f->seq = seq;
	f->part = (uint16_t)part;
	f->parts = (uint16_t)parts;
	f->payload = (const uint8_t *)body;
	return FRAME_OK;
}

void frame_encode(struct buffer *out, const struct frame *f)
{
	char head[HEADER_LEN + 1];
	char crc[16];

	snprintf(head, sizeof(head), "%c %08x %04x %04x %04x", f->kind, f->seq, f->part,
		 f->parts, (unsigned int)(f->len & 0xffff));
	snprintf(crc, sizeof(crc), " %08x ",
		 crc32_add(crc32_add(0, head, HEADER_LEN), f->payload, f->len));
	buffer_add(out, FRAME_MARK, strlen(FRAME_MARK));
	buffer_add(out, head, HEADER_LEN);
	buffer_add(out, crc, strlen(crc));
	base64_add(out, f->payload, f->len);
	buffer_add(out, "\n", 1);
}
