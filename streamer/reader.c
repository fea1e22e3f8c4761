/*
 * reader.c
 *		Reads rows after positions: the tails of streams, and pages of history.
 *
 * One query serves many positions: the tail of a stream, for all of its
 * subscribers, or a page for one that is behind the window.  Each position has
 * a bound in rows, chosen by how large the stream's frames are, and one in
 * bytes; what was not read, or not kept, is read again after what was.
 *
 * Tails are for those who watch, pages for those who wait anyway.  So the two
 * take turns, and a query for pages carries few, or everything live would wait
 * for all that history.  Those few together are not more than all pages may
 * hold, or they would push each other out before any of it was sent; for the
 * same reason a tail's read is smaller than a window.
 *
 * Who comes back into a long history waits for the first answer, and whoever
 * comes meanwhile for the end of that.  So what is read begins with few rows,
 * and doubles from read to read while there is more.
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
#include "link.h"
#include "loop.h"
#include "mem.h"
#include "metrics.h"
#include "page.h"
#include "reader.h"

#define READ_BATCH      64           /* tails in one query */
#define READ_PAGES      2            /* pages in one query */
#define READ_BYTES      (256 * 1024) /* wanted from each, in frames; kept at most twice that */
#define READ_ROWS_FIRST 64
#define READ_ROWS_LEAST 16
#define READ_ROWS_MOST  1024
#define POLL_GRACE      50000 /* microseconds; an event as young may yet ring */

/* One position of a read: a stream's tail, or where subscribers need a page. */
typedef struct Read
{
	Stream *stream; /* NULL: nobody wants it any more */
	bool page;
	int64_t after;
	struct PlaceList places; /* who gets the page */
	int64_t most;            /* rows asked for */
	int64_t rows;            /* rows that came */
	size_t wanted;           /* bytes, in frames */
	size_t bytes;
	bool cut;    /* rows came that were not kept */
	bool polled; /* nothing but the poll asked for it */
} Read;

static struct
{
	struct StreamList tails;
	struct PlaceList pages;
	size_t tail_bytes;      /* wanted from a tail */
	size_t page_bytes;      /* wanted from a page */
	Read reads[READ_BATCH]; /* those under way */
	int read_count;
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

/* The read under way that will bring the page for a place and has not begun to; or NULL. */
static Read *
reader_find_page(const Place *place)
{
	for (int i = reader.read_ended; i < reader.read_count; i++)
	{
		Read *read = &reader.reads[i];

		if (read->page && read->stream == place->stream && read->after == place->read &&
			read->rows == 0)
			return read;
	}
	return NULL;
}

/* A subscriber lacks rows before the window. */
void
reader_want_page(Place *place)
{
	Read *read = reader_find_page(place);

	if (read != NULL)
	{
		place->page_state = PAGE_READING;
		place_enqueue(&read->places, place);
		return;
	}
	place->page_state = PAGE_QUEUED;
	place_enqueue(&reader.pages, place);
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
	int64_t age = row_bigint(row, READ_CLOCK) - row_bigint(row, READ_BORN);

	return age > 0 ? age : 0;
}

/* Give a row to all who need the page.  The reference is given up. */
static void
reader_add_to_pages(Read *read, Frame *frame)
{
	Place *place;

	TAILQ_FOREACH(place, &read->places, queue_link)
	{
		page_add(place, frame_ref(frame));
	}
	frame_unref(frame);
}

/* The page is read; complete: with all there is. */
static void
reader_end_pages(Read *read, bool complete)
{
	Place *place;

	while ((place = TAILQ_FIRST(&read->places)) != NULL)
	{
		place->page_rows = read->most;
		place_dequeue(place);
		page_end(place, complete);
	}
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
	frame =
		frame_event(row_bigint(row, READ_SEQ), PQgetvalue(row, 0, READ_TYPE),
					(size_t) PQgetlength(row, 0, READ_TYPE), PQgetvalue(row, 0, READ_DATA) + 1,
					(size_t) PQgetlength(row, 0, READ_DATA) - 1, *PQgetvalue(row, 0, READ_LAST));
	frame->born = loop_clock() - age;
	read->bytes += frame->len;
	stream_weigh(read->stream, frame->len);
	metric_add(read->page ? METRIC_EVENTS_CATCH_UP : METRIC_EVENTS_TAIL, 1);
	if (read->polled && age > POLL_GRACE)
		metric_add(METRIC_POLL_HITS, 1);
	if (read->page)
		reader_add_to_pages(read, frame);
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
	if (read->page)
	{
		reader_end_pages(read, complete);
		return;
	}
	read->stream->reading = false;
	read->stream->read_time = loop_now();
	if (!complete)
		read->stream->read_rows = read->most;
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
	int place = (int) row_bigint(row, READ_ORD) - 1;

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
	reader.read_ended = 0;
}

/* How many rows to ask for, after so many the last time (0: this is the first time). */
static int64_t
read_rows(const Read *read, int64_t before)
{
	int64_t most = (int64_t) (read->wanted / (read->stream->mean + 1));
	int64_t rows = before == 0 ? READ_ROWS_FIRST : before * 2;

	most = most < READ_ROWS_LEAST ? READ_ROWS_LEAST : most;
	most = most > READ_ROWS_MOST ? READ_ROWS_MOST : most;
	return rows < most ? rows : most;
}

/*
 * Read a page, for all who are at the same position.  Those who began together,
 * or have waited for the same page, go on together; how many rows it has, the
 * one decides who has waited for longest.
 */
static void
reader_take_page(Read *read)
{
	Place *place = TAILQ_FIRST(&reader.pages);
	Place *next;

	read->page = true;
	read->stream = place->stream;
	read->after = place->read;
	read->wanted = reader.page_bytes;
	read->most = read_rows(read, place->page_rows);
	for (; place != NULL; place = next)
	{
		next = TAILQ_NEXT(place, queue_link);
		if (place->stream != read->stream || place->read != read->after)
			continue;
		place_dequeue(place);
		place_enqueue(&read->places, place);
		place->page_state = PAGE_READING;
	}
	metric_add(METRIC_READS_CATCH_UP, 1);
}

/* Read the tail of the stream that has waited for longest. */
static void
reader_take_tail(Read *read)
{
	Stream *stream = TAILQ_FIRST(&reader.tails);

	TAILQ_REMOVE(&reader.tails, stream, read_link);
	stream->read_queued = false;
	stream->reading = true;
	/* What rings from now on may be too late for this read. */
	stream->stale = false;
	read->stream = stream;
	read->after = stream->tail;
	read->wanted = reader.tail_bytes;
	read->most = read_rows(read, stream->read_rows);
	read->polled = stream->polled;
	stream->polled = false;
	metric_add(METRIC_READS_TAIL, 1);
}

/* Take the next position from one of the queues. */
static bool
reader_next_read(Read *read, bool page)
{
	*read = (Read){0};
	TAILQ_INIT(&read->places);
	if (page && !TAILQ_EMPTY(&reader.pages))
		reader_take_page(read);
	else if (!page && !TAILQ_EMPTY(&reader.tails))
		reader_take_tail(read);
	else
		return false;
	return true;
}

/* Read after the positions in one of the queues, at most so many. */
static bool
reader_send(bool pages, int most_reads)
{
	Buf ids;
	Buf after;
	Buf most;
	const char *params[3];

	if (pages ? TAILQ_EMPTY(&reader.pages) : TAILQ_EMPTY(&reader.tails))
		return false;
	buf_init(&ids);
	buf_init(&after);
	buf_init(&most);
	while (reader.read_count < most_reads &&
		   reader_next_read(&reader.reads[reader.read_count], pages))
	{
		Read *read = &reader.reads[reader.read_count];
		const char *comma = reader.read_count++ > 0 ? "," : "{";

		buf_format(&ids, "%s%" PRId64, comma, read->stream->id);
		buf_format(&after, "%s%" PRId64, comma, read->after);
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

/* Read the tails that are wanted. */
bool
reader_send_tails(void)
{
	return reader_send(false, READ_BATCH);
}

/* Read the pages that are wanted, a few of them. */
bool
reader_send_pages(void)
{
	return reader_send(true, READ_PAGES);
}

/* Forget the pages under way that nobody needs any more, now that somebody has left. */
void
reader_forget(Place *place)
{
	for (int i = 0; i < reader.read_count && place->page_state == PAGE_READING; i++)
		if (reader.reads[i].page && TAILQ_EMPTY(&reader.reads[i].places))
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
