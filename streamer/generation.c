/*
 * generation.c
 *		What is different about the stream of a generation.
 *
 * Pages that follow one listen to unnamed events and to nothing else.  So its
 * progress is sent without its name, and whatever is not progress keeps it.
 *
 * They also count on the end of a stream in which nothing happens any more: a
 * generator may have died.  When its time is over a stream ends once all there is
 * has been sent.  An event costs only a look at the clock: the alarm stays as it
 * is, and when it rings too early it is set anew.
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

static const char progress_type[] = "StreamingProgressEvent";

struct Generation
{
	Subscriber *sub;
	Alarm alarm;
	int64_t event_time; /* when the last event was sent; at first, when the response began */
	bool idle;          /* since then the time is over */
};

static int64_t generation_timeout;

/* For so many milliseconds they may be idle; 0: for ever. */
void
generations_init(int64_t idle_timeout)
{
	generation_timeout = idle_timeout;
}

/* Make one. */
Generation *
generation_new(Subscriber *sub)
{
	Generation *generation = mem_zero(sizeof(Generation));

	generation->sub = sub;
	return generation;
}

/* Has it been idle for too long? */
static void
generation_on_alarm(void *arg)
{
	Generation *generation = arg;
	int64_t due = generation->event_time + generation_timeout;

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
	generation->idle = false;
	if (generation->alarm.place == 0 && generation_timeout > 0)
		alarm_set(&generation->alarm, now + generation_timeout, generation_on_alarm, generation);
}

/* A frame is about to be sent: without its name? */
bool
generation_takes(Generation *generation, const Frame *frame)
{
	if (frame_is_event(frame))
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
	return frame_idle(generation_timeout);
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
