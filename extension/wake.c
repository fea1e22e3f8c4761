/*
 * wake.c
 *		The doorbell: telling listeners that there is something to read.
 *
 * A transaction collects the streams it wrote to, each with its last number,
 * and rings once, as it commits: NOTIFY on channel "pev", payload
 * "id:seq id:seq …".  The payload carries no data, since a NOTIFY beyond 8000
 * bytes fails, and failing here would abort the events.  Too many streams for a
 * few notifications become "*", look everywhere.
 *
 * Where the database has a notifier (notifier.c), the collection is handed to
 * it after the commit; otherwise the NOTIFY is part of the transaction.  Which
 * of the two is decided before the commit, since afterwards nothing may fail.
 *
 * A doorbell is a hint.  What a rolled-back subtransaction added stays in the
 * collection and rings for nothing.  A prepared transaction can neither carry a
 * NOTIFY nor keep the collection: COMMIT PREPARED rings for everything where
 * the library is preloaded, and elsewhere the listener's poll finds the events.
 *
 * Events that are not stored travel in the notification itself, on channel
 * "pev_live": "n id type json", with "*" as the id of a global one.  The number
 * n means nothing but keeps payloads apart, since NOTIFY sends equal ones of a
 * transaction once.  Unlike doorbells these events follow subtransactions, for
 * nothing else would undo them.  News of queued jobs travel with them, the kind
 * after a "!" until they are sent, on channel "pev_job": who queues must not wait
 * for NOTIFY's lock either.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "notifier.h"
#include "wake.h"

#define DIRTY_MAX       1000 /* streams named one by one */
#define DIRTY_SCAN      8    /* up to this many are searched one by one */
#define LIVE_NUMBER_LEN 16   /* "n " and the terminating null */
#define JOB_MARK        '!'  /* no stream's number begins so */
#define ENTRY_LEN       44   /* " id:seq" at its longest, with the terminating null */

PG_FUNCTION_INFO_V1(pev_ring_job);

/* Where a stream stands in `dirty`. */
typedef struct DirtyIndex
{
	int64 stream; /* the hash key */
	int index;
} DirtyIndex;

/* An unstored event, or the news of a job, that waits for the commit. */
typedef struct LiveEvent
{
	SubTransactionId subid;
	char *payload;
} LiveEvent;

/* This transaction's news. */
static Doorbell dirty[DIRTY_MAX];
static int ndirty = 0;
static HTAB *dirty_index = NULL;        /* once there are more than DIRTY_SCAN */
static bool everything = false;         /* there were more than DIRTY_MAX */
static bool hurry = false;              /* one of them is urgent */
static TimestampTz deadline = DT_NOEND; /* the earliest at which something is to happen */
static List *live_events = NIL;         /* of LiveEvent */
static Size live_size = 0;              /* bytes that they would take in the notifier's ring */
static bool by_notifier = false;        /* who rings, and */
static bool live_by_notifier = false;   /* who sends them: decided before the commit */

/* Enter a stream into the index; its place if it is there already, else -1. */
static int
index_stream(int64 stream, int place)
{
	DirtyIndex *entry;
	bool found;

	entry = hash_search(dirty_index, &stream, HASH_ENTER, &found);
	if (found)
		return entry->index;
	entry->index = place;
	return -1;
}

/* The place of a stream in `dirty`, or -1. */
static int
find_dirty(int64 stream)
{
	if (dirty_index != NULL)
		return index_stream(stream, ndirty);
	for (int i = ndirty - 1; i >= 0; i--)
		if (dirty[i].stream == stream)
			return i;
	if (ndirty == DIRTY_SCAN)
	{
		HASHCTL ctl = {.keysize = sizeof(int64),
					   .entrysize = sizeof(DirtyIndex),
					   .hcxt = TopTransactionContext};

		dirty_index =
			hash_create("pev dirty streams", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		for (int i = 0; i < ndirty; i++)
			(void) index_stream(dirty[i].stream, i);
		(void) index_stream(stream, ndirty);
	}
	return -1;
}

/* Ring for this stream when the transaction commits, at once if it is urgent. */
void
wake_stream(int64 stream, int64 seq, bool urgent)
{
	int place;

	hurry |= urgent;
	if (everything)
		return;
	place = find_dirty(stream);
	if (place >= 0)
		dirty[place].seq = Max(dirty[place].seq, seq);
	else if (ndirty == DIRTY_MAX)
		everything = true;
	else
		dirty[ndirty++] = (Doorbell){stream, seq};
}

/* Have the notifier look for what it has to do at this time, if the transaction commits. */
void
wake_deadline(TimestampTz at)
{
	deadline = Min(deadline, at);
}

/* Add what is to be sent when the transaction commits, in whose memory it is. */
static void
add_live(char *payload)
{
	LiveEvent *event = palloc(sizeof(LiveEvent));

	event->subid = GetCurrentSubTransactionId();
	event->payload = payload;
	live_events = lappend(live_events, event);
	live_size += strlen(payload) + NOTIFIER_LIVE_HEADER;
}

/*
 * Deliver an event that is not stored to whoever listens when the transaction
 * commits.  Raises 54000 if it does not fit into a notification.
 */
void
wake_live(int64 stream, const char *type, const Jsonb *data)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(TopTransactionContext);
	StringInfoData payload;

	initStringInfo(&payload);
	if (stream == WAKE_GLOBAL)
		appendStringInfo(&payload, "* %s ", type);
	else
		appendStringInfo(&payload, INT64_FORMAT " %s ", stream, type);
	(void) JsonbToCString(&payload, unconstify(JsonbContainer *, &data->root), VARSIZE(data));
	if (payload.len > WAKE_LIVE_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("event data for \"%s\" is too large", type),
						errdetail("Its notification takes %d bytes; the limit is %d bytes.",
								  payload.len, WAKE_LIVE_MAX),
						errhint("Events of this type are not stored and must be small.")));
	add_live(payload.data);
	MemoryContextSwitchTo(oldcontext);
}

/* pev_ring_job(kind text): wake the workers that wait for jobs of this kind. */
Datum
pev_ring_job(PG_FUNCTION_ARGS)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(TopTransactionContext);
	char *payload = psprintf("%c%s", JOB_MARK, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	const LiveEvent *last = live_events != NIL ? llast(live_events) : NULL;

	if (strlen(payload) > NAMEDATALEN)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a kind of job takes at most %d bytes", NAMEDATALEN - 1)));
	/* many jobs of a transaction are mostly of one kind */
	if (last == NULL || last->subid != GetCurrentSubTransactionId() ||
		strcmp(last->payload, payload) != 0)
		add_live(payload);
	MemoryContextSwitchTo(oldcontext);
	PG_RETURN_VOID();
}

/* Queue notifications for these streams, or for all; how many. */
int
wake_notify(const Doorbell *doorbells, int count, bool all)
{
	char payload[WAKE_PAYLOAD_MAX + 1];
	int len = 0;
	int sent = 0;

	if (all)
	{
		Async_Notify(WAKE_CHANNEL, "*");
		return 1;
	}
	for (int i = 0; i < count; i++)
	{
		len += snprintf(payload + len, ENTRY_LEN, "%s" INT64_FORMAT ":" INT64_FORMAT,
						len == 0 ? "" : " ", doorbells[i].stream, doorbells[i].seq);
		if (i == count - 1 || len > WAKE_PAYLOAD_MAX - ENTRY_LEN)
		{
			Async_Notify(WAKE_CHANNEL, payload);
			sent++;
			len = 0;
		}
	}
	return sent;
}

/* Queue the notification of an unstored event, or of a job. */
void
wake_notify_live(const char *payload)
{
	static uint32 number = 0;
	char numbered[WAKE_LIVE_MAX + LIVE_NUMBER_LEN];

	if (*payload == JOB_MARK)
	{
		Async_Notify(WAKE_CHANNEL_JOB, payload + 1);
		return;
	}
	snprintf(numbered, sizeof(numbered), "%u %s", number++, payload);
	Async_Notify(WAKE_CHANNEL_LIVE, numbered);
}

/* Before the commit: decide who rings, and do it here if it is this transaction. */
static void
before_commit(void)
{
	ListCell *lc;

	if (ndirty == 0 && !everything && live_events == NIL)
		return;
	by_notifier = notifier_ready();
	live_by_notifier = by_notifier && notifier_live_fits(live_size);
	if (!by_notifier)
		(void) wake_notify(dirty, ndirty, everything);
	if (live_by_notifier)
		return;
	foreach (lc, live_events)
		wake_notify_live(((LiveEvent *) lfirst(lc))->payload);
}

/* After the commit: hand everything to the notifier.  Nothing here may fail. */
static void
after_commit(void)
{
	ListCell *lc;

	if (by_notifier && (ndirty > 0 || everything))
		notifier_post(dirty, ndirty, everything, hurry);
	if (deadline != DT_NOEND)
		notifier_post_deadline(deadline);
	if (!live_by_notifier)
		return;
	foreach (lc, live_events)
	{
		const LiveEvent *event = lfirst(lc);

		notifier_post_live(event->payload, strlen(event->payload));
	}
}

/* Begin anew; the memory was TopTransactionContext's. */
static void
forget(void)
{
	ndirty = 0;
	dirty_index = NULL;
	everything = hurry = by_notifier = live_by_notifier = false;
	deadline = DT_NOEND;
	live_events = NIL;
	live_size = 0;
}

/* Ring around the commit; forget after it. */
static void
on_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			before_commit();
			break;
		case XACT_EVENT_COMMIT:
			after_commit();
			forget();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			forget();
			break;
		default:
			break;
	}
}

/* Hand a subtransaction's unstored events to its parent, or take them back. */
static void
on_subtransaction_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent,
					  void *arg)
{
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	/* the list is ordered: what the innermost subtransaction added comes last */
	for (int i = list_length(live_events) - 1; i >= 0; i--)
	{
		LiveEvent *live = list_nth(live_events, i);

		if (live->subid != subid)
			break;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			live->subid = parent;
		else
			live_events = list_truncate(live_events, i);
	}
}

/* Called once, when the library is loaded. */
void
wake_init(void)
{
	RegisterXactCallback(on_transaction_event, NULL);
	RegisterSubXactCallback(on_subtransaction_end, NULL);
}
