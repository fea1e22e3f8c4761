/*
 * generation.c
 *		What is different about the stream of a generation.
 *
 * Pages that follow one listen to unnamed events and to nothing else.  So its
 * progress is sent without its name, and whatever is not progress keeps it.
 *
 * They also count on the end of a stream in which nothing happens any more: a
 * generator may have died.  When its time is over a stream ends once all there is
 * has been sent.  Only what the stream itself brings counts, for global events come
 * whatever the generator does; what the client's filter holds back counts, too.  While
 * the database is away, or something of the stream is being read, nobody knows whether
 * anything has happened: the time stands still.
 *
 * An event costs only a look at the clock: the alarm stays as it is, and when it
 * rings too early it is set anew.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include <stdlib.h>

#include "alarm.h"
#include "generation.h"
#include "log.h"
#include "loop.h"
#include "mem.h"
#include "subscriber.h"

#define UNSETTLED_PAUSE 1000 /* milliseconds; so often it is looked whether the time runs again */

static const char progress_type[] = "StreamingProgressEvent";

struct Generation
{
	Subscriber *sub;
	Alarm alarm;
	int64_t event_time; /* when the last event was sent; at first, when the response began */
	int64_t pos;        /* how far it was when the alarm rang last */
	bool idle;          /* since then the time is over */
};

static struct
{
	int64_t timeout;
	bool known;    /* the database is there, so what happens is known */
	int64_t since; /* since then */
} generations;

/* For so many milliseconds they may be idle; 0: for ever. */
void
generations_init(int64_t idle_timeout)
{
	generations.timeout = idle_timeout;
	generations.known = false;
}

/* The database is there, or is away. */
void
generations_trust(bool known)
{
	generations.known = known;
	generations.since = loop_now();
}

/* Make one. */
Generation *
generation_new(Subscriber *sub)
{
	Generation *generation = mem_zero(sizeof(Generation));

	generation->sub = sub;
	return generation;
}

/* Is it known that the client lacks nothing of the stream?  One without an id has no events. */
static bool
place_is_settled(const Place *place)
{
	const Stream *stream = place->stream;

	if (!place->known || place->looking || stream->look_queued || stream->unsure)
		return false;
	return !stream->resolved || (place->page_state == PAGE_NONE && place->read >= stream->tail &&
								 !stream->stale && !stream->reading);
}

/* When its time is over, as far as is known now. */
static int64_t
generation_due(Generation *generation)
{
	const Place *place = &generation->sub->places[0];
	int64_t begin = generation->event_time;
	int64_t now = loop_now();

	if (!generations.known || !place_is_settled(place))
		return now +
			   (generations.timeout < UNSETTLED_PAUSE ? generations.timeout : UNSETTLED_PAUSE);
	if (place->pos != generation->pos)
		generation->event_time = begin = now;
	generation->pos = place->pos;
	return (begin > generations.since ? begin : generations.since) + generations.timeout;
}

/* Has it been idle for too long? */
static void
generation_on_alarm(void *arg)
{
	Generation *generation = arg;
	int64_t due = generation_due(generation);

	if (due > loop_now())
	{
		alarm_set(&generation->alarm, due, generation_on_alarm, generation);
		return;
	}
	generation->idle = true;
	subscriber_wake(generation->sub);
}

/* The response begins, or an event is sent: its time begins, or begins anew. */
void
generation_wait(Generation *generation)
{
	int64_t now = loop_now();

	generation->event_time = now;
	generation->pos = generation->sub->places[0].pos;
	generation->idle = false;
	if (generation->alarm.place == 0 && generations.timeout > 0)
		alarm_set(&generation->alarm, now + generations.timeout, generation_on_alarm, generation);
}

/* A frame is about to be sent, of the stream or of none: without its name? */
bool
generation_takes(Generation *generation, const Frame *frame, bool of_stream)
{
	if (of_stream)
		generation_wait(generation);
	return frame_has_type(frame, progress_type);
}

/* There is nothing to be sent: the last frame, if it is time for that; else NULL. */
Frame *
generation_farewell(const Generation *generation)
{
	if (!generation->idle)
		return NULL;
	log_write(LOG_DEBUG, generation->sub->client, "stream ends: idle-timeout");
	return frame_idle(generations.timeout);
}

/* Free it; NULL is nothing. */
void
generation_free(Generation *generation)
{
	if (generation == NULL)
		return;
	alarm_clear(&generation->alarm);
	free(generation);
}
