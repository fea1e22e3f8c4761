/*
 * subscriber.c
 *		A client: its places in the streams it listens to, and what it is sent next.
 *
 * A subscriber has a place in each of its streams (place.c), mostly in one.  It
 * is never cut off for being slow, and holds at most a page, the frame it is
 * being sent, and a few frames that are not stored, however many its streams.
 *
 * What is sent, in this order: the rest of a frame begun, the farewell, events
 * that are not stored, rows, a heartbeat if there was nothing else.  The streams
 * take turns, a row each, so that a long history of one does not hide the others;
 * rows and what tells who is present take turns likewise.
 *
 * A composite subscriber's ids tell all of its places.  Such an id is its own,
 * while the rest of the frame is everybody's: so the id's line is a frame apart.
 * It tells whose event it is, too, so that those that are not stored have one.
 *
 * Knows neither libpq nor libmicrohttpd: they hang on the hooks.
 */
#include <stdlib.h>
#include <string.h>

#include "composite.h"
#include "generation.h"
#include "log.h"
#include "loop.h"
#include "mem.h"
#include "metrics.h"
#include "page.h"
#include "presence.h"
#include "subscriber.h"

#define PAGE_LOW_BYTES 65536 /* holding less than this, it gets its next page */
#define CROWD          256   /* clients; fewer leave too little behind to care */

static struct
{
	const SubscriberHooks *hooks;
	size_t count;
	size_t most; /* at once, of late */
	int64_t heartbeat;
	int64_t fill_time; /* of the call under way, by loop_clock */
	Timer timer;
	Frame *beat;
	struct SubscriberList all;
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
	TAILQ_INIT(&subs.all);
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

/* All of them, for iterating. */
struct SubscriberList *
subscriber_list(void)
{
	return &subs.all;
}

/* Give it a place in a stream. */
static void
subscriber_add_place(Subscriber *sub, const Choice *choice)
{
	Place *place = &sub->places[sub->count++];

	place->sub = sub;
	place->cursor = choice->cursor;
	place->index = choice->index;
	place->pos = choice->cursor.seq;
	/*
	 * From the beginning there is nothing to find out; but a client whose filter
	 * lets nothing pass comes back without an id for ever, unless it is told
	 * that there is nothing for it.
	 */
	place->known = sub->filter.count == 0 && !place->cursor.now && place->cursor.seq == 0;
	sub->unknown += !place->known;
	place_enter(place, &choice->key);
}

/* Make a subscriber.  The names of the selection's filter become its own. */
Subscriber *
subscriber_new(uint64_t client, void *owner, Selection *selection)
{
	Subscriber *sub = mem_zero(sizeof(Subscriber) + (size_t) selection->count * sizeof(Place));

	sub->client = client;
	sub->owner = owner;
	sub->composite = selection->composite;
	sub->check = selection->check;
	sub->filter = selection->filter;
	sub->generation = selection->generation ? generation_new(sub) : NULL;
	selection->filter = (TypeFilter){0};
	for (int i = 0; i < selection->count; i++)
		subscriber_add_place(sub, &selection->choices[i]);
	TAILQ_INSERT_TAIL(&subs.all, sub, all_link);
	subs.count++;
	subs.most = subs.count > subs.most ? subs.count : subs.most;
	return sub;
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

/* Leave a stream; the last one there lets it go. */
static void
subscriber_leave(Place *place)
{
	Stream *stream = place->stream;

	presence_leave(place);
	place_dequeue(place);
	subs.hooks->forget(place);
	page_drop(place);
	TAILQ_REMOVE(&stream->places, place, stream_link);
	if (!TAILQ_EMPTY(&stream->places))
		return;
	subs.hooks->forget_stream(stream);
	hub_leave(stream);
}

/* Free a subscriber. */
void
subscriber_free(Subscriber *sub)
{
	subscriber_set_state(sub, SUBSCRIBER_GONE);
	for (int i = 0; i < sub->count; i++)
		subscriber_leave(&sub->places[i]);
	live_drop(&sub->live);
	generation_free(sub->generation);
	frame_unref(sub->current);
	frame_unref(sub->rest);
	frame_unref(sub->last);
	filter_free(&sub->filter);
	if (sub->pulsing)
		TAILQ_REMOVE(&subs.pulses, sub, pulse_link);
	TAILQ_REMOVE(&subs.all, sub, all_link);
	subscriber_count_down();
	free(sub);
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
	sub->stop = hello->len;
	pulse_reset(sub);
	if (sub->generation != NULL)
		generation_wait(sub->generation);
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

/* Nothing more will come in one of its streams, nor has it anything to be sent of it. */
void
subscriber_end_place(Place *place)
{
	place->over = true;
	if (!place->sub->composite)
		subscriber_end(place->sub, NULL);
	subscriber_wake(place->sub);
}

/* Are all of its streams over? */
bool
subscriber_is_over(const Subscriber *sub)
{
	for (int i = 0; i < sub->count; i++)
		if (!sub->places[i].over)
			return false;
	return true;
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
bool
subscriber_takes(const Subscriber *sub, const Frame *frame)
{
	if (sub->filter.count == 0)
		return true;
	for (int i = 0; i < sub->filter.count; i++)
		if (frame_has_type(frame, sub->filter.names[i]))
			return true;
	return false;
}

/* Send a frame that is of no stream.  It takes a reference of its own. */
void
subscriber_send(Subscriber *sub, Frame *frame)
{
	live_add(&sub->live, frame, NULL);
	subscriber_wake(sub);
}

/* The same to everybody whose filter lets it pass; comments always do. */
void
subscriber_send_everywhere(Frame *frame)
{
	Subscriber *sub;

	TAILQ_FOREACH(sub, &subs.all, all_link)
	{
		if (frame->type_len == 0 || subscriber_takes(sub, frame))
			subscriber_send(sub, frame);
	}
}

/* Send an event that is not stored to everybody who watches the stream. */
void
stream_send_live(Stream *stream, Frame *frame)
{
	Place *place;

	if (frame->claims && presence_covers(stream->key))
	{
		log_debug("event of type presence dropped: who is online, only the streamer tells");
		return;
	}
	TAILQ_FOREACH(place, &stream->places, stream_link)
	{
		if (!subscriber_takes(place->sub, frame))
			continue;
		live_add(&place->sub->live, frame, place);
		subscriber_wake(place->sub);
	}
}

/*
 * A stream is over, and all of it has been sent: so the response ends, or a
 * composite subscriber is told, and the response goes on with the others.  If
 * the filter has held back the last event its id is sent all the same, so that
 * the client does not return for it.
 */
static Frame *
subscriber_finish(Subscriber *sub, Place *place, Frame *frame)
{
	if (!sub->composite)
	{
		sub->ending = true;
		return frame != NULL ? frame : frame_mark(place->pos);
	}
	if (frame != NULL || place->told)
		return frame;
	place->told = true;
	sub->ending = true;
	for (int i = 0; i < sub->count; i++)
		sub->ending = sub->ending && sub->places[i].told;
	return frame_closed(place->pos);
}

/* Take the next row, or what tells about rows, from the streams in turn. */
static Frame *
row_take(Subscriber *sub, const Place **from)
{
	for (int i = 0; i < sub->count && sub->unknown == 0; i++)
	{
		Place *place = &sub->places[sub->turn];
		Frame *frame = place_next(place);

		sub->turn = sub->turn + 1 < sub->count ? sub->turn + 1 : 0;
		if (place->over)
			frame = subscriber_finish(sub, place, frame);
		*from = place;
		if (frame != NULL)
			return frame;
	}
	return NULL;
}

/* Take the next frame that waits for it: one that is not stored, or a row. */
static Frame *
frame_take(Subscriber *sub, const Place **from)
{
	Frame *frame = NULL;

	if (sub->live != NULL && (frame = live_take(&sub->live, from)) != NULL)
		return frame;
	if (sub->news && !sub->told && (frame = presence_next(sub, from)) != NULL)
	{
		sub->told = true;
		return frame;
	}
	sub->told = false;
	frame = row_take(sub, from);
	return frame == NULL && sub->news ? presence_next(sub, from) : frame;
}

/* The composite id that an event of the place has. */
static Frame *
subscriber_id(const Subscriber *sub, const Place *which)
{
	int64_t positions[COMPOSITE_STREAMS_MAX];
	char id[COMPOSITE_ID_MAX + 1];

	for (int i = 0; i < sub->count; i++)
		positions[i] = sub->places[i].pos;
	composite_format(sub->check, which->index, (int) (which - sub->places), sub->count, positions,
					 id);
	return frame_id(id);
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

/*
 * Begin to send a frame.  While not all places are known there is no composite
 * id, and of what is sent then none is needed: no row is.
 */
static void
subscriber_begin(Subscriber *sub, const Place *place, Frame *frame)
{
	subscriber_count_delivery(sub, frame);
	sub->current = frame;
	if (sub->generation != NULL && generation_takes(sub->generation, frame, place != NULL))
		sub->rest = frame_ref(frame);
	if (!sub->composite || place == NULL || sub->unknown > 0)
		return;
	sub->current = subscriber_id(sub, place);
	sub->rest = frame;
}

/*
 * Choose the frame to be sent next, or the next part of one; false if there is none.
 * Of one in two parts the second is copied from the rest: what follows the id, which
 * has been replaced, or the name, up to which the first has been copied.
 */
static bool
subscriber_next(Subscriber *sub, bool beat)
{
	const Place *place = NULL;
	Frame *frame;

	sub->offset = 0;
	sub->current = NULL;
	if (sub->rest != NULL)
	{
		sub->current = sub->rest;
		sub->offset = sub->composite ? sub->rest->id_len : frame_unnamed_start(sub->rest);
		sub->rest = NULL;
	}
	else if (sub->ending)
	{
		sub->current = sub->last;
		sub->last = NULL;
	}
	else if ((frame = frame_take(sub, &place)) != NULL)
		subscriber_begin(sub, place, frame);
	else if (sub->generation != NULL && (frame = generation_farewell(sub->generation)) != NULL)
	{
		sub->current = frame;
		sub->ending = true;
	}
	else if (beat && sub->beat_due)
	{
		sub->current = frame_ref(subs.beat);
		sub->quiet = true;
	}
	if (sub->current == NULL)
		return false;
	sub->stop = sub->current == sub->rest ? sub->rest->id_len : sub->current->len;
	return true;
}

/* May it have one more page?  One at a time is on its way, whatever the number of streams. */
static bool
subscriber_has_room(const Subscriber *sub)
{
	size_t bytes = 0;

	for (int i = 0; i < sub->count; i++)
	{
		if (sub->places[i].page_state != PAGE_NONE)
			return false;
		bytes += sub->places[i].page_bytes;
	}
	return bytes <= PAGE_LOW_BYTES;
}

/* Ask for the rows that it will want next, first for the stream whose turn is next. */
static void
subscriber_ask(Subscriber *sub)
{
	bool room = subscriber_has_room(sub);

	if (sub->unknown > 0 || sub->ending)
		return;
	for (int i = 0; i < sub->count; i++)
	{
		int next = sub->turn + i;
		Place *place = &sub->places[next < sub->count ? next : next - sub->count];

		if (place->over)
			continue;
		if (place->read < place->stream->base)
		{
			if (room)
				subs.hooks->want_page(place);
			room = false;
		}
		else if (place->stream->stale && place_is_near_tail(place))
			subs.hooks->want_tail(place->stream);
	}
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
		size_t left = sub->stop - sub->offset;
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
