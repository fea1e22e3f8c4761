/*
 * presence.c
 *		Clients that are present in the streams they listen to, and are told who else is.
 *
 * Only streams of the kinds that --presence names have presence; clients of others
 * do not pay for it.  Who is present: those whose token names a user.  A user's
 * connections here are one hold on the roster, other streamers' are others.
 *
 * When a crowd comes, each of it is a change for all who are there.  So listeners
 * are not woken for each, but after a moment, for all that has gathered; the more
 * there are, the longer it is, or a large room would leave no time for the others.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include <string.h>
#include <time.h>

#include "gossip.h"
#include "loop.h"
#include "presence.h"

#define PRESENCE_PACE  50 /* milliseconds */
#define PRESENCE_WAKES 20 /* listeners that make it longer by one */

static struct
{
	const StringList *kinds;
	Holder here;
} presence;

/* Wake those who are to be told of a roster's changes. */
static void
presence_wake(void *arg)
{
	const Roster *roster = arg;
	Place *place;

	TAILQ_FOREACH(place, &roster->stream->places, stream_link)
	{
		if (place->roster == NULL)
			continue;
		place->sub->news = true;
		subscriber_wake(place->sub);
	}
}

/* There is something to be told to a roster's listeners. */
static void
presence_on_change(Roster *roster)
{
	int64_t pace = PRESENCE_PACE + (int64_t) roster->listeners / PRESENCE_WAKES;

	if (roster->wake.place == 0)
		alarm_set(&roster->wake, loop_now() + pace, presence_wake, roster);
}

/* Start; the kinds stay the caller's. */
void
presence_start(const StringList *kinds, int64_t grace)
{
	static const RosterHooks hooks = {presence_on_change, gossip_forget};

	presence.kinds = kinds;
	LIST_INIT(&presence.here.holds);
	roster_init(&hooks, grace);
}

/* Stop; all clients are gone. */
void
presence_stop(void)
{
	roster_close();
}

/* Has any stream presence? */
bool
presence_is_on(void)
{
	return presence.kinds != NULL && presence.kinds->count > 0;
}

/* Has the stream of this key? */
bool
presence_covers(const char *key)
{
	size_t len = strcspn(key, ":");

	for (int i = 0; key[len] == ':' && presence_is_on() && i < presence.kinds->count; i++)
		if (strlen(presence.kinds->items[i]) == len &&
			memcmp(presence.kinds->items[i], key, len) == 0)
			return true;
	return false;
}

/* This streamer, as the holder of its clients' users. */
Holder *
presence_here(void)
{
	return &presence.here;
}

/* Now, in milliseconds of Unix time. */
static int64_t
wall_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Another connection of the user listens to the stream. */
static void
place_hold(Place *place, const char *user, const char *name)
{
	Hold *hold = roster_find(&presence.here, place->stream->key, user);

	if (hold == NULL || strcmp(hold->name, name) != 0)
	{
		hold = roster_hold(&presence.here, place->stream->key, user, name, wall_clock());
		if (hold == NULL)
			return;
		gossip_tell(hold->user);
	}
	hold->connections++;
	place->hold = hold;
}

/* The client of this place will be told who is present. */
static void
place_listen(Place *place)
{
	place->roster = roster_listen(place->stream->key);
	place->roster->stream = place->stream;
	place->seen = 0;
	place->sub->news = true;
}

/*
 * A subscriber's response has begun.  It is the user of this name, or (NULL)
 * nobody who could be told of.  A filter that lets no such event pass keeps it
 * from being told, but not from being present.
 */
void
presence_enter(Subscriber *sub, const char *user, const char *name)
{
	static const char type[] = "presence";

	for (int i = 0; i < sub->count; i++)
	{
		Place *place = &sub->places[i];

		if (!presence_covers(place->stream->key))
			continue;
		if (filter_has(&sub->filter, type))
			place_listen(place);
		if (user != NULL)
			place_hold(place, user, name);
	}
}

/* The place's subscriber is about to be freed. */
void
presence_leave(Place *place)
{
	Hold *hold = place->hold;
	Roster *roster = place->roster;

	place->hold = NULL;
	place->roster = NULL;
	if (hold != NULL && --hold->connections == 0)
	{
		gossip_tell(hold->user);
		roster_release(hold, 0);
	}
	if (roster == NULL)
		return;
	if (roster->listeners == 1)
	{
		alarm_clear(&roster->wake);
		roster->stream = NULL;
	}
	roster_leave(roster);
}

/*
 * What a subscriber is told next; NULL if there is nothing.  Its streams take
 * turns.  Who listens to several must be told which one it is about, so it waits
 * until all have ids.
 */
Frame *
presence_next(Subscriber *sub, const Place **from)
{
	if (sub->composite && sub->unknown > 0)
		return NULL;
	for (int i = 0; i < sub->count; i++)
	{
		Place *place = &sub->places[sub->news_turn];
		Frame *frame = place->roster != NULL ? roster_next(place->roster, &place->seen) : NULL;

		sub->news_turn = sub->news_turn + 1 < sub->count ? sub->news_turn + 1 : 0;
		*from = place;
		if (frame != NULL)
			return frame;
	}
	sub->news = false;
	return NULL;
}
