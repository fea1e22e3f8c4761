/*
 * sse-parse.c
 *		One HTTP response that is an event stream, parsed as it arrives.
 *
 * Bytes come in pieces of any size; what is complete is looked at where it lies,
 * and only an unfinished line is copied.  Knows of HTTP what the servers compared
 * here use: a head, and a body that is chunked or runs to the connection's end.
 *
 * An event's number, where its id is one, must be its predecessor's plus one:
 * what is lost or comes twice is counted, not assumed.  Its data carry the time
 * of sending in microseconds as the member "ts".
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sse-parse.h"
#include "util.h"

#define SSE_STASH_MAX ((size_t) 1 << 20)
#define STAMP_MEMBER  "\"ts\":"

/* Begin a response; last_id is the number that was resumed from, -1 if any may come first. */
void
sse_start(SseParser *p, int64_t last_id)
{
	p->state = SSE_HEAD;
	p->status = 0;
	p->chunk_left = 0;
	p->last_id = last_id;
	p->frame_id = -1;
	p->frame_stamp = -1;
	p->frame_data = false;
	p->events = 0;
	p->stash_length = 0;
}

void
sse_free(SseParser *p)
{
	free(p->stash);
	p->stash = NULL;
	p->stash_size = p->stash_length = 0;
}

/* Keep bytes until the rest of their line comes. */
static bool
stash_add(SseParser *p, const char *bytes, size_t length)
{
	size_t need = p->stash_length + length;

	if (need > SSE_STASH_MAX)
		return false;
	if (need > p->stash_size)
	{
		p->stash_size = need * 2;
		p->stash = xrealloc(p->stash, p->stash_size);
	}
	memcpy(p->stash + p->stash_length, bytes, length);
	p->stash_length = need;
	return true;
}

/* The digits at the start of the bytes as a number; -1 if there are none or, if all must be
 * digits, something else is there. */
static int64_t
digits(const char *bytes, size_t length, bool all)
{
	int64_t value = 0;
	size_t i = 0;

	while (i < length && i < 18 && bytes[i] >= '0' && bytes[i] <= '9')
		value = value * 10 + (bytes[i++] - '0');
	return i == 0 || (all && i < length) ? -1 : value;
}

/* The time that an event's data carry; -1 if none. */
static int64_t
stamp_in(const char *data, size_t length)
{
	const size_t name = sizeof(STAMP_MEMBER) - 1;
	const char *end = data + length;
	const char *at = memmem(data, length, STAMP_MEMBER, name);

	if (at == NULL)
		return -1;
	at += name;
	while (at < end && *at == ' ')
		at++;
	return digits(at, (size_t) (end - at), false);
}

/* A frame is complete: count it, and check its number. */
static void
frame_end(SseParser *p, int64_t now, SseTotals *totals)
{
	if (p->frame_data)
	{
		p->events++;
		totals->deliveries++;
		if (totals->first_us == 0)
			totals->first_us = now;
		totals->last_us = now;
		if (p->frame_stamp >= 0)
			histogram_add(&totals->latency, now - p->frame_stamp);
		else
			totals->unstamped++;
		if (p->frame_id >= 0 && p->last_id >= 0)
		{
			if (p->frame_id <= p->last_id)
				totals->backwards++;
			else
				totals->lost += (uint64_t) (p->frame_id - p->last_id - 1);
		}
		if (p->frame_id > p->last_id)
			p->last_id = p->frame_id;
	}
	p->frame_id = p->frame_stamp = -1;
	p->frame_data = false;
}

/* The value of the field on a line, if the line is one of that field. */
static const char *
field_value(const char *name, size_t name_length, const char *line, size_t *length)
{
	const char *value = line + name_length;

	if (*length < name_length || memcmp(line, name, name_length) != 0)
		return NULL;
	*length -= name_length;
	if (*length > 0 && *value == ' ')
	{
		(*length)--;
		value++;
	}
	return value;
}

static void
line_end(SseParser *p, const char *line, size_t length, int64_t now, SseTotals *totals)
{
	const char *value;

	if (length > 0 && line[length - 1] == '\r')
		length--;
	if (length == 0)
		frame_end(p, now, totals);
	else if ((value = field_value("data:", 5, line, &length)) != NULL)
	{
		p->frame_data = true;
		if (p->frame_stamp < 0)
			p->frame_stamp = stamp_in(value, length);
	}
	else if ((value = field_value("id:", 3, line, &length)) != NULL)
		p->frame_id = digits(value, length, true);
}

/* Bytes of the event stream itself. */
static bool
feed_body(SseParser *p, const char *bytes, size_t length, int64_t now, SseTotals *totals)
{
	while (length > 0)
	{
		const char *newline = memchr(bytes, '\n', length);
		size_t n = newline == NULL ? length : (size_t) (newline - bytes);

		if (newline == NULL || p->stash_length > 0)
		{
			if (!stash_add(p, bytes, n))
				return false;
			if (newline == NULL)
				return true;
			line_end(p, p->stash, p->stash_length, now, totals);
			p->stash_length = 0;
		}
		else
			line_end(p, bytes, n, now, totals);
		bytes += n + 1;
		length -= n + 1;
	}
	return true;
}

/* The head is complete, in the stash and terminated: read what matters of it. */
static bool
head_end(SseParser *p)
{
	const char *head = p->stash;

	if (strncmp(head, "HTTP/1.", 7) != 0 || p->stash_length < 12)
		return false;
	p->status = atoi(head + 9);
	p->state = strcasestr(head, "\r\ntransfer-encoding: chunked") ? SSE_CHUNK_SIZE : SSE_BODY;
	p->stash_length = 0;
	return true;
}

/* Bytes of the head; returns how many of them belonged to it, 0 if it is not HTTP. */
static size_t
feed_head(SseParser *p, const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		if (!stash_add(p, bytes + i, 1))
			return 0;
		if (p->stash_length >= 4 && memcmp(p->stash + p->stash_length - 4, "\r\n\r\n", 4) == 0)
			return stash_add(p, "", 1) && head_end(p) ? i + 1 : 0;
	}
	return length;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte of a line that says how long the next chunk is. */
static void
feed_chunk_size(SseParser *p, char c)
{
	int digit = p->state == SSE_CHUNK_SIZE ? hex_digit(c) : -1;

	if (digit >= 0)
		p->chunk_left = p->chunk_left << 4 | (size_t) digit;
	else if (c == '\n')
		p->state = p->chunk_left > 0 ? SSE_CHUNK : SSE_ENDED;
	else
		p->state = SSE_CHUNK_NOISE;
}

/* Take what has arrived at the given time.  False: this is no event stream. */
bool
sse_feed(SseParser *p, const char *bytes, size_t length, int64_t now, SseTotals *totals)
{
	totals->bytes += length;
	while (length > 0)
	{
		size_t n = 1;

		switch (p->state)
		{
			case SSE_HEAD:
				n = feed_head(p, bytes, length);
				if (n == 0)
					return false;
				break;
			case SSE_BODY:
				return feed_body(p, bytes, length, now, totals);
			case SSE_CHUNK_SIZE:
			case SSE_CHUNK_NOISE:
				feed_chunk_size(p, *bytes);
				break;
			case SSE_CHUNK:
				n = length < p->chunk_left ? length : p->chunk_left;
				if (!feed_body(p, bytes, n, now, totals))
					return false;
				p->chunk_left -= n;
				if (p->chunk_left == 0)
					p->state = SSE_CHUNK_END;
				break;
			case SSE_CHUNK_END:
				if (*bytes == '\n')
					p->state = SSE_CHUNK_SIZE;
				break;
			case SSE_ENDED:
				return true;
		}
		bytes += n;
		length -= n;
	}
	return true;
}
