/*
 * newid.c
 *		Ids that the database names before it is known whose they are.
 *
 * A client may wait for a key that has no id yet.  When a keyed stream that is
 * not known rings, its key is asked for; if somebody waits for it, the stream
 * has found its id.  Each id is asked about once: a key that comes to be
 * watched later is looked up at that time, when the transaction that rang has
 * long committed.
 *
 * An event that is not stored cannot be read later, so it is held until its
 * stream is known.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "db.h"
#include "hub.h"
#include "lookup.h"
#include "mem.h"
#include "newid.h"
#include "reader.h"
#include "subscriber.h"

#define NEWID_MOST      256
#define NEWID_HELD_MOST 256
#define NEWID_FOREIGN   4096 /* a power of two */

/* An event that is not stored, and the id it came with. */
typedef struct Held
{
	int64_t id;
	Frame *frame;
} Held;

static struct
{
	int64_t ids[NEWID_MOST]; /* to be asked about */
	int count;
	int64_t asked[NEWID_MOST]; /* being asked about */
	int asked_count;
	int64_t foreign[NEWID_FOREIGN]; /* those for which nobody waits; a cache */
	Held held[NEWID_HELD_MOST];     /* in the order in which they came */
	int held_count;
} newid;

void
newid_init(void)
{
	memset(&newid, 0, sizeof(newid));
}

/* The place of an id in the cache of those for which nobody waits. */
static int64_t *
newid_foreign(int64_t id)
{
	return &newid.foreign[(uint64_t) id % NEWID_FOREIGN];
}

/* Is the id in the list? */
static bool
newid_listed(const int64_t *ids, int count, int64_t id)
{
	for (int i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/* Can the id be that of a key somebody waits for, or of one that is being looked up again? */
static bool
newid_is_interesting(int64_t id)
{
	return id < 0 && (hub_unresolved() > 0 || lookup_is_unsure()) && *newid_foreign(id) != id;
}

/* A stream that is not known has rung. */
void
newid_ask(int64_t id)
{
	if (!newid_is_interesting(id) || newid_listed(newid.ids, newid.count, id))
		return;
	if (newid.count < NEWID_MOST)
		newid.ids[newid.count++] = id;
	else
		lookup_want_keys();
}

/* An event that is not stored has come for a stream that is not known.  A reference is taken. */
void
newid_hold(int64_t id, Frame *frame)
{
	newid_ask(id);
	if (newid_listed(newid.ids, newid.count, id) && newid.held_count < NEWID_HELD_MOST)
		newid.held[newid.held_count++] = (Held){id, frame_ref(frame)};
}

/* Deliver or drop the events held for the ids that have been asked about. */
static void
newid_release(void)
{
	int kept = 0;

	for (int i = 0; i < newid.held_count; i++)
	{
		Held *held = &newid.held[i];
		Stream *stream = hub_find(held->id);

		if (stream == NULL && !newid_listed(newid.asked, newid.asked_count, held->id))
		{
			newid.held[kept++] = *held;
			continue;
		}
		if (stream != NULL)
			stream_send_live(stream, held->frame);
		frame_unref(held->frame);
	}
	newid.held_count = kept;
}

/* Forget everything: the connection is gone, and all keys will be looked up. */
void
newid_reset(void)
{
	for (int i = 0; i < newid.held_count; i++)
		frame_unref(newid.held[i].frame);
	newid_init();
}

static void
newid_on_row(const PGresult *row)
{
	Stream *stream = hub_find_key(PQgetvalue(row, 0, 1));

	if (stream == NULL)
		return;
	if (!stream->resolved)
	{
		hub_resolve(stream, strtoll(PQgetvalue(row, 0, 0), NULL, 10));
		stream->made = strtoll(PQgetvalue(row, 0, 2), NULL, 10);
	}
	reader_mark_stale(stream);
}

static void
newid_on_end(bool ok)
{
	for (int i = 0; i < newid.asked_count && ok; i++)
		if (hub_find(newid.asked[i]) == NULL)
			*newid_foreign(newid.asked[i]) = newid.asked[i];
	newid_release();
	newid.asked_count = 0;
}

/* Ask which keys the new ids belong to. */
bool
newid_send(void)
{
	Buf ids;
	const char *params[1];

	if (newid.count == 0)
		return false;
	buf_init(&ids);
	for (int i = 0; i < newid.count; i++)
	{
		buf_format(&ids, "%s%" PRId64, i > 0 ? "," : "{", newid.ids[i]);
		newid.asked[i] = newid.ids[i];
	}
	buf_text(&ids, "}");
	newid.asked_count = newid.count;
	newid.count = 0;
	params[0] = ids.data;
	db_send(DB_KEYS, 1, params, newid_on_row, newid_on_end);
	buf_free(&ids);
	return true;
}
