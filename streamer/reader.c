/*
 * reader.c
 *		Reads rows after positions: the tails of streams, and pages of history.
 *
 * One query serves many positions: the tail of a stream, for all of its
 * subscribers, or a page for one that is behind the window.  Each position has
 * a bound in rows, chosen by how large the stream's frames are, and one in
 * bytes; what was not read, or not kept, is read again after what was.
 *
 * Tails come first to those who watch, pages to those who wait anyway.  So a
 * query carries few pages, or everything live would wait for all that history;
 * and those few together are not more than all pages may hold, or they would
 * push each other out before any of it was sent.  For the same reason a tail's
 * read is smaller than a window.
 *
 * Nothing waits here for a batch to grow, so an event of critical priority needs
 * no way of its own: whatever has gathered when the connection is free goes out
 * at once, and what a query brings is sent on as each position ends.
 *
 * A stream is stale while there may be rows after its tail.  It ceases to be so
 * when a read is sent: a doorbell that rings during the read marks it again,
 * since its row may be younger than the read's snapshot.  Hence no instant at
 * which an event can commit and nobody looks.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "db.h"
#include "loop.h"
#include "mem.h"
#include "metrics.h"
#include "page.h"
#include "reader.h"

#define READ_BATCH      64           /* positions in one query */
#define READ_PAGES      8            /* of those, the most that are pages */
#define READ_BYTES      (256 * 1024) /* wanted from each, in frames; kept at most twice that */
#define READ_ROWS_LEAST 16
#define READ_ROWS_MOST  1024
#define POLL_GRACE      50000 /* microseconds; an event as young may yet ring */

/* One position of a read: a stream's tail, or a subscriber's page. */
typedef struct Read
{
	Stream *stream;  /* NULL: nobody wants it any more */
	Subscriber *sub; /* NULL: the tail */
	int64_t most;    /* rows asked for */
	int64_t rows;    /* rows that came */
	size_t wanted;   /* bytes, in frames */
	size_t bytes;
	bool cut;    /* rows came that were not kept */
	bool polled; /* nothing but the poll asked for it */
} Read;

static struct
{
	struct StreamList tails;
	struct SubscriberList pages;
	size_t tail_bytes;      /* wanted from a tail */
	size_t page_bytes;      /* wanted from a page */
	Read reads[READ_BATCH]; /* those under way */
	int read_count;
	int page_count; /* of those, pages */
	int read_ended; /* reads[0 .. read_ended) have all their rows */
} reader;

/* The bytes wanted from a position, where memory leaves room for so many. */
static size_t
read_bytes(size_t room)
{
	return room < READ_BYTES ? room : READ_BYTES;
}

/* Start; the bounds of memory are known. */
void
reader_init(void)
{
	TAILQ_INIT(&reader.tails);
	TAILQ_INIT(&reader.pages);
	reader.tail_bytes = read_bytes(hub_stream_bound() / 4);
	reader.page_bytes = read_bytes(page_bound() / 2 / READ_PAGES);
}

/* Somebody lacks rows after the stream's tail. */
void
reader_want_tail(Stream *stream)
{
	if (stream->read_queued || stream->reading || !stream->resolved)
		return;
	stream->read_queued = true;
	TAILQ_INSERT_TAIL(&reader.tails, stream, read_link);
}

/* There may be rows after the tail. */
void
reader_mark_stale(Stream *stream)
{
	stream->stale = true;
	stream->polled = false;
	if (stream_is_wanted(stream))
		reader_want_tail(stream);
}

/* The same, but nothing says so: a doorbell may have been lost. */
void
reader_poll(Stream *stream)
{
	bool polled = !stream->stale;

	reader_mark_stale(stream);
	stream->polled = polled;
}

/* A subscriber lacks rows before the window. */
void
reader_want_page(Subscriber *sub)
{
	sub->page_state = PAGE_QUEUED;
	TAILQ_INSERT_TAIL(&reader.pages, sub, queue_link);
}

/*
 * How old an event is, in microseconds.  The database tells, by the clock that
 * the event was stamped with, so clocks of two machines are never compared: the
 * error is the row's way here.  Only a clock that is stepped back can make an
 * event older than now.
 */
static int64_t
row_age(const PGresult *row)
{
	double age = strtod(PQgetvalue(row, 0, 5), NULL);

	return age > 0 ? (int64_t) (age * 1e6) : 0;
}

/* Make a frame of a row and give it to whom it is read for. */
static void
reader_take_row(Read *read, const PGresult *row)
{
	int64_t age;
	Frame *frame;

	read->rows++;
	read->cut = read->cut || read->bytes >= 2 * read->wanted;
	if (read->stream == NULL || read->cut)
		return;
	age = row_age(row);
	frame = frame_event(strtoll(PQgetvalue(row, 0, 1), NULL, 10), PQgetvalue(row, 0, 2),
						(size_t) PQgetlength(row, 0, 2), PQgetvalue(row, 0, 3),
						(size_t) PQgetlength(row, 0, 3), *PQgetvalue(row, 0, 4) == 't');
	frame->born = loop_clock() - age;
	read->bytes += frame->len;
	metric_add(read->sub != NULL ? METRIC_EVENTS_CATCH_UP : METRIC_EVENTS_TAIL, 1);
	if (read->polled && age > POLL_GRACE)
		metric_add(METRIC_POLL_HITS, 1);
	if (read->sub != NULL)
		page_add(read->sub, frame);
	else
		stream_append(read->stream, frame);
}

/* A position has all its rows, if ok. */
static void
reader_end_read(Read *read, bool ok)
{
	bool complete = ok && !read->cut && read->rows < read->most;

	if (read->stream == NULL)
		return;
	if (read->sub != NULL)
	{
		page_end(read->sub, complete);
		return;
	}
	read->stream->reading = false;
	read->stream->read_time = loop_now();
	stream_wake(read->stream);
	if (read->stream->stale || (!complete && !read->polled))
		reader_mark_stale(read->stream);
	else if (!complete)
		reader_poll(read->stream);
}

/* Rows come by position, so one of a later position ends those before. */
static void
reader_on_row(const PGresult *row)
{
	int place = atoi(PQgetvalue(row, 0, 0)) - 1;

	if (place < reader.read_ended || place >= reader.read_count)
		return;
	while (reader.read_ended < place)
		reader_end_read(&reader.reads[reader.read_ended++], true);
	reader_take_row(&reader.reads[place], row);
}

static void
reader_on_read(bool ok)
{
	while (reader.read_ended < reader.read_count)
		reader_end_read(&reader.reads[reader.read_ended++], ok);
	reader.read_count = 0;
	reader.page_count = 0;
	reader.read_ended = 0;
}

/* Take the next position from the queues, tails and pages alternating. */
static bool
reader_next_read(Read *read)
{
	Stream *stream = TAILQ_FIRST(&reader.tails);
	Subscriber *sub = TAILQ_FIRST(&reader.pages);

	*read = (Read){0};
	if (reader.page_count == READ_PAGES)
		sub = NULL;
	if (sub != NULL && (stream == NULL || reader.read_count % 2 == 1))
	{
		reader.page_count++;
		TAILQ_REMOVE(&reader.pages, sub, queue_link);
		sub->page_state = PAGE_READING;
		read->sub = sub;
		read->stream = sub->stream;
		metric_add(METRIC_READS_CATCH_UP, 1);
	}
	else if (stream != NULL)
	{
		TAILQ_REMOVE(&reader.tails, stream, read_link);
		stream->read_queued = false;
		stream->reading = true;
		/* What rings from now on may be too late for this read. */
		stream->stale = false;
		read->stream = stream;
		read->polled = stream->polled;
		stream->polled = false;
		metric_add(METRIC_READS_TAIL, 1);
	}
	else
		return false;
	read->wanted = read->sub != NULL ? reader.page_bytes : reader.tail_bytes;
	read->most = (int64_t) (read->wanted / (read->stream->mean + 1));
	read->most = read->most < READ_ROWS_LEAST ? READ_ROWS_LEAST : read->most;
	read->most = read->most > READ_ROWS_MOST ? READ_ROWS_MOST : read->most;
	return true;
}

/* Read after the positions in the queues. */
bool
reader_send(void)
{
	Buf ids;
	Buf after;
	Buf most;
	const char *params[3];

	if (TAILQ_EMPTY(&reader.tails) && TAILQ_EMPTY(&reader.pages))
		return false;
	buf_init(&ids);
	buf_init(&after);
	buf_init(&most);
	while (reader.read_count < READ_BATCH && reader_next_read(&reader.reads[reader.read_count]))
	{
		Read *read = &reader.reads[reader.read_count];
		const char *comma = reader.read_count++ > 0 ? "," : "{";

		buf_format(&ids, "%s%" PRId64, comma, read->stream->id);
		buf_format(&after, "%s%" PRId64, comma,
				   read->sub != NULL ? read->sub->read : read->stream->tail);
		buf_format(&most, "%s%" PRId64, comma, read->most);
	}
	buf_text(&ids, "}");
	buf_text(&after, "}");
	buf_text(&most, "}");
	params[0] = ids.data;
	params[1] = after.data;
	params[2] = most.data;
	db_send(DB_READ, 3, params, reader_on_row, reader_on_read);
	buf_free(&ids);
	buf_free(&after);
	buf_free(&most);
	return true;
}

/* Forget a subscriber that is about to be freed. */
void
reader_forget(Subscriber *sub)
{
	if (sub->page_state == PAGE_QUEUED)
		TAILQ_REMOVE(&reader.pages, sub, queue_link);
	for (int i = 0; i < reader.read_count; i++)
		if (reader.reads[i].sub == sub)
			reader.reads[i].stream = NULL;
}

/* Forget a stream that nobody watches any more; if it is watched again, it must be read. */
void
reader_forget_stream(Stream *stream)
{
	if (stream->read_queued)
		TAILQ_REMOVE(&reader.tails, stream, read_link);
	for (int i = 0; i < reader.read_count; i++)
		if (reader.reads[i].stream == stream)
			reader.reads[i].stream = NULL;
	stream->read_queued = false;
	stream->reading = false;
	stream->stale = true;
}
