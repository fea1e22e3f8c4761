/*
 * place.c
 *		A subscriber's place in one of its streams.
 *
 * While it is within the stream's window it copies from the shared frames;
 * before it, it reads pages of its own, the next when the last is nearly sent,
 * until it meets the window.
 *
 * Rows come in order; one that does not follow its predecessor means that
 * retention has removed those between, and the client is told.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include "page.h"
#include "place.h"
#include "subscriber.h"

#define NEAR_TAIL_BYTES 32768 /* lacking less than this, a client lets the tail be read */
#define WINDOW_JUMP     1000 /* rows; being further ahead than this, a client takes the window along */

/* Begin in a stream; what was asked for is set. */
void
place_enter(Place *place, const StreamKey *key)
{
	place->stream = hub_watch(key);
	TAILQ_INSERT_TAIL(&place->stream->places, place, stream_link);
}

/* Let it wait in a queue; it is in one at most. */
void
place_enqueue(struct PlaceList *queue, Place *place)
{
	TAILQ_INSERT_TAIL(queue, place, queue_link);
	place->waiting = queue;
}

/* Take it out of the queue that it waits in, if any. */
void
place_dequeue(Place *place)
{
	if (place->waiting != NULL)
		TAILQ_REMOVE(place->waiting, place, queue_link);
	place->waiting = NULL;
}

/* Is it in the window with little to be sent, so that more rows would be welcome? */
bool
place_is_near_tail(const Place *place)
{
	return place->known && !place->over && place->page_count == 0 &&
		   place->read >= place->stream->base &&
		   stream_left(place->stream, place->read) <= NEAR_TAIL_BYTES;
}

/*
 * Does anybody want the rows after the tail?  While nobody does they need not
 * be read: a long history is read no faster than its fastest reader takes it.
 */
bool
stream_is_wanted(const Stream *stream)
{
	const Place *place;

	TAILQ_FOREACH(place, &stream->places, stream_link)
	{
		if (place_is_near_tail(place))
			return true;
	}
	return false;
}

/* The position has to be found, even if it seemed to be known. */
void
place_doubt(Place *place)
{
	if (place->known)
		place->sub->unknown++;
	place->known = false;
}

/*
 * Find the position, now that the stream's last row is known.  Who names one
 * beyond it gets what comes after that, as it asked.
 *
 * One a little ahead of a window that somebody draws along waits for it, or a
 * busy stream's window would jump with everyone who comes; else the window
 * goes where it is.
 */
void
place_find(Place *place, int64_t last)
{
	Stream *stream = place->stream;

	place->pos = place->cursor.now ? last : place->cursor.seq;
	place->read = place->pos < last ? place->pos : last;
	if (place->read > stream->tail && !place->over)
	{
		if (place->read - stream->tail <= WINDOW_JUMP && stream_is_wanted(stream))
			place->read = stream->tail;
		else
			stream_restart(stream, place->read);
	}
	place->looking = false;
	if (!place->known)
		place->sub->unknown--;
	place->known = true;
	subscriber_wake(place->sub);
}

/* The next row, if it is here. */
static Frame *
row_peek(const Place *place)
{
	if (place->page_count > 0)
		return place->page[place->page_first];
	return place->read < place->stream->tail ? stream_after(place->stream, place->read) : NULL;
}

/* Take that row, with a reference for the caller. */
static Frame *
row_take(Place *place, Frame *next)
{
	if (place->page_count > 0)
		return page_take(place);
	place->read = next->seq;
	return frame_ref(next);
}

/* Pass over the rows that are missing before this one; the notice of that. */
static Frame *
row_skip(Place *place, const Frame *next)
{
	Frame *gap = frame_gap(place->pos + 1, next->seq - 1);

	place->pos = next->seq - 1;
	return gap;
}

/* The next row to be sent, or the notice of a gap before it; NULL if none is here. */
Frame *
place_next(Place *place)
{
	Frame *next;

	while (!place->over && (next = row_peek(place)) != NULL)
	{
		Frame *frame;
		bool wanted;

		if (next->seq > place->pos + 1)
			return row_skip(place, next);
		frame = row_take(place, next);
		wanted = frame->seq > place->pos && subscriber_takes(place->sub, frame);
		if (frame->seq > place->pos)
			place->pos = frame->seq;
		place->over = frame->terminal;
		if (wanted)
			return frame;
		frame_unref(frame);
	}
	return NULL;
}

/* Wake those of the stream's subscribers for whom there is something. */
void
stream_wake(Stream *stream)
{
	Place *place;

	TAILQ_FOREACH(place, &stream->places, stream_link)
	{
		if (place->known && place->read < stream->tail && place->page_state == PAGE_NONE)
			subscriber_wake(place->sub);
	}
}

/*
 * The stream's last row is before the tail: the table was restored, or lost
 * commits that were not yet on disk.  The table is the truth, so the numbers
 * that come again are sent again.
 */
void
stream_reset(Stream *stream, int64_t last)
{
	Place *place;

	stream_restart(stream, last);
	stream->closed_at = 0;
	TAILQ_FOREACH(place, &stream->places, stream_link)
	{
		page_drop(place);
		if (!place->known)
			continue;
		place->over = place->over && place->pos <= last;
		place->told = place->told && place->over;
		place->pos = place->pos < last ? place->pos : last;
		place->read = place->pos;
	}
}
