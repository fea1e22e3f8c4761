/*
 * page.c
 *		Pages of history that subscribers behind their stream's window hold.
 *
 * Pages together have a bound.  Beyond it the one held longest is given back,
 * and is read again when its turn comes: slow clients slow down each other's
 * history, not the server.
 */
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "metrics.h"
#include "page.h"
#include "subscriber.h"

#define PAGE_SLOTS_FIRST 16

static struct
{
	size_t bound;
	size_t bytes;             /* in all pages */
	struct PlaceList holders; /* longest first */
} pages;

/* Start; bound is in bytes. */
void
page_init(size_t bound)
{
	pages.bound = bound;
	pages.bytes = 0;
	TAILQ_INIT(&pages.holders);
}

/* How many bytes do all pages hold? */
size_t
page_bytes(void)
{
	return pages.bytes;
}

/* How many may they hold? */
size_t
page_bound(void)
{
	return pages.bound;
}

/* Give back the rows of its own that it has not been sent. */
void
page_drop(Place *place)
{
	if (place->page_size == 0)
		return;
	for (size_t i = place->page_first; i < place->page_count; i++)
		frame_unref(place->page[i]);
	free(place->page);
	place->page = NULL;
	place->page_first = 0;
	place->page_count = 0;
	place->page_size = 0;
	pages.bytes -= place->page_bytes;
	place->page_bytes = 0;
	TAILQ_REMOVE(&pages.holders, place, holder_link);
}

/* Hold the bound of all pages; the one being filled is spared. */
static void
page_evict(const Place *spared)
{
	while (pages.bytes > pages.bound)
	{
		Place *place = TAILQ_FIRST(&pages.holders);

		if (place == spared)
			return;
		metric_add(METRIC_DROPPED_PAGE_BOUND, (int64_t) (place->page_count - place->page_first));
		page_drop(place);
		place->read = place->pos;
		place->page_void = place->page_state == PAGE_READING;
	}
}

/* Make room for one more row in its page. */
static void
page_reserve(Place *place)
{
	size_t used = place->page_count - place->page_first;

	if (place->page_size == 0)
		TAILQ_INSERT_TAIL(&pages.holders, place, holder_link);
	if (place->page_count < place->page_size)
		return;
	if (place->page_first > place->page_size / 2)
	{
		memmove(place->page, place->page + place->page_first, used * sizeof(Frame *));
		place->page_first = 0;
		place->page_count = used;
		return;
	}
	place->page_size = place->page_size == 0 ? PAGE_SLOTS_FIRST : place->page_size * 2;
	place->page = mem_array(place->page, place->page_size, sizeof(Frame *));
}

/* Add the next row to its page.  The reference goes to the page. */
void
page_add(Place *place, Frame *frame)
{
	if (place->page_void)
	{
		frame_unref(frame);
		return;
	}
	page_reserve(place);
	place->page[place->page_count++] = frame;
	place->page_bytes += frame->len;
	pages.bytes += frame->len;
	place->read = frame->seq;
	page_evict(place);
}

/* Its page has been read; complete: all rows that were asked for and exist came. */
void
page_end(Place *place, bool complete)
{
	place->page_state = PAGE_NONE;
	if (complete && !place->page_void && place->read < place->stream->tail)
		place->read = place->stream->tail;
	place->page_void = false;
	subscriber_wake(place->sub);
}

/* Take the next row of its page, which is not empty. */
Frame *
page_take(Place *place)
{
	Frame *frame = place->page[place->page_first++];

	place->page_bytes -= frame->len;
	pages.bytes -= frame->len;
	if (place->page_first == place->page_count)
		page_drop(place);
	return frame;
}
