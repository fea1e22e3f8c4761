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

#define PAGE_SLOTS_FIRST 16

static struct
{
	size_t bound;
	size_t bytes;                  /* in all pages */
	struct SubscriberList holders; /* longest first */
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
page_drop(Subscriber *sub)
{
	if (sub->page_size == 0)
		return;
	for (size_t i = sub->page_first; i < sub->page_count; i++)
		frame_unref(sub->page[i]);
	free(sub->page);
	sub->page = NULL;
	sub->page_first = 0;
	sub->page_count = 0;
	sub->page_size = 0;
	pages.bytes -= sub->page_bytes;
	sub->page_bytes = 0;
	TAILQ_REMOVE(&pages.holders, sub, holder_link);
}

/* Hold the bound of all pages; the one being filled is spared. */
static void
page_evict(const Subscriber *spared)
{
	while (pages.bytes > pages.bound)
	{
		Subscriber *sub = TAILQ_FIRST(&pages.holders);

		if (sub == spared)
			return;
		metric_add(METRIC_DROPPED_PAGE_BOUND, (int64_t) (sub->page_count - sub->page_first));
		page_drop(sub);
		sub->read = sub->pos;
		sub->page_void = sub->page_state == PAGE_READING;
	}
}

/* Make room for one more row in its page. */
static void
page_reserve(Subscriber *sub)
{
	size_t used = sub->page_count - sub->page_first;

	if (sub->page_size == 0)
		TAILQ_INSERT_TAIL(&pages.holders, sub, holder_link);
	if (sub->page_count < sub->page_size)
		return;
	if (sub->page_first > sub->page_size / 2)
	{
		memmove(sub->page, sub->page + sub->page_first, used * sizeof(Frame *));
		sub->page_first = 0;
		sub->page_count = used;
		return;
	}
	sub->page_size = sub->page_size == 0 ? PAGE_SLOTS_FIRST : sub->page_size * 2;
	sub->page = mem_array(sub->page, sub->page_size, sizeof(Frame *));
}

/* Add the next row to its page.  The reference goes to the page. */
void
page_add(Subscriber *sub, Frame *frame)
{
	if (sub->page_void)
	{
		frame_unref(frame);
		return;
	}
	page_reserve(sub);
	sub->page[sub->page_count++] = frame;
	sub->page_bytes += frame->len;
	pages.bytes += frame->len;
	sub->read = frame->seq;
	page_evict(sub);
}

/* Its page has been read; complete: all rows that were asked for and exist came. */
void
page_end(Subscriber *sub, bool complete)
{
	sub->page_state = PAGE_NONE;
	if (complete && !sub->page_void && sub->read < sub->stream->tail)
		sub->read = sub->stream->tail;
	sub->page_void = false;
	subscriber_wake(sub);
}

/* Take the next row of its page, which is not empty. */
Frame *
page_take(Subscriber *sub)
{
	Frame *frame = sub->page[sub->page_first++];

	sub->page_bytes -= frame->len;
	pages.bytes -= frame->len;
	if (sub->page_first == sub->page_count)
		page_drop(sub);
	return frame;
}
