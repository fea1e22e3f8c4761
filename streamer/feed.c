/*
 * feed.c
 *		What the database tells unasked, and which query goes out next.
 *
 * Doorbells say where to look; events that are not stored come in whole and are
 * handed on at once.  Doorbells may come late, twice or never: the poll reads
 * again whatever has not been read for a while, so that at worst it finds the
 * event.
 *
 * The connection takes one query at a time.  The kinds take turns, and each
 * carries all that has gathered, so none waits longer than the others take.
 */
#include <string.h>

#include "db.h"
#include "doorbell.h"
#include "feed.h"
#include "generation.h"
#include "hub.h"
#include "log.h"
#include "lookup.h"
#include "loop.h"
#include "metrics.h"
#include "newid.h"
#include "presence.h"
#include "reader.h"
#include "revoked.h"
#include "subscriber.h"
#include "ticket.h"
#include "types.h"

static struct
{
	int64_t poll;
	Timer poll_timer;
	size_t turn; /* which kind of query is next */
	bool rung;   /* while it was not known which stream has which id */
	bool watch;  /* denials by time-out are to be seen to */
} feed;

/* Something may have happened in any stream. */
static void
feed_look_everywhere(void)
{
	Stream *stream;

	TAILQ_FOREACH(stream, hub_streams(), all_link)
	{
		reader_mark_stale(stream);
	}
	lookup_want_keys();
}

static void
feed_on_doorbell(const char *payload)
{
	int64_t id;
	int64_t seq;

	metric_add(METRIC_DOORBELLS, 1);
	for (;;)
	{
		DoorbellToken token = doorbell_next(&payload, &id, &seq);
		Stream *stream;

		if (token == DOORBELL_END)
			return;
		if (token == DOORBELL_NEW)
		{
			newid_reset();
			lookup_everything();
			return;
		}
		if (token == DOORBELL_EVERYWHERE)
		{
			feed_look_everywhere();
			return;
		}
		stream = hub_find(id);
		/* it may be for another stream, and be younger than the look that will tell */
		feed.rung = feed.rung || lookup_is_unsure();
		if (stream == NULL)
			newid_ask(id);
		else if (seq > stream->tail)
			reader_mark_stale(stream);
	}
}

static void
feed_on_live(const char *payload)
{
	LiveEvent event;
	Stream *stream;
	Frame *frame;

	if (!live_parse(payload, &event))
	{
		log_warning("malformed notification on channel pev_live dropped");
		return;
	}
	metric_add(METRIC_EVENTS_UNSTORED, 1);
	stream = event.global ? NULL : hub_find(event.stream);
	if (stream != NULL && stream->unsure && !stream->numeric)
		stream = NULL;
	frame = frame_event(0, event.type, event.type_len, event.data, strlen(event.data), false);
	frame->claims = presence_claims(event.type, event.type_len, event.data);
	if (event.global)
		subscriber_send_everywhere(frame);
	else if (stream != NULL)
		stream_send_live(stream, frame);
	else
		newid_hold(event.stream, frame);
	frame_unref(frame);
}

static void
feed_on_notify(const char *channel, const char *payload)
{
	if (strcmp(channel, "pev_live") == 0)
		feed_on_live(payload);
	else if (strcmp(channel, "pev_revoked") == 0)
		revoked_want();
	else
		feed_on_doorbell(payload);
}

/* Tell every client, for those who watch the wire. */
static void
feed_comment(const char *text)
{
	Frame *frame = frame_comment(text);

	subscriber_send_everywhere(frame);
	frame_unref(frame);
}

/* Read what has not been read for a while, in case a doorbell was lost. */
static void
feed_on_poll(void *arg)
{
	Stream *stream;

	(void) arg;
	timer_set(&feed.poll_timer, feed.poll, feed_on_poll, NULL);
	if (!db_is_up())
		return;
	revoked_want();
	feed.watch = true;
	TAILQ_FOREACH(stream, hub_streams(), all_link)
	{
		if (stream->closed_at == 0 && loop_now() - stream->read_time >= feed.poll)
			reader_poll(stream);
	}
	lookup_want_keys();
}

/* Connected. */
static void
feed_on_ready(void)
{
	revoked_start();
	lookup_everything();
	feed.watch = true;
	generations_trust(true);
	feed_comment("the database is there");
}

/* Disconnected. */
static void
feed_on_lost(void)
{
	feed_comment("the database is not available; events will follow when it is back");
	feed.rung = false;
	generations_trust(false);
	newid_reset();
	lookup_give_up();
	ticket_give_up();
	hub_forget_lingering();
}

/* Its row says nothing. */
static void
feed_on_row(const PGresult *row)
{
	(void) row;
}

static void
feed_on_watched(bool ok)
{
	(void) ok;
}

/*
 * See to it that somebody denies actions whose time runs out.  The notifier does,
 * but what has ended it, as a restart of the server, leaves nobody to start it
 * before the next event.
 */
static bool
feed_send_watch(void)
{
	if (!feed.watch)
		return false;
	feed.watch = false;
	db_send(DB_WATCH, 0, NULL, feed_on_row, feed_on_watched);
	return true;
}

/* If the connection is free, send the query whose turn it is. */
void
feed_pump(void)
{
	static bool (*const kinds[])(void) = {reader_send_tails, reader_send_pages, lookup_send,
										  newid_send,        lookup_send_types, lookup_send_rest,
										  ticket_send,       feed_send_watch};
	const size_t count = sizeof(kinds) / sizeof(kinds[0]);

	/* Out of turn: nobody is sent an event who has no right to it any more. */
	if (db_is_idle())
		revoked_send();
	/* Likewise: nothing is read by an id that may be another stream's by now. */
	if (lookup_is_unsure() && db_is_idle())
		lookup_send();
	else if (feed.rung && db_is_idle())
	{
		feed.rung = false;
		feed_look_everywhere();
	}
	for (size_t i = 0; i < count && db_is_idle(); i++)
	{
		feed.turn = (feed.turn + 1) % count;
		kinds[feed.turn]();
	}
}

/* Forget a place whose subscriber is about to be freed. */
void
feed_forget(Place *place)
{
	lookup_forget(place);
	reader_forget(place);
}

/* Forget a stream that nobody watches any more. */
void
feed_forget_stream(Stream *stream)
{
	lookup_forget_stream(stream);
	reader_forget_stream(stream);
}

/* Start connecting and polling.  dsn may be NULL, and stays the caller's. */
void
feed_start(const char *dsn, int64_t poll)
{
	static const DbHooks hooks = {feed_on_ready, feed_on_lost, feed_on_notify};

	lookup_init();
	newid_init();
	reader_init();
	feed.poll = poll;
	timer_set(&feed.poll_timer, poll, feed_on_poll, NULL);
	db_start(dsn, &hooks);
}

/* Disconnect; all subscribers are gone. */
void
feed_stop(void)
{
	timer_clear(&feed.poll_timer);
	db_stop();
	newid_reset();
	types_free();
}
