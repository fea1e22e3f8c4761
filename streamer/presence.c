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
 * What others emit under the name of presence cannot say the same: a page could
 * not tell it from what is so, and would be wrong until it is sent a list.
 *
 * Who could not be shown for lack of room is tried again now and then.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include <jansson.h>
#include <string.h>
#include <time.h>

#include "gossip.h"
#include "loop.h"
#include "presence.h"

#define PRESENCE_PACE  50 /* milliseconds */
#define PRESENCE_WAKES 20 /* listeners that make it longer by one */

#define AGAIN_PAUSE 1000 /* milliseconds */
#define AGAIN_MOST  1000 /* places tried again at once */

static const char presence_type[] = "presence";

static struct
{
	const StringList *kinds;
	Holder here;
	struct PlaceList unshown; /* who has waited longest comes first */
	Timer again;              /* set while there are any */
} presence;

static void presence_try_again(void *arg);

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
	TAILQ_INIT(&presence.unshown);
	roster_init(&hooks, grace);
}

/* Stop; all clients are gone. */
void
presence_stop(void)
{
	timer_clear(&presence.again);
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

/*
 * Does this event say that a user comes or goes?  What cannot be read here, for it
 * is nested too deeply, say, may be read elsewhere.
 */
bool
presence_claims(const char *type, size_t type_len, const char *data)
{
	const char *status;
	json_t *json;
	bool claims;

	if (!presence_is_on() || type_len != strlen(presence_type) ||
		memcmp(type, presence_type, type_len) != 0)
		return false;
	json = json_loads(data, JSON_DECODE_ANY, NULL);
	status = json_string_value(json_object_get(json, "status"));
	claims = json == NULL ||
			 (status != NULL && (strcmp(status, "online") == 0 || strcmp(status, "offline") == 0));
	json_decref(json);
	return claims;
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

/* Another connection of the user listens to the stream; false: there is no room to show it. */
static bool
place_hold(Place *place)
{
	const char *user = place->sub->user;
	const char *name = place->sub->user_name;
	Hold *hold = roster_find(&presence.here, place->stream->key, user);

	if (hold == NULL || strcmp(hold->name, name) != 0)
	{
		hold = roster_hold(&presence.here, place->stream->key, user, name, wall_clock());
		if (hold == NULL)
			return false;
		gossip_tell(hold->user);
	}
	hold->connections++;
	place->hold = hold;
	return true;
}

/* Let a place wait for room. */
static void
place_wait(Place *place)
{
	place->unshown = true;
	TAILQ_INSERT_TAIL(&presence.unshown, place, unshown_link);
	if (!presence.again.set)
		timer_set(&presence.again, AGAIN_PAUSE, presence_try_again, NULL);
}

/* It waits no longer. */
static void
place_wait_no_more(Place *place)
{
	place->unshown = false;
	TAILQ_REMOVE(&presence.unshown, place, unshown_link);
}

/* There may be room again: try some of those who wait, each once. */
static void
presence_try_again(void *arg)
{
	const Place *last = TAILQ_LAST(&presence.unshown, PlaceList);
	Place *place;

	(void) arg;
	for (int i = 0; i < AGAIN_MOST && (place = TAILQ_FIRST(&presence.unshown)) != NULL; i++)
	{
		place_wait_no_more(place);
		if (!place_hold(place))
			place_wait(place);
		if (place == last)
			break;
	}
	if (!TAILQ_EMPTY(&presence.unshown))
		timer_set(&presence.again, AGAIN_PAUSE, presence_try_again, NULL);
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
	sub->user = user;
	sub->user_name = name;
	for (int i = 0; i < sub->count; i++)
	{
		Place *place = &sub->places[i];

		if (!presence_covers(place->stream->key))
			continue;
		if (filter_has(&sub->filter, presence_type))
			place_listen(place);
		if (user == NULL || place_hold(place))
			continue;
		roster_refused();
		place_wait(place);
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
	if (place->unshown)
		place_wait_no_more(place);
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
