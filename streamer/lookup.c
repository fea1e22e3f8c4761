/*
 * lookup.c
 *		What must be found out before events can be read: ids, last rows, type names.
 *
 * Three kinds of query:
 *
 *	look	the id of a key, and a stream's last row: tells the place of who does
 *			not begin at the beginning, finds keys, and after a reconnect tells
 *			which streams have moved
 *	types	the names of all types, to check filters against
 *	rest	whether an ended stream still has something for a filter
 *
 * A place is in its stream before the look is sent that finds it, so an event
 * that commits after the look was answered rings for it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "db.h"
#include "log.h"
#include "lookup.h"
#include "mem.h"
#include "reader.h"
#include "types.h"

#define LOOK_BATCH 256 /* streams in one look */

/* What the database tells of a stream. */
typedef struct Look
{
	bool known; /* its key has an id */
	int64_t id;
	int64_t made;  /* as in Stream */
	int64_t last;  /* seq of its last row, 0 being none */
	bool terminal; /* that row ends it */
} Look;

static struct
{
	struct StreamList looks;
	Stream *looked[LOOK_BATCH]; /* in the look under way; NULL: nobody watches it any more */
	int look_count;
	size_t unsure; /* streams */

	struct PlaceList types; /* the first place of each whose filter waits for the type names */
	bool types_wanted;

	struct PlaceList rests; /* where the filter may let nothing pass any more */
	Place *resting;         /* for which that is being found out; NULL if it has left */
	bool rest_found;
} lookup;

/* Take the first place from a queue; NULL if it is empty. */
static Place *
lookup_dequeue(struct PlaceList *queue)
{
	Place *place = TAILQ_FIRST(queue);

	if (place != NULL)
		place_dequeue(place);
	return place;
}

/* ---- looks ---- */

/* Have a look at the stream's last row, and at its id if need be. */
void
lookup_want(Stream *stream)
{
	if (stream->look_queued)
		return;
	stream->look_queued = true;
	TAILQ_INSERT_TAIL(&lookup.looks, stream, look_link);
}

/* What the answer waits for is known of one place more; perhaps it was the last. */
static void
lookup_settle(Place *place, bool over)
{
	Subscriber *sub = place->sub;

	place->over = over;
	if (--sub->unsettled == 0)
		subscriber_admit(sub, subscriber_is_over(sub) ? VERDICT_CLOSED : VERDICT_OPEN);
}

/*
 * Find a place, and settle the answer as far as it waits for that.  In a stream
 * that has ended, a filter may let nothing of the rest pass.
 */
static void
lookup_find(Place *place, int64_t last, bool terminal)
{
	bool admitting = place->sub->state == SUBSCRIBER_ADMITTING && place->sub->unsettled > 0;

	place_find(place, last);
	if (!admitting && terminal && place->pos >= last)
		subscriber_end_place(place);
	else if (admitting && terminal && place->pos < last && place->sub->filter.count > 0)
		place_enqueue(&lookup.rests, place);
	else if (admitting)
		lookup_settle(place, terminal && place->pos >= last);
}

/* What is known of the stream is of this database. */
static void
lookup_be_sure(Stream *stream)
{
	if (stream->unsure)
		lookup.unsure--;
	stream->unsure = false;
}

/* The key names another stream than before, or none: begin anew. */
static void
lookup_replace(Stream *stream)
{
	log_warning("stream %s: it is not the one it was before", stream->key);
	reader_forget_stream(stream);
	stream_reset(stream, 0);
	hub_unresolve(stream);
	stream->made = 0;
}

/* Is it another stream, or none, that the key names by now? */
static bool
lookup_is_other(const Stream *stream, const Look *look)
{
	if (stream->numeric || !stream->resolved)
		return false;
	return !look->known || look->id != stream->id ||
		   (look->made != 0 && stream->made != 0 && look->made != stream->made);
}

/* Take what the database tells of a stream. */
static void
lookup_learn(Stream *stream, const Look *look)
{
	Place *place;

	lookup_be_sure(stream);
	if (lookup_is_other(stream, look))
		lookup_replace(stream);
	if (!stream->resolved && look->known)
		hub_resolve(stream, look->id);
	if (look->made != 0)
		stream->made = look->made;
	if (look->last < stream->tail)
	{
		log_warning("stream %s: its last event is %" PRId64 ", it was %" PRId64 " before",
					stream->key, look->last, stream->tail);
		stream_reset(stream, look->last);
	}
	if (look->terminal)
		stream->closed_at = look->last;
	TAILQ_FOREACH(place, &stream->places, stream_link)
	{
		if (place->looking)
			lookup_find(place, look->last, look->terminal);
	}
	if (look->last > stream->tail)
		reader_mark_stale(stream);
}

/* A number of a row, NULL being 0. */
static int64_t
lookup_number(const PGresult *row, int column)
{
	return PQgetisnull(row, 0, column) ? 0 : strtoll(PQgetvalue(row, 0, column), NULL, 10);
}

static void
lookup_on_row(const PGresult *row)
{
	int place = atoi(PQgetvalue(row, 0, 0)) - 1;
	Stream *stream = place < lookup.look_count ? lookup.looked[place] : NULL;
	Look look = {.known = !PQgetisnull(row, 0, 1),
				 .id = lookup_number(row, 1),
				 .last = lookup_number(row, 2),
				 .terminal = !PQgetisnull(row, 0, 3) && *PQgetvalue(row, 0, 3) == 't',
				 .made = lookup_number(row, 4)};

	if (stream != NULL)
		lookup_learn(stream, &look);
}

/* After a failure all streams are looked at again, once the connection is back. */
static void
lookup_on_end(bool ok)
{
	(void) ok;
	lookup.look_count = 0;
}

/* Its places that are not known were there before this look is sent. */
static void
lookup_mark_waiting(Stream *stream)
{
	Place *place;

	TAILQ_FOREACH(place, &stream->places, stream_link)
	{
		place->looking = !place->known;
	}
}

/* Look at the streams in the queue. */
bool
lookup_send(void)
{
	Buf ids;
	Buf keys;
	const char *params[2];

	if (TAILQ_EMPTY(&lookup.looks))
		return false;
	buf_init(&ids);
	buf_init(&keys);
	while (lookup.look_count < LOOK_BATCH && !TAILQ_EMPTY(&lookup.looks))
	{
		Stream *stream = TAILQ_FIRST(&lookup.looks);
		const char *comma = lookup.look_count > 0 ? "," : "{";

		TAILQ_REMOVE(&lookup.looks, stream, look_link);
		stream->look_queued = false;
		lookup_mark_waiting(stream);
		lookup.looked[lookup.look_count++] = stream;
		if (stream->resolved && (stream->numeric || !stream->unsure))
			buf_format(&ids, "%s%" PRId64, comma, stream->id);
		else
			buf_format(&ids, "%sNULL", comma);
		/* Keys hold neither quotes nor backslashes. */
		buf_format(&keys, "%s\"%s\"", comma, stream->key);
	}
	buf_text(&ids, "}");
	buf_text(&keys, "}");
	params[0] = ids.data;
	params[1] = keys.data;
	db_send(DB_LOOK, 2, params, lookup_on_row, lookup_on_end);
	buf_free(&ids);
	buf_free(&keys);
	return true;
}

/* Look all keys up that have no id yet. */
void
lookup_want_keys(void)
{
	Stream *stream;

	if (hub_unresolved() == 0)
		return;
	TAILQ_FOREACH(stream, hub_streams(), all_link)
	{
		if (!stream->resolved)
			lookup_want(stream);
	}
}

/* ---- filters that may let nothing pass any more ---- */

static void
lookup_on_rest(const PGresult *row)
{
	lookup.rest_found = *PQgetvalue(row, 0, 0) == 't';
}

static void
lookup_on_rest_end(bool ok)
{
	Place *place = lookup.resting;

	lookup.resting = NULL;
	if (place != NULL && place->sub->state == SUBSCRIBER_ADMITTING)
		lookup_settle(place, ok && !lookup.rest_found);
}

/* Ask whether the rest of an ended stream has anything for a filter. */
bool
lookup_send_rest(void)
{
	Place *place = lookup_dequeue(&lookup.rests);
	char id[24];
	char after[24];
	Buf types;
	const char *params[3] = {id, after};

	if (place == NULL)
		return false;
	lookup.resting = place;
	lookup.rest_found = false;
	snprintf(id, sizeof(id), "%" PRId64, place->stream->id);
	snprintf(after, sizeof(after), "%" PRId64, place->pos);
	buf_init(&types);
	filter_render(&place->sub->filter, &types);
	params[2] = types.data;
	db_send(DB_REST, 3, params, lookup_on_rest, lookup_on_rest_end);
	buf_free(&types);
	return true;
}

/* ---- type names and admission ---- */

static void
lookup_on_type(const PGresult *row)
{
	types_add(PQgetvalue(row, 0, 0));
}

/*
 * Does it go on where it was, within the window?  Then there is nothing to find
 * out, unless the filter may let nothing of the rest pass.
 */
static bool
lookup_is_in_window(const Place *place)
{
	const Stream *stream = place->stream;
	const Cursor *cursor = &place->cursor;

	return stream->count > 0 && !cursor->now && cursor->seq >= stream->base &&
		   cursor->seq <= stream->tail && (place->sub->filter.count == 0 || stream->closed_at == 0);
}

/* What the request needs to be answered, beyond its filter, in one of its streams. */
static bool
lookup_admit_place(Place *place)
{
	Stream *stream = place->stream;

	if (stream->unsure)
		place_doubt(place);
	if (place->known || !db_is_up())
		return true;
	if (!stream->unsure && stream->closed_at != 0 &&
		(place->cursor.now || place->cursor.seq >= stream->closed_at))
	{
		place->over = true;
		place_find(place, stream->closed_at);
		return true;
	}
	if (!stream->unsure && lookup_is_in_window(place))
	{
		place_find(place, stream->tail);
		return true;
	}
	lookup_want(stream);
	return false;
}

/* The same in all of them. */
static bool
lookup_admit_places(Subscriber *sub)
{
	for (int i = 0; i < sub->count; i++)
		sub->unsettled += !lookup_admit_place(&sub->places[i]);
	sub->verdict = subscriber_is_over(sub) ? VERDICT_CLOSED : VERDICT_OPEN;
	return sub->unsettled == 0;
}

/* The type names have just been read, or could not be. */
static void
lookup_continue_admission(Subscriber *sub)
{
	sub->bad_type = db_is_up() ? types_unknown(&sub->filter) : NULL;
	if (sub->bad_type != NULL)
		subscriber_admit(sub, VERDICT_BAD_TYPE);
	else if (lookup_admit_places(sub))
		subscriber_admit(sub, sub->verdict);
}

/* Go on with the requests that have waited for the names. */
static void
lookup_release_filters(void)
{
	Place *place;

	while ((place = lookup_dequeue(&lookup.types)) != NULL)
	{
		if (place->sub->state == SUBSCRIBER_ADMITTING)
			lookup_continue_admission(place->sub);
	}
}

static void
lookup_on_types_end(bool ok)
{
	types_end(ok);
	lookup_release_filters();
}

/* Read the names of all types. */
bool
lookup_send_types(void)
{
	if (!lookup.types_wanted)
		return false;
	lookup.types_wanted = false;
	types_begin();
	db_send(DB_TYPES, 0, NULL, lookup_on_type, lookup_on_types_end);
	return true;
}

/* Is the request's answer settled?  If not, subscriber_admit will be called later. */
bool
lookup_admit(Subscriber *sub)
{
	for (int i = 0; i < sub->count; i++)
		if (!sub->places[i].stream->resolved)
			lookup_want(sub->places[i].stream);
	if (types_unknown(&sub->filter) != NULL && db_is_up())
	{
		/* It may be younger than what was read last. */
		lookup.types_wanted = true;
		place_enqueue(&lookup.types, &sub->places[0]);
		return false;
	}
	return lookup_admit_places(sub);
}

/* ---- the whole ---- */

/* Forget a place whose subscriber is about to be freed. */
void
lookup_forget(Place *place)
{
	if (lookup.resting == place)
		lookup.resting = NULL;
}

/* Are there streams of which all that is known may be of another database? */
bool
lookup_is_unsure(void)
{
	return lookup.unsure > 0;
}

/* Forget a stream that nobody watches any more. */
void
lookup_forget_stream(Stream *stream)
{
	if (stream->look_queued)
		TAILQ_REMOVE(&lookup.looks, stream, look_link);
	for (int i = 0; i < lookup.look_count; i++)
		if (lookup.looked[i] == stream)
			lookup.looked[i] = NULL;
	stream->look_queued = false;
	lookup_be_sure(stream);
}

/*
 * The connection is back, or the extension new: whatever happened meanwhile shows
 * in each stream's last row.  It may be another database that answers, a copy of
 * the one before: even the ids of keys may differ.
 */
void
lookup_everything(void)
{
	Stream *stream;

	for (int i = 0; i < lookup.look_count; i++)
		lookup.looked[i] = NULL; /* they are answered from before */
	lookup.unsure = 0;
	TAILQ_FOREACH(stream, hub_streams(), all_link)
	{
		lookup_want(stream);
		stream->unsure = true;
		lookup.unsure++;
	}
	lookup.types_wanted = true;
}

/* The connection is gone: answer those who wait for an answer; they will be placed later. */
void
lookup_give_up(void)
{
	Stream *stream;
	Place *place;

	lookup_release_filters();
	while (lookup_dequeue(&lookup.rests) != NULL)
		;
	TAILQ_FOREACH(stream, hub_streams(), all_link)
	{
		TAILQ_FOREACH(place, &stream->places, stream_link)
		{
			place->looking = false;
			if (place->sub->state == SUBSCRIBER_ADMITTING)
				subscriber_admit(place->sub, VERDICT_OPEN);
		}
	}
}

void
lookup_init(void)
{
	TAILQ_INIT(&lookup.looks);
	TAILQ_INIT(&lookup.types);
	TAILQ_INIT(&lookup.rests);
}
