/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frames: how a body crosses a serial line that others may write on, too.
 *
 *   @LL1 K SSSSSSSS PPPP TTTT LLLL CCCCCCCC BASE64\n
 *
 * K is the kind, S the sequence number of the request, P the part of T parts,
 * L the length of this part's payload in bytes, C a CRC-32 (IEEE 802.3) over
 * the text from K to L and the payload; all numbers hexadecimal.  A receiver
 * looks for the last "@LL1 " in a line, so text that somebody else left in
 * front of a frame does not hurt, and text inside of one is caught by the CRC.
 */
#ifndef LINKLAB_FRAME_H
#define LINKLAB_FRAME_H

#include "wire.h"

#define FRAME_MARK "@LL1 "
#define FRAME_PAYLOAD 3072 /* bytes in one part: 4 KB of base64 */

enum frame_kind {
	FRAME_REQUEST = 'q',   /* host: do this */
	FRAME_POKE = 'p',      /* host: what became of that request? */
	FRAME_RESEND = 'a',    /* host: send these parts again (payload: 16-bit numbers) */
	FRAME_REPLY = 'r',     /* agent: the answer */
	FRAME_NEWS = 'n',      /* agent: what there is to tell before the answer */
	FRAME_HELLO = 'h',     /* agent: I am here (an unasked reply) */
	FRAME_UNKNOWN = 'u',   /* agent: I never saw that request, or saw it torn */
};

struct frame {
	enum frame_kind kind;
	uint32_t seq;
	uint16_t part;
	uint16_t parts;
	const uint8_t *payload;
	size_t len;
};

enum frame_error {
	FRAME_OK,
	FRAME_NONE, /* the line holds no frame */
	FRAME_TORN, /* it holds one that did not arrive whole */
};

/* Decodes a line in place (without its newline); `f` points into it. */
enum frame_error frame_decode(char *line, size_t len, struct frame *f);

/* Appends one encoded frame, with its newline. */
void frame_encode(struct buffer *out, const struct frame *f);

#endif
