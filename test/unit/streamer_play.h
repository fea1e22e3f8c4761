/*
 * streamer_play.h
 *		The table, its reader and the connections, as played by the tests of subscribers.
 */
#ifndef STREAMER_PLAY_H
#define STREAMER_PLAY_H

#include <stdint.h>
#include <stdlib.h>

#include "loop.h"
#include "page.h"
#include "streamer_tap.h"
#include "subscriber.h"

#define STREAMS      4
#define ROWS_BOUND   3500
#define CLIENTS      12
#define WINDOW_BYTES 2000
#define PAGES_BYTES  3000
#define READ_ROWS    7

/* What the table has of a stream, and which of it retention has removed. */
typedef struct Table
{
	int64_t last;
	bool closed; /* by the last row */
	bool removed[ROWS_BOUND + 2];
	bool tail_wanted;
} Table;

/* A connection, and what has come on it that is no whole frame yet. */
typedef struct Connection
{
	Subscriber *sub;
	bool suspended;
	char text[16384];
	size_t len;
} Connection;

static Table tables[STREAMS + 1]; /* by the id, which begins with 1 */
static Place *page_wanted[CLIENTS];
static int resumes;

static void
on_resume(Subscriber *sub)
{
	((Connection *) sub->owner)->suspended = false;
	resumes++;
}

static void
on_want_tail(Stream *stream)
{
	tables[stream->id].tail_wanted = true;
}

/* However many its streams, a client reads one page at a time. */
static void
on_want_page(Place *place)
{
	int slot = CLIENTS;

	place->page_state = PAGE_QUEUED;
	for (int i = CLIENTS - 1; i >= 0; i--)
	{
		if (page_wanted[i] == NULL)
			slot = i;
		else if (page_wanted[i]->sub == place->sub)
			ok(false, "a client reads one page at a time");
	}
	page_wanted[slot] = place;
}

static void
on_forget(Place *place)
{
	for (int i = 0; i < CLIENTS; i++)
		if (page_wanted[i] == place)
			page_wanted[i] = NULL;
}

static void
on_forget_stream(Stream *stream)
{
	tables[stream->id].tail_wanted = false;
}

/* Begin to play. */
static inline void
play_begin(size_t window_bytes, int64_t linger)
{
	static const SubscriberHooks hooks = {on_resume, on_want_tail, on_want_page, on_forget,
										  on_forget_stream};

	hub_init(window_bytes, window_bytes, linger);
	subscriber_init(&hooks, 15000);
	page_init(PAGES_BYTES);
}

/* End it; everybody has left. */
static inline void
play_end(void)
{
	subscriber_close();
	hub_close();
}

/* The frame of a row; sizes vary, and some are larger than a window. */
static inline Frame *
row_frame(int64_t id, int64_t seq)
{
	char data[3000];
	size_t len = seq % 97 == 0 ? 2500 : (size_t) (seq * (id + 36) % 200);

	memset(data, 'x', len);
	return frame_event(seq, "t", 1, data, len, tables[id].closed && seq == tables[id].last);
}

/* Read at most READ_ROWS rows after a position, for a place or for the tail. */
static inline bool
read_rows(Stream *stream, Place *place, int64_t after)
{
	const Table *table = &tables[stream->id];
	int rows = 0;

	for (int64_t seq = after + 1; seq <= table->last && rows < READ_ROWS; seq++)
	{
		if (table->removed[seq])
			continue;
		rows++;
		if (place != NULL)
			page_add(place, row_frame(stream->id, seq));
		else
			stream_append(stream, row_frame(stream->id, seq));
	}
	return rows < READ_ROWS;
}

/* Something may be new in a stream. */
static inline void
ring(int64_t id)
{
	Stream *stream = hub_find(id);

	if (stream == NULL)
		return;
	stream->stale = true;
	if (stream_is_wanted(stream))
		on_want_tail(stream);
}

/* The reader's turn: the tail of one stream, and all pages. */
static inline void
play_reader(int64_t id)
{
	Stream *stream = hub_find(id);
	Place *reading[CLIENTS];
	int64_t after[CLIENTS];

	if (tables[id].tail_wanted)
	{
		tables[id].tail_wanted = false;
		stream->stale = false;
		stream->stale = !read_rows(stream, NULL, stream->tail);
		stream_wake(stream);
		if (stream->stale)
			ring(id);
	}
	/* One query reads all pages: each after the position it had when that was sent. */
	for (int i = 0; i < CLIENTS; i++)
	{
		reading[i] = page_wanted[i];
		page_wanted[i] = NULL;
		if (reading[i] == NULL)
			continue;
		reading[i]->page_state = PAGE_READING;
		after[i] = reading[i]->read;
	}
	for (int i = 0; i < CLIENTS; i++)
		if (reading[i] != NULL)
			page_end(reading[i], read_rows(reading[i]->stream, reading[i], after[i]));
}

/* A row is committed, unless there are so many, and the doorbell perhaps rings. */
static inline void
play_writer(int64_t id, int64_t most, bool rings)
{
	if (tables[id].last < most)
		tables[id].last++;
	if (rings)
		ring(id);
}

/* Somebody removes most rows of a stream, but never the last. */
static inline void
play_retention(int64_t id)
{
	for (int64_t seq = 1; seq < tables[id].last; seq++)
		tables[id].removed[seq] = tables[id].removed[seq] || random() % 3 > 0;
}

/* Has retention removed all of these rows, which are some? */
static inline bool
is_gap(int64_t id, int64_t from, int64_t to)
{
	for (int64_t seq = from; seq <= to && seq <= tables[id].last; seq++)
		if (!tables[id].removed[seq])
			return false;
	return from <= to;
}

/* A subscriber that asks for this, last_id being its header. */
static inline Subscriber *
request(Connection *conn, const char *target, const char *last_id)
{
	Selection selection;
	Subscriber *sub;

	selection_parse(&selection, target, last_id, STREAMS);
	if (selection.error[0] != '\0')
		ok(false, selection.error);
	sub = subscriber_new(1, conn, &selection);
	selection_free(&selection);
	return sub;
}

/* The connection breaks; what has come of a frame is forgotten. */
static inline void
play_break(Connection *conn)
{
	if (conn->sub != NULL)
		subscriber_free(conn->sub);
	*conn = (Connection){0};
}

/* Let a connection have room for so many bytes, and take the frames that have come whole. */
static inline ssize_t
play_fill(Connection *conn, size_t room, void (*take)(Connection *, const char *))
{
	char *end;
	ssize_t filled;

	if (conn->sub == NULL || conn->suspended)
		return FILL_WAIT;
	filled = subscriber_fill(conn->sub, conn->text + conn->len, room);
	conn->suspended = filled == FILL_WAIT;
	if (filled <= 0)
		return filled;
	conn->len += (size_t) filled;
	conn->text[conn->len] = '\0';
	while ((end = strstr(conn->text, "\n\n")) != NULL)
	{
		*end = '\0';
		take(conn, conn->text);
		conn->len -= (size_t) (end + 2 - conn->text);
		memmove(conn->text, end + 2, conn->len + 1);
	}
	return filled;
}

/* What one subscriber is sent, in one go. */
static inline void
is_sent(Subscriber *sub, const char *want, const char *name)
{
	char out[8192];
	ssize_t filled = subscriber_fill(sub, out, sizeof(out) - 1);

	out[filled > 0 ? filled : 0] = '\0';
	is(out, want, name);
}

/* Begin the response. */
static inline void
is_opened(Subscriber *sub)
{
	subscriber_admit(sub, VERDICT_OPEN);
	subscriber_open(sub, frame_comment("hello"));
	is_sent(sub, ": hello\n\n", "the first frame is there at once");
	is_sent(sub, "", "then it waits");
}

/* A subscriber whose stream has no rows yet, and whose response has begun. */
static inline Subscriber *
play_subscribe(Connection *conn, const char *target)
{
	Subscriber *sub = request(conn, target, NULL);

	if (!sub->places[0].known)
		place_find(&sub->places[0], 0);
	is_opened(sub);
	return sub;
}

#endif
