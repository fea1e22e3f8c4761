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
 * A doorbell is a hint.  What a rolled-back subtransaction added stays in the
 * collection and rings for nothing.  A prepared transaction cannot carry a
 * NOTIFY; its streams are found by the listener's poll.
 *
 * Events that are not stored travel in the notification itself, on channel
 * "pev_live": "id type json", or "* type json" for a global one.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "lib/stringinfo.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "wake.h"

#define CHANNEL      "pev"
#define CHANNEL_LIVE "pev_live"
#define PAYLOAD_MAX  7900 /* bytes; NOTIFY takes less than 8000 */
#define DIRTY_MAX    1000 /* streams named one by one */
#define ENTRY_LEN    44   /* " id:seq" at its longest, with the terminating null */

/* A stream with news. */
typedef struct DirtyStream
{
	int64 stream; /* the hash key */
	int64 seq;    /* its last number in this transaction */
} DirtyStream;

static HTAB *dirty = NULL;    /* this transaction's */
static bool overflow = false; /* there were more than DIRTY_MAX */

/* Ring for this stream when the transaction commits. */
void
wake_stream(int64 stream, int64 seq)
{
	DirtyStream *entry;
	bool found;

	if (overflow)
		return;
	if (dirty == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(int64),
					   .entrysize = sizeof(DirtyStream),
					   .hcxt = TopTransactionContext};

		dirty = hash_create("pev dirty streams", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(dirty, &stream, HASH_ENTER, &found);
	entry->seq = found ? Max(entry->seq, seq) : seq;
	overflow = hash_get_num_entries(dirty) > DIRTY_MAX;
}

/*
 * Deliver an event that is not stored to whoever listens when the transaction
 * commits.  Raises 54000 if it does not fit into a notification.
 */
void
wake_live(int64 stream, const char *type, const Jsonb *data)
{
	StringInfoData payload;

	initStringInfo(&payload);
	if (stream == WAKE_GLOBAL)
		appendStringInfo(&payload, "* %s ", type);
	else
		appendStringInfo(&payload, INT64_FORMAT " %s ", stream, type);
	(void) JsonbToCString(&payload, unconstify(JsonbContainer *, &data->root), VARSIZE(data));
	if (payload.len > PAYLOAD_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("event data for \"%s\" is too large", type),
						errdetail("Its notification takes %d bytes; the limit is %d bytes.",
								  payload.len, PAYLOAD_MAX),
						errhint("Events of this type are not stored and must be small.")));
	Async_Notify(CHANNEL_LIVE, payload.data);
	pfree(payload.data);
}

/* Queue the notifications for all dirty streams. */
static void
ring(void)
{
	char payload[PAYLOAD_MAX + 1];
	int len = 0;
	HASH_SEQ_STATUS scan;
	DirtyStream *entry;

	if (overflow)
	{
		Async_Notify(CHANNEL, "*");
		return;
	}
	hash_seq_init(&scan, dirty);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (len > PAYLOAD_MAX - ENTRY_LEN)
		{
			Async_Notify(CHANNEL, payload);
			len = 0;
		}
		len += snprintf(payload + len, ENTRY_LEN, "%s" INT64_FORMAT ":" INT64_FORMAT,
						len == 0 ? "" : " ", entry->stream, entry->seq);
	}
	if (len > 0)
		Async_Notify(CHANNEL, payload);
}

/* Ring before the commit; forget after it. */
static void
on_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (dirty != NULL)
				ring();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			/* the memory is TopTransactionContext's */
			dirty = NULL;
			overflow = false;
			break;
		default:
			break;
	}
}

/* Called once, when the library is loaded. */
void
wake_init(void)
{
	RegisterXactCallback(on_transaction_event, NULL);
}
