/*
 * subscriber.c
 *		One client of one stream: its position, and what it is sent next.
 *
 * A subscriber is a position in its stream.  While it is within the stream's
 * window it copies from the shared frames; before it, it reads pages of its
 * own, the next when the last is nearly sent, until it meets the window.  So a
 * client is never cut off for being slow, and holds at most a page, the frame
 * it is being sent, and a few frames that are not stored.
 *
 * What is sent, in this order: the rest of a frame begun, the farewell, events
 * that are not stored, rows, a heartbeat if there was nothing else.  Rows come
 * in order; one that does not follow its predecessor means that retention has
 * removed those between, and the client is told.
 *
 * Knows neither libpq nor libmicrohttpd: they hang on the hooks.
 */
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "loop.h"
#include "mem.h"
#include "metrics.h"
#include "page.h"
#include "subscriber.h"

#define LIVE_MAX        64    /* frames that wait for one client; the oldest goes first */
#define NEAR_TAIL_BYTES 32768 /* lacking less than this, a client lets the tail be read */
#define PAGE_LOW_BYTES  65536 /* holding less than this, it gets its next page */
#define CROWD           256   /* clients; fewer leave too little behind to care */
#define WINDOW_JUMP     1000 /* rows; being further ahead than this, a client takes the window along */

struct LiveQueue
{
	size_t first;
	size_t count;
	Frame *frames[LIVE_MAX];
};

static struct
{
	const SubscriberHooks *hooks;
	size_t count;
	size_t most; /* at once, of late */
	int64_t heartbeat;
	int64_t fill_time; /* of the call under way, by loop_clock */
	Timer timer;
	Frame *beat;
	struct SubscriberList pulses;
} subs;

/* Which way leads from which state to which. */
static const bool subscriber_allowed[SUBSCRIBER_GONE + 1][SUBSCRIBER_GONE + 1] = {
	[SUBSCRIBER_NEW] =
		{[SUBSCRIBER_ADMITTING] = true, [SUBSCRIBER_ADMITTED] = true, [SUBSCRIBER_GONE] = true},
	[SUBSCRIBER_ADMITTING] = {[SUBSCRIBER_ADMITTED] = true, [SUBSCRIBER_GONE] = true},
	[SUBSCRIBER_ADMITTED] = {[SUBSCRIBER_ACTIVE] = true, [SUBSCRIBER_GONE] = true},
	[SUBSCRIBER_ACTIVE] =
		{[SUBSCRIBER_IDLE] = true, [SUBSCRIBER_ENDING] = true, [SUBSCRIBER_GONE] = true},
	[SUBSCRIBER_IDLE] = {[SUBSCRIBER_ACTIVE] = true, [SUBSCRIBER_GONE] = true},
	[SUBSCRIBER_ENDING] = {[SUBSCRIBER_GONE] = true},
};

/* The only place where the state changes. */
void
subscriber_set_state(Subscriber *sub, SubscriberState state)
{
	if (!subscriber_allowed[sub->state][state])
		log_write(LOG_FATAL, sub->client, "subscriber cannot go from state %d to %d", sub->state,
				  state);
	sub->state = state;
}

/* Start with no subscribers. */
void
subscriber_init(const SubscriberHooks *hooks, int64_t heartbeat)
{
	subs.hooks = hooks;
	subs.count = 0;
	subs.heartbeat = heartbeat;
	subs.beat = frame_comment("");
	TAILQ_INIT(&subs.pulses);
}

void
subscriber_close(void)
{
	timer_clear(&subs.timer);
	frame_unref(subs.beat);
}

/* How many are there? */
size_t
subscriber_count(void)
{
	return subs.count;
}

/* Make a subscriber.  The filter's names become its own. */
Subscriber *
subscriber_new(uint64_t client, void *owner, const StreamKey *key, const Cursor *cursor,
			   TypeFilter *filter)
{
	Subscriber *sub = mem_zero(sizeof(Subscriber));

	sub->client = client;
	sub->owner = owner;
	sub->cursor = *cursor;
	sub->filter = *filter;
	*filter = (TypeFilter){0};
	/*
	 * From the beginning there is nothing to find out; but a client whose filter
	 * lets nothing pass comes back without an id for ever, unless it is told
	 * that there is nothing for it.
	 */
	sub->placed = sub->filter.count == 0 && !sub->cursor.now && sub->cursor.seq == 0;
	sub->stream = hub_watch(key);
	TAILQ_INSERT_TAIL(&sub->stream->subscribers, sub, stream_link);
	subs.count++;
	subs.most = subs.count > subs.most ? subs.count : subs.most;
	return sub;
}

/* Drop the frames that are not stored. */
static void
live_drop(Subscriber *sub)
{
	LiveQueue *live = sub->live;

	for (; live != NULL && live->count > 0; live->count--)
		frame_unref(live->frames[live->first++ % LIVE_MAX]);
	free(live);
	sub->live = NULL;
}

/* Let it wait in a queue; it is in one at most. */
void
subscriber_enqueue(struct SubscriberList *queue, Subscriber *sub)
{
	TAILQ_INSERT_TAIL(queue, sub, queue_link);
	sub->waiting = queue;
}

/* Take it out of the queue that it waits in, if any. */
void
subscriber_dequeue(Subscriber *sub)
{
	if (sub->waiting != NULL)
		TAILQ_REMOVE(sub->waiting, sub, queue_link);
	sub->waiting = NULL;
}

/* When a crowd has gone by half, its memory is given back. */
static void
subscriber_count_down(void)
{
	subs.count--;
	if (subs.count > subs.most / 2 || subs.most < CROWD)
		return;
	subs.most = subs.count;
	mem_trim();
}

/* Free a subscriber, and leave its stream if it was the last one there. */
void
subscriber_free(Subscriber *sub)
{
	Stream *stream = sub->stream;

	subscriber_set_state(sub, SUBSCRIBER_GONE);
	subscriber_dequeue(sub);
	subs.hooks->forget(sub);
	page_drop(sub);
	live_drop(sub);
	frame_unref(sub->current);
	frame_unref(sub->last);
	filter_free(&sub->filter);
	if (sub->pulsing)
		TAILQ_REMOVE(&subs.pulses, sub, pulse_link);
	TAILQ_REMOVE(&stream->subscribers, sub, stream_link);
	subscriber_count_down();
	free(sub);
	if (TAILQ_EMPTY(&stream->subscribers))
	{
		subs.hooks->forget_stream(stream);
		hub_leave(stream);
	}
}

/* Let a suspended subscriber be asked for bytes again. */
void
subscriber_wake(Subscriber *sub)
{
	if (sub->state != SUBSCRIBER_IDLE)
		return;
	subscriber_set_state(sub, SUBSCRIBER_ACTIVE);
	subs.hooks->resume(sub);
}

/* Settle how its request is to be answered. */
void
subscriber_admit(Subscriber *sub, Verdict verdict)
{
	bool suspended = sub->state == SUBSCRIBER_ADMITTING;

	sub->verdict = verdict;
	subscriber_set_state(sub, SUBSCRIBER_ADMITTED);
	if (suspended)
		subs.hooks->resume(sub);
}

/* Send a heartbeat to those that have heard nothing for long. */
static void
pulse_ring(void *arg)
{
	Subscriber *sub;

	(void) arg;
	while ((sub = TAILQ_FIRST(&subs.pulses)) != NULL)
	{
		int64_t due = sub->sent_time + subs.heartbeat;

		if (due > loop_now())
		{
			timer_set(&subs.timer, due - loop_now(), pulse_ring, NULL);
			return;
		}
		sub->sent_time = loop_now();
		TAILQ_REMOVE(&subs.pulses, sub, pulse_link);
		TAILQ_INSERT_TAIL(&subs.pulses, sub, pulse_link);
		sub->beat_due = sub->state == SUBSCRIBER_IDLE;
		subscriber_wake(sub);
	}
}

/* Send a heartbeat now, to let TCP find out whether the peer is there. */
void
subscriber_probe(Subscriber *sub)
{
	sub->beat_due = sub->beat_due || sub->state == SUBSCRIBER_IDLE;
	subscriber_wake(sub);
}

/* It has just been sent something. */
static void
pulse_reset(Subscriber *sub)
{
	sub->sent_time = loop_now();
	sub->beat_due = false;
	if (sub->pulsing)
		TAILQ_REMOVE(&subs.pulses, sub, pulse_link);
	TAILQ_INSERT_TAIL(&subs.pulses, sub, pulse_link);
	sub->pulsing = true;
	if (!subs.timer.set)
		timer_set(&subs.timer, subs.heartbeat, pulse_ring, NULL);
}

/* Begin the response.  The reference to hello goes to the subscriber. */
void
subscriber_open(Subscriber *sub, Frame *hello)
{
	subscriber_set_state(sub, SUBSCRIBER_ACTIVE);
	sub->opened = loop_clock();
	metric_add(METRIC_SUBSCRIPTIONS, 1);
	sub->current = hello;
	sub->quiet = true;
	sub->offset = 0;
	pulse_reset(sub);
}

/* Is it in the window with little to be sent, so that more rows would be welcome? */
static bool
subscriber_is_near_tail(const Subscriber *sub)
{
	return sub->placed && sub->page_count == 0 && sub->read >= sub->stream->base &&
		   stream_left(sub->stream, sub->read) <= NEAR_TAIL_BYTES;
}

/*
 * Does anybody want the rows after the tail?  While nobody does they need not
 * be read: a long history is read no faster than its fastest reader takes it.
 */
bool
stream_is_wanted(const Stream *stream)
{
	const Subscriber *sub;

	TAILQ_FOREACH(sub, &stream->subscribers, stream_link)
	{
		if (subscriber_is_near_tail(sub))
			return true;
	}
	return false;
}

/*
 * Give a subscriber its position, now that the stream's last row is known.  One
 * that names a position beyond it gets what comes after that, as it asked.
 *
 * One a little ahead of a window that somebody draws along waits for it, or a
 * busy stream's window would jump with everyone who comes; else the window
 * goes where it is.
 */
void
subscriber_place(Subscriber *sub, int64_t last)
{
	Stream *stream = sub->stream;

	sub->pos = sub->cursor.now ? last : sub->cursor.seq;
	sub->read = sub->pos < last ? sub->pos : last;
	if (sub->read > stream->tail)
	{
		if (sub->read - stream->tail <= WINDOW_JUMP && stream_is_wanted(stream))
			sub->read = stream->tail;
		else
			stream_restart(stream, sub->read);
	}
	sub->placed = true;
	sub->looking = false;
	subscriber_wake(sub);
}

/* End the response, after the frame begun and this last one (NULL for none). */
void
subscriber_end(Subscriber *sub, Frame *last)
{
	frame_unref(sub->last);
	sub->last = last;
	sub->ending = true;
	subscriber_wake(sub);
}

/* The peer has closed: nothing more can be sent. */
void
subscriber_hang_up(Subscriber *sub)
{
	sub->hung_up = true;
	if (sub->state == SUBSCRIBER_ADMITTING)
		subscriber_admit(sub, VERDICT_OPEN);
	else
		subscriber_wake(sub);
}

/* Does its filter let the frame pass? */
static bool
subscriber_takes(const Subscriber *sub, const Frame *frame)
{
	if (sub->filter.count == 0)
		return true;
	for (int i = 0; i < sub->filter.count; i++)
		if (frame_has_type(frame, sub->filter.names[i]))
			return true;
	return false;
}

/* Send a frame that is not stored, whatever the filter.  It takes a reference of its own. */
void
subscriber_send(Subscriber *sub, Frame *frame)
{
	LiveQueue *live = sub->live;

	if (live == NULL)
		live = sub->live = mem_zero(sizeof(LiveQueue));
	if (live->count == LIVE_MAX)
	{
		frame_unref(live->frames[live->first++ % LIVE_MAX]);
		live->count--;
	}
	live->frames[(live->first + live->count++) % LIVE_MAX] = frame_ref(frame);
	subscriber_wake(sub);
}

/* The same, if its filter lets it pass; comments always do. */
void
subscriber_send_live(Subscriber *sub, Frame *frame)
{
	if (frame->type_len == 0 || subscriber_takes(sub, frame))
		subscriber_send(sub, frame);
}

/* Send a frame that is not stored to everybody who watches the stream. */
void
stream_send_live(Stream *stream, Frame *frame)
{
	Subscriber *sub;

	TAILQ_FOREACH(sub, &stream->subscribers, stream_link)
	{
		subscriber_send_live(sub, frame);
	}
}

/* Take the next frame that is not stored; the reference goes to the caller. */
static Frame *
live_take(Subscriber *sub)
{
	LiveQueue *live = sub->live;
	Frame *frame;

	if (live == NULL)
		return NULL;
	frame = live->frames[live->first++ % LIVE_MAX];
	if (--live->count == 0)
		live_drop(sub);
	return frame;
}

/* The next row, with a reference for the caller; NULL if none is here. */
static Frame *
row_take(Subscriber *sub)
{
	Frame *frame;

	if (sub->page_count > 0)
		return page_take(sub);
	frame = stream_after(sub->stream, sub->read);
	if (frame == NULL)
		return NULL;
	sub->read = frame->seq;
	return frame_ref(frame);
}

/* Is a row here that does not follow the position?  Then the notice of it. */
static Frame *
row_gap(Subscriber *sub)
{
	const Frame *next =
		sub->page_count > 0 ? sub->page[sub->page_first] : stream_after(sub->stream, sub->read);
	Frame *gap;

	if (next == NULL || next->seq <= sub->pos + 1)
		return NULL;
	gap = frame_gap(sub->pos + 1, next->seq - 1);
	sub->pos = next->seq - 1;
	return gap;
}

/* The next row to be sent, or the notice of a gap before it. */
static Frame *
row_next(Subscriber *sub)
{
	Frame *frame;

	if (!sub->placed)
		return NULL;
	if ((frame = row_gap(sub)) != NULL)
		return frame;
	while ((frame = row_take(sub)) != NULL)
	{
		bool wanted = frame->seq > sub->pos && subscriber_takes(sub, frame);

		if (frame->seq > sub->pos)
			sub->pos = frame->seq;
		sub->ending = sub->ending || frame->terminal;
		if (wanted)
			return frame;
		frame_unref(frame);
		/* Its id all the same, so that the client does not return for it. */
		if (sub->ending)
			return frame_mark(sub->pos);
		if ((frame = row_gap(sub)) != NULL)
			return frame;
	}
	return NULL;
}

/*
 * A frame is about to be written to the client.  Events' ages say how fast they
 * travel, hence those do not count that were there before the client was.
 */
static void
subscriber_count_delivery(Subscriber *sub, const Frame *frame)
{
	metric_add(METRIC_DELIVERIES, frame_is_event(frame));
	sub->quiet = false;
	if (frame->born > sub->opened)
		metrics_observe_age(subs.fill_time - frame->born);
}

/* Choose the frame to be sent next; false if there is none. */
static bool
subscriber_next(Subscriber *sub, bool beat)
{
	sub->offset = 0;
	sub->current = NULL;
	if (sub->ending)
	{
		sub->current = sub->last;
		sub->last = NULL;
	}
	else if ((sub->current = live_take(sub)) != NULL || (sub->current = row_next(sub)) != NULL)
		subscriber_count_delivery(sub, sub->current);
	else if (beat && sub->beat_due)
	{
		sub->current = frame_ref(subs.beat);
		sub->quiet = true;
	}
	return sub->current != NULL;
}

/* Ask for the rows that it will want next. */
static void
subscriber_ask(Subscriber *sub)
{
	if (!sub->placed || sub->ending)
		return;
	if (sub->read < sub->stream->base)
	{
		if (sub->page_state == PAGE_NONE && sub->page_bytes <= PAGE_LOW_BYTES)
			subs.hooks->want_page(sub);
	}
	else if (sub->stream->stale && subscriber_is_near_tail(sub))
		subs.hooks->want_tail(sub->stream);
}

/*
 * Copy as much as there is and fits: the number of bytes, FILL_WAIT if there is
 * nothing (and then the caller suspends the connection), or the end.
 */
ssize_t
subscriber_fill(Subscriber *sub, char *out, size_t size)
{
	size_t filled = 0;

	if (sub->hung_up)
		return FILL_ABORT;
	subs.fill_time = loop_clock();
	while (filled < size && (sub->current != NULL || subscriber_next(sub, filled == 0)))
	{
		size_t left = sub->current->len - sub->offset;
		size_t n = left < size - filled ? left : size - filled;

		memcpy(out + filled, sub->current->bytes + sub->offset, n);
		filled += n;
		sub->offset += n;
		if (n < left)
			break;
		frame_unref(sub->current);
		sub->current = NULL;
	}
	subscriber_ask(sub);
	if (filled > 0)
	{
		metric_add(METRIC_SENT_BYTES, (int64_t) filled);
		pulse_reset(sub);
		return (ssize_t) filled;
	}
	subscriber_set_state(sub, sub->ending ? SUBSCRIBER_ENDING : SUBSCRIBER_IDLE);
	return sub->ending ? FILL_END : FILL_WAIT;
}

/* Wake those of the stream's subscribers for whom there is something. */
void
stream_wake(Stream *stream)
{
	Subscriber *sub;

	TAILQ_FOREACH(sub, &stream->subscribers, stream_link)
	{
		if (sub->placed && sub->read < stream->tail && sub->page_state == PAGE_NONE)
			subscriber_wake(sub);
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
	Subscriber *sub;

	stream_restart(stream, last);
	stream->closed_at = 0;
	TAILQ_FOREACH(sub, &stream->subscribers, stream_link)
	{
		page_drop(sub);
		if (!sub->placed)
			continue;
		sub->pos = sub->pos < last ? sub->pos : last;
		sub->read = sub->pos;
	}
}
